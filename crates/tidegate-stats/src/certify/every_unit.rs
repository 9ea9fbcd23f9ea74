//! Ratios, adjusted means, post-stratified means and clustered quantiles watched at every unit.
//!
//! As in `monitor`, a running statistic from plain sums screens the looks, and within 3 % of the boundary the
//! product's own contrast and comparison are asked; their answer counts.
//!
//! Quantiles cannot be asked a million times, because each answer sorts a million observations.
//! What is watched instead is the evidence at the *true* pair of quantiles, the product's own function of their
//! ranks with the running design effect: an interval can miss its truth only when the region it is an image of
//! leaves out the true pair, so this counts at least as many misses as either interval has (up to where the
//! design effect is read, at the true quantile instead of the sample's).

use super::derived::{Derived, NU, Observed, Plain, SPEED_SPREAD, TRUE_LN_QUANTILE};
use super::monitor::SCREEN;
use super::random::Stream;
use crate::order_statistics::{Clusters, RankEvidence, prior_strength};
use crate::sequential::{Boundary, SequentialOptions};
use crate::special::normal_cdf;

/// Watches one derived metric without a true effect.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    kind: Derived,
    options: SequentialOptions,
    /// Squared screening multiplier after each unit.
    screen: Vec<f64>,
    /// Prior strength of the evidence on quantiles.
    strength: f64,
}

impl Watch {
    pub(super) fn new(kind: Derived, units: u32, options: SequentialOptions) -> Self {
        let screen = Boundary::new(&options).map_or_else(
            |_| Vec::new(),
            |boundary| {
                (1..=units)
                    .map(|unit| (SCREEN * boundary.multiplier(f64::from(unit))).powi(2))
                    .collect()
            },
        );
        Self {
            kind,
            options,
            screen,
            strength: prior_strength(options.alpha, options.tune_at).unwrap_or(1.0),
        }
    }

    /// Whether no effect is ever refuted; one answer for both scales, which agree about it.
    pub(super) fn ever_errs(&self, stream: &mut Stream) -> bool {
        if self.kind == Derived::Quantile {
            return self.quantile_errs(stream);
        }
        let mut seen = Observed::default();
        for limit in &self.screen {
            self.kind.observe(stream, 0.0, &mut seen);
            let is_near = match self.running(&seen) {
                Running::TooEarly => false,
                Running::Unknown => true,
                Running::Departure { squared, variance } => squared > limit * variance,
            };
            if is_near {
                let missed = self.kind.misses(&seen, 0.0, &self.options);
                if missed.is_some_and(|missed| missed != [false; 2]) {
                    return true;
                }
            }
        }
        false
    }

    fn running(&self, seen: &Observed) -> Running {
        match self.kind {
            Derived::Ratio => ratio(&seen.joint, self.options.burn_in_events),
            Derived::Cuped => adjusted(&seen.joint, self.options.burn_in_events),
            Derived::PostStratified => stratified(&seen.strata, self.options.burn_in_events),
            Derived::Quantile => Running::TooEarly,
        }
    }

    fn quantile_errs(&self, stream: &mut Stream) -> bool {
        let limit = -self.options.alpha.ln();
        let mut arms = [Clusters::default(); 2];
        for _ in &self.screen {
            let arm = usize::from(stream.coin(0.5));
            let (below, observations) = draw_below(stream);
            arms[arm].push(below, observations);
            let [control, treatment] = &arms;
            if control.units.min(treatment.units) < self.options.burn_in_events {
                continue;
            }
            let shares = [control, treatment].map(Share::of);
            let strength = self.strength;
            let roughly: f64 = shares
                .iter()
                .map(|share| share.ln_e_roughly(strength))
                .sum();
            let is_early = shares.iter().any(|share| share.observations < 2_000.0);
            if (is_early || roughly > 0.75 * limit)
                && shares.iter().map(|share| share.ln_e(strength)).sum::<f64>() >= limit
            {
                return true;
            }
        }
        false
    }
}

enum Running {
    TooEarly,
    /// Plain sums do not tell; the product must.
    Unknown,
    Departure {
        squared: f64,
        variance: f64,
    },
}

impl Running {
    fn of(departure: f64, variance: f64) -> Self {
        if variance > 0.0 && departure.is_finite() {
            Self::Departure {
                squared: departure * departure,
                variance,
            }
        } else {
            Self::Unknown
        }
    }
}

fn ratio(arms: &[Plain; 2], burn_in: u64) -> Running {
    if arms.iter().any(|arm| arm.events[0] < burn_in) {
        return Running::TooEarly;
    }
    let [control, treatment] = arms.map(|arm| {
        let units = arm.units as f64;
        let value = arm.sums[0] / arm.sums[1];
        let mean = arm.sums[1] / units;
        let [upper, crossed, lower] = arm.products;
        let squares = upper - 2.0 * value * crossed + value * value * lower;
        (value, squares / (units * (units - 1.0) * mean * mean))
    });
    Running::of(treatment.0 - control.0, control.1 + treatment.1)
}

