//! How often a service is deployed.

use super::{Measured, Subject};
use crate::change_point::change_points;
use crate::definition::{Counted, FrequencyRule, Period};
use crate::event::Outcome;
use crate::moment::{Moment, WeekStart, Window, first_day_of_week, week_of_day};
use crate::statistic::{Statistic, seed_of};

impl Subject<'_, '_> {
    pub(super) fn frequency(&self, rule: FrequencyRule) -> (Measured, &'static str) {
        let unit = unit_of(rule);
        let days = self.counted_days(rule.count);
        let Some(observed) = self.observed(&days) else {
            return (
                Measured {
                    formula: formula_of(rule),
                    ..Measured::default()
                },
                unit,
            );
        };
        let periods = per_period(rule, &days, observed);
        let total: f64 = periods.iter().sum();
        let mut measured = self.statistic("deployment_frequency", rule.statistic, &periods);
        measured.n = days.len();
        if rule.statistic == Statistic::Mean && rule.per == Period::Day {
            measured.value = Some(total / observed.days());
            measured.numerator = Some(total);
            measured.denominator = Some(observed.days());
        }
        measured.formula = formula_of(rule);
        if observed != self.query.window {
            measured.notes.push(format!(
                "observed from {} to {}: nothing is known outside",
                observed.from(),
                observed.to()
            ));
        }
        measured.contributing = self.explained(|| {
            self.in_window()
                .map(|place| self.deployment(place))
                .collect()
        });
        if self.query.explain {
            measured.notes.extend(self.changes_of_pace(&days, observed));
        }
        (measured, unit)
    }

    /// When the number per week changed its level, in words.
    fn changes_of_pace(&self, days: &[i64], observed: Window) -> Vec<String> {
        let weekly = FrequencyRule {
            count: Counted::Deployments,
            per: Period::WeekFromMonday,
            statistic: Statistic::Mean,
        };
        let seed = seed_of(self.query.seed, &["pace", self.history.series.service()]);
        let first = week_of_day(observed.day_range().0, WeekStart::Monday);
        change_points(&per_period(weekly, days, observed), seed)
            .into_iter()
            .map(|change| {
                let week = first + i64::try_from(change.index).unwrap_or(0);
                let monday = Moment::start_of_day(first_day_of_week(week)).to_string();
                format!(
                    "from the week of {} on {:.1} instead of {:.1} a week",
                    &monday[..10],
                    change.after,
                    change.before
                )
            })
            .collect()
    }

    /// The day of each thing counted, ascending.
    fn counted_days(&self, count: Counted) -> Vec<i64> {
        let mut days: Vec<i64> = match count {
            Counted::Attempts => {
                let attempts = self.history.series.attempts().iter();
                let ended = attempts.filter(|d| d.outcome != Outcome::Started);
                let inside = ended.filter(|d| self.query.window.contains(d.finished_at));
                inside.map(|d| d.finished_at.day()).collect()
            }
            Counted::Deployments | Counted::DeploymentDays => self
                .in_window()
                .map(|place| self.history.deployments[place].finished_at.day())
                .collect(),
        };
        if count == Counted::DeploymentDays {
            days.dedup();
        }
        days
    }

    /// The part of the window that was looked at.
    fn observed(&self, days: &[i64]) -> Option<Window> {
        let window = self.query.window;
        let first_known = self
            .history
            .series
            .attempts()
            .first()
            .map(|d| d.finished_at.day());
        let from = first_known.map_or(window.from(), |day| {
            window.from().max(Moment::start_of_day(day))
        });
        let last_counted = days
            .last()
            .map_or(from, |&day| Moment::start_of_day(day + 1));
        let to = window.to().min(self.query.as_of.max(last_counted));
        Window::new(from, to).ok()
    }
}

fn per_period(rule: FrequencyRule, days: &[i64], observed: Window) -> Vec<f64> {
    let period = |day: i64| match rule.per {
        Period::Day => day,
        Period::WeekFromMonday => week_of_day(day, WeekStart::Monday),
        Period::WeekFromSunday => week_of_day(day, WeekStart::Sunday),
    };
    let (first, last) = observed.day_range();
    let (first, last) = (period(first), period(last));
    let mut counts = vec![0.0; usize::try_from(last - first + 1).unwrap_or(0)];
    for &day in days {
        if let Some(count) = usize::try_from(period(day) - first)
            .ok()
            .and_then(|at| counts.get_mut(at))
        {
            *count += 1.0;
        }
    }
    counts
}

fn unit_of(rule: FrequencyRule) -> &'static str {
    match (rule.count, rule.per) {
        (Counted::DeploymentDays, Period::Day) => "deployment days/day",
        (Counted::DeploymentDays, _) => "deployment days/week",
        (_, Period::Day) => "deployments/day",
        (_, _) => "deployments/week",
    }
}

fn formula_of(rule: FrequencyRule) -> String {
    let counted = match rule.count {
        Counted::Deployments => "successful deployments",
        Counted::Attempts => "deployments, failed ones included,",
        Counted::DeploymentDays => "days with a successful deployment",
    };
    let period = match rule.per {
        Period::Day => "calendar day (UTC)",
        Period::WeekFromMonday => "week from Monday",
        Period::WeekFromSunday => "week from Sunday",
    };
    format!(
        "{} of {counted} per {period}, empty ones as 0",
        rule.statistic.name()
    )
}
