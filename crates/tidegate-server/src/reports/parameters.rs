//! What may be asked of a report, as it stands in an address or on a command line.

use serde::{Deserialize, Serialize};
use tidegate_metrics::report::{Comparing, ReportMethod};
use tidegate_metrics::{Days, EventFilter, EventKind, parse_rfc3339};

use crate::app::{AppError, Violation};

const DAY_US: i64 = 86_400_000_000;
const MAX_PERIOD_DAYS: u32 = 366;

/// The parameters of all reports; each takes its part and refuses the rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportParameters {
    /// The flag whose variants are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// A property of the first exposure by which arms are divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// The first UTC day, `2026-06-01`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The last UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The arm compared against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// The promise of intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<ReportMethod>,
    /// The error of intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Units at which sequential intervals are tightest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune_at: Option<f64>,
    /// Standard deviation of the prior on the relative effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior_sd: Option<f64>,
    /// The shares variants were served in: `on=1,off=9`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<String>,
    /// Events, by comma: `purchase,request:GET /`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<String>,
    /// `day`, `week`, or a number of days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
}

impl ReportParameters {
    /// Refuses what a report does not take, so that nothing asked for is passed over in silence.
    pub(super) fn only(&self, taken: &[&str]) -> Result<(), AppError> {
        let given = serde_json::to_value(self).unwrap_or_default();
        let names = given.as_object().into_iter().flat_map(|given| given.keys());
        let unknown: Vec<Violation> = names
            .filter(|name| !taken.contains(&name.as_str()))
            .map(|name| {
                let message = format!("this report takes {}", taken.join(", "));
                Violation::at(format!("/query/{name}"), "unknown-parameter", message)
            })
            .collect();
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(AppError::Invalid(unknown))
        }
    }

    /// The days asked for; all where nothing is said.
    pub(super) fn days(&self) -> Result<Days, AppError> {
        let days = Days {
            first: day("/query/from", self.from.as_deref())?.unwrap_or(Days::ALL.first),
            last: day("/query/to", self.to.as_deref())?.unwrap_or(Days::ALL.last),
        };
        if days.first > days.last {
            return Err(AppError::invalid(
                "/query/to",
                "before-from",
                "is before the first day",
            ));
        }
        Ok(days)
    }

    /// The days asked for; where no first day is said, `count` days up to the last.
    pub(super) fn days_back_from(&self, last_day: i64, count: i64) -> Result<Days, AppError> {
        let mut days = self.days()?;
        if days.last == Days::ALL.last {
            days.last = last_day.max(days.first);
        }
        if days.first == Days::ALL.first {
            days.first = days.last.saturating_sub(count - 1).max(0);
        }
        Ok(days)
    }

    pub(super) fn period_days(&self, usual: u32) -> Result<u32, AppError> {
        match self.period.as_deref() {
            None => Ok(usual),
            Some("day") => Ok(1),
            Some("week") => Ok(7),
            Some(text) => text
                .parse()
                .ok()
                .filter(|days| (1..=MAX_PERIOD_DAYS).contains(days))
                .ok_or_else(|| {
                    let rule = "is day, week, or 1 to 366 days";
                    AppError::invalid("/query/period", "bad-period", rule)
                }),
        }
    }

    /// The events named; a kind may stand in front, else `track` is meant.
    pub(super) fn events(&self) -> Result<Vec<EventFilter>, AppError> {
        let text = self.events.as_deref().unwrap_or_default();
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let filter = |name: &str| {
            let kind = name
                .split_once(':')
                .and_then(|(kind, rest)| Some((kind.parse::<EventKind>().ok()?, rest)));
            match kind {
                Some((kind, name)) => EventFilter {
                    kind,
                    ..EventFilter::named(name)
                },
                None => EventFilter::named(name),
            }
        };
        Ok(names.map(filter).collect())
    }

    pub(super) fn comparing(&self) -> Result<Comparing, AppError> {
        let usual = Comparing::default();
        Ok(Comparing {
            method: self.method.unwrap_or(usual.method),
            alpha: self.alpha.unwrap_or(usual.alpha),
            tune_at: self.tune_at.unwrap_or(usual.tune_at),
            prior_sd: self.prior_sd.unwrap_or(usual.prior_sd),
            control: self.control.clone(),
            shares: shares(self.shares.as_deref().unwrap_or_default())?,
        })
    }
}

fn shares(text: &str) -> Result<Vec<(String, f64)>, AppError> {
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    parts
        .map(|part| {
            let share = part.split_once('=').and_then(|(variant, share)| {
                let share: f64 = share.trim().parse().ok()?;
                let is_share = share.is_finite() && share >= 0.0;
                is_share.then(|| (variant.trim().to_owned(), share))
            });
            share.ok_or_else(|| {
                let rule = "is VARIANT=SHARE by comma, such as on=1,off=9, on any scale";
                AppError::invalid("/query/shares", "bad-shares", rule)
            })
        })
        .collect()
}

fn day(pointer: &str, text: Option<&str>) -> Result<Option<i64>, AppError> {
    let Some(text) = text else { return Ok(None) };
    parse_rfc3339(&format!("{text}T00:00:00Z"))
        .map(|time| Some(time.div_euclid(DAY_US)))
        .map_err(|_| AppError::invalid(pointer, "bad-day", "is a UTC day such as 2026-06-01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> ReportParameters {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn days_periods_shares_and_events_are_read() {
        let asked = asked(
            r#"{"from": "2026-06-01", "to": "2026-06-02", "period": "week", "shares": "on=1, off=9",
                "events": "purchase, request:GET /, other:x"}"#,
        );
        let days = asked.days().unwrap();
        assert_eq!((days.first, days.last), (20_605, 20_606));
        assert_eq!(asked.period_days(1).unwrap(), 7);
        let shares = asked.comparing().unwrap().shares;
        assert_eq!(shares, [("on".to_owned(), 1.0), ("off".to_owned(), 9.0)]);
        let events = asked.events().unwrap();
        let named: Vec<(EventKind, &str)> = events
            .iter()
            .map(|event| (event.kind, event.name.as_str()))
            .collect();
        let expected = [
            (EventKind::Track, "purchase"),
            (EventKind::Request, "GET /"),
            (EventKind::Track, "other:x"),
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn days_count_back_from_the_last_with_data_where_none_are_named() {
        let none = ReportParameters::default();
        let days = none.days_back_from(20_000, 28).unwrap();
        assert_eq!((days.first, days.last), (19_973, 20_000));
        let days = none.days_back_from(0, 28).unwrap();
        assert_eq!((days.first, days.last), (0, 0));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_at_its_place() {
        let pointer = |outcome: AppError| match outcome {
            AppError::Invalid(violations) => violations[0].pointer.clone(),
            other => panic!("{other}"),
        };
        assert_eq!(
            pointer(asked(r#"{"from": "June"}"#).days().unwrap_err()),
            "/query/from"
        );
        let reversed = r#"{"from": "2026-06-02", "to": "2026-06-01"}"#;
        assert_eq!(pointer(asked(reversed).days().unwrap_err()), "/query/to");
        assert_eq!(
            pointer(asked(r#"{"period": "0"}"#).period_days(1).unwrap_err()),
            "/query/period"
        );
        assert_eq!(
            pointer(asked(r#"{"shares": "on"}"#).comparing().unwrap_err()),
            "/query/shares"
        );
        assert_eq!(
            pointer(asked(r#"{"alpha": 0.1}"#).only(&["flag"]).unwrap_err()),
            "/query/alpha"
        );
    }
}
