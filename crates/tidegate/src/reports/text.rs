//! Numbers, shares, durations and bars as people read them.

use serde_json::Value;
use tidegate_stats::comparison::Note;

use crate::stats::figure;

/// A number, or a dash.
pub(super) fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), figure)
}

/// A whole number, or a dash.
pub(super) fn count(value: &Value) -> String {
    value
        .as_u64()
        .map_or_else(|| "-".to_owned(), |count| count.to_string())
}

/// A text, or a dash.
pub(super) fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// A share in percent, or a dash.
pub(super) fn percent(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

/// `(lower, upper)`, with what each end is shown as.
pub(super) fn interval(value: &Value, end: fn(&Value) -> String) -> String {
    if value.is_null() {
        return "-".to_owned();
    }
    format!("({}, {})", end(&value["lower"]), end(&value["upper"]))
}

/// Seconds in the unit a person would use, or a dash.
pub(super) fn duration(value: &Value) -> String {
    let Some(seconds) = value.as_f64() else {
        return "-".to_owned();
    };
    let (amount, unit) = match seconds {
        s if s < 1.0 => (s * 1e3, "ms"),
        s if s < 120.0 => (s, "s"),
        s if s < 7200.0 => (s / 60.0, "min"),
        s if s < 172_800.0 => (s / 3600.0, "h"),
        s => (s / 86_400.0, "d"),
    };
    format!("{amount:.1} {unit}")
}

const BAR: u32 = 24;

/// A bar for a share of the whole.
pub(super) fn bar(share: Option<f64>) -> String {
    let full = share.unwrap_or(0.0).clamp(0.0, 1.0) * f64::from(BAR);
    let cells = (0..BAR).take_while(|cell| f64::from(*cell) + 0.5 <= full);
    cells.map(|_| '█').collect()
}

/// The rows of a report.
pub(super) fn rows(report: &Value) -> impl Iterator<Item = &Value> {
    report["rows"].as_array().into_iter().flatten()
}

/// What a reader must know of a comparison, line by line.
pub(super) fn remarks(comparison: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let look = &comparison["group"];
    if look.is_object() {
        let limit = match look["critical_z"].is_null() {
            true => "none at this look".to_owned(),
            false => number(&look["critical_z"]),
        };
        lines.push(format!(
            "z {} against the boundary {limit}",
            number(&look["z"])
        ));
        let stop = &look["at_stop"];
        if stop.is_object() {
            lines.push(format!(
                "at the stop: median-unbiased {} {}, p {}",
                number(&stop["absolute"]["estimate"]),
                interval(&stop["absolute"], number),
                number(&stop["p_value"])
            ));
        }
    }
    let notes = comparison["notes"].as_array().into_iter().flatten();
    lines.extend(notes.filter_map(|note| {
        let note = serde_json::from_value::<Note>(note.clone()).ok()?;
        Some(note.to_string())
    }));
    lines
}

/// What a report rests on, and what a reader must know.
pub(super) fn footer(report: &Value) -> String {
    let mut text = String::new();
    if let Some(reason) = report["incomplete"]["reason"].as_str() {
        text.push_str(&format!("INCOMPLETE: {reason}\n"));
    }
    let missing = report["incomplete"]["files"].as_array();
    for file in missing.into_iter().flatten() {
        text.push_str(&format!(
            "  {}: {}; {} events of {}\n",
            word(&file["file"]),
            word(&file["reason"]),
            count(&file["rows"]),
            word(&file["day"])
        ));
    }
    for damage in report["incomplete"]["damage"]
        .as_array()
        .into_iter()
        .flatten()
    {
        text.push_str(&format!("  {}\n", word(damage)));
    }
    for note in report["notes"].as_array().into_iter().flatten() {
        text.push_str(&format!("note: {}\n", word(note)));
    }
    let from = &report["computed_from"];
    let (covered, sent) = (from["watermark"].as_u64(), from["acknowledged"].as_u64());
    if let Some((covered, sent)) = covered.zip(sent).filter(|(covered, sent)| covered < sent) {
        let missing = sent - covered;
        text.push_str(&format!(
            "note: the newest {missing} events are not in the numbers yet\n"
        ));
    }
    let until = match from["data_end"].as_str() {
        Some(end) => format!(", the latest at {end}"),
        None => String::new(),
    };
    text.push_str(&format!(
        "computed from {} events below sequence {}{until}; definition {}\n",
        count(&from["events"]),
        count(&from["watermark"]),
        word(&report["definition"]["digest"])
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_and_bars_are_short() {
        let shown: Vec<String> = [
            json!(0.25),
            json!(90),
            json!(3600),
            json!(90_000),
            json!(1e6),
            Value::Null,
        ]
        .iter()
        .map(duration)
        .collect();
        assert_eq!(
            shown,
            ["250.0 ms", "90.0 s", "60.0 min", "25.0 h", "11.6 d", "-"]
        );
        assert_eq!(bar(Some(0.5)).chars().count(), 12);
        assert_eq!(bar(None), "");
    }
}
