//! Always-valid inference for bounded outcomes, exact at any number of units.
//!
//! # Promise
//! No normal approximation: for outcomes between 0 and a known bound (conversions, revenue under a cap), the
//! intervals hold at all times at once with probability at least `1 - alpha` from the first unit on, whatever
//! the distribution.
//! They are wider than those of `sequential` where the latter are valid.
//!
//! # Assumptions
//! Outcomes lie in `[0, bound]`; the bound is known beforehand (a cap, see `winsorise`).
//! Units arrive in some order that does not look ahead; the answer depends on that order, so these states
//! are updated one unit at a time and do not merge.
//!
//! # Formula
//! *Mean of an arm*: the predictable plug-in empirical-Bernstein confidence sequence of Waudby-Smith and Ramdas
//! (JRSSB 2024, arXiv 2010.09686), with outcomes scaled to `[0, 1]`: centre `sum(l_i X_i) / sum l_i`, half-width
//! `(ln(2/alpha) + sum v_i psi(l_i)) / sum l_i`, `v_i = 4 (X_i - mu_{i-1})^2`, `psi(l) = (-ln(1-l) - l) / 4`,
//! `l_t = min(sqrt(2 ln(2/alpha) / (s2_{t-1} t ln(1+t))), 1/2)`.
//! Two arms at level `alpha / 2` each give a rectangle of means; the absolute and the relative set are its images,
//! so they agree about "no effect".
//!
//! *A contrast*: with treatment probability `w`, the score `S = Y (A / w - phi (1 - A) / (1 - w))` has mean
//! `mu_T - phi mu_C`, so under the null wealth `prod(1 + l_i S_i)` is a test martingale while no bet can lose more
//! than half the wealth.
//! One bettor for each sign, averaged, gives E; `p = min(1, 1/E)`.

use serde::Serialize;

use crate::comparison::{Effect, Relative, RelativeSet};
use crate::error::{Side, StatsError, finite, open_unit, positive};

/// Largest share of the wealth that a bet may lose.
const LARGEST_BET: f64 = 0.5;

/// The running confidence sequence of one arm's mean.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundedMean {
    bound: f64,
    ln_two_over_alpha: f64,
    units: u64,
    sum: f64,
    squares: f64,
    weights: f64,
    weighted: f64,
    penalty: f64,
    lower: f64,
    upper: f64,
}

impl BoundedMean {
    /// Before the first unit, for outcomes in `[0, bound]` at level `alpha`.
    ///
    /// # Errors
    /// If the level or the bound is out of range.
    pub fn new(bound: f64, alpha: f64) -> Result<Self, StatsError> {
        let alpha = open_unit("alpha", alpha)?;
        Ok(Self {
            bound: positive("bound", bound)?,
            ln_two_over_alpha: (2.0 / alpha).ln(),
            units: 0,
            sum: 0.0,
            squares: 0.0,
            weights: 0.0,
            weighted: 0.0,
            penalty: 0.0,
            lower: 0.0,
            upper: 1.0,
        })
    }

    /// Takes the next unit into account.
    ///
    /// # Errors
    /// If the outcome lies outside `[0, bound]`; nothing is then changed.
    pub fn push(&mut self, outcome: f64) -> Result<(), StatsError> {
        let scaled = within(outcome, self.bound)?;
        let before = self.units as f64;
        let mean = (0.5 + self.sum) / (before + 1.0);
        let variance = (0.25 + self.squares) / (before + 1.0);
        let time = before + 1.0;
        let bet = (2.0 * self.ln_two_over_alpha / (variance * time * time.ln_1p())).sqrt();
        let bet = bet.min(LARGEST_BET);
        self.weights += bet;
        self.weighted += bet * scaled;
        let surprise = scaled - mean;
        self.penalty += surprise * surprise * (-(-bet).ln_1p() - bet);
        self.units += 1;
        self.sum += scaled;
        let updated = (0.5 + self.sum) / (time + 1.0);
        self.squares += (scaled - updated) * (scaled - updated);
        let centre = self.weighted / self.weights;
        let half_width = (self.ln_two_over_alpha + self.penalty) / self.weights;
        self.lower = self.lower.max(centre - half_width);
        self.upper = self.upper.min(centre + half_width);
        Ok(())
    }

    /// Units seen.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units
    }

    /// The observed mean and the intersection of all intervals so far.
    ///
    /// The intersection is empty (`lower > upper`) only in the improbable case that one of them erred.
    #[must_use]
    pub fn interval(&self) -> Effect {
        let estimate = if self.units > 0 {
            self.sum / self.units as f64
        } else {
            0.5
        };
        Effect {
            estimate: estimate * self.bound,
            lower: Some(self.lower * self.bound),
            upper: Some(self.upper * self.bound),
        }
    }
}

