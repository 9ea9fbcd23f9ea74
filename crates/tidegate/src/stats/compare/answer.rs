//! From an arm's statistics to the answer of the chosen method.

use tidegate_stats::bayes::{self, BayesOptions, Prior};
use tidegate_stats::cuped::{self, Measure};
use tidegate_stats::figures::Figures;
use tidegate_stats::fixed::{self, FixedOptions};
use tidegate_stats::group_sequential::{self, GroupOptions, Spending};
use tidegate_stats::order_statistics::{self, QuantileOptions};
use tidegate_stats::proportions::{self, Count, ProportionOptions};
use tidegate_stats::quantile::{self, RankedSample};
use tidegate_stats::ratio::{self, RatioColumns};
use tidegate_stats::sequential::{self, SequentialOptions};
use tidegate_stats::small_counts::{self, SmallCountOptions};
use tidegate_stats::{ArmSummary, Contrast, JointMoments, Moments, Side, StatsError};

use super::super::Refusal;
use super::metric::{CovariateSpec, Kind, MetricSpec};
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
    Fixed {
        options: FixedOptions,
        /// Small counts are compared exactly.
        may_be_exact: bool,
    },
    Score(ProportionOptions),
    Exact(SmallCountOptions),
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
    /// Covariates that add nothing to those before them.
    pub(super) dropped: Vec<String>,
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
            (MethodName::Fixed, None | Some(IntervalName::Fieller)) => Self::Fixed {
                options: FixedOptions {
                    alpha,
                    ..FixedOptions::default()
                },
                may_be_exact: args.interval.is_none(),
            },
            (MethodName::Fixed, Some(IntervalName::Score)) => Self::Score(ProportionOptions {
                alpha,
                ..ProportionOptions::default()
            }),
            (MethodName::Fixed, Some(IntervalName::Exact)) => Self::Exact(SmallCountOptions {
                alpha,
                ..SmallCountOptions::default()
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
    ) -> Result<Figures, String> {
        if let (Some(control_successes), Some(treatment_successes)) =
            (*control_successes, *treatment_successes)
        {
            let count = |successes, arm: &ArmSummary| Count {
                successes,
                units: arm.units,
            };
            let counts = [
                count(control_successes, control),
                count(treatment_successes, treatment),
            ];
            if let Some(answered) = self.answer_counts(counts) {
                return answered;
            }
        }
        let contrast = Contrast::of_means(control, treatment).map_err(|error| error.to_string())?;
        self.answer_contrast(&contrast, &Adjusted::default())
    }

    /// Two proportions, where the method treats them as such.
    fn answer_counts(&self, [control, treatment]: [Count; 2]) -> Option<Result<Figures, String>> {
        let found = match self {
            Self::Score(options) => proportions::compare(control, treatment, options),
            Self::Exact(options) => small_counts::compare(control, treatment, options),
            Self::Fixed {
                options,
                may_be_exact: true,
            } if small_counts::is_called_for(control, treatment) => small_counts::compare(
                control,
                treatment,
                &SmallCountOptions {
                    alpha: options.alpha,
                    tail: options.tail,
                },
            ),
            _ => return None,
        };
        Some(found.map(Figures::from).map_err(|error| error.to_string()))
    }

    /// Two arms given by their statistics of a metric.
    pub(super) fn answer_statistics(
        &self,
        metric: &MetricSpec,
        covariates: &[CovariateSpec],
        pair: (&Statistics, &Statistics),
    ) -> Result<Figures, String> {
        if let (Statistics::Plain(control), Statistics::Plain(treatment)) = pair {
            let is_proportion = metric.kind == Kind::Proportion;
            let measured =
                |moments, side| measured(moments, side, is_proportion).map_err(|e| e.to_string());
            let control = measured(control, Side::Control)?;
            return self.answer(&control, &measured(treatment, Side::Treatment)?);
        }
        if let (
            Self::Sequential(options),
            (Statistics::Observations(control), Statistics::Observations(treatment)),
            Kind::Quantile { nu },
        ) = (self, pair, &metric.kind)
        {
            return watched_quantiles(control, treatment, *nu, options)
                .map_err(|error| error.to_string());
        }
        let (contrast, adjusted) =
            contrast(metric, covariates, pair).map_err(|error| error.to_string())?;
        self.answer_contrast(&contrast, &adjusted)
    }

    fn answer_contrast(&self, contrast: &Contrast, adjusted: &Adjusted) -> Result<Figures, String> {
        let refuse = |error: StatsError| error.to_string();
        let mut answered = match self {
            Self::Fixed { options, .. } => fixed::compare_contrast(contrast, options)
                .map(Figures::from)
                .map_err(refuse)?,
            Self::Score(_) | Self::Exact(_) => {
                return Err("the score and the exact interval are for proportions".to_owned());
            }
            Self::Sequential(options) => sequential::compare_contrast(contrast, options)
                .map(Figures::from)
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
                    .map(Figures::from)
                    .map_err(|error| error.to_string())?
            }
            Self::Bayesian(options) => bayes::compare_contrast(contrast, options)
                .map(Figures::from)
                .map_err(refuse)?,
        };
        answered.variance_reduction = adjusted.variance_reduction;
        answered.dropped_covariates.clone_from(&adjusted.dropped);
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

/// Quantiles of two arms at any time.
fn watched_quantiles(
    control: &[(f64, u64)],
    treatment: &[(f64, u64)],
    nu: f64,
    options: &SequentialOptions,
) -> Result<Figures, StatsError> {
    let options = QuantileOptions {
        alpha: options.alpha,
        tune_at: options.tune_at,
        burn_in_units: options.burn_in_events,
    };
    let sample = |kept: &[(f64, u64)]| RankedSample::new(kept.to_vec());
    order_statistics::compare(&sample(control)?, &sample(treatment)?, nu, &options)
        .map(Figures::from)
}

fn contrast(
    metric: &MetricSpec,
    covariates: &[CovariateSpec],
    pair: (&Statistics, &Statistics),
) -> Result<(Contrast, Adjusted), StatsError> {
    match (pair, &metric.kind) {
        ((Statistics::Joint(control), Statistics::Joint(treatment)), kind) => {
            let outcome = match kind {
                Kind::Ratio { .. } => Measure::Ratio(columns_of_ratio(0)),
                _ => Measure::Mean(0),
            };
            adjusted_contrast(control, treatment, outcome, covariates)
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

fn columns_of_ratio(numerator: usize) -> RatioColumns {
    RatioColumns {
        numerator,
        denominator: numerator + 1,
    }
}

fn adjusted_contrast(
    control: &JointMoments,
    treatment: &JointMoments,
    outcome: Measure,
    covariates: &[CovariateSpec],
) -> Result<(Contrast, Adjusted), StatsError> {
    if let (Measure::Ratio(columns), []) = (outcome, covariates) {
        let contrast = ratio::contrast(control, treatment, columns)?;
        return Ok((contrast, Adjusted::default()));
    }
    let mut measures = Vec::new();
    let mut names = Vec::new();
    let mut next = match outcome {
        Measure::Mean(_) => 1,
        Measure::Ratio(_) => 2,
    };
    for covariate in covariates {
        let measure = match covariate.denominator() {
            Some(_) => Measure::Ratio(columns_of_ratio(next)),
            None => Measure::Mean(next),
        };
        next += 1 + usize::from(covariate.denominator().is_some());
        // The covariate, and whether a unit lacks it; constant and dropped where none does.
        measures.extend([measure, Measure::Mean(next)]);
        names.extend([Some(covariate.0.to_string()), None]);
        next += 1;
    }
    let found = cuped::adjusted(control, treatment, outcome, &measures)?;
    let dropped = found
        .dropped
        .iter()
        .filter_map(|index| names.get(*index).cloned().flatten())
        .collect();
    let adjusted = Adjusted {
        variance_reduction: Some(found.variance_reduction),
        dropped,
    };
    Ok((found.contrast, adjusted))
}
