//! Always-valid comparisons of metrics that are more than a mean: ratios, adjusted means,
//! post-stratified means, clustered quantiles.
//!
//! Every unit carries a trait of its own, so observations within a unit are correlated as in
//! life. At each look the product's own contrast is built and asked.

use super::monitor::Misses;
use super::random::Stream;
use crate::StatsError;
use crate::cuped;
use crate::effect::Contrast;
use crate::moments::{JointMoments, Moments};
use crate::order_statistics::{self, QuantileOptions};
use crate::poststratify::{self, Stratum};
use crate::quantile::{self, RankedSample};
use crate::ratio::{self, RatioColumns};
use crate::sequential::{SequentialOptions, compare_contrast};

/// Quantile studied.
pub(super) const NU: f64 = 0.9;
/// Spread of log latencies between units, and again within them.
pub(super) const SPEED_SPREAD: f64 = 0.5;
/// The quantile of log latencies around their median: `sqrt(2) 0.5 z` for the normal quantile `z` of [`NU`].
pub(super) const TRUE_LN_QUANTILE: f64 = 0.906_193_802_436_823_1;
/// Median latency.
const MEDIAN_LATENCY: f64 = 100.0;
/// Conversion rates of three strata.
const STRATUM_RATES: [f64; 3] = [0.05, 0.15, 0.4];

/// A derived metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Derived {
    /// Clicks over sessions, one to several sessions a unit, each unit with its own rate.
    Ratio,
    /// Orders adjusted by orders before, correlation about .7.
    Cuped,
    /// Conversions over three strata of different rates.
    PostStratified,
    /// The 90 % quantile of latencies, several a unit, correlated within.
    Quantile,
}

/// Everything observed so far.
#[derive(Default)]
pub(super) struct Observed {
    pub(super) joint: [Plain; 2],
    /// By arm and stratum: units, and those of them that converted.
    pub(super) strata: [[(u64, u64); 3]; 2],
    latencies: [Vec<(f64, u64)>; 2],
    units: u64,
}

/// Plain sums of two columns.
#[derive(Clone, Copy, Default)]
pub(super) struct Plain {
    pub(super) units: u64,
    pub(super) events: [u64; 2],
    pub(super) sums: [f64; 2],
    pub(super) products: [f64; 3],
}

impl Plain {
    pub(super) fn push(&mut self, left: f64, right: f64) {
        self.units += 1;
        self.events[0] += u64::from(left != 0.0);
        self.events[1] += u64::from(right != 0.0);
        self.sums[0] += left;
        self.sums[1] += right;
        self.products[0] += left * left;
        self.products[1] += left * right;
        self.products[2] += right * right;
    }

    fn joint(&self) -> Result<JointMoments, StatsError> {
        JointMoments::from_sums(self.units, &self.sums, &self.products)?.with_events(&self.events)
    }
}

impl Derived {
    pub(super) fn observe(self, stream: &mut Stream, lift: f64, seen: &mut Observed) {
        let arm = usize::from(stream.coin(0.5));
        let factor = if arm == 1 { 1.0 + lift } else { 1.0 };
        seen.units += 1;
        match self {
            Self::Ratio => {
                let sessions = 1.0 + stream.poisson(1.5);
                let rate = 0.05 + 0.3 * stream.uniform();
                let mut clicks = 0.0;
                let mut session = 0.0;
                while session < sessions {
                    clicks += f64::from(u8::from(stream.coin(rate * factor)));
                    session += 1.0;
                }
                seen.joint[arm].push(clicks, sessions);
            }
            Self::Cuped => {
                let taste = (0.8 * stream.normal()).exp();
                let before = stream.poisson(2.0 * taste);
                let after = stream.poisson(2.0 * taste * factor);
                seen.joint[arm].push(after, before);
            }
            Self::PostStratified => {
                let stratum = usize::from(stream.coin(0.5)) + usize::from(stream.coin(0.3));
                let cell = &mut seen.strata[arm][stratum];
                cell.0 += 1;
                cell.1 += u64::from(stream.coin(STRATUM_RATES[stratum] * factor));
            }
            Self::Quantile => {
                let speed = SPEED_SPREAD * stream.normal();
                let mut left = 1.0 + stream.poisson(1.0);
                while left > 0.0 {
                    let noise = SPEED_SPREAD * stream.normal();
                    let latency = MEDIAN_LATENCY * (speed + noise).exp() * factor;
                    seen.latencies[arm].push((latency, seen.units));
                    left -= 1.0;
                }
            }
        }
    }

