//! `tidegate stats`: the statistics engine on the command line.
//!
//! Reads figures from flags, a file or standard input, asks the pure crate, prints a table or
//! JSON. Nothing is decided here. A refusal goes to standard error with its place and its cure:
//! exit 2 when the flags are wrong, exit 1 when the data is or when a certificate's bar is not
//! met.

mod boundaries;
mod bounded_lines;
mod certify;
mod compare;
mod input;
mod lists;
mod plan;
mod srm;
mod table;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

pub(crate) use table::{Table, figure};

/// Statistics: comparisons, ratio checks, plans, boundaries, certificate.
#[derive(Args)]
pub(crate) struct StatsCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Compare treatments with a control: effect, interval and p-value per metric.
    Compare(compare::CompareArgs),
    /// Check that traffic arrived in the shares that were served.
    Srm(srm::SrmArgs),
    /// How many units and days an experiment needs, or what it could show by a deadline.
    Plan(plan::PlanArgs),
    /// Critical values of a group sequential plan.
    Boundaries(boundaries::BoundariesArgs),
    /// Measure the engine's promises by simulation and print the certificate.
    Certify(certify::CertifyArgs),
}

/// How results are printed.
#[derive(Args, Clone, Copy)]
struct OutputArgs {
    /// Print a table for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Why a command ends without an answer.
#[derive(Debug)]
enum Refusal {
    /// The flags are wrong: exit 2.
    Usage(String),
    /// The data is: exit 1.
    Data(String),
}

impl Refusal {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn data(error: impl std::fmt::Display) -> Self {
        Self::Data(error.to_string())
    }
}

/// What a command prints, and whether it counts as a success.
struct Answer {
    text: String,
    is_success: bool,
}

impl Answer {
    /// A serialisable report with its table for people.
    fn of(
        format: Format,
        report: &impl serde::Serialize,
        table: impl FnOnce() -> String,
    ) -> Result<Self, Refusal> {
        let text = match format {
            Format::Table => table(),
            Format::Json => serde_json::to_string_pretty(report).map_err(Refusal::data)?,
        };
        Ok(Self {
            text,
            is_success: true,
        })
    }
}

/// Runs the command and gives its exit code.
pub(crate) fn run(command: &StatsCommand) -> ExitCode {
    let answered = match &command.verb {
        Verb::Compare(args) => compare::run(args),
        Verb::Srm(args) => srm::run(args),
        Verb::Plan(args) => plan::run(args),
        Verb::Boundaries(args) => boundaries::run(args),
        Verb::Certify(args) => certify::run(args),
    };
    let (code, printed) = match answered {
        Ok(answer) => {
            let code = u8::from(!answer.is_success);
            (
                code,
                writeln!(std::io::stdout().lock(), "{}", answer.text.trim_end()),
            )
        }
        Err(Refusal::Usage(text)) => (2, writeln!(std::io::stderr().lock(), "error: {text}")),
        Err(Refusal::Data(text)) => (1, writeln!(std::io::stderr().lock(), "error: {text}")),
    };
    match printed {
        Ok(()) => ExitCode::from(code),
        // A reader that has gone away (`| head`) has all it wanted.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}
