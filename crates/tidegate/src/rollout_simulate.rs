//! `tidegate rollout simulate`: how often a plan would roll back a healthy change, and how soon it would
//! catch a harmful one.
//!
//! Needs no server: reads the plan, plays it in the pure simulator, prints.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;
use tidegate_rollout::RolloutSpec;
use tidegate_rollout::forecast::{Traffic, forecast};
use tidegate_rollout::simulate::{Shape, SimulationReport, Workload, simulate};
use tidegate_server::rollouts::GuardSource;

use crate::nearest::nearest;
use crate::output::{self, Format, OutputArguments};

/// Plans are small; whatever is larger is not a plan.
const MAX_PLAN_BYTES: u64 = 1 << 20;
/// Histories beyond which a run takes minutes.
const MAX_HISTORIES: u64 = 1_000_000;

/// What to play.
#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// Plan to play: a rollout document or its bare spec, YAML or JSON
    #[arg(short = 'f', long = "file")]
    file: PathBuf,
    /// Requests per second of the audience
    #[arg(long, value_parser = positive)]
    traffic: f64,
    /// Share of requests that fail in control, such as 0.005
    #[arg(long, value_parser = rate)]
    error_rate: f64,
    /// How users and time shape the failures
    #[arg(long, value_enum, default_value_t)]
    service: Service,
    /// Rollouts to play for each row
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=MAX_HISTORIES))]
    histories: u64,
    /// Seed; the same seed gives the same report
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    output: OutputArguments,
}

/// The services that can be played.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Service {
    /// Every request by a user of its own
    #[default]
    Plain,
    /// Traffic swings over the day
    DailyWaves,
    /// A few users send most requests
    HeavyUsers,
    /// Failures come in outages
    Autocorrelated,
    /// Every failure is retried, and fails again
    RetryStorms,
}

impl From<Service> for Shape {
    fn from(service: Service) -> Self {
        match service {
            Service::Plain => Self::Plain,
            Service::DailyWaves => Self::DailyWaves,
            Service::HeavyUsers => Self::HeavyUsers,
            Service::Autocorrelated => Self::Autocorrelated,
            Service::RetryStorms => Self::RetryStorms,
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    let is_legal = number.is_finite() && (1e-3..=1e7).contains(&number);
    if is_legal {
        Ok(number)
    } else {
        Err("must lie between 0.001 and 10000000".to_owned())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    let is_legal = (1e-6..=0.5).contains(&number);
    if is_legal {
        Ok(number)
    } else {
        Err("must lie between 0.000001 and 0.5".to_owned())
    }
}

/// Plays the plan and prints the report.
pub(crate) fn run(arguments: &SimulateArguments) -> Result<ExitCode> {
    let spec = read_plan(&arguments.file)?;
    if spec.blind {
        bail!("simulate the plan: it is blind, so nothing would ever be caught");
    }
    let workload = Workload {
        requests_per_second: arguments.traffic,
        error_rate: arguments.error_rate,
        shape: arguments.service.into(),
    };
    let report = simulate(&spec, &workload, arguments.histories, arguments.seed);
    match arguments.output.output {
        Format::Json => output::json(&serde_json::to_value(&report)?)?,
        Format::Table => print(&spec, &report),
    }
    Ok(ExitCode::SUCCESS)
}

fn read_plan(path: &Path) -> Result<RolloutSpec> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.take(MAX_PLAN_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("read {}", path.display()))?;
    if text.len() as u64 > MAX_PLAN_BYTES {
        bail!(
            "read {}: larger than {MAX_PLAN_BYTES} bytes",
            path.display()
        );
    }
    let document: Value = serde_norway::from_str(&text)
        .with_context(|| format!("read {} as YAML or JSON", path.display()))?;
    let spec = document.get("spec").unwrap_or(&document);
    let spec =
        RolloutSpec::from_json(spec).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let unmeasured = unmeasured(&spec);
    if !unmeasured.is_empty() {
        bail!("{}: {}", path.display(), unmeasured.join("; "));
    }
    Ok(spec)
}

/// What is to be said of guards on metrics that nobody measures.
fn unmeasured(spec: &RolloutSpec) -> Vec<String> {
    let guards = spec.guards.iter().enumerate();
    let wrong = guards.filter(|(_, guard)| GuardSource::of(&guard.metric).is_none());
    wrong
        .map(|(index, guard)| {
            let family = guard.metric.split('/').next().unwrap_or_default();
            let cure = match nearest(family, GuardSource::FAMILIES) {
                Some(known) if known != family => format!("did you mean {known:?}?"),
                _ => GuardSource::NAMES.to_owned(),
            };
            let metric = &guard.metric;
            format!("/guards/{index}/metric: metric {metric:?} is not measured; {cure}")
        })
        .collect()
}

fn print(spec: &RolloutSpec, report: &SimulationReport) {
    for finding in spec.lint() {
        output::line(&format!("warning: {} {}", finding.pointer, finding.reason));
    }
    output::line(&report.sentence);
    let traffic = Traffic {
        units_per_second: report.workload.requests_per_second,
        event_rate: report.workload.error_rate,
    };
    if let Some(guard) = spec.guards.first() {
        output::line(&forecast(spec, guard, traffic).sentence);
    }
    let healthy = &report.healthy;
    let mut rows = vec![vec![
        "healthy".to_owned(),
        percent(healthy.false_rollbacks, healthy.histories),
        format!("{:.0}", healthy.mean_seconds),
        "0.0".to_owned(),
        String::new(),
    ]];
    rows.extend(report.harmed.iter().map(|row| {
        vec![
            format!("{}x errors", row.ratio),
            percent(row.caught, row.histories),
            format!("{:.1}", row.mean_seconds),
            format!("{:.1}", row.mean_excess_failures),
            row.seconds_ratio
                .map(|ratio| format!("{ratio:.2}"))
                .unwrap_or_default(),
        ]
    }));
    rows.extend(report.late.iter().map(|row| {
        vec![
            format!("{}x errors from mid-bake", row.ratio),
            percent(row.caught, row.histories),
            format!("{:.1} since then", row.mean_seconds),
            format!("{:.1}", row.mean_excess_failures),
            String::new(),
        ]
    }));
    output::table(
        &[
            "change",
            "rolled back",
            "mean seconds",
            "excess failures",
            "x bound",
        ],
        &rows,
    );
}

fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "numbers of histories")]
    let share = 100.0 * part as f64 / whole.max(1) as f64;
    format!("{share:.2} %")
}
