//! Metrics kept up from one answer to the next: a refresh reads what is new.
//!
//! Per metric, flag and days there is one state per bucket (`MetricState` decides what can be
//! folded in and what must be run again) and the ingest sequence it has seen everything below of.
//! A refresh reads the rows above it, folds them in, and runs the dirty units again over their
//! buckets' rows. Units erased since are forgotten. If days have expired, or a refresh failed
//! half-way, the state is made anew.
//!
//! States are held within a budget of bytes; the one asked for longest ago goes first. Nothing is
//! kept on disk: after a start the first answer reads everything, and is the same.

use super::names::Names;
use super::{Grouping, QueryError, Run, per_bucket};
use crate::columns::{ColumnStore, DayBlocks, NewRows};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_metrics::{
    Answer, ClassifiedEvent, ExposureEvent, Findings, MetricDefinition, MetricState, Query,
    summarise_states,
};

/// The metrics of a lake that are kept up.
#[derive(Debug)]
pub(crate) struct KeptMetrics {
    budget: usize,
    held: Mutex<Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    question: String,
    metric: Arc<Mutex<Kept>>,
    bytes: usize,
}

impl KeptMetrics {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget,
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings a metric up to date and says what it is.
    pub(super) fn answer(
        &self,
        store: &ColumnStore,
        query: &Query,
        threads: usize,
        acknowledged: u64,
    ) -> Result<Answer, QueryError> {
        // A definition that cannot be written down cannot be told from another either.
        let Ok(question) = serde_json::to_string(query) else {
            return super::answer_in_full(store, query, threads, acknowledged);
        };
        let metric = self.find(&question);
        let mut kept = metric.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = kept.answer(store, query, threads, acknowledged);
        if answer.is_err() {
            *kept = Kept::default();
        }
        let bytes = kept.heap_bytes();
        drop(kept);
        self.note(&question, bytes);
        answer
    }

    /// The state of a question, new or known; it is the youngest from now on.
    fn find(&self, question: &str) -> Arc<Mutex<Kept>> {
        let mut held = self.held();
        let known = held.iter().position(|entry| entry.question == question);
        let entry = match known {
            Some(at) => held.remove(at),
            None => Held {
                question: question.to_owned(),
                metric: Arc::default(),
                bytes: 0,
            },
        };
        let metric = Arc::clone(&entry.metric);
        held.push(entry);
        metric
    }

    fn note(&self, question: &str, bytes: usize) {
        let mut held = self.held();
        for entry in held.iter_mut().filter(|entry| entry.question == question) {
            entry.bytes = bytes;
        }
        let mut all: usize = held.iter().map(|entry| entry.bytes).sum();
        while all > self.budget && !held.is_empty() {
            all -= held.remove(0).bytes;
        }
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
    erased: BTreeSet<(u16, u32)>,
    /// How often days had been dropped by then.
    expiries: u64,
    /// Rows folded in.
    events: u64,
}

/// What is new in a bucket, and what is to be known of it.
struct Bucket {
    number: u16,
    state: MetricState,
    news: Vec<(i64, NewRows)>,
    erased: Vec<u32>,
}

impl Kept {
    fn heap_bytes(&self) -> usize {
        self.buckets.iter().map(MetricState::heap_bytes).sum()
    }

    fn answer(
        &mut self,
        store: &ColumnStore,
        query: &Query,
        threads: usize,
        acknowledged: u64,
    ) -> Result<Answer, QueryError> {
        let Query::UnitMetric { metric, by, .. } = query else {
            return super::answer_in_full(store, query, threads, acknowledged);
        };
        let state = store.state();
        if self.expiries != state.expiries {
            *self = Self::default();
        }
        let names = self.names.copy();
        let run = Run::over(store, &state, query, &names);
        self.refresh(&run, metric, by, threads)?;
        self.expiries = state.expiries;
        let (end_us, data_end_us) = (run.end_us, run.data_end_us());
        let numbered = (0u64..).map(|bucket| bucket << 32).zip(&self.buckets);
        let states: Vec<(u64, &MetricState)> = numbered.collect();
        let mut findings = Findings::UnitMetric(summarise_states(metric, &states, end_us)?);
        self.names = names.copy();
        Ok(Answer {
            names: names.sorted_into(&mut findings),
            findings,
            watermark: state.flushed_sequence,
            acknowledged,
            data_end_us,
            events: self.events,
        })
    }

