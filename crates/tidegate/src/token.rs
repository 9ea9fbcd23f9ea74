//! `tidegate token`: mint, list, disable.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::{Conditions, Connection, encode};
use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Mint a token; its secret is shown this once
    Create(CreateArguments),
    /// List tokens, without their secrets
    List(ListArguments),
    /// Disable a token; it is refused from then on
    Disable(DisableArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// What it is for, such as "shop back end"
    name: String,
    /// What it may do: admin, server (evaluate, sync, ingest), browser (evaluate, ingest), ci
    #[arg(long, value_parser = ["admin", "server", "browser", "ci"])]
    kind: String,
    /// Refuse it after this many days
    #[arg(long)]
    expires_in_days: Option<u16>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DisableArguments {
    /// The token's selector, as `token list` shows it
    selector: String,
    #[command(flatten)]
    connection: Connection,
}

/// Runs one of the commands.
pub(crate) fn run(command: &TokenCommand) -> Result<ExitCode> {
    match command {
        TokenCommand::Create(arguments) => create(arguments)?,
        TokenCommand::List(arguments) => list(arguments)?,
        TokenCommand::Disable(arguments) => {
            let path = arguments
                .connection
                .path(&format!("tokens/{}", encode(&arguments.selector)));
            arguments.connection.delete(&path, Conditions::default())?;
            output::line(&format!("{} is disabled", arguments.selector));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn create(arguments: &CreateArguments) -> Result<()> {
    let request = json!({
        "name": arguments.name,
        "kind": arguments.kind,
        "expires_in_days": arguments.expires_in_days,
    });
    let path = arguments.connection.path("tokens");
    let answer = arguments.connection.post(&path, &request)?;
    match arguments.output.output {
        Format::Json => output::json(&answer.body),
        Format::Table => {
            output::line(answer.body["token"].as_str().unwrap_or_default());
            output::note("keep it now: it is shown this once and only its hash is stored");
            Ok(())
        }
    }
}

fn list(arguments: &ListArguments) -> Result<()> {
    let answer = arguments
        .connection
        .get(&arguments.connection.path("tokens"))?;
    if arguments.output.output == Format::Json {
        return output::json(&answer.body);
    }
    let rows: Vec<Vec<String>> = answer.body["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            [
                "selector",
                "kind",
                "name",
                "created_at",
                "last_used_at",
                "disabled_at",
            ]
            .map(|field| row[field].as_str().unwrap_or("-").to_owned())
            .to_vec()
        })
        .collect();
    output::table(
        &[
            "SELECTOR",
            "KIND",
            "NAME",
            "CREATED",
            "LAST USED",
            "DISABLED",
        ],
        &rows,
    );
    Ok(())
}
