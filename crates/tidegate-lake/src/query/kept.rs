//! Metrics kept up from one answer to the next: a refresh reads what is new.
//!
//! Per metric, flag and days there is one state per bucket (`MetricState` decides what can be
//! folded in and what must be run again) and the ingest sequence it has seen everything below of.
//! A refresh reads the rows above it, folds them in, and runs the dirty units again over their
//! buckets' rows. Units erased since are forgotten. A unit whose person is another one since is
//! forgotten, and its person run again; what merged units did is folded under their root, as in
//! `persons`. If days have expired, a damaged file was set apart or taken back, or a refresh failed
//! half-way, the state is made anew.
//!
//! States are held within a budget of bytes that several lakes share; the one asked for longest
//! ago goes first. Nothing is
//! kept on disk: after a start the first answer reads everything, and is the same.

use super::names::Names;
use super::persons::{self, Found, Persons, Routes};
use super::{Asking, QueryError, Run, each_bucket, is_set};
use crate::columns::{Aliases, ColumnStore, DayBlocks, NewRows, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_metrics::{
    Answer, ClassifiedEvent, ExposureEvent, Findings, MetricDefinition, MetricState, Query,
    summarise_states,
};

/// Memory for metrics kept up that several lakes share: whichever was asked for longest ago, in
/// whatever lake, goes first.
#[derive(Debug, Clone)]
pub struct KeptMemory(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    budget: usize,
    held: Mutex<Vec<Held>>,
    lakes: AtomicU64,
}

/// The metrics of a lake that are kept up.
#[derive(Debug)]
pub(crate) struct KeptMetrics {
    memory: KeptMemory,
    lake: u64,
}

#[derive(Debug)]
struct Held {
    /// Lake and question.
    key: (u64, String),
    metric: Arc<Mutex<Kept>>,
    bytes: usize,
}

impl KeptMemory {
    /// Memory of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Memory {
            budget: bytes,
            held: Mutex::default(),
            lakes: AtomicU64::new(0),
        }))
    }

    /// How many metrics are kept up, over all lakes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.held().len()
    }

    /// The bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.held().iter().map(|entry| entry.bytes).sum()
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a question, new or known; it is the youngest from now on.
    fn find(&self, key: &(u64, String)) -> Arc<Mutex<Kept>> {
        let mut held = self.held();
        let known = held.iter().position(|entry| entry.key == *key);
        let entry = match known {
            Some(at) => held.remove(at),
            None => Held {
                key: key.clone(),
                metric: Arc::default(),
                bytes: 0,
            },
        };
        let metric = Arc::clone(&entry.metric);
        held.push(entry);
        metric
    }

    fn note(&self, key: &(u64, String), bytes: usize) {
        let mut held = self.held();
        for entry in held.iter_mut().filter(|entry| entry.key == *key) {
            entry.bytes = bytes;
        }
        let mut all: usize = held.iter().map(|entry| entry.bytes).sum();
        while all > self.0.budget && !held.is_empty() {
            all -= held.remove(0).bytes;
        }
    }
}

impl Drop for KeptMetrics {
    fn drop(&mut self) {
        self.memory.held().retain(|entry| entry.key.0 != self.lake);
    }
}

impl KeptMetrics {
    /// The metrics of one more lake.
    pub(crate) fn of_lake(memory: KeptMemory) -> Self {
        let lake = memory.0.lakes.fetch_add(1, Ordering::Relaxed);
        Self { memory, lake }
    }

    /// Brings a metric up to date and says what it is.
    pub(super) fn answer(
        &self,
        store: &ColumnStore,
        query: &Query,
        asking: Asking<'_>,
    ) -> Result<Answer, QueryError> {
        // A definition that cannot be written down cannot be told from another either.
        let Ok(question) = serde_json::to_string(query) else {
            return super::answer_in_full(store, query, asking);
        };
        let key = (self.lake, question);
        let metric = self.memory.find(&key);
        let mut kept = metric.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = kept.answer(store, query, asking);
        if answer.is_err() {
            *kept = Kept::default();
        }
        let bytes = kept.heap_bytes();
        drop(kept);
        self.memory.note(&key, bytes);
        answer
    }
}

/// One metric by one flag.
#[derive(Debug, Default)]
struct Kept {
    buckets: Vec<MetricState>,
    names: Names,
    /// Everything below this sequence is folded in.
    watermark: u64,
    /// Erased units that are forgotten.
    erased: BTreeSet<Place>,
    /// Who was whom by then.
    aliases: Arc<Aliases>,
    /// How often events had gone or come back in files by then.
    upheavals: u64,
    /// Rows folded in.
    events: u64,
}

