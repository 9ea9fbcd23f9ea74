//! `stats certify`: the calibration protocol, run here and now.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::Args;
use tidegate_stats::certify::{Certificate, Counts, Executor, Level, Row, certify};

use super::table::figure;
use super::{Answer, OutputArgs, Refusal};

const EXAMPLES: &str = "\
Examples:
  Within a minute:
    tidegate stats certify --quick

  Every configuration at its stated repetitions (many minutes), as a document:
    tidegate stats certify --full --seed 1 > certificate.md

  Only the studies of splits:
    tidegate stats certify --full --only split -o json

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
    /// Only studies whose name contains this; rows do not depend on which others are run.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    only: String,
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
    let executor = Threads { threads };
    let certificate = certify(level, args.seed, &args.only, &executor, &mut progress);
    if certificate.rows.is_empty() {
        return Err(Refusal::usage(format!(
            "no study of this level has {:?} in its name",
            args.only
        )));
    }
    let is_success = certificate.met;
    let answer = Answer::of(args.output.output, &certificate, || {
        describe(&certificate, &args.only)
    })?;
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

/// The certificate as a document.
fn describe(certificate: &Certificate, only: &str) -> String {
    let level = match certificate.level {
        Level::Quick => "--quick",
        Level::Full => "--full",
    };
    let only = if only.is_empty() {
        String::new()
    } else {
        format!(" --only '{only}'")
    };
    let protocol: Vec<&Row> = certificate
        .rows
        .iter()
        .filter(|row| row.in_protocol)
        .collect();
    let met = protocol.iter().filter(|row| row.met).count();
    let mut text = format!(
        "# Certificate of the statistics engine\n\n\
         Printed by `tidegate stats certify {level} --seed {}{only}`; the same seed gives the same figures on \
         any number of threads.\n\
         Each row is a promise: how often it was broken in simulated experiments, the upper end of the \
         two-sided 99 % Clopper-Pearson interval of that rate, and the bar.\n\
         A bar is met when that limit is at or below it.\n\
         What is simulated and how is told in the module documentation of `tidegate_stats::certify` and in \
         `docs/adr/0028-what-the-certificate-measures.md`.\n\n\
         {met} of {} bars of the protocol are met.\n\n\
         | section | what is counted | metric | scale | schedule | repetitions | rate | upper 99 % | bar | met |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        certificate.seed,
        protocol.len()
    );
    for row in &certificate.rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {:.5} | {:.5} | {} | {} |",
            row.section,
            row.configuration,
            row.metric,
            row.scale,
            row.schedule,
            row.repetitions,
            row.rate,
            row.upper_99,
            // Bars are sums of round figures; their last binary digit is not.
            (1e6 * row.bar).round() / 1e6,
            verdict(row)
        );
    }
    if certificate.rows.iter().any(|row| !row.met) {
        text.push_str("\n## Not met\n\n");
    }
    for row in certificate.rows.iter().filter(|row| !row.met) {
        let reason = row.reason.unwrap_or("the reason is not known");
        let _ = writeln!(
            text,
            "- {}, {}, {}, {}: {reason}.",
            row.configuration, row.metric, row.scale, row.schedule
        );
    }
    text
}

fn verdict(row: &Row) -> &'static str {
    match (row.met, row.in_protocol) {
        (true, true) => "yes",
        (false, true) => "**no**",
        (true, false) => "yes, beyond the protocol",
        (false, false) => "**no**, beyond the protocol",
    }
}
