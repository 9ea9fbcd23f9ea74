//! How arms are compared: the method, one arm's own interval, and which comparison is asked for.

use super::ReportError;
use serde::{Deserialize, Serialize};
use tidegate_stats::bayes::{self, BayesOptions, Prior};
use tidegate_stats::figures::Figures;
use tidegate_stats::fixed::{self, FixedOptions};
use tidegate_stats::group_sequential::{self, DesignError, GroupOptions, Spending};
use tidegate_stats::order_statistics::{self, QuantileOptions};
use tidegate_stats::proportions::Count;
use tidegate_stats::quantile::{self, RankedSample};
use tidegate_stats::sequential::{self, Boundary, SequentialOptions};
use tidegate_stats::small_counts::{self, SmallCountOptions};
use tidegate_stats::{ArmSummary, Contrast, Estimate, Side, StatsError, Tail};

/// Which promise intervals make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportMethod {
    /// All intervals ever shown hold at once; look whenever you like.
    #[default]
    Sequential,
    /// One look at a time fixed in advance.
    Fixed,
    /// Looks planned in advance, with alpha spent over them.
    Group,
    /// A posterior under a normal prior.
    Bayesian,
}

/// A plan of looks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GroupPlan {
    /// Units of both arms at which all of alpha is spent.
    pub n_max: f64,
    /// Equally spaced looks up to then.
    pub looks: u16,
    /// How alpha is spent over them.
    pub spending: Spending,
    /// This look is the last, wherever it falls.
    pub is_last: bool,
}

/// Where the shares of the split check come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SharesAre {
    /// Nobody knows others.
    #[default]
    Equal,
    /// Whoever asked gave them.
    Given,
    /// They are those the flag has served all the time.
    Served,
    /// The flag's shares changed within the time asked about, so that no one set of them holds.
    Changed,
}

/// Why two arms are not compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum ComparisonError {
    /// The numbers allow no answer.
    #[error(transparent)]
    Statistics(#[from] StatsError),
    /// The plan is no plan for these numbers.
    #[error(transparent)]
    Plan(#[from] DesignError),
}

/// How arms are compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparing {
    /// The method.
    pub method: ReportMethod,
    /// The error of intervals.
    pub alpha: f64,
    /// Units of both arms at which sequential intervals are tightest.
    pub tune_at: f64,
    /// Standard deviation of the prior on the relative effect.
    pub prior_sd: f64,
    /// The arm compared against; without it `control`, `off` or `false`, whichever was seen.
    pub control: Option<String>,
    /// The plan of looks, where the method has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<GroupPlan>,
    /// The shares the variants were served in; without them equal ones.
    pub shares: Vec<(String, f64)>,
    /// Where these come from.
    pub shares_are: SharesAre,
}

impl Default for Comparing {
    fn default() -> Self {
        Self {
            method: ReportMethod::Sequential,
            alpha: 0.05,
            tune_at: sequential::DEFAULT_TUNE_AT,
            prior_sd: 0.1,
            control: None,
            plan: None,
            shares: Vec::new(),
            shares_are: SharesAre::Equal,
        }
    }
}

/// Where a true value lies, as sure as the method promises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

impl Comparing {
    /// For intervals of one look each.
    pub(super) fn one_look(alpha: f64) -> Result<Self, ReportError> {
        let comparing = Self {
            method: ReportMethod::Fixed,
            alpha,
            ..Self::default()
        };
        comparing.check()?;
        Ok(comparing)
    }