/// What is new in a bucket, and what is to be known of it.
struct Bucket {
    number: u16,
    state: MetricState,
    /// Everything there is, where it is not said what is new.
    news: Option<DayBlocks>,
    /// New of its persons, in order.
    persons: Persons,
    /// Units that are erased, or whose person is another one.
    gone: Vec<u32>,
    /// Units to be run again, whatever is new.
    dirty: BTreeSet<u32>,
}

impl Kept {
    fn heap_bytes(&self) -> usize {
        self.buckets.iter().map(MetricState::heap_bytes).sum()
    }

    fn answer(
        &mut self,
        store: &ColumnStore,
        query: &Query,
        asking: Asking<'_>,
    ) -> Result<Answer, QueryError> {
        let Query::UnitMetric { metric, .. } = query else {
            return super::answer_in_full(store, query, asking);
        };
        let state = store.state();
        if self.upheavals != state.upheavals {
            *self = Self::default();
        }
        let names = self.names.copy();
        let run = Run::over(store, &state, query, &names, asking);
        self.refresh(&run, metric, asking.threads)?;
        self.upheavals = state.upheavals;
        let (end_us, data_end_us, missing) = (run.end_us, run.data_end_us(), run.missing());
        let numbered = (0u64..).map(|bucket| bucket << 32).zip(&self.buckets);
        let states: Vec<(u64, &MetricState)> = numbered.collect();
        let mut findings = Findings::UnitMetric(summarise_states(metric, &states, end_us)?);
        self.names = names.copy();
        Ok(Answer {
            names: names.sorted_into(&mut findings),
            findings,
            watermark: state.flushed_sequence,
            aliases: state.aliases.version(),
            acknowledged: asking.acknowledged,
            data_end_us,
            received_until_us: asking.received_until_us,
            events: self.events,
            missing,
        })
    }

    /// Folds in everything between the watermark and the lake's.
    fn refresh(
        &mut self,
        run: &Run<'_>,
        metric: &MetricDefinition,
        threads: usize,
    ) -> Result<(), QueryError> {
        let state = run.state;
        let is_same = self.watermark == state.flushed_sequence
            && self.erased == state.erased
            && self.aliases == state.aliases;
        if !self.buckets.is_empty() && is_same {
            return Ok(());
        }
        let mut buckets = self.what_is_new(run, metric, threads)?;
        self.note_changes(run, &mut buckets);
        place_persons(run, &mut buckets);
        let advanced = each(buckets, threads, |bucket| bucket.advanced(run))?;
        self.events += advanced.iter().map(|(_, rows)| rows).sum::<u64>();
        let advanced = advanced.into_iter().map(|(bucket, _)| bucket).collect();
        self.buckets = run_dirty_again(run, advanced, threads)?;
        self.watermark = state.flushed_sequence;
        self.erased.clone_from(&state.erased);
        self.aliases = Arc::clone(&state.aliases);
        Ok(())
    }

    /// The buckets' states, each with the rows it has not seen.
    fn what_is_new(
        &mut self,
        run: &Run<'_>,
        metric: &MetricDefinition,
        threads: usize,
    ) -> Result<Vec<Bucket>, QueryError> {
        let mut states = std::mem::take(&mut self.buckets).into_iter();
        let mut news: Option<BTreeMap<u16, DayBlocks>> = match states.len() {
            0 => None,
            _ => {
                let news = run.store.rows_since(
                    run.state,
                    &run.days,
                    self.watermark,
                    run.with_properties(),
                )?;
                let in_order = |(bucket, days): (u16, Vec<(i64, NewRows)>)| {
                    let days = days.into_iter();
                    let days = days.map(|(day, rows)| (day, Arc::new(rows.in_order())));
                    Ok((bucket, days.collect()))
                };
                let news = each(news.into_iter().collect(), threads, in_order)?;
                Some(news.into_iter().collect())
            }
        };
        let buckets = (0..run.state.buckets).map(|number| Bucket {
            number,
            state: states.next().unwrap_or_else(|| MetricState::new(metric)),
            news: news
                .as_mut()
                .map(|news| news.remove(&number).unwrap_or_default()),
            persons: Persons::default(),
            gone: Vec::new(),
            dirty: BTreeSet::new(),
        });
        Ok(buckets.collect())
    }

    /// Notes units that were erased, and units whose person is another one.
    fn note_changes(&self, run: &Run<'_>, buckets: &mut [Bucket]) {
        let state = run.state;
        let erased = state.erased.difference(&self.erased).copied();
        let changed = state.aliases.changed_since(&self.aliases);
        for (bucket, unit) in erased.chain(changed.iter().copied()) {
            if let Some(bucket) = buckets.get_mut(usize::from(bucket)) {
                bucket.gone.push(unit);
            }
        }
        for (bucket, unit) in changed.iter().map(|place| state.aliases.root(*place)) {
            if let Some(bucket) = buckets.get_mut(usize::from(bucket)) {
                bucket.dirty.insert(unit);
            }
        }
    }
}

