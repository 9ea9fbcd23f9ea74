//! Usage and retention reports for people.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text::{bar, count, footer, percent, rows, word};
use crate::stats::Table;

/// One line per period, event and arm, with a bar relative to the busiest.
pub(super) fn render_usage(report: &Value) -> String {
    let most = rows(report)
        .filter_map(|row| row["value"].as_f64())
        .fold(0.0, f64::max);
    let mut table = Table::new(&[
        "from", "to", "event", "variant", "segment", "events", "units",
    ]);
    let mut bars = Vec::new();
    for row in rows(report) {
        let open = if row["is_complete"] == true { "" } else { " ~" };
        table.row(vec![
            word(&row["from"]),
            format!("{}{open}", word(&row["to"])),
            word(&row["event"]),
            word(&row["variant"]),
            word(&row["segment"]),
            count(&row["n"]),
            count(&row["value"]),
        ]);
        bars.push(bar(row["value"].as_f64().map(|units| units / most)));
    }
    let rendered = table.render();
    let mut lines = rendered.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, bar) in lines.zip(bars) {
        text.push_str(&format!("{line}  {bar}\n"));
    }
    text.push_str("\n~ the period is not over\n");
    if let Some(mixed) = report["mixed_units"].as_u64().filter(|mixed| *mixed > 0) {
        text.push_str(&format!(
            "{mixed} units were exposed to two variants and are not counted\n"
        ));
    }
    text.push_str(&footer(report));
    text
}

/// Cohorts under each other, periods side by side.
pub(super) fn render_retention(report: &Value) -> String {
    let mut cohorts: BTreeMap<String, (String, BTreeMap<u64, String>)> = BTreeMap::new();
    for row in rows(report) {
        let cohort = cohorts.entry(word(&row["cohort"])).or_default();
        cohort.0 = count(&row["n"]);
        let open = if row["is_complete"] == true { "" } else { "~" };
        let later = row["later"].as_u64().unwrap_or(0);
        cohort
            .1
            .insert(later, format!("{}{open}", percent(&row["value"])));
    }
    let last = cohorts
        .values()
        .filter_map(|(_, cells)| cells.keys().max())
        .max();
    let periods: Vec<u64> = (0..=last.copied().unwrap_or(0)).collect();
    let mut headings = vec!["cohort".to_owned(), "units".to_owned()];
    headings.extend(periods.iter().map(|period| format!("+{period}")));
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = Table::new(&headings);
    for (cohort, (units, cells)) in cohorts {
        let mut line = vec![cohort, units];
        line.extend(
            periods
                .iter()
                .map(|period| cells.get(period).cloned().unwrap_or_default()),
        );
        table.row(line);
    }
    format!(
        "periods of {} days\n\n{}\n~ the period is not over\n{}",
        count(&report["period_days"]),
        table.render(),
        footer(report)
    )
}
