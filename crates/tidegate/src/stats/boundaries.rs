//! `stats boundaries`: critical values of a group sequential plan.

use clap::Args;
use serde::Serialize;
use tidegate_stats::group_sequential::{Boundary, Design, Sides, Spending, boundaries};

use super::lists::Numbers;
use super::table::{figure, figure_or};
use super::{Answer, OutputArgs, Refusal, Table};

const EXAMPLES: &str = "\
Examples:
  Five equal looks, O'Brien-Fleming spending, two-sided .05:
    tidegate stats boundaries --alpha 0.05 --looks 5 --spending obrien-fleming

  Looks after 20 %, 50 % and all of the planned units, one-sided, as JSON:
    tidegate stats boundaries --alpha 0.025 --fractions 0.2,0.5,1 --spending pocock --one-sided -o json

Reject at a look when |z| (one-sided: z) is at or above the boundary printed for it.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BoundariesArgs {
    /// Chance of a false finding over all looks together.
    #[arg(long, default_value_t = 0.05, value_name = "A")]
    alpha: f64,
    /// Number of equally spaced looks.
    #[arg(long, value_name = "K", required_unless_present = "fractions")]
    looks: Option<u16>,
    /// How the error is spent: obrien-fleming, pocock or power=R.
    #[arg(long, default_value = "obrien-fleming", value_name = "S")]
    spending: Spending,
    /// Looks at these shares of the planned units instead, ascending; above 1 is over-run.
    #[arg(long, value_name = "F,F,...", conflicts_with = "looks")]
    fractions: Option<Numbers>,
    /// Reject for large z only.
    #[arg(long)]
    one_sided: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Boundary>,
    method: String,
}

pub(super) fn run(args: &BoundariesArgs) -> Result<Answer, Refusal> {
    let sides = if args.one_sided {
        Sides::One
    } else {
        Sides::Two
    };
    let design = match (&args.fractions, args.looks) {
        (Some(Numbers(fractions)), _) => {
            Design::at_fractions(args.alpha, sides, args.spending, fractions)
        }
        (None, looks) => {
            Design::equally_spaced(args.alpha, sides, args.spending, looks.unwrap_or(1))
        }
    };
    let rows = boundaries(&design).map_err(Refusal::usage)?;
    let side = if args.one_sided {
        "one-sided"
    } else {
        "two-sided"
    };
    let report = Report {
        rows,
        method: format!(
            "Lan-DeMets {} spending, {side}, alpha {}",
            args.spending, args.alpha
        ),
    };
    Answer::of(args.output.output, &report, || {
        let mut table = Table::new(&["look", "fraction", "z", "alpha spent"]);
        for row in &report.rows {
            table.row(vec![
                row.look.to_string(),
                figure(row.fraction),
                figure_or(row.z, "none"),
                figure(row.alpha_spent),
            ]);
        }
        format!("{}\nmethod: {}", table.render(), report.method)
    })
}
