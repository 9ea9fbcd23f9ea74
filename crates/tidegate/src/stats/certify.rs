//! `stats certify`: the calibration protocol, run here and now.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::Args;
use tidegate_stats::certify::{Certificate, Counts, Executor, Level, Row, certify};

use super::table::figure;
use super::{Answer, OutputArgs, Refusal, Table};

const EXAMPLES: &str = "\
Examples:
  Within a minute:
    tidegate stats certify --quick

  Every configuration at its stated repetitions (many minutes):
    tidegate stats certify --full --seed 1 -o json

Each row is a promise: how often it was broken in simulated experiments, the upper 99 %
Clopper-Pearson limit of that rate, and the bar. Exit code 1 when a limit is above its bar.
The same seed gives the same figures on any number of threads.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CertifyArgs {
    /// One configuration of each kind, within a minute on two cores (the default).
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Every configuration at its stated repetitions.
    #[arg(long)]
    full: bool,
    /// Seed of all draws.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &CertifyArgs) -> Result<Answer, Refusal> {
    let level = if args.full { Level::Full } else { Level::Quick };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut progress = |row: &Row| {
        let verdict = verdict(row);
        // Progress is a courtesy; a closed standard error must not stop the run.
        let _ = writeln!(
            std::io::stderr().lock(),
            "{} {} | {} | {} | {}: {} (limit {}, bar {}) {verdict}",
            row.section,
            row.configuration,
            row.metric,
            row.scale,
            row.schedule,
            figure(row.rate),
            figure(row.upper_99),
            figure(row.bar)
        );
    };
    let certificate = certify(level, args.seed, &Threads { threads }, &mut progress);
    let is_success = certificate.met;
    let answer = Answer::of(args.output.output, &certificate, || describe(&certificate))?;
    Ok(Answer {
        is_success,
        ..answer
    })
}

/// Jobs over scoped threads, handed out by a counter.
struct Threads {
    threads: usize,
}

impl Executor for Threads {
    fn run(&self, jobs: u32, job: &(dyn Fn(u32) -> Counts + Sync)) -> Vec<Counts> {
        let next = AtomicU32::new(0);
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= jobs {
                            break;
                        }
                        let counts = job(index);
                        if let Ok(mut done) = done.lock() {
                            done.push(counts);
                        }
                    }
                });
            }
        });
        done.into_inner().unwrap_or_default()
    }
}

fn describe(certificate: &Certificate) -> String {
    let mut table = Table::new(&[
        "section",
        "configuration",
        "metric",
        "scale",
        "schedule",
        "repetitions",
        "rate",
        "upper 99 %",
        "bar",
        "met",
    ]);
    for row in &certificate.rows {
        table.row(vec![
            row.section.to_owned(),
            row.configuration.clone(),
            row.metric.clone(),
            row.scale.to_owned(),
            row.schedule.clone(),
            row.repetitions.to_string(),
            figure(row.rate),
            figure(row.upper_99),
            figure(row.bar),
            verdict(row).to_owned(),
        ]);
    }
    let protocol: Vec<&Row> = certificate
        .rows
        .iter()
        .filter(|row| row.in_protocol)
        .collect();
    let met = protocol.iter().filter(|row| row.met).count();
    let mut text = format!(
        "{}\nseed {}: {met} of {} bars of the protocol met",
        table.render(),
        certificate.seed,
        protocol.len()
    );
    for row in certificate.rows.iter().filter(|row| !row.met) {
        let reason = row.reason.unwrap_or("reason unknown");
        let _ = write!(
            text,
            "\nnot met: {}, {}, {}, {}: {reason}",
            row.configuration, row.metric, row.scale, row.schedule
        );
    }
    text
}

fn verdict(row: &Row) -> &'static str {
    match (row.met, row.in_protocol) {
        (true, true) => "met",
        (false, true) => "NOT MET",
        (true, false) => "met, beyond the protocol",
        (false, false) => "not met, beyond the protocol",
    }
}
