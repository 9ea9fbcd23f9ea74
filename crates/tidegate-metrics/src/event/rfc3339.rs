//! RFC 3339 date-times to microseconds and back.
//!
//! A dozen lines instead of a calendar crate, because a pure crate must not reach a clock or a
//! time-zone database. Digits beyond the microsecond are cut. A leap second (`:60`) is read as
//! the first microsecond of the next minute. Years 1970 to 9999.

/// A text that is not an RFC 3339 date-time between 1970 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date-time between the years 1970 and 9999, such as 2026-06-01T12:00:00Z")]
pub struct InvalidTime;

const DAY_SECONDS: i64 = 86_400;
const LAST_US: i64 = 253_402_300_799_999_999;

/// Microseconds since 1970-01-01T00:00Z of an RFC 3339 date-time.
///
/// # Errors
/// [`InvalidTime`] if the text is not one, or lies outside the years 1970 to 9999.
pub fn parse_rfc3339(text: &str) -> Result<i64, InvalidTime> {
    let mut cursor = Cursor {
        rest: text.as_bytes(),
    };
    let year = cursor.digits(4)?;
    cursor.byte(b"-")?;
    let month = cursor.digits_within(2, 1, 12)?;
    cursor.byte(b"-")?;
    let day = cursor.digits_within(2, 1, days_in_month(year, month))?;
    cursor.byte(b"Tt ")?;
    let hour = cursor.digits_within(2, 0, 23)?;
    cursor.byte(b":")?;
    let minute = cursor.digits_within(2, 0, 59)?;
    cursor.byte(b":")?;
    let second = cursor.digits_within(2, 0, 60)?;
    let micros = cursor.fraction()?;
    let offset_seconds = cursor.offset()?;
    if !cursor.rest.is_empty() {
        return Err(InvalidTime);
    }
    let seconds =
        days_from_epoch(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second
            - offset_seconds;
    let micros = if second == 60 { 0 } else { micros };
    let time_us = seconds * 1_000_000 + micros;
    if (0..=LAST_US).contains(&time_us) {
        Ok(time_us)
    } else {
        Err(InvalidTime)
    }
}

/// The RFC 3339 form, in UTC with six decimals.
#[must_use]
pub fn format_rfc3339(time_us: i64) -> String {
    let micros = time_us.rem_euclid(1_000_000);
    let seconds = time_us.div_euclid(1_000_000);
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY_SECONDS));
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn next(&mut self) -> Result<u8, InvalidTime> {
        let (first, rest) = self.rest.split_first().ok_or(InvalidTime)?;
        self.rest = rest;
        Ok(*first)
    }

    fn byte(&mut self, allowed: &[u8]) -> Result<u8, InvalidTime> {
        let byte = self.next()?;
        if allowed.contains(&byte) {
            Ok(byte)
        } else {
            Err(InvalidTime)
        }
    }

    fn digits(&mut self, count: usize) -> Result<i64, InvalidTime> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.next()?;
            if !byte.is_ascii_digit() {
                return Err(InvalidTime);
            }
            value = value * 10 + i64::from(byte - b'0');
        }
        Ok(value)
    }

    fn digits_within(&mut self, count: usize, low: i64, high: i64) -> Result<i64, InvalidTime> {
        let value = self.digits(count)?;
        if (low..=high).contains(&value) {
            Ok(value)
        } else {
            Err(InvalidTime)
        }
    }

    fn fraction(&mut self) -> Result<i64, InvalidTime> {
        if self.rest.first() != Some(&b'.') {
            return Ok(0);
        }
        self.next()?;
        let (mut micros, mut count) = (0, 0u32);
        while let Some(byte) = self.rest.first().filter(|byte| byte.is_ascii_digit()) {
            if count < 6 {
                micros = micros * 10 + i64::from(byte - b'0');
            }
            count = count.saturating_add(1);
            self.next()?;
        }
        if count == 0 {
            return Err(InvalidTime);
        }
        Ok(micros * 10i64.pow(6u32.saturating_sub(count)))
    }

    fn offset(&mut self) -> Result<i64, InvalidTime> {
        let sign = match self.byte(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Ok(0),
        };
        let hours = self.digits_within(2, 0, 23)?;
        self.byte(b":")?;
        let minutes = self.digits_within(2, 0, 59)?;
        Ok(sign * (hours * 3600 + minutes * 60))
    }
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

// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil: the year
// starts in March, so that the leap day is the last one.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 {
        month_shifted + 3
    } else {
        month_shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_forms_of_rfc_3339() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-06-01T00:00:00Z", 1_780_272_000_000_000),
            ("2026-06-01 02:00:00.5+02:00", 1_780_272_000_500_000),
            ("2026-05-31t19:30:00.1234567-04:30", 1_780_272_000_123_456),
            ("2024-02-29T12:00:00z", 1_709_208_000_000_000),
            ("2016-12-31T23:59:60.9Z", 1_483_228_800_000_000),
            ("9999-12-31T23:59:59.999999Z", LAST_US),
        ];
        for (text, micros) in cases {
            assert_eq!(parse_rfc3339(text), Ok(micros), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "2026-06-01",
            "2026-06-01T00:00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-06-01T24:00:00Z",
            "2026-06-01T00:00:00.Z",
            "2026-06-01T00:00:00Zx",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "2026-06-01T00:00:00+0200",
        ] {
            assert_eq!(parse_rfc3339(text), Err(InvalidTime), "{text}");
        }
    }

    proptest! {
        #[test]
        fn formatting_then_parsing_is_the_identity(time_us in 0..=LAST_US) {
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(time_us)), Ok(time_us));
        }
    }
}
