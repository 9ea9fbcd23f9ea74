//! `stats srm`: does the traffic arrive in the shares that were served?

use clap::Args;
use serde::Deserialize;
use tidegate_stats::srm::{Phase, SrmError, SrmOptions, SrmReport, check};

use super::lists::{Counts, Numbers};
use super::table::figure;
use super::{Answer, OutputArgs, Refusal, Table};

/// Longest input file in bytes.
const INPUT_BYTES_MAX: u64 = 16 << 20;

const EXAMPLES: &str = "\
Examples:
  Two arms served half and half:
    tidegate stats srm --counts 821588,815482 --weights 1,1

  A ramp from 90/10 to 50/50, each phase with its own shares:
    tidegate stats srm --phase 9,1:45100,4900 --phase 1,1:25050,24950

  The same from a file or standard input:
    echo '{\"phases\":[{\"weights\":[9,1],\"counts\":[45100,4900]}]}' | tidegate stats srm --input -

The sequential answer may be read after every unit; chi-square and exact are for one look.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SrmArgs {
    /// Units seen in each arm.
    #[arg(long, value_name = "N,N,...", requires = "weights")]
    counts: Option<Counts>,
    /// Shares served to each arm, on any scale; 0 means not served.
    #[arg(long, value_name = "W,W,...", requires = "counts")]
    weights: Option<Numbers>,
    /// One phase of a ramp, repeated in order.
    #[arg(long, value_name = "WEIGHTS:COUNTS", value_parser = phase, conflicts_with = "counts")]
    phase: Vec<Phase>,
    /// JSON file with {"phases":[{"weights":[..],"counts":[..]}]}; - reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["counts", "phase"])]
    input: Option<String>,
    /// Chance of a false alarm, ever.
    #[arg(long, default_value_t = 0.001, value_name = "A")]
    alpha: f64,
    /// Prior strength of the sequential check: larger finds smaller skews, later.
    #[arg(long, default_value_t = tidegate_stats::srm::PRIOR_STRENGTH, value_name = "UNITS")]
    prior_strength: f64,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputFile {
    phases: Vec<InputPhase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputPhase {
    weights: Vec<f64>,
    counts: Vec<u64>,
}

fn phase(text: &str) -> Result<Phase, String> {
    let (weights, counts) = text
        .split_once(':')
        .ok_or("write WEIGHTS:COUNTS, for example 9,1:45100,4900")?;
    let (Numbers(weights), Counts(counts)) = (weights.parse()?, counts.parse()?);
    Ok(Phase { weights, counts })
}

pub(super) fn run(args: &SrmArgs) -> Result<Answer, Refusal> {
    let (phases, refuse): (Vec<Phase>, fn(SrmError) -> Refusal) = match &args.input {
        Some(path) => (read_phases(path)?, Refusal::data),
        None => (phases_of_flags(args)?, Refusal::usage),
    };
    let options = SrmOptions {
        alpha: args.alpha,
        prior_strength: args.prior_strength,
    };
    let report = check(&phases, &options).map_err(refuse)?;
    Answer::of(args.output.output, &report, || describe(&report))
}

fn phases_of_flags(args: &SrmArgs) -> Result<Vec<Phase>, Refusal> {
    match (&args.counts, &args.weights) {
        (Some(Counts(counts)), Some(Numbers(weights))) => Ok(vec![Phase {
            weights: weights.clone(),
            counts: counts.clone(),
        }]),
        _ if !args.phase.is_empty() => Ok(args.phase.clone()),
        _ => Err(Refusal::usage(
            "give --counts with --weights, --phase, or --input",
        )),
    }
}

fn read_phases(path: &str) -> Result<Vec<Phase>, Refusal> {
    let bytes = super::input::read_limited(path, INPUT_BYTES_MAX)?;
    let file: InputFile = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::Data(format!("{path}: {error}")))?;
    Ok(file
        .phases
        .into_iter()
        .map(|phase| Phase {
            weights: phase.weights,
            counts: phase.counts,
        })
        .collect())
}

fn describe(report: &SrmReport) -> String {
    let mut arms = Table::new(&[
        "arm",
        "units",
        "expected",
        "share at least",
        "share at most",
    ]);
    for (index, arm) in report.arms.iter().enumerate() {
        let (low, high) = arm
            .share_bounds
            .map_or(("-".to_owned(), "-".to_owned()), |(low, high)| {
                (figure(low), figure(high))
            });
        let row = vec![
            (index + 1).to_string(),
            arm.count.to_string(),
            figure(arm.expected),
            low,
            high,
        ];
        arms.row(row);
    }
    let mut tests = Table::new(&["method", "statistic", "p", "valid"]);
    let chi_square = report.chi_square;
    tests.row(vec![
        format!(
            "sequential (Dirichlet-multinomial e-process, A {})",
            report.sequential.prior_strength
        ),
        format!("ln E {}", figure(report.sequential.log_e)),
        figure(report.sequential.p_value),
        "at any time".to_owned(),
    ]);
    tests.row(vec![
        "chi-square (Pearson)".to_owned(),
        format!("{}, df {}", figure(chi_square.statistic), chi_square.df),
        figure(chi_square.p_value),
        "for one look".to_owned(),
    ]);
    if let Some(exact) = report.exact {
        let name = "exact (outcomes no likelier)".to_owned();
        tests.row(vec![
            name,
            "-".to_owned(),
            figure(exact.p_value),
            "for one look".to_owned(),
        ]);
    }
    format!("{}\n{}\n{}", arms.render(), tests.render(), report.summary)
}
