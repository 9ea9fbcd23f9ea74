//! Monte Carlo forecasts from finished work per day, seeded.
//!
//! *How many by a date*: draw that many days from the history, with replacement and zero days included, and add up.
//! *When will these be done*: draw days until the sum reaches the number.
//!
//! The history is itself a sample, and a short one.
//! Each simulation therefore first redraws the history (a bootstrap of the bootstrap) and then the future from it;
//! without that step an 85 % forecast holds less often than it says.
//!
//! Days are drawn independently: weekly rhythm averages out over horizons of weeks, trends do not.
//! [`back_test`] says how well that has held: the share of past forecasts that came true, and whether the outcomes
//! spread evenly over the forecast distribution.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use crate::statistic::{below, floor_index};

/// Longest horizon, days: beyond it a forecast from past days says nothing.
pub const MAX_DAYS: u32 = 3650;
/// Most simulations of one forecast.
pub const MAX_SIMULATIONS: u32 = 100_000;

/// Why there is no forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    /// Too few days of history.
    #[error("{days} days of history are too few; give at least 10")]
    ShortHistory {
        /// Days given.
        days: usize,
    },
    /// Nothing was ever finished.
    #[error("nothing was finished in the history, so nothing can be said about the future")]
    NothingFinished,
    /// A horizon or number of simulations out of range.
    #[error("give 1 to {MAX_DAYS} days and 1 to {MAX_SIMULATIONS} simulations")]
    OutOfRange,
}

/// What to simulate with.
#[derive(Debug, Clone, Copy)]
pub struct Simulation {
    /// How often.
    pub simulations: u32,
    /// Seed.
    pub seed: u64,
}

/// What holds with which probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Holds in half of the cases.
    pub p50: u32,
    /// Holds in 70 %.
    pub p70: u32,
    /// Holds in 85 %.
    pub p85: u32,
    /// Holds in 95 %.
    pub p95: u32,
}

const MIN_HISTORY_DAYS: usize = 10;

/// How many items are finished within `days`: at least so many, with each probability.
///
/// # Errors
/// [`ForecastError`].
pub fn how_many(
    history: &[u32],
    days: u32,
    simulation: Simulation,
) -> Result<Forecast, ForecastError> {
    check(history, days, simulation)?;
    let totals = simulate(history, simulation, |future| {
        (0..days).fold(0_u32, |sum, _| sum.saturating_add(future.day()))
    });
    let at_least = |probability: f64| rank(&totals, 1.0 - probability);
    Ok(Forecast {
        p50: at_least(0.50),
        p70: at_least(0.70),
        p85: at_least(0.85),
        p95: at_least(0.95),
    })
}

/// Days until `items` are finished: within so many, with each probability; [`MAX_DAYS`] stands for "not in sight".
///
/// # Errors
/// [`ForecastError`].
pub fn when_done(
    history: &[u32],
    items: u32,
    simulation: Simulation,
) -> Result<Forecast, ForecastError> {
    check(history, 1, simulation)?;
    let days = simulate(history, simulation, |future| {
        let mut sum = 0_u32;
        let mut days = 0;
        while sum < items && days < MAX_DAYS {
            sum = sum.saturating_add(future.day());
            days += 1;
        }
        days
    });
    Ok(Forecast {
        p50: rank(&days, 0.50),
        p70: rank(&days, 0.70),
        p85: rank(&days, 0.85),
        p95: rank(&days, 0.95),
    })
}

/// How past forecasts would have done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackTest {
    /// Forecasts made.
    pub n: usize,
    /// Share of 85 % forecasts that came true.
    pub coverage_85: f64,
    /// Where outcomes fell in the forecast distribution, in tenths from lowest to highest; even is good.
    pub spread: [usize; 10],
}

/// Rolling origin: from each day with `training` days behind and `horizon` ahead, forecast how many and compare.
///
/// # Errors
/// [`ForecastError`].
pub fn back_test(
    history: &[u32],
    training: usize,
    horizon: u32,
    simulation: Simulation,
) -> Result<BackTest, ForecastError> {
    let ahead = horizon as usize;
    if training < MIN_HISTORY_DAYS || history.len() < training + ahead {
        return Err(ForecastError::ShortHistory {
            days: history.len(),
        });
    }
    let mut test = BackTest {
        n: 0,
        coverage_85: 0.0,
        spread: [0; 10],
    };
    let mut held = 0;
    // Steps of a whole horizon: outcomes that overlap are not independent evidence.
    for origin in (training..=history.len() - ahead).step_by(ahead.max(1)) {
        let past = &history[origin - training..origin];
        if past.iter().all(|&day| day == 0) {
            continue;
        }
        let seeded = Simulation {
            seed: simulation.seed ^ origin as u64,
            ..simulation
        };
        check(past, horizon, seeded)?;
        let totals = simulate(past, seeded, |future| {
            (0..horizon).fold(0_u32, |sum, _| sum.saturating_add(future.day()))
        });
        let outcome: u32 = history[origin..origin + ahead].iter().sum();
        test.n += 1;
        held += usize::from(outcome >= rank(&totals, 0.15));
        let below = totals.partition_point(|&total| total < outcome);
        let tied = totals.partition_point(|&total| total <= outcome) - below;
        let place = (below as f64 + tied as f64 / 2.0) / totals.len() as f64;
        test.spread[floor_index(place * 10.0).min(9)] += 1;
    }
    if test.n > 0 {
        test.coverage_85 = f64::from(u32::try_from(held).unwrap_or(u32::MAX)) / test.n as f64;
    }
    Ok(test)
}

fn check(history: &[u32], days: u32, simulation: Simulation) -> Result<(), ForecastError> {
    if history.len() < MIN_HISTORY_DAYS {
        return Err(ForecastError::ShortHistory {
            days: history.len(),
        });
    }
    if history.iter().all(|&day| day == 0) {
        return Err(ForecastError::NothingFinished);
    }
    let in_range =
        (1..=MAX_DAYS).contains(&days) && (1..=MAX_SIMULATIONS).contains(&simulation.simulations);
    in_range.then_some(()).ok_or(ForecastError::OutOfRange)
}

/// One simulated future: days drawn from a redrawn history.
struct Future<'f> {
    rng: &'f mut ChaCha8Rng,
    history: &'f [u32],
}

impl Future<'_> {
    fn day(&mut self) -> u32 {
        self.history[below(self.rng, self.history.len())]
    }
}

/// Outcomes in ascending order.
fn simulate(
    history: &[u32],
    simulation: Simulation,
    outcome: impl Fn(&mut Future<'_>) -> u32,
) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(simulation.seed);
    let mut redrawn = vec![0; history.len()];
    let mut outcomes: Vec<u32> = (0..simulation.simulations)
        .map(|_| {
            for day in &mut redrawn {
                *day = history[below(&mut rng, history.len())];
            }
            outcome(&mut Future {
                rng: &mut rng,
                history: &redrawn,
            })
        })
        .collect();
    outcomes.sort_unstable();
    outcomes
}

/// The outcome at a share of the way through, the nearest rank.
fn rank(sorted: &[u32], share: f64) -> u32 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(floor_index(share * sorted.len() as f64).min(last))
        .copied()
        .unwrap_or(0)
}
