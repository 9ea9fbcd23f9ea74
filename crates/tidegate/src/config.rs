//! Settings, resolved once: command line over environment over file over default.
//!
//! An unknown key is an error that names the nearest known one. A secret is read from the
//! environment or from the file that `*_FILE` names, and never printed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use tidegate_server::events::Retention;
use tidegate_server::http::cors::AllowedOrigins;

use crate::outward::{self, CommandEntry, CredentialEntry};

#[cfg(test)]
const DEFAULT_LISTEN: &str = "127.0.0.1:8800";
const DEFAULT_DATA_DIR: &str = "tidegate-data";

/// The settings a file may have.
pub(crate) const KEYS: [&str; 13] = [
    "data_dir",
    "listen",
    "requests_per_second",
    "flagd_ports",
    "flagd_project",
    "allowed_origins",
    "allow_egress",
    "public_url",
    "credentials",
    "command_hooks",
    "keep_events_days",
    "keep_events_days_of",
    "report_seconds",
];

/// Settings on the command line and in the environment, for every command that takes them.
#[derive(Debug, Clone, Args)]
pub(crate) struct SettingArguments {
    /// A TOML file with the same settings; the command line and the environment override it
    #[arg(long, env = "TIDEGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where everything durable lives
    #[arg(long, env = "TIDEGATE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The address to answer at; port 0 picks a free one
    #[arg(long, env = "TIDEGATE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Sustained requests per second and credential; without it there is no limit
    #[arg(long, env = "TIDEGATE_REQUESTS_PER_SECOND")]
    requests_per_second: Option<f64>,
    /// Also answer at flagd's ports 8013, 8015 and 8016 on loopback, without credentials
    #[arg(long, env = "TIDEGATE_FLAGD_PORTS")]
    flagd_ports: bool,
    /// The project that flagd's ports serve
    #[arg(long, env = "TIDEGATE_FLAGD_PROJECT")]
    flagd_project: Option<String>,
    /// Web pages of this origin may evaluate flags; repeat or separate by commas
    #[arg(
        long,
        env = "TIDEGATE_ALLOWED_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    allowed_origins: Vec<String>,
    /// The server may also reach this range or host and port; repeat or separate by commas
    #[arg(
        long,
        env = "TIDEGATE_ALLOW_EGRESS",
        value_delimiter = ',',
        value_name = "CIDR|HOST:PORT"
    )]
    allow_egress: Vec<String>,
    /// The server's own address as others reach it, for links in notices
    #[arg(long, env = "TIDEGATE_PUBLIC_URL")]
    public_url: Option<String>,
    /// Days of events to keep; without it they are kept for ever
    #[arg(long, env = "TIDEGATE_KEEP_EVENTS_DAYS", value_name = "DAYS")]
    keep_events_days: Option<u32>,
    /// Seconds a report may take, at most 3600 [default: 600]
    #[arg(long, env = "TIDEGATE_REPORT_SECONDS", value_name = "SECONDS")]
    report_seconds: Option<u64>,
}

impl SettingArguments {
    /// These settings over those of the file.
    pub(crate) fn resolve(&self) -> Result<Config> {
        resolve(self.config.as_deref(), self.given())
    }

    fn given(&self) -> Config {
        Config {
            data_dir: self.data_dir.clone(),
            listen: self.listen,
            requests_per_second: self.requests_per_second,
            flagd_ports: self.flagd_ports.then_some(true),
            flagd_project: self.flagd_project.clone(),
            allowed_origins: (!self.allowed_origins.is_empty())
                .then(|| self.allowed_origins.clone()),
            allow_egress: (!self.allow_egress.is_empty()).then(|| self.allow_egress.clone()),
            public_url: self.public_url.clone(),
            credentials: None,
            command_hooks: None,
            keep_events_days: self.keep_events_days,
            keep_events_days_of: None,
            report_seconds: self.report_seconds,
        }
    }
}

