//! Exact tests of two small proportions.
//!
//! # Promise
//! The level is never exceeded at any arm sizes and any common rate, if looked at once.
//!
//! # Formula
//! *Fisher's conditional test*: given the total number of successes, those of treatment are hypergeometric;
//! the two-sided p sums all tables no likelier than the observed one.
//!
//! *The unconditional test* (Barnard 1947; Suissa and Shuster 1985; Chan and Zhang 1999): tables are ordered by
//! the score of `proportions`, each tail is maximised over the unknown common rate, and the two-sided p is
//! twice the smaller tail.
//! It is more powerful than Fisher's.
//!
//! Both answer with a p-value alone; `small_counts` inverts the second into intervals, and `count_eprocess` is
//! exact at all times.
//!
//! # When it fails
//! The unconditional test visits every table: `(n_T + 1) (n_C + 1)` above [`MAX_TABLES`] is refused, by which
//! size the score test is accurate.

use crate::comparison::{Null, Tail};
use crate::error::{Side, StatsError};
use crate::proportions::{Count, score};
use crate::special::ln_gamma;

/// Most tables the unconditional test visits.
pub const MAX_TABLES: u64 = 40_000;

/// Most units of an arm in Fisher's test, whose sum runs over at most as many tables.
pub const MAX_FISHER_UNITS: u64 = 1_000_000;

/// Probabilities within this share of each other count as equal, so that ties survive rounding.
pub(crate) const TIE: f64 = 1e-7;

/// Points at which the nuisance rate is tried before the best is refined.
const GRID: u32 = 128;

/// Fisher's exact p-value.
///
/// # Errors
/// If a count is impossible or an arm has more than [`MAX_FISHER_UNITS`].
pub fn fisher_p(control: Count, treatment: Count, tail: Tail) -> Result<f64, StatsError> {
    control.check(Side::Control)?;
    treatment.check(Side::Treatment)?;
    for units in [control.units, treatment.units] {
        if units > MAX_FISHER_UNITS {
            return Err(StatsError::TooLarge {
                what: "units in an exact test",
                size: units,
                limit: MAX_FISHER_UNITS,
            });
        }
    }
    let successes = control.successes + treatment.successes;
    let least = successes.saturating_sub(control.units);
    let most = successes.min(treatment.units);
    let ln_total = ln_choose(control.units + treatment.units, successes);
    let ln_probability = |treated: u64| {
        ln_choose(treatment.units, treated) + ln_choose(control.units, successes - treated)
            - ln_total
    };
    let observed = ln_probability(treatment.successes);
    let counts = |treated: &u64| match tail {
        Tail::Greater => *treated >= treatment.successes,
        Tail::Less => *treated <= treatment.successes,
        Tail::TwoSided => ln_probability(*treated) <= observed + TIE,
    };
    let p: f64 = (least..=most)
        .filter(counts)
        .map(|treated| ln_probability(treated).exp())
        .sum();
    Ok(p.min(1.0))
}

/// The unconditional exact p-value, tables ordered by their score.
///
/// # Errors
/// If a count is impossible or there are more than [`MAX_TABLES`] tables.
pub fn unconditional_p(control: Count, treatment: Count, tail: Tail) -> Result<f64, StatsError> {
    control.check(Side::Control)?;
    treatment.check(Side::Treatment)?;
    let tables = control
        .units
        .saturating_add(1)
        .saturating_mul(treatment.units.saturating_add(1));
    if tables > MAX_TABLES {
        return Err(StatsError::TooLarge {
            what: "tables",
            size: tables,
            limit: MAX_TABLES,
        });
    }
    match tail {
        Tail::Greater => upper_tail(control, treatment),
        Tail::Less => upper_tail(failures(control), failures(treatment)),
        Tail::TwoSided => {
            let upper = upper_tail(control, treatment)?;
            let lower = upper_tail(failures(control), failures(treatment))?;
            Ok((2.0 * upper.min(lower)).min(1.0))
        }
    }
}

fn failures(count: Count) -> Count {
    Count {
        successes: count.units - count.successes,
        units: count.units,
    }
}

/// The largest probability, over the common rate, of a score at least the observed one.
fn upper_tail(control: Count, treatment: Count) -> Result<f64, StatsError> {
    let observed = score(control, treatment, Null::Zero)?;
    let threshold = observed - TIE * observed.abs().max(1.0);
    // For every number of successes in control, the fewest in treatment that are as extreme: the score
    // rises with the latter, so the table of extremes is a staircase.
    let mut stairs = Vec::new();
    let mut treated = 0;
    for untreated in 0..=control.units {
        while treated <= treatment.units {
            let table = Count {
                successes: treated,
                units: treatment.units,
            };
            let other = Count {
                successes: untreated,
                units: control.units,
            };
            if score(other, table, Null::Zero)? >= threshold {
                break;
            }
            treated += 1;
        }
        stairs.push(treated);
    }
    let tail_at = |rate: f64| tail_probability(&stairs, control.units, treatment.units, rate);
    let step = 1.0 / f64::from(GRID);
    let mut best = (0.0, tail_at(0.0));
    for index in 1..=GRID {
        let rate = f64::from(index) * step;
        let value = tail_at(rate);
        if value > best.1 {
            best = (rate, value);
        }
    }
    Ok(refine(best.0, step, tail_at).max(best.1).min(1.0))
}

/// The largest value within a grid step of `centre`, by golden sections.
fn refine(centre: f64, step: f64, value_at: impl Fn(f64) -> f64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let (mut low, mut high) = ((centre - step).max(0.0), (centre + step).min(1.0));
    for _ in 0..40 {
        let (left, right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        if value_at(left) < value_at(right) {
            low = left;
        } else {
            high = right;
        }
    }
    value_at(0.5 * (low + high))
}

/// The probability of the tables on or above the stairs, both arms at the same rate.
fn tail_probability(stairs: &[u64], n_control: u64, n_treatment: u64, rate: f64) -> f64 {
    let treated = binomial(n_treatment, rate);
    let mut at_least = vec![0.0; treated.len() + 1];
    for index in (0..treated.len()).rev() {
        at_least[index] = at_least[index + 1] + treated[index];
    }
    binomial(n_control, rate)
        .iter()
        .zip(stairs)
        .map(|(probability, stair)| {
            let index = usize::try_from(*stair).unwrap_or(usize::MAX);
            probability * at_least.get(index).copied().unwrap_or(0.0)
        })
        .sum()
}

/// All binomial probabilities of `units` trials.
fn binomial(units: u64, rate: f64) -> Vec<f64> {
    (0..=units)
        .map(|successes| {
            let (x, y) = (successes as f64, (units - successes) as f64);
            let ln_x = if successes == 0 { 0.0 } else { x * rate.ln() };
            let ln_y = if successes == units {
                0.0
            } else {
                y * (-rate).ln_1p()
            };
            (ln_choose(units, successes) + ln_x + ln_y).exp()
        })
        .collect()
}

/// `ln` of the number of ways to choose `k` of `n`.
pub(crate) fn ln_choose(n: u64, k: u64) -> f64 {
    let (n, k) = (n as f64, k as f64);
    ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0)
}
