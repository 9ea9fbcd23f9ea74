//! One cell of a file, and what can be made of it: a text, a number, a time, a property.
//!
//! A refusal is a reason with its cure. An empty cell is absent, whatever the file format.

use serde_json::Value;
use tidegate_metrics::{format_rfc3339, parse_rfc3339};

use super::mapping::{PropertyType, TimeUnit};

/// What a file holds at one place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// Nothing, or an empty text.
    Absent,
    /// A truth value.
    Bool(bool),
    /// A whole number, exactly.
    Integer(i128),
    /// A number.
    Number(f64),
    /// Text that is not empty.
    Text(String),
    /// A time, microseconds since 1970.
    TimeUs(i64),
    /// Something that is no single value, in words.
    Unfit(&'static str),
}

/// Whole numbers up to here are exact in a double.
const EXACT: i128 = 1 << 53;

type Outcome<T> = Result<Option<T>, String>;

impl Cell {
    /// A text; absent if empty.
    pub(super) fn of_text(text: &str) -> Self {
        if text.is_empty() {
            Self::Absent
        } else {
            Self::Text(text.to_owned())
        }
    }

    /// As text: ids, names, variants.
    pub(super) fn text(&self) -> Outcome<String> {
        Ok(match self {
            Self::Absent => None,
            Self::Text(text) => Some(text.clone()),
            Self::Integer(number) => Some(number.to_string()),
            // Display prints a whole number without a point, as ids that became doubles need.
            Self::Number(number) => Some(number.to_string()),
            Self::Bool(truth) => Some(truth.to_string()),
            Self::TimeUs(time) => Some(format_rfc3339(*time)),
            Self::Unfit(what) => return Err(unfit(what)),
        })
    }

    /// As a finite number.
    pub(super) fn number(&self) -> Outcome<f64> {
        let number = match self {
            Self::Absent => return Ok(None),
            Self::Bool(truth) => f64::from(u8::from(*truth)),
            Self::Integer(number) => return exact(*number).map(Some),
            Self::Number(number) => *number,
            Self::Text(text) => number_in(text)?,
            Self::TimeUs(_) => return Err("is a time, not a number".to_owned()),
            Self::Unfit(what) => return Err(unfit(what)),
        };
        if number.is_finite() {
            Ok(Some(number))
        } else {
            Err(format!(
                "{number} is not a finite number; repair or empty the cell"
            ))
        }
    }

    /// As a time in microseconds since 1970.
    pub(super) fn time_us(&self, unit: TimeUnit) -> Outcome<i64> {
        let time = match self {
            Self::Absent => return Ok(None),
            Self::TimeUs(time) => *time,
            Self::Integer(number) => time_in(&number.to_string(), unit)?,
            Self::Number(number) => time_in(&number.to_string(), unit)?,
            Self::Text(text) => time_in(text, unit)?,
            Self::Bool(_) => return Err("is true or false, not a time".to_owned()),
            Self::Unfit(what) => return Err(unfit(what)),
        };
        if (0..=LAST_US).contains(&time) {
            Ok(Some(time))
        } else {
            Err("lies outside the years 1970 to 9999; is the time's unit right?".to_owned())
        }
    }

    /// As the value of a property.
    pub(super) fn property(&self, kind: PropertyType) -> Outcome<Value> {
        match kind {
            PropertyType::Text => Ok(self.text()?.map(Value::from)),
            PropertyType::Number => Ok(self.number()?.map(Value::from)),
            PropertyType::Bool => self.truth(),
            PropertyType::AsIs => match self {
                Self::Bool(truth) => Ok(Some(Value::from(*truth))),
                Self::Integer(_) | Self::Number(_) => Ok(self.number()?.map(Value::from)),
                _ => Ok(self.text()?.map(Value::from)),
            },
        }
    }

    fn truth(&self) -> Outcome<Value> {
        let word = match self {
            Self::Absent => return Ok(None),
            Self::Bool(truth) => return Ok(Some(Value::from(*truth))),
            other => other.text()?.unwrap_or_default().to_ascii_lowercase(),
        };
        match word.as_str() {
            "true" | "1" | "yes" => Ok(Some(Value::from(true))),
            "false" | "0" | "no" => Ok(Some(Value::from(false))),
            _ => Err(format!("{:?} is neither true nor false", shown(&word))),
        }
    }
}

const LAST_US: i64 = 253_402_300_799_999_999;

