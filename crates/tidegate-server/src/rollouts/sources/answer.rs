//! What a source answered, read: a counter, or why there is none.
//!
//! Two ways of failing are kept apart, because they lead to different verdicts. *Silent*: the
//! provider failed, or has nothing for this variant, or only part of it: no data. *Impossible*: it
//! answered with something that no counter is (NaN, infinite, negative, not whole): the sample is
//! dropped and counted. Neither is ever harm.

use serde_json::Value;

/// The most buckets of a histogram that are read.
const MOST_BUCKETS: usize = 500;
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
    let answer = whole(body)?;
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
    sample_of(sample, at_seconds)
}

/// The cumulative histogram in the answer to an instant query: one series for each `le`.
///
/// # Errors
/// As [`from_prometheus`]; a series without `le`, bounds that come twice or without `+Inf`, or counts
/// that fall from one bound to the next.
pub fn buckets_from_prometheus(body: &[u8], at_seconds: f64) -> Result<Buckets, NoCounter> {
    let answer = whole(body)?;
    let data = &answer["data"];
    let series = match data["resultType"].as_str() {
        Some("vector") => data["result"].as_array().map_or(&[][..], Vec::as_slice),
        other => {
            let kind = other.unwrap_or("nothing");
            let reason = format!("the query gives {kind}; one series for each `le` is needed");
            return Err(NoCounter::silent(reason));
        }
    };
    let bucket = |series: &Value| {
        let Some(bound) = series["metric"]["le"].as_str() else {
            return Err(NoCounter::silent(
                "a series has no label `le`; ask `sum by (le) (..._bucket{...})`",
            ));
        };
        Ok((bound_of(bound)?, sample_of(&series["value"], at_seconds)?))
    };
    let found: Result<Vec<(f64, u64)>, NoCounter> = series.iter().map(bucket).collect();
    Buckets::new(found?)
}

/// The cumulative histogram at a pointer of a JSON document: an object from upper bound to count.
///
/// # Errors
/// As [`from_json`] and [`buckets_from_prometheus`].
pub fn buckets_from_json(document: &Value, pointer: &str) -> Result<Buckets, NoCounter> {
    let found = document.pointer(pointer).and_then(Value::as_object);
    let found = found.ok_or_else(|| {
        NoCounter::silent(format!("no object from bound to count is at {pointer}"))
    })?;
    let bucket = |(bound, _): (&String, &Value)| {
        let count = from_json(document, &format!("{pointer}/{}", escaped(bound)))?;
        Ok((bound_of(bound)?, count))
    };
    let found: Result<Vec<(f64, u64)>, NoCounter> = found.iter().map(bucket).collect();
    Buckets::new(found?)
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn bound_of(text: &str) -> Result<f64, NoCounter> {
    let bound = text.trim_start_matches('+').parse::<f64>();
    bound
        .ok()
        .filter(|bound| !bound.is_nan())
        .ok_or_else(|| NoCounter::silent(format!("{text:?} is no upper bound of a bucket")))
}

/// How many requests so far did not exceed each bound: bounds rise, counts do not fall, and the last
/// bound is infinite, so that its count is all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets(Vec<(f64, u64)>);

impl Buckets {
    fn new(mut found: Vec<(f64, u64)>) -> Result<Self, NoCounter> {
        if found.len() > MOST_BUCKETS {
            let reason = format!("{} buckets; at most {MOST_BUCKETS} are read", found.len());
            return Err(NoCounter::silent(reason));
        }
        found.sort_by(|one, other| one.0.total_cmp(&other.0));
        if found
            .last()
            .is_none_or(|(bound, _)| *bound != f64::INFINITY)
        {
            return Err(NoCounter::silent(
                "no bucket with le=\"+Inf\" is there, so nobody knows how many there were",
            ));
        }
        let mut pairs = found.windows(2);
        if pairs.any(|pair| matches!(pair, [one, other] if one.0 == other.0)) {
            return Err(NoCounter::silent("a bound comes twice; sum by (le)"));
        }
        let mut pairs = found.windows(2);
        if pairs.any(|pair| matches!(pair, [one, other] if one.1 > other.1)) {
            return Err(NoCounter::impossible(
                "counts fall from one bound to the next: the buckets are not cumulative",
            ));
        }
        Ok(Self(found))
    }

    /// All requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.last().map_or(0, |(_, count)| *count)
    }

    /// How many did not exceed a bound, if it is one of the bounds.
    #[must_use]
    pub fn at_most(&self, bound: f64) -> Option<u64> {
        let same = |known: &&(f64, u64)| known.0.to_bits() == bound.to_bits();
        self.0.iter().find(same).map(|(_, count)| *count)
    }

    /// The smallest finite bound that a share of all did not exceed, with the share that really did not.
    #[must_use]
    pub fn bound_at(&self, share: f64) -> Option<(f64, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let of_all = |count: u64| count as f64 / self.total() as f64;
        let found = self.0.iter().find(|(_, count)| of_all(*count) >= share)?;
        let is_divided = found.0.is_finite() && found.1 < self.total();
        is_divided.then(|| (found.0, of_all(found.1)))
    }

    /// The same distribution with so many requests more, spread as these are, or all beyond the last
    /// finite bound, or all within the first: what a fault would do.
    #[must_use]
    pub fn with_more(&self, more: u64, place: Place) -> Self {
        let add = |(bound, count): &(f64, u64)| {
            let is_last = *bound == f64::INFINITY;
            let added = match place {
                Place::AsUsual if self.total() > 0 => {
                    let share = u128::from(more) * u128::from(*count) / u128::from(self.total());
                    u64::try_from(share).unwrap_or(more)
                }
                Place::BeyondAll if !is_last => 0,
                Place::AsUsual | Place::BeyondAll | Place::WithinAll => more,
            };
            (*bound, count.saturating_add(added))
        };
        Self(self.0.iter().map(add).collect())
    }
}

