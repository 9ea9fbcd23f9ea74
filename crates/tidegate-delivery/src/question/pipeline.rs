//! How versions pass from one environment to the next, and which deployments went back.

use serde::{Deserialize, Serialize};

use super::{Form, Question, QuestionError, integration, production, staging, window_of, written};
use crate::history::History;
use crate::moment::Moment;
use crate::promotion::{PromotionReport, promotions};
use crate::rollback::{RollbackCandidate, rollback_candidates};
use crate::timeline::Timeline;

/// The way of versions through the environments in `[from, to)`, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineQuestion {
    /// First moment inside.
    pub from: String,
    /// First moment after.
    pub to: String,
    /// Where versions start.
    #[serde(default = "integration")]
    pub first: String,
    /// Environment that versions pass right before the last.
    #[serde(default = "staging")]
    pub stage_before: String,
    /// Where they end.
    #[serde(default = "production")]
    pub environment: String,
}

#[derive(Serialize)]
struct Answer {
    promotions: PromotionReport,
    rollback_candidates: Vec<RollbackCandidate>,
}

impl Question for PipelineQuestion {
    fn answer(&self, timeline: &Timeline, _: Moment, form: Form) -> Result<String, QuestionError> {
        let window = window_of(&self.from, &self.to)?;
        let histories: Vec<History<'_>> = timeline
            .series()
            .filter(|series| series.environment() == self.environment)
            .map(|series| History::new(timeline, series))
            .collect();
        let mut candidates = rollback_candidates(timeline, &histories, &self.stage_before);
        candidates.retain(|candidate| window.contains(candidate.at));
        let answer = Answer {
            promotions: promotions(timeline, &self.first, &self.environment, window),
            rollback_candidates: candidates,
        };
        written(form, &answer, |answer| self.lines(answer))
    }
}

impl PipelineQuestion {
    fn lines(&self, answer: &Answer) -> Vec<String> {
        let p = &answer.promotions;
        let number = |value: Option<f64>| value.map_or("no data".to_owned(), |v| format!("{v:.1}"));
        let s = &p.steps;
        let mut lines = vec![
            format!(
                "{} deployments to {}, {} to {}, of {} services; {} per working day, {} on weekends",
                p.deployments[0],
                self.first,
                p.deployments[1],
                self.environment,
                p.services,
                number(p.per_working_day),
                p.on_weekends
            ),
            format!(
                "{} to {}: median {} min, p90 {} min (n = {}, {} negative); {} never arrived",
                self.first,
                self.environment,
                number(p.minutes_p50),
                number(p.minutes_p90),
                p.arrived,
                p.negative,
                p.never_arrived
            ),
            format!(
                "version steps: +1 {}, +2 {}, +3 {}, +4 to +9 {}, +10 or more {}, same {}, back {}, not comparable {}",
                s.one,
                s.two,
                s.three,
                s.four_to_nine,
                s.ten_or_more,
                s.none,
                s.back,
                s.not_comparable
            ),
        ];
        lines.extend(answer.rollback_candidates.iter().map(candidate_line));
        lines
    }
}

fn candidate_line(candidate: &RollbackCandidate) -> String {
    let action = candidate
        .fleet_action
        .map_or(String::new(), |n| format!(", fleet-wide action {n}"));
    format!(
        "{} {} {:?}: {} ({:.1} h after the newer one{action})",
        candidate.at,
        candidate.service,
        candidate.class,
        candidate.reason,
        candidate.newer_live_hours,
    )
}
