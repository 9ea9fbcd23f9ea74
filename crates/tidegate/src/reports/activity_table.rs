//! Usage and retention reports for people: periods, cohorts, lifecycle, stickiness.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text::{bar, count, footer, interval, percent, rows, word};
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
        table.row(vec![
            word(&row["from"]),
            until(row),
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
    text.push_str(&mixed(report));
    text.push_str(&footer(report));
    text
}

/// Who is in no row.
fn mixed(report: &Value) -> String {
    match report["mixed_units"].as_u64() {
        None | Some(0) => String::new(),
        Some(mixed) => format!("{mixed} units were exposed to two variants and are not counted\n"),
    }
}

/// What arm a row is of, where a flag divides the units.
fn arm(report: &Value, row: &Value) -> Vec<String> {
    let parts = ["variant", "segment"].iter();
    let parts = parts.take(
        match (report["flag"].is_null(), report["segment"].is_null()) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        },
    );
    parts.map(|part| word(&row[*part])).collect()
}

/// Headings with those of the arm between the period and the rest.
fn headings(report: &Value, rest: &[&'static str]) -> Vec<&'static str> {
    let parts = ["variant", "segment"].into_iter();
    let count = arm(report, &Value::Null).len();
    let period = ["from", "to"].into_iter();
    period
        .chain(parts.take(count))
        .chain(rest.iter().copied())
        .collect()
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

/// One line per period: who is new, who stayed, who came back, who left.
pub(super) fn render_lifecycle(report: &Value) -> String {
    let rest = [
        "active",
        "new",
        "returning",
        "resurrecting",
        "dormant",
        "stayed",
        "interval",
    ];
    let mut table = Table::new(&headings(report, &rest));
    for row in rows(report) {
        let mut line = vec![word(&row["from"]), until(row)];
        line.extend(arm(report, row));
        let counts = ["active", "new", "returning", "resurrecting", "dormant"];
        line.extend(counts.map(|name| count(&row[name])));
        line.push(percent(&row["value"]));
        line.push(interval(&row["interval"], percent));
        table.row(line);
    }
    format!(
        "periods of {} days; stayed is of those active in the period before\n\n{}\n~ the period is not \
         over\n{}{}",
        count(&report["period_days"]),
        table.render(),
        mixed(report),
        footer(report)
    )
}

/// One line per period: how many units, and the share of its days they were there on.
pub(super) fn render_stickiness(report: &Value) -> String {
    let rest = ["active", "share of days", "interval", "units by days"];
    let mut table = Table::new(&headings(report, &rest));
    for row in rows(report) {
        let by_days = row["by_days"].as_object().into_iter().flatten();
        // Texts of numbers, in the order of the numbers.
        let by_days: BTreeMap<u64, u64> = by_days
            .filter_map(|(days, units)| Some((days.parse().ok()?, units.as_u64()?)))
            .collect();
        let by_days: Vec<String> = by_days
            .iter()
            .map(|(days, units)| format!("{days}: {units}"))
            .collect();
        let mut line = vec![word(&row["from"]), until(row)];
        line.extend(arm(report, row));
        line.push(count(&row["active"]));
        line.push(percent(&row["value"]));
        line.push(interval(&row["interval"], percent));
        line.push(by_days.join(", "));
        table.row(line);
    }
    format!(
        "periods of {} days; the mean share of their days on which active units were active\n\n{}\n~ the \
         period is not over\n{}{}",
        count(&report["period_days"]),
        table.render(),
        mixed(report),
        footer(report)
    )
}

fn until(row: &Value) -> String {
    let open = if row["is_complete"] == true { "" } else { " ~" };
    format!("{}{open}", word(&row["to"]))
}
