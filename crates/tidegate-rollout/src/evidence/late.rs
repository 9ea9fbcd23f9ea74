//! Evidence of harm that begins late: the bake, with a control kept back, watched period by period.
//!
//! # When it is used
//! A policy with a bake keeps a holdback of the audience on control during its last stage, for a time that is
//! known beforehand. That time is cut into [`BAKE_PERIODS`] equal periods.
//!
//! # How it decides
//! Evidence from the start of the rollout must first undo all that was well before the harm began. So a part
//! of the capital, [`LATE_CAPITAL`], is kept for the bake and enters in equal parts at the start of each of
//! its `N` periods: after `n` of them it is worth `(M_n + N - n) / N`, where `M_n` is the Shiryaev-Roberts
//! statistic ([`super::change`]) and `N - n` is what has not been bet yet.
//! Under no harm `M_n - n` is a martingale, so this is an e-value, and so is its mixture with the evidence from
//! the start: *the whole rollout, bake included, rolls back a harmless change with probability at most
//! alpha*, at any peeking. Harm that begins at any period costs `ln(N / LATE_CAPITAL)` nats more than harm
//! that was there from the start, however long all was well before.
//! Said as a rate: alone and without end, the detector at the threshold it has here would alarm on a healthy
//! service at most once in [`mean_periods_between_false_alarms`] periods on average.
//! Periods beyond the planned ones, of a bake that is extended, belong to the last one.
//!
//! Sources: Roberts (1966) for the statistic; Shin, Ramdas, Rinaldo (2024) for sums of restarted e-processes.

use super::change::{ChangeDetector, Detector};
use super::event_factor::Shares;
use super::log_domain::LnSum;
use super::prior::RatioPrior;
use crate::observation::ArmCounts;

/// Periods of a bake.
pub const BAKE_PERIODS: usize = 24;
/// Part of the capital that bets on harm beginning in the bake.
pub const LATE_CAPITAL: f64 = 0.2;

/// The evidence of one guard's bake; O(grid) memory.
#[derive(Debug, Clone)]
pub struct LateProcess {
    detector: ChangeDetector,
    begun: usize,
}

impl LateProcess {
    /// A process before the bake.
    #[must_use]
    pub fn new(prior: RatioPrior, null_ratio: f64) -> Self {
        Self {
            detector: ChangeDetector::new(Detector::ShiryaevRoberts, prior, null_ratio),
            begun: 0,
        }
    }

    /// Begins the next period; beyond the planned ones the last goes on.
    pub fn begin_period(&mut self, shares: Shares) {
        if self.begun < BAKE_PERIODS && shares.is_informative() {
            self.begun += 1;
            self.detector.begin_period(shares);
        }
    }

    /// Folds in first failing events of the period under way.
    pub fn add(&mut self, counts: ArmCounts) {
        if self.begun > 0 {
            self.detector.add(counts);
        }
    }

    /// `ln e` now: zero before the bake.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let mut sum = LnSum::new();
        sum.add(self.detector.ln_statistic());
        sum.add(count(BAKE_PERIODS - self.begun).ln());
        sum.ln() - count(BAKE_PERIODS).ln()
    }
}

/// `ln e` of the counts of each period of a bake so far.
#[must_use]
pub fn ln_e_value(periods: &[(Shares, ArmCounts)], null_ratio: f64, prior: &RatioPrior) -> f64 {
    let mut process = LateProcess::new(prior.clone(), null_ratio);
    for (shares, counts) in periods {
        process.begin_period(*shares);
        process.add(*counts);
    }
    process.ln_e()
}

/// The start of the period from which on the counts speak most for harm.
#[must_use]
pub fn strongest_start(
    periods: &[(Shares, ArmCounts)],
    null_ratio: f64,
    prior: &RatioPrior,
) -> Option<usize> {
    let since = |start: usize| {
        let mut detector = ChangeDetector::new(Detector::Cusum, prior.clone(), null_ratio);
        let later = periods.get(start..).unwrap_or_default();
        if let Some((shares, _)) = later.first() {
            detector.begin_period(*shares);
            later.iter().for_each(|(_, counts)| detector.add(*counts));
        }
        detector.ln_statistic()
    };
    let starts = (0..periods.len()).map(|start| (start, since(start)));
    let best = starts.max_by(|one, other| one.1.total_cmp(&other.1));
    best.filter(|(_, ln_e)| *ln_e > 0.0).map(|(start, _)| start)
}

