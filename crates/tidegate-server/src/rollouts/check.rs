//! Before the start: are the guards proven, and how soon would they see harm?
//!
//! Facts are gathered here ([`super::vitals`], [`super::shadow`], the flag) and judged by
//! [`tidegate_rollout::check_start`], which is pure. What must not start is refused with every
//! reason at once; a person may start all the same by saying that the guards are unproven, and why,
//! which is then in the rollout's log.

use serde::Serialize;
use tidegate_flags::{CompileOptions, FlagSetSource, FlagSpec, Segments, Warning, compile};
use tidegate_rollout::forecast::{Forecast, forecast};
use tidegate_rollout::{Finding, MetricFacts, RolloutSpec, Severity, StartFacts, check_start};

use super::sources::Proof;
use super::{GuardSource, shadow};
use crate::app::{App, AppError, Violation};

/// What a start rests on.
#[derive(Debug, Clone, Serialize)]
pub struct StartCheck {
    /// Whether the rollout may start as it is.
    pub may_start: bool,
    /// What was found, in the order of the policy.
    pub findings: Vec<Finding>,
    /// What is known of each guard.
    pub guards: Vec<GuardCheck>,
}

/// What is known of one guard before the start.
#[derive(Debug, Clone, Serialize)]
pub struct GuardCheck {
    /// Its metric.
    pub metric: String,
    /// When the metric was last reported, microseconds since the epoch.
    pub last_reported_us: Option<i64>,
    /// Whether it fired under an injected fault in shadow; `null` where that cannot be played.
    pub fired_on_injected_fault: Option<bool>,
    /// How soon it would see harm, from the traffic of the last hours; `null` while too little came.
    pub forecast: Option<Forecast>,
}

/// Proves the guards of a policy; `flag` is the flag as it would be with the rollout's rule.
pub(super) fn prove(
    app: &App,
    (project, key): (&str, &str),
    (policy, flag): (&RolloutSpec, &FlagSpec),
    sources: &[Proof],
) -> StartCheck {
    let now_us = app.clock.now_us();
    let noted = app.rollouts.vitals.of(project);
    let check = |(index, guard): (usize, &tidegate_rollout::Guard)| {
        let source = GuardSource::of(&guard.metric).filter(is_own)?;
        let pulse = noted.pulse(&source, &policy.flag);
        Some(GuardCheck {
            metric: guard.metric.clone(),
            last_reported_us: pulse.last_us,
            fired_on_injected_fault: Some(shadow::fires(policy, (key, flag), index, now_us)),
            forecast: pulse
                .traffic
                .map(|traffic| forecast(policy, guard, traffic)),
        })
    };
    let own: Vec<GuardCheck> = policy.guards.iter().enumerate().filter_map(check).collect();
    let fact = |guard: &GuardCheck| MetricFacts {
        metric: guard.metric.clone(),
        last_moved_us: guard.last_reported_us,
        moved_under_synthetic_load: false,
        fired_on_injected_fault: guard.fired_on_injected_fault,
    };
    let reported = noted.metrics().map(|metric| MetricFacts {
        metric,
        last_moved_us: None,
        moved_under_synthetic_load: false,
        fired_on_injected_fault: None,
    });
    // What others measure is proven by asking them, which was done: see [`super::sources`].
    let foreign = policy.guards.iter().map(|guard| &guard.metric);
    let foreign = foreign.filter(|metric| !GuardSource::of(metric).as_ref().is_some_and(is_own));
    let foreign = foreign.map(|metric| MetricFacts {
        metric: metric.clone(),
        last_moved_us: Some(now_us),
        moved_under_synthetic_load: false,
        fired_on_injected_fault: None,
    });
    let units = noted.units_with(&policy.flag, now_us);
    // A name that never came is unknown, so that a near one can be suggested.
    let known: Vec<MetricFacts> = reported.collect();
    let is_known = |guard: &&GuardCheck| known.iter().any(|fact| fact.metric == guard.metric);
    let facts = StartFacts {
        metrics: own
            .iter()
            .filter(is_known)
            .map(fact)
            .chain(known.iter().cloned())
            .chain(foreign)
            .collect(),
        variants: flag.variants.iter().map(|(name, _)| name.clone()).collect(),
        audience_units_last_day: Some(units),
    };
    let mut findings = check_start(policy, &facts, now_us);
    findings.extend(shadowed(&policy.flag, flag).into_iter().map(shadow_finding));
    findings.extend(sources.iter().filter_map(|proof| of_source(proof, policy)));
    let mut guards = own;
    guards.extend(sources.iter().filter_map(|proof| {
        let guard = policy.guards.get(proof.index)?;
        let answered = proof.refusal.is_none();
        Some(GuardCheck {
            metric: guard.metric.clone(),
            last_reported_us: answered.then_some(now_us),
            fired_on_injected_fault: proof.fired,
            forecast: proof
                .traffic
                .map(|traffic| forecast(policy, guard, traffic)),
        })
    }));
    let refuses = |finding: &Finding| finding.severity == Severity::Refuse;
    StartCheck {
        may_start: !findings.iter().any(refuses),
        findings,
        guards,
    }
}

/// What there is to say of a guard on a source.
fn of_source(proof: &Proof, policy: &RolloutSpec) -> Option<Finding> {
    let guard = policy.guards.get(proof.index)?;
    let finding = |severity, reason| Finding {
        severity,
        pointer: format!("/guards/{}/metric", proof.index),
        reason,
    };
    let metric = &guard.metric;
    if let Some((_, message)) = &proof.refusal {
        return Some(finding(Severity::Refuse, message.clone()));
    }
    if proof.fired == Some(false) {
        let reason = format!(
            "{metric:?} did not fire under an injected fault: look at its direction and margin"
        );
        return Some(finding(Severity::Refuse, reason));
    }
    (!proof.may_roll_back).then(|| {
        let reason = format!(
            "{metric:?} may hold and not roll back: its source has not passed a self-test; \
             run tidegate source self-test"
        );
        finding(Severity::Warn, reason)
    })
}

/// What of a flag is never reached, as the compiler says: behind a rollout's rule for everybody,
/// the flag's own targeting decides nothing any more.
pub(crate) fn shadowed(key: &str, flag: &FlagSpec) -> Vec<Warning> {
    let set = FlagSetSource {
        flags: vec![(key.to_owned(), Ok(flag.clone()))],
        ..FlagSetSource::default()
    };
    let (_, mut warnings) = compile(&set, &Segments::default(), &CompileOptions::default());
    warnings.retain(|warning| warning.code.starts_with("unreachable"));
    warnings
}

fn shadow_finding(warning: Warning) -> Finding {
    Finding {
        severity: Severity::Warn,
        pointer: "/flag".to_owned(),
        reason: format!("{} of the flag: {}", warning.pointer, warning.message),
    }
}

/// Whether our own events are what a guard counts.
const fn is_own(source: &GuardSource) -> bool {
    !matches!(source, GuardSource::Source(_))
}

/// Refuses what must not start, with every reason at once.
///
/// # Errors
/// `Invalid`, one violation a finding.
pub(super) fn insist(check: &StartCheck) -> Result<(), AppError> {
    let refused = |finding: &&Finding| finding.severity == Severity::Refuse;
    let violations: Vec<Violation> = check
        .findings
        .iter()
        .filter(refused)
        .map(|finding| {
            Violation::at(
                finding.pointer.clone(),
                "not-proven",
                finding.reason.clone(),
            )
        })
        .collect();
    if violations.is_empty() {
        Ok(())
    } else {
        Err(AppError::Invalid(violations))
    }
}
