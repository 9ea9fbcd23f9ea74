//! From intervals to a verdict: ship, do not ship, keep going, or no effect within the zone.
//!
//! **Rule** (Schultzberg, Ankargren and Frånberg, arXiv 2402.11609). *Ship* when at least one
//! success metric is better, every guardrail is non-inferior by its margin, no metric is worse,
//! and the quality gate is passed. *Do not ship* as soon as a metric is worse or a guardrail has
//! crossed its margin, or when the data has come to its end without a ship. *No effect within the zone*
//! when every success metric lies inside its stated zone. Otherwise *keep going*.
//!
//! Alpha is split over success metrics only: guardrails must all pass, which needs no split.
//! A large p-value is never evidence of no difference.
//!
//! **Sentences.** Each verdict carries one sentence and one per metric. They speak of the interval
//! alone, rounded outward, and of nothing where the set is unbounded: a property test holds that
//! no sentence excludes a value that its interval contains.
//!
//! It must not know how intervals were made; the level and the method are printed as given.

mod wording;

use serde::Serialize;
use thiserror::Error;

use crate::quality::Trust;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// More is better.
    Increase,
    /// Less is better.
    Decrease,
}

/// What a metric is for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May win; `zone` is the largest relative change (either way) that counts as none.
    Success {
        /// Half-width of the zone of equivalence, if one was stated beforehand.
        zone: Option<f64>,
    },
    /// Must not be worse than `margin` (relative, positive).
    Guardrail {
        /// Relative margin.
        margin: f64,
    },
}

/// A relative effect: estimate and confidence interval, unbounded ends as `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// Name of the metric.
    pub metric: String,
    /// What it is for.
    pub role: Role,
    /// Which way is good.
    pub desired: Desired,
    /// Relative estimate, if there is one.
    pub estimate: Option<f64>,
    /// Lower end of the interval.
    pub lower: Option<f64>,
    /// Upper end of the interval.
    pub upper: Option<f64>,
    /// Error of the interval.
    pub alpha: f64,
    /// Method that made it.
    pub method: String,
}

/// What an interval says about one metric, the good direction up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Wholly on the good side of zero.
    Better,
    /// Wholly on the bad side of zero.
    Worse,
    /// A guardrail beyond its margin, wholly.
    BeyondMargin,
    /// A guardrail wholly within its margin.
    NonInferior,
    /// A success metric wholly inside its zone.
    WithinZone,
    /// None of these yet.
    Open,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The change may be shipped.
    Ship,
    /// It may not.
    DoNotShip,
    /// More data will tell.
    KeepGoing,
    /// Every success metric is inside its zone.
    NoEffectWithinZone,
    /// The quality gate withholds a verdict.
    Withheld,
}

/// One metric's part in the verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricReading {
    /// The numbers.
    pub evidence: Evidence,
    /// Everything the interval establishes.
    pub findings: Vec<Finding>,
    /// One sentence.
    pub sentence: String,
}

/// The verdict with everything it rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence.
    pub sentence: String,
    /// Metric by metric.
    pub readings: Vec<MetricReading>,
}

/// Why evidence is no evidence.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DecisionError {
    /// There is nothing to win.
    #[error("no success metric; name at least one")]
    NoSuccessMetric,
    /// A margin or zone that is none.
    #[error("metric {metric:?}: margin or zone {value} is not between 0 and 1")]
    Margin {
        /// The metric.
        metric: String,
        /// As given.
        value: f64,
    },
    /// An interval that is none.
    #[error("metric {metric:?}: the interval's ends are not numbers in order")]
    Interval {
        /// The metric.
        metric: String,
    },
}

