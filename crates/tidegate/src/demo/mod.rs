//! `tidegate demo`: the whole loop with a known truth.
//!
//! The demo starts a real server, plays a shop's customers against its real interfaces (OFREP in,
//! events and OTLP spans back), and ends by holding the server's verdicts against what it made happen. Nothing in
//! the server knows that it is a demo.

mod customers;
mod scenarios;
mod spans;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use tidegate_server::runtime::{Settings, start};

use crate::client::Connection;
use crate::output::{self, Format, OutputArguments};
use crate::serve;
use scenarios::Scenario;

/// How long the scenarios may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(110);

#[derive(Debug, Args)]
#[command(
    after_help = "Shows a healthy change opening to everybody, and one that triples checkout \
                        errors shutting by itself. Exits 1 if a verdict disagrees with the truth."
)]
pub(crate) struct DemoArguments {
    /// Where to keep the demo's data; without it, a folder that goes away
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The address to answer at; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:8800")]
    listen: SocketAddr,
    /// Seed of the customers
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Stop when the scenarios are over
    #[arg(long)]
    exit_when_done: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// Plays the scenarios and checks the verdicts against the truth.
pub(crate) fn run(arguments: &DemoArguments) -> Result<ExitCode> {
    serve::start_logging_at(tracing::Level::WARN);
    let scratch = tempfile::tempdir().context("cannot make a folder for the demo's data")?;
    let data_dir = arguments
        .data_dir
        .clone()
        .unwrap_or_else(|| scratch.path().to_owned());
    let token = tidegate_store::MintedCredential::mint("admin")
        .map_err(|error| anyhow::anyhow!("{error}"))?
        .text
        .expose()
        .to_owned();
    let settings = Settings {
        data_dir,
        listen: arguments.listen,
        bootstrap_token: Some(token.clone()),
        rate_limit: None,
        open_door: true,
        allowed_origins: Default::default(),
        retention: Default::default(),
        report_limit: tidegate_server::reports::USUAL_LIMIT,
        outward: Default::default(),
    };
    let (seed, format) = (arguments.seed, arguments.output.output);
    let stays = !arguments.exit_when_done;
    serve::block_on(async move {
        let running = start(settings, serve::clock()).await?;
        serve::announce(&running);
        let connection = Connection {
            server: format!("http://{}", running.address),
            token: Some(token),
            project: "default".to_owned(),
            is_patient: false,
        };
        let outcome = tokio::task::spawn_blocking(move || play(&connection, seed, format));
        let all_correct = outcome.await.context("the demo stopped")??;
        if stays {
            output::note("the server goes on; look at it, then press Ctrl-C");
            serve::wait_for_stop().await?;
        }
        running.stop(Duration::from_secs(5)).await;
        Ok(if all_correct {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

/// What became of one scenario.
struct Outcome {
    scenario: Scenario,
    verdict: String,
    lifecycle: String,
    share_bp: u64,
    seconds: f64,
    sentence: String,
}

impl Outcome {
    fn is_correct(&self) -> bool {
        self.lifecycle == self.scenario.expected_lifecycle
            && self.share_bp == self.scenario.expected_share_bp
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.scenario.name,
            "truth": self.scenario.truth,
            "verdict": self.verdict,
            "lifecycle": self.lifecycle,
            "final_share_bp": self.share_bp,
            "seconds": self.seconds,
            "correct": self.is_correct(),
            "reason": self.sentence,
            "base_error_rate": self.scenario.base_error_rate,
            "treatment_error_rate": self.scenario.treatment_error_rate,
            "slow_rate": self.scenario.slow_rate,
            "guard": self.scenario.guard,
            "reported_over": self.scenario.reports.over(),
            "margin": 0.0,
        })
    }
}

/// Sets the scenarios up, lets customers come, and watches until all have ended.
fn play(connection: &Connection, seed: u64, format: Format) -> Result<bool> {
    let scenarios = scenarios::all();
    for scenario in &scenarios {
        scenario.set_up(connection)?;
        if format == Format::Table {
            let (over, guard) = (scenario.reports.over(), scenario.guard);
            output::line(&format!(
                "          {:<16} {}; guarded by {guard}, reported over {over}",
                scenario.name, scenario.truth
            ));
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let crowd = customers::come(connection, &scenarios, seed, &stop);
    let outcomes = start_and_watch(connection, scenarios, format);
    stop.store(true, Ordering::Relaxed);
    for customer in crowd {
        let _ = customer.join();
    }
    let outcomes = outcomes?;
    report(&outcomes, format)?;
    Ok(outcomes.iter().all(Outcome::is_correct))
}

fn start_and_watch(
    connection: &Connection,
    scenarios: Vec<Scenario>,
    format: Format,
) -> Result<Vec<Outcome>> {
    for scenario in &scenarios {
        scenario.start(connection)?;
    }
    watch(connection, scenarios, format)
}

fn watch(
    connection: &Connection,
    scenarios: Vec<Scenario>,
    format: Format,
) -> Result<Vec<Outcome>> {
    let started = serve::clock();
    let mut open: Vec<(Scenario, String)> = scenarios
        .into_iter()
        .map(|scenario| (scenario, String::new()))
        .collect();
    let mut ended = Vec::new();
    while !open.is_empty() {
        let elapsed = started.monotonic();
        let is_late = elapsed >= PATIENCE;
        let mut still_open = Vec::new();
        for (scenario, said) in open {
            let path = connection.path(&format!("rollouts/{}/report", scenario.name));
            let standing = connection
                .get(&path)
                .map(|answer| answer.body)
                .unwrap_or_default();
            let outcome = outcome(scenario, &standing, elapsed);
            let share = outcome.share_bp as f64 / 100.0;
            let now = format!("{} (share {share} %)", outcome.sentence);
            if format == Format::Table && now != said && !outcome.sentence.is_empty() {
                let seconds = outcome.seconds;
                output::line(&format!(
                    "{seconds:6.1} s  {:<16} {now}",
                    outcome.scenario.name
                ));
            }
            if is_late || outcome.scenario.has_ended(&outcome.lifecycle, elapsed) {
                ended.push(outcome);
            } else {
                still_open.push((outcome.scenario, now));
            }
        }
        open = still_open;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(ended)
}

fn outcome(scenario: Scenario, standing: &Value, elapsed: Duration) -> Outcome {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let report = &standing["plan"]["report"];
    Outcome {
        scenario,
        verdict: text(&standing["plan"]["verdict"]),
        lifecycle: text(&standing["lifecycle"]),
        share_bp: standing["share_bp"].as_u64().unwrap_or_default(),
        seconds: elapsed.as_secs_f64(),
        sentence: text(&report["sentence"]),
    }
}

fn report(outcomes: &[Outcome], format: Format) -> Result<()> {
    if format == Format::Json {
        let rows: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
        return output::json(&json!({ "scenarios": rows }));
    }
    output::line("");
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|outcome| {
            vec![
                outcome.scenario.name.to_owned(),
                outcome.scenario.truth.to_owned(),
                outcome.scenario.reports.over().to_owned(),
                outcome.lifecycle.clone(),
                format!("{:.2} %", outcome.share_bp as f64 / 100.0),
                format!("{:.1} s", outcome.seconds),
                if outcome.is_correct() {
                    "correct"
                } else {
                    "WRONG"
                }
                .to_owned(),
            ]
        })
        .collect();
    output::table(
        &[
            "CHANGE",
            "TRUTH",
            "REPORTED OVER",
            "OUTCOME",
            "EXPOSED",
            "AFTER",
            "VERDICT IS",
        ],
        &rows,
    );
    Ok(())
}
