//! Queries executed natively: bucket by bucket, in time order, on the decoded columns.
//!
//! A unit lives in one bucket, so buckets are independent and their findings add up. Per bucket:
//! read the days, assign units by their exposures, classify each event once into a bit mask, and
//! hand (unit, time, mask, value) to the pure folds of `tidegate-metrics`. Nothing is sorted,
//! joined or shuffled; memory is the hot tier plus one bucket's state per thread. Only what merged
//! units did is gathered from several buckets (`persons`).

mod classify;
mod kept;
mod keyed;
mod names;
mod persons;

use crate::columns::{ColumnError, ColumnStore, LakeState, Rows};
use classify::Classifier;
pub use kept::KeptMemory;
pub(crate) use kept::KeptMetrics;
use names::Names;
use persons::Persons;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tidegate_metrics::{
    Adoption, Answer, Assignment, ClassifiedEvent, Days, DefinitionProblem, EventKind,
    ExposureEvent, Findings, JourneyDefinition, JourneyFold, JourneyKey, JourneyReport, Lifecycle,
    Query, Retention, StepOrder, UnitMeasurements, Usage, assign_units, measure_units, summarise,
};
use tidegate_stats::StatsError;

const DAY_US: i64 = 86_400_000_000;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The query itself is wrong.
    #[error("query cannot be answered: {} problems, first {}", .0.len(), first(.0))]
    Definition(Vec<DefinitionProblem>),
    /// The files.
    #[error(transparent)]
    Columns(#[from] ColumnError),
    /// The numbers.
    #[error(transparent)]
    Statistics(#[from] StatsError),
    /// Whoever asked gave up.
    #[error("the question was given up before its answer was complete")]
    GivenUp,
}

/// How a question is to be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// Threads, at most.
    pub(crate) threads: usize,
    /// Every event below this ingest sequence is acknowledged.
    pub(crate) acknowledged: u64,
    /// Whether whoever asked has given up; looked at between days of a bucket.
    pub(crate) given_up: &'a AtomicBool,
}

