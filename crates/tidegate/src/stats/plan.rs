//! `stats plan`: units, duration and power before an experiment, or what a deadline allows.

use clap::{Args, ValueEnum};
use serde::Serialize;
use tidegate_stats::group_sequential::{Sides, Spending};
use tidegate_stats::planner::{
    Baseline, Plan, PlanMethod, Question, Target, Traffic, minimum_detectable_effect, plan,
    power_per_metric,
};

use super::lists::Numbers;
use super::table::{figure, figure_or};
use super::{Answer, OutputArgs, Refusal, Table};

const EXAMPLES: &str = "\
Examples:
  Units to see +5 % on a 10 % conversion rate, watched at every unit:
    tidegate stats plan --rate 0.1 --lift 0.05

  The same with 14 planned looks, and how many days 20,000 visitors a day take:
    tidegate stats plan --rate 0.1 --lift 0.05 --method group --looks 14 --units-per-day 20000

  Revenue with mean 3.2 and sd 18: what could 14 days show?
    tidegate stats plan --mean 3.2 --sd 18 --deadline-days 14 --units-per-day 20000 \\
      --weekdays 1,1,1,1,1,0.6,0.6 --new-share 0.2 --new-half-life-days 4

  A guardrail that must not lose more than 1 %, one of three:
    tidegate stats plan --mean 3.2 --sd 18 --non-inferiority 0.01 --metrics 3";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PlanArgs {
    /// Baseline share of units that convert.
    #[arg(long, value_name = "P", required_unless_present = "mean", conflicts_with_all = ["mean", "sd"])]
    rate: Option<f64>,
    /// Baseline mean per unit.
    #[arg(long, value_name = "M", requires = "sd", allow_negative_numbers = true)]
    mean: Option<f64>,
    /// Standard deviation between units.
    #[arg(long, value_name = "S", requires = "mean")]
    sd: Option<f64>,
    #[command(flatten)]
    goal: Goal,
    /// Chance of a false finding.
    #[arg(long, default_value_t = 0.05, value_name = "A")]
    alpha: f64,
    /// Chance of seeing the effect.
    #[arg(long, default_value_t = 0.8, value_name = "P")]
    power: f64,
    /// Metrics that must all succeed: each is planned at power 1 - (1 - P) / N.
    #[arg(long, default_value_t = 1, value_name = "N")]
    metrics: u32,
    /// Test for an increase only (alpha on one side).
    #[arg(long)]
    one_sided: bool,
    /// Share of units in the treatment.
    #[arg(long, default_value_t = 0.5, value_name = "W")]
    treatment_share: f64,
    /// The method that will decide.
    #[arg(long, value_enum, default_value_t = MethodName::Sequential)]
    method: MethodName,
    /// Looks: required for group, optional for sequential (default: every unit).
    #[arg(long, value_name = "K")]
    looks: Option<u16>,
    /// Spending of a group sequential plan: obrien-fleming, pocock or power=R.
    #[arg(long, default_value = "obrien-fleming", value_name = "S")]
    spending: Spending,
    /// Units at which a sequential interval is tightest (default: the fixed-horizon number).
    #[arg(long, value_name = "N")]
    tune_at: Option<f64>,
    #[command(flatten)]
    traffic: TrafficArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Goal {
    /// Relative effect to see: 0.05 is +5 %.
    #[arg(long, value_name = "L", allow_negative_numbers = true)]
    lift: Option<f64>,
    /// Absolute effect to see.
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    effect: Option<f64>,
    /// Show that the metric loses no more than this share.
    #[arg(long, value_name = "MARGIN")]
    non_inferiority: Option<f64>,
    /// What could be shown in this many days (needs --units-per-day).
    #[arg(long, value_name = "DAYS", requires = "units_per_day")]
    deadline_days: Option<u32>,
    /// What could be shown with this many units in all.
    #[arg(long, value_name = "N")]
    units: Option<f64>,
}

#[derive(Args)]
struct TrafficArgs {
    /// Visitors on an average day, all arms together.
    #[arg(long, value_name = "N")]
    units_per_day: Option<f64>,
    /// Relative traffic of seven days, the first day first.
    #[arg(long, value_name = "W,W,W,W,W,W,W", requires = "units_per_day")]
    weekdays: Option<Numbers>,
    /// Share of a day's visitors never seen before, in the long run.
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    new_share: f64,
    /// Days in which the share of new visitors falls half of its way there.
    #[arg(long, default_value_t = 7.0, value_name = "DAYS")]
    new_half_life_days: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// One look at the end.
    Fixed,
    /// Always valid.
    Sequential,
    /// Planned looks with alpha spending.
    Group,
    /// Wald's probability ratio test.
    Sprt,
}

#[derive(Serialize)]
struct PlanReport {
    method: String,
    alpha: f64,
    power: f64,
    #[serde(flatten)]
    plan: Plan,
}

#[derive(Serialize)]
struct DeadlineReport {
    method: String,
    alpha: f64,
    power: f64,
    units_total: f64,
    detectable_effect: f64,
    detectable_lift: Option<f64>,
}

pub(super) fn run(args: &PlanArgs) -> Result<Answer, Refusal> {
    let traffic = traffic(&args.traffic)?;
    let method = method(args)?;
    let question = question(args, method);
    let described = describe_method(args, &method);
    let units = match (args.goal.deadline_days, args.goal.units) {
        (Some(days), _) => traffic.as_ref().map(|model| model.units_within(days)),
        (None, units) => units,
    };
    match units {
        Some(units) => {
            let effect = minimum_detectable_effect(&question, units).map_err(Refusal::usage)?;
            let mean = args.rate.or(args.mean).unwrap_or(0.0);
            let lift = effect / mean.abs();
            let report = DeadlineReport {
                method: described,
                alpha: question.alpha,
                power: question.power,
                units_total: units,
                detectable_effect: effect,
                detectable_lift: lift.is_finite().then_some(lift),
            };
            Answer::of(args.output.output, &report, || describe_deadline(&report))
        }
        None => {
            let answer = plan(&question, traffic.as_ref()).map_err(Refusal::usage)?;
            let report = PlanReport {
                method: described,
                alpha: question.alpha,
                power: question.power,
                plan: answer,
            };
            Answer::of(args.output.output, &report, || describe(&report))
        }
    }
}

