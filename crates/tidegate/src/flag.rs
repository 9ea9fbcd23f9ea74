//! `tidegate flag`: read, create, change, kill and delete flags on a server.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Conditions, Connection, encode};
use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum FlagCommand {
    /// List flags
    List(Everywhere),
    /// Read one flag with its definition and revision
    Get(One),
    /// Read a flag's revisions, newest first
    History(One),
    /// Create a boolean flag that is off for everybody, or one from a file
    Create(CreateArguments),
    /// Replace a flag's definition
    Update(UpdateArguments),
    /// Serve the off variant to everybody at once, past all targeting
    #[command(
        after_help = "Works with or without the database; needs no approval.\n\nExample:\n  \
                            tidegate flag kill new-checkout --reason 'card payments fail'"
    )]
    Kill(KillArguments),
    /// Lift a kill, so that the flag's rules decide again
    Revive(KillArguments),
    /// Delete a flag; its key is kept, so that it is not reused by accident
    Delete(DeleteArguments),
    /// Evaluate a flag on the server and say why it has that value
    Explain(ExplainArguments),
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
    /// The flag's key
    key: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// The flag's key
    key: String,
    /// A JSON or YAML file with the definition; without it, on/off, dark
    #[arg(short = 'f', long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArguments {
    /// The flag's key
    key: String,
    /// A JSON or YAML file with the definition
    #[arg(short = 'f', long)]
    file: PathBuf,
    /// The revision the change is based on; without it, the one that is there now
    #[arg(long)]
    revision: Option<u64>,
    /// Why, for the audit trail
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct KillArguments {
    /// The flag's key
    key: String,
    /// Why: the next person will ask
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// The flag's key
    key: String,
    /// Why, for the audit trail
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The flag's key
    key: String,
    /// The evaluation context as JSON
    #[arg(long, default_value = "{}")]
    context: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs one of the commands.
pub(crate) fn run(command: &FlagCommand) -> Result<ExitCode> {
    match command {
        FlagCommand::List(arguments) => list(arguments)?,
        FlagCommand::Get(arguments) => read(arguments, "")?,
        FlagCommand::History(arguments) => read(arguments, "/history")?,
        FlagCommand::Create(arguments) => create(arguments)?,
        FlagCommand::Update(arguments) => update(arguments)?,
        FlagCommand::Kill(arguments) => kill(arguments)?,
        FlagCommand::Revive(arguments) => revive(arguments)?,
        FlagCommand::Delete(arguments) => delete(arguments)?,
        FlagCommand::Explain(arguments) => explain(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn path(connection: &Connection, key: &str) -> String {
    connection.path(&format!("flags/{}", encode(key)))
}

fn list(arguments: &Everywhere) -> Result<()> {
    let rows = all(&arguments.connection, "flags")?;
    if arguments.output.output == Format::Json {
        return output::json(&json!({ "rows": rows }));
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let spec = &row["spec"];
            let state = if spec.get("killed").is_some_and(|killed| !killed.is_null()) {
                "killed"
            } else {
                spec["state"].as_str().unwrap_or("-")
            };
            let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
            vec![
                text("key"),
                state.to_owned(),
                row["revision"].to_string(),
                text("updated_at"),
            ]
        })
        .collect();
    output::table(&["FLAG", "STATE", "REVISION", "CHANGED"], &cells);
    Ok(())
}

/// Every row of a collection, page by page.
pub(crate) fn all(connection: &Connection, collection: &str) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let from = after
            .as_deref()
            .map_or_else(String::new, |key| format!("&after={}", encode(key)));
        let answer = connection.get(&connection.path(&format!("{collection}?limit=1000{from}")))?;
        rows.extend(answer.body["rows"].as_array().cloned().unwrap_or_default());
        match answer.body["next_after"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(rows),
        }
    }
}

fn read(arguments: &One, rest: &str) -> Result<()> {
    let path = format!("{}{rest}", path(&arguments.connection, &arguments.key));
    output::json(&arguments.connection.get(&path)?.body)
}

fn create(arguments: &CreateArguments) -> Result<()> {
    let definition = match &arguments.file {
        Some(file) => crate::declarative::read_value(file)?,
        None => json!({
            "state": "ENABLED",
            "variants": { "on": true, "off": false },
            "defaultVariant": "off",
            "offVariant": "off",
        }),
    };
    let conditions = Conditions {
        must_be_new: true,
        ..Conditions::default()
    };
    let path = path(&arguments.connection, &arguments.key);
    let connection = &arguments.connection;
    let answer = connection.send_raw("PUT", &path, Some(&definition), conditions)?;
    match answer.status {
        status if status < 400 => {}
        409 => bail!(
            "{}; `tidegate flag update {} -f FILE` changes one that is there",
            connection.refusal(&answer),
            arguments.key
        ),
        _ => return Err(connection.refusal(&answer)),
    }
    written(&arguments.key, &answer.body, arguments.output.output)
}

fn update(arguments: &UpdateArguments) -> Result<()> {
    let definition = crate::declarative::read_value(&arguments.file)?;
    let path = path(&arguments.connection, &arguments.key);
    let revision = match arguments.revision {
        Some(revision) => revision,
        None => revision_of(&arguments.connection, &path)?,
    };
    let conditions = Conditions {
        revision: Some(revision),
        ..Conditions::default()
    };
    let path = with_reason(path, arguments.reason.as_deref());
    let answer = arguments.connection.put(&path, &definition, conditions)?;
    written(&arguments.key, &answer.body, arguments.output.output)
}

fn written(key: &str, body: &Value, format: Format) -> Result<()> {
    if format == Format::Json {
        return output::json(body);
    }
    output::line(&format!("{key} is at revision {}", body["revision"]));
    for warning in body["warnings"].as_array().into_iter().flatten() {
        let part = |name| warning[name].as_str().unwrap_or_default();
        output::note(&format!("warning: {} {}", part("pointer"), part("message")));
    }
    Ok(())
}

fn kill(arguments: &KillArguments) -> Result<()> {
    let path = format!("{}/kill", path(&arguments.connection, &arguments.key));
    let answer = arguments
        .connection
        .post(&path, &json!({ "reason": arguments.reason }))?;
    if arguments.output.output == Format::Json {
        return output::json(&answer.body);
    }
    let serves = answer.body["serves"].as_str().unwrap_or("its off variant");
    output::line(&format!("{} serves {serves} to everybody", arguments.key));
    if answer.body["durable"] == json!(false) {
        output::note("warning: the disk refused the record; a restart now would lose the kill");
    }
    Ok(())
}

fn revive(arguments: &KillArguments) -> Result<()> {
    let path = format!("{}/revive", path(&arguments.connection, &arguments.key));
    let answer = arguments
        .connection
        .post(&path, &json!({ "reason": arguments.reason }))?;
    if arguments.output.output == Format::Json {
        return output::json(&answer.body);
    }
    output::line(&format!("{} is decided by its rules again", arguments.key));
    Ok(())
}

fn delete(arguments: &DeleteArguments) -> Result<()> {
    let path = path(&arguments.connection, &arguments.key);
    let revision = revision_of(&arguments.connection, &path)?;
    let conditions = Conditions {
        revision: Some(revision),
        ..Conditions::default()
    };
    let path = with_reason(path, arguments.reason.as_deref());
    let answer = arguments.connection.delete(&path, conditions)?;
    if arguments.output.output == Format::Json {
        return output::json(&answer.body);
    }
    output::line(&format!(
        "{} is deleted; its key stays taken",
        arguments.key
    ));
    Ok(())
}

fn explain(arguments: &ExplainArguments) -> Result<()> {
    let context: Value = serde_json::from_str(&arguments.context)
        .context("--context must be a JSON object such as {\"targetingKey\":\"user-17\"}")?;
    let path = format!("{}/evaluate", path(&arguments.connection, &arguments.key));
    let answer = arguments
        .connection
        .post(&path, &json!({ "context": context }))?;
    if arguments.output.output == Format::Json {
        return output::json(&answer.body);
    }
    let why = &answer.body["explanation"];
    let text = |name: &str| why[name].as_str().unwrap_or("(none)").to_owned();
    let value = match &why["value"] {
        Value::Null => "(none: the caller's own default)".to_owned(),
        value => value.to_string(),
    };
    output::line(&format!("value    {value}"));
    output::line(&format!("variant  {}", text("variant")));
    output::line(&format!("reason   {}", text("reason")));
    output::line(&format!("why      {}", text("because")));
    Ok(())
}

/// The revision an object is at now.
pub(crate) fn revision_of(connection: &Connection, path: &str) -> Result<u64> {
    let answer = connection.get(path)?;
    answer.body["revision"]
        .as_u64()
        .context("the server's answer carries no revision")
}

/// The path with the reason for the audit trail.
pub(crate) fn with_reason(path: String, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{path}?reason={}", encode(reason)),
        None => path,
    }
}