fn first(problems: &[DefinitionProblem]) -> String {
    problems
        .first()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Answers a query from the files of a lake at one moment, with so many threads. A metric is kept
/// up from one answer to the next; every other question reads what it is about.
pub(crate) fn answer(
    store: &ColumnStore,
    kept: &KeptMetrics,
    query: &Query,
    asking: Asking<'_>,
) -> Result<Answer, QueryError> {
    let problems = query.problems();
    if !problems.is_empty() {
        return Err(QueryError::Definition(problems));
    }
    match query {
        Query::UnitMetric { .. } => kept.answer(store, query, asking),
        _ => answer_in_full(store, query, asking),
    }
}

/// Answers a query from everything it is about.
pub(crate) fn answer_in_full(
    store: &ColumnStore,
    query: &Query,
    asking: Asking<'_>,
) -> Result<Answer, QueryError> {
    let problems = query.problems();
    if !problems.is_empty() {
        return Err(QueryError::Definition(problems));
    }
    let state = store.state();
    let names = Names::default();
    let run = Run::over(store, &state, query, &names, asking);
    let data_end_us = run.data_end_us();
    let mut parts = run.all_buckets(asking.threads)?;
    parts.sort_by_key(|part| part.bucket);
    let events = parts.iter().map(|part| part.events).sum();
    let found: Vec<Found> = parts.into_iter().map(|part| part.found).collect();
    let mut findings = join(query, found)?;
    let names = names.sorted_into(&mut findings);
    Ok(Answer {
        findings,
        names,
        watermark: state.flushed_sequence,
        aliases: state.aliases.version(),
        acknowledged: asking.acknowledged,
        data_end_us,
        events,
    })
}

/// The days whose rows matter: those asked for, earlier ones for covariates, and later ones for
/// windows that run past the end.
fn days_to_read(query: &Query, state: &LakeState) -> Vec<i64> {
    let whole_days = |seconds: Option<u64>| {
        let days = seconds.map_or(0, |seconds| seconds.div_ceil(86_400));
        i64::try_from(days).unwrap_or(i64::MAX)
    };
    let (first, last) = match query {
        Query::UnitMetric { metric, days, .. } => {
            let before = whole_days(metric.covariate_seconds);
            (days.first.saturating_sub(before), days.last)
        }
        Query::Journey { journey, days, .. } => {
            let after = journey
                .within_seconds
                .map_or(i64::MAX, |s| whole_days(Some(s)));
            (days.first, days.last.saturating_add(after))
        }
        Query::Usage { days, .. }
        | Query::Adoption { days, .. }
        | Query::Retention { days, .. } => (days.first, days.last),
        Query::Lifecycle { days, .. } => (i64::MIN, days.last),
    };
    let known = state.days().into_keys();
    known.filter(|day| (first..=last).contains(day)).collect()
}

/// Does some work for buckets with so many threads; the outcomes come in no order.
fn per_bucket<T: Send>(
    buckets: Range<u16>,
    threads: usize,
    work: impl Fn(u16) -> T + Sync,
) -> Vec<T> {
    let next = AtomicU16::new(buckets.start);
    let done = Mutex::new(Vec::new());
    let run = || {
        loop {
            let bucket = next.fetch_add(1, Ordering::Relaxed);
            if bucket >= buckets.end {
                return;
            }
            let outcome = work(bucket);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(run);
        }
        run();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

enum Found {
    Metric(UnitMeasurements),
    Journey(JourneyReport),
    Usage(Usage),
    Adoption(Adoption),
    Retention(Retention),
    Lifecycle(Lifecycle),
}

struct Part {
    bucket: u16,
    found: Found,
    events: u64,
}

struct Run<'r> {
    store: &'r ColumnStore,
    state: &'r LakeState,
    query: &'r Query,
    names: &'r Names,
    asking: Asking<'r>,
    days: Vec<i64>,
    end_us: i64,
    /// Merged units by bucket: what the scan leaves out.
    merged: BTreeMap<u16, Vec<bool>>,
}

impl<'r> Run<'r> {
    fn over(
        store: &'r ColumnStore,
        state: &'r LakeState,
        query: &'r Query,
        names: &'r Names,
        asking: Asking<'r>,
    ) -> Self {
        let days = days_to_read(query, state);
        let mut run = Self {
            store,
            state,
            query,
            names,
            asking,
            days,
            end_us: i64::MIN,
            merged: persons::merged_by_bucket(&state.aliases),
        };
        // One end for all buckets: what is still open must not depend on how units are spread.
        run.end_us = run.data_end_us().unwrap_or(i64::MIN);
        run
    }

    fn data_end_us(&self) -> Option<i64> {
        let files = self.state.files.values();
        let read = files.filter(|file| self.days.contains(&file.day));
        read.filter_map(|file| file.last_time_us).max()
    }

    fn all_buckets(&self, threads: usize) -> Result<Vec<Part>, QueryError> {
        let mut all = Vec::new();
        let homes = 0..self.state.buckets;
        if let (Some(key), Query::Journey { journey, days, .. }) = (self.key(), self.query) {
            return keyed::Keyed::new(self, key, journey, *days).all(homes, threads);
        }
        persons::in_rounds(self, homes, None, threads, &mut |homes, persons| {
            let nobody = Persons::default();
            let parts = per_bucket(homes, threads, |bucket| {
                self.bucket(bucket, persons.get(&bucket).unwrap_or(&nobody))
            });
            for part in parts {
                all.push(part?);
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Whether a unit is one of a person's several.
    fn is_merged(&self, bucket: u16, unit: u32) -> bool {
        let merged = self.merged.get(&bucket);
        merged.is_some_and(|merged| is_set(merged, unit))
    }

    /// Without filters, any event is activity.
    fn wants_any(&self) -> bool {
        match self.query {
            Query::Retention { events, .. } | Query::Lifecycle { events, .. } => events.is_empty(),
            _ => false,
        }
    }

    /// What the events of a chain must share.
    fn key(&self) -> Option<&'r JourneyKey> {
        match self.query {
            Query::Journey { journey, .. } => journey.key.as_ref(),
            _ => None,
        }
    }

    /// Whether events that match nothing matter too.
    fn wants_all(&self) -> bool {
        matches!(self.query, Query::Journey { journey, .. } if journey.order == StepOrder::Strict)
    }

    fn classifier(&self) -> Classifier<'_> {
        let filters = self.query.filters();
        self.store
            .with_texts(|texts| Classifier::new(&filters, texts))
    }

    fn with_properties(&self) -> bool {
        let segment = self.query.grouping().and_then(|by| by.segment.as_deref());
        let filters = self.query.filters();
        let has_tests = filters.iter().any(|filter| !filter.properties.is_empty());
        has_tests || segment.is_some() || self.key().is_some()
    }

    /// The rows of a bucket, day by day.
    fn rows(&self, bucket: u16) -> Result<Vec<Arc<Rows>>, QueryError> {
        let with_properties = self.with_properties();
        let days = self.days.iter().map(|day| {
            if self.asking.given_up.load(Ordering::Relaxed) {
                return Err(QueryError::GivenUp);
            }
            let rows = self
                .store
                .day_rows(self.state, *day, bucket, with_properties);
            Ok(rows?)
        });
        days.collect()
    }

    fn bucket(&self, bucket: u16, persons: &Persons) -> Result<Part, QueryError> {
        let days = self.rows(bucket)?;
        let units = usize::try_from(self.store.unit_count(bucket)).unwrap_or(usize::MAX);
        // What merged units did comes gathered, behind what all others did.
        let is_own = |unit: u32| !self.is_merged(bucket, unit);
        let assignments = match self.query.grouping() {
            Some(_) => {
                let days = days.iter().map(AsRef::as_ref);
                let own = days.flat_map(|rows| self.exposures_in(rows));
                let own = own.map(|(_, exposure)| exposure);
                let own = own.filter(|exposure| is_own(exposure.unit));
                assign_units(units, own.chain(persons.exposures.iter().copied()))
            }
            None => vec![Assignment::EVERYONE; units],
        };
        let classifier = self.classifier();
        let wants_any = self.wants_any();
        let events = days
            .iter()
            .flat_map(|rows| classifier.events(rows, wants_any))
            .filter(|event| is_own(event.unit))
            .chain(persons.events.iter().copied());
        let found = match self.query {
            Query::UnitMetric { metric, .. } => {
                let base = u64::from(bucket) << 32;
                Found::Metric(measure_units(
                    metric,
                    &assignments,
                    events,
                    self.end_us,
                    base,
                ))
            }
            Query::Journey { journey, days, .. } => Found::Journey(fold_journey(
                journey,
                &assignments,
                *days,
                events,
                self.end_us,
            )),
            Query::Usage { .. } => Found::Usage(Usage::of(units, events)),
            Query::Adoption {
                days, period_days, ..
            } => Found::Adoption(Adoption::of(&assignments, days.first, *period_days, events)),
            Query::Retention {
                days, period_days, ..
            } => Found::Retention(Retention::of(units, days.first, *period_days, events)),
            Query::Lifecycle {
                days, period_days, ..
            } => Found::Lifecycle(Lifecycle::of(units, *days, *period_days, events)),
        };
        Ok(Part {
            bucket,
            found,
            events: days.iter().map(|rows| rows.len() as u64).sum(),
        })
    }

    /// The exposures that assign units, with the rows they stand in.
    fn exposures_in(&self, rows: &Rows) -> Vec<(usize, ExposureEvent)> {
        let mut exposures = Vec::new();
        let by = self.query.grouping();
        let flag = by.and_then(|by| self.store.with_texts(|texts| texts.find(&by.flag)));
        let Some((by, flag)) = by.zip(flag) else {
            return exposures;
        };
        let asked = match self.query {
            Query::UnitMetric { days, .. }
            | Query::Journey { days, .. }
            | Query::Adoption { days, .. } => *days,
            Query::Usage { .. } | Query::Retention { .. } | Query::Lifecycle { .. } => Days::ALL,
        };
        for (row, variant) in &rows.variants {
            let is_meant = rows.name.get(*row) == Some(&flag)
                && rows.kind.get(*row) == Some(&EventKind::Exposure);
            let time_us = rows.time_us.get(*row).copied().unwrap_or(0);
            let day = time_us.div_euclid(DAY_US);
            if !is_meant || !(asked.first..=asked.last).contains(&day) {
                continue;
            }
            let variant = self
                .store
                .with_texts(|texts| self.names.of(texts.get(*variant)));
            let segment = by.segment.as_deref().map_or(0, |property| {
                let text = classify::property_as_text(rows.property_text(*row), property);
                text.map_or(0, |text| self.names.of(&text))
            });
            let exposure = ExposureEvent {
                unit: rows.unit.get(*row).copied().unwrap_or(u32::MAX),
                time_us,
                variant,
                segment,
            };
            exposures.push((*row, exposure));
        }
        exposures
    }
}

/// Whether a flag is set for a unit; an empty list says no of every one.
fn is_set(flags: &[bool], unit: u32) -> bool {
    let at = usize::try_from(unit).unwrap_or(usize::MAX);
    flags.get(at).copied().unwrap_or(false)
}

/// The moments in which a chain may begin.
fn entry_us(days: Days) -> Range<i64> {
    let from = days.first.saturating_mul(DAY_US);
    from..days.last.saturating_add(1).saturating_mul(DAY_US)
}

fn fold_journey(
    journey: &JourneyDefinition,
    assignments: &[Assignment],
    days: Days,
    events: impl Iterator<Item = ClassifiedEvent>,
    end_us: i64,
) -> JourneyReport {
    let mut fold = JourneyFold::new(journey, assignments, entry_us(days));
    for event in events {
        fold.push(event);
    }
    fold.finish(end_us)
}

fn join(query: &Query, found: Vec<Found>) -> Result<Findings, QueryError> {
    let (mut metric, mut journey) = (Vec::new(), JourneyReport::default());
    let (mut usage, mut retention) = (Usage::default(), Retention::default());
    let (mut adoption, mut lifecycle) = (Adoption::default(), Lifecycle::default());
    for part in found {
        match part {
            Found::Metric(part) => metric.push(part),
            Found::Journey(part) => journey.merge(part),
            Found::Usage(part) => usage.merge(&part),
            Found::Adoption(part) => adoption.merge(&part),
            Found::Retention(part) => retention.merge(&part),
            Found::Lifecycle(part) => lifecycle.merge(&part),
        }
    }
    Ok(match query {
        Query::UnitMetric {
            metric: definition, ..
        } => Findings::UnitMetric(summarise(definition, &metric)?),
        Query::Journey { .. } => Findings::Journey(journey),
        Query::Usage { .. } => Findings::Usage(usage),
        Query::Adoption { .. } => Findings::Adoption(adoption),
        Query::Retention { .. } => Findings::Retention(retention),
        Query::Lifecycle { .. } => Findings::Lifecycle(lifecycle),
    })
}
