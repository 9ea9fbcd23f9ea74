//! Two small counts, compared exactly: p-value and both intervals together.
//!
//! # Promise
//! Whatever the two rates are and however small the arms, the intervals cover the true effect with probability
//! at least `1 - alpha`, and `p` is below `alpha` under no effect with probability at most `alpha`, if looked
//! at once, at a horizon fixed in advance.
//! Both sets contain "no effect" exactly if `p >= alpha`.
//!
//! # Formula
//! The unconditional score test, inverted (Chan and Zhang, Biometrics 1999).
//! A claim, a difference `delta` or a ratio `phi`, orders all tables of outcomes by their score
//! (`proportions`); its upper tail is the chance of a table at least as high as the observed one, at the worst
//! common rate that the claim leaves open, its lower tail likewise.
//! The lower end of an interval is the smallest claim whose upper tail exceeds `alpha / 2`, the upper end the
//! largest whose lower tail does.
//!
//! *The nuisance rate* is searched only where both rates lie in their Clopper-Pearson intervals at
//! [`UNSEARCHED`], which is added to every tail (Berger and Boos, JASA 1994).
//! That is what keeps the number of tables small where arms are large and counts are not.
//!
//! *One p-value.* The order of tables moves with the claim, so a tail need not grow steadily.
//! An end is therefore the outermost claim of a grid that is not refuted, refined towards the next; and the
//! p-value of "no increase" is the largest tail of all claims of the grid on either scale that say so, not that
//! of the claim zero alone.
//!
//! # When it answers
//! `stats compare --method fixed` turns to it by itself where one of the four cells (successes and failures of
//! either arm) is below [`SMALL_CELL`], the rule of Cochran (1954) below which a normal reference is not to be
//! trusted, and the tables are within [`MAX_TABLES`].
//!
//! # When it fails
//! It is conservative: counts are lumpy, so the true level is below `alpha`.
//! Looked at again and again, the promise is void: `count_eprocess` holds at all times.

use crate::bisection::bisect;
use crate::comparison::{
    Comparison, Effect, Method, Null, Parameters, Relative, RelativeSet, Tail,
};
use crate::error::{Side, StatsError, open_unit};
use crate::exact::{TIE, ln_choose};
use crate::proportions::{Count, Pair};
use crate::special::beta_inc_inv;

/// Chance that a rate lies outside the range searched for it, both arms together.
pub const UNSEARCHED: f64 = 1e-10;

/// Most tables that are weighed.
pub const MAX_TABLES: u64 = 20_000;

/// Most units of an arm: beyond, binomial chances lose digits.
pub const MAX_UNITS: u64 = 10_000_000;

/// A cell below this makes a comparison of counts small.
pub const SMALL_CELL: u64 = 5;

/// Chance of the tables left out because they are too improbable anywhere in the range.
const LEFT_OUT: f64 = 4e-13;

/// Minus the logarithm of a quarter of [`LEFT_OUT`], rounded up.
const LEFT_OUT_NATS: f64 = 30.0;

/// Claims tried on either side of the estimate before the end is refined.
const CLAIMS: u32 = 24;

/// Nuisance rates tried before the worst is refined.
const RATES: u32 = 48;

/// Golden sections around the worst nuisance rate.
const SECTIONS: u32 = 14;

/// How to compare small counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SmallCountOptions {
    /// Level, strictly between 0 and 1.
    pub alpha: f64,
    /// Which departures count.
    pub tail: Tail,
}

impl Default for SmallCountOptions {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            tail: Tail::TwoSided,
        }
    }
}

/// Whether a normal reference is not to be trusted for these counts and the exact comparison can answer.
#[must_use]
pub fn is_called_for(control: Count, treatment: Count) -> bool {
    let least = [control, treatment]
        .iter()
        .map(|count| {
            count
                .successes
                .min(count.units.saturating_sub(count.successes))
        })
        .min();
    least.is_some_and(|cell| cell < SMALL_CELL) && Tables::of(control, treatment).is_ok()
}

