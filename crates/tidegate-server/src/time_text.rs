//! Times as people and other programs read them: RFC 3339 in UTC.

/// Unix microseconds as RFC 3339 text; a time outside the calendar reads as its number.
#[must_use]
pub(crate) fn rfc3339(unix_us: i64) -> String {
    jiff::Timestamp::from_microsecond(unix_us)
        .map_or_else(|_| format!("{unix_us} us"), |time| time.to_string())
}
