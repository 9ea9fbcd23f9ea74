//! From observations to a verdict per guard and for the rollout: numbers only, no decisions.

mod guard;
mod measured;

use crate::basis_points::BasisPoints;
use crate::evidence::combine::{self, Combination};
use crate::evidence::{IntervalMemo, Shares, sample_ratio};
use crate::observation::{ArmCounts, GuardObservation, Observations, Phase};
use crate::report::{GuardReport, JointEvidence, SampleRatioReport};
use crate::spec::RolloutSpec;
use crate::state::RolloutState;
use crate::verdict::Verdict;

use guard::GuardFinding;

/// Part of units seen in both arms above which nothing can be compared.
const MAX_MULTIPLE_EXPOSURE: f64 = 0.01;

/// What the observations say.
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) evidence: JointEvidence,
    pub(super) guards: Vec<GuardReport>,
    pub(super) sample_ratio: SampleRatioReport,
    pub(super) notes: Vec<String>,
    /// Guards whose evidence calls for a hold, not yet for a rollback.
    pub(super) suspects: Vec<usize>,
    /// True when the present shares leave no control by design, so that nothing can be compared.
    pub(super) is_unobservable: bool,
    /// Whether a guard's source is missing, failing or late: then not even the first stage is entered.
    pub(super) has_silent_source: bool,
    /// Why the measurement as a whole is not to be trusted.
    pub(super) untrusted: Option<String>,
    /// Why nothing can be compared just now although the sources answer.
    pub(super) no_traffic: Option<String>,
}

pub(super) fn shares(phase: &Phase) -> Shares {
    Shares {
        treatment_bp: phase.treatment_bp,
        control_bp: phase.control_bp,
    }
}

/// Judges the observations of one rollout.
pub(super) fn judge(
    spec: &RolloutSpec,
    state: &RolloutState,
    observations: &Observations,
    now_us: i64,
    memo: &mut IntervalMemo,
) -> Judgement {
    memo.begin();
    let total_weight: f64 = spec.guards.iter().map(|g| g.weight).sum();
    let findings: Vec<GuardFinding> = spec
        .guards
        .iter()
        .map(|g| {
            let observed = observations.guards.iter().find(|o| o.metric == g.metric);
            let ln_weight = (g.weight / total_weight).ln();
            let seen = (observed, observations.phases.as_slice(), now_us);
            guard::judge(spec, g, ln_weight, seen, memo)
        })
        .collect();
    let combination = if observations.counts_units_once_over_all_guards {
        Combination::Average
    } else {
        Combination::Union
    };
    let channels: Vec<combine::Share> = findings
        .iter()
        .flat_map(|f| f.channels.iter().copied())
        .collect();
    let joint = combine::combine(&channels, spec.alpha, combination);
    let sample_ratio = judge_sample_ratio(spec, observations);
    let evidence = JointEvidence {
        combination,
        ln_e: (!channels.is_empty()).then_some(joint.ln_e),
        ln_threshold: -spec.alpha.ln(),
    };
    let mut judgement = Judgement {
        verdict: Verdict::Safe,
        evidence,
        guards: Vec::new(),
        sample_ratio,
        notes: notes(spec, observations),
        suspects: Vec::new(),
        is_unobservable: is_unobservable(spec, observations),
        has_silent_source: findings.iter().any(|f| f.is_silent),
        untrusted: untrusted(observations),
        no_traffic: no_traffic(spec, state, observations, now_us),
    };
    let mut guilty = joint.guilty.into_iter();
    for (index, finding) in findings.into_iter().enumerate() {
        let is_guilty = finding
            .channels
            .iter()
            .fold(false, |any, _| guilty.next() == Some(true) || any);
        judgement.admit(index, finding, is_guilty, spec.alpha);
    }
    judgement.conclude(spec);
    judgement
}

impl Judgement {
    fn admit(&mut self, index: usize, finding: GuardFinding, is_guilty: bool, alpha: f64) {
        let mut report = finding.report;
        report.is_guilty = is_guilty;
        if is_guilty {
            report.verdict = Verdict::Harmed;
        }
        if finding.held_ln_e >= super::gates::suspicion_threshold(alpha) {
            self.suspects.push(index);
        }
        if self.is_unobservable && report.verdict == Verdict::NoData {
            report.verdict = Verdict::Undecided;
        }
        self.guards.push(report);
    }

