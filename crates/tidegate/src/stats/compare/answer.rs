//! From an arm's statistics to the answer of the chosen method.

use tidegate_stats::bayes::{self, BayesOptions, Prior};
use tidegate_stats::fixed::{self, FixedOptions};
use tidegate_stats::group_sequential::{self, GroupOptions, Spending};
use tidegate_stats::proportions::{self, Count, ProportionOptions};
use tidegate_stats::quantile::{self, RankedSample};
use tidegate_stats::ratio::{self, RatioColumns};
use tidegate_stats::sequential::{self, SequentialOptions};
use tidegate_stats::{ArmSummary, Contrast, Moments, Side, StatsError, cuped};

use super::super::Refusal;
use super::metric::{Kind, MetricSpec};
use super::report::Answered;
use super::{IntervalName, MethodArgs, MethodName, Statistics};

/// One arm given by a mean.
pub(super) enum Measured {
    /// A mean or a proportion; the latter with its successes.
    Mean {
        arm: ArmSummary,
        successes: Option<u64>,
    },
}

/// The chosen method with its options, checked.
pub(super) enum Settings {
    Fixed(FixedOptions),
    Score(ProportionOptions),
    Sequential(SequentialOptions),
    Group {
        alpha: f64,
        spending: Spending,
        units_max: f64,
        looks: u16,
        is_final: bool,
    },
    Bayesian(BayesOptions),
}

/// What a contrast was made of, beside the contrast.
#[derive(Default)]
pub(super) struct Adjusted {
    pub(super) variance_reduction: Option<f64>,
}

impl Settings {
    pub(super) fn of(args: &MethodArgs) -> Result<Self, Refusal> {
        let alpha = args.alpha;
        if !(alpha > 0.0 && alpha < 0.5) {
            return Err(Refusal::usage(format!(
                "--alpha {alpha} is not between 0 and 0.5"
            )));
        }
        Ok(match (args.method, args.interval) {
            (MethodName::Fixed, IntervalName::Fieller) => Self::Fixed(FixedOptions {
                alpha,
                ..FixedOptions::default()
            }),
            (MethodName::Fixed, IntervalName::Score) => Self::Score(ProportionOptions {
                alpha,
                ..ProportionOptions::default()
            }),
            (MethodName::Sequential, _) => {
                if !(args.tune_at >= 1.0 && args.tune_at <= 1e15) {
                    return Err(Refusal::usage("--tune-at must be between 1 and 1e15 units"));
                }
                Self::Sequential(SequentialOptions {
                    alpha,
                    tune_at: args.tune_at,
                    burn_in_events: args.burn_in,
                    ..SequentialOptions::default()
                })
            }
            (MethodName::Group, _) => {
                let (Some(units_max), Some(looks)) = (args.n_max, args.looks) else {
                    return Err(Refusal::usage("--method group needs --n-max and --looks"));
                };
                let is_final = args.last_look;
                Self::Group {
                    alpha,
                    spending: args.spending,
                    units_max,
                    looks,
                    is_final,
                }
            }
            (MethodName::Bayesian, _) => {
                if !(args.prior_sd > 0.0 && args.prior_sd.is_finite()) {
                    return Err(Refusal::usage("--prior-sd must be a positive number"));
                }
                Self::Bayesian(BayesOptions {
                    alpha,
                    prior: Prior::Relative {
                        mean: 0.0,
                        sd: args.prior_sd,
                    },
                })
            }
        })
    }

    /// Two arms given by means.
    pub(super) fn answer(
        &self,
        Measured::Mean {
            arm: control,
            successes: control_successes,
        }: &Measured,
        Measured::Mean {
            arm: treatment,
            successes: treatment_successes,
        }: &Measured,
    ) -> Result<Answered, String> {
        if let Self::Score(options) = self {
            let (Some(control_successes), Some(treatment_successes)) =
                (*control_successes, *treatment_successes)
            else {
                return Err("the score interval needs counts of successes".to_owned());
            };
            let counts = [
                (control_successes, control),
                (treatment_successes, treatment),
            ]
            .map(|(successes, arm)| Count {
                successes,
                units: arm.units,
            });
            let found = proportions::compare(counts[0], counts[1], options);
            return found.map(Answered::from).map_err(|error| error.to_string());
        }
        let contrast = Contrast::of_means(control, treatment).map_err(|error| error.to_string())?;
        self.answer_contrast(&contrast, &Adjusted::default())
    }

