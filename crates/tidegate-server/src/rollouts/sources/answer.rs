//! What a source answered, read: a counter, or why there is none.
//!
//! Two ways of failing are kept apart, because they lead to different verdicts. *Silent*: the
//! provider failed, or has nothing for this variant, or only part of it: no data. *Impossible*: it
//! answered with something that no counter is (NaN, infinite, negative, not whole): the sample is
//! dropped and counted. Neither is ever harm.

use serde_json::Value;

/// Whole numbers are exact in a float up to here.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// How far apart the moment asked about and the moment answered for may be, in seconds.
const SAME_MOMENT_SECONDS: f64 = 1.0;

/// Why an answer holds no counter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCounter {
    /// Nothing, or not everything, was said.
    #[error("{0}")]
    Silent(String),
    /// What was said cannot be.
    #[error("{0}")]
    Impossible(String),
}

impl NoCounter {
    fn silent(reason: impl Into<String>) -> Self {
        Self::Silent(reason.into())
    }

    fn impossible(reason: impl Into<String>) -> Self {
        Self::Impossible(reason.into())
    }
}

/// The counter in the answer to an instant query asked about `at_seconds`.
///
/// # Errors
/// No answer, a partial one, none or several series, or a value that no counter has.
pub fn from_prometheus(body: &[u8], at_seconds: f64) -> Result<u64, NoCounter> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|error| NoCounter::silent(format!("the answer is no JSON: {error}")))?;
    if answer["status"] != "success" {
        let said = answer["error"].as_str().unwrap_or("no reason given");
        return Err(NoCounter::silent(format!("the query failed: {said}")));
    }
    if let Some(warning) = answer["warnings"].get(0) {
        return Err(NoCounter::silent(format!(
            "the answer is partial: {warning}"
        )));
    }
    let data = &answer["data"];
    let sample = match data["resultType"].as_str() {
        Some("scalar") => &data["result"],
        Some("vector") => one_series(&data["result"])?,
        other => {
            let kind = other.unwrap_or("nothing");
            let reason = format!("the query gives {kind}; one number is needed");
            return Err(NoCounter::silent(reason));
        }
    };
    let moment = sample[0].as_f64().unwrap_or(f64::NAN);
    let is_of_that_moment = (moment - at_seconds).abs() <= SAME_MOMENT_SECONDS;
    if !is_of_that_moment {
        let reason = format!("the answer is for {moment} s and {at_seconds} s was asked about");
        return Err(NoCounter::silent(reason));
    }
    let text = sample[1].as_str().unwrap_or_default();
    let value: f64 = text
        .parse()
        .map_err(|_| NoCounter::silent(format!("{text:?} is no number")))?;
    counter(value)
}

fn one_series(result: &Value) -> Result<&Value, NoCounter> {
    let series = result.as_array().map_or(&[][..], Vec::as_slice);
    match series {
        [one] if one.get("value").is_some() => Ok(&one["value"]),
        [_] => Err(NoCounter::silent("the series is no number at one moment")),
        [] => Err(NoCounter::silent(
            "no series matches; if a missing series means zero, append `or vector(0)`",
        )),
        many => Err(NoCounter::silent(format!(
            "{} series match and one number is needed; sum them",
            many.len()
        ))),
    }
}

/// The counter at a pointer of a JSON document.
///
/// # Errors
/// No document, nothing there, or a value that no counter has.
pub fn from_json(document: &Value, pointer: &str) -> Result<u64, NoCounter> {
    let found = document.pointer(pointer).filter(|value| !value.is_null());
    let found = found.ok_or_else(|| NoCounter::silent(format!("nothing is at {pointer}")))?;
    if let Some(exact) = found.as_u64() {
        return Ok(exact);
    }
    match found.as_f64() {
        Some(value) => counter(value),
        None => Err(NoCounter::impossible(format!(
            "{found} at {pointer} is no number"
        ))),
    }
}

