//! Metric sources of others: Prometheus and plain HTTP, read beside the planner and never by it.
//!
//! A task polls what running rollouts are guarded by, each source in its own time with backoff; the
//! planner looks at what was read last. What an outage, a partial answer, NaN or a counter that
//! runs backwards leads to is in [`answer`] and [`meter`]: no data or a dropped sample, never harm,
//! and the report shows what was asked and what came back.
//!
//! Counters of requests presume that requests fail independently. So a source may hold a rollout,
//! and may roll it back only after its [`self_test`] has passed in its present revision.
//!
//! Closed blocks are kept in a stream of the rollout's project, with the reading that closed them:
//! a restart goes on counting where it was, and so does a self-test under way.

pub mod answer;
pub mod meter;
pub mod poll;
mod proof;
pub mod self_test;
pub mod spec;
pub mod tally;
mod task;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_rollout::{ArmCounts, GuardObservation, Observations, RolloutSpec, SourceStatus};

use super::{GuardSource, Name};
use serde_json::Value;

use crate::app::{App, AppError};
use poll::{Counted, Fault};
pub(super) use proof::{Proof, insist, prove};
use spec::SourceSpec;
use tally::{Closed, Outcome, Tally};
pub(crate) use task::run;
pub use task::{read_due, resume_self_tests};

/// Longest pause between two tries of a source that fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// One series of readings: a rollout's guard, or a self-test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    /// The rollout or self-test it is read for.
    pub(crate) of: Name,
    /// Key of the source.
    pub(crate) source: String,
    /// What it is read for.
    pub(crate) is_self_test: bool,
}

/// What is known of one series.
#[derive(Debug)]
pub(crate) struct Tracked {
    /// The variants asked about: treatment, then control.
    pub(crate) arms: (String, String),
    /// When the rollout or test began; blocks of an earlier run are not its own.
    pub(crate) since_us: i64,
    /// Whether blocks kept before a restart were taken up.
    pub(crate) is_restored: bool,
    pub(crate) tally: Tally,
    pub(crate) status: SourceStatus,
    /// When the newest good reading was asked for.
    pub(crate) as_of_us: i64,
    /// When requests were last counted.
    pub(crate) last_traffic_us: Option<i64>,
    /// The definition last read, with its revision.
    pub(crate) source: Option<(u64, SourceSpec)>,
    /// Whether the present revision passed its self-test.
    pub(crate) passed: bool,
    failures_in_a_row: u32,
    /// When it is due, by the monotonic clock.
    due: Duration,
    is_being_read: bool,
    /// Requests counted when each phase began.
    marks: Vec<ArmCounts>,
}

/// Every series that is read.
#[derive(Debug, Default)]
pub struct Sources {
    table: Mutex<BTreeMap<Series, Tracked>>,
    /// What sources answered when they were last asked before a start, by project and key.
    answers: Mutex<BTreeMap<Name, (i64, Counted)>>,
}

/// The most sources whose answers are remembered.
const MOST_ANSWERS: usize = 1_000;

impl Series {
    fn of_guard(rollout: &Name, source: &str) -> Self {
        Self {
            of: rollout.clone(),
            source: source.to_owned(),
            is_self_test: false,
        }
    }
}

impl Tracked {
    fn new(arms: (&str, &str), since_us: i64) -> Self {
        Self {
            arms: (arms.0.to_owned(), arms.1.to_owned()),
            since_us,
            is_restored: false,
            tally: Tally::default(),
            status: not_read_yet(),
            as_of_us: 0,
            last_traffic_us: None,
            source: None,
            passed: false,
            failures_in_a_row: 0,
            due: Duration::ZERO,
            is_being_read: false,
            marks: Vec::new(),
        }
    }

