//! `delivery metrics` and `delivery pipeline`: the numbers of a window, and how versions passed through it.

use clap::Args;
use tidegate_delivery::question::{MetricsQuestion, PipelineQuestion};

use super::{LogArgs, OutputFormat};

/// Delivery metrics of services in `[from, to)`, UTC.
#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// Service name, repeatable; `all` for every service.
    #[arg(long, default_value = "all", value_delimiter = ',')]
    service: Vec<String>,
    /// Only services of this team.
    #[arg(long)]
    team: Option<String>,
    /// First moment inside: a date or RFC 3339.
    #[arg(long)]
    from: String,
    /// First moment after: a date or RFC 3339.
    #[arg(long)]
    to: String,
    /// How to compute: dora-2025, devlake-like, gitlab-like, fourkeys-like, middleware-like, sleuth-like, liatrio-like, ...
    #[arg(long, default_value = "dora-2025")]
    definition: String,
    /// Environment whose deployments count.
    #[arg(long, default_value = "production")]
    environment: String,
    /// Environment that versions pass before: tells rollbacks from late arrivals.
    #[arg(long, default_value = "staging")]
    stage_before: String,
    /// List the commits, deployments and incidents behind each number.
    #[arg(long)]
    explain: bool,
    /// Seed of the bootstrap intervals.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

impl Metrics {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let question = MetricsQuestion {
            service: self.service.join(","),
            team: self.team.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            definition: self.definition.clone(),
            environment: self.environment.clone(),
            stage_before: self.stage_before.clone(),
            explain: self.explain,
            seed: self.seed,
        };
        self.log.ask("metrics", &question, self.output)
    }
}

/// The way of versions through the environments in `[from, to)`, UTC.
#[derive(Debug, Args)]
pub(crate) struct Pipeline {
    /// First moment inside: a date or RFC 3339.
    #[arg(long)]
    from: String,
    /// First moment after: a date or RFC 3339.
    #[arg(long)]
    to: String,
    /// Where versions start.
    #[arg(long, default_value = "integration")]
    first: String,
    /// Environment that versions pass right before the last.
    #[arg(long, default_value = "staging")]
    stage_before: String,
    /// Where they end.
    #[arg(long, default_value = "production")]
    environment: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

impl Pipeline {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let question = PipelineQuestion {
            from: self.from.clone(),
            to: self.to.clone(),
            first: self.first.clone(),
            stage_before: self.stage_before.clone(),
            environment: self.environment.clone(),
        };
        self.log.ask("pipeline", &question, self.output)
    }
}
