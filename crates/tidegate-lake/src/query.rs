//! Queries executed natively: bucket by bucket, in time order, on the decoded columns.
//!
//! A unit lives in one bucket, so buckets are independent and their findings add up. Per bucket:
//! assign units by their exposures, then take the days one after the other; in each, kind and name
//! decide which rows matter, and those alone reach the pure folds of `tidegate-metrics`. Usage and
//! retention need neither the time nor the order of a day's rows and take columns of units.
//! Nothing is joined or shuffled; memory is the hot tier plus one bucket's state per thread.
//! Threads take buckets as they come and add up what they find; the threads' findings are joined.
//! Only what merged units did is gathered from several buckets (`persons`).

mod classify;
mod kept;
mod keyed;
mod names;
mod persons;
mod usage;
mod worker;

use crate::columns::{
    Block, ColumnError, ColumnStore, DamagedFile, DayBlocks, FileMeta, LakeState,
};
use classify::Classifier;
pub use kept::KeptMemory;
pub(crate) use kept::KeptMetrics;
use names::Names;
use persons::Persons;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tidegate_metrics::{
    Answer, Days, DefinitionProblem, EventKind, ExposureEvent, JourneyKey, MissingFile, Query,
    StepOrder,
};
use tidegate_stats::StatsError;
use worker::Worker;

const DAY_US: i64 = 86_400_000_000;
/// Filters that one pass over the events can tell apart.
const FILTERS_AT_ONCE: usize = 64;

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
    /// When the newest event was received, as far as it is known.
    pub(crate) received_until_us: Option<i64>,
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
    let missing = run.missing();
    let workers = run.all_buckets(asking.threads)?;
    let events = workers.iter().map(|worker| worker.events).sum();
    let mut findings = worker::join(query, workers)?;
    let names = names.sorted_into(&mut findings);
    Ok(Answer {
        findings,
        names,
        watermark: state.flushed_sequence,
        aliases: state.aliases.version(),
        acknowledged: asking.acknowledged,
        data_end_us,
        received_until_us: asking.received_until_us,
        events,
        missing,
    })
}

/// The days whose rows matter: those asked for, earlier ones for covariates, and later ones for
/// windows that run past the end.
fn days_to_read(query: &Query) -> (i64, i64) {
    let whole_days = |seconds: Option<u64>| {
        let days = seconds.map_or(0, |seconds| seconds.div_ceil(86_400));
        i64::try_from(days).unwrap_or(i64::MAX)
    };
    match query {
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
    }
}

