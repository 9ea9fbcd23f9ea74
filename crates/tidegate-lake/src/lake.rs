//! The lake as the server sees it: take events, answer questions, keep house.

use crate::columns::{
    AliasReport, ColumnError, ColumnOptions, ColumnStore, CompactionReport, ErasureReceipt, Hidden,
    VerifyReport, error_text,
};
use crate::io::LakeIo;
use crate::live::{LiveError, LiveFeed, LiveFollower};
use crate::log::{
    AppendError, Appended, CommitSink, Committed, EventLog, LogError, LogHealth, LogOptions, NoSink,
};
use crate::query::{self, Asking, KeptMemory, KeptMetrics, QueryError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tidegate_metrics::{Answer, Event, LiveLimits, PhaseCounts, Query, Watermark};
use tokio::sync::oneshot;

/// Bytes of metrics kept up between answers, where nothing is shared.
const KEPT_BYTES: usize = 256 << 20;

/// Of questions nobody gives up.
static NEVER: AtomicBool = AtomicBool::new(false);

/// How the lake behaves.
#[derive(Debug, Clone, Default)]
pub struct LakeOptions {
    /// The log.
    pub log: LogOptions,
    /// The live aggregates.
    pub live: LiveLimits,
    /// The columnar files.
    pub columns: ColumnOptions,
}

/// Why the lake cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The live aggregates.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The columnar files.
    #[error(transparent)]
    Columns(#[from] ColumnError),
    /// The directory.
    #[error("make {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What takes events: the durable log, and the live aggregates that follow it. It opens fast and
/// needs no columnar file, so that damage there never stops events or guards.
#[derive(Debug)]
pub struct Intake {
    // Dropped in this order: the log first, which ends the feed the follower waits for.
    log: EventLog,
    live: LiveFollower,
}

/// One project's events: what takes them, and the files that answer questions about them.
#[derive(Debug)]
pub struct Lake {
    intake: Arc<Intake>,
    columns: ColumnStore,
    kept: KeptMetrics,
    /// Held while old events are read, so that the log is not given up under the reader.
    reading: RwLock<()>,
    /// One at a time among those who erase.
    erasing: Mutex<()>,
}

/// The live aggregates, and whoever else follows the log.
struct Both(LiveFeed, Box<dyn CommitSink>);

impl CommitSink for Both {
    fn committed(&mut self, stretch: &Arc<Committed>) {
        self.1.committed(stretch);
        self.0.committed(stretch);
    }
}

impl Intake {
    /// Opens or makes log and live aggregates in a lake's directory. `sink` follows the log too;
    /// see [`CommitSink`]. The live aggregates may still be catching up on return.
    ///
    /// # Errors
    /// [`OpenError`] if the disk fails or acknowledged data is damaged.
    pub fn open(
        io: &Arc<dyn LakeIo>,
        dir: &Path,
        options: &LakeOptions,
        sink: Box<dyn CommitSink>,
    ) -> Result<Self, OpenError> {
        io.create_dir_all(dir)
            .map_err(|source| OpenError::Directory {
                path: dir.to_owned(),
                source,
            })?;
        let (live, feed) = LiveFollower::open(Arc::clone(io), dir, options.live.clone())?;
        let log = EventLog::open(
            Arc::clone(io),
            &dir.join("log"),
            options.log.clone(),
            Box::new(Both(feed, sink)),
        )?;
        Ok(Self { log, live })
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// The live aggregates.
    #[must_use]
    pub fn live(&self) -> &LiveFollower {
        &self.live
    }
}

/// Up to where answers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covered {
    /// Every event below this ingest sequence is covered.
    pub sequence: u64,
    /// When the newest of them was received, microseconds since 1970; none if there is none.
    pub received_until_us: Option<i64>,
}

impl Covered {
    fn asking(self, threads: usize, given_up: &AtomicBool) -> Asking<'_> {
        Asking {
            threads,
            acknowledged: self.sequence,
            received_until_us: self.received_until_us,
            given_up,
        }
    }
}

/// What housekeeping did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Housekeeping {
    /// Events moved from the log into files.
    pub events: u64,
    /// The log holds nothing below this sequence any more, but for the segment being written.
    pub trimmed_to: u64,
}

/// Why housekeeping failed; what it had not reached stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum HousekeepingError {
    /// The columnar files.
    #[error(transparent)]
    Columns(#[from] ColumnError),
    /// The live aggregates.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The log.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// A unit is hidden and something of it is still on disk.
    #[error("the unit is hidden, and rewriting it away is not finished; housekeeping goes on")]
    Unfinished,
}