    /// Notes that nothing usable came back.
    pub(crate) fn note_fault(&mut self, fault: Fault) {
        let Fault {
            is_impossible,
            query,
            response,
        } = fault;
        if is_impossible {
            self.tally.drop_reading();
            if self.tally.is_doubtful() {
                let reason = format!("asked {query:?}, got {response}");
                self.status = SourceStatus::Untrustworthy { reason };
            }
            return;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.status = SourceStatus::Failed { query, response };
    }

    /// Takes what was answered to a question of `at_us`, and notes what became of it.
    pub(crate) fn take(&mut self, counted: &Counted, at_us: i64) -> Outcome {
        let before = self.tally.requests().total();
        let outcome = self.tally.take(counted);
        if self.tally.requests().total() > before {
            self.last_traffic_us = Some(at_us);
        }
        self.note(&outcome, at_us);
        outcome
    }

    fn note(&mut self, outcome: &Outcome, at_us: i64) {
        self.failures_in_a_row = 0;
        match outcome {
            Outcome::Dropped(why) if self.tally.is_doubtful() => {
                let reason = format!("reading after reading was dropped: {why}");
                self.status = SourceStatus::Untrustworthy { reason };
            }
            // It answers, so it is not silent; that it is not newer shows in its age.
            Outcome::Dropped(_) => self.status = SourceStatus::Ok,
            Outcome::Baseline | Outcome::Counted(_) => {
                self.status = SourceStatus::Ok;
                self.as_of_us = at_us;
            }
            Outcome::NotYet(why) => {
                self.status = SourceStatus::Failed {
                    query: "the thresholds of the histogram".to_owned(),
                    response: why.clone(),
                };
            }
        }
    }

    /// Phases that have begun.
    pub(crate) fn phases(&self) -> usize {
        self.marks.len()
    }

    /// Takes up blocks that were closed together in the `phase`-th phase, from 1, before a restart.
    pub(crate) fn restore(&mut self, closed: &[Closed], phase: usize) {
        closed.iter().for_each(|closed| self.tally.restore(closed));
        let requests = closed.first().map(|closed| closed.block.requests);
        for mark in self.marks.iter_mut().skip(phase) {
            *mark = ArmCounts::sum([&*mark].into_iter().chain(&requests));
        }
    }

    fn requests_by_phase(&self) -> Vec<ArmCounts> {
        let ends = self.marks.iter().skip(1).copied();
        let ends = ends.chain([self.tally.requests()]);
        let between = |(begin, end): (&ArmCounts, ArmCounts)| ArmCounts {
            treatment: end.treatment.saturating_sub(begin.treatment),
            control: end.control.saturating_sub(begin.control),
        };
        self.marks.iter().zip(ends).map(between).collect()
    }

    /// When it is to be read again after a reading that ended at `now`.
    fn next_due(&self, now: Duration) -> Duration {
        let every = self
            .source
            .as_ref()
            .map_or(15, |(_, spec)| spec.every_seconds);
        let doublings = self.failures_in_a_row.saturating_sub(1).min(8);
        let pause = Duration::from_secs(u64::from(every)) * (1 << doublings);
        now + pause.min(LONGEST_PAUSE.max(Duration::from_secs(u64::from(every))))
    }
}

impl Sources {
    /// Begins to read a source for a rollout's guard, from nothing.
    pub(crate) fn follow(&self, rollout: &Name, source: &str, arms: (&str, &str), since_us: i64) {
        let series = Series::of_guard(rollout, source);
        self.lock().insert(series, Tracked::new(arms, since_us));
    }

    /// Notes that a phase of constant share begins.
    pub(crate) fn begin_phase(&self, rollout: &Name) {
        for (_, tracked) in self
            .lock()
            .iter_mut()
            .filter(|(series, _)| is_of(series, rollout))
        {
            let requests = tracked.tally.requests();
            tracked.marks.push(requests);
        }
    }

    /// Stops reading for a rollout.
    pub(crate) fn forget(&self, rollout: &Name) {
        self.lock().retain(|series, _| !is_of(series, rollout));
    }

