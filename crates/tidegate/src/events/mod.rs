//! `tidegate events`: events from files, into a server or into a data folder.

mod import;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Import a CSV, Parquet or NDJSON file under a mapping
    Import(import::ImportArguments),
}

/// Runs one of the commands.
pub(crate) fn run(command: &EventsCommand) -> Result<ExitCode> {
    match command {
        EventsCommand::Import(arguments) => import::run(arguments),
    }
}