/// A float as the whole count it must be.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole, not negative and exactly representable"
)]
fn counter(value: f64) -> Result<u64, NoCounter> {
    if !value.is_finite() {
        return Err(NoCounter::impossible(format!("{value} is no count")));
    }
    if value < 0.0 {
        return Err(NoCounter::impossible(format!(
            "{value} is negative, and a count is not"
        )));
    }
    if value.fract() != 0.0 || value > EXACT {
        return Err(NoCounter::impossible(format!(
            "{value} is no whole count; query the counter itself, not its rate or increase"
        )));
    }
    Ok(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vector(series: Value) -> Value {
        json!({"status": "success", "data": {"resultType": "vector", "result": series}})
    }

    #[test]
    fn one_number_of_the_moment_asked_about_is_a_counter() {
        let one = vector(json!([{"metric": {}, "value": [100.0, "42"]}]));
        assert_eq!(from_prometheus(one.to_string().as_bytes(), 100.0), Ok(42));
        let scalar = json!({"status": "success", "infos": ["fine"],
            "data": {"resultType": "scalar", "result": [100.2, "1e3"]}});
        assert_eq!(
            from_prometheus(scalar.to_string().as_bytes(), 100.0),
            Ok(1000)
        );
    }

    #[test]
    fn silence_and_impossibility_are_told_apart() {
        let value = |text: &str| vector(json!([{"metric": {}, "value": [100.0, text]}]));
        let mut partial = value("42");
        partial["warnings"] = json!(["store gateway unreachable"]);
        for (answer, is_silent, says) in [
            (
                json!({"status": "error", "error": "query timed out"}),
                true,
                "timed out",
            ),
            (json!({}), true, "no reason given"),
            (partial, true, "partial"),
            (vector(json!([])), true, "or vector(0)"),
            (
                vector(json!([{"value": [100.0, "1"]}, {"value": [100.0, "2"]}])),
                true,
                "2 series",
            ),
            (
                vector(json!([{"metric": {}, "histogram": [100.0, {}]}])),
                true,
                "no number",
            ),
            (vector(json!([{"value": [40.0, "1"]}])), true, "asked about"),
            (vector(json!([{"value": ["x", "1"]}])), true, "asked about"),
            (value("many"), true, "no number"),
            (
                json!({"status": "success", "data": {"resultType": "matrix"}}),
                true,
                "matrix",
            ),
            (value("NaN"), false, "no count"),
            (value("+Inf"), false, "no count"),
            (value("-1"), false, "negative"),
            (value("1.5"), false, "not its rate"),
            (value("1e300"), false, "no whole count"),
        ] {
            let outcome = from_prometheus(answer.to_string().as_bytes(), 100.0).unwrap_err();
            assert_eq!(
                matches!(outcome, NoCounter::Silent(_)),
                is_silent,
                "{outcome}"
            );
            assert!(outcome.to_string().contains(says), "{outcome}");
        }
        assert!(
            from_prometheus(b"<html>", 1.0)
                .unwrap_err()
                .to_string()
                .contains("no JSON")
        );
    }

    #[test]
    fn a_document_is_read_at_its_pointers() {
        let document = json!({"a": {"n": 7, "f": 7.0, "h": 0.5, "m": -1, "t": "NaN", "z": null}});
        for (pointer, expected) in [("/a/n", Some(7)), ("/a/f", Some(7)), ("/a/h", None)] {
            assert_eq!(from_json(&document, pointer).ok(), expected, "{pointer}");
        }
        for (pointer, is_silent) in [
            ("/a/z", true),
            ("/b", true),
            ("/a/m", false),
            ("/a/t", false),
        ] {
            let outcome = from_json(&document, pointer).unwrap_err();
            assert_eq!(
                matches!(outcome, NoCounter::Silent(_)),
                is_silent,
                "{pointer}"
            );
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let _ = from_prometheus(bytes, 100.0);
            if let Ok(document) = serde_json::from_slice::<Value>(bytes) {
                let _ = from_json(&document, "/a");
            }
        });
    }
}
