//! A rollout's standing in words, for somebody who sees one for the first time: what it is doing, why,
//! on what evidence, how fast it was, and what to type next.

use serde_json::Value;

/// How a rollout stands, in one line.
pub(crate) fn line(standing: &Value) -> String {
    let sentence = standing["plan"]["report"]["sentence"]
        .as_str()
        .unwrap_or_default();
    let lifecycle = standing["lifecycle"].as_str().unwrap_or("unknown");
    if lifecycle == "rolled back" {
        return format!("rolled back: {}", reason_in(sentence));
    }
    let share = standing["share_bp"].as_f64().unwrap_or_default() / 100.0;
    format!("{lifecycle} at {share:.2} %: {sentence}")
}

/// The reason in the sentence of a rollback, whichever look it was made in.
fn reason_in(sentence: &str) -> &str {
    let mut reason = sentence;
    for lead in ["ended, ", "rolling back: ", "rolled back: "] {
        reason = reason.strip_prefix(lead).unwrap_or(reason);
    }
    reason
}

/// Everything there is to say, line by line.
pub(crate) fn explained(key: &str, standing: &Value) -> Vec<String> {
    let report = &standing["plan"]["report"];
    let mut lines = vec![format!("{key} is {}", line(standing))];
    for guard in report["guards"].as_array().into_iter().flatten() {
        lines.extend(of_guard(guard));
    }
    if let Some(hooks) = standing["hooks"].as_str() {
        lines.push(format!("  {hooks}"));
    }
    for note in report["notes"].as_array().into_iter().flatten() {
        lines.push(format!("  note: {}", note.as_str().unwrap_or_default()));
    }
    lines.extend(how_fast(&standing["rollback"]).map(|text| format!("  how fast: {text}")));
    for hint in what_next(key, standing) {
        lines.push(format!("  next: {hint}"));
    }
    lines
}

fn of_guard(guard: &Value) -> Vec<String> {
    let text = |field: &str| guard[field].as_str().unwrap_or_default();
    let number = |field: &str| guard[field].as_f64().unwrap_or_default();
    let mut lines = vec![format!(
        "  {}: {}; {} of {} units with the change against {} of {} without; {}",
        text("metric"),
        text("verdict").replace('_', " "),
        guard["events"]["treatment"],
        guard["units"]["treatment"],
        guard["events"]["control"],
        guard["units"]["control"],
        evidence(number("ln_e"), number("ln_threshold")),
    )];
    if let Some(late) = guard["late"]["ln_e"].as_f64() {
        lines.push(format!(
            "    of harm that began in the bake alone: {}",
            odds(late).map_or_else(|| "no evidence".to_owned(), |odds| format!("1 in {odds}"))
        ));
    }
    if let Some(remark) = guard["remark"].as_str() {
        lines.push(format!("    {remark}"));
    }
    lines
}

/// "evidence of harm 1 in 220, 1 in 100 rolls back": how seldom a harmless change looks like this.
fn evidence(ln_e: f64, ln_threshold: f64) -> String {
    let needed = odds(ln_threshold).unwrap_or_else(|| "1".to_owned());
    match odds(ln_e) {
        None => format!("no evidence of harm, 1 in {needed} would roll back"),
        Some(odds) => format!("evidence of harm 1 in {odds}, 1 in {needed} rolls back"),
    }
}