/// Evidence from the start and evidence from the bake, as one e-value.
#[must_use]
pub fn combined(ln_from_start: f64, ln_late: f64) -> f64 {
    let mut sum = LnSum::new();
    sum.add((1.0 - LATE_CAPITAL).ln() + ln_from_start);
    sum.add(LATE_CAPITAL.ln() + ln_late);
    sum.ln()
}

/// Periods of a healthy service between two false alarms, on average at least, of the detector alone at the
/// threshold that rolls back here.
#[must_use]
pub fn mean_periods_between_false_alarms(alpha: f64) -> f64 {
    count(BAKE_PERIODS) / (LATE_CAPITAL * alpha)
}

fn count(periods: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few periods")]
    let count = periods as f64;
    count
}

#[cfg(test)]
mod tests {
    use super::super::first_events;
    use super::*;
    use crate::basis_points::BasisPoints;

    fn shares(control: u16) -> Shares {
        let control_bp = BasisPoints::new(control).unwrap();
        Shares {
            treatment_bp: control_bp.complement(),
            control_bp,
        }
    }

    fn counts(treatment: u64, control: u64) -> ArmCounts {
        ArmCounts { treatment, control }
    }

    #[test]
    fn before_the_bake_nothing_is_won_or_lost() {
        assert!(ln_e_value(&[], 1.0, &RatioPrior::increase()).abs() < 1e-12);
        assert!(combined(0.0, 0.0).abs() < 1e-12);
    }

    #[test]
    fn the_mean_over_all_outcomes_is_one_under_the_null() {
        // Exact enumeration: three periods of four events each.
        let shares = shares(500);
        let q: f64 = shares.treatment_probability(1.0);
        let choose = [1.0, 4.0, 6.0, 4.0, 1.0];
        let pmf = |k: usize| {
            let k_power = i32::try_from(k).unwrap();
            choose[k] * q.powi(k_power) * (1.0 - q).powi(4 - k_power)
        };
        let period = |k: usize| (shares, counts(k as u64, 4 - k as u64));
        let mut mean = 0.0;
        for a in 0..5 {
            for b in 0..5 {
                for c in 0..5 {
                    let periods = [period(a), period(b), period(c)];
                    let ln_e = ln_e_value(&periods, 1.0, &RatioPrior::increase());
                    mean += pmf(a) * pmf(b) * pmf(c) * ln_e.exp();
                }
            }
        }
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn harm_that_begins_late_is_seen_long_before_the_evidence_from_the_start_sees_it() {
        let control = 500;
        let well = (shares(control), counts(190, 10));
        let harmful = (shares(control), counts(500, 10));
        let mut periods = vec![well; 16];
        let threshold = 100_f64.ln();
        let from_start = |periods: &[(Shares, ArmCounts)]| {
            let whole = ArmCounts::sum(periods.iter().map(|(_, counts)| counts));
            let phases = [(shares(control), whole)];
            first_events::ln_e_value(phases.into_iter(), 1.0, &RatioPrior::increase())
        };
        let mut until = None;
        for number in 1..=8 {
            periods.push(harmful);
            let late = ln_e_value(&periods, 1.0, &RatioPrior::increase());
            if combined(from_start(&periods), late) >= threshold {
                until = Some(number);
                break;
            }
        }
        let until = until.expect("the bake sees it");
        assert!(until <= 4, "{until} periods");
        assert!(
            from_start(&periods) < threshold / 2.0,
            "{}",
            from_start(&periods)
        );
        let start = strongest_start(&periods, 1.0, &RatioPrior::increase());
        assert_eq!(start, Some(16));
        let healthy = vec![well; 16];
        assert_eq!(
            strongest_start(&healthy, 1.0, &RatioPrior::increase()),
            None
        );
    }

    #[test]
    fn a_bake_that_is_extended_restarts_no_more() {
        let one = (shares(500), counts(19, 1));
        let prior = RatioPrior::increase();
        let planned = ln_e_value(&vec![one; BAKE_PERIODS], 1.0, &prior);
        let mut process = LateProcess::new(prior.clone(), 1.0);
        for _ in 0..BAKE_PERIODS {
            process.begin_period(one.0);
            process.add(one.1);
        }
        assert!((process.ln_e() - planned).abs() < 1e-12);
        let extended = ln_e_value(&vec![one; BAKE_PERIODS + 3], 1.0, &prior);
        process.add(counts(57, 3));
        assert!((process.ln_e() - extended).abs() < 1e-9);
        assert!((mean_periods_between_false_alarms(0.01) - 12_000.0).abs() < 1e-6);
    }
}
