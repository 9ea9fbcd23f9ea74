//! A metric report for people.

use serde_json::Value;

use super::text::{count, footer, interval, number, percent, remarks, rows, word};
use crate::stats::Table;

/// Arms under each other, then who is counted, the split, and what it rests on.
pub(super) fn render(report: &Value) -> String {
    let mut table = Table::new(&[
        "variant",
        "segment",
        "n",
        "value",
        "interval",
        "difference",
        "interval",
        "relative",
        "interval",
        "p",
    ]);
    for row in rows(report) {
        let found = &row["comparison"];
        let role = if row["is_control"] == true {
            " (control)"
        } else {
            ""
        };
        table.row(vec![
            format!("{}{role}", word(&row["variant"])),
            word(&row["segment"]),
            count(&row["n"]),
            number(&row["value"]),
            interval(&row["interval"], number),
            number(&found["absolute"]["estimate"]),
            interval(&found["absolute"], number),
            percent(&found["relative"]["estimate"]),
            relative_set(&found["relative"]),
            number(&found["p_value"]),
        ]);
    }
    let method = &report["method"];
    let mut text = format!(
        "{} by {} ({}, alpha {})\n\n{}\n",
        word(&report["definition"]["key"]),
        word(&report["flag"]),
        word(&method["method"]),
        number(&method["alpha"]),
        table.render()
    );
    for row in rows(report) {
        if let Some(reason) = row["unanswered"].as_str() {
            text.push_str(&format!("{}: no answer: {reason}\n", word(&row["variant"])));
        }
        for line in remarks(&row["comparison"]) {
            text.push_str(&format!("{}: {line}\n", word(&row["variant"])));
        }
    }
    let units = &report["units"];
    text.push_str(&format!(
        "units: {} counted, {} exposed to two variants, {} incomplete, {} with open windows\n",
        count(&units["counted"]),
        count(&units["mixed"]),
        count(&units["incomplete"]),
        count(&units["immature"])
    ));
    if let Some(summary) = report["split"]["check"]["summary"].as_str() {
        text.push_str(&format!("split: {summary}\n"));
    }
    text.push_str(&footer(report));
    text
}

fn relative_set(relative: &Value) -> String {
    match relative["set"].as_str() {
        Some("complement") => format!("outside {}", interval(relative, percent)),
        Some("line") => "anything".to_owned(),
        Some(_) => interval(relative, percent),
        None => "-".to_owned(),
    }
}