/// The odds of some evidence, thousands grouped; none where it speaks against harm.
fn odds(ln_e: f64) -> Option<String> {
    let odds = ln_e.exp();
    if odds.is_nan() || odds < 1.5 {
        return None;
    }
    if odds >= 1e12 {
        return Some("more than 1,000,000,000,000".to_owned());
    }
    let digits = format!("{odds:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    Some(text)
}

/// The steps of a rollback since the event that decided it was durable, or since the decision.
fn how_fast(times: &Value) -> Option<String> {
    let at = |field: &str| times[field].as_i64();
    let decided_us = at("decided_us")?;
    let event = times["deciding_sequence"].as_u64().zip(at("counted_us"));
    let (begin_us, from) = match event {
        Some((sequence, counted_us)) => (counted_us, format!("event {sequence} was durable")),
        None => (decided_us, "decided".to_owned()),
    };
    let steps = [
        ("looked at", at("seen_us").filter(|_| event.is_some())),
        ("decided", Some(decided_us).filter(|_| event.is_some())),
        ("stop on disk", at("recorded_us")),
        ("control served", at("served_us")),
        ("in the database", at("confirmed_us")),
    ];
    let step = |(name, at_us): (&str, Option<i64>)| {
        let ms = at_us?.saturating_sub(begin_us) as f64 / 1e3;
        (ms >= 0.0).then(|| format!("{name} after {ms:.1} ms"))
    };
    let steps: Vec<String> = steps.into_iter().filter_map(step).collect();
    Some(format!("{from}; {}", steps.join(", ")))
}

/// What somebody can type, or must mend, for the rollout to go on.
fn what_next(key: &str, standing: &Value) -> Vec<String> {
    let mut hints = Vec::new();
    if standing["lifecycle"] == "rolled back" {
        hints.push(format!(
            "once it is mended, tidegate rollout retry {key} --reason WHY"
        ));
    }
    let waits = standing["plan"]["report"]["waiting_for"].as_array();
    for wait in waits.into_iter().flatten() {
        match wait["wait"].as_str() {
            Some("approval") => hints.push(format!(
                "tidegate rollout advance {key} --stage {} --reason WHY",
                wait["stage"]
            )),
            Some("resume") => hints.push(format!("tidegate rollout resume {key} --reason WHY")),
            Some("data") if wait["metric"] == "traffic" => {
                let flag = standing["flag"].as_str().unwrap_or_default();
                hints.push(format!(
                    "events must say what was served, as in \"flags\": {{\"{flag}\": \"VARIANT\"}}; \
                     tidegate events tail shows what arrives"
                ));
            }
            _ => {}
        }
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn standing(lifecycle: &str, sentence: &str) -> Value {
        let arms =
            |treatment: u64, control: u64| json!({"treatment": treatment, "control": control});
        json!({"flag": "new-checkout", "lifecycle": lifecycle, "share_bp": 100,
            "plan": {"report": {"sentence": sentence, "notes": [], "waiting_for": [],
                "guards": [{"metric": "errors", "verdict": "no_data", "ln_e": 7.6,
                    "ln_threshold": 4.605_170_185_988_091, "events": arms(3, 20),
                    "units": arms(100, 1900), "remark": null}]}}})
    }

    #[test]
    fn a_stranger_reads_why_on_what_evidence_how_fast_and_what_to_type() {
        let mut held = standing("running", "holding at 1 %: approval of step 2");
        held["plan"]["report"]["waiting_for"] = json!([{"wait": "approval", "stage": 1},
            {"wait": "data", "metric": "traffic", "reason": "no unit"}]);
        assert_eq!(
            explained("ramp", &held),
            [
                "ramp is running at 1.00 %: holding at 1 %: approval of step 2",
                "  errors: no data; 3 of 100 units with the change against 20 of 1900 without; \
                 evidence of harm 1 in 1,998, 1 in 100 rolls back",
                "  next: tidegate rollout advance ramp --stage 1 --reason WHY",
                "  next: events must say what was served, as in \"flags\": {\"new-checkout\": \
                 \"VARIANT\"}; tidegate events tail shows what arrives",
            ]
        );
        let mut ended = standing("rolled back", "ended, rolled back: errors at 3x control");
        ended["rollback"] = json!({"deciding_sequence": 17, "watermark": 20, "counted_us": 1_000,
            "seen_us": 1_500, "decided_us": 2_000, "recorded_us": 4_000, "served_us": 4_100});
        let lines = explained("ramp", &ended);
        assert_eq!(lines[0], "ramp is rolled back: errors at 3x control");
        assert_eq!(
            lines[2],
            "  how fast: event 17 was durable; looked at after 0.5 ms, decided after 1.0 ms, stop on \
             disk after 3.0 ms, control served after 3.1 ms"
        );
        assert!(lines[3].contains("rollout retry ramp"), "{lines:?}");
    }

    #[test]
    fn evidence_against_harm_is_none_and_much_is_grouped() {
        assert_eq!(odds(-3.0), None);
        assert_eq!(odds(0.0), None);
        assert_eq!(odds(f64::NAN), None);
        assert_eq!(odds(14.0).as_deref(), Some("1,202,604"));
        assert_eq!(
            line(&standing(
                "rolled back",
                "rolling back: aborted by ann: enough"
            )),
            "rolled back: aborted by ann: enough"
        );
    }
}
