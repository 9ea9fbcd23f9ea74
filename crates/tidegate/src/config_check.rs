//! `tidegate config check`: whether a configuration can be used, and where each value comes from.

use std::process::ExitCode;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Subcommand};
use serde_json::{Value, json};

use crate::config::{self, Config, SettingArguments};
use crate::output::{self, Format, OutputArguments};
use crate::outward;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check every setting as `serve` would resolve it; exits 1 if one cannot be used
    #[command(
        after_help = "Example:\n  tidegate config check --config tidegate.toml --explain\n\nA \
                            secret is never printed, only whether it is set."
    )]
    Check(CheckArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Print each setting with its value and where it comes from
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    settings: SettingArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// One setting, explained.
struct Explained {
    name: &'static str,
    value: Value,
    source: String,
}

/// Runs the command; `matches` knows what was typed and what the environment gave.
pub(crate) fn run(command: &ConfigCommand, matches: &ArgMatches) -> Result<ExitCode> {
    let ConfigCommand::Check(arguments) = command;
    let own = matches
        .subcommand()
        .and_then(|(_, config)| config.subcommand())
        .map(|(_, check)| check);
    match checked(arguments, own) {
        Ok(settings) => {
            show(arguments, &settings)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if arguments.output.output == Format::Json => {
            output::json(&json!({ "ok": false, "error": format!("{error:#}") }))?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error),
    }
}

fn checked(arguments: &CheckArguments, own: Option<&ArgMatches>) -> Result<Vec<Explained>> {
    let config = arguments.settings.resolve()?;
    config.check()?;
    let from_file = match &arguments.settings.config {
        Some(path) => config::read(path)?,
        None => Config::default(),
    };
    let file = arguments.settings.config.as_ref();
    let file_name = file.map(|path| path.display().to_string());
    let from_file = values(&from_file);
    let mut explained: Vec<Explained> = values(&resolved(&config))
        .into_iter()
        .zip(from_file)
        .map(|((name, value), (_, in_file))| Explained {
            name,
            value,
            source: source(
                own,
                name,
                file_name.as_deref().filter(|_| !in_file.is_null()),
            ),
        })
        .collect();
    let has_bootstrap = config.bootstrap_token()?.is_some();
    explained.push(Explained {
        name: "bootstrap_token",
        value: json!(if has_bootstrap {
            "set, not shown"
        } else {
            "not set"
        }),
        source: if has_bootstrap {
            "environment TIDEGATE_BOOTSTRAP_TOKEN or TIDEGATE_BOOTSTRAP_TOKEN_FILE".to_owned()
        } else {
            "default".to_owned()
        },
    });
    Ok(explained)
}

/// `config` with its defaults written out.
fn resolved(config: &Config) -> Config {
    Config {
        data_dir: Some(config.data_dir()),
        listen: Some(config.listen()),
        requests_per_second: config.requests_per_second,
        flagd_ports: Some(config.flagd_ports()),
        flagd_project: Some(config.flagd_project().to_owned()),
        allowed_origins: Some(config.allowed_origins.clone().unwrap_or_default()),
        allow_egress: Some(config.allow_egress.clone().unwrap_or_default()),
        public_url: config.public_url.clone(),
        credentials: config.credentials.clone(),
        command_hooks: config.command_hooks.clone(),
        keep_events_days: config.keep_events_days,
        keep_events_days_of: config.keep_events_days_of.clone(),
        report_seconds: Some(config.report_limit().as_secs()),
    }
}

fn values(config: &Config) -> [(&'static str, Value); 13] {
    let (credentials, commands) = outward::names(config);
    [
        ("data_dir", json!(config.data_dir)),
        ("listen", json!(config.listen)),
        ("requests_per_second", json!(config.requests_per_second)),
        ("flagd_ports", json!(config.flagd_ports)),
        ("flagd_project", json!(config.flagd_project)),
        ("allowed_origins", json!(config.allowed_origins)),
        ("allow_egress", json!(config.allow_egress)),
        ("public_url", json!(config.public_url)),
        ("credentials", json!(listed(credentials))),
        ("command_hooks", json!(listed(commands))),
        ("keep_events_days", json!(config.keep_events_days)),
        ("keep_events_days_of", json!(config.keep_events_days_of)),
        ("report_seconds", json!(config.report_seconds)),
    ]
}

/// Names, or nothing where there are none.
fn listed(names: Vec<&str>) -> Option<Vec<&str>> {
    (!names.is_empty()).then_some(names)
}

fn source(own: Option<&ArgMatches>, name: &str, file: Option<&str>) -> String {
    // What a file alone can say is no argument, and must not be looked for among them.
    let in_file_only = ["credentials", "command_hooks", "keep_events_days_of"];
    let is_typed = !in_file_only.contains(&name);
    match own
        .filter(|_| is_typed)
        .and_then(|own| own.value_source(name))
    {
        Some(ValueSource::CommandLine) => "command line".to_owned(),
        Some(ValueSource::EnvVariable) => {
            format!("environment TIDEGATE_{}", name.to_ascii_uppercase())
        }
        _ => match file {
            Some(file) => format!("file {file}"),
            None => "default".to_owned(),
        },
    }
}

fn show(arguments: &CheckArguments, settings: &[Explained]) -> Result<()> {
    if arguments.output.output == Format::Json {
        let settings: Vec<Value> = settings
            .iter()
            .map(|one| json!({ "name": one.name, "value": one.value, "source": one.source }))
            .collect();
        return output::json(&json!({ "ok": true, "settings": settings }));
    }
    if arguments.explain {
        let rows: Vec<Vec<String>> = settings
            .iter()
            .map(|one| {
                vec![
                    one.name.to_owned(),
                    in_words(&one.value),
                    one.source.clone(),
                ]
            })
            .collect();
        output::table(&["SETTING", "VALUE", "SOURCE"], &rows);
    }
    output::line("the configuration can be used");
    Ok(())
}

fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().map(in_words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
