//! `tidegate events`: events from files, into a server or into a data folder; the newest ones
//! read, all of them verified, units merged into persons, one erased.

mod erase;
mod import;
mod merge;
mod tail;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Import a CSV, Parquet or NDJSON file under a mapping
    Import(import::ImportArguments),
    /// Show the newest events, and those to come
    Tail(tail::TailArguments),
    /// Read all stored events again and prove sums, counts and order
    Verify(verify::VerifyArguments),
    /// Say that units are one person, in every report from now on
    Merge(merge::MergeArguments),
    /// Take merges back
    Unmerge(merge::UnmergeArguments),
    /// Erase a unit and all units of its person: from every answer at once, from the disk before
    /// the receipt
    Erase(erase::EraseArguments),
}

/// Runs one of the commands.
pub(crate) fn run(command: &EventsCommand) -> Result<ExitCode> {
    match command {
        EventsCommand::Import(arguments) => import::run(arguments),
        EventsCommand::Tail(arguments) => tail::run(arguments),
        EventsCommand::Verify(arguments) => verify::run(arguments),
        EventsCommand::Merge(arguments) => merge::merge(arguments),
        EventsCommand::Unmerge(arguments) => merge::unmerge(arguments),
        EventsCommand::Erase(arguments) => erase::run(arguments),
    }
}