fn adjusted(arms: &[Plain; 2], burn_in: u64) -> Running {
    if arms.iter().any(|arm| arm.events[0] < burn_in) {
        return Running::TooEarly;
    }
    // Centred sums of outcome squared, outcome times history, history squared.
    let centred = arms.map(|arm| {
        let units = arm.units as f64;
        let [y, x] = arm.sums;
        let [yy, xy, xx] = arm.products;
        [yy - y * y / units, xy - x * y / units, xx - x * x / units]
    });
    let beta = (centred[0][1] + centred[1][1]) / (centred[0][2] + centred[1][2]);
    let mut departure = 0.0;
    let mut variance = 0.0;
    for ((arm, [yy, xy, xx]), sign) in arms.iter().zip(centred).zip([-1.0, 1.0]) {
        let units = arm.units as f64;
        departure += sign * (arm.sums[0] - beta * arm.sums[1]) / units;
        variance += (yy - 2.0 * beta * xy + beta * beta * xx) / (units * (units - 1.0));
    }
    Running::of(departure, variance)
}

fn stratified(strata: &[[(u64, u64); 3]; 2], burn_in: u64) -> Running {
    // Strata given by their sums count every unit as an event.
    let units = |arm: &[(u64, u64); 3]| arm.iter().map(|cell| cell.0).sum::<u64>();
    if strata.iter().any(|arm| units(arm) < burn_in) {
        return Running::TooEarly;
    }
    let total: f64 = strata.iter().flatten().map(|cell| cell.0 as f64).sum();
    let (mut departure, mut squares, mut within) = (0.0, 0.0, 0.0);
    for (control, treatment) in strata[0].iter().zip(&strata[1]) {
        if control.0.min(treatment.0) < 2 {
            return Running::Unknown;
        }
        let [(share_c, variance_c), (share_t, variance_t)] = [control, treatment].map(|cell| {
            let (units, share) = (cell.0 as f64, cell.1 as f64 / cell.0 as f64);
            (share, share * (1.0 - share) / (units - 1.0))
        });
        let weight = (control.0 as f64 + treatment.0 as f64) / total;
        let difference = share_t - share_c;
        departure += weight * difference;
        squares += weight * difference * difference;
        within += weight * weight * (variance_c + variance_t);
    }
    Running::of(
        departure,
        within + (squares - departure * departure) / total,
    )
}

/// Observations of one unit at or below the true quantile, and all of them; drawn as `Derived::Quantile`
/// does, without the latencies themselves.
fn draw_below(stream: &mut Stream) -> (f64, f64) {
    let speed = SPEED_SPREAD * stream.normal();
    let share = normal_cdf((TRUE_LN_QUANTILE - speed) / SPEED_SPREAD);
    let observations = 1.0 + stream.poisson(1.0);
    let (mut below, mut left) = (0.0, observations);
    while left > 0.0 {
        below += f64::from(u8::from(stream.coin(share)));
        left -= 1.0;
    }
    (below, observations)
}

/// An arm's share of observations at or below a fixed value.
struct Share {
    below: f64,
    observations: f64,
    design_effect: f64,
}

impl Share {
    fn of(arm: &Clusters) -> Self {
        let [below, observations] = arm.sums;
        Self {
            below,
            observations,
            design_effect: arm.design_effect(),
        }
    }

    fn ln_e(&self, strength: f64) -> f64 {
        RankEvidence::new(NU, strength, self.observations, self.design_effect).ln_e(self.below)
    }

    /// The normal approximation of the evidence.
    fn ln_e_roughly(&self, strength: f64) -> f64 {
        let departure = self.below - NU * self.observations;
        let spread = NU * (1.0 - NU) * self.observations * self.design_effect;
        let x = self.observations / self.design_effect / strength;
        0.5 * (departure * departure / spread) * (x / (1.0 + x)) - 0.5 * x.ln_1p()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The screen must not hide what the product would say.
    #[test]
    fn running_statistics_are_those_of_the_product() {
        for kind in [Derived::Ratio, Derived::Cuped, Derived::PostStratified] {
            let options = SequentialOptions::default();
            let watch = Watch::new(kind, 1, options);
            let mut stream = Stream::new(5, "running", 0);
            let mut seen = Observed::default();
            for _ in 0..3_000 {
                kind.observe(&mut stream, 0.3, &mut seen);
            }
            let contrast = kind.contrast(&seen).unwrap();
            let Running::Departure { squared, variance } = watch.running(&seen) else {
                panic!("{kind:?} has no running statistic");
            };
            let expected = contrast.difference() * contrast.difference();
            assert!((squared / expected - 1.0).abs() < 1e-9, "{kind:?}");
            let expected = contrast.variance_difference();
            // Moments of a proportion from sums divide by units less one, as here.
            assert!((variance / expected - 1.0).abs() < 1e-9, "{kind:?}");
        }
    }

    #[test]
    fn counts_below_the_true_quantile_have_its_share() {
        let mut stream = Stream::new(5, "below", 0);
        let (mut below, mut all) = (0.0, 0.0);
        for _ in 0..50_000 {
            let (more, observations) = draw_below(&mut stream);
            below += more;
            all += observations;
        }
        assert!((below / all - NU).abs() < 0.005);
    }
}
