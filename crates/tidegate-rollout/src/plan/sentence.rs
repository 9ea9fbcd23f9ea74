//! One sentence for people, composed from the report's numbers and claiming nothing beyond its intervals.

use super::Action;
use super::advance::Decision;
use super::judge::Judgement;
use crate::evidence::Interval;
use crate::report::{GuardReport, LateReport, Wait};
use crate::spec::{NoDataPolicy, RolloutSpec};
use crate::state::{Lifecycle, RolloutState};
use crate::verdict::Verdict;

pub(super) fn compose(
    spec: &RolloutSpec,
    state: &RolloutState,
    judgement: &Judgement,
    decision: &Decision,
) -> String {
    match decision.actions.first() {
        Some(Action::RollBack { reason, .. }) if !reason.is_empty() => {
            format!("rolling back: {reason}")
        }
        Some(Action::RollBack { .. }) => {
            format!("rolled back: {}", why_rolled_back(spec, judgement))
        }
        Some(Action::SetShare { from_bp, to_bp, .. }) => {
            format!(
                "raising from {from_bp} to {to_bp}: {}",
                what_is_known(judgement)
            )
        }
        Some(Action::Complete { to_bp, .. }) => {
            format!("complete at {to_bp}: {}", what_is_known(judgement))
        }
        _ => held(state, decision),
    }
}

fn why_rolled_back(spec: &RolloutSpec, judgement: &Judgement) -> String {
    let guilty = judgement
        .guards
        .iter()
        .filter(|g| g.is_guilty)
        .max_by(|a, b| a.ln_e.total_cmp(&b.ln_e));
    if let Some(guard) = guilty {
        return harm(guard);
    }
    match spec.no_data {
        NoDataPolicy::RollBack { after_seconds } if judgement.verdict == Verdict::NoData => {
            format!(
                "nothing was measured for {after_seconds} s, as the plan asks; no harm was seen"
            )
        }
        _ => {
            "failed to start: no unit was exposed before the deadline; no harm was seen".to_owned()
        }
    }
}

/// "checkout errors at 3.1x control (95 % CI 2.2-4.4), evidence 1 in 12,000 under no harm, after 41 ..."
fn harm(guard: &GuardReport) -> String {
    let effect = match (guard.effect.estimate, interval_words(guard.effect)) {
        (Some(ratio), Some(words)) => {
            format!("{} at {}x control ({words})", guard.metric, short(ratio))
        }
        (None, Some(words)) => format!("{} differs from control (ratio, {words})", guard.metric),
        (Some(ratio), None) => format!("{} at {}x control", guard.metric, short(ratio)),
        (None, None) => format!("{} is worse than control", guard.metric),
    };
    let rung = guard.remark.as_deref().filter(|r| r.starts_with("at p"));
    let effect = rung.map_or(effect.clone(), |rung| format!("{effect} {rung}"));
    let effect = match guard.late.filter(|late| late.ln_e > guard.ln_e) {
        Some(late) => format!("{effect}, {}", since(late)),
        None => effect,
    };
    format!(
        "{effect}, evidence 1 in {} under no harm, after {} events in {} treatment units against {} in {} of control",
        grouped(guard.ln_e.exp()),
        guard.events.treatment,
        guard.units.treatment,
        guard.events.control,
        guard.units.control,
    )
}

/// "harm that began in the bake, about 2026-01-01T12:00:00Z": only said where the bake's own watch carries
/// the evidence.
fn since(late: LateReport) -> String {
    let instant = late.since_us.map(jiff::Timestamp::from_microsecond);
    match instant {
        Some(Ok(at)) => format!("harm that began in the bake, about {at:.0}"),
        _ => "harm that began in the bake".to_owned(),
    }
}

fn interval_words(interval: Interval) -> Option<String> {
    let percent = (interval.level * 100.0).round();
    match (interval.lower, interval.upper) {
        (Some(low), Some(high)) => Some(format!("{percent} % CI {}-{}", short(low), short(high))),
        (Some(low), None) => Some(format!("{percent} % CI at least {}", short(low))),
        (None, Some(high)) => Some(format!("{percent} % CI at most {}", short(high))),
        (None, None) => None,
    }
}

