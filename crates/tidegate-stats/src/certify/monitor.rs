//! Always-valid comparisons watched at every unit, hourly or daily: do they ever miss?
//!
//! One repetition feeds units to two arms and asks the product's own comparison at each look whether
//! the absolute interval and the relative set still contain the truth. At a lift of zero a miss
//! is a false finding on either scale.
//!
//! Watching every unit would ask a million times per repetition. There a running statistic of the
//! same two contrasts, from plain sums, screens the looks; whenever it comes within 3 % of the
//! boundary the product's comparison is asked and its answer counts.

use super::random::Stream;
use super::study::Schedule;
use crate::arm::ArmSummary;
use crate::effect::Contrast;
use crate::sequential::{Boundary, SequentialOptions, compare_contrast};

/// Share of the boundary from which the product's comparison is asked.
pub(super) const SCREEN: f64 = 0.97;

/// What a unit's metric looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Model {
    /// One with chance `rate`, else zero.
    Conversion { rate: f64 },
    /// Poisson with this mean.
    Count { mean: f64 },
    /// `exp(sigma Z)` for 2 % of units, else zero.
    Revenue { sigma: f64 },
}

impl Model {
    fn draw(self, stream: &mut Stream, lift: f64) -> f64 {
        match self {
            Self::Conversion { rate } => f64::from(u8::from(stream.coin(rate * (1.0 + lift)))),
            Self::Count { mean } => stream.poisson(mean * (1.0 + lift)),
            Self::Revenue { sigma } => {
                if stream.coin(0.02) {
                    (sigma * stream.normal()).exp() * (1.0 + lift)
                } else {
                    0.0
                }
            }
        }
    }

    fn mean(self) -> f64 {
        match self {
            Self::Conversion { rate } => rate,
            Self::Count { mean } => mean,
            Self::Revenue { sigma } => 0.02 * (0.5 * sigma * sigma).exp(),
        }
    }
}

/// Plain running sums of one arm.
#[derive(Clone, Copy, Default)]
struct Sums {
    units: u64,
    events: u64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn push(&mut self, value: f64) {
        self.units += 1;
        if value != 0.0 {
            self.events += 1;
            self.sum += value;
            self.squares += value * value;
        }
    }

    fn mean(&self) -> f64 {
        self.sum / self.units as f64
    }

    /// Variance of the mean.
    fn mean_variance(&self) -> f64 {
        let units = self.units as f64;
        (self.squares - self.sum * self.sum / units) / (units * (units - 1.0))
    }

    fn arm(&self) -> Option<ArmSummary> {
        let variance = (self.mean_variance() * self.units as f64).max(0.0);
        let arm = ArmSummary::new(self.units, self.mean(), variance).ok()?;
        Some(arm.with_events(self.events))
    }
}

/// Whether the absolute interval, and the relative set, ever missed: in that order.
pub(super) type Misses = [bool; 2];

/// A study of one metric under one lift.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    model: Model,
    lift: f64,
    schedule: Schedule,
    options: SequentialOptions,
    /// Squared screening multiplier after each unit, when every unit is watched.
    screen: Vec<f64>,
}

impl Monitor {
    pub(super) fn new(
        model: Model,
        lift: f64,
        schedule: Schedule,
        options: SequentialOptions,
    ) -> Self {
        let screen = match (schedule, Boundary::new(&options)) {
            (Schedule::EveryUnit { units }, Ok(boundary)) => (1..=units)
                .map(|unit| (SCREEN * boundary.multiplier(f64::from(unit))).powi(2))
                .collect(),
            _ => Vec::new(),
        };
        Self {
            model,
            lift,
            schedule,
            options,
            screen,
        }
    }

    pub(super) fn repetition(&self, stream: &mut Stream) -> Misses {
        match self.schedule {
            Schedule::EveryUnit { .. } => self.every_unit(stream),
            Schedule::Looks {
                looks,
                units_per_look,
            } => self.at_looks(stream, looks, units_per_look),
        }
    }

    fn feed(&self, stream: &mut Stream, arms: &mut [Sums; 2]) {
        let treated = stream.coin(0.5);
        let lift = if treated { self.lift } else { 0.0 };
        let value = self.model.draw(stream, lift);
        arms[usize::from(treated)].push(value);
    }

    fn at_looks(&self, stream: &mut Stream, looks: u32, units_per_look: u32) -> Misses {
        let mut arms = [Sums::default(); 2];
        let mut missed = [false; 2];
        for _ in 0..looks {
            for _ in 0..units_per_look {
                self.feed(stream, &mut arms);
            }
            self.ask(&arms, &mut missed);
        }
        missed
    }

    fn every_unit(&self, stream: &mut Stream) -> Misses {
        let mut arms = [Sums::default(); 2];
        let mut missed = [false; 2];
        let truth = self.lift * self.model.mean();
        for limit in &self.screen {
            self.feed(stream, &mut arms);
            let [control, treatment] = &arms;
            if control.events.min(treatment.events) < self.options.burn_in_events {
                continue;
            }
            let (variance_c, variance_t) = (control.mean_variance(), treatment.mean_variance());
            let phi = 1.0 + self.lift;
            let absolute = treatment.mean() - control.mean() - truth;
            let relative = treatment.mean() - phi * control.mean();
            let near = |departure: f64, variance: f64| departure * departure > limit * variance;
            if near(absolute, variance_t + variance_c)
                || near(relative, variance_t + phi * phi * variance_c)
            {
                self.ask(&arms, &mut missed);
                if missed == [true; 2] {
                    break;
                }
            }
        }
        missed
    }

    fn ask(&self, arms: &[Sums; 2], missed: &mut Misses) {
        let (Some(control), Some(treatment)) = (arms[0].arm(), arms[1].arm()) else {
            return;
        };
        let contrast = Contrast::of_means(&control, &treatment);
        let Ok(answer) = contrast.and_then(|found| compare_contrast(&found, &self.options)) else {
            return;
        };
        missed[0] |= !answer.absolute.contains(self.lift * self.model.mean());
        missed[1] |= !answer.relative.contains(self.lift);
    }
}
