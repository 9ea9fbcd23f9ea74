//! `tidegate delivery ...`: writes to a project's delivery log and answers from it.
//!
//! With `--data-dir` it works on the files of a stopped server; otherwise it asks a server, like every other command.
//! Questions and their wording are in `tidegate_delivery::question`, so both ways give the same answer.
//! The clock and the file system are touched here and nowhere in `tidegate-delivery`.

mod flow;
mod git_patch;
mod git_reader;
mod import_csv;
mod import_git;
mod incidents;
mod metrics;
mod place;
mod record;
mod report;
mod secret;
mod sink;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use tidegate_delivery::Moment;

pub(crate) use place::LogArgs;

/// Delivery performance: record and import what happened, ask how it flows.
#[derive(Debug, Subcommand)]
pub(crate) enum DeliveryCommand {
    /// Import a CSV table of deployments, changes, incidents or items.
    ImportCsv(import_csv::ImportCsv),
    /// Import commits and tags of a git repository.
    ImportGit(import_git::ImportGit),
    /// The five DORA metrics by a named definition, each with its n, interval and terms.
    Metrics(metrics::Metrics),
    /// How versions pass from one environment to the next, and which deployments went back.
    Pipeline(metrics::Pipeline),
    /// Work in progress, age, throughput and cycle time.
    Flow(flow::Flow),
    /// When will these be done, or how many by then.
    Forecast(flow::Forecast),
    /// A period in plain sentences.
    Summary(report::Summary),
    /// How services stand to their targets.
    Targets(report::TargetsCommand),
    /// Set what services aim at.
    SetTargets(report::SetTargets),
    /// What to speak up about now.
    Alerts(report::Alerts),
    /// Incidents, searchable, with their timelines.
    Incidents(incidents::Incidents),
    /// A blameless postmortem of an incident as Markdown.
    Postmortem(incidents::Postmortem),
    /// Record a deployment.
    Deploy(record::Deploy),
    /// Record an incident, or its end.
    Incident(record::IncidentCommand),
    /// Rule on one deployment: failed, rework, rollback, or not.
    Correct(record::Correct),
    /// Make, list and revoke secrets of webhooks.
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// What became of the latest webhooks.
    Received(secret::ReceivedCommand),
}

/// Runs the command to its end.
pub(crate) fn run(command: &DeliveryCommand) -> ExitCode {
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even standard error is closed, the exit code is all there is to say.
            let _ = writeln!(io::stderr(), "tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl DeliveryCommand {
    fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::ImportCsv(command) => command.run(),
            Self::ImportGit(command) => command.run(),
            Self::Metrics(command) => command.run(),
            Self::Pipeline(command) => command.run(),
            Self::Flow(command) => command.run(),
            Self::Forecast(command) => command.run(),
            Self::Summary(command) => command.run(),
            Self::Targets(command) => command.run(),
            Self::SetTargets(command) => command.run(),
            Self::Alerts(command) => command.run(),
            Self::Incidents(command) => command.run(),
            Self::Postmortem(command) => command.run(),
            Self::Deploy(command) => command.run(),
            Self::Incident(command) => command.run(),
            Self::Correct(command) => command.run(),
            Self::Secret(command) => command.run(),
            Self::Received(command) => command.run(),
        }
    }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Lines for people.
    #[default]
    Text,
    /// JSON for programs.
    Json,
}

fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")
}

fn print_line(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// The clock of this command.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge that reads the clock for the pure crate"
)]
fn now() -> Moment {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Moment::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