fn unfit(what: &str) -> String {
    format!("holds {what}; name a column of single values")
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[expect(clippy::cast_precision_loss, reason = "guarded: at most 2^53")]
fn exact(number: i128) -> Result<f64, String> {
    if number.abs() <= EXACT {
        Ok(number as f64)
    } else {
        Err(format!(
            "{number} is beyond 2^53 and would be rounded; import it as a text property"
        ))
    }
}

fn number_in(text: &str) -> Result<f64, String> {
    if let Ok(whole) = text.parse::<i64>() {
        return exact(i128::from(whole));
    }
    match text.to_ascii_lowercase().as_str() {
        "true" => return Ok(1.0),
        "false" => return Ok(0.0),
        _ => {}
    }
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .ok_or_else(|| {
            format!(
                "{:?} is not a number; write 1234.5 without separators of thousands",
                shown(text)
            )
        })
}

fn time_in(text: &str, unit: TimeUnit) -> Result<i64, String> {
    if let Some(time) = number_of_time(text, unit) {
        return Ok(time);
    }
    let no_time = || {
        format!(
            "{:?} is no time; write 2026-06-01T12:00:00Z, or seconds or milliseconds since 1970",
            shown(text)
        )
    };
    if unit != TimeUnit::Auto {
        return Err(format!("{:?} is no whole or decimal number", shown(text)));
    }
    // A date, and a time without an offset, are read as UTC.
    parse_rfc3339(text)
        .or_else(|_| parse_rfc3339(&format!("{text}Z")))
        .or_else(|_| parse_rfc3339(&format!("{text}T00:00:00Z")))
        .map_err(|_| no_time())
}

/// Microseconds of a decimal number, exactly. Below 1e11 it counts seconds, below 1e14
/// milliseconds, below 1e17 microseconds, else nanoseconds, unless the mapping says so.
fn number_of_time(text: &str, unit: TimeUnit) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let number: i128 = whole.parse().ok()?;
    let digits = match unit {
        TimeUnit::Seconds => 6,
        TimeUnit::Milliseconds => 3,
        TimeUnit::Microseconds => 0,
        TimeUnit::Nanoseconds => return i64::try_from(number / 1000).ok(),
        TimeUnit::Auto if number < 100_000_000_000 => 6,
        TimeUnit::Auto if number < 100_000_000_000_000 => 3,
        TimeUnit::Auto if number < 100_000_000_000_000_000 => 0,
        TimeUnit::Auto => return i64::try_from(number / 1000).ok(),
    };
    let mut kept = fraction.bytes().map(|byte| i128::from(byte - b'0'));
    let mut time = number;
    for _ in 0..digits {
        time = time * 10 + kept.next().unwrap_or(0);
    }
    i64::try_from(time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::of_text(text)
    }

    #[test]
    fn times_are_read_in_every_spelling_and_to_the_microsecond() {
        let noon = 1_780_315_200_000_000;
        for (cell, unit, expected) in [
            (text("2026-06-01T12:00:00Z"), TimeUnit::Auto, noon),
            (text("2026-06-01 12:00:00"), TimeUnit::Auto, noon),
            (text("2026-06-01"), TimeUnit::Auto, noon - 43_200_000_000),
            (text("1780315200"), TimeUnit::Auto, noon),
            (text("1780315200.123456789"), TimeUnit::Auto, noon + 123_456),
            (
                Cell::Integer(1_780_315_200_001),
                TimeUnit::Auto,
                noon + 1000,
            ),
            (text("1780315200000001"), TimeUnit::Auto, noon + 1),
            (text("1780315200000001999"), TimeUnit::Auto, noon + 1),
            (text("90000"), TimeUnit::Milliseconds, 90_000_000),
            (Cell::Number(1.5), TimeUnit::Seconds, 1_500_000),
            (Cell::TimeUs(noon), TimeUnit::Auto, noon),
        ] {
            assert_eq!(cell.time_us(unit), Ok(Some(expected)), "{cell:?}");
        }
        for wrong in [
            "yesterday",
            "2026-13-01",
            "-5",
            "1e9",
            "2026-06-01T12:00:00+99:00",
        ] {
            assert!(text(wrong).time_us(TimeUnit::Auto).is_err(), "{wrong}");
        }
        assert!(
            text("99999999999999999999")
                .time_us(TimeUnit::Seconds)
                .is_err()
        );
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(text("12.5").number(), Ok(Some(12.5)));
        assert_eq!(text("true").number(), Ok(Some(1.0)));
        assert_eq!(text("").number(), Ok(None));
        for wrong in ["1,234", "NaN", "inf", "1e999", "9007199254740993", "abc"] {
            assert!(text(wrong).number().is_err(), "{wrong}");
        }
        assert!(Cell::Integer(EXACT + 1).number().is_err());
        assert_eq!(Cell::Number(17.0).text(), Ok(Some("17".to_owned())));
    }

    #[test]
    fn a_property_keeps_the_type_of_the_file_unless_told_otherwise() {
        let of = |cell: Cell, kind| cell.property(kind).unwrap().unwrap();
        assert_eq!(of(text("3"), PropertyType::AsIs), Value::from("3"));
        assert_eq!(of(text("3"), PropertyType::Number), Value::from(3.0));
        assert_eq!(of(Cell::Integer(3), PropertyType::AsIs), Value::from(3.0));
        assert_eq!(of(Cell::Integer(3), PropertyType::Text), Value::from("3"));
        assert_eq!(of(text("Yes"), PropertyType::Bool), Value::from(true));
        assert!(text("maybe").property(PropertyType::Bool).is_err());
        assert!(Cell::Unfit("a list").property(PropertyType::AsIs).is_err());
    }
}