/// What can be set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where everything durable lives.
    pub(crate) data_dir: Option<PathBuf>,
    /// The address to answer at.
    pub(crate) listen: Option<SocketAddr>,
    /// Sustained requests per second and credential; without it there is no limit.
    pub(crate) requests_per_second: Option<f64>,
    /// Whether flagd's ports are answered at too.
    pub(crate) flagd_ports: Option<bool>,
    /// The project that flagd's ports serve.
    pub(crate) flagd_project: Option<String>,
    /// Origins whose web pages may evaluate flags.
    pub(crate) allowed_origins: Option<Vec<String>>,
    /// What the server may reach beside the public Internet over HTTPS.
    pub(crate) allow_egress: Option<Vec<String>>,
    /// The server's own address as others reach it.
    pub(crate) public_url: Option<String>,
    /// Credentials presented to others; in the file only.
    pub(crate) credentials: Option<Vec<CredentialEntry>>,
    /// Programs that are asked or told; in the file only.
    pub(crate) command_hooks: Option<Vec<CommandEntry>>,
    /// Days of events to keep; without it they are kept for ever.
    pub(crate) keep_events_days: Option<u32>,
    /// The same by project.
    pub(crate) keep_events_days_of: Option<BTreeMap<String, u32>>,
    /// Seconds a report may take.
    pub(crate) report_seconds: Option<u64>,
}

impl Config {
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(|| DEFAULT_DATA_DIR.into())
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8800)))
    }

    pub(crate) fn flagd_ports(&self) -> bool {
        self.flagd_ports.unwrap_or(false)
    }

    pub(crate) fn flagd_project(&self) -> &str {
        self.flagd_project
            .as_deref()
            .unwrap_or(tidegate_server::DEFAULT_PROJECT)
    }

    pub(crate) fn allowed_origins(&self) -> Result<AllowedOrigins> {
        AllowedOrigins::new(self.allowed_origins.as_deref().unwrap_or_default())
            .context("allowed_origins")
    }

    pub(crate) fn report_limit(&self) -> Duration {
        self.report_seconds
            .map_or(tidegate_server::reports::USUAL_LIMIT, Duration::from_secs)
    }

    pub(crate) fn retention(&self) -> Retention {
        Retention {
            days: self.keep_events_days,
            days_of: self.keep_events_days_of.clone().unwrap_or_default(),
        }
    }

    /// Whether every value makes sense.
    pub(crate) fn check(&self) -> Result<()> {
        self.allowed_origins()?;
        outward::resolve(self)?;
        self.bootstrap_token()?;
        tidegate_store::ProjectKey::parse(self.flagd_project()).context("flagd_project")?;
        let longest = tidegate_server::reports::LONGEST_LIMIT;
        ensure!(
            !self.report_limit().is_zero() && self.report_limit() <= longest,
            "report_seconds must be 1 to {}; for more, ask a stopped server's folder by --data-dir",
            longest.as_secs()
        );
        let retention = self.retention();
        let mut days = retention.days_of.values().chain(&retention.days);
        ensure!(
            days.all(|days| *days > 0),
            "keep_events_days must be at least 1; leave it out to keep events for ever"
        );
        let is_rate = |rate: f64| rate.is_finite() && rate > 0.0;
        ensure!(
            self.requests_per_second.is_none_or(is_rate),
            "requests_per_second must be greater than 0; leave it out for no limit"
        );
        Ok(())
    }

    /// The bootstrap token, if one is configured.
    pub(crate) fn bootstrap_token(&self) -> Result<Option<String>> {
        secret("TIDEGATE_BOOTSTRAP_TOKEN").and_then(|token| token.map(checked_token).transpose())
    }
}

