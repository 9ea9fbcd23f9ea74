//! The live view of a rollout: what an SRE wants on one screen at three in the morning.
//!
//! The picture is a pure function of the report and the width; the terminal is redrawn in place.
//! Where there is no terminal, each change is one line, and with `-o json` one document.

use std::io::{IsTerminal as _, Write as _};

use serde::Deserialize as _;
use serde_json::Value;
use tidegate_rollout::{GuardReport, Report};

use crate::output::{self, Format};

/// Cells of a bar.
const BAR: usize = 30;
/// Columns of the view.
const WIDTH: usize = 100;

/// Where a followed rollout is shown.
pub(crate) enum Screen {
    /// A terminal, with the number of lines drawn last.
    Live(usize),
    /// Lines as they change.
    Lines {
        /// How they look.
        format: Format,
        /// The last one.
        said: String,
    },
}

impl Screen {
    /// The screen for an output format.
    pub(crate) fn of(format: Format) -> Self {
        if format == Format::Table && std::io::stdout().is_terminal() {
            Self::Live(0)
        } else {
            Self::Lines {
                format,
                said: String::new(),
            }
        }
    }

    /// Shows how a rollout stands, if that is news.
    pub(crate) fn show(&mut self, key: &str, standing: &Value, line: &str) {
        match self {
            Self::Live(drawn) => {
                let picture = picture(key, standing);
                let mut out = std::io::stdout().lock();
                let up = match *drawn {
                    0 => String::new(),
                    lines => format!("\u{1b}[{lines}A"),
                };
                // A terminal that is gone ends the command by its signal; nothing else to do here.
                let _ = writeln!(out, "{up}\u{1b}[J{}", picture.join("\n"));
                let _ = out.flush();
                *drawn = picture.len();
            }
            Self::Lines { format, said } => {
                if line != said {
                    match format {
                        Format::Json => output::line(&standing.to_string()),
                        Format::Table => output::line(line),
                    }
                    line.clone_into(said);
                }
            }
        }
    }
}

/// The view, line by line. A report of a newer server that cannot be read shows its sentence alone.
fn picture(key: &str, standing: &Value) -> Vec<String> {
    let text = |field: &str| standing[field].as_str().unwrap_or_default().to_owned();
    let share = standing["share_bp"].as_f64().unwrap_or_default() / 10_000.0;
    let mut lines = vec![
        format!("{key}  flag {}  {}", text("flag"), text("lifecycle")),
        format!("exposed   {} {:.2} %", bar(share), 100.0 * share),
    ];
    let report = &standing["plan"]["report"];
    match Report::deserialize(report) {
        Ok(report) => {
            lines.extend(wrapped("          ", &report.sentence));
            for guard in &report.guards {
                lines.extend(of_guard(guard));
            }
            for wait in &report.waiting_for {
                lines.extend(wrapped("waits for ", &wait.words()));
            }
        }
        Err(_) => {
            let sentence = report["sentence"].as_str().unwrap_or_default();
            lines.extend(wrapped("          ", sentence));
        }
    }
    lines
}

fn of_guard(guard: &GuardReport) -> Vec<String> {
    let towards = guard.ln_e / guard.ln_threshold;
    let effect = match (
        guard.effect.estimate,
        guard.effect.lower,
        guard.effect.upper,
    ) {
        (Some(ratio), Some(lower), Some(upper)) => format!(
            "; {ratio:.2} times as many, {:.0} % between {lower:.2} and {upper:.2}",
            100.0 * guard.effect.level
        ),
        _ => String::new(),
    };
    let mut lines = vec![
        format!("{}  {}", guard.metric, guard.verdict),
        format!(
            "  evidence {} {:.0} % of what rolls back",
            bar(towards),
            100.0 * towards.clamp(0.0, 1.0)
        ),
        format!(
            "  {} of {} units with the change, {} of {} without{effect}",
            guard.events.treatment,
            guard.units.treatment,
            guard.events.control,
            guard.units.control,
        ),
    ];
    if let Some(remark) = &guard.remark {
        lines.extend(wrapped("  ", remark));
    }
    lines
}

/// A bar filled to a share between 0 and 1.
fn bar(share: f64) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let filled = (0..BAR)
        .filter(|cell| {
            #[expect(clippy::cast_precision_loss, reason = "a bar has few cells")]
            let middle = (*cell as f64 + 0.5) / BAR as f64;
            middle < share
        })
        .count();
    format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR - filled))
}

/// A text in lines that fit, the first after `lead`, the others indented as far.
fn wrapped(lead: &str, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = lead.to_owned();
    let indent = lead.chars().count();
    for word in text.split_whitespace() {
        let is_first = line.chars().count() == indent;
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        }
        if line.chars().count() > indent {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_view_says_share_evidence_and_what_is_waited_for() {
        let verdict = json!("undecided");
        let arms =
            |treatment: u64, control: u64| json!({"treatment": treatment, "control": control});
        let standing = json!({
            "flag": "new-checkout", "lifecycle": "running", "share_bp": 500,
            "plan": {"report": {
                "sentence": "holding at 5 %: 20 of 120 s under observation", "stage": 0,
                "share_bp": 500, "notes": [], "watermark": 7, "as_of_us": 1,
                "evidence": {"combination": "union", "ln_e": 2.3, "ln_threshold": 4.6},
                "sample_ratio": {"verdict": verdict, "ln_e": 0.0, "ln_threshold": 6.9,
                    "units": arms(100, 1900), "expected_treatment": 100.0},
                "guards": [{"metric": "errors", "verdict": verdict, "is_guilty": false,
                    "effect": {"estimate": 2.85, "lower": 0.4, "upper": 9.5, "level": 0.95},
                    "ln_e": 2.3, "ln_threshold": 4.6, "ln_e_safe": 0.0, "events": arms(3, 20),
                    "units": arms(100, 1900), "age_us": 0, "basis": "exact", "remark": null}],
                "waiting_for": [{"wait": "bake", "baked_seconds": 20, "min_seconds": 120}],
            }},
        });
        assert_eq!(
            picture("ramp", &standing),
            [
                "ramp  flag new-checkout  running",
                "exposed   [#.............................] 5.00 %",
                "          holding at 5 %: 20 of 120 s under observation",
                "errors  undecided",
                "  evidence [###############...............] 50 % of what rolls back",
                "  3 of 100 units with the change, 20 of 1900 without; 2.85 times as many, 95 % \
                 between 0.40 and 9.50",
                "waits for 20 of 120 s under observation",
            ]
        );
    }

    #[test]
    fn long_sentences_are_wrapped_and_odd_numbers_draw_an_empty_bar() {
        let lines = wrapped("waits for ", &"word ".repeat(60));
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
        assert!(lines[1].starts_with("          word"));
        assert_eq!(bar(f64::NAN), bar(-1.0));
        assert_eq!(bar(7.0), format!("[{}]", "#".repeat(BAR)));
    }
}
