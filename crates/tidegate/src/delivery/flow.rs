//! `delivery flow` and `delivery forecast`: work in progress, ageing, and when the rest will be done.

use clap::Args;
use tidegate_delivery::question::{Counted, FlowQuestion, ForecastQuestion};

use super::{LogArgs, OutputFormat};

/// Work in progress, age, throughput and cycle time over `[from, to)`, UTC.
#[derive(Debug, Args)]
pub(crate) struct Flow {
    /// Service or board; all without it.
    #[arg(long)]
    service: Option<String>,
    /// First moment inside: a date or RFC 3339.
    #[arg(long)]
    from: String,
    /// First moment after: a date or RFC 3339.
    #[arg(long)]
    to: String,
    /// Speak up when more items than this are in progress.
    #[arg(long)]
    wip_limit: Option<usize>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

impl Flow {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let question = FlowQuestion {
            service: self.service.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            wip_limit: self.wip_limit,
        };
        self.log.ask("flow", &question, self.output)
    }
}

/// When will so many items be done, or how many by then; from the daily throughput of the past.
#[derive(Debug, Args)]
pub(crate) struct Forecast {
    /// Service or board; all without it.
    #[arg(long)]
    service: Option<String>,
    /// History: first moment inside.
    #[arg(long)]
    from: String,
    /// History: first moment after.
    #[arg(long)]
    to: String,
    /// When will these many be done?
    #[arg(long, conflicts_with = "days", required_unless_present = "days")]
    items: Option<u32>,
    /// How many within these days?
    #[arg(long)]
    days: Option<u32>,
    /// What is counted: finished items, or deployments to production.
    #[arg(long, value_enum, default_value_t)]
    of: CliCounted,
    /// Simulations.
    #[arg(long, default_value_t = 10_000)]
    simulations: u32,
    /// Seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum CliCounted {
    #[default]
    Items,
    Deployments,
}

impl Forecast {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let question = ForecastQuestion {
            service: self.service.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            items: self.items,
            days: self.days,
            of: match self.of {
                CliCounted::Items => Counted::Items,
                CliCounted::Deployments => Counted::Deployments,
            },
            simulations: self.simulations,
            seed: self.seed,
        };
        self.log.ask("forecast", &question, self.output)
    }
}