/// Decides. `is_final` says that no more data will come.
///
/// # Errors
/// When there is no success metric or a number is out of range.
pub fn decide(
    evidence: &[Evidence],
    trust: Trust,
    is_final: bool,
) -> Result<Decision, DecisionError> {
    validate(evidence)?;
    let readings: Vec<MetricReading> = evidence.iter().map(read).collect();
    let verdict = match trust {
        Trust::Untrusted => Verdict::Withheld,
        Trust::TooEarly => Verdict::KeepGoing,
        Trust::Trusted => verdict_of(&readings, is_final),
    };
    let sentence = wording::verdict_sentence(verdict, trust, &readings);
    Ok(Decision {
        verdict,
        sentence,
        readings,
    })
}

fn validate(evidence: &[Evidence]) -> Result<(), DecisionError> {
    for item in evidence {
        let metric = || item.metric.clone();
        let width = match item.role {
            Role::Success { zone } => zone.unwrap_or(0.5),
            Role::Guardrail { margin } => margin,
        };
        if !(width > 0.0 && width < 1.0) {
            return Err(DecisionError::Margin {
                metric: metric(),
                value: width,
            });
        }
        let ends = [item.lower, item.upper];
        let are_numbers = ends.iter().flatten().all(|end| end.is_finite());
        let are_ordered = item
            .lower
            .zip(item.upper)
            .is_none_or(|(lower, upper)| lower <= upper);
        if !(are_numbers && are_ordered) {
            return Err(DecisionError::Interval { metric: metric() });
        }
    }
    if evidence
        .iter()
        .any(|item| matches!(item.role, Role::Success { .. }))
    {
        Ok(())
    } else {
        Err(DecisionError::NoSuccessMetric)
    }
}

fn read(evidence: &Evidence) -> MetricReading {
    let findings = findings(evidence);
    let sentence = wording::metric_sentence(evidence, &findings);
    MetricReading {
        evidence: evidence.clone(),
        findings,
        sentence,
    }
}

/// Ends of the interval with the good direction up, infinities for unbounded ends.
fn oriented(evidence: &Evidence) -> (f64, f64) {
    let lower = evidence.lower.unwrap_or(f64::NEG_INFINITY);
    let upper = evidence.upper.unwrap_or(f64::INFINITY);
    match evidence.desired {
        Desired::Increase => (lower, upper),
        Desired::Decrease => (-upper, -lower),
    }
}

fn findings(evidence: &Evidence) -> Vec<Finding> {
    let (worst, best) = oriented(evidence);
    let mut found = Vec::new();
    let mut note = |holds: bool, finding| {
        if holds {
            found.push(finding);
        }
    };
    note(worst > 0.0, Finding::Better);
    note(best < 0.0, Finding::Worse);
    match evidence.role {
        Role::Guardrail { margin } => {
            note(best < -margin, Finding::BeyondMargin);
            note(worst > -margin, Finding::NonInferior);
        }
        Role::Success { zone: Some(zone) } => {
            note(worst > -zone && best < zone, Finding::WithinZone);
        }
        Role::Success { zone: None } => {}
    }
    if found.is_empty() {
        found.push(Finding::Open);
    }
    found
}

fn verdict_of(readings: &[MetricReading], is_final: bool) -> Verdict {
    let has = |reading: &MetricReading, finding| reading.findings.contains(&finding);
    let is_success =
        |reading: &&MetricReading| matches!(reading.evidence.role, Role::Success { .. });
    let mut success = readings.iter().filter(is_success);
    let any_better = success.clone().any(|reading| has(reading, Finding::Better));
    let any_worse = readings
        .iter()
        .any(|reading| has(reading, Finding::Worse) || has(reading, Finding::BeyondMargin));
    let guardrails_hold = readings
        .iter()
        .filter(|reading| !is_success(reading))
        .all(|reading| has(reading, Finding::NonInferior));
    let all_in_zone = success.all(|reading| has(reading, Finding::WithinZone));
    if any_worse {
        Verdict::DoNotShip
    } else if any_better && guardrails_hold {
        Verdict::Ship
    } else if all_in_zone && !any_better {
        Verdict::NoEffectWithinZone
    } else if is_final {
        Verdict::DoNotShip
    } else {
        Verdict::KeepGoing
    }
}

#[cfg(test)]
mod tests;
