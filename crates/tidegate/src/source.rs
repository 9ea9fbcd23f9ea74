//! `tidegate source`: metric sources of others, and whether their counters may be believed.
//!
//! Sources are declared in files (`tidegate apply`); here is what no file can say.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Connection, encode};
use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Read two variants that serve the same until there is enough to tell whether the source's
    /// counters may roll a change back; without --variants, say how that stands
    SelfTest(SelfTestArguments),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidegate source self-test shop --variants control-a,control-b\n\n\
                        A guard on a source holds a rollout. It rolls back only after its source \
                        passed, in its present revision."
)]
pub(crate) struct SelfTestArguments {
    /// The source's key
    key: String,
    /// Two values of {variant} that serve the same thing
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    variants: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs one of the commands.
pub(crate) fn run(command: &SourceCommand) -> Result<ExitCode> {
    let SourceCommand::SelfTest(arguments) = command;
    let path = format!("sources/{}/self-test", encode(&arguments.key));
    let path = arguments.connection.path(&path);
    let answer = if arguments.variants.is_empty() {
        arguments.connection.get(&path)?
    } else {
        let body = json!({ "variants": arguments.variants });
        arguments.connection.post(&path, &body)?
    };
    match arguments.output.output {
        Format::Json => output::json(&answer.body)?,
        Format::Table => output::line(&in_words(&arguments.key, &answer.body)),
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(key: &str, standing: &Value) -> String {
    let may = if standing["may_roll_back"] == true {
        "may roll back"
    } else {
        "may hold, not roll back"
    };
    let why = match (&standing["under_way"], &standing["last"]["reason"]) {
        (Value::String(how_far), _) => format!("a self-test is under way: {how_far}"),
        (_, Value::String(reason)) => reason.clone(),
        _ => "no self-test has been run".to_owned(),
    };
    format!("a guard on {key} {may}: {why}")
}
