//! Points and spans of time, in UTC and to the millisecond.
//!
//! Must not know: the machine's clock or any time zone; every `now` comes from the caller.
//! Calendar arithmetic is proleptic UTC: a day is 86,400 seconds, ISO weeks start on Monday.

use std::fmt;

use serde::{Deserialize, Serialize};

const MILLIS_PER_DAY: i64 = 86_400_000;
const MILLIS_PER_HOUR: f64 = 3_600_000.0;
/// 1970-01-01 was a Thursday: three days after the Monday that opened its ISO week.
const DAYS_FROM_MONDAY_TO_EPOCH: i64 = 3;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(i64);

/// Why a text is not a moment that a delivery log can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// Neither RFC 3339 nor a calendar date.
    #[error(
        "{text:?} is not a time; write RFC 3339 such as 2025-01-31T09:30:00Z, or a date such as 2025-01-31"
    )]
    Unreadable {
        /// What was read.
        text: String,
    },
    /// Readable, but outside the years a delivery can lie in: the clock that wrote it was off.
    #[error(
        "the time lies outside 1980 to 2199 (read as {millis} ms since 1970); check the unit and the sender's clock"
    )]
    OutOfRange {
        /// Milliseconds since 1970.
        millis: i64,
    },
}

impl Moment {
    /// Start of 1980: version control is older, but its recorded clocks are not to be believed before.
    pub const EARLIEST: Self = Self(315_532_800_000);
    /// Start of 2200.
    pub const LATEST: Self = Self(7_258_118_400_000);

    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since 1970, saturating at the ends of the representable range.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339, or a calendar date as its UTC midnight.
    ///
    /// # Errors
    /// [`MomentError`] names what was read and what to write instead.
    pub fn parse(text: &str) -> Result<Self, MomentError> {
        let unreadable = || MomentError::Unreadable {
            text: text.chars().take(64).collect(),
        };
        let text = text.trim();
        let moment = if text.len() == 10 {
            let date: jiff::civil::Date = text.parse().map_err(|_| unreadable())?;
            let midnight = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC);
            Self(
                midnight
                    .map_err(|_| unreadable())?
                    .timestamp()
                    .as_millisecond(),
            )
        } else {
            let timestamp: jiff::Timestamp = text.parse().map_err(|_| unreadable())?;
            Self(timestamp.as_millisecond())
        };
        moment.plausible()
    }

    /// The moment itself if a delivery can lie there.
    ///
    /// # Errors
    /// [`MomentError::OutOfRange`] outside 1980 to 2199.
    pub fn plausible(self) -> Result<Self, MomentError> {
        if self < Self::EARLIEST || self >= Self::LATEST {
            return Err(MomentError::OutOfRange { millis: self.0 });
        }
        Ok(self)
    }

    /// Days since 1970-01-01.
    #[must_use]
    pub const fn day(self) -> i64 {
        self.0.div_euclid(MILLIS_PER_DAY)
    }

    /// Hours from `earlier` to this moment; negative when the order is the other way.
    #[must_use]
    pub fn hours_since(self, earlier: Self) -> f64 {
        span_millis(earlier, self) as f64 / MILLIS_PER_HOUR
    }

    /// This moment moved by whole hours, saturating.
    #[must_use]
    pub const fn plus_hours(self, hours: i64) -> Self {
        Self(self.0.saturating_add(hours.saturating_mul(3_600_000)))
    }

    /// Midnight that opens the given day.
    #[must_use]
    pub const fn start_of_day(day: i64) -> Self {
        Self(day.saturating_mul(MILLIS_PER_DAY))
    }
}

/// Milliseconds from `start` to `end`, saturating.
pub(crate) const fn span_millis(start: Moment, end: Moment) -> i64 {
    end.0.saturating_sub(start.0)
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// The day on which a week starts: definitions differ, and a count per week moves with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeekStart {
    /// ISO 8601.
    Monday,
    /// As in North American calendars.
    Sunday,
}