    /// Folds in everything between the watermark and the lake's.
    fn refresh(
        &mut self,
        run: &Run<'_>,
        metric: &MetricDefinition,
        by: &Grouping,
        threads: usize,
    ) -> Result<(), QueryError> {
        let state = run.state;
        let is_new = self.buckets.is_empty();
        if !is_new && self.watermark == state.flushed_sequence && self.erased == state.erased {
            return Ok(());
        }
        let mut news = match is_new {
            true => BTreeMap::new(),
            false => {
                let with_properties = run.with_properties();
                run.store
                    .rows_since(state, &run.days, self.watermark, with_properties)?
            }
        };
        let mut erased: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
        for (bucket, unit) in state.erased.difference(&self.erased) {
            erased.entry(*bucket).or_default().push(*unit);
        }
        let mut states = std::mem::take(&mut self.buckets).into_iter();
        let jobs: Vec<Mutex<Option<Bucket>>> = (0..state.buckets)
            .map(|number| {
                Mutex::new(Some(Bucket {
                    number,
                    state: states.next().unwrap_or_else(|| MetricState::new(metric)),
                    news: news.remove(&number).unwrap_or_default(),
                    erased: erased.remove(&number).unwrap_or_default(),
                }))
            })
            .collect();
        let done = per_bucket(state.buckets, threads, Vec::new, |refreshed, number| {
            let job = jobs.get(usize::from(number)).map(|job| {
                let mut job = job.lock().unwrap_or_else(PoisonError::into_inner);
                job.take()
            });
            if let Some(bucket) = job.flatten() {
                refreshed.push(bucket.refreshed(run, by, is_new)?);
            }
            Ok::<(), QueryError>(())
        })?;
        let mut refreshed: Vec<(u16, MetricState, u64)> = done.into_iter().flatten().collect();
        refreshed.sort_by_key(|(number, _, _)| *number);
        self.events += refreshed.iter().map(|(_, _, rows)| rows).sum::<u64>();
        self.buckets = refreshed.into_iter().map(|(_, state, _)| state).collect();
        self.watermark = state.flushed_sequence;
        self.erased.clone_from(&state.erased);
        Ok(())
    }
}

impl Bucket {
    /// The state after what is new, with the bucket's number and the rows folded in.
    fn refreshed(
        mut self,
        run: &Run<'_>,
        by: &Grouping,
        is_new: bool,
    ) -> Result<(u16, MetricState, u64), QueryError> {
        for unit in &self.erased {
            self.state.forget(*unit)?;
        }
        let units = run.units(self.number);
        let news = match is_new {
            true => run.blocks(self.number)?,
            false => {
                let news = self.news.into_iter();
                news.map(|(day, rows)| (day, Arc::new(rows.in_order())))
                    .collect()
            }
        };
        let rows = news.iter().map(|(_, block)| block.len() as u64).sum();
        let exposures = run.exposures(by, &news);
        let events = classified(run, &news);
        let dirty = self.state.advance(units, &exposures, events)?;
        if !dirty.is_empty() {
            let all = run.blocks(self.number)?;
            let exposures: Vec<ExposureEvent> = run.exposures(by, &all);
            let events = classified(run, &all);
            self.state.run_again(&dirty, &exposures, events)?;
        }
        Ok((self.number, self.state, rows))
    }
}

/// The rows as a fold needs them.
fn classified(run: &Run<'_>, days: &DayBlocks) -> impl Iterator<Item = ClassifiedEvent> {
    let classifier = run.classifier();
    let filters = 0..run.query.filters().len();
    let days = days.iter();
    days.flat_map(move |(_, block)| classifier.events(block, &filters))
}
