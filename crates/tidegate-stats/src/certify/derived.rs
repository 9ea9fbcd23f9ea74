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
use crate::poststratify::{self, Stratum};
use crate::quantile::{self, RankedSample};
use crate::ratio::{self, RatioColumns};
use crate::sequential::{SequentialOptions, compare_contrast};

/// Quantile studied.
const NU: f64 = 0.9;
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
struct Observed {
    joint: [Plain; 2],
    strata: [[(u64, u64); 3]; 2],
    latencies: [Vec<(f64, u64)>; 2],
    units: u64,
}

/// Plain sums of two columns.
#[derive(Clone, Copy, Default)]
struct Plain {
    units: u64,
    sums: [f64; 2],
    products: [f64; 3],
}

impl Plain {
    fn push(&mut self, left: f64, right: f64) {
        self.units += 1;
        self.sums[0] += left;
        self.sums[1] += right;
        self.products[0] += left * left;
        self.products[1] += left * right;
        self.products[2] += right * right;
    }

    fn joint(&self) -> Result<JointMoments, StatsError> {
        JointMoments::from_sums(self.units, &self.sums, &self.products)
    }
}

impl Derived {
    fn observe(self, stream: &mut Stream, lift: f64, seen: &mut Observed) {
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
                let speed = 0.5 * stream.normal();
                let mut left = 1.0 + stream.poisson(1.0);
                while left > 0.0 {
                    let latency = 100.0 * (speed + 0.5 * stream.normal()).exp() * factor;
                    seen.latencies[arm].push((latency, seen.units));
                    left -= 1.0;
                }
            }
        }
    }

    /// The truth on the absolute scale, where it has a closed form.
    fn truth(self, lift: f64) -> Option<f64> {
        match self {
            // Sessions and rate are independent, so the ratio is the mean rate.
            Self::Ratio => Some(0.2 * lift),
            Self::Cuped => Some(2.0 * (0.32_f64).exp() * lift),
            Self::PostStratified => {
                let shares = [0.35, 0.5, 0.15];
                let rate: f64 = shares.iter().zip(STRATUM_RATES).map(|(s, r)| s * r).sum();
                Some(rate * lift)
            }
            Self::Quantile => (lift == 0.0).then_some(0.0),
        }
    }

    fn contrast(self, seen: &Observed) -> Result<Contrast, StatsError> {
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
                let control = RankedSample::new(seen.latencies[0].clone())?;
                let treatment = RankedSample::new(seen.latencies[1].clone())?;
                quantile::contrast(&control, &treatment, NU)
            }
        }
    }

    /// One experiment of `looks` batches; which scales ever missed the truth.
    pub(super) fn repetition(
        self,
        stream: &mut Stream,
        lift: f64,
        (looks, units_per_look): (u32, u32),
        options: &SequentialOptions,
    ) -> Misses {
        let mut seen = Observed {
            joint: [Plain::default(); 2],
            strata: [[(0, 0); 3]; 2],
            latencies: [Vec::new(), Vec::new()],
            units: 0,
        };
        let mut missed = [false; 2];
        for _ in 0..looks {
            for _ in 0..units_per_look {
                self.observe(stream, lift, &mut seen);
            }
            let asked = self
                .contrast(&seen)
                .and_then(|found| compare_contrast(&found, options));
            if let Ok(answer) = asked {
                let truth = self.truth(lift);
                missed[0] |= truth.is_some_and(|truth| !answer.absolute.contains(truth));
                missed[1] |= !answer.relative.contains(lift);
            }
        }
        missed
    }
}
