//! One guard: from its observation to evidence, effect and verdict.

use crate::evidence::combine::Share;
use crate::evidence::{Interval, IntervalMemo};
use crate::observation::{ArmCounts, GuardObservation, Measured, Phase, SourceStatus};
use crate::report::GuardReport;
use crate::spec::{Guard, RolloutSpec};
use crate::verdict::Verdict;

use super::measured::{self, Reading};

/// `ln e` at which "harm beyond margin and tolerance" counts as excluded: error 1 in 20.
const LN_SAFE: f64 = 2.995_732_273_553_991;

/// A guard's report before the joint decision, with the evidence it contributes to it.
pub(super) struct GuardFinding {
    pub(super) report: GuardReport,
    /// Evidence that may roll back, with its part of alpha.
    pub(super) channels: Vec<Share>,
    /// Strongest `ln e`, weight included, whether or not it may roll back.
    pub(super) held_ln_e: f64,
    /// Whether the source itself is missing, failing or late, traffic aside.
    pub(super) is_silent: bool,
}

/// Judges one guard. `ln_weight` is the logarithm of its part of alpha.
pub(super) fn judge(
    spec: &RolloutSpec,
    guard: &Guard,
    ln_weight: f64,
    (observed, phases, now_us): (Option<&GuardObservation>, &[Phase], i64),
    memo: &mut IntervalMemo,
) -> GuardFinding {
    let units = ArmCounts::sum(phases.iter().map(|p| &p.units));
    let ln_threshold = -spec.alpha.ln() - ln_weight;
    let blank = |verdict, basis: &str, remark: String| GuardFinding {
        report: GuardReport {
            metric: guard.metric.clone(),
            verdict,
            is_guilty: false,
            effect: Interval {
                estimate: None,
                lower: None,
                upper: None,
                level: measured::LEVEL,
            },
            ln_e: 0.0,
            ln_threshold,
            ln_e_safe: 0.0,
            events: ArmCounts::default(),
            units,
            age_us: observed.map(|o| now_us.saturating_sub(o.as_of_us)),
            basis: basis.to_owned(),
            remark: Some(remark),
            late: None,
        },
        channels: Vec::new(),
        held_ln_e: f64::NEG_INFINITY,
        is_silent: observed.is_none_or(|o| is_silent(spec, o, now_us)),
    };
    let Some(observed) = observed else {
        return blank(
            Verdict::NoData,
            "nothing measured",
            "no source reports this metric".to_owned(),
        );
    };
    let basis = basis(&observed.measured);
    match measured::read(spec, guard, ln_weight, (&observed.measured, phases), memo) {
        Err(reason) => blank(Verdict::Invalid, basis, reason),
        Ok(reading) => {
            let (verdict, remark) = verdict(spec, observed, &reading, units, now_us);
            let mut finding = blank(verdict, basis, String::new());
            finding.report.remark = remark;
            finding.report.effect = reading.effect;
            finding.report.ln_e = reading.strongest_ln_e() - ln_weight;
            finding.report.ln_e_safe = reading.ln_e_safe;
            finding.report.events = reading.events;
            finding.report.units = reading.units.unwrap_or(units);
            finding.report.late = reading.late;
            finding.held_ln_e = reading.strongest_ln_e();
            if reading.may_roll_back {
                finding.channels = reading.channels;
            }
            finding
        }
    }
}

fn is_silent(spec: &RolloutSpec, observed: &GuardObservation, now_us: i64) -> bool {
    matches!(observed.source, SourceStatus::Failed { .. })
        || now_us.saturating_sub(observed.as_of_us) > spec.staleness_us()
}

/// The guard's own verdict, harm aside: that is a joint decision.
fn verdict(
    spec: &RolloutSpec,
    observed: &GuardObservation,
    reading: &Reading,
    units: ArmCounts,
    now_us: i64,
) -> (Verdict, Option<String>) {
    match &observed.source {
        SourceStatus::Failed { query, response } => {
            let remark = format!("the source failed: asked {query:?}, got {response:?}");
            return (Verdict::NoData, Some(remark));
        }
        SourceStatus::Untrustworthy { reason } => {
            return (Verdict::Invalid, Some(reason.clone()));
        }
        SourceStatus::Ok => {}
    }
    let age_us = now_us.saturating_sub(observed.as_of_us);
    if age_us > spec.staleness_us() {
        let seconds = age_us / 1_000_000;
        return (
            Verdict::NoData,
            Some(format!("the newest data is {seconds} s old")),
        );
    }
    let seen = reading.units.unwrap_or(units);
    if seen.treatment == 0 || seen.control == 0 {
        let arm = if seen.treatment == 0 {
            "treatment"
        } else {
            "control"
        };
        return (Verdict::NoData, Some(format!("no unit in the {arm} yet")));
    }
    if reading.events.total() == 0 && !observed.proven {
        let remark = "has never moved: no failure may mean health or a broken wire".to_owned();
        return (Verdict::NoData, Some(remark));
    }
    if reading.ln_e_safe >= LN_SAFE {
        return (Verdict::Safe, None);
    }
    let dropped = (observed.dropped_samples > 0).then(|| {
        format!(
            "{} samples were dropped as impossible",
            observed.dropped_samples
        )
    });
    (Verdict::Undecided, reading.remark.clone().or(dropped))
}

fn basis(measured: &Measured) -> &'static str {
    match measured {
        Measured::FirstEvents { .. } => "first event of each unit, exact",
        Measured::LatencyLadder { .. } => "slow units at frozen stable quantiles, exact",
        Measured::Moments { .. } => "means per arm, asymptotic",
        Measured::Values { .. } => "clipped value of each unit, exact",
        Measured::Aggregated { .. } => "aggregated counters, presumes independent requests",
        Measured::AggregatedLadder { .. } => {
            "aggregated histogram at frozen thresholds, presumes independent requests"
        }
    }
}