fn question(args: &PlanArgs, method: PlanMethod) -> Question {
    let baseline = match (args.rate, args.mean, args.sd) {
        (Some(rate), ..) => Baseline::Proportion { rate },
        (None, mean, sd) => Baseline::Mean {
            mean: mean.unwrap_or(0.0),
            sd: sd.unwrap_or(0.0),
        },
    };
    let goal = &args.goal;
    let target = match (goal.lift, goal.effect, goal.non_inferiority) {
        (Some(lift), ..) => Target::Relative(lift),
        (_, Some(effect), _) => Target::Absolute(effect),
        (.., Some(margin)) => Target::NonInferiority { margin, lift: 0.0 },
        // A deadline asks for the effect; any stands in for it.
        _ => Target::Absolute(1.0),
    };
    Question {
        baseline,
        target,
        alpha: args.alpha,
        power: power_per_metric(args.power, args.metrics),
        sides: if args.one_sided {
            Sides::One
        } else {
            Sides::Two
        },
        treatment_share: args.treatment_share,
        method,
    }
}

fn method(args: &PlanArgs) -> Result<PlanMethod, Refusal> {
    Ok(match args.method {
        MethodName::Fixed => PlanMethod::Fixed,
        MethodName::Sprt => PlanMethod::Sprt,
        MethodName::Sequential => PlanMethod::Sequential {
            tune_at: args.tune_at,
            looks: args.looks,
        },
        MethodName::Group => PlanMethod::Group {
            spending: args.spending,
            looks: args.looks.ok_or_else(|| {
                Refusal::usage("--method group needs --looks, for example --looks 14")
            })?,
        },
    })
}

fn traffic(args: &TrafficArgs) -> Result<Option<Traffic>, Refusal> {
    let Some(units_per_day) = args.units_per_day else {
        return Ok(None);
    };
    let mut model = Traffic::steady(units_per_day);
    if let Some(Numbers(weights)) = &args.weekdays {
        model.weekday_weights = weights.as_slice().try_into().map_err(|_| {
            Refusal::usage(format!(
                "--weekdays has {} values; give seven",
                weights.len()
            ))
        })?;
    }
    model.new_share_floor = args.new_share;
    model.new_share_half_life_days = args.new_half_life_days;
    model.validate().map_err(Refusal::usage)?;
    Ok(Some(model))
}

fn describe_method(args: &PlanArgs, method: &PlanMethod) -> String {
    let side = if args.one_sided || args.goal.non_inferiority.is_some() {
        "one-sided"
    } else {
        "two-sided"
    };
    match method {
        PlanMethod::Fixed => format!("fixed horizon, {side}"),
        PlanMethod::Sprt => format!("Wald's probability ratio test, {side}"),
        PlanMethod::Group { spending, looks } => {
            format!("group sequential, {spending} spending, {looks} looks, {side}")
        }
        PlanMethod::Sequential { tune_at, looks } => {
            let tuned = tune_at.map_or_else(|| "the fixed-horizon number of".to_owned(), figure);
            let watched = looks.map_or_else(
                || "watched at every unit".to_owned(),
                |looks| format!("{looks} looks"),
            );
            format!("always-valid mixture tuned at {tuned} units, {watched}, {side}")
        }
    }
}

fn describe_deadline(report: &DeadlineReport) -> String {
    let mut table = Table::new(&["quantity", "value"]);
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
    row("units in all", figure(report.units_total));
    row(
        "smallest effect, absolute",
        figure(report.detectable_effect),
    );
    row(
        "smallest effect, relative",
        figure_or(report.detectable_lift, "-"),
    );
    format!(
        "{}\n{}",
        table.render(),
        footer(&report.method, report.alpha, report.power)
    )
}

fn footer(method: &str, alpha: f64, power: f64) -> String {
    format!("method: {method}; alpha {alpha}, power {}", figure(power))
}

fn describe(report: &PlanReport) -> String {
    let plan = &report.plan;
    let mut table = Table::new(&["quantity", "value"]);
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
    row("effect planned for, absolute", figure(plan.effect));
    row("units in control, at most", figure(plan.units_control));
    row("units in treatment, at most", figure(plan.units_treatment));
    row("units in all, at most", figure(plan.units_total));
    row("times the fixed-horizon number", figure(plan.inflation));
    row(
        "mean units at the stop, with the effect",
        figure(plan.mean_units_effect),
    );
    row(
        "mean units at the stop, without effect",
        figure(plan.mean_units_null),
    );
    if let Some(duration) = &plan.duration {
        let days = |value: Option<f64>| figure_or(value, "more than ten years");
        row("days, at most", days(duration.days_max));
        row("days, median with the effect", days(duration.days_median));
        row("days, 10 % stop by", days(duration.days_early));
        row("days, 90 % stop by", days(duration.days_late));
    }
    let mut curve = Table::new(&["true effect", "power", "mean units"]);
    for point in &plan.power_curve {
        curve.row(vec![
            format!("{:.2} x", point.multiple),
            figure(point.power),
            figure(point.mean_units),
        ]);
    }
    let footer = footer(&report.method, report.alpha, report.power);
    format!("{}\n{}\n{footer}", table.render(), curve.render())
}
