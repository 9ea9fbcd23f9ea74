//! `stats compare`: treatments against a control, metric by metric.

mod answer;
mod metric;
mod report;
mod units;

use clap::{Args, ValueEnum};
use tidegate_stats::group_sequential::Spending;
use tidegate_stats::{ArmSummary, Side};

use super::lists::Numbers;
use super::{Answer, OutputArgs, Refusal, input};
use answer::{Measured, Settings};
use metric::{CovariateSpec, Kind, MetricSpec};
use report::CompareReport;
use units::{Arm, Columns, Statistics};

const EXAMPLES: &str = "\
Examples:
  A file with one row per unit; sequential, so it may be read at any time:
    tidegate stats compare --input units.csv --unit-column user --arm-column variant \\
      --control off --metric converted:proportion --metric revenue --metric clicks:ratio=views

  Less noise from measurements taken before the change; an empty cell is a unit without history:
    ... --metric revenue --covariate revenue_before --covariate visits_before
    ... --metric clicks:ratio=views --covariate clicks_before:ratio=views_before

  One look at the end, with the score interval for a proportion; or exact, which small counts are by
  themselves unless an interval is named:
    ... --method fixed --interval score --metric converted:proportion
    ... --method fixed --interval exact --metric converted:proportion

  14 planned looks at up to 200,000 units, of which this is one:
    ... --method group --n-max 200000 --looks 14 --spending obrien-fleming

  From summary statistics (units, mean, standard deviation) or counts (successes, units):
    tidegate stats compare --control-summary 3407,0.41,3.9 --treatment-summary 3461,0.70,6.2
    tidegate stats compare --control-counts 87,1529 --treatment-counts 62,1471 --method fixed

  From standard input:
    cat units.csv | tidegate stats compare --input - --unit-column user ...

Relative effects invert the linear contrast (Fieller): one p-value serves both scales, and a set
that data does not bound is printed as unbounded.
Exit code 1 when a metric allows no answer; the others are still printed.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompareArgs {
    /// CSV file with one row per unit and a header; - reads standard input.
    #[arg(long, value_name = "FILE", requires_all = ["unit_column", "arm_column", "control", "metric"])]
    input: Option<String>,
    /// Column with the unit's id.
    #[arg(long, value_name = "COLUMN", requires = "input")]
    unit_column: Option<String>,
    /// Column with the arm's name.
    #[arg(long, value_name = "COLUMN", requires = "input")]
    arm_column: Option<String>,
    /// Name of the arm compared against.
    #[arg(long, value_name = "NAME", requires = "input")]
    control: Option<String>,
    /// What to compare: COLUMN, COLUMN:mean, :proportion, :ratio=DENOMINATOR or :quantile=Q; repeat for more.
    #[arg(long, value_name = "METRIC", requires = "input")]
    metric: Vec<MetricSpec>,
    /// Measured before the change, to remove noise: COLUMN or COLUMN:ratio=DENOMINATOR; repeat for more.
    #[arg(long, value_name = "COLUMN", requires = "input")]
    covariate: Vec<CovariateSpec>,
    /// Units, mean and standard deviation of control.
    #[arg(
        long,
        value_name = "N,MEAN,SD",
        requires = "treatment_summary",
        conflicts_with = "input",
        allow_hyphen_values = true
    )]
    control_summary: Option<Numbers>,
    /// Units, mean and standard deviation of the treatment.
    #[arg(
        long,
        value_name = "N,MEAN,SD",
        requires = "control_summary",
        allow_hyphen_values = true
    )]
    treatment_summary: Option<Numbers>,
    /// Successes and units of control.
    #[arg(long, value_name = "SUCCESSES,UNITS", requires = "treatment_counts", conflicts_with_all = ["input", "control_summary"], allow_hyphen_values = true)]
    control_counts: Option<super::lists::Counts>,
    /// Successes and units of the treatment.
    #[arg(
        long,
        value_name = "SUCCESSES,UNITS",
        requires = "control_counts",
        allow_hyphen_values = true
    )]
    treatment_counts: Option<super::lists::Counts>,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
