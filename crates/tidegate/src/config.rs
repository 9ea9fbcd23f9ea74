//! Settings, resolved once: command line over environment over file over default.
//!
//! An unknown key is an error that names the nearest known one. A secret is read from the
//! environment or from the file that `*_FILE` names, and never printed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

#[cfg(test)]
const DEFAULT_LISTEN: &str = "127.0.0.1:8800";
const DEFAULT_DATA_DIR: &str = "tidegate-data";

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
    })
}

fn read(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

/// A secret from the environment variable `name`, or from the file `name_FILE` names.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
fn secret(name: &str) -> Result<Option<String>> {
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
            error.contains("lisen") && error.contains("listen"),
            "{error}"
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
