//! `delivery summary`, `targets`, `set-targets`, `alerts`: answers in sentences, and what services aim at.

use anyhow::{Context, bail};
use clap::Args;
use tidegate_delivery::question::{AlertsQuestion, SummaryQuestion, TargetsQuestion};
use tidegate_delivery::target::ServiceTargets;

use super::place::Place;
use super::{LogArgs, OutputFormat, print_line};
use crate::client::Conditions;

/// A window and its definition.
#[derive(Debug, Args)]
struct Period {
    /// First moment inside: a date or RFC 3339.
    #[arg(long)]
    from: String,
    /// First moment after: a date or RFC 3339.
    #[arg(long)]
    to: String,
    /// Service name, repeatable; all without it.
    #[arg(long, value_delimiter = ',')]
    service: Vec<String>,
    /// How to compute.
    #[arg(long, default_value = "dora-2025")]
    definition: String,
    /// Environment whose deployments count.
    #[arg(long, default_value = "production")]
    environment: String,
    /// Environment that versions pass before.
    #[arg(long, default_value = "staging")]
    stage_before: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

/// A period in plain sentences, beside the one before of the same length.
#[derive(Debug, Args)]
pub(crate) struct Summary {
    #[command(flatten)]
    period: Period,
}

impl Summary {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let period = &self.period;
        let question = SummaryQuestion {
            from: period.from.clone(),
            to: period.to.clone(),
            service: period.service.join(","),
            definition: period.definition.clone(),
            environment: period.environment.clone(),
            stage_before: period.stage_before.clone(),
        };
        period.log.ask("summary", &question, period.output)
    }
}

/// How services stand to their targets; alerts for certain misses.
#[derive(Debug, Args)]
pub(crate) struct TargetsCommand {
    #[command(flatten)]
    period: Period,
    /// Aims as JSON, such as {"change_lead_time_hours": 48}, or {"services": {"shop": {...}}}; parts left out keep
    /// their starting values [default: what the server has been told].
    #[arg(long)]
    targets: Option<String>,
}

impl TargetsCommand {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let period = &self.period;
        let question = TargetsQuestion {
            from: period.from.clone(),
            to: period.to.clone(),
            service: period.service.join(","),
            definition: period.definition.clone(),
            environment: period.environment.clone(),
            stage_before: period.stage_before.clone(),
            targets: self.targets.clone(),
        };
        period.log.ask("targets", &question, period.output)
    }
}

/// Set what services aim at, on the server.
#[derive(Debug, Args)]
pub(crate) struct SetTargets {
    /// Aims as JSON: {"default": {...}, "services": {"shop": {"wip_limit": 5}}}.
    targets: String,
    #[command(flatten)]
    log: LogArgs,
}

impl SetTargets {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let targets = ServiceTargets::from_json(&self.targets).context("the targets")?;
        let Place::Server(connection) = self.log.place()? else {
            bail!("targets are kept by a server; give --targets where you work on files");
        };
        let path = connection.path("delivery/targets");
        connection.put(
            &path,
            &serde_json::to_value(&targets)?,
            Conditions::default(),
        )?;
        Ok(print_line("the targets are set")?)
    }
}

/// What to speak up about now: targets certainly missed, and limits on work in progress passed.
#[derive(Debug, Args)]
pub(crate) struct Alerts {
    /// Days looked back.
    #[arg(long, default_value_t = 30)]
    days: u16,
    /// Aims as JSON [default: what the server has been told].
    #[arg(long)]
    targets: Option<String>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

impl Alerts {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let question = AlertsQuestion {
            days: self.days,
            targets: self.targets.clone(),
        };
        self.log.ask("alerts", &question, self.output)
    }
}
