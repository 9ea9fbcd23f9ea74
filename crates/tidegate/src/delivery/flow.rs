//! `delivery flow` and `delivery forecast`: work in progress, ageing, and when the rest will be done.

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use tidegate_delivery::flow::forecast::{
    BackTest, Forecast as Answered, Simulation, back_test, how_many, when_done,
};
use tidegate_delivery::flow::{FlowQuery, measure_flow};
use tidegate_delivery::{Moment, Timeline, Window};

use super::{LogArgs, OutputFormat, now, print_json, print_line};

/// Work in progress, age, throughput and cycle time over `[from, to)`, UTC.
#[derive(Debug, Args)]
pub(crate) struct Flow {
    /// Service or board; all without it.
    #[arg(long)]
    service: Option<String>,
    /// First moment inside: a date or RFC 3339.
    #[arg(long)]
    from: String,
    /// First moment after: a date or RFC 3339.
    #[arg(long)]
    to: String,
    /// Speak up when more items than this are in progress.
    #[arg(long)]
    wip_limit: Option<usize>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

impl Flow {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let window = window_of(&self.from, &self.to)?;
        let timeline = self.log.timeline()?;
        let query = FlowQuery {
            service: self.service.as_deref(),
            window,
            as_of: now(),
            wip_limit: self.wip_limit,
        };
        let report = measure_flow(&timeline, query);
        if self.output == OutputFormat::Json {
            return Ok(print_json(&report)?);
        }
        let days = |value: Option<f64>| {
            value.map_or("no data".to_owned(), |days| format!("{days:.1} days"))
        };
        print_line(&format!(
            "{} in progress (mean {:.1}), {} finished, {:.1} a week",
            report.wip, report.mean_wip, report.finished, report.throughput_per_week
        ))?;
        let cycle = report.cycle_time;
        print_line(&format!(
            "cycle time: 50 % within {}, 85 % within {}, 95 % within {} (n = {})",
            days(cycle.p50),
            days(cycle.p85),
            days(cycle.p95),
            cycle.n
        ))?;
        for assumption in &report.littles_law.assumptions {
            let verdict = if assumption.holds {
                "holds"
            } else {
                "does not hold"
            };
            print_line(&format!(
                "Little's law: {} {verdict}: {}",
                assumption.name, assumption.figures
            ))?;
        }
        for alert in &report.alerts {
            print_line(&format!("alert: {alert}"))?;
        }
        Ok(())
    }
}

/// When will so many items be done, or how many by then; from the daily throughput of the past.
#[derive(Debug, Args)]
pub(crate) struct Forecast {
    /// Service or board; all without it.
    #[arg(long)]
    service: Option<String>,
    /// History: first moment inside.
    #[arg(long)]
    from: String,
    /// History: first moment after.
    #[arg(long)]
    to: String,
    /// When will these many be done?
    #[arg(long, conflicts_with = "days", required_unless_present = "days")]
    items: Option<u32>,
    /// How many within these days?
    #[arg(long)]
    days: Option<u32>,
    /// What is counted: finished items, or deployments to production.
    #[arg(long, value_enum, default_value_t)]
    of: Counted,
    /// Simulations.
    #[arg(long, default_value_t = 10_000)]
    simulations: u32,
    /// Seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Counted {
    #[default]
    Items,
    Deployments,
}

/// Days of history that each forecast of the back-test sees.
const TRAINING_DAYS: usize = 60;

#[derive(Serialize)]
struct Answer {
    question: String,
    unit: &'static str,
    forecast: Answered,
    history_days: usize,
    back_test: Option<BackTest>,
}

impl Forecast {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let window = window_of(&self.from, &self.to)?;
        let history = self.daily(&self.log.timeline()?, window);
        let simulation = Simulation {
            simulations: self.simulations,
            seed: self.seed,
        };
        let (question, unit, forecast, horizon) = match (self.items, self.days) {
            (Some(items), _) => {
                let forecast = when_done(&history, items, simulation)?;
                (
                    format!("when will {items} be done"),
                    "days",
                    forecast,
                    forecast.p50,
                )
            }
            (None, Some(days)) => (
                format!("how many within {days} days"),
                "items",
                how_many(&history, days, simulation)?,
                days,
            ),
            (None, None) => bail!("give --items or --days"),
        };
        let tested = back_test(&history, TRAINING_DAYS, horizon, simulation)
            .ok()
            .filter(|test| test.n > 0);
        let answer = Answer {
            question,
            unit,
            forecast,
            history_days: history.len(),
            back_test: tested,
        };
        if self.output == OutputFormat::Json {
            return Ok(print_json(&answer)?);
        }
        let Answered { p50, p70, p85, p95 } = answer.forecast;
        print_line(&format!(
            "{}: {p50} {unit} at 50 %, {p70} at 70 %, {p85} at 85 %, {p95} at 95 % (from {} days)",
            answer.question, answer.history_days
        ))?;
        match &answer.back_test {
            Some(test) => print_line(&format!(
                "back-test: the 85 % forecast held in {:.0} % of {} past cases",
                test.coverage_85 * 100.0,
                test.n
            ))?,
            None => print_line("back-test: the history is too short for one")?,
        }
        Ok(())
    }

    /// How many were finished on each day of the history.
    fn daily(&self, timeline: &Timeline, window: Window) -> Vec<u32> {
        let (first, last) = window.day_range();
        let mut days = vec![0_u32; usize::try_from(last - first + 1).unwrap_or(0)];
        let mut count = |at: Moment| {
            if window.contains(at)
                && let Some(day) = usize::try_from(at.day() - first)
                    .ok()
                    .and_then(|day| days.get_mut(day))
            {
                *day = day.saturating_add(1);
            }
        };
        let is_asked =
            |name: Option<&str>| self.service.is_none() || self.service.as_deref() == name;
        match self.of {
            Counted::Items => {
                let items = timeline
                    .items()
                    .iter()
                    .filter(|item| is_asked(item.facts.service.as_deref()));
                items
                    .filter_map(|item| item.facts.finished_at)
                    .for_each(&mut count);
            }
            Counted::Deployments => {
                let series = timeline
                    .series()
                    .filter(|s| s.environment() == "production" && is_asked(Some(s.service())));
                series
                    .flat_map(|s| s.succeeded())
                    .for_each(|d| count(d.finished_at));
            }
        }
        days
    }
}

pub(super) fn window_of(from: &str, to: &str) -> anyhow::Result<Window> {
    let from = Moment::parse(from).context("--from")?;
    Ok(Window::new(from, Moment::parse(to).context("--to")?)?)
}