impl Lake {
    /// Opens or makes a lake in a directory. Returns when everything durable is counted.
    ///
    /// # Errors
    /// [`OpenError`] if the disk fails or acknowledged data is damaged.
    pub fn open(io: Arc<dyn LakeIo>, dir: &Path, options: LakeOptions) -> Result<Self, OpenError> {
        let intake = Intake::open(&io, dir, &options, Box::new(NoSink))?;
        intake.live.wait_until(intake.log.next_sequence());
        Ok(Self::over(Arc::new(intake), io, dir, options.columns)?)
    }

    /// Opens the columnar files beside a log that is open already.
    ///
    /// # Errors
    /// [`ColumnError`] if the disk fails, what is stored is damaged, or the log ends before the
    /// files do, as after a restore of one without the other.
    pub fn over(
        intake: Arc<Intake>,
        io: Arc<dyn LakeIo>,
        dir: &Path,
        options: ColumnOptions,
    ) -> Result<Self, ColumnError> {
        let kept = options.kept_memory.clone();
        let kept = kept.unwrap_or_else(|| KeptMemory::new(KEPT_BYTES));
        let columns = ColumnStore::open(io, dir, options)?;
        let (flushed, next) = (columns.state().flushed_sequence, intake.log.next_sequence());
        if flushed > next {
            let detail = format!(
                "files hold events up to sequence {flushed}, but the log beside them ends at {next}"
            );
            return Err(ColumnError::damaged(&dir.join("log"), detail));
        }
        Ok(Self {
            intake,
            columns,
            kept: KeptMetrics::of_lake(kept),
            reading: RwLock::default(),
            erasing: Mutex::default(),
        })
    }