/// What may be said while going on.
fn what_is_known(judgement: &Judgement) -> String {
    if judgement.guards.is_empty() {
        return "by clock alone, nothing is measured".to_owned();
    }
    if judgement.verdict == Verdict::Safe {
        return "harm beyond margin and tolerance is excluded on every guard".to_owned();
    }
    if judgement.is_unobservable {
        return "no control is left to compare with".to_owned();
    }
    let measured: Vec<String> = judgement
        .guards
        .iter()
        .filter_map(|g| Some(format!("{} {}", g.metric, interval_words(g.effect)?)))
        .collect();
    match measured.is_empty() {
        true => "no harm seen, and too little data to exclude any".to_owned(),
        false => format!("no harm seen; not yet excluded: {}", measured.join(", ")),
    }
}

fn held(state: &RolloutState, decision: &Decision) -> String {
    match &state.lifecycle {
        Lifecycle::RolledBack { reason } => return format!("ended, {reason}"),
        Lifecycle::Completed => return format!("ended, complete at {}", state.share_bp),
        _ => {}
    }
    let waits: Vec<String> = decision.waiting_for.iter().map(Wait::words).collect();
    format!("holding at {}: {}", state.share_bp, waits.join("; "))
}

impl Wait {
    /// What is waited for, in the words of the sentence.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Wait::Start => "not started".to_owned(),
            Wait::Resume { who, why } => format!("paused by {who} ({why})"),
            Wait::Bake {
                baked_seconds,
                min_seconds,
            } => {
                format!("{baked_seconds} of {min_seconds} s under observation")
            }
            Wait::Units { seen, min_units } => format!("{seen} of {min_units} units"),
            Wait::Events {
                seen,
                min_events,
                metric,
            } => {
                format!("{seen} of {min_events} events of {metric}")
            }
            Wait::Approval { stage } => format!("approval of step {}", stage + 1),
            Wait::Data { metric, reason } => format!("no data for {metric} ({reason})"),
            Wait::TrustedMeasurement { reason } => {
                format!("the measurement is not to be trusted ({reason})")
            }
            Wait::Suspicion { metric, ln_e } => {
                format!(
                    "{metric} is suspicious, 1 in {} under no harm",
                    grouped(ln_e.exp())
                )
            }
            Wait::Freeze { reason, .. } => format!("frozen ({reason})"),
            Wait::ForeignEdit { found_bp } => {
                format!("the flag was changed from outside, {found_bp} is served")
            }
            Wait::HarmBudget { spent, budget } => {
                format!(
                    "up to {} of {} excess failures of the harm budget may be spent",
                    short(*spent),
                    short(*budget)
                )
            }
            Wait::Safety => "harm is not yet excluded".to_owned(),
            Wait::Application { to_bp } => format!("the change to {to_bp} is being applied"),
        }
    }
}

/// Two significant digits below ten, whole numbers above.
fn short(x: f64) -> String {
    if x.abs() >= 10.0 {
        return format!("{x:.0}");
    }
    if x.abs() >= 0.1 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

/// Rounded down to two significant digits, thousands grouped: never more than the evidence says.
fn grouped(x: f64) -> String {
    if !(1.0..1e15).contains(&x) {
        return if x >= 1e15 {
            "more than 1,000,000,000,000,000".to_owned()
        } else {
            "1".to_owned()
        };
    }
    let scale = 10_f64.powf((x.log10().floor() - 1.0).max(0.0));
    let digits = format!("{:.0}", (x / scale).floor() * scale);
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_grouped_and_never_rounded_up() {
        let cases = [
            (0.3, "1"),
            (7.9, "7"),
            (99.9, "99"),
            (12_999.0, "12,000"),
            (1.29e9, "1,200,000,000"),
        ];
        for (x, expected) in cases {
            assert_eq!(grouped(x), expected);
        }
    }
}