    /// Refuses options out of range.
    pub(super) fn check(&self) -> Result<(), ReportError> {
        let refuse =
            |name, value, rule| Err(ReportError::from(StatsError::Option { name, value, rule }));
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return refuse("alpha", self.alpha, "between 0 and 1/2");
        }
        if !(self.tune_at >= 1.0 && self.tune_at <= 1e15) {
            return refuse("tune_at", self.tune_at, "between 1 and 1e15 units");
        }
        if !(self.prior_sd > 0.0 && self.prior_sd.is_finite()) {
            return refuse("prior_sd", self.prior_sd, "above 0");
        }
        if self.method == ReportMethod::Group {
            let end = self.plan.map_or(1.0, |plan| plan.n_max);
            self.look_at(end)?.boundary(end)?;
        }
        Ok(())
    }

    fn sequential(&self) -> SequentialOptions {
        SequentialOptions {
            alpha: self.alpha,
            tune_at: self.tune_at,
            ..SequentialOptions::default()
        }
    }

    /// The comparison of two estimates.
    pub(super) fn compare(&self, contrast: &Contrast) -> Result<Figures, ComparisonError> {
        Ok(match self.method {
            ReportMethod::Sequential => {
                sequential::compare_contrast(contrast, &self.sequential())?.into()
            }
            ReportMethod::Group => {
                let options = self.look_at(contrast.units_total())?;
                group_sequential::compare_contrast(contrast, &options)?.into()
            }
            ReportMethod::Fixed => {
                let options = FixedOptions {
                    alpha: self.alpha,
                    ..FixedOptions::default()
                };
                fixed::compare_contrast(contrast, &options)?.into()
            }
            ReportMethod::Bayesian => {
                let options = BayesOptions {
                    alpha: self.alpha,
                    prior: Prior::Relative {
                        mean: 0.0,
                        sd: self.prior_sd,
                    },
                };
                bayes::compare_contrast(contrast, &options)?.into()
            }
        })
    }

    /// The plan as it stands at so many units of both arms.
    fn look_at(&self, units: f64) -> Result<GroupOptions, DesignError> {
        let plan = self.plan.ok_or(DesignError::Looks { looks: 0 })?;
        Ok(GroupOptions {
            is_final: plan.is_last,
            ..GroupOptions::equally_spaced(self.alpha, plan.spending, plan.n_max, plan.looks, units)
        })
    }

    /// The comparison of two quantiles: by ranks where it is watched.
    pub(super) fn compare_quantiles(
        &self,
        control: &RankedSample,
        treatment: &RankedSample,
        q: f64,
    ) -> Result<Figures, ComparisonError> {
        if self.method != ReportMethod::Sequential {
            return self.compare(&quantile::contrast(control, treatment, q)?);
        }
        let options = QuantileOptions {
            alpha: self.alpha,
            tune_at: self.tune_at,
            ..QuantileOptions::default()
        };
        Ok(order_statistics::compare(control, treatment, q, &options)?.into())
    }

    /// The comparison of two shares: exactly where a single look has too few of either outcome.
    pub(super) fn compare_shares(
        &self,
        control: Count,
        treatment: Count,
    ) -> Result<Figures, ComparisonError> {
        if self.method == ReportMethod::Fixed && small_counts::is_called_for(control, treatment) {
            let options = SmallCountOptions {
                alpha: self.alpha,
                ..SmallCountOptions::default()
            };
            return Ok(small_counts::compare(control, treatment, &options)?.into());
        }
        let arm = |count: Count, side| ArmSummary::from_counts(count.successes, count.units, side);
        let control = arm(control, Side::Control)?;
        let treatment = arm(treatment, Side::Treatment)?;
        self.compare(&Contrast::of_means(&control, &treatment)?)
    }

    /// Half the width of one arm's own interval in standard errors: the sequential boundary at the
    /// arm's units, the planned boundary of a look at two such arms, or the fixed multiplier. A
    /// posterior of one arm alone is not formed; its fixed interval is shown.
    fn multiplier(&self, units: u64) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers of units are far below 2^53"
        )]
        let units = units as f64;
        Some(match self.method {
            ReportMethod::Sequential => Boundary::new(&self.sequential()).ok()?.multiplier(units),
            ReportMethod::Group => {
                let look = self.look_at(2.0 * units).ok()?.boundary(2.0 * units);
                look.ok()?.z?
            }
            ReportMethod::Fixed | ReportMethod::Bayesian => {
                fixed::multiplier(self.alpha, units - 1.0, Tail::TwoSided)
            }
        })
    }

    /// One arm's own interval; none while it has too few events to claim anything.
    pub(super) fn own_interval(&self, estimate: &Estimate) -> Option<Interval> {
        let needed = match self.method {
            ReportMethod::Sequential => sequential::DEFAULT_BURN_IN_EVENTS,
            ReportMethod::Fixed | ReportMethod::Group | ReportMethod::Bayesian => 2,
        };
        if estimate.units < 2 || estimate.events < needed {
            return None;
        }
        let half = self.multiplier(estimate.units)? * estimate.variance.sqrt();
        let interval = Interval {
            lower: estimate.value - half,
            upper: estimate.value + half,
        };
        (interval.lower.is_finite() && interval.upper.is_finite()).then_some(interval)
    }

    /// The interval of a share by inverting its score, `|x/n - p| <= q sqrt(p (1 - p) / n)`
    /// (Wilson 1927, with the method's multiplier for the normal quantile).
    pub(super) fn share_interval(&self, count: u64, of: u64) -> Option<Interval> {
        if of < 2 {
            return None;
        }
        let q = self.multiplier(of)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers of units are far below 2^53"
        )]
        let (count, n) = (count as f64, of as f64);
        let (share, z) = (count / n, q * q / n);
        let centre = (share + z / 2.0) / (1.0 + z);
        let half = (z * (share * (1.0 - share) + z / 4.0)).sqrt() / (1.0 + z);
        Some(Interval {
            lower: (centre - half).clamp(0.0, share),
            upper: (centre + half).clamp(share, 1.0),
        })
    }
}