    /// Two arms given by their statistics of a metric.
    pub(super) fn answer_statistics(
        &self,
        metric: &MetricSpec,
        pair: (&Statistics, &Statistics),
    ) -> Result<Answered, String> {
        if let (Statistics::Plain(control), Statistics::Plain(treatment)) = pair {
            let is_proportion = metric.kind == Kind::Proportion;
            let measured =
                |moments, side| measured(moments, side, is_proportion).map_err(|e| e.to_string());
            let control = measured(control, Side::Control)?;
            return self.answer(&control, &measured(treatment, Side::Treatment)?);
        }
        let (contrast, adjusted) = contrast(metric, pair).map_err(|error| error.to_string())?;
        self.answer_contrast(&contrast, &adjusted)
    }

    fn answer_contrast(
        &self,
        contrast: &Contrast,
        adjusted: &Adjusted,
    ) -> Result<Answered, String> {
        let refuse = |error: StatsError| error.to_string();
        let mut answered = match self {
            Self::Fixed(options) => fixed::compare_contrast(contrast, options)
                .map(Answered::from)
                .map_err(refuse)?,
            Self::Score(_) => return Err("the score interval is for proportions".to_owned()),
            Self::Sequential(options) => sequential::compare_contrast(contrast, options)
                .map(Answered::from)
                .map_err(refuse)?,
            Self::Group {
                alpha,
                spending,
                units_max,
                looks,
                is_final,
            } => {
                let units = contrast.units_total();
                let options = GroupOptions {
                    is_final: *is_final,
                    ..GroupOptions::equally_spaced(*alpha, *spending, *units_max, *looks, units)
                };
                group_sequential::compare_contrast(contrast, &options)
                    .map(Answered::from)
                    .map_err(|error| error.to_string())?
            }
            Self::Bayesian(options) => bayes::compare_contrast(contrast, options)
                .map(Answered::from)
                .map_err(refuse)?,
        };
        answered.variance_reduction = adjusted.variance_reduction;
        Ok(answered)
    }
}

fn measured(moments: &Moments, side: Side, is_proportion: bool) -> Result<Measured, StatsError> {
    if is_proportion {
        // Every value is 0 or 1, so the units with an event are the successes.
        let successes = moments.events();
        let arm = ArmSummary::from_counts(successes, moments.units(), side)?;
        return Ok(Measured::Mean {
            arm,
            successes: Some(successes),
        });
    }
    Ok(Measured::Mean {
        arm: ArmSummary::from_moments(moments, side)?,
        successes: None,
    })
}

fn contrast(
    metric: &MetricSpec,
    pair: (&Statistics, &Statistics),
) -> Result<(Contrast, Adjusted), StatsError> {
    match (pair, &metric.kind) {
        ((Statistics::Joint(control), Statistics::Joint(treatment)), Kind::Ratio { .. }) => {
            let columns = RatioColumns {
                numerator: 0,
                denominator: 1,
            };
            Ok((
                ratio::contrast(control, treatment, columns)?,
                Adjusted::default(),
            ))
        }
        ((Statistics::Joint(control), Statistics::Joint(treatment)), _) => {
            let covariates: Vec<usize> = (1..control.columns()).collect();
            let found = cuped::means(control, treatment, 0, &covariates)?;
            let variance_reduction = Some(found.variance_reduction);
            Ok((found.contrast, Adjusted { variance_reduction }))
        }
        (
            (Statistics::Observations(control), Statistics::Observations(treatment)),
            Kind::Quantile { nu },
        ) => {
            let sample = |kept: &[(f64, u64)]| RankedSample::new(kept.to_vec());
            let found = quantile::contrast(&sample(control)?, &sample(treatment)?, *nu)?;
            Ok((found, Adjusted::default()))
        }
        _ => Err(StatsError::Mismatch {
            what: "statistics of a metric",
            left: 0,
            right: 0,
        }),
    }
}
