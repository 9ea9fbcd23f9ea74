//! `delivery summary`, `delivery targets`, `delivery postmortem`: answers in sentences.

use anyhow::Context;
use clap::Args;
use tidegate_delivery::definition::Definition;
use tidegate_delivery::learning::{board_summary, postmortem};
use tidegate_delivery::metrics::{MetricReport, Query, measure};
use tidegate_delivery::target::{TargetRow, Targets, compare};
use tidegate_delivery::{Moment, Timeline, Window, definition};

use super::flow::window_of;
use super::{LogArgs, OutputFormat, now, print_json, print_line};

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

impl Period {
    fn measure(
        &self,
        timeline: &Timeline,
        definition: &Definition,
        window: Window,
    ) -> MetricReport {
        let query = Query {
            services: &self.service,
            team: None,
            environment: &self.environment,
            stage_before: &self.stage_before,
            window,
            as_of: now(),
            definition,
            explain: false,
            seed: 0,
        };
        measure(timeline, &query)
    }
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
        let window = window_of(&period.from, &period.to)?;
        let length = window.to().millis() - window.from().millis();
        let earlier = Window::new(
            Moment::from_millis(window.from().millis() - length),
            window.from(),
        )?;
        let definition = definition::named(&period.definition)?;
        let timeline = period.log.timeline()?;
        let report = period.measure(&timeline, &definition, window);
        let before = period.measure(&timeline, &definition, earlier);
        let name = format!("{} to {}", period.from, period.to);
        let sentences = board_summary(&report, Some(&before), &name);
        match period.output {
            OutputFormat::Json => print_json(&sentences)?,
            OutputFormat::Text => sentences
                .iter()
                .try_for_each(|sentence| print_line(sentence))?,
        }
        Ok(())
    }
}

/// How services stand to their targets; alerts for certain misses.
#[derive(Debug, Args)]
pub(crate) struct TargetsCommand {
    #[command(flatten)]
    period: Period,
    /// Aims as JSON, such as {"change_lead_time_hours": 48}; parts left out keep their starting values.
    #[arg(long)]
    targets: Option<String>,
}

impl TargetsCommand {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let period = &self.period;
        let targets: Targets = match &self.targets {
            Some(text) => serde_json::from_str(text).context("--targets")?,
            None => Targets::default(),
        };
        let definition = definition::named(&period.definition)?;
        let timeline = period.log.timeline()?;
        let report = period.measure(&timeline, &definition, window_of(&period.from, &period.to)?);
        let mut services: Vec<&str> = report.rows.iter().map(|row| row.service.as_str()).collect();
        services.dedup();
        let rows: Vec<TargetRow> = services
            .iter()
            .flat_map(|service| compare(&report, service, targets))
            .collect();
        if period.output == OutputFormat::Json {
            return Ok(print_json(&serde_json::json!({ "rows": rows }))?);
        }
        for row in &rows {
            let value = row
                .value
                .map_or("no data".to_owned(), |value| format!("{value:.2}"));
            print_line(&format!(
                "{:<32} {:<32} {value} (target {}) {:?}",
                row.service, row.metric, row.target, row.standing
            ))?;
        }
        Ok(())
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
    #[command(flatten)]
    log: LogArgs,
}

impl Postmortem {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let timeline = self.log.timeline()?;
        let incident = timeline
            .incidents()
            .iter()
            .find(|incident| incident.id == self.incident)
            .with_context(|| format!("no incident {:?} is in the log", self.incident))?;
        print_line(&postmortem(&timeline, incident, &self.environment))?;
        Ok(())
    }
}