/// Hands what is new of merged units to their persons' buckets. A person whose order ids would
/// have to say is run again, where they do.
fn place_persons(run: &Run<'_>, buckets: &mut [Bucket]) {
    let routes = Routes::to(&run.state.aliases, &(0..run.state.buckets), None);
    let mut found: BTreeMap<u16, Found> = BTreeMap::new();
    for bucket in buckets.iter() {
        let news = bucket.news.as_deref().unwrap_or(&[]);
        for (home, part) in routes.follow(run, bucket.number, news) {
            found.entry(home).or_default().append(part);
        }
    }
    for (home, mut found) in found {
        if let Some(bucket) = buckets.get_mut(usize::from(home)) {
            bucket.dirty.extend(found.tied());
            bucket.persons = found.by_time();
        }
    }
}

/// Runs the dirty units of every bucket again, over everything there is of them.
fn run_dirty_again(
    run: &Run<'_>,
    buckets: Vec<Bucket>,
    threads: usize,
) -> Result<Vec<MetricState>, QueryError> {
    let dirty = buckets.iter().flat_map(|bucket| {
        let units = bucket.dirty.iter();
        units.map(|unit| (bucket.number, *unit))
    });
    let persons: BTreeSet<Place> = dirty
        .filter(|(bucket, unit)| run.is_merged(*bucket, *unit))
        .collect();
    let (mut waiting, mut done) = (buckets.into_iter(), Vec::new());
    let homes = 0..run.state.buckets;
    persons::in_rounds(run, homes, Some(&persons), threads, &mut |homes, found| {
        let nobody = Persons::default();
        let buckets: Vec<Bucket> = waiting.by_ref().take(homes.len()).collect();
        let again = each(buckets, threads, |bucket| {
            let persons = found.get(&bucket.number).unwrap_or(&nobody);
            bucket.run_again(run, persons)
        });
        done.extend(again?);
        Ok(())
    })?;
    Ok(done)
}

/// Does some work for each of several buckets, in their order.
fn each<T: Send, D: Send>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> Result<D, QueryError> + Sync,
) -> Result<Vec<D>, QueryError> {
    let jobs: Vec<Mutex<Option<T>>> = items
        .into_iter()
        .map(|item| Mutex::new(Some(item)))
        .collect();
    let count = u16::try_from(jobs.len()).unwrap_or(u16::MAX);
    let mut done = each_bucket(0..count, threads, |number| {
        let job = jobs.get(usize::from(number))?;
        let item = job.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((number, work(item)))
    });
    done.sort_by_key(|outcome| outcome.as_ref().map(|(number, _)| *number));
    done.into_iter()
        .flatten()
        .map(|(_, outcome)| outcome)
        .collect()
}

impl Bucket {
    /// The bucket with what is new folded in, and the rows that were.
    fn advanced(mut self, run: &Run<'_>) -> Result<(Self, u64), QueryError> {
        for unit in &self.gone {
            self.state.forget(*unit)?;
        }
        let units = run.units(self.number);
        let news = match self.news.take() {
            None => run.blocks(self.number)?,
            Some(news) => news,
        };
        let rows = news.iter().map(|(_, block)| block.len() as u64).sum();
        let (mut exposures, mut events) = own(run, self.number, &news);
        exposures.append(&mut self.persons.exposures);
        events.extend(self.persons.events(0));
        let dirty = self.state.advance(units, &exposures, events)?;
        self.dirty.extend(dirty);
        Ok((self, rows))
    }

    /// The state after its dirty units have been run again; `persons` is everything there is of
    /// the dirty ones of several units.
    fn run_again(mut self, run: &Run<'_>, persons: &Persons) -> Result<MetricState, QueryError> {
        if self.dirty.is_empty() {
            return Ok(self.state);
        }
        let is_own = |unit: &u32| !run.is_merged(self.number, *unit);
        let all = match self.dirty.iter().any(is_own) {
            true => run.blocks(self.number)?,
            false => Vec::new(),
        };
        let (mut exposures, mut events) = own(run, self.number, &all);
        exposures.extend(&persons.exposures);
        events.extend(persons.events(0));
        self.state.run_again(&self.dirty, &exposures, events)?;
        Ok(self.state)
    }
}

/// What the units of a bucket did that are persons by themselves.
fn own(run: &Run<'_>, bucket: u16, days: &DayBlocks) -> (Vec<ExposureEvent>, Vec<ClassifiedEvent>) {
    let merged = run.merged_in(bucket);
    let classifier = run.classifier();
    let filters = 0..run.query.filters().len();
    let events = days.iter();
    let events = events.flat_map(|(_, block)| classifier.events(block, &filters));
    (
        run.own_exposures(bucket, days),
        events.filter(|event| !is_set(merged, event.unit)).collect(),
    )
}