/// Compares two small counts exactly.
///
/// # Errors
/// If an arm is empty or has more successes than units, the level is out of range, or there are more than
/// [`MAX_TABLES`] tables.
pub fn compare(
    control: Count,
    treatment: Count,
    options: &SmallCountOptions,
) -> Result<Comparison, StatsError> {
    let alpha = open_unit("alpha", options.alpha)?;
    let tables = Tables::of(control, treatment)?;
    let side_alpha = if options.tail == Tail::TwoSided {
        0.5 * alpha
    } else {
        alpha
    };
    let ends = [Scale::Difference, Scale::Ratio].map(|scale| {
        [Direction::Up, Direction::Down].map(|direction| tables.end(scale, direction, side_alpha))
    });
    let at_none = tables.tails(Claim::difference(0.0));
    let tail_of = |index: usize| {
        ends.iter()
            .map(|of_scale| of_scale[index].worst_against)
            .fold(at_none[index], f64::max)
            .min(1.0)
    };
    let [up, down] = [tail_of(0), tail_of(1)];
    let p_value = match options.tail {
        Tail::TwoSided => (2.0 * up.min(down)).min(1.0),
        Tail::Greater => up,
        Tail::Less => down,
    };
    // No effect is kept on both scales where either scale cannot refute it.
    let keeps = [up, down].map(|tail| tail > side_alpha);
    let lower = |scale: usize| {
        ends[scale][0]
            .at
            .map(|end| if keeps[0] { end.min(0.0) } else { end })
    };
    let upper = |scale: usize| {
        ends[scale][1]
            .at
            .map(|end| if keeps[1] { end.max(0.0) } else { end })
    };
    let wanted = [options.tail != Tail::Less, options.tail != Tail::Greater];
    let pair = tables.pair;
    let baseline = control.share();
    Ok(Comparison {
        units_control: control.units,
        units_treatment: treatment.units,
        value_control: baseline,
        value_treatment: treatment.share(),
        standard_error: pair.standard_error(),
        absolute: Effect {
            estimate: pair.difference(),
            lower: lower(0).filter(|_| wanted[0]),
            upper: upper(0).filter(|_| wanted[1]),
        },
        relative: Relative {
            estimate: (baseline > 0.0).then(|| pair.difference() / baseline),
            lower: lower(1).filter(|_| wanted[0]),
            upper: upper(1).filter(|_| wanted[1]),
            set: RelativeSet::Interval,
        },
        p_value,
        ln_p: p_value.ln(),
        null: Null::Zero,
        method: Method {
            name: "exact",
            alpha,
            tail: options.tail,
            multiplier: None,
            parameters: Parameters::SmallCounts {
                tables: tables.count(),
                unsearched: UNSEARCHED + LEFT_OUT,
            },
            promise: "covers the true effect with probability at least 1 - alpha at any counts if looked at \
                      once, at a horizon fixed in advance",
            assumptions: &[
                "units are independent",
                "the horizon was chosen without looking at the effect",
            ],
        },
        notes: pair.notes(),
    })
}

/// Which effect a claim is about.
#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Difference,
    Ratio,
}

/// Towards higher effects, refuting claims that are too low, or the other way.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Up,
    Down,
}

/// An effect that is claimed: a difference, or the logarithm of a ratio.
#[derive(Clone, Copy)]
struct Claim {
    scale: Scale,
    value: f64,
}

impl Claim {
    fn difference(value: f64) -> Self {
        Self {
            scale: Scale::Difference,
            value,
        }
    }

    /// The rate of treatment at a rate of control.
    fn treated(self, untreated: f64) -> f64 {
        match self.scale {
            Scale::Difference => untreated + self.value,
            Scale::Ratio => untreated * self.value.exp(),
        }
        .clamp(0.0, 1.0)
    }

    /// The rates of control at which treatment's lies in a range.
    fn untreated([low, high]: [f64; 2], claim: Self) -> [f64; 2] {
        match claim.scale {
            Scale::Difference => [low - claim.value, high - claim.value],
            Scale::Ratio => [low / claim.value.exp(), high / claim.value.exp()],
        }
    }

    /// The claim as an effect: a difference, or a share of control.
    fn effect(self) -> f64 {
        match self.scale {
            Scale::Difference => self.value,
            Scale::Ratio => self.value.exp_m1(),
        }
    }
}

/// One end of an interval, as an effect, and the largest tail of the claims of no effect in its direction.
struct End {
    at: Option<f64>,
    worst_against: f64,
}

/// The outcomes of one arm that are weighed.
struct Outcomes {
    units: u64,
    /// Range of rates searched.
    rates: [f64; 2],
    /// First number of successes, and `ln` of the number of ways to have it and each further one.
    first: u64,
    ln_ways: Vec<f64>,
}

impl Outcomes {
    fn of(count: Count) -> Self {
        let (successes, failures) = (count.successes as f64, count.failures());
        let each = 0.25 * UNSEARCHED;
        let low = if count.successes == 0 {
            0.0
        } else {
            beta_inc_inv(successes, failures + 1.0, each)
        };
        let high = if count.successes == count.units {
            1.0
        } else {
            1.0 - beta_inc_inv(failures, successes + 1.0, each)
        };
        let n = count.units as f64;
        // Chernoff's bounds on both tails of a binomial count.
        let below = n * low - (2.0 * LEFT_OUT_NATS * n * low).sqrt();
        let third = LEFT_OUT_NATS / 3.0;
        let above = n * high + third + (third * third + 2.0 * LEFT_OUT_NATS * n * high).sqrt();
        let first = crate::quantile::whole(below.max(0.0));
        let last = crate::quantile::whole(above.ceil()).min(count.units);
        // Beyond the limit on tables nothing is weighed, so nothing is computed.
        let kept = last.min(first.saturating_add(MAX_TABLES));
        Self {
            units: count.units,
            rates: [low, high],
            first,
            ln_ways: ln_ways(count.units, first..=kept),
        }
    }