/// Two bounded arms, compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BoundedComparison {
    /// Mean and confidence interval of control.
    pub control: Effect,
    /// Mean and confidence interval of treatment.
    pub treatment: Effect,
    /// The difference.
    pub absolute: Effect,
    /// The difference as a share of the baseline.
    pub relative: Relative,
}

/// Compares two arms, each monitored at half the level of the comparison.
#[must_use]
pub fn compare(control: &BoundedMean, treatment: &BoundedMean) -> BoundedComparison {
    let (control, treatment) = (control.interval(), treatment.interval());
    let ends = |effect: &Effect| {
        (
            effect.lower.unwrap_or(0.0),
            effect.upper.unwrap_or(f64::MAX),
        )
    };
    let ((low_control, high_control), (low_treatment, high_treatment)) =
        (ends(&control), ends(&treatment));
    let difference = treatment.estimate - control.estimate;
    let ratio = |over: f64, under: f64| (under > 0.0).then(|| (over - under) / under);
    BoundedComparison {
        control,
        treatment,
        absolute: Effect {
            estimate: difference,
            lower: Some(low_treatment - high_control),
            upper: Some(high_treatment - low_control),
        },
        relative: Relative {
            estimate: ratio(treatment.estimate, control.estimate),
            lower: ratio(low_treatment, high_control),
            upper: ratio(high_treatment, low_control).filter(|value| value.is_finite()),
            set: RelativeSet::Interval,
        },
    }
}

/// The running evidence against `mu_T = phi mu_C`.
#[derive(Debug, Clone, PartialEq)]
pub struct ContrastBet {
    bound: f64,
    treatment_share: f64,
    phi: f64,
    units: f64,
    sum: f64,
    squares: f64,
    ln_wealth: [f64; 2],
}

impl ContrastBet {
    /// Before the first unit: outcomes in `[0, bound]`, units in treatment with probability
    /// `treatment_share`, against the relative effect `null` (0 for none, `-0.02` for a margin of 2 %).
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn new(bound: f64, treatment_share: f64, null: f64) -> Result<Self, StatsError> {
        Ok(Self {
            bound: positive("bound", bound)?,
            treatment_share: open_unit("treatment_share", treatment_share)?,
            phi: positive("one plus the null", 1.0 + finite("the null", null)?)?,
            units: 0.0,
            sum: 0.0,
            squares: 0.0,
            ln_wealth: [0.0; 2],
        })
    }

    /// Takes the next unit into account.
    ///
    /// # Errors
    /// If the outcome lies outside `[0, bound]`; nothing is then changed.
    pub fn push(&mut self, side: Side, outcome: f64) -> Result<(), StatsError> {
        let scaled = within(outcome, self.bound)?;
        let (highest, lowest) = (
            1.0 / self.treatment_share,
            self.phi / (1.0 - self.treatment_share),
        );
        let score = match side {
            Side::Treatment => scaled * highest,
            Side::Control => -scaled * lowest,
        };
        // Kelly's bet on the past mean, shrunk by a prior unit of full spread; never nothing, so that
        // evidence is found after a start in the wrong direction, and never more than half of the wealth.
        let spread = highest.max(lowest);
        let mean = self.sum / (self.units + 1.0);
        let second = (spread * spread + self.squares) / (self.units + 1.0);
        let least = 0.05 / spread / (self.units + 1.0).sqrt();
        let up = (mean / second).max(least).min(LARGEST_BET / lowest);
        let down = (-mean / second).max(least).min(LARGEST_BET / highest);
        self.ln_wealth[0] += (up * score).ln_1p();
        self.ln_wealth[1] += (-down * score).ln_1p();
        self.units += 1.0;
        self.sum += score;
        self.squares += score * score;
        Ok(())
    }

    /// `ln E` against the null in both directions.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let [up, down] = self.ln_wealth;
        let larger = up.max(down);
        larger + (0.5 * ((up - larger).exp() + (down - larger).exp())).ln()
    }

    /// `ln E` against "treatment is at most `phi` times control".
    #[must_use]
    pub fn ln_e_greater(&self) -> f64 {
        self.ln_wealth[0]
    }

    /// `ln E` against "treatment is at least `phi` times control".
    #[must_use]
    pub fn ln_e_less(&self) -> f64 {
        self.ln_wealth[1]
    }

    /// The always-valid p-value of both directions.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        (-self.ln_e()).exp().min(1.0)
    }
}

/// The outcome as a share of the bound.
fn within(outcome: f64, bound: f64) -> Result<f64, StatsError> {
    if (0.0..=bound).contains(&finite("outcome", outcome)?) {
        Ok(outcome / bound)
    } else {
        Err(StatsError::Option {
            name: "outcome",
            value: outcome,
            rule: "between 0 and the bound",
        })
    }
}
