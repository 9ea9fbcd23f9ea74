//! A moment in a schedule: Unix seconds, or RFC 3339 in UTC as a person writes it.
//!
//! The written form is kept, so that a definition round-trips as it was entered; zones
//! other than UTC are refused, because a schedule must not move with a zone table.

use serde_json::Value;

/// A moment with the form it was written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Unix seconds.
    Seconds(i64),
    /// `YYYY-MM-DDTHH:MM:SSZ`, kept as written.
    Text {
        /// The text.
        text: String,
        /// What it means in Unix seconds.
        seconds: i64,
    },
}

impl Moment {
    /// Unix seconds.
    pub fn seconds(&self) -> i64 {
        match self {
            Moment::Seconds(seconds) | Moment::Text { seconds, .. } => *seconds,
        }
    }

    pub(crate) fn from_json(value: &Value) -> Option<Moment> {
        if let Some(seconds) = value.as_i64() {
            return Some(Moment::Seconds(seconds));
        }
        let text = value.as_str()?;
        Some(Moment::Text {
            text: text.to_owned(),
            seconds: parse_utc(text)?,
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Moment::Seconds(seconds) => Value::from(*seconds),
            Moment::Text { text, .. } => Value::from(text.as_str()),
        }
    }
}

fn parse_utc(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    is_valid
        .then(|| days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(separator);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        let is_digits = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = is_digits.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let before_year = |year: i64| {
        let past = year - 1;
        past * 365 + past / 4 - past / 100 + past / 400
    };
    let before_month: i64 = (1..month).map(|earlier| days_in_month(year, earlier)).sum();
    before_year(year) - before_year(1970) + before_month + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_utc_moments() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-09-01T00:00:00Z", 1_788_220_800),
            ("1969-12-31T23:59:59Z", -1),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(parse_utc(text), Some(seconds), "{text}");
        }
        for text in [
            "2026-09-01",
            "2026-09-01T00:00:00",
            "2026-09-01T00:00:00+02:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-09-01T24:00:00Z",
            "26-9-1T0:0:0Z",
            "2026-09-01T00:00:0+Z",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }
}
