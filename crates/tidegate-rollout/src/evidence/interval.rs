//! Anytime-valid intervals for the ratio treatment / control.
//!
//! A ratio stays in the interval while the evidence against it is below `1/alpha`: the mixture likelihood
//! over a wide two-sided prior, divided by the likelihood at that ratio. The likelihood is concave in the
//! logarithm of the ratio, so the set is an interval and bisection finds its ends. The interval covers the
//! truth at all times together with probability 1 - alpha, at any peeking.

use serde::{Deserialize, Serialize};

use super::event_factor::Shares;
use super::log_domain::LnSum;
use crate::observation::ArmCounts;

/// An estimate with an anytime-valid interval; an absent end is unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Point estimate; absent without events in both arms.
    pub estimate: Option<f64>,
    /// Lower end.
    pub lower: Option<f64>,
    /// Upper end.
    pub upper: Option<f64>,
    /// Coverage at all times together, such as 0.95.
    pub level: f64,
}

/// Half-width of the prior and of the search, in ln ratio.
const REACH: f64 = 9.0;
/// Points of the quadrature.
const POINTS: i32 = 49;

/// Counts pooled over phases with the same shares: the likelihood needs no more.
struct Pooled {
    groups: Vec<(Shares, ArmCounts)>,
}

impl Pooled {
    fn new(phases: impl Iterator<Item = (Shares, ArmCounts)>) -> Self {
        let mut groups: Vec<(Shares, ArmCounts)> = Vec::new();
        for (shares, counts) in phases.filter(|(shares, _)| shares.is_informative()) {
            match groups.iter_mut().find(|(seen, _)| *seen == shares) {
                Some((_, total)) => *total = ArmCounts::sum([&*total, &counts]),
                None => groups.push((shares, counts)),
            }
        }
        Self { groups }
    }

    /// Log likelihood at ln ratio `x`, relative to ratio one, and its slope in `x`.
    fn at(&self, x: f64) -> (f64, f64) {
        let ratio = x.exp();
        self.groups
            .iter()
            .fold((0.0, 0.0), |(value, slope), (shares, counts)| {
                let q = shares.treatment_probability(ratio);
                let factor = shares.event_factor(ratio, 1.0);
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "counts of units are far below 2^52"
                )]
                let (t, c) = (counts.treatment as f64, counts.control as f64);
                (
                    value + t * factor.ln_treatment + c * factor.ln_control,
                    slope + t * (1.0 - q) - c * q,
                )
            })
    }

    /// ln ratio of the largest likelihood, by bisection on the falling slope.
    fn peak(&self) -> f64 {
        bisect(-REACH, REACH, |x| self.at(x).1 > 0.0)
    }

    /// Curvature of the log likelihood at ln ratio `x`: the information in the counts.
    fn information(&self, x: f64) -> f64 {
        let ratio = x.exp();
        self.groups
            .iter()
            .map(|(shares, counts)| {
                let q = shares.treatment_probability(ratio);
                #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
                let total = counts.total() as f64;
                total * q * (1.0 - q)
            })
            .sum()
    }

    /// Logarithm of the likelihood integrated over the prior density `exp(-|x|/2)`, by the trapezoid rule
    /// where the likelihood has its mass. What lies outside is left out, which only widens the interval.
    fn ln_mixture(&self, peak: f64) -> f64 {
        let spread = 8.0 / self.information(peak).max(1e-9).sqrt();
        let (low, high) = ((peak - spread).max(-REACH), (peak + spread).min(REACH));
        let step = (high - low) / f64::from(POINTS - 1);
        let mut sum = LnSum::new();
        for i in 0..POINTS {
            let x = step.mul_add(f64::from(i), low);
            let is_end = i == 0 || i == POINTS - 1;
            let ln_half = if is_end { -std::f64::consts::LN_2 } else { 0.0 };
            sum.add(ln_half - x.abs() / 2.0 + self.at(x).0);
        }
        let ln_norm = (4.0 * (1.0 - (-REACH / 2.0).exp())).ln();
        sum.ln() + step.ln() - ln_norm
    }
}

