//! Evidence and effect from each form of measurement; refuses counts that contradict each other.

use crate::evidence::combine::Share;
use crate::evidence::odds::{self, Outcomes, shifted_probability};
use crate::evidence::{
    Interval, IntervalMemo, NumericEvidence, RatioPrior, Shares, blocks, first_events, late,
    moments,
};
use crate::observation::{AggregatedRung, ArmCounts, ArmMoments, Block, Measured, Phase, Rung};
use crate::report::LateReport;
use crate::spec::{Direction, Guard, RolloutSpec};

/// Coverage of reported intervals.
pub(super) const LEVEL: f64 = 0.95;
/// Above this stable probability of being slow, fast requests carry information worth counting.
const COMMON: f64 = 0.05;

/// What a measurement says.
pub(super) struct Reading {
    pub(super) channels: Vec<Share>,
    pub(super) effect: Interval,
    pub(super) ln_e_safe: f64,
    pub(super) events: ArmCounts,
    /// Units of this measurement, where they are not those of the phases.
    pub(super) units: Option<ArmCounts>,
    pub(super) may_roll_back: bool,
    pub(super) remark: Option<String>,
    pub(super) late: Option<LateReport>,
}

impl Reading {
    /// Strongest `ln e` with its weight.
    pub(super) fn strongest_ln_e(&self) -> f64 {
        self.channels
            .iter()
            .map(|c| c.ln_e + c.ln_weight)
            .fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Reads one measurement; an error says why it cannot be true.
pub(super) fn read(
    spec: &RolloutSpec,
    guard: &Guard,
    ln_weight: f64,
    (measured, phases): (&Measured, &[Phase]),
    memo: &mut IntervalMemo,
) -> Result<Reading, String> {
    match measured {
        Measured::FirstEvents { phases: counts } => {
            let pairs = pair(phases, counts)?;
            refuse_more_events_than_units(phases, counts)?;
            let bake = Bake::of(spec, phases);
            Ok(read_events(guard, ln_weight, (&pairs, bake), memo))
        }
        Measured::LatencyLadder { rungs } => {
            read_ladder((spec, guard), ln_weight, (rungs, phases), memo)
        }
        Measured::Moments { phases: arms } => {
            refuse_impossible_moments(arms)?;
            Ok(read_moments(spec, guard, ln_weight, arms))
        }
        Measured::Values {
            phases: arms,
            evidence,
        } => {
            refuse_impossible_moments(arms)?;
            read_values(spec, guard, ln_weight, arms, evidence)
        }
        Measured::Aggregated {
            blocks,
            self_test_passed,
        } => read_blocks(guard, ln_weight, blocks, *self_test_passed),
        Measured::AggregatedLadder {
            rungs,
            self_test_passed,
        } => read_block_ladder(guard, ln_weight, rungs, *self_test_passed),
    }
}

fn prior(direction: Direction) -> RatioPrior {
    match direction {
        Direction::Increase => RatioPrior::increase(),
        Direction::Decrease => RatioPrior::decrease(),
    }
}

fn pair(phases: &[Phase], counts: &[ArmCounts]) -> Result<Vec<(Shares, ArmCounts)>, String> {
    if phases.len() != counts.len() {
        return Err(format!(
            "{} counts for {} phases",
            counts.len(),
            phases.len()
        ));
    }
    Ok(phases
        .iter()
        .map(super::shares)
        .zip(counts.iter().copied())
        .collect())
}

/// A unit's first event needs the unit to have been seen in that arm.
fn refuse_more_events_than_units(phases: &[Phase], counts: &[ArmCounts]) -> Result<(), String> {
    let units = ArmCounts::sum(phases.iter().map(|p| &p.exposed));
    let events = ArmCounts::sum(counts);
    for (arm, events, units) in [
        ("treatment", events.treatment, units.treatment),
        ("control", events.control, units.control),
    ] {
        if events > units {
            return Err(format!(
                "{events} {arm} units with an event, but only {units} seen"
            ));
        }
    }
    Ok(())
}

fn read_events(
    guard: &Guard,
    ln_weight: f64,
    (pairs, bake): (&[(Shares, ArmCounts)], Option<Bake<'_>>),
    memo: &mut IntervalMemo,
) -> Reading {
    let (ln_e, late) = evidence(guard, &prior(guard.direction), (pairs, bake));
    Reading {
        channels: vec![Share { ln_e, ln_weight }],
        late,
        effect: memo.ratio_interval(pairs, LEVEL),
        ln_e_safe: ln_e_safe(guard.direction, pairs, guard.excluded_ratio()),
        events: ArmCounts::sum(pairs.iter().map(|(_, counts)| counts)),
        units: None,
        may_roll_back: true,
        remark: None,
    }
}

/// What was counted, phase by phase.
type Counted = Vec<(Shares, ArmCounts)>;

/// Which phases are periods of a bake.
///
/// A policy with a bake is judged by one and the same statistic from its first event to its last, the bake
/// begun or not: capital that came in only with the bake would be capital for nothing, and the whole would
/// spend more than alpha. For the same reason every phase with the share of the bake is a period of it, one
/// before somebody else's edit too.
#[derive(Debug, Clone, Copy)]
struct Bake<'p> {
    spec: &'p RolloutSpec,
    phases: &'p [Phase],
    period_us: i64,
}

impl<'p> Bake<'p> {
    /// None of a policy without a bake.
    fn of(spec: &'p RolloutSpec, phases: &'p [Phase]) -> Option<Self> {
        Some(Self {
            spec,
            phases,
            period_us: spec.bake_period_us()?,
        })
    }

    fn is_period(&self, phase: &Phase) -> bool {
        self.spec.bakes_at(phase.treatment_bp)
    }

    /// What was counted outside the bake, and in each of its periods.
    fn split(&self, pairs: &[(Shares, ArmCounts)]) -> (Counted, Counted) {
        let (periods, others): (Vec<_>, Vec<_>) = pairs
            .iter()
            .zip(self.phases)
            .partition(|(_, phase)| self.is_period(phase));
        let counts = |part: Vec<(&(Shares, ArmCounts), &Phase)>| {
            part.into_iter().map(|(pair, _)| *pair).collect()
        };
        (counts(others), counts(periods))
    }

    fn report(
        &self,
        guard: &Guard,
        grid: &RatioPrior,
        periods: &[(Shares, ArmCounts)],
    ) -> LateReport {
        let null = guard.harmless_ratio();
        let began = self.phases.iter().find(|phase| self.is_period(phase));
        let strongest = late::strongest_start(periods, null, grid);
        let after_us = |(phase, start): (&Phase, usize)| {
            let start = i64::try_from(start).unwrap_or_default();
            phase
                .started_us
                .saturating_add(start.saturating_mul(self.period_us))
        };
        LateReport {
            ln_e: late::ln_e_value(periods, null, grid),
            periods: periods.len(),
            since_us: began.zip(strongest).map(after_us),
        }
    }
}

/// Evidence of first events: from the start, and of a policy with a bake also from within it. The evidence
/// from the start takes the bake for one phase, so that its periods cost it no capital. Nothing is told of a
/// bake that has not begun.
fn evidence(
    guard: &Guard,
    grid: &RatioPrior,
    (pairs, bake): (&[(Shares, ArmCounts)], Option<Bake<'_>>),
) -> (f64, Option<LateReport>) {
    let from_start = |pairs: &[(Shares, ArmCounts)]| {
        first_events::ln_e_value(pairs.iter().copied(), guard.harmless_ratio(), grid)
    };
    let Some(bake) = bake else {
        return (from_start(pairs), None);
    };
    let (mut merged, periods) = bake.split(pairs);
    if let Some((shares, _)) = periods.first() {
        merged.push((*shares, ArmCounts::sum(periods.iter().map(|(_, c)| c))));
    }
    let report = bake.report(guard, grid, &periods);
    let ln_e = late::combined(from_start(&merged), report.ln_e);
    (ln_e, (!periods.is_empty()).then_some(report))
}

/// Evidence against harm of `excluded` or worse: bets on no change, a little harm and a little help.
fn ln_e_safe(direction: Direction, pairs: &[(Shares, ArmCounts)], excluded: f64) -> f64 {
    let slight = excluded.powf(0.3);
    let bets = [(1.0, 0.6), (slight, 0.2), (1.0 / slight, 0.2)];
    let relative = bets.map(|(ratio, weight)| (ratio / excluded, weight));
    debug_assert!(
        relative
            .iter()
            .all(|(r, _)| (*r < 1.0) == (direction == Direction::Increase)),
        "bets lie on the harmless side of what is excluded"
    );
    first_events::ln_e_value(
        pairs.iter().copied(),
        excluded,
        &RatioPrior::from_weighted(&relative),
    )
}

fn read_ladder(
    (spec, guard): (&RolloutSpec, &Guard),
    ln_weight: f64,
    (rungs, phases): (&[Rung], &[Phase]),
    memo: &mut IntervalMemo,
) -> Result<Reading, String> {
    if rungs.is_empty() {
        return Err("a latency ladder without rungs".to_owned());
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of rungs")]
    let rung_weight = ln_weight - (rungs.len() as f64).ln();
    let mut best: Option<(f64, Reading, String)> = None;
    let mut channels = Vec::with_capacity(rungs.len());
    let mut ln_e_safe = f64::INFINITY;
    for rung in rungs {
        let reading = read_rung((spec, guard), rung_weight, (rung, phases), memo)?;
        let strongest = reading.strongest_ln_e();
        ln_e_safe = ln_e_safe.min(reading.ln_e_safe);
        channels.extend(reading.channels.iter().copied());
        if best.as_ref().is_none_or(|(ln_e, _, _)| strongest > *ln_e) {
            let name = format!(
                "at p{} ({} ms)",
                trim(rung.quantile * 100.0),
                trim(rung.threshold_ms)
            );
            best = Some((strongest, reading, name));
        }
    }
    best.map(|(_, reading, name)| Reading {
        channels,
        ln_e_safe,
        remark: Some(name),
        ..reading
    })
    .ok_or_else(|| "a latency ladder without rungs".to_owned())
}

/// A number with at most three decimals and no trailing zeros.
fn trim(x: f64) -> f64 {
    (x * 1_000.0).round() / 1_000.0
}

fn read_rung(
    (spec, guard): (&RolloutSpec, &Guard),
    ln_weight: f64,
    (rung, phases): (&Rung, &[Phase]),
    memo: &mut IntervalMemo,
) -> Result<Reading, String> {
    let stable = 1.0 - rung.quantile;
    if !(1e-9..1.0).contains(&stable) || !rung.threshold_ms.is_finite() {
        return Err(format!(
            "a rung at quantile {} is impossible",
            rung.quantile
        ));
    }
    if guard.direction == Direction::Decrease {
        return Err("a latency ladder guards against an increase only".to_owned());
    }
    let slow = pair(phases, &rung.slow)?;
    refuse_more_events_than_units(phases, &rung.slow)?;
    let grid = prior(guard.direction).capped(1.0 / stable);
    let with_fast = rung
        .first_requests
        .as_ref()
        .filter(|_| stable >= COMMON && guard.margin == 0.0);
    let (ln_e, late) = match with_fast {
        // Fast requests are evidence too; harm that begins late is looked for among slow ones only.
        Some(all) => {
            let outcomes = outcomes(phases, &rung.slow, all)?;
            let grid = prior(guard.direction);
            (odds::ln_e_value(outcomes.into_iter(), stable, &grid), None)
        }
        None => evidence(guard, &grid, (&slow, Bake::of(spec, phases))),
    };
    // A doubling of the odds is the doubling of a rate that cannot pass one.
    let excluded = shifted_probability(stable, guard.excluded_ratio()) / stable;
    Ok(Reading {
        channels: vec![Share { ln_e, ln_weight }],
        effect: memo.ratio_interval(&slow, LEVEL),
        ln_e_safe: ln_e_safe(guard.direction, &slow, excluded),
        events: ArmCounts::sum(&rung.slow),
        units: rung.first_requests.as_ref().map(ArmCounts::sum),
        may_roll_back: true,
        remark: None,
        late,
    })
}

fn outcomes(
    phases: &[Phase],
    slow: &[ArmCounts],
    all: &[ArmCounts],
) -> Result<Vec<(Shares, Outcomes)>, String> {
    let all = pair(phases, all)?;
    all.into_iter()
        .zip(slow)
        .map(|((shares, all), slow)| {
            let without = |all: u64, slow: u64| {
                all.checked_sub(slow)
                    .ok_or_else(|| format!("{slow} slow of {all} first requests"))
            };
            let without_event = ArmCounts {
                treatment: without(all.treatment, slow.treatment)?,
                control: without(all.control, slow.control)?,
            };
            Ok((
                shares,
                Outcomes {
                    with_event: *slow,
                    without_event,
                },
            ))
        })
        .collect()
}

fn refuse_impossible_moments(phases: &[ArmMoments]) -> Result<(), String> {
    let arms = || phases.iter().flat_map(|p| [&p.treatment, &p.control]);
    let sane = arms()
        .all(|m| m.mean.is_finite() && m.sum_of_squares.is_finite() && m.sum_of_squares >= 0.0);
    if !sane {
        return Err("a mean or variance is not a number".to_owned());
    }
    let counted = |arm: fn(&ArmMoments) -> u64| phases.iter().map(arm).sum::<u64>();
    let constant = arms().all(|m| m.sum_of_squares == 0.0);
    let (treatment, control) = (counted(|p| p.treatment.count), counted(|p| p.control.count));
    if constant && treatment >= moments::MIN_UNITS && control >= moments::MIN_UNITS {
        return Err("every unit has the same value: the metric is mis-wired".to_owned());
    }
    Ok(())
}

fn moment_units(phases: &[ArmMoments]) -> ArmCounts {
    phases
        .iter()
        .fold(ArmCounts::default(), |sum, p| ArmCounts {
            treatment: sum.treatment.saturating_add(p.treatment.count),
            control: sum.control.saturating_add(p.control.count),
        })
}

fn read_moments(spec: &RolloutSpec, guard: &Guard, ln_weight: f64, arms: &[ArmMoments]) -> Reading {
    let alpha = spec.alpha * ln_weight.exp();
    let ln_e = moments::ln_e_value(arms, guard.direction, guard.harmless_ratio(), alpha);
    let units = moment_units(arms);
    Reading {
        channels: vec![Share {
            ln_e: ln_e.unwrap_or(0.0),
            ln_weight,
        }],
        effect: moments::ratio_interval(arms, LEVEL),
        ln_e_safe: moments::ln_e_value(
            arms,
            opposite(guard.direction),
            guard.excluded_ratio(),
            0.05,
        )
        .unwrap_or(0.0),
        events: units,
        units: Some(units),
        may_roll_back: true,
        remark: ln_e.is_none().then(|| {
            format!(
                "asymptotic evidence counts from {} units in each arm",
                moments::MIN_UNITS
            )
        }),
        late: None,
    }
}

const fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Increase => Direction::Decrease,
        Direction::Decrease => Direction::Increase,
    }
}

fn read_values(
    spec: &RolloutSpec,
    guard: &Guard,
    ln_weight: f64,
    arms: &[ArmMoments],
    evidence: &NumericEvidence,
) -> Result<Reading, String> {
    if !evidence.is_well_formed() {
        return Err("the stored fold of values is damaged".to_owned());
    }
    let mut reading = read_moments(spec, guard, ln_weight, arms);
    reading.channels = vec![Share {
        ln_e: evidence.ln_e(),
        ln_weight,
    }];
    reading.remark = Some(format!("values clipped at {}", trim(evidence.frame.cap)));
    Ok(reading)
}

fn read_blocks(
    guard: &Guard,
    ln_weight: f64,
    history: &[Block],
    self_test_passed: bool,
) -> Result<Reading, String> {
    let impossible = |b: &&Block| {
        b.failures.treatment > b.requests.treatment || b.failures.control > b.requests.control
    };
    if history.iter().any(|b| impossible(&b)) {
        return Err("more failures than requests".to_owned());
    }
    let ln_e = blocks::ln_e_value(history, guard.harmless_ratio(), &prior(guard.direction));
    let excluded = guard.excluded_ratio();
    let safe = RatioPrior::from_weighted(&[(1.0 / excluded, 1.0)]);
    let remark = if self_test_passed {
        None
    } else {
        Some("may hold, not roll back: no A/A self-test has passed".to_owned())
    };
    Ok(Reading {
        channels: vec![Share { ln_e, ln_weight }],
        effect: block_interval(history),
        ln_e_safe: blocks::ln_e_value(history, excluded, &safe),
        events: ArmCounts::sum(history.iter().map(|b| &b.failures)),
        units: Some(ArmCounts::sum(history.iter().map(|b| &b.requests))),
        may_roll_back: self_test_passed,
        remark,
        late: None,
    })
}

/// A ladder over somebody else's histogram: every rung against its part of the guard's alpha. The odds form
/// of the blocks takes fast and slow requests alike, so common rungs lose no information.
fn read_block_ladder(
    guard: &Guard,
    ln_weight: f64,
    rungs: &[AggregatedRung],
    self_test_passed: bool,
) -> Result<Reading, String> {
    #[expect(clippy::cast_precision_loss, reason = "a handful of rungs")]
    let rung_weight = ln_weight - (rungs.len() as f64).ln();
    let mut ladder: Option<Reading> = None;
    for rung in rungs {
        let mut reading = read_blocks(guard, rung_weight, &rung.blocks, self_test_passed)?;
        let name = format!(
            "at p{} ({})",
            trim(rung.quantile * 100.0),
            trim(rung.threshold)
        );
        reading.remark = Some(match reading.remark {
            Some(remark) => format!("{name}; {remark}"),
            None => name,
        });
        ladder = Some(match ladder {
            None => reading,
            Some(lower) => beside(lower, reading),
        });
    }
    ladder.ok_or_else(|| "a histogram without thresholds".to_owned())
}

/// Two rungs as one reading, which shows the one that speaks loudest.
fn beside(one: Reading, other: Reading) -> Reading {
    let ln_e_safe = one.ln_e_safe.min(other.ln_e_safe);
    let (louder, softer) = if other.strongest_ln_e() > one.strongest_ln_e() {
        (other, one)
    } else {
        (one, other)
    };
    let mut channels = louder.channels.clone();
    channels.extend(softer.channels);
    Reading {
        channels,
        ln_e_safe,
        ..louder
    }
}

/// The point estimate alone: intervals from counters would presume what the self-test must show.
fn block_interval(history: &[Block]) -> Interval {
    let requests = ArmCounts::sum(history.iter().map(|b| &b.requests));
    let failures = ArmCounts::sum(history.iter().map(|b| &b.failures));
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of requests are far below 2^52"
    )]
    let rate = |failures: u64, requests: u64| failures as f64 / requests as f64;
    let estimate =
        rate(failures.treatment, requests.treatment) / rate(failures.control, requests.control);
    Interval {
        estimate: Some(estimate).filter(|r| r.is_finite()),
        lower: None,
        upper: None,
        level: LEVEL,
    }
}