    fn conclude(&mut self, spec: &RolloutSpec) {
        if spec.guards.is_empty() {
            self.verdict = Verdict::Undecided;
        }
        self.verdict = self
            .guards
            .iter()
            .fold(self.verdict, |v, g| v.worst(g.verdict));
        if self.untrusted.is_some() || self.sample_ratio.verdict == Verdict::Invalid {
            self.verdict = self.verdict.worst(Verdict::Invalid);
        }
        if self.no_traffic.is_some() {
            self.verdict = self.verdict.worst(Verdict::NoData);
        }
        if self.is_unobservable {
            self.verdict = self.verdict.worst(Verdict::Undecided);
        }
    }
}

/// At 100 % without holdback no control is left; that is the plan's own doing, not a fault.
fn is_unobservable(spec: &RolloutSpec, observations: &Observations) -> bool {
    !spec.blind
        && observations.phases.last().is_some_and(|p| {
            p.treatment_bp == BasisPoints::ALL && p.control_bp == BasisPoints::ZERO
        })
}

/// Phases of the stage in force: the last ones with the share the log confirms.
pub(super) fn current_phases<'a>(
    state: &RolloutState,
    observations: &'a Observations,
) -> impl Iterator<Item = (usize, &'a Phase)> {
    let share = state.share_bp;
    observations
        .phases
        .iter()
        .enumerate()
        .rev()
        .take_while(move |(_, phase)| phase.treatment_bp == share)
}

/// Silence is not health: without units in both arms of the present stage nothing is known.
fn no_traffic(
    spec: &RolloutSpec,
    state: &RolloutState,
    observations: &Observations,
    now_us: i64,
) -> Option<String> {
    if spec.blind || state.share_bp == BasisPoints::ZERO || is_unobservable(spec, observations) {
        return None;
    }
    let seen = ArmCounts::sum(current_phases(state, observations).map(|(_, p)| &p.exposed));
    if seen.treatment == 0 || seen.control == 0 {
        let arm = if seen.treatment == 0 {
            "treatment"
        } else {
            "control"
        };
        return Some(format!(
            "no unit has been seen in the {arm} at {} yet",
            state.share_bp
        ));
    }
    let age_us = now_us.saturating_sub(observations.last_unit_us?);
    (age_us > spec.staleness_us())
        .then(|| format!("no unit has been seen for {} s", age_us / 1_000_000))
}

fn untrusted(observations: &Observations) -> Option<String> {
    let units = ArmCounts::sum(observations.phases.iter().map(|p| &p.units)).total();
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of units are far below 2^52"
    )]
    let (both, all) = (observations.multiply_exposed_units as f64, units as f64);
    if both > 0.0 && both > MAX_MULTIPLE_EXPOSURE * all {
        return Some(format!("{both} of {all} units were seen in both arms"));
    }
    let out_of_order = observations
        .phases
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.started_us > b.started_us));
    let oversized = observations
        .phases
        .iter()
        .any(|p| u32::from(p.treatment_bp.get()) + u32::from(p.control_bp.get()) > 10_000);
    (out_of_order || oversized).then(|| "phases contradict each other".to_owned())
}

fn judge_sample_ratio(spec: &RolloutSpec, observations: &Observations) -> SampleRatioReport {
    let phases = observations.phases.iter().map(|p| (shares(p), p.units));
    let ln_e = sample_ratio::ln_e_value(phases.clone());
    let ln_threshold = -spec.srm_alpha.ln();
    let informative = phases.filter(|(s, _)| s.is_informative());
    let (units, expected_treatment) = informative.fold(
        (ArmCounts::default(), 0.0),
        |(sum, expected), (s, units)| {
            #[expect(
                clippy::cast_precision_loss,
                reason = "counts of units are far below 2^52"
            )]
            let total = units.total() as f64;
            (
                ArmCounts::sum([&sum, &units]),
                expected + total * s.treatment_probability(1.0),
            )
        },
    );
    let verdict = if ln_e >= ln_threshold {
        Verdict::Invalid
    } else {
        Verdict::Undecided
    };
    SampleRatioReport {
        verdict,
        ln_e,
        ln_threshold,
        units,
        expected_treatment,
    }
}

fn notes(spec: &RolloutSpec, observations: &Observations) -> Vec<String> {
    let mut notes = Vec::new();
    if spec.blind {
        notes.push("blind: ramps by clock alone, nothing is measured".to_owned());
    }
    if is_unobservable(spec, observations) {
        notes.push(
            "everyone has the treatment: there is no control to compare with, late regressions \
             cannot be seen"
                .to_owned(),
        );
    }
    let unknown: Vec<&str> = observations
        .guards
        .iter()
        .filter(|o: &&GuardObservation| spec.guards.iter().all(|g| g.metric != o.metric))
        .map(|o| o.metric.as_str())
        .collect();
    if !unknown.is_empty() {
        notes.push(format!("measured but not guarded: {}", unknown.join(", ")));
    }
    notes
}