/// Does some work for buckets with so many threads, each with a state of its own; returns the
/// states, or the first failure.
///
/// Neighbouring buckets may lie in one row group, which one thread decodes while another would
/// wait for it. So the first buckets given out lie far apart, and each thread goes on from there.
fn per_bucket<S: Send, E: Send>(
    buckets: Range<u16>,
    threads: usize,
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, u16) -> Result<(), E> + Sync,
) -> Result<Vec<S>, E> {
    let threads = u16::try_from(threads.max(1)).unwrap_or(u16::MAX);
    let count = buckets.end.saturating_sub(buckets.start);
    let stretch = count.div_ceil(threads);
    let next = AtomicU16::new(0);
    let has_failed = AtomicBool::new(false);
    let done = Mutex::new(Ok(Vec::new()));
    let run = || {
        let mut state = start();
        let mut outcome = Ok(());
        while outcome.is_ok() && !has_failed.load(Ordering::Relaxed) {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let row = turn / threads;
            if row >= stretch {
                break;
            }
            let place = (turn % threads) * stretch + row;
            if place < count {
                outcome = work(&mut state, buckets.start + place);
            }
        }
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        match (outcome, done.as_mut()) {
            (Ok(()), Ok(states)) => states.push(state),
            (Ok(()), Err(_)) => {}
            (Err(error), _) => {
                has_failed.store(true, Ordering::Relaxed);
                *done = Err(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Does some work for buckets with so many threads; the outcomes come in no order.
fn each_bucket<T: Send>(
    buckets: Range<u16>,
    threads: usize,
    work: impl Fn(u16) -> T + Sync,
) -> Vec<T> {
    let done = per_bucket(buckets, threads, Vec::new, |done, bucket| {
        done.push(work(bucket));
        Ok::<(), Infallible>(())
    });
    match done {
        Ok(done) => done.into_iter().flatten().collect(),
        Err(never) => match never {},
    }
}

/// A question over the files of one moment.
struct Run<'r> {
    store: &'r ColumnStore,
    state: &'r LakeState,
    query: &'r Query,
    names: &'r Names,
    asking: Asking<'r>,
    /// The days to read with their files.
    days: Vec<(i64, Vec<&'r FileMeta>)>,
    /// The first and the last day that matter.
    span: (i64, i64),
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
        let (first, last) = days_to_read(query);
        let days = state.days().into_iter();
        let mut run = Self {
            store,
            state,
            query,
            names,
            asking,
            days: days
                .filter(|(day, _)| (first..=last).contains(day))
                .collect(),
            span: (first, last),
            end_us: i64::MIN,
            merged: persons::merged_by_bucket(&state.aliases),
        };
        // One end for all buckets: what is still open must not depend on how units are spread.
        run.end_us = run.data_end_us().unwrap_or(i64::MIN);
        run
    }

    fn data_end_us(&self) -> Option<i64> {
        let files = self.days.iter().flat_map(|(_, files)| files);
        files.filter_map(|file| file.last_time_us).max()
    }

    /// The files that would be read and are set apart.
    fn missing(&self) -> Vec<MissingFile> {
        let (first, last) = self.span;
        let damaged = self.state.damaged.values();
        let missing = damaged.filter(|damaged| (first..=last).contains(&damaged.file.day));
        missing.map(DamagedFile::missing).collect()
    }

    fn all_buckets(&self, threads: usize) -> Result<Vec<Worker<'_>>, QueryError> {
        let mut all = Vec::new();
        let homes = 0..self.state.buckets;
        if let (Some(key), Query::Journey { journey, days, .. }) = (self.key(), self.query) {
            let keyed = keyed::Keyed::new(self, key, journey, *days);
            let reports = keyed.all(homes, threads)?.into_iter();
            return Ok(reports
                .map(|(report, rows)| Worker::with_journey(self, report, rows))
                .collect());
        }
        persons::in_rounds(self, homes, None, threads, &mut |homes, persons| {
            let nobody = Persons::default();
            let start = || Worker::new(self);
            let workers = per_bucket(homes, threads, start, |worker, bucket| {
                worker.bucket(bucket, persons.get(&bucket).unwrap_or(&nobody))
            });
            all.extend(workers?);
            Ok(())
        })?;
        Ok(all)
    }

    /// The question's filters in parts that a mask has bits for; at least one.
    fn parts(&self) -> Vec<Range<usize>> {
        let filters = self.query.filters().len();
        let starts = (0..filters.max(1)).step_by(FILTERS_AT_ONCE);
        starts
            .map(|start| start..filters.min(start + FILTERS_AT_ONCE))
            .collect()
    }

    /// The units of a bucket that are one of a person's several, as a flag by ordinal.
    fn merged_in(&self, bucket: u16) -> &[bool] {
        self.merged.get(&bucket).map_or(&[], Vec::as_slice)
    }

    /// Whether a unit is one of a person's several.
    fn is_merged(&self, bucket: u16, unit: u32) -> bool {
        is_set(self.merged_in(bucket), unit)
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

    fn with_properties(&self) -> bool {
        let segment = self.query.grouping().and_then(|by| by.segment.as_deref());
        let filters = self.query.filters();
        let has_tests = filters.iter().any(|filter| !filter.properties.is_empty());
        has_tests || segment.is_some() || self.key().is_some()
    }

    /// The rows of a bucket, day by day.
    fn blocks(&self, bucket: u16) -> Result<DayBlocks, QueryError> {
        let with_properties = self.with_properties();
        let days = self.days.iter().map(|(day, files)| {
            if self.asking.given_up.load(Ordering::Relaxed) {
                return Err(QueryError::GivenUp);
            }
            let block = self
                .store
                .day_block(self.state, *day, files, bucket, with_properties);
            Ok((*day, block?))
        });
        days.collect()
    }

    fn units(&self, bucket: u16) -> usize {
        usize::try_from(self.store.unit_count(bucket)).unwrap_or(usize::MAX)
    }

    /// Made once the rows to be classified are decoded, since only then all their names are known.
    fn classifier(&self) -> Classifier<'r> {
        let filters = self.query.filters();
        let with_values = matches!(self.query, Query::UnitMetric { .. });
        self.store
            .with_texts(|texts| Classifier::new(&filters, texts, with_values))
    }

    /// The exposures of a day that assign units, with the rows they stand in.
    fn exposures_in(&self, day: i64, block: &Block) -> Vec<(usize, ExposureEvent)> {
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
        let meant = block
            .sorts()
            .iter()
            .position(|sort| sort.kind == EventKind::Exposure && sort.name == flag);
        if meant.is_none() || !(asked.first..=asked.last).contains(&day) {
            return exposures;
        }
        let mut known: FxHashMap<u32, u32> = FxHashMap::default();
        let mut number_of = |variant: u32| {
            let number = || {
                let store = self.store;
                store.with_texts(|texts| self.names.of(texts.get(variant)))
            };
            *known.entry(variant).or_insert_with(number)
        };
        let mut times = block.times();
        for (row, variant) in block.variants() {
            if Some(block.code(row)) != meant {
                continue;
            }
            let segment = by.segment.as_deref().map_or(0, |property| {
                let text = classify::property_as_text(block.property_text(row), property);
                text.map_or(0, |text| self.names.of(&text))
            });
            let exposure = ExposureEvent {
                unit: block.unit(row),
                time_us: times.of(row),
                variant: number_of(variant),
                segment,
            };
            exposures.push((row, exposure));
        }
        exposures
    }

    /// The exposures of a bucket's units that are persons by themselves.
    fn own_exposures(&self, bucket: u16, days: &[(i64, Arc<Block>)]) -> Vec<ExposureEvent> {
        let merged = self.merged_in(bucket);
        let found = days.iter();
        let found = found.flat_map(|(day, block)| self.exposures_in(*day, block));
        let found = found.map(|(_, exposure)| exposure);
        found
            .filter(|exposure| !is_set(merged, exposure.unit))
            .collect()
    }
}

/// The moments in which a chain may begin.
fn entry_us(days: Days) -> Range<i64> {
    let from = days.first.saturating_mul(DAY_US);
    from..days.last.saturating_add(1).saturating_mul(DAY_US)
}

/// Whether a flag is set for a unit; an empty list says no of every one.
fn is_set(flags: &[bool], unit: u32) -> bool {
    let at = usize::try_from(unit).unwrap_or(usize::MAX);
    flags.get(at).copied().unwrap_or(false)
}