    /// Appends a batch and waits until it is durable; see [`EventLog::append`].
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&self, events: Vec<Event>) -> Result<Appended, AppendError> {
        self.intake.log.append(events)
    }

    /// Hands a batch over without waiting; see [`EventLog::submit`].
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn submit(
        &self,
        events: Vec<Event>,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        self.intake.log.submit(events)
    }

    /// Begins a phase of a flag now; counts for guards start anew. `phase` is unique within the
    /// flag, and repeating a call returns the same sequence. The mark is durable on return.
    ///
    /// # Errors
    /// [`LiveError`] if the ladder cannot be used or the disk fails.
    pub fn mark_phase(
        &self,
        flag: &str,
        phase: &str,
        ladder_ms: Vec<f64>,
    ) -> Result<u64, LiveError> {
        let durable = self.intake.log.next_sequence();
        self.intake.live.mark_phase(flag, phase, ladder_ms, durable)
    }

    /// The counts of one phase of a flag, or of its current phase. `None` is "no data".
    #[must_use]
    pub fn guard_counts(&self, flag: &str, phase: Option<&str>) -> Option<PhaseCounts> {
        self.intake.live.guard_counts(flag, phase)
    }

    /// How far the live counts reach.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.intake.live.watermark()
    }

    /// The live aggregates.
    #[must_use]
    pub fn live(&self) -> &LiveFollower {
        &self.intake.live
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &EventLog {
        &self.intake.log
    }

    /// Moves what is in the log now into files, so that every question sees it; what is
    /// acknowledged meanwhile may stay. Cheap if there is nothing to move; meant to be called
    /// every second or two.
    ///
    /// # Errors
    /// [`ColumnError`]; the log still holds what was not moved.
    pub fn flush(&self) -> Result<u64, ColumnError> {
        self.flush_until(self.intake.log.next_sequence())
    }

    /// The same; says what is in files now.
    ///
    /// # Errors
    /// As [`Lake::flush`].
    pub fn flush_acknowledged(&self) -> Result<Covered, ColumnError> {
        let acknowledged = self.acknowledged();
        self.flush_until(acknowledged.sequence)?;
        Ok(acknowledged)
    }

    fn flush_until(&self, acknowledged: u64) -> Result<u64, ColumnError> {
        let mut events = 0;
        loop {
            let flushed = self.columns.flush(&self.intake.log)?;
            events += flushed.events;
            // Going on until nothing is left would never end while events keep coming.
            if flushed.events == 0 || flushed.through_sequence >= acknowledged {
                return Ok(events);
            }
        }
    }

    /// Flushes, checkpoints the live aggregates, completes erasures that were interrupted, and
    /// gives up the log that nobody needs any more. Meant to be called every minute or so: it
    /// bounds the log and the time a start takes.
    ///
    /// # Errors
    /// [`HousekeepingError`]; nothing is lost, and calling again goes on.
    pub fn keep_house(&self) -> Result<Housekeeping, HousekeepingError> {
        let events = self.flush()?;
        let counted = self.intake.live.checkpoint()?;
        if self.columns.pending_erasures() > 0 {
            self.finish_erasures(None)?;
        }
        let trimmed_to = counted.min(self.columns.state().flushed_sequence);
        // A reader of old events needs the log as it is; the next round trims it.
        if let Ok(_alone) = self.reading.try_write() {
            self.intake.log.trim(trimmed_to)?;
        }
        Ok(Housekeeping { events, trimmed_to })
    }

    /// Merges files that have piled up; see [`ColumnStore::tidy`].
    ///
    /// # Errors
    /// [`ColumnError`]; what was merged before stays merged.
    pub fn tidy(&self, first_open_day: i64) -> Result<CompactionReport, ColumnError> {
        self.columns.tidy(first_open_day)
    }

    /// Reads events from an ingest sequence on, in order, until the end as of now or until `each`
    /// answers `false`: out of the files what the log has given up, then out of the log. What was
    /// erased, expired or dropped as a copy is missing from the sequence.
    ///
    /// # Errors
    /// [`ColumnError`] if the disk fails or what is stored is damaged.
    pub fn read_from(
        &self,
        sequence: u64,
        each: &mut dyn FnMut(Committed) -> bool,
    ) -> Result<(), ColumnError> {
        let _held = self.reading.read().unwrap_or_else(PoisonError::into_inner);
        let first = self.intake.log.first_sequence()?;
        if sequence < first && !self.columns.replay(sequence..first, each)? {
            return Ok(());
        }
        Ok(self.intake.log.read_from(sequence.max(first), each)?)
    }

    /// Answers a question, with up to so many threads. What is acknowledged is flushed first, so
    /// that the answer covers it; if that fails, the answer's watermark says what is missing.
    ///
    /// # Errors
    /// [`QueryError`] if the question cannot be answered as it is put, or the disk fails.
    pub fn answer(&self, query: &Query, threads: usize) -> Result<Answer, QueryError> {
        self.answer_flushed(query, threads, self.flush_or_warn(), &NEVER)
    }

    /// Answers from what is in files already, unless whoever asked gives up meanwhile. `covered`
    /// is what [`Lake::flush_acknowledged`] said before: several questions may be asked after one
    /// flush, and a thread that gives way never holds the files' lock.
    ///
    /// # Errors
    /// As [`Lake::answer`], and [`QueryError::GivenUp`].
    pub fn answer_flushed(
        &self,
        query: &Query,
        threads: usize,
        covered: Covered,
        given_up: &AtomicBool,
    ) -> Result<Answer, QueryError> {
        let asking = covered.asking(threads, given_up);
        self.without_damage(|| query::answer(&self.columns, &self.kept, query, asking))
    }

    /// Asks until no damaged file is in the way: each time around, one more has been set apart.
    fn without_damage<T>(&self, ask: impl Fn() -> Result<T, QueryError>) -> Result<T, QueryError> {
        loop {
            match ask() {
                Err(QueryError::Columns(error)) if self.columns.goes_without(&error) => {}
                answered => return answered,
            }
        }
    }

    /// Answers as [`Lake::answer`] does, from everything the question is about, whatever was kept
    /// from earlier answers. Slower, and equal: the nightly check of what is kept.
    ///
    /// # Errors
    /// As [`Lake::answer`].
    pub fn answer_in_full(&self, query: &Query, threads: usize) -> Result<Answer, QueryError> {
        let asking = self.flush_or_warn().asking(threads, &NEVER);
        self.without_damage(|| query::answer_in_full(&self.columns, query, asking))
    }

    fn flush_or_warn(&self) -> Covered {
        let acknowledged = self.acknowledged();
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "an answer lacks the newest events: they cannot be flushed");
        }
        acknowledged
    }

    fn acknowledged(&self) -> Covered {
        let sequence = self.intake.log.next_sequence();
        self.intake.live.wait_until(sequence);
        let received_us = self.intake.live.watermark().received_us;
        Covered {
            sequence,
            received_until_us: (received_us > 0).then_some(received_us),
        }
    }

    /// Makes units one person, each pair `(unit, into)` by itself: whatever the first did or will
    /// do is the other's in every answer from now on. Durable on return; asking again changes
    /// nothing.
    ///
    /// # Errors
    /// [`ColumnError`]; nothing is merged.
    pub fn merge_units(&self, pairs: &[(Box<str>, Box<str>)]) -> Result<AliasReport, ColumnError> {
        self.columns.merge_units(pairs)
    }

    /// Takes merges back: each unit is a person again, with what was merged into it.
    ///
    /// # Errors
    /// [`ColumnError`]; everything stays merged.
    pub fn unmerge_units(&self, units: &[Box<str>]) -> Result<AliasReport, ColumnError> {
        self.columns.unmerge_units(units)
    }

    /// Erases a unit, and all units of its person, from files, dictionary and log; `None` if it was
    /// never seen. It is hidden
    /// from every answer at once. Live aggregates hold counts and 64-bit hashes of units, no
    /// names.
    ///
    /// # Errors
    /// [`HousekeepingError`]; if the unit was hidden already, it stays so, and housekeeping or
    /// another call completes what was begun.
    pub fn erase_unit(&self, unit: &str) -> Result<Option<ErasureReceipt>, HousekeepingError> {
        self.flush()?;
        let Some(hidden) = self.columns.hide(unit)? else {
            return Ok(None);
        };
        let receipt = self.finish_erasures(Some(hidden))?;
        receipt.map(Some).ok_or(HousekeepingError::Unfinished)
    }

    /// The names of all units that an erasure of a unit erases: those of its person, its own first.
    #[must_use]
    pub fn person_of(&self, unit: &str) -> Vec<Box<str>> {
        self.columns.person_of(unit)
    }

    fn finish_erasures(
        &self,
        hidden: Option<Hidden>,
    ) -> Result<Option<ErasureReceipt>, HousekeepingError> {
        let _turn = self.erasing.lock().unwrap_or_else(PoisonError::into_inner);
        let Intake { log, live } = self.intake.as_ref();
        let sealed = log.seal()?;
        self.flush()?;
        live.wait_until(sealed);
        let counted = live.checkpoint()?;
        let rewritten = loop {
            match self.columns.rewrite_erased() {
                Err(error) if self.columns.goes_without(&error) => {}
                rewritten => break rewritten?,
            }
        };
        {
            let _alone = self.reading.write().unwrap_or_else(PoisonError::into_inner);
            log.forget_below(sealed.min(counted))?;
        }
        let columns = &self.columns;
        Ok(columns.complete_erasures(log, &rewritten, sealed, hidden)?)
    }

    /// Reads everything again and checks it. `progress` is told files done and files in all.
    ///
    /// # Errors
    /// [`ColumnError`] if the log cannot be listed; faults of the data are in the report.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<VerifyReport, ColumnError> {
        self.columns.verify(Some(&self.intake.log), progress)
    }

    /// Reads everything in a lake's directory that no process uses, and checks it. Whatever keeps
    /// a part from being opened is a problem in the report, and the rest is read all the same.
    ///
    /// # Errors
    /// [`ColumnError`] if the log cannot be listed.
    pub fn verify_closed(
        io: &Arc<dyn LakeIo>,
        dir: &Path,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<VerifyReport, ColumnError> {
        let mut problems = Vec::new();
        let log_dir = dir.join("log");
        let options = LogOptions::default();
        let log = EventLog::open(Arc::clone(io), &log_dir, options, Box::new(NoSink));
        let log = log.map_err(|error| problems.push(error_text(&error))).ok();
        let columns = ColumnStore::open(Arc::clone(io), dir, ColumnOptions::default());
        let columns = columns
            .map_err(|error| problems.push(error_text(&error)))
            .ok();
        let mut report = match (&columns, &log) {
            (Some(columns), log) => columns.verify(log.as_ref(), progress)?,
            (None, Some(log)) => VerifyReport {
                events: log.recovery().events,
                log_segments: log.segments()?,
                ..VerifyReport::default()
            },
            (None, None) => VerifyReport::default(),
        };
        report.add_problems(problems);
        Ok(report)
    }

    /// The columnar files.
    #[must_use]
    pub fn columns(&self) -> &ColumnStore {
        &self.columns
    }

    /// Whether events are taken.
    #[must_use]
    pub fn health(&self) -> LogHealth {
        self.intake.log.health()
    }
}
