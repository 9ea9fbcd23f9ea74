//! `delivery incidents` and `delivery postmortem`: what went wrong, findable, and what is written about it.

use clap::Args;
use tidegate_delivery::question::{IncidentsQuestion, PostmortemQuestion};

use super::{LogArgs, OutputFormat};

/// Incidents, newest first.
#[derive(Debug, Args)]
pub(crate) struct Incidents {
    /// Words that must all be found in an incident: its id, title, service, flag, evidence, runbook.
    #[arg(long)]
    search: Option<String>,
    /// Only of this service.
    #[arg(long)]
    service: Option<String>,
    /// Only those noticed from here on: a date or RFC 3339.
    #[arg(long)]
    from: Option<String>,
    /// Only those noticed before.
    #[arg(long)]
    to: Option<String>,
    /// Give each its timeline: deployments, exposures, guard evidence.
    #[arg(long)]
    explain: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

impl Incidents {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let question = IncidentsQuestion {
            search: self.search.clone(),
            service: self.service.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            explain: self.explain,
        };
        self.log.ask("incidents", &question, self.output)
    }
}

/// A blameless postmortem of an incident as Markdown, its timeline filled in from the log.
#[derive(Debug, Args)]
pub(crate) struct Postmortem {
    /// Incident as the log names it, such as pagerduty:PGR0VU2.
    incident: String,
    /// Environment.
    #[arg(long, default_value = "production")]
    environment: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

impl Postmortem {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let question = PostmortemQuestion {
            incident: self.incident.clone(),
            environment: self.environment.clone(),
        };
        self.log.ask("postmortem", &question, self.output)
    }
}