    /// Probability of each outcome at a rate.
    fn probabilities(&self, rate: f64, into: &mut Vec<f64>) {
        let (ln_rate, ln_rest) = (rate.ln(), (-rate).ln_1p());
        into.clear();
        into.extend(
            (self.first..)
                .zip(&self.ln_ways)
                .map(|(successes, ln_ways)| {
                    let failures = self.units - successes;
                    let ln_x = if successes == 0 {
                        0.0
                    } else {
                        successes as f64 * ln_rate
                    };
                    let ln_y = if failures == 0 {
                        0.0
                    } else {
                        failures as f64 * ln_rest
                    };
                    (ln_ways + ln_x + ln_y).exp()
                }),
        );
    }

    fn counts(&self) -> impl Iterator<Item = Count> + '_ {
        let units = self.units;
        (self.first..)
            .zip(&self.ln_ways)
            .map(move |(successes, _)| Count { successes, units })
    }
}

/// All tables that are weighed, and the observed one.
struct Tables {
    pair: Pair,
    control: Outcomes,
    treatment: Outcomes,
}

impl Tables {
    fn of(control: Count, treatment: Count) -> Result<Self, StatsError> {
        control.check(Side::Control)?;
        treatment.check(Side::Treatment)?;
        for count in [control, treatment] {
            if count.units > MAX_UNITS {
                return Err(StatsError::TooLarge {
                    what: "units of an exact comparison",
                    size: count.units,
                    limit: MAX_UNITS,
                });
            }
        }
        let tables = Self {
            pair: Pair { control, treatment },
            control: Outcomes::of(control),
            treatment: Outcomes::of(treatment),
        };
        if tables.count() > MAX_TABLES {
            return Err(StatsError::TooLarge {
                what: "tables of an exact comparison",
                size: tables.count(),
                limit: MAX_TABLES,
            });
        }
        Ok(tables)
    }

    fn count(&self) -> u64 {
        (self.control.ln_ways.len() as u64).saturating_mul(self.treatment.ln_ways.len() as u64)
    }

    /// Upper and lower tail of a claim, with what was not searched.
    fn tails(&self, claim: Claim) -> [f64; 2] {
        let unsearched = UNSEARCHED + LEFT_OUT;
        let [low, high] = self.control.rates;
        let [from, to] = Claim::untreated(self.treatment.rates, claim);
        let (low, high) = (low.max(from), high.min(to));
        if low > high {
            return [unsearched; 2];
        }
        let members = self.members(claim);
        let mut work = [Vec::new(), Vec::new()];
        let mut at = |rate: f64| self.weigh(&members, claim, rate, &mut work);
        let step = (high - low) / f64::from(RATES);
        let mut worst = [(low, 0.0); 2];
        for index in 0..=RATES {
            let rate = low + step * f64::from(index);
            for (worst, value) in worst.iter_mut().zip(at(rate)) {
                if value > worst.1 {
                    *worst = (rate, value);
                }
            }
        }
        let mut tails = [0.0; 2];
        for (index, tail) in tails.iter_mut().enumerate() {
            let (centre, found) = worst[index];
            let range = ((centre - step).max(low), (centre + step).min(high));
            *tail = found.max(golden(range, |rate| at(rate)[index])) + unsearched;
        }
        tails
    }

    /// For each table, row by row of control, whether it is in the upper and in the lower tail.
    fn members(&self, claim: Claim) -> Vec<[bool; 2]> {
        let score = |pair: &Pair| match claim.scale {
            Scale::Difference => pair.score_of_difference(claim.value),
            Scale::Ratio => pair.score_of_ratio(claim.value.exp()),
        };
        let observed = score(&self.pair);
        let slack = TIE * observed.abs().max(1.0);
        let mut members =
            Vec::with_capacity(self.control.ln_ways.len() * self.treatment.ln_ways.len());
        for control in self.control.counts() {
            members.extend(self.treatment.counts().map(|treatment| {
                let score = score(&Pair { control, treatment });
                [score >= observed - slack, score <= observed + slack]
            }));
        }
        members
    }

