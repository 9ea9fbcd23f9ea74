//! `delivery pipeline`: how versions pass from one environment to the next, and which deployments went back.

use clap::Args;
use serde::Serialize;
use tidegate_delivery::history::History;
use tidegate_delivery::promotion::{PromotionReport, promotions};
use tidegate_delivery::rollback::{RollbackCandidate, rollback_candidates};

use super::flow::window_of;
use super::{LogArgs, OutputFormat, print_json, print_line};

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

#[derive(Serialize)]
struct Answer {
    promotions: PromotionReport,
    rollback_candidates: Vec<RollbackCandidate>,
}

impl Pipeline {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let window = window_of(&self.from, &self.to)?;
        let timeline = self.log.timeline()?;
        let histories: Vec<History<'_>> = timeline
            .series()
            .filter(|series| series.environment() == self.environment)
            .map(|series| History::new(&timeline, series))
            .collect();
        let mut candidates = rollback_candidates(&timeline, &histories, &self.stage_before);
        candidates.retain(|candidate| window.contains(candidate.at));
        let answer = Answer {
            promotions: promotions(&timeline, &self.first, &self.environment, window),
            rollback_candidates: candidates,
        };
        match self.output {
            OutputFormat::Json => print_json(&answer)?,
            OutputFormat::Text => self.print(&answer)?,
        }
        Ok(())
    }

    fn print(&self, answer: &Answer) -> std::io::Result<()> {
        let p = &answer.promotions;
        let number = |value: Option<f64>| value.map_or("no data".to_owned(), |v| format!("{v:.1}"));
        print_line(&format!(
            "{} deployments to {}, {} to {}, of {} services; {} per working day, {} on weekends",
            p.deployments[0],
            self.first,
            p.deployments[1],
            self.environment,
            p.services,
            number(p.per_working_day),
            p.on_weekends
        ))?;
        print_line(&format!(
            "{} to {}: median {} min, p90 {} min (n = {}, {} negative); {} never arrived",
            self.first,
            self.environment,
            number(p.minutes_p50),
            number(p.minutes_p90),
            p.arrived,
            p.negative,
            p.never_arrived
        ))?;
        let s = &p.steps;
        print_line(&format!(
            "version steps: +1 {}, +2 {}, +3 {}, +4 to +9 {}, +10 or more {}, same {}, back {}, not comparable {}",
            s.one, s.two, s.three, s.four_to_nine, s.ten_or_more, s.none, s.back, s.not_comparable
        ))?;
        for candidate in &answer.rollback_candidates {
            print_line(&format!(
                "{} {} {:?}: {} ({:.1} h after the newer one{})",
                candidate.at,
                candidate.service,
                candidate.class,
                candidate.reason,
                candidate.newer_live_hours,
                candidate
                    .fleet_action
                    .map_or(String::new(), |n| format!(", fleet-wide action {n}"))
            ))?;
        }
        Ok(())
    }
}