    /// Puts what sources measured in the place of what the log of events could not: for guards on
    /// sources, and, where nothing else guards a rollout, requests for units.
    pub(crate) fn overlay(
        &self,
        rollout: &Name,
        spec: &RolloutSpec,
        mut observations: Observations,
    ) -> Observations {
        let source_of = |metric: &str| match GuardSource::of(metric) {
            Some(GuardSource::Source(key)) => Some(key),
            _ => None,
        };
        for observed in &mut observations.guards {
            let Some(key) = source_of(&observed.metric) else {
                continue;
            };
            match self.observation(rollout, &key, &observed.metric) {
                Some(found) => *observed = found,
                // What nobody reads must not look like a metric without failures.
                None => {
                    observed.as_of_us = 0;
                    observed.source = not_read_yet();
                }
            }
        }
        let is_all = !spec.guards.is_empty()
            && spec
                .guards
                .iter()
                .all(|guard| source_of(&guard.metric).is_some());
        if is_all {
            let requests = self.requests_by_phase(rollout);
            for (phase, requests) in observations.phases.iter_mut().zip(requests) {
                phase.exposed = requests;
            }
            observations.last_unit_us = self.last_traffic_us(rollout);
        }
        observations
    }

    fn observation(&self, rollout: &Name, source: &str, metric: &str) -> Option<GuardObservation> {
        let table = self.lock();
        let tracked = table.get(&Series::of_guard(rollout, source))?;
        Some(GuardObservation {
            metric: metric.to_owned(),
            source: tracked.status.clone(),
            as_of_us: tracked.as_of_us,
            proven: tracked.tally.has_moved(),
            dropped_samples: tracked.tally.dropped_readings(),
            measured: tracked.tally.measured(tracked.passed),
        })
    }

    fn last_traffic_us(&self, rollout: &Name) -> Option<i64> {
        let table = self.lock();
        let own = table.iter().filter(|(series, _)| is_of(series, rollout));
        own.filter_map(|(_, tracked)| tracked.last_traffic_us).max()
    }

    /// Requests of each arm in each phase, as the source with most of them counts.
    fn requests_by_phase(&self, rollout: &Name) -> Vec<ArmCounts> {
        let table = self.lock();
        let own = table.iter().filter(|(series, _)| is_of(series, rollout));
        let most = own.max_by_key(|(_, tracked)| tracked.tally.requests().total());
        most.map_or_else(Vec::new, |(_, tracked)| tracked.requests_by_phase())
    }

    /// Notes what a source answered, and says what it answered a second to a minute before. The older
    /// answer stays for a minute: the longer the time between two, the better a rate is known.
    fn note_answer(&self, source: Name, at_us: i64, counted: Counted) -> Option<(i64, Counted)> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = answers.get(&source).cloned();
        let age_us = |(noted_us, _): &(i64, Counted)| at_us.saturating_sub(*noted_us);
        let is_fresh = |answer: &(i64, Counted)| (0..60_000_000).contains(&age_us(answer));
        if !before.as_ref().is_some_and(is_fresh) {
            if answers.len() >= MOST_ANSWERS {
                answers.clear();
            }
            answers.insert(source, (at_us, counted));
        }
        before.filter(|before| age_us(before) >= 1_000_000)
    }

    /// Works on one series, if it is still followed.
    pub(crate) fn with<T>(
        &self,
        series: &Series,
        act: impl FnOnce(&mut Tracked) -> T,
    ) -> Option<T> {
        self.lock().get_mut(series).map(act)
    }

    /// Takes every series that is due, so that nobody else reads it meanwhile.
    fn take_due(&self, now: Duration) -> Vec<Series> {
        let mut table = self.lock();
        let is_due = |tracked: &Tracked| !tracked.is_being_read && tracked.due <= now;
        let mut due = Vec::new();
        for (series, tracked) in table.iter_mut().filter(|(_, tracked)| is_due(tracked)) {
            tracked.is_being_read = true;
            due.push(series.clone());
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Series, Tracked>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_read_yet() -> SourceStatus {
    SourceStatus::Failed {
        query: "nothing yet".to_owned(),
        response: "the source has not been read yet".to_owned(),
    }
}

fn is_of(series: &Series, rollout: &Name) -> bool {
    !series.is_self_test && series.of == *rollout
}

/// Checks a source's definition, and that its address may be reached.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn validate(app: &App, spec: &Value) -> Result<(), AppError> {
    let source = SourceSpec::from_json(spec).map_err(AppError::Invalid)?;
    let admitted = app.operations.egress.admit(&source.sample_url());
    admitted
        .map(|_| ())
        .map_err(|error| AppError::invalid("/url", "bad-source", error.to_string()))
}
