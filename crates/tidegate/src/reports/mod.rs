//! `tidegate metric`, `journey`, `usage` and `retention`: definitions kept, questions answered.
//!
//! A report comes from a running server, or with `--data-dir` from a stopped one's folder; it is
//! the same document either way, and what people see is made from that document.

mod activity_table;
mod ask;
mod definitions;
mod journey_table;
mod metric_table;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use tidegate_metrics::report::ReportMethod;
use tidegate_server::reports::{self, ReportParameters, RetentionView};

use self::ask::{Place, Subject};
use self::definitions::{CreateArguments, Kept, ListArguments, OneArguments};
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(crate) enum MetricCommand {
    /// Create a metric from a file
    #[command(after_help = METRIC_EXAMPLES)]
    Create(CreateArguments),
    /// List metrics
    List(ListArguments),
    /// Read one metric with its definition and revision
    Get(OneArguments),
    /// Show a metric by the variants of a flag, with intervals
    #[command(after_help = METRIC_REPORT_EXAMPLES)]
    Report(Box<MetricReportArguments>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum JourneyCommand {
    /// Create a journey from a file
    #[command(after_help = JOURNEY_EXAMPLES)]
    Create(CreateArguments),
    /// List journeys
    List(ListArguments),
    /// Read one journey with its definition and revision
    Get(OneArguments),
    /// Show steps, drop-off and time between steps
    #[command(after_help = JOURNEY_REPORT_EXAMPLES)]
    Report(Box<JourneyReportArguments>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum UsageCommand {
    /// Show how many units did what, by day or week, and by the variants of a flag
    #[command(after_help = USAGE_EXAMPLES)]
    Report(UsageReportArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Show who came back in which later period, who is new, stays and leaves, or how often they come
    #[command(after_help = RETENTION_EXAMPLES)]
    Report(RetentionReportArguments),
}

const METRIC_EXAMPLES: &str = "\
A metric is one of count, sum, mean, conversion, ratio, quantile, retention or time_between:

    measure: {sum: {event: purchase}}
    winsorise: {percentile: 0.99}      # optional: cap a unit's total
    covariate_seconds: 1209600         # optional: the same over two weeks before exposure

    measure: {conversion: {event: {name: purchase, properties: {country: [DE, AT]}},
                           within_seconds: 604800}}

Example:
  tidegate metric create revenue -f revenue.yaml";

const METRIC_REPORT_EXAMPLES: &str = "\
Examples:
  tidegate metric report revenue --flag new-checkout
  tidegate metric report revenue --flag new-checkout --segment device --from 2026-06-01 -o json
  tidegate metric report revenue --flag new-checkout --shares on=1,off=9 --control off
  tidegate metric report revenue --flag new-checkout --method group --n-max 200000 --looks 14
  tidegate metric report revenue --flag new-checkout --data-dir ./data

Sequential intervals may be read at any time, as often as you like.";

const JOURNEY_EXAMPLES: &str = "\
A definition, of which only the steps are needed:

steps: [view, {event: start, within_seconds: 3600}, purchase]
order: ordered               # or strict, or any
within_seconds: 604800       # first step to last
exclusions: [{event: cancel, after_step: 2}]
reentry: once                # or every_completion
timed_from: latest_start     # or first_entry
key: session_id              # or {property: account, counts: value}

Example:
  tidegate journey create checkout -f checkout.yaml";

const JOURNEY_REPORT_EXAMPLES: &str = "\
Examples:
  tidegate journey report checkout
  tidegate journey report checkout --flag new-checkout --segment device
  tidegate journey report checkout --flag new-checkout --data-dir ./data -o json";

const USAGE_EXAMPLES: &str = "\
Examples:
  tidegate usage report --event purchase --event view --period week
  tidegate usage report --flag new-checkout
  tidegate usage report --flag new-checkout --event purchase --segment device

With a flag alone, its exposures are counted: who met the feature, by variant.

A kind may stand in front of an event's name: --event 'request:GET /cart'.";

const RETENTION_EXAMPLES: &str = "\
Examples:
  tidegate retention report
  tidegate retention report --show lifecycle --period week
  tidegate retention report --show stickiness --event purchase
  tidegate retention report --event purchase --period week --from 2026-06-01 --to 2026-08-23";

/// Days and how the answer is printed.
#[derive(Debug, Args)]
struct Common {
    /// The first UTC day, such as 2026-06-01
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The last UTC day
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// How arms are compared.
#[derive(Debug, Args)]
struct Comparing {
    /// A property of the first exposure by which the arms are divided
    #[arg(long, value_name = "PROPERTY")]
    segment: Option<String>,
    /// The variant compared against [default: control, off or false, whichever was seen]
    #[arg(long, value_name = "VARIANT")]
    control: Option<String>,
    /// The promise of intervals
    #[arg(long, value_enum, default_value_t)]
    method: MethodName,
    /// The error of intervals [default: 0.05]
    #[arg(long, value_name = "A")]
    alpha: Option<f64>,
    /// Units of both arms at which sequential intervals are tightest [default: 10000]
    #[arg(long, value_name = "N")]
    tune_at: Option<f64>,
    /// Units of both arms at which a plan of looks ends
    #[arg(long, value_name = "N", required_if_eq("method", "group"))]
    n_max: Option<f64>,
    /// Looks of the plan
    #[arg(long, value_name = "K", required_if_eq("method", "group"))]
    looks: Option<u16>,
    /// How the plan spends alpha: obrien-fleming, pocock or power=R [default: obrien-fleming]
    #[arg(long, value_name = "S")]
    spending: Option<String>,
    /// This look is the last of the plan, wherever it falls: spend all that is left
    #[arg(long)]
    last_look: bool,
    /// Standard deviation of the Bayesian prior on the relative effect [default: 0.1]
    #[arg(long, value_name = "S")]
    prior_sd: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// Look whenever you like
    #[default]
    Sequential,
    /// One look at a time fixed in advance
    Fixed,
    /// Looks planned in advance, with alpha spent over them
    Group,
    /// Posterior under a normal prior
    Bayesian,
}

impl From<MethodName> for ReportMethod {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Sequential => Self::Sequential,
            MethodName::Fixed => Self::Fixed,
            MethodName::Group => Self::Group,
            MethodName::Bayesian => Self::Bayesian,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct MetricReportArguments {
    /// The metric's key
    key: String,
    /// The flag whose variants are compared
    #[arg(long)]
    flag: String,
    /// The shares the variants were served in, for the split check [default: the flag's own, or
    /// equal ones where it does not say]
    #[arg(long, value_name = "VARIANT=SHARE,...")]
    shares: Option<String>,
    /// With --data-dir: a file with the definition, instead of the stored one
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    definition: Option<PathBuf>,
    #[command(flatten)]
    comparing: Comparing,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct JourneyReportArguments {
    /// The journey's key
    key: String,
    /// The flag whose variants are compared; without it, everyone
    #[arg(long)]
    flag: Option<String>,
    /// With --data-dir: a file with the definition, instead of the stored one
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    definition: Option<PathBuf>,
    #[command(flatten)]
    comparing: Comparing,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct UsageReportArguments {
    /// An event to count; repeat for more. With --flag alone, its exposures
    #[arg(long, value_name = "NAME", required_unless_present = "flag")]
    event: Vec<String>,
    /// The flag whose variants divide the units
    #[arg(long)]
    flag: Option<String>,
    /// A property of the first exposure by which the arms are divided
    #[arg(long, value_name = "PROPERTY", requires = "flag")]
    segment: Option<String>,
    /// day, week, or a number of days
    #[arg(long, default_value = "day")]
    period: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct RetentionReportArguments {
    /// What counts as activity; repeat for more. Without it, any event
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,
    /// day, week, or a number of days
    #[arg(long, default_value = "week")]
    period: String,
    /// Cohorts, the lifecycle of units, or how often they come
    #[arg(long, value_enum, default_value_t)]
    show: ViewName,
    /// With --show lifecycle or stickiness: the flag whose variants divide the units
    #[arg(long)]
    flag: Option<String>,
    /// A property of the first exposure by which the arms are divided
    #[arg(long, value_name = "PROPERTY", requires = "flag")]
    segment: Option<String>,
    /// The error of intervals, each for one look [default: 0.05]
    #[arg(long, value_name = "A")]
    alpha: Option<f64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ViewName {
    /// By first period, and who came back in which later one
    #[default]
    Cohorts,
    /// New, returning, resurrecting and dormant units by period
    Lifecycle,
    /// The days of a period on which units are active
    Stickiness,
}

impl Comparing {
    fn parameters(&self, flag: Option<String>, common: &Common) -> ReportParameters {
        ReportParameters {
            flag,
            segment: self.segment.clone(),
            from: common.from.clone(),
            to: common.to.clone(),
            control: self.control.clone(),
            method: Some(self.method.into()),
            alpha: self.alpha,
            tune_at: self.tune_at,
            prior_sd: self.prior_sd,
            n_max: self.n_max,
            looks: self.looks,
            spending: self.spending.clone(),
            last_look: self.last_look.then_some(true),
            ..ReportParameters::default()
        }
    }
}

/// Runs a metric command.
pub(crate) fn metric(command: &MetricCommand) -> Result<ExitCode> {
    match command {
        MetricCommand::Create(arguments) => definitions::create(Kept::METRIC, arguments)?,
        MetricCommand::List(arguments) => definitions::list(Kept::METRIC, arguments)?,
        MetricCommand::Get(arguments) => definitions::get(Kept::METRIC, arguments)?,
        MetricCommand::Report(arguments) => metric_report(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a journey command.
pub(crate) fn journey(command: &JourneyCommand) -> Result<ExitCode> {
    match command {
        JourneyCommand::Create(arguments) => definitions::create(Kept::JOURNEY, arguments)?,
        JourneyCommand::List(arguments) => definitions::list(Kept::JOURNEY, arguments)?,
        JourneyCommand::Get(arguments) => definitions::get(Kept::JOURNEY, arguments)?,
        JourneyCommand::Report(arguments) => journey_report(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn metric_report(arguments: &MetricReportArguments) -> Result<()> {
    let flag = Some(arguments.flag.clone());
    let asked = ReportParameters {
        shares: arguments.shares.clone(),
        ..arguments.comparing.parameters(flag, &arguments.common)
    };
    let subject = Subject {
        kept: Kept::METRIC,
        key: &arguments.key,
        file: arguments.definition.as_deref(),
    };
    let place = &arguments.common.place;
    let report = place.ask_about(&subject, &asked, reports::metric)?;
    show(place, &report, metric_table::render)
}

fn journey_report(arguments: &JourneyReportArguments) -> Result<()> {
    let flag = arguments.flag.clone();
    let asked = arguments.comparing.parameters(flag, &arguments.common);
    let subject = Subject {
        kept: Kept::JOURNEY,
        key: &arguments.key,
        file: arguments.definition.as_deref(),
    };
    let place = &arguments.common.place;
    let report = place.ask_about(&subject, &asked, reports::journey)?;
    show(place, &report, journey_table::render)
}

/// Runs a usage command.
pub(crate) fn usage(command: &UsageCommand) -> Result<ExitCode> {
    let UsageCommand::Report(arguments) = command;
    let common = &arguments.common;
    let asked = ReportParameters {
        flag: arguments.flag.clone(),
        segment: arguments.segment.clone(),
        from: common.from.clone(),
        to: common.to.clone(),
        events: events(&arguments.event),
        period: Some(arguments.period.clone()),
        ..ReportParameters::default()
    };
    let report = common.place.ask("usage", &asked, reports::usage)?;
    show(&common.place, &report, activity_table::render_usage)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a retention command.
pub(crate) fn retention(command: &RetentionCommand) -> Result<ExitCode> {
    let RetentionCommand::Report(arguments) = command;
    let common = &arguments.common;
    let (view, render): (RetentionView, fn(&Value) -> String) = match arguments.show {
        ViewName::Cohorts => (RetentionView::Cohorts, activity_table::render_retention),
        ViewName::Lifecycle => (RetentionView::Lifecycle, activity_table::render_lifecycle),
        ViewName::Stickiness => (RetentionView::Stickiness, activity_table::render_stickiness),
    };
    let asked = ReportParameters {
        flag: arguments.flag.clone(),
        segment: arguments.segment.clone(),
        from: common.from.clone(),
        to: common.to.clone(),
        events: events(&arguments.event),
        period: Some(arguments.period.clone()),
        alpha: arguments.alpha,
        show: Some(view),
        ..ReportParameters::default()
    };
    let report = common.place.ask("retention", &asked, reports::retention)?;
    show(&common.place, &report, render)?;
    Ok(ExitCode::SUCCESS)
}

fn events(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(","))
}

fn show(place: &Place, report: &Value, render: fn(&Value) -> String) -> Result<()> {
    match place.output.output {
        Format::Json => output::json(report),
        Format::Table => {
            output::line(render(report).trim_end());
            Ok(())
        }
    }
}
