//! `delivery metrics`: the numbers of a window, by a named definition.

use std::io;

use clap::Args;
use serde::Serialize;
use tidegate_delivery::definition;
use tidegate_delivery::metrics::{MetricReport, MetricRow, Query, measure};

use super::flow::window_of;
use super::{LogArgs, OutputFormat, now, print_json, print_line};

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

#[derive(Serialize)]
struct Answer<'a> {
    rows: &'a [MetricRow],
    notes: &'a [String],
    environment: &'a str,
    from: String,
    to: String,
}

impl Metrics {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let definition = definition::named(&self.definition)?;
        let window = window_of(&self.from, &self.to)?;
        let all = self.service.iter().any(|name| name == "all" || name == "*");
        let timeline = self.log.timeline()?;
        let report = measure(
            &timeline,
            &Query {
                services: if all { &[] } else { &self.service },
                team: self.team.as_deref(),
                environment: &self.environment,
                stage_before: &self.stage_before,
                window,
                as_of: now(),
                definition: &definition,
                explain: self.explain,
                seed: self.seed,
            },
        );
        match self.output {
            OutputFormat::Json => print_json(&Answer {
                rows: &report.rows,
                notes: &report.notes,
                environment: &self.environment,
                from: window.from().to_string(),
                to: window.to().to_string(),
            })?,
            OutputFormat::Text => self.print(&report, &definition.choices)?,
        }
        // The process ends here; giving a large timeline back piece by piece would only delay the answer.
        std::mem::forget(timeline);
        Ok(())
    }

    fn print(&self, report: &MetricReport, choices: &[String]) -> io::Result<()> {
        for row in &report.rows {
            print_line(&sentence(row))?;
            if self.explain {
                print_line(&format!("    = {}", row.formula))?;
                for note in &row.notes {
                    print_line(&format!("    note: {note}"))?;
                }
                for event in row.contributing.iter().flatten() {
                    let value = event.value.map_or(String::new(), |v| format!(" {v:.2}"));
                    let deployment = event
                        .deployment
                        .as_deref()
                        .map_or(String::new(), |d| format!(" in {d}"));
                    let reasons = event.reasons.join("; ");
                    print_line(&format!(
                        "    {} {}{value}{deployment} {reasons}",
                        event.at, event.id
                    ))?;
                }
            }
        }
        for note in &report.notes {
            print_line(&format!("note: {note}"))?;
        }
        if self.explain {
            for choice in choices {
                print_line(&format!("{}: {choice}", self.definition))?;
            }
        }
        Ok(())
    }
}

fn sentence(row: &MetricRow) -> String {
    let (scale, unit) = if row.unit == "share" {
        (100.0, "%")
    } else {
        (1.0, row.unit)
    };
    let value = row.value.map_or("no data".to_owned(), |value| {
        format!("{:.2} {unit}", value * scale)
    });
    let interval = row.interval.map_or(String::new(), |i| {
        format!(
            " [{:.2}, {:.2}] at {:.0} %, {}",
            i.low * scale,
            i.high * scale,
            i.level * 100.0,
            i.method
        )
    });
    format!(
        "{:<32} {:<36} {value}{interval} (n = {})",
        row.service, row.metric, row.n
    )
}
