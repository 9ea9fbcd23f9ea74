//! What may be asked of a report, as it stands in an address or on a command line.

use serde::{Deserialize, Serialize};
use tidegate_metrics::report::{Comparing, GroupPlan, ReportMethod, SharesAre};
use tidegate_metrics::{Days, EventFilter, EventKind, MAX_USAGE_EVENTS, parse_rfc3339};
use tidegate_stats::group_sequential::Spending;

use super::served::Served;
use crate::app::{AppError, Violation};

const DAY_US: i64 = 86_400_000_000;
const MAX_PERIOD_DAYS: u32 = 366;
const MAX_LOOKS: u16 = 200;
/// Of retention, which has a row for each cohort and each later period.
const MAX_PERIODS: i64 = 1000;

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
    /// Units of both arms at which a plan of looks ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_max: Option<f64>,
    /// Looks of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks: Option<u16>,
    /// How alpha is spent over them: `obrien-fleming`, `pocock` or `power=R`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spending: Option<String>,
    /// Whether this look is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_look: Option<bool>,
    /// The shares variants were served in: `on=1,off=9`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<String>,
    /// Events, by comma: `purchase,request:GET /`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<String>,
    /// `day`, `week`, or a number of days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// What a retention report shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub show: Option<RetentionView>,
    /// What was sent and could not be read; it is refused with everything else that is wrong.
    #[serde(skip)]
    pub malformed: Vec<Violation>,
}

/// What a retention report shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionView {
    /// Cohorts by their first period, and who came back in which later one.
    #[default]
    Cohorts,
    /// Who is new, stays, comes back and leaves, period by period.
    Lifecycle,
    /// On how many days of a period units are active.
    Stickiness,
}