/// Number of the week that holds the day; consecutive weeks have consecutive numbers.
#[must_use]
pub const fn week_of_day(day: i64, start: WeekStart) -> i64 {
    let shift = match start {
        WeekStart::Monday => DAYS_FROM_MONDAY_TO_EPOCH,
        WeekStart::Sunday => DAYS_FROM_MONDAY_TO_EPOCH + 1,
    };
    (day + shift).div_euclid(7)
}

/// The Monday that opens the week of that number, as counted from Mondays.
#[must_use]
pub(crate) const fn first_day_of_week(week: i64) -> i64 {
    week * 7 - DAYS_FROM_MONDAY_TO_EPOCH
}

/// Whether the day is a Monday to Friday.
#[must_use]
pub const fn is_weekday(day: i64) -> bool {
    (day + DAYS_FROM_MONDAY_TO_EPOCH).rem_euclid(7) < 5
}

/// Number of the calendar month that holds the day; consecutive months have consecutive numbers.
#[must_use]
pub fn month_of_day(day: i64) -> i64 {
    let moment = Moment::start_of_day(day);
    match jiff::Timestamp::from_millisecond(moment.0) {
        Ok(timestamp) => {
            let date = timestamp.to_zoned(jiff::tz::TimeZone::UTC).date();
            i64::from(date.year()) * 12 + i64::from(date.month()) - 1
        }
        Err(_) => day.div_euclid(30),
    }
}

/// A half-open span `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    from: Moment,
    to: Moment,
}

/// A window that ends before it starts, or holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the window [{from}, {to}) is empty; give a `to` after `from`")]
pub struct EmptyWindow {
    /// First moment asked for.
    pub from: Moment,
    /// First moment no longer asked for.
    pub to: Moment,
}

impl Window {
    /// The window `[from, to)`.
    ///
    /// # Errors
    /// [`EmptyWindow`] when `to` is not after `from`.
    pub fn new(from: Moment, to: Moment) -> Result<Self, EmptyWindow> {
        if to <= from {
            return Err(EmptyWindow { from, to });
        }
        Ok(Self { from, to })
    }

    /// First moment inside.
    #[must_use]
    pub const fn from(self) -> Moment {
        self.from
    }

    /// First moment after.
    #[must_use]
    pub const fn to(self) -> Moment {
        self.to
    }

    /// Whether the moment lies inside.
    #[must_use]
    pub fn contains(self, moment: Moment) -> bool {
        self.from <= moment && moment < self.to
    }

    /// Length in days, not rounded.
    #[must_use]
    pub fn days(self) -> f64 {
        span_millis(self.from, self.to) as f64 / MILLIS_PER_DAY as f64
    }

    /// Days touched by the window, first and last included.
    #[must_use]
    pub const fn day_range(self) -> (i64, i64) {
        (self.from.day(), Moment(self.to.0 - 1).day())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_and_dates_and_refuses_broken_clocks() {
        let cases = [
            ("2025-01-01", Ok(1_735_689_600_000)),
            ("2025-01-01T01:00:00+01:00", Ok(1_735_689_600_000)),
            ("2025-01-01T00:00:00.250Z", Ok(1_735_689_600_250)),
            ("yesterday", Err("not a time")),
            ("1970-01-01", Err("outside 1980 to 2199")),
            ("2025-13-01", Err("not a time")),
        ];
        for (text, expected) in cases {
            match (Moment::parse(text), expected) {
                (Ok(moment), Ok(millis)) => assert_eq!(moment.millis(), millis, "{text}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn weeks_and_months_follow_the_calendar() {
        let day = |text: &str| Moment::parse(text).map(Moment::day).unwrap();
        // 2025-01-05 was a Sunday.
        assert_eq!(
            week_of_day(day("2025-01-05"), WeekStart::Monday) + 1,
            week_of_day(day("2025-01-06"), WeekStart::Monday)
        );
        assert_eq!(
            week_of_day(day("2025-01-04"), WeekStart::Sunday) + 1,
            week_of_day(day("2025-01-05"), WeekStart::Sunday)
        );
        assert!(!is_weekday(day("2025-01-05")) && is_weekday(day("2025-01-06")));
        assert_eq!(
            month_of_day(day("2025-03-01")) - month_of_day(day("2024-12-31")),
            3
        );
    }
}
