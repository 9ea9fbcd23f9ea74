//! A journey report for people: a funnel of bars for each group of units.

use serde_json::Value;

use super::text::{bar, count, duration, footer, interval, number, percent, remarks, rows, word};
use crate::stats::Table;

/// A funnel per group, then the comparison of completions.
pub(super) fn render(report: &Value) -> String {
    let mut text = match report["flag"].as_str() {
        Some(flag) => format!("{} by {flag}\n", word(&report["definition"]["key"])),
        None => format!("{}\n", word(&report["definition"]["key"])),
    };
    for row in rows(report) {
        text.push_str(&group(row, &word(&report["shares_of"])));
    }
    text.push('\n');
    text.push_str(&footer(report));
    text
}

fn group(row: &Value, shares_of: &str) -> String {
    let mut name: Vec<String> = Vec::new();
    if let Some(variant) = row["variant"].as_str() {
        let role = if row["is_control"] == true {
            " (control)"
        } else {
            ""
        };
        name.push(format!("{variant}{role}"));
    }
    name.extend(row["segment"].as_str().map(str::to_owned));
    let mut text = format!(
        "\n{}{} {shares_of}, {} did a step, {} completions\n",
        if name.is_empty() {
            String::new()
        } else {
            format!("{}: ", name.join(", "))
        },
        count(&row["n"]),
        count(&row["began"]),
        count(&row["completions"])
    );
    let mut table = Table::new(&[
        "step",
        "reached",
        "share",
        "interval",
        "of previous",
        "drop-off",
        "p50",
        "p90",
        "p99",
    ]);
    let mut bars = Vec::new();
    for step in row["steps"].as_array().into_iter().flatten() {
        let time = &step["since_previous"];
        table.row(vec![
            format!("{} {}", count(&step["step"]), word(&step["name"])),
            count(&step["reached"]),
            percent(&step["value"]),
            interval(&step["interval"], percent),
            percent(&step["of_previous"]),
            count(&step["drop_off"]),
            duration(&time["p50_seconds"]),
            duration(&time["p90_seconds"]),
            duration(&time["p99_seconds"]),
        ]);
        bars.push(bar(step["value"].as_f64()));
    }
    let rendered = table.render();
    let mut lines = rendered.lines();
    text.push_str(&format!("{}\n", lines.next().unwrap_or_default()));
    for (line, bar) in lines.zip(bars) {
        text.push_str(&format!("{line}  {bar}\n"));
    }
    let total = &row["completion_time"];
    if !total.is_null() {
        text.push_str(&format!(
            "first step to last: half within {}, 90 % within {}, 99 % within {}\n",
            duration(&total["p50_seconds"]),
            duration(&total["p90_seconds"]),
            duration(&total["p99_seconds"])
        ));
    }
    let found = &row["comparison"];
    if !found.is_null() {
        text.push_str(&format!(
            "completed, against control: {} {}, relative {}, p {}\n",
            percent(&found["absolute"]["estimate"]),
            interval(&found["absolute"], percent),
            percent(&found["relative"]["estimate"]),
            number(&found["p_value"])
        ));
    }
    for line in remarks(found) {
        text.push_str(&format!("{line}\n"));
    }
    if let Some(reason) = row["unanswered"].as_str() {
        text.push_str(&format!("no comparison: {reason}\n"));
    }
    text
}
