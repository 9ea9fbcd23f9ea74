//! The lake as the server sees it: take events, answer questions, keep house.

use crate::io::LakeIo;
use crate::live::{LiveError, LiveFollower};
use crate::log::{AppendError, Appended, EventLog, LogError, LogHealth, LogOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate_metrics::{Event, LiveLimits, PhaseCounts, Watermark};
use tokio::sync::oneshot;

/// How the lake behaves.
#[derive(Debug, Clone, Default)]
pub struct LakeOptions {
    /// The log.
    pub log: LogOptions,
    /// The live aggregates.
    pub live: LiveLimits,
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
    /// The directory.
    #[error("make {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// One project's events: the durable log and everything that follows it.
#[derive(Debug)]
pub struct Lake {
    // Dropped in this order: the log first, which ends the feed the follower waits for.
    log: EventLog,
    live: LiveFollower,
}

impl Lake {
    /// Opens or makes a lake in a directory. Returns when everything durable is counted.
    ///
    /// # Errors
    /// [`OpenError`] if the disk fails or acknowledged data is damaged.
    pub fn open(io: Arc<dyn LakeIo>, dir: &Path, options: LakeOptions) -> Result<Self, OpenError> {
        io.create_dir_all(dir)
            .map_err(|source| OpenError::Directory {
                path: dir.to_owned(),
                source,
            })?;
        let (live, feed) = LiveFollower::open(Arc::clone(&io), dir, options.live)?;
        let log = EventLog::open(io, &dir.join("log"), options.log, Box::new(feed))?;
        live.wait_until(log.next_sequence());
        Ok(Self { log, live })
    }

    /// Appends a batch and waits until it is durable; see [`EventLog::append`].
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&self, events: Vec<Event>) -> Result<Appended, AppendError> {
        self.log.append(events)
    }

    /// Hands a batch over without waiting; see [`EventLog::submit`].
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn submit(
        &self,
        events: Vec<Event>,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        self.log.submit(events)
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
        let durable = self.log.next_sequence();
        self.live.mark_phase(flag, phase, ladder_ms, durable)
    }

    /// The counts of one phase of a flag, or of its current phase. `None` is "no data".
    #[must_use]
    pub fn guard_counts(&self, flag: &str, phase: Option<&str>) -> Option<PhaseCounts> {
        self.live.guard_counts(flag, phase)
    }

    /// How far the live counts reach.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.live.watermark()
    }

    /// The live aggregates.
    #[must_use]
    pub fn live(&self) -> &LiveFollower {
        &self.live
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// Whether events are taken.
    #[must_use]
    pub fn health(&self) -> LogHealth {
        self.log.health()
    }
}