    /// The truth on the absolute scale.
    fn truth(self, lift: f64) -> f64 {
        match self {
            // Sessions and rate are independent, so the ratio is the mean rate.
            Self::Ratio => 0.2 * lift,
            Self::Cuped => 2.0 * (0.32_f64).exp() * lift,
            Self::PostStratified => {
                let shares = [0.35, 0.5, 0.15];
                let rate: f64 = shares.iter().zip(STRATUM_RATES).map(|(s, r)| s * r).sum();
                rate * lift
            }
            // The number of observations of a unit does not depend on its speed.
            Self::Quantile => MEDIAN_LATENCY * TRUE_LN_QUANTILE.exp() * lift,
        }
    }

    pub(super) fn contrast(self, seen: &Observed) -> Result<Contrast, StatsError> {
        match self {
            Self::Ratio => {
                let columns = RatioColumns {
                    numerator: 0,
                    denominator: 1,
                };
                ratio::contrast(&seen.joint[0].joint()?, &seen.joint[1].joint()?, columns)
            }
            Self::Cuped => {
                let (control, treatment) = (seen.joint[0].joint()?, seen.joint[1].joint()?);
                Ok(cuped::means(&control, &treatment, 0, &[1])?.contrast)
            }
            Self::PostStratified => {
                let moments = |(units, conversions): (u64, u64)| {
                    Moments::from_sums(units, conversions as f64, conversions as f64)
                };
                let strata = (0..STRATUM_RATES.len())
                    .map(|stratum| {
                        Ok(Stratum {
                            control: moments(seen.strata[0][stratum])?,
                            treatment: moments(seen.strata[1][stratum])?,
                        })
                    })
                    .collect::<Result<Vec<Stratum>, StatsError>>()?;
                poststratify::contrast(&strata)
            }
            Self::Quantile => {
                let [control, treatment] = seen.samples()?;
                quantile::contrast(&control, &treatment, NU)
            }
        }
    }

    /// Whether the absolute interval and the relative set miss the truth now; none where there is no answer.
    pub(super) fn misses(
        self,
        seen: &Observed,
        lift: f64,
        options: &SequentialOptions,
    ) -> Option<Misses> {
        let (absolute, relative) = if self == Self::Quantile {
            let [control, treatment] = seen.samples().ok()?;
            let watched = QuantileOptions {
                alpha: options.alpha,
                tune_at: options.tune_at,
                burn_in_units: options.burn_in_events,
            };
            let found = order_statistics::compare(&control, &treatment, NU, &watched).ok()?;
            (found.absolute, found.relative)
        } else {
            let found = compare_contrast(&self.contrast(seen).ok()?, options).ok()?;
            (found.absolute, found.relative)
        };
        Some([
            !absolute.contains(self.truth(lift)),
            !relative.contains(lift),
        ])
    }

    /// One experiment of `looks` batches; which scales ever missed the truth.
    pub(super) fn repetition(
        self,
        stream: &mut Stream,
        lift: f64,
        (looks, units_per_look): (u32, u32),
        options: &SequentialOptions,
    ) -> Misses {
        let mut seen = Observed::default();
        let mut missed = [false; 2];
        for _ in 0..looks {
            for _ in 0..units_per_look {
                self.observe(stream, lift, &mut seen);
            }
            let now = self.misses(&seen, lift, options).unwrap_or_default();
            missed = [missed[0] | now[0], missed[1] | now[1]];
            if missed == [true; 2] {
                break;
            }
        }
        missed
    }
}

impl Observed {
    fn samples(&self) -> Result<[RankedSample; 2], StatsError> {
        let [control, treatment] = &self.latencies;
        Ok([
            RankedSample::new(control.clone())?,
            RankedSample::new(treatment.clone())?,
        ])
    }
}