impl ReportParameters {
    /// Refuses what a report does not take, so that nothing asked for is passed over in silence.
    pub(super) fn only(&self, taken: &[&str], more: &[&str]) -> Result<(), AppError> {
        let taken = [taken, more].concat();
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
        let mut wrong = Violations::default();
        let first = wrong.of(day("/query/from", self.from.as_deref()));
        let last = wrong.of(day("/query/to", self.to.as_deref()));
        let (first, last) = wrong.none(first.zip(last))?;
        let days = Days {
            first: first.unwrap_or(Days::ALL.first),
            last: last.unwrap_or(Days::ALL.last),
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

    /// Days in a period, where there is a row for every two periods.
    pub(super) fn period_days_of_pairs(
        &self,
        usual: u32,
        days: Option<Days>,
    ) -> Result<u32, AppError> {
        let period_days = self.period_days(usual)?;
        let count = days.map_or(1, |days| {
            days.last.saturating_sub(days.first).saturating_add(1)
        });
        if count > MAX_PERIODS.saturating_mul(i64::from(period_days)) {
            let rule = format!(
                "makes more than {MAX_PERIODS} periods of these {count} days; ask for longer ones, or for fewer days"
            );
            return Err(AppError::invalid("/query/period", "out-of-range", rule));
        }
        Ok(period_days)
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
        let events: Vec<EventFilter> = names.map(filter).collect();
        if events.len() > MAX_USAGE_EVENTS {
            let rule = format!(
                "are at most {MAX_USAGE_EVENTS} at once, not {}",
                events.len()
            );
            return Err(AppError::invalid("/query/events", "out-of-range", rule));
        }
        Ok(events)
    }

    pub(super) fn comparing(&self, served: &Served) -> Result<Comparing, AppError> {
        let (usual, mut wrong) = (Comparing::default(), Violations::default());
        let given = wrong.of(shares(self.shares.as_deref().unwrap_or_default()));
        let (shares, shares_are) = match (given.unwrap_or_default(), served) {
            (given, _) if !given.is_empty() => (given, SharesAre::Given),
            (_, Served::Always(shares)) => (shares.clone(), SharesAre::Served),
            (_, Served::Changed) => (Vec::new(), SharesAre::Changed),
            (_, Served::Unknown) => (Vec::new(), SharesAre::Equal),
        };
        let comparing = Comparing {
            method: self.method.unwrap_or(usual.method),
            alpha: self.alpha.unwrap_or(usual.alpha),
            tune_at: self.tune_at.unwrap_or(usual.tune_at),
            prior_sd: self.prior_sd.unwrap_or(usual.prior_sd),
            control: self.control.clone(),
            plan: self.plan(&mut wrong),
            shares,
            shares_are,
        };
        for (name, value, is_right, rule) in [
            (
                "alpha",
                comparing.alpha,
                comparing.alpha > 0.0 && comparing.alpha < 0.5,
                "between 0 and 1/2",
            ),
            (
                "tune_at",
                comparing.tune_at,
                (1.0..=1e15).contains(&comparing.tune_at),
                "1 to 1e15 units",
            ),
            (
                "prior_sd",
                comparing.prior_sd,
                comparing.prior_sd > 0.0 && comparing.prior_sd.is_finite(),
                "above 0",
            ),
        ] {
            if !is_right {
                let message = format!("is {rule}, not {value}");
                wrong.add(&format!("/query/{name}"), "out-of-range", &message);
            }
        }
        wrong.none(Some(comparing))
    }

    /// What a flag's revisions say of the shares it served in the days asked about.
    #[must_use]
    pub fn served(&self, history: &[tidegate_store::StoredObject]) -> Served {
        let first = self.days().map_or(Days::ALL.first, |days| days.first);
        let from_us = (first > Days::ALL.first).then(|| first.saturating_mul(DAY_US));
        Served::since(from_us, self.flag.as_deref().unwrap_or_default(), history)
    }

    /// The plan of looks, where the method has one.
    fn plan(&self, wrong: &mut Violations) -> Option<GroupPlan> {
        let spending = self.spending.as_deref().unwrap_or("obrien-fleming");
        let spending = spending.parse::<Spending>().map_err(|error| {
            AppError::invalid("/query/spending", "out-of-range", error.to_string())
        });
        let spending = wrong.of(spending);
        let is_unread = |of: &Violation| of.pointer == "/query/method";
        if self.malformed.iter().any(is_unread) {
            return None;
        }
        if self.method != Some(ReportMethod::Group) {
            let given = [
                ("n_max", self.n_max.is_some()),
                ("looks", self.looks.is_some()),
                ("spending", self.spending.is_some()),
                ("last_look", self.last_look.is_some()),
            ];
            for (name, _) in given.iter().filter(|(_, is_given)| *is_given) {
                let cure = "belongs to a plan of looks; ask with method group";
                wrong.add(&format!("/query/{name}"), "unknown-parameter", cure);
            }
            return None;
        }
        let n_max = self.n_max.filter(|units| (2.0..=1e15).contains(units));
        if n_max.is_none() {
            let cure = "is the number of units of both arms at which the plan ends, 2 to 1e15";
            wrong.add("/query/n_max", "out-of-range", cure);
        }
        let looks = self.looks.filter(|looks| (1..=MAX_LOOKS).contains(looks));
        if looks.is_none() {
            let cure = format!("is the number of planned looks, 1 to {MAX_LOOKS}");
            wrong.add("/query/looks", "out-of-range", &cure);
        }
        Some(GroupPlan {
            n_max: n_max?,
            looks: looks?,
            spending: spending?,
            is_last: self.last_look.unwrap_or(false),
        })
    }
}

/// Everything that is wrong with a question, collected on the way; the first thing of each place.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<Violation>, Option<AppError>);

impl Violations {
    /// Beginning with what could not be read.
    pub(super) fn of_question(asked: &ReportParameters) -> Self {
        Self(asked.malformed.clone(), None)
    }

    /// What was read, if it was; else what is wrong with it is noted.
    pub(super) fn of<T>(&mut self, read: Result<T, AppError>) -> Option<T> {
        match read {
            Ok(read) => return Some(read),
            Err(AppError::Invalid(violations)) => {
                violations
                    .into_iter()
                    .for_each(|violation| self.note(violation));
            }
            Err(other) => self.1 = Some(other),
        }
        None
    }

    pub(super) fn add(&mut self, pointer: &str, code: &str, message: &str) {
        self.note(Violation::at(pointer, code, message));
    }

    fn note(&mut self, violation: Violation) {
        let is_of_a_place = violation.pointer.starts_with("/query/");
        let is_known = self
            .0
            .iter()
            .any(|known| known.pointer == violation.pointer);
        if !(is_of_a_place && is_known) {
            self.0.push(violation);
        }
    }

    /// What was read, if nothing is wrong.
    pub(super) fn none<T: Flat>(self, read: Option<T>) -> Result<T::Out, AppError> {
        match (self.1, read) {
            (Some(error), _) => Err(error),
            (None, Some(read)) if self.0.is_empty() => Ok(read.flat()),
            _ => Err(AppError::Invalid(self.0)),
        }
    }
}

/// Pairs of pairs, as `zip` makes them, laid flat.
pub(super) trait Flat {
    type Out;
    fn flat(self) -> Self::Out;
}

impl<A, B, C, D> Flat for (((A, B), C), D) {
    type Out = (A, B, C, D);
    fn flat(self) -> Self::Out {
        let (((a, b), c), d) = self;
        (a, b, c, d)
    }
}

impl Flat for (Option<i64>, Option<i64>) {
    type Out = Self;
    fn flat(self) -> Self::Out {
        self
    }
}

impl Flat for Comparing {
    type Out = Self;
    fn flat(self) -> Self::Out {
        self
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
        let shares = asked.comparing(&Served::Unknown).unwrap().shares;
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
            pointer(
                asked(r#"{"shares": "on"}"#)
                    .comparing(&Served::Unknown)
                    .unwrap_err()
            ),
            "/query/shares"
        );
        assert_eq!(
            pointer(asked(r#"{"alpha": 0.1}"#).only(&["flag"], &[]).unwrap_err()),
            "/query/alpha"
        );
    }
}