    /// Chance of the tables of either tail at a rate of control.
    fn weigh(
        &self,
        members: &[[bool; 2]],
        claim: Claim,
        rate: f64,
        [control, treatment]: &mut [Vec<f64>; 2],
    ) -> [f64; 2] {
        self.control.probabilities(rate, control);
        self.treatment.probabilities(claim.treated(rate), treatment);
        let mut totals = [0.0; 2];
        for (row, chance) in members.chunks(treatment.len().max(1)).zip(control) {
            let mut tails = [0.0; 2];
            for (is_in, more) in row.iter().zip(treatment.iter()) {
                for (tail, is_in) in tails.iter_mut().zip(is_in) {
                    *tail += if *is_in { *more } else { 0.0 };
                }
            }
            totals = [
                totals[0] + *chance * tails[0],
                totals[1] + *chance * tails[1],
            ];
        }
        totals
    }

    /// The end of an interval in a direction, refuting claims at `side_alpha`.
    fn end(&self, scale: Scale, direction: Direction, side_alpha: f64) -> End {
        let index = usize::from(direction == Direction::Down);
        let Some((far, near)) = self.range(scale, direction) else {
            // No claim in this direction can be refuted: a ratio of -100 %, or without bound.
            let at = (direction == Direction::Up).then_some(-1.0);
            return End {
                at,
                worst_against: 0.0,
            };
        };
        let tail = |value: f64| self.tails(Claim { scale, value })[index];
        let mut claims: Vec<f64> = (0..=CLAIMS)
            .map(|step| {
                let share = f64::from(step) / f64::from(CLAIMS);
                // Denser towards the estimate, where ends lie unless counts are tiny.
                far + (near - far) * share * (2.0 - share)
            })
            .collect();
        if far.min(near) < 0.0 && far.max(near) > 0.0 {
            claims.push(0.0);
            claims.sort_by(|left, right| (left - far).abs().total_cmp(&(right - far).abs()));
        }
        let (mut outside, mut kept, mut worst_against) = (far, None, 0.0_f64);
        for claim in claims {
            let value = tail(claim);
            let says_no_effect = match direction {
                Direction::Up => claim <= 0.0,
                Direction::Down => claim >= 0.0,
            };
            if says_no_effect {
                worst_against = worst_against.max(value);
            }
            if kept.is_none() && value > side_alpha {
                kept = Some(claim);
            } else if kept.is_none() {
                outside = claim;
            }
        }
        let inside = kept.unwrap_or(near);
        let tolerance = 1e-7 * (far - near).abs();
        let end = bisect(inside, outside, tolerance, |value| tail(value) > side_alpha);
        let value = end.inside;
        End {
            at: Some(Claim { scale, value }.effect()).filter(|effect| effect.is_finite()),
            worst_against,
        }
    }

    /// The claims to search, from the furthest that is possible at all to the estimate.
    fn range(&self, scale: Scale, direction: Direction) -> Option<(f64, f64)> {
        let ([low_c, high_c], [low_t, high_t]) = (self.control.rates, self.treatment.rates);
        match (scale, direction) {
            (Scale::Difference, Direction::Up) => Some((low_t - high_c, self.pair.difference())),
            (Scale::Difference, Direction::Down) => Some((high_t - low_c, self.pair.difference())),
            (Scale::Ratio, Direction::Up) => {
                (low_t > 0.0).then(|| ((low_t / high_c).ln(), self.ln_ratio()))
            }
            (Scale::Ratio, Direction::Down) => {
                (low_c > 0.0).then(|| ((high_t / low_c).ln(), self.ln_ratio()))
            }
        }
    }

    /// The logarithm of the ratio of rates, none taken for half a success.
    fn ln_ratio(&self) -> f64 {
        let rate = |count: Count| (count.successes as f64).max(0.5) / count.units as f64;
        (rate(self.pair.treatment) / rate(self.pair.control)).ln()
    }
}

/// `ln` of the number of ways to have each of these numbers of successes, each from the one before.
fn ln_ways(units: u64, successes: std::ops::RangeInclusive<u64>) -> Vec<f64> {
    let mut ways = ln_choose(units, *successes.start());
    successes
        .map(|x| {
            let found = ways;
            ways += ((units - x) as f64 / (x + 1) as f64).ln();
            found
        })
        .collect()
}

/// The largest value found by golden sections.
fn golden((mut low, mut high): (f64, f64), mut value_at: impl FnMut(f64) -> f64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let mut best = 0.0_f64;
    for _ in 0..SECTIONS {
        let (left, right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        let (at_left, at_right) = (value_at(left), value_at(right));
        best = best.max(at_left).max(at_right);
        if at_left < at_right {
            low = left;
        } else {
            high = right;
        }
    }
    best
}