struct MethodArgs {
    /// The method that decides.
    #[arg(long, value_enum, default_value_t = MethodName::Sequential)]
    method: MethodName,
    /// Error of intervals and tests.
    #[arg(long, default_value_t = 0.05, value_name = "A")]
    alpha: f64,
    /// Units of both arms at which sequential intervals are tightest.
    #[arg(long, value_name = "N", default_value_t = tidegate_stats::sequential::DEFAULT_TUNE_AT)]
    tune_at: f64,
    /// Events each arm needs before a sequential answer.
    #[arg(long, value_name = "N", default_value_t = tidegate_stats::sequential::DEFAULT_BURN_IN_EVENTS)]
    burn_in: u64,
    /// Units of both arms at which a group sequential plan ends.
    #[arg(long, value_name = "N", required_if_eq("method", "group"))]
    n_max: Option<f64>,
    /// Spending of a group sequential plan: obrien-fleming, pocock or power=R.
    #[arg(long, default_value = "obrien-fleming", value_name = "S")]
    spending: Spending,
    /// Planned looks of a group sequential plan.
    #[arg(long, value_name = "K", required_if_eq("method", "group"))]
    looks: Option<u16>,
    /// This look is the last, wherever it falls: spend all that is left.
    #[arg(long)]
    last_look: bool,
    /// Standard deviation of the Bayesian prior on the relative effect, centred on none.
    #[arg(long, value_name = "S", default_value_t = 0.1)]
    prior_sd: f64,
    /// Interval at a fixed horizon; p-value and both intervals switch together. Unless named: fieller, and
    /// exact for proportions with fewer than 5 successes or failures in an arm.
    #[arg(long, value_enum)]
    interval: Option<IntervalName>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// One look at the end.
    Fixed,
    /// Always valid.
    Sequential,
    /// Planned looks with alpha spending.
    Group,
    /// Posterior under a normal prior.
    Bayesian,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IntervalName {
    /// The linear contrast inverted.
    Fieller,
    /// Score test of proportions inverted (Miettinen and Nurminen).
    Score,
    /// Exact test of small counts inverted (Chan and Zhang).
    Exact,
}

pub(super) fn run(args: &CompareArgs) -> Result<Answer, Refusal> {
    let settings = settings(args)?;
    let mut report = CompareReport {
        rows: Vec::new(),
        unanswered: Vec::new(),
    };
    match &args.input {
        Some(path) => compare_file(args, path, &settings, &mut report)?,
        None => {
            let (control, treatment) = summaries(args)?;
            report.add(settings.answer(&control, &treatment), "metric", "treatment");
        }
    }
    let is_success = report.unanswered.is_empty();
    let answer = Answer::of(args.output.output, &report, || report.describe())?;
    Ok(Answer {
        is_success,
        ..answer
    })
}

fn settings(args: &CompareArgs) -> Result<Settings, Refusal> {
    let method = &args.method;
    if let Some(name @ (IntervalName::Score | IntervalName::Exact)) = method.interval {
        let flag = match name {
            IntervalName::Exact => "--interval exact",
            _ => "--interval score",
        };
        if method.method != MethodName::Fixed {
            return Err(Refusal::usage(format!("{flag} needs --method fixed")));
        }
        let is_proportion = |metric: &MetricSpec| metric.kind == Kind::Proportion;
        let all_counts = args.control_counts.is_some()
            || (args.input.is_some() && args.metric.iter().all(is_proportion));
        if !all_counts || !args.covariate.is_empty() {
            return Err(Refusal::usage(format!(
                "{flag} needs proportions without covariates, for example --metric \
                 converted:proportion"
            )));
        }
    }
    let is_quantile = |metric: &&MetricSpec| matches!(metric.kind, Kind::Quantile { .. });
    if let (Some(metric), false) = (
        args.metric.iter().find(is_quantile),
        args.covariate.is_empty(),
    ) {
        return Err(Refusal::usage(format!(
            "--covariate adjusts means, proportions and ratios; compare {metric} in a call of its own"
        )));
    }
    Settings::of(method)
}

fn summaries(args: &CompareArgs) -> Result<(Measured, Measured), Refusal> {
    if let (Some(control), Some(treatment)) = (&args.control_counts, &args.treatment_counts) {
        return Ok((
            counted("--control-counts", &control.0, Side::Control)?,
            counted("--treatment-counts", &treatment.0, Side::Treatment)?,
        ));
    }
    match (&args.control_summary, &args.treatment_summary) {
        (Some(control), Some(treatment)) => Ok((
            summarised("--control-summary", &control.0)?,
            summarised("--treatment-summary", &treatment.0)?,
        )),
        _ => Err(Refusal::usage(
            "give --input, or --control-summary with --treatment-summary, or --control-counts with \
             --treatment-counts",
        )),
    }
}

fn counted(flag: &str, counts: &[u64], side: Side) -> Result<Measured, Refusal> {
    let &[successes, units] = counts else {
        return Err(Refusal::usage(format!(
            "{flag} takes SUCCESSES,UNITS, for example 87,1529"
        )));
    };
    let arm = ArmSummary::from_counts(successes, units, side)
        .map_err(|error| Refusal::Usage(format!("{flag}: {error}")))?;
    Ok(Measured::Mean {
        arm,
        successes: Some(successes),
    })
}

fn summarised(flag: &str, values: &[f64]) -> Result<Measured, Refusal> {
    let refuse = |text: &str| Refusal::Usage(format!("{flag}: {text}"));
    let &[units, mean, sd] = values else {
        return Err(refuse("takes N,MEAN,SD, for example 3407,0.41,3.9"));
    };
    let units =
        whole_units(units).ok_or_else(|| refuse("units must be a whole number of at least 0"))?;
    if sd < 0.0 {
        return Err(refuse("a standard deviation is not negative"));
    }
    let arm = ArmSummary::new(units, mean, sd * sd).map_err(|error| refuse(&error.to_string()))?;
    Ok(Measured::Mean {
        arm,
        successes: None,
    })
}

fn whole_units(units: f64) -> Option<u64> {
    // Through text: the shortest decimal of a whole number below 2^53 parses back exactly.
    (0.0..=9_007_199_254_740_992.0)
        .contains(&units)
        .then(|| format!("{units}").parse().ok())?
}

fn compare_file(
    args: &CompareArgs,
    path: &str,
    settings: &Settings,
    report: &mut CompareReport,
) -> Result<(), Refusal> {
    let (Some(unit), Some(arm), Some(control)) =
        (&args.unit_column, &args.arm_column, &args.control)
    else {
        return Err(Refusal::usage(
            "--input needs --unit-column, --arm-column and --control",
        ));
    };
    let columns = Columns {
        unit,
        arm,
        metrics: &args.metric,
        covariates: &args.covariate,
    };
    let arms = units::read(input::open(path)?, path, &columns)?;
    let Some(baseline) = arms.iter().find(|arm| arm.name == *control) else {
        let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
        return Err(Refusal::Data(format!(
            "{path}: no row has the control {control:?}; the arms are {}",
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        )));
    };
    let treatments: Vec<&Arm> = arms.iter().filter(|arm| arm.name != *control).collect();
    if treatments.is_empty() {
        return Err(Refusal::Data(format!(
            "{path}: {control:?} is the only arm; nothing to compare"
        )));
    }
    for (index, metric) in args.metric.iter().enumerate() {
        for treatment in &treatments {
            let pair = (&baseline.metrics[index], &treatment.metrics[index]);
            report.add(
                settings.answer_statistics(metric, &args.covariate, pair),
                &metric.to_string(),
                &treatment.name,
            );
        }
    }
    Ok(())
}
