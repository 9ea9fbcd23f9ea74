//! `delivery secret` and `delivery received`: the keys of webhooks, and what became of what they proved.

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::place::Place;
use super::{LogArgs, OutputFormat, print_json, print_line};
use crate::client::{Conditions, Connection, encode};
use crate::output;

/// Secrets of webhooks; at most two of a source are live, so that a key can be changed without a gap.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Make a secret; it is shown this once
    Create(CreateSecret),
    /// List secrets, without themselves
    List(ListSecrets),
    /// End a secret at once
    Revoke(RevokeSecret),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Source {
    Github,
    Gitlab,
    Pagerduty,
    Alertmanager,
    Cdevents,
    Generic,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Pagerduty => "pagerduty",
            Self::Alertmanager => "alertmanager",
            Self::Cdevents => "cdevents",
            Self::Generic => "generic",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateSecret {
    /// Whose webhooks it proves.
    #[arg(long, value_enum)]
    source: Source,
    /// Take the secret that the sender made (PagerDuty, GitLab), from standard input.
    #[arg(long)]
    from_stdin: bool,
    /// Refuse the secrets before it after so many hours; without it they stay until they are revoked.
    #[arg(long)]
    old_valid_hours: Option<u16>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListSecrets {
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeSecret {
    /// The secret's id, as `delivery secret list` shows it.
    id: String,
    #[command(flatten)]
    log: LogArgs,
}

impl SecretCommand {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Create(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Revoke(command) => {
                let connection = server_of(&command.log)?;
                let path = connection.path(&format!("delivery/secrets/{}", encode(&command.id)));
                connection.delete(&path, Conditions::default())?;
                Ok(print_line(&format!("{} is revoked", command.id))?)
            }
        }
    }
}

impl CreateSecret {
    fn run(&self) -> anyhow::Result<()> {
        let connection = server_of(&self.log)?;
        let given = match self.from_stdin {
            true => Some(std::io::read_to_string(std::io::stdin())?.trim().to_owned()),
            false => None,
        };
        let source = self.source.name();
        let request = json!({
            "source": source,
            "secret": given,
            "old_valid_hours": self.old_valid_hours,
        });
        let answer = connection.post(&connection.path("delivery/secrets"), &request)?;
        if self.output == OutputFormat::Json {
            return Ok(print_json(&answer.body)?);
        }
        print_line(
            answer.body["secret"]
                .as_str()
                .unwrap_or("the secret is taken"),
        )?;
        output::note(&format!(
            "give it to the sender now: it is shown this once; the address is {}{}",
            connection.server.trim_end_matches('/'),
            connection.path(&format!("webhooks/{source}"))
        ));
        Ok(())
    }
}

impl ListSecrets {
    fn run(&self) -> anyhow::Result<()> {
        let connection = server_of(&self.log)?;
        let answer = connection.get(&connection.path("delivery/secrets"))?;
        if self.output == OutputFormat::Json {
            return Ok(print_json(&answer.body)?);
        }
        let fields = ["id", "source", "created_at", "not_after", "is_live"];
        let rows: Vec<Vec<String>> = rows_of(&answer.body, &fields);
        output::table(&["ID", "SOURCE", "CREATED", "ENDS", "LIVE"], &rows);
        Ok(())
    }
}

/// What became of the latest webhooks, newest first.
#[derive(Debug, Args)]
pub(crate) struct ReceivedCommand {
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

impl ReceivedCommand {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let connection = server_of(&self.log)?;
        let answer = connection.get(&connection.path("delivery/received"))?;
        if self.output == OutputFormat::Json {
            return Ok(print_json(&answer.body)?);
        }
        let fields = [
            "received_at",
            "source",
            "delivery",
            "rows",
            "new",
            "refused",
            "notes",
        ];
        let rows = rows_of(&answer.body, &fields);
        output::table(
            &[
                "RECEIVED", "SOURCE", "DELIVERY", "ROWS", "NEW", "REFUSED", "NOTES",
            ],
            &rows,
        );
        Ok(())
    }
}

fn rows_of(body: &serde_json::Value, fields: &[&str]) -> Vec<Vec<String>> {
    let cell = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = body["rows"].as_array().into_iter().flatten();
    rows.map(|row| fields.iter().map(|field| cell(&row[*field])).collect())
        .collect()
}

fn server_of(log: &LogArgs) -> anyhow::Result<Connection> {
    match log.place()? {
        Place::Server(connection) => Ok(connection),
        Place::Files(_) => bail!("webhooks are a server's affair: give --server"),
    }
}