/// The point where `is_left` turns false, to 1e-9 of the width.
fn bisect(mut low: f64, mut high: f64, is_left: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..34 {
        let middle = f64::midpoint(low, high);
        if is_left(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Estimate and interval of the ratio from counts per phase.
#[must_use]
pub fn ratio_interval(phases: impl Iterator<Item = (Shares, ArmCounts)>, level: f64) -> Interval {
    let pooled = Pooled::new(phases);
    let total = ArmCounts::sum(pooled.groups.iter().map(|(_, counts)| counts));
    if total.total() == 0 {
        return Interval {
            estimate: None,
            lower: None,
            upper: None,
            level,
        };
    }
    let peak = pooled.peak();
    let floor = pooled.ln_mixture(peak) + (1.0 - level).ln();
    let is_inside = |x: f64| pooled.at(x).0 >= floor;
    let lower = (!is_inside(-REACH)).then(|| bisect(-REACH, peak, |x| !is_inside(x)).exp());
    let upper = (!is_inside(REACH)).then(|| bisect(peak, REACH, is_inside).exp());
    let has_peak = total.treatment > 0 && total.control > 0;
    Interval {
        estimate: has_peak.then(|| peak.exp()),
        lower,
        upper,
        level,
    }
}

/// The intervals of the last plan, so that counts that have not changed since are not weighed again.
///
/// An interval costs some hundred likelihoods, evidence a dozen: of a rollout with many guards, an event of one
/// guard renews one interval. The answer is the same with and without, to the bit.
#[derive(Debug, Clone, Default)]
pub struct IntervalMemo {
    known: Vec<Known>,
    next: usize,
}

#[derive(Debug, Clone)]
struct Known {
    phases: Vec<(Shares, ArmCounts)>,
    level: f64,
    interval: Interval,
}

impl IntervalMemo {
    /// Begins a plan: intervals are asked for in the same order each time.
    pub(crate) fn begin(&mut self) {
        self.next = 0;
    }

    /// As [`ratio_interval`].
    pub(crate) fn ratio_interval(
        &mut self,
        phases: &[(Shares, ArmCounts)],
        level: f64,
    ) -> Interval {
        let place = self.next;
        self.next += 1;
        if let Some(known) = self.known.get(place)
            && known.phases == phases
            && known.level.to_bits() == level.to_bits()
        {
            return known.interval;
        }
        let interval = ratio_interval(phases.iter().copied(), level);
        let known = Known {
            phases: phases.to_vec(),
            level,
            interval,
        };
        match self.known.get_mut(place) {
            Some(slot) => *slot = known,
            None => self.known.push(known),
        }
        interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::basis_points::BasisPoints;

    #[test]
    fn what_is_remembered_is_what_would_be_found() {
        let mut memo = IntervalMemo::default();
        for round in 0..4_u64 {
            memo.begin();
            for guard in 0..3_u64 {
                // The first guard's counts stay, the second's change every other round.
                let treatment = 5 + guard * (round / 2);
                let phases = [(
                    half(),
                    ArmCounts {
                        treatment,
                        control: 4,
                    },
                )];
                let found = memo.ratio_interval(&phases, 0.95);
                assert_eq!(found, ratio_interval(phases.into_iter(), 0.95));
            }
            assert_eq!(memo.known.len(), 3);
        }
    }

    fn half() -> Shares {
        let treatment_bp = BasisPoints::new(5_000).unwrap();
        Shares {
            treatment_bp,
            control_bp: treatment_bp,
        }
    }

    #[test]
    fn an_interval_holds_its_estimate_and_narrows_with_counts() {
        let width = |scale: u64| {
            let counts = ArmCounts {
                treatment: 30 * scale,
                control: 10 * scale,
            };
            let interval = ratio_interval([(half(), counts)].into_iter(), 0.95);
            let (estimate, lower, upper) = (
                interval.estimate.unwrap(),
                interval.lower.unwrap(),
                interval.upper.unwrap(),
            );
            assert!((estimate - 3.0).abs() < 1e-6, "{estimate}");
            assert!(lower < estimate && estimate < upper);
            upper / lower
        };
        assert!(width(10) < width(1));
        assert!(width(100) < 1.4);
    }

    #[test]
    fn one_sided_counts_leave_one_end_open() {
        let only_treatment = ArmCounts {
            treatment: 12,
            control: 0,
        };
        let interval = ratio_interval([(half(), only_treatment)].into_iter(), 0.95);
        assert_eq!((interval.estimate, interval.upper), (None, None));
        assert!(interval.lower.unwrap() > 1.0);
        let nothing = ratio_interval([].into_iter(), 0.95);
        assert_eq!((nothing.lower, nothing.upper), (None, None));
    }
}