/// Where made-up requests fall in a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As all others do.
    AsUsual,
    /// Beyond the last finite bound.
    BeyondAll,
    /// Within the first bound.
    WithinAll,
}

/// The answer to a query that is there as a whole.
fn whole(body: &[u8]) -> Result<Value, NoCounter> {
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
    Ok(answer)
}

/// The counter in a sample, if it is of the moment asked about.
fn sample_of(sample: &Value, at_seconds: f64) -> Result<u64, NoCounter> {
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
    fn a_histogram_is_read_with_its_bounds_in_order() {
        let bucket = |le: &str, count: &str| json!({"metric": {"le": le}, "value": [100.0, count]});
        let of =
            |series: Value| buckets_from_prometheus(vector(series).to_string().as_bytes(), 100.0);
        let found = of(json!([
            bucket("+Inf", "100"),
            bucket("0.1", "50"),
            bucket("0.5", "95")
        ]));
        let found = found.unwrap();
        assert_eq!((found.total(), found.at_most(0.1)), (100, Some(50)));
        assert_eq!(found.at_most(0.2), None);
        assert_eq!(found.bound_at(0.5), Some((0.1, 0.5)));
        assert_eq!(found.bound_at(0.9), Some((0.5, 0.95)));
        assert_eq!(
            found.bound_at(0.99),
            None,
            "nothing finite divides them there"
        );
        let usual = found.with_more(200, Place::AsUsual);
        assert_eq!((usual.total(), usual.at_most(0.5)), (300, Some(285)));
        let slow = found.with_more(200, Place::BeyondAll);
        assert_eq!((slow.total(), slow.at_most(0.5)), (300, Some(95)));
        let same = json!({"h": {"0.1": 50, "0.5": 95, "+Inf": 100}});
        assert_eq!(buckets_from_json(&same, "/h"), Ok(found));
        for (series, is_silent, says) in [
            (json!([]), true, "+Inf"),
            (json!([bucket("1", "5")]), true, "+Inf"),
            (
                json!([{"metric": {}, "value": [100.0, "5"]}]),
                true,
                "sum by (le)",
            ),
            (json!([bucket("x", "5")]), true, "no upper bound"),
            (
                json!([bucket("1", "5"), bucket("1.0", "5"), bucket("+Inf", "5")]),
                true,
                "twice",
            ),
            (
                json!([bucket("1", "9"), bucket("+Inf", "5")]),
                false,
                "not cumulative",
            ),
            (json!([bucket("+Inf", "NaN")]), false, "no count"),
        ] {
            let outcome = of(series).unwrap_err();
            assert_eq!(
                matches!(outcome, NoCounter::Silent(_)),
                is_silent,
                "{outcome}"
            );
            assert!(outcome.to_string().contains(says), "{outcome}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let _ = from_prometheus(bytes, 100.0);
            let _ = buckets_from_prometheus(bytes, 100.0);
            if let Ok(document) = serde_json::from_slice::<Value>(bytes) {
                let _ = from_json(&document, "/a");
            }
        });
    }
}
