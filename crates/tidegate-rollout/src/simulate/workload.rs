//! Synthetic services: who fails when, if nothing were wrong with the treatment.

use serde::Serialize;

use super::draw::{Draw, mix};

/// A service to play.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Workload {
    /// Requests per second of the whole audience.
    pub requests_per_second: f64,
    /// Share of requests that fail in control, averaged over time.
    pub error_rate: f64,
    /// How users and time shape the failures.
    pub shape: Shape,
}

/// What makes a service unlike a series of coin tosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Every request by a unit of its own, at a constant rate.
    Plain,
    /// The rate swings by 80 % over a day, from a random hour.
    DailyWaves,
    /// 20,000 users whose activity is Pareto-distributed: the busiest send thousands of requests.
    HeavyUsers,
    /// Outages: a tenth of the time, in spells of a minute, failures are ten times as frequent.
    Autocorrelated,
    /// Every failure is retried by its user, and each retry fails too, five times on average.
    RetryStorms,
}

impl Shape {
    /// Every shape, for tables.
    pub const ALL: [Self; 5] = [
        Self::Plain,
        Self::DailyWaves,
        Self::HeavyUsers,
        Self::Autocorrelated,
        Self::RetryStorms,
    ];

    /// Number of users, where requests share users; zero where each request is a unit of its own.
    pub(super) const fn population(self) -> usize {
        match self {
            Self::HeavyUsers | Self::RetryStorms => USERS as usize,
            Self::Plain | Self::DailyWaves | Self::Autocorrelated => 0,
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::DailyWaves => "daily waves",
            Self::HeavyUsers => "heavy users",
            Self::Autocorrelated => "autocorrelated",
            Self::RetryStorms => "retry storms",
        }
    }
}

/// Users of the shapes that have a population.
const USERS: u32 = 20_000;
/// Mean length of an outage in seconds, and of the time between two.
const SPELL_SECONDS: (f64, f64) = (60.0, 540.0);
/// Failures per unit of rate inside and outside an outage; 0.1 x 5.26 + 0.9 x 0.526 = 1.
const SPELL_FACTORS: (f64, f64) = (10.0 / 1.9, 1.0 / 1.9);
/// Probability that a retry is followed by another: five on average.
const RETRY_AGAIN: f64 = 5.0 / 6.0;

/// One failing request before the treatment's effect: a candidate, to be thinned by arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failure {
    /// Seconds since the start.
    pub at: f64,
    /// The unit.
    pub unit: u64,
    /// Failing requests of this unit in this burst, itself included.
    pub requests: u64,
}

/// The stream of failures of one history, at `boost` times the base rate.
#[derive(Debug, Clone)]
pub struct Arrivals {
    workload: Workload,
    base_rate: f64,
    now: f64,
    day_phase: f64,
    spell: (bool, f64),
    next_unit: u64,
    /// Salt of this history: draws users' buckets anew.
    pub salt: u64,
}

impl Arrivals {
    /// The stream for a workload; `boost` multiplies the base rate (for thinning by arm afterwards).
    #[must_use]
    pub fn new(workload: Workload, boost: f64, draw: &mut Draw) -> Self {
        let bursts = match workload.shape {
            // A storm is one candidate with several requests: fewer candidates for the same rate.
            Shape::RetryStorms => 1.0 - RETRY_AGAIN,
            _ => 1.0,
        };
        let spell_end = draw.wait(1.0 / SPELL_SECONDS.1);
        Self {
            workload,
            base_rate: workload.requests_per_second * workload.error_rate * boost * bursts,
            now: 0.0,
            day_phase: draw.uniform() * std::f64::consts::TAU,
            spell: (false, spell_end),
            next_unit: 0,
            salt: draw.bits(),
        }
    }

    /// The next candidate.
    pub fn next(&mut self, draw: &mut Draw) -> Failure {
        match self.workload.shape {
            Shape::Plain | Shape::HeavyUsers | Shape::RetryStorms => {
                self.now += draw.wait(self.base_rate);
            }
            Shape::DailyWaves => self.wait_for_wave(draw),
            Shape::Autocorrelated => self.wait_through_spells(draw),
        }
        Failure {
            at: self.now,
            unit: self.unit(draw),
            requests: self.requests(draw),
        }
    }

    fn wait_for_wave(&mut self, draw: &mut Draw) {
        loop {
            self.now += draw.wait(self.base_rate * 1.8);
            let angle = std::f64::consts::TAU * self.now / 86_400.0 + self.day_phase;
            if draw.happens(0.8_f64.mul_add(angle.sin(), 1.0) / 1.8) {
                return;
            }
        }
    }

    fn wait_through_spells(&mut self, draw: &mut Draw) {
        loop {
            let (is_outage, until) = self.spell;
            let factor = if is_outage {
                SPELL_FACTORS.0
            } else {
                SPELL_FACTORS.1
            };
            let at = self.now + draw.wait(self.base_rate * factor);
            if at <= until {
                self.now = at;
                return;
            }
            self.now = until;
            let lasts = if is_outage {
                SPELL_SECONDS.1
            } else {
                SPELL_SECONDS.0
            };
            self.spell = (!is_outage, until + draw.wait(1.0 / lasts));
        }
    }

    fn unit(&mut self, draw: &mut Draw) -> u64 {
        self.next_unit += 1;
        match self.workload.shape {
            Shape::HeavyUsers => {
                // Rank by activity: u^2 piles a third of all requests onto a tenth of the users,
                // u^8 a quarter of them onto a handful.
                let u = draw.uniform();
                let skewed = if draw.happens(0.25) { u.powi(8) } else { u * u };
                draw_rank(skewed)
            }
            Shape::RetryStorms => draw.below(u64::from(USERS)),
            _ => self.next_unit,
        }
    }

    fn requests(&self, draw: &mut Draw) -> u64 {
        if self.workload.shape != Shape::RetryStorms {
            return 1;
        }
        let mut requests = 1;
        while requests < 1_000 && draw.happens(RETRY_AGAIN) {
            requests += 1;
        }
        requests
    }

    /// The unit's bucket in 0..10000, fixed for the history.
    #[must_use]
    pub fn bucket(&self, unit: u64) -> u64 {
        mix(self.salt ^ mix(unit)) % 10_000
    }
}

/// Rank of a user from a fraction in (0, 1).
fn draw_rank(fraction: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction below one of 20,000"
    )]
    let rank = (fraction * f64::from(USERS)) as u64;
    rank.min(u64::from(USERS) - 1)
}
