//! `tidegate webhook`: who is told what happened, and what became of it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Answer, Conditions, Connection, encode};
use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Make an endpoint; its secret is shown this once
    Create(CreateArguments),
    /// List endpoints, without their secrets
    List(Everywhere),
    /// Show the last deliveries to an endpoint, and what was given up
    Deliveries(One),
    /// Put dead letters back in line
    Redeliver(RedeliverArguments),
    /// Send a test message
    Test(One),
    /// Give an endpoint a new key; the old one signs beside it for a while
    Rotate(RotateArguments),
    /// Remove an endpoint
    Delete(One),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidegate webhook create chat --url https://chat.example/hook \
                        --event 'rollout.*' --event flag.kill"
)]
pub(crate) struct CreateArguments {
    /// The endpoint's key
    key: String,
    /// Where messages are posted to
    #[arg(long)]
    url: String,
    /// What it is told: *, a family such as flag.*, or a type such as flag.kill; repeat for more
    #[arg(long = "event", value_name = "PATTERN")]
    events: Vec<String>,
    /// Ask it before a rollout raises a share; without --event it is asked and told nothing
    #[arg(long)]
    ask: bool,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Everywhere {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The endpoint's key
    key: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct RedeliverArguments {
    /// Only the dead letter of this number, as `webhook deliveries` shows it
    #[arg(long)]
    number: Option<u64>,
    #[command(flatten)]
    one: One,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArguments {
    /// How long the old key signs beside the new one; 0 ends it at once
    #[arg(long)]
    overlap_hours: Option<u32>,
    #[command(flatten)]
    one: One,
}

/// Runs one of the commands.
pub(crate) fn run(command: &WebhookCommand) -> Result<ExitCode> {
    match command {
        WebhookCommand::Create(arguments) => create(arguments)?,
        WebhookCommand::List(arguments) => list(arguments)?,
        WebhookCommand::Deliveries(one) => deliveries(one)?,
        WebhookCommand::Redeliver(arguments) => {
            let answer = act(
                &arguments.one,
                "redeliver",
                &json!({ "number": arguments.number }),
            )?;
            say(&arguments.one, &answer, |body| {
                format!("{} messages are back in line", body["redelivered"])
            })?;
        }
        WebhookCommand::Test(one) => {
            let answer = act(one, "test", &json!({}))?;
            say(one, &answer, |body| {
                let id = body["id"].as_str().unwrap_or_default();
                format!(
                    "{id} is on its way; `tidegate webhook deliveries {}` shows it",
                    one.key
                )
            })?;
        }
        WebhookCommand::Rotate(arguments) => {
            let body = json!({ "overlap_hours": arguments.overlap_hours });
            let answer = act(&arguments.one, "rotate", &body)?;
            show_secret(&answer, arguments.one.output.output)?;
        }
        WebhookCommand::Delete(one) => {
            let path = path(&one.connection, &one.key, "");
            one.connection.delete(&path, Conditions::default())?;
            output::line(&format!("{} is removed", one.key));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(connection: &Connection, key: &str, rest: &str) -> String {
    let slash = if rest.is_empty() { "" } else { "/" };
    connection.path(&format!("webhook-endpoints/{}{slash}{rest}", encode(key)))
}

fn act(one: &One, action: &str, body: &Value) -> Result<Answer> {
    one.connection
        .post(&path(&one.connection, &one.key, action), body)
}

fn say(one: &One, answer: &Answer, words: impl Fn(&Value) -> String) -> Result<()> {
    match one.output.output {
        Format::Json => output::json(&answer.body),
        Format::Table => {
            output::line(&words(&answer.body));
            Ok(())
        }
    }
}

fn create(arguments: &CreateArguments) -> Result<()> {
    let events = match (arguments.events.is_empty(), arguments.ask) {
        (true, false) => vec!["*".to_owned()],
        _ => arguments.events.clone(),
    };
    let request = json!({
        "key": arguments.key,
        "url": arguments.url,
        "events": events,
        "asks": arguments.ask,
        "description": arguments.description,
    });
    let path = arguments.connection.path("webhook-endpoints");
    let answer = arguments.connection.post(&path, &request)?;
    show_secret(&answer, arguments.output.output)
}

fn show_secret(answer: &Answer, format: Format) -> Result<()> {
    if format == Format::Json {
        return output::json(&answer.body);
    }
    output::line(answer.body["secret"].as_str().unwrap_or_default());
    output::note("give it to the receiver now: it is shown this once and stored nowhere");
    Ok(())
}

fn list(arguments: &Everywhere) -> Result<()> {
    let path = arguments.connection.path("webhook-endpoints");
    let answer = arguments.connection.get(&path)?;
    if arguments.output.output == Format::Json {
        return output::json(&answer.body);
    }
    let row = |row: &Value| {
        let events: Vec<&str> = items(&row["events"]).filter_map(Value::as_str).collect();
        vec![
            text(&row["key"]),
            text(&row["origin"]),
            events.join(", "),
            if row["asks"] == true { "yes" } else { "no" }.to_owned(),
            items(&row["keys"]).count().to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = items(&answer.body["rows"]).map(row).collect();
    output::table(&["KEY", "TO", "TOLD", "ASKED", "LIVE KEYS"], &rows);
    Ok(())
}

fn deliveries(one: &One) -> Result<()> {
    let path = path(&one.connection, &one.key, "deliveries");
    let answer = one.connection.get(&path)?;
    if one.output.output == Format::Json {
        return output::json(&answer.body);
    }
    let attempt = |row: &Value| {
        let at_us = row["at_us"].as_i64().unwrap_or_default();
        let at = jiff::Timestamp::from_microsecond(at_us)
            .map_or_else(|_| String::new(), |at| at.to_string());
        vec![
            at,
            text(&row["event"]),
            row["number"].to_string(),
            text(&row["outcome"]),
            text(&row["reason"]),
        ]
    };
    let rows: Vec<Vec<String>> = items(&answer.body["rows"]).map(attempt).collect();
    output::table(&["AT", "EVENT", "ATTEMPT", "OUTCOME", "WHY"], &rows);
    let dead: Vec<Vec<String>> = items(&answer.body["dead"])
        .map(|row| {
            vec![
                row["number"].to_string(),
                text(&row["event"]),
                text(&row["created_at"]),
                text(&row["last_error"]),
            ]
        })
        .collect();
    if !dead.is_empty() {
        output::line("");
        output::table(&["DEAD LETTER", "EVENT", "WRITTEN", "LAST ERROR"], &dead);
        output::note(&format!(
            "`tidegate webhook redeliver {}` puts them back in line",
            one.key
        ));
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
