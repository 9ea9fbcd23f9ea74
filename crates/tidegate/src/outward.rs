//! What the configuration says about reaching others: destinations, credentials, programs.
//!
//! Credentials and programs can be named in the configuration file only: neither the command line,
//! where every process of the machine reads along, nor the API can set them. The value of a credential
//! stands in a file of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tidegate_server::egress::credentials::{Credential, Credentials};
use tidegate_server::egress::destination::Destination;
use tidegate_server::egress::policy::EgressPolicy;
use tidegate_server::hooks::command::CommandHook;
use tidegate_server::operations::Outward;

use crate::config::Config;

/// A credential the server presents to others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialEntry {
    /// What sources call it.
    name: String,
    /// The only origin it is sent to, such as `https://prometheus.example:9090`.
    origin: String,
    /// The header it is sent in.
    #[serde(default = "authorization")]
    header: String,
    /// The file that holds its value.
    value_file: PathBuf,
}

fn authorization() -> String {
    "authorization".to_owned()
}

/// A program that is asked before a share rises, or told what happened.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandEntry {
    /// What reports call it.
    name: String,
    /// The program by absolute path, and its arguments; there is no shell.
    argv: Vec<String>,
    /// Its whole environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// How long it may take, in seconds.
    #[serde(default = "five_seconds")]
    timeout_seconds: u64,
    /// The only project it is for.
    project: Option<String>,
    /// Whether it is asked.
    #[serde(default)]
    asks: bool,
    /// What it is told of.
    #[serde(default)]
    tells: Vec<String>,
}

const fn five_seconds() -> u64 {
    5
}

/// What the server may do beyond answering.
///
/// # Errors
/// The first entry that cannot be used, by name.
pub(crate) fn resolve(config: &Config) -> Result<Outward> {
    let allowed = config.allow_egress.as_deref().unwrap_or_default();
    let policy = EgressPolicy::parse(allowed).context("allow_egress")?;
    let mut credentials = Vec::new();
    for entry in config.credentials.iter().flatten() {
        let credential = credential(entry);
        let credential = credential.with_context(|| format!("credential {:?}", entry.name))?;
        credentials.push((entry.name.clone(), credential));
    }
    let mut commands: Vec<CommandHook> = Vec::new();
    for entry in config.command_hooks.iter().flatten() {
        let command = command(entry);
        command.check()?;
        let is_taken = commands.iter().any(|known| known.name == command.name);
        ensure!(!is_taken, "two command hooks are called {:?}", command.name);
        commands.push(command);
    }
    if let Some(url) = &config.public_url {
        Destination::parse(url).context("public_url")?;
    }
    Ok(Outward {
        policy,
        credentials: Credentials::new(credentials),
        commands,
        public_url: config.public_url.clone(),
    })
}

fn credential(entry: &CredentialEntry) -> Result<Credential> {
    let value = std::fs::read_to_string(&entry.value_file)
        .with_context(|| format!("cannot read {}", entry.value_file.display()))?;
    Ok(Credential::new(
        &entry.origin,
        &entry.header,
        value.trim_end(),
    )?)
}

fn command(entry: &CommandEntry) -> CommandHook {
    CommandHook {
        name: entry.name.clone(),
        argv: entry.argv.clone(),
        env: entry.env.clone(),
        timeout: Duration::from_secs(entry.timeout_seconds),
        project: entry.project.clone(),
        asks: entry.asks,
        tells: entry.tells.clone(),
    }
}

/// The names of credentials and programs, for `config check`: never their values.
pub(crate) fn names(config: &Config) -> (Vec<&str>, Vec<&str>) {
    let credentials = config.credentials.iter().flatten();
    let commands = config.command_hooks.iter().flatten();
    (
        credentials.map(|entry| entry.name.as_str()).collect(),
        commands.map(|entry| entry.name.as_str()).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Outward> {
        resolve(&toml::from_str(text)?)
    }

    #[test]
    fn everything_is_off_unless_it_is_configured() {
        let outward = resolved("").unwrap();
        assert!(outward.commands.is_empty() && outward.public_url.is_none());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "Bearer s3cr3t\n").unwrap();
        let secret = secret.display();
        let good = format!(
            "allow_egress = [\"10.0.0.0/8\"]\n\
             [[credentials]]\nname = \"p\"\norigin = \"https://p.internal:9090\"\n\
             value_file = \"{secret}\"\n\
             [[command_hooks]]\nname = \"gate\"\nargv = [\"/bin/true\"]\nasks = true\n"
        );
        let outward = resolved(&good).unwrap();
        assert!(!format!("{outward:?}").contains("s3cr3t"));
        for (from, to, named) in [
            ("10.0.0.0/8", "10.0.0.1/8", "allow_egress"),
            ("https://p.internal:9090", "p.internal", "credential \"p\""),
            ("/secret", "/no-such-file", "no-such-file"),
            ("/bin/true", "true", "absolute path"),
            ("/bin/true", "/bin/no-such-program", "is not there"),
            ("asks = true", "", "neither asked nor told"),
            (
                "asks = true",
                "tells = [\"everything\"]",
                "no event pattern",
            ),
            ("asks = true", "asks = true\nshell = true", "shell"),
            (
                "asks = true",
                "asks = true\ntimeout_seconds = 0",
                "timeout_seconds",
            ),
        ] {
            let error = format!("{:#}", resolved(&good.replace(from, to)).unwrap_err());
            assert!(error.contains(named), "{named}: {error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }
}