/// Resolves `given` (command line and environment) over the file.
pub(crate) fn resolve(file: Option<&Path>, given: Config) -> Result<Config> {
    let from_file = match file {
        Some(path) => read(path)?,
        None => Config::default(),
    };
    Ok(Config {
        data_dir: given.data_dir.or(from_file.data_dir),
        listen: given.listen.or(from_file.listen),
        requests_per_second: given.requests_per_second.or(from_file.requests_per_second),
        flagd_ports: given.flagd_ports.or(from_file.flagd_ports),
        flagd_project: given.flagd_project.or(from_file.flagd_project),
        allowed_origins: given.allowed_origins.or(from_file.allowed_origins),
        allow_egress: given.allow_egress.or(from_file.allow_egress),
        public_url: given.public_url.or(from_file.public_url),
        credentials: from_file.credentials,
        command_hooks: from_file.command_hooks,
        keep_events_days: given.keep_events_days.or(from_file.keep_events_days),
        keep_events_days_of: given.keep_events_days_of.or(from_file.keep_events_days_of),
        report_seconds: given.report_seconds.or(from_file.report_seconds),
    })
}

pub(crate) fn read(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    let in_file = || format!("in {}", path.display());
    let table: toml::Table = toml::from_str(&text).with_context(in_file)?;
    let unknown: Vec<String> = table
        .keys()
        .filter(|key| !KEYS.contains(&key.as_str()))
        .map(|key| unknown_key(key))
        .collect();
    ensure!(
        unknown.is_empty(),
        "in {}: {}",
        path.display(),
        unknown.join("; ")
    );
    toml::from_str(&text).with_context(in_file)
}

fn unknown_key(key: &str) -> String {
    match crate::nearest::nearest(key, KEYS) {
        Some(near) => format!("there is no setting {key:?}; did you mean {near:?}?"),
        None => format!("there is no setting {key:?}; known are {}", KEYS.join(", ")),
    }
}

/// A secret from the environment variable `name`, or from the file `name_FILE` names.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
pub(crate) fn secret(name: &str) -> Result<Option<String>> {
    let direct = std::env::var(name).ok();
    let file = std::env::var(format!("{name}_FILE")).ok();
    match (direct, file) {
        (Some(_), Some(_)) => bail!("set {name} or {name}_FILE, not both"),
        (Some(text), None) => Ok(Some(text)),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {path}, which {name}_FILE names"))?;
            Ok(Some(text.trim_end().to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// A plain setting from the environment, for commands that choose by where it came from.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn checked_token(token: String) -> Result<String> {
    let is_printable = token.chars().all(|character| character.is_ascii_graphic());
    ensure!(
        (32..=256).contains(&token.len()) && is_printable,
        "TIDEGATE_BOOTSTRAP_TOKEN must be 32 to 256 printable characters without spaces; \
         `openssl rand -hex 32` makes one"
    );
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_overrides_the_file_and_an_unknown_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\ndata_dir = \"/a\"\n").unwrap();
        let given = Config {
            data_dir: Some("/b".into()),
            ..Config::default()
        };
        let resolved = resolve(Some(&path), given).unwrap();
        assert_eq!(resolved.data_dir(), PathBuf::from("/b"));
        assert_eq!(resolved.listen().port(), 1);
        std::fs::write(&path, "lisen = \"127.0.0.1:1\"\n").unwrap();
        let error = format!("{:#}", resolve(Some(&path), Config::default()).unwrap_err());
        assert!(
            error.contains("\"lisen\"; did you mean \"listen\"?"),
            "{error}"
        );
        std::fs::write(&path, "colour = 1\ndata_dri = \"/a\"\n").unwrap();
        let error = format!("{:#}", resolve(Some(&path), Config::default()).unwrap_err());
        assert!(
            error.contains("known are data_dir") && error.contains("\"data_dir\"?"),
            "both at once: {error}"
        );
        assert_eq!(Config::default().listen().to_string(), DEFAULT_LISTEN);
    }

    #[test]
    fn a_weak_bootstrap_token_is_refused_with_the_cure() {
        for weak in ["short", &"x".repeat(257), &format!("{} ", "x".repeat(40))] {
            let error = checked_token(weak.to_owned()).unwrap_err().to_string();
            assert!(error.contains("openssl"), "{error}");
        }
        assert!(checked_token("x".repeat(32)).is_ok());
    }
}
