//! Live aggregates kept up with the log: followed, checkpointed, rebuilt.
//!
//! A thread of its own applies what the log has made durable, through a bounded queue, so that a
//! commit never waits for counting unless counting is far behind. Phase marks are written to disk
//! before they take effect; a checkpoint holds the counts at one watermark. At a start the
//! checkpoint is read, the marks are set again, and the log is replayed from the watermark on:
//! the counts are then what they would have been without the stop. If the checkpoint cannot be
//! read, counting begins where the log begins and the phases concerned say that history is
//! missing.

use crate::io::LakeIo;
use crate::log::{CommitSink, Committed};
use crate::sealed::{Seal, SealError, packed};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tidegate_metrics::{LiveAggregates, LiveLimits, MarkError, PhaseCounts, PhaseMark, Watermark};

const CHECKPOINT: &str = "live.checkpoint";
const MARKS: &str = "live.marks";
const CHECKPOINT_SEAL: Seal = Seal {
    magic: *b"TGLIVE\0\0",
    version: 1,
};
const MARKS_SEAL: Seal = Seal {
    magic: *b"TGMARKS\0",
    version: 1,
};
/// How often whoever waits looks whether counting goes on.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const QUEUE: usize = 256;

/// Why live aggregates cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The phase cannot be marked.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// The disk failed.
    #[error("write {path}: {detail}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        detail: String,
    },
    /// The thread could not be started.
    #[error("start the counting thread: {detail}")]
    Thread {
        /// What the system said.
        detail: String,
    },
}

#[derive(Debug)]
struct State {
    aggregates: LiveAggregates,
    marks: Vec<PhaseMark>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    advanced: Condvar,
}

impl State {
    /// Marks that nobody needs once these counts are on disk. Those of pending and current phases
    /// are kept, in case the checkpoint is lost.
    fn closed_marks(&self) -> Vec<PhaseMark> {
        let is_closed = |mark: &&PhaseMark| {
            let counts = self.aggregates.guard_counts(&mark.flag, Some(&mark.phase));
            counts.is_some_and(|counts| counts.to_sequence.is_some())
        };
        self.marks.iter().filter(is_closed).cloned().collect()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, stretch: &Committed) {
        let mut state = self.state();
        let reached = state.aggregates.watermark().sequence;
        if stretch.first_sequence > reached {
            // Only at the start, when the log no longer reaches back to the checkpoint.
            let limits = LiveLimits::default();
            state.aggregates = LiveAggregates::starting_at(limits, stretch.first_sequence);
            let marks = state.marks.clone();
            restore_marks(&mut state.aggregates, marks);
        }
        state
            .aggregates
            .apply(&stretch.events, stretch.first_sequence);
        drop(state);
        self.advanced.notify_all();
    }
}

/// Live aggregates that follow a log.
#[derive(Debug)]
pub struct LiveFollower {
    io: Arc<dyn LakeIo>,
    dir: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// One checkpoint is written at a time.
    checkpointing: Mutex<()>,
    checkpoint_problem: Option<String>,
}

/// The end of the follower that the log feeds.
pub(crate) struct LiveFeed(SyncSender<Arc<Committed>>);

impl CommitSink for LiveFeed {
    fn committed(&mut self, stretch: &Arc<Committed>) {
        if self.0.send(Arc::clone(stretch)).is_err() {
            tracing::error!("live aggregates stopped counting; guards will report stale counts");
        }
    }
}

fn restore_marks(aggregates: &mut LiveAggregates, marks: Vec<PhaseMark>) {
    for mark in marks {
        let (flag, phase) = (mark.flag.clone(), mark.phase.clone());
        // A mark below the watermark is already part of the checkpoint.
        let is_counted = mark.at_sequence < aggregates.watermark().sequence
            && aggregates.guard_counts(&flag, Some(&phase)).is_some();
        if !is_counted && let Err(error) = aggregates.mark_phase(mark) {
            tracing::error!(
                flag.key = %flag,
                phase = %phase,
                error = %error,
                "a phase mark could not be restored"
            );
        }
    }
}

impl LiveFollower {
    /// Reads checkpoint and marks, and starts counting what the feed brings.
    pub(crate) fn open(
        io: Arc<dyn LakeIo>,
        dir: &Path,
        limits: LiveLimits,
    ) -> Result<(Self, LiveFeed), LiveError> {
        let mut checkpoint_problem = None;
        let mut note = |what: &str, error: SealError| {
            let problem = format!("{what} cannot be read: {error}");
            tracing::error!(file = what, error = %error, "live aggregates begin without it");
            checkpoint_problem = Some(problem);
        };
        let mut aggregates = match CHECKPOINT_SEAL.read(io.as_ref(), &dir.join(CHECKPOINT)) {
            Ok(found) => found.unwrap_or_else(|| LiveAggregates::new(limits)),
            Err(error) => {
                note(CHECKPOINT, error);
                LiveAggregates::new(limits)
            }
        };
        let marks: Vec<PhaseMark> = match MARKS_SEAL.read(io.as_ref(), &dir.join(MARKS)) {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                note(MARKS, error);
                Vec::new()
            }
        };
        restore_marks(&mut aggregates, marks.clone());
        let shared = Arc::new(Shared {
            state: Mutex::new(State { aggregates, marks }),
            advanced: Condvar::new(),
        });
        let (feed, inbox) = sync_channel(QUEUE);
        let counting = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tidegate-live".to_owned())
            .spawn(move || follow(&inbox, &counting))
            .map_err(|error| LiveError::Thread {
                detail: error.to_string(),
            })?;
        let follower = Self {
            io,
            dir: dir.to_owned(),
            shared,
            thread: Some(thread),
            checkpointing: Mutex::default(),
            checkpoint_problem,
        };
        Ok((follower, LiveFeed(feed)))
    }

    /// Begins a phase of a flag now: every event not yet durable, or durable and not yet counted,
    /// belongs to it. `durable` is the log's next sequence. Returns the sequence it begins at.
    pub(crate) fn mark_phase(
        &self,
        flag: &str,
        phase: &str,
        ladder_ms: Vec<f64>,
        durable: u64,
    ) -> Result<u64, LiveError> {
        let mut state = self.shared.state();
        let known = state.aggregates.guard_counts(flag, Some(phase));
        let pending = state
            .marks
            .iter()
            .find(|mark| mark.flag.as_ref() == flag && mark.phase.as_ref() == phase);
        if let Some(sequence) = pending
            .map(|mark| mark.at_sequence)
            .or_else(|| known.map(|counts| counts.from_sequence))
        {
            return Ok(sequence);
        }
        let at_sequence = durable.max(state.aggregates.watermark().sequence);
        let mark = PhaseMark {
            flag: flag.into(),
            phase: phase.into(),
            at_sequence,
            ladder_ms,
        };
        let mut marks = state.marks.clone();
        marks.push(mark.clone());
        // Tried on nothing first, so that an unusable mark never reaches the disk.
        LiveAggregates::new(LiveLimits::default()).mark_phase(mark.clone())?;
        self.write(&MARKS_SEAL, MARKS, &marks)?;
        state.aggregates.mark_phase(mark)?;
        state.marks = marks;
        Ok(at_sequence)
    }

    /// Writes a checkpoint; the log below the sequence it returns is no longer needed here.
    /// Counting and those who read counts wait while they are copied, not for the disk.
    ///
    /// # Errors
    /// [`LiveError::Write`] if the disk fails; the checkpoint before stays.
    pub fn checkpoint(&self) -> Result<u64, LiveError> {
        // An older checkpoint must not replace a newer one, up to which the log was given up.
        let turn = self.checkpointing.lock();
        let _turn = turn.unwrap_or_else(PoisonError::into_inner);
        let (sequence, counted, closed) = {
            let state = self.shared.state();
            let counted = packed(&state.aggregates);
            let sequence = state.aggregates.watermark().sequence;
            (sequence, counted, state.closed_marks())
        };
        let written = counted.and_then(|raw| {
            CHECKPOINT_SEAL.write_packed(self.io.as_ref(), &self.dir, CHECKPOINT, &raw)
        });
        written.map_err(|error| self.refused(CHECKPOINT, &error))?;
        if !closed.is_empty() {
            let mut state = self.shared.state();
            let live = state.marks.iter().filter(|mark| !closed.contains(mark));
            let live: Vec<PhaseMark> = live.cloned().collect();
            self.write(&MARKS_SEAL, MARKS, &live)?;
            state.marks = live;
        }
        Ok(sequence)
    }

    fn refused(&self, name: &str, error: &SealError) -> LiveError {
        LiveError::Write {
            path: self.dir.join(name),
            detail: error.to_string(),
        }
    }

    fn write<T: serde::Serialize>(
        &self,
        seal: &Seal,
        name: &str,
        value: &T,
    ) -> Result<(), LiveError> {
        let written = seal.write(self.io.as_ref(), &self.dir, name, value);
        written.map_err(|error| self.refused(name, &error))
    }

    /// The counts of one phase of a flag; see [`LiveAggregates::guard_counts`].
    #[must_use]
    pub fn guard_counts(&self, flag: &str, phase: Option<&str>) -> Option<PhaseCounts> {
        self.shared.state().aggregates.guard_counts(flag, phase)
    }

    /// Every known phase of a flag, oldest first.
    #[must_use]
    pub fn phase_counts(&self, flag: &str) -> Vec<PhaseCounts> {
        self.shared.state().aggregates.phase_counts(flag)
    }

    /// How far the counts reach.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.shared.state().aggregates.watermark()
    }

    /// A copy of everything counted.
    #[must_use]
    pub fn snapshot(&self) -> LiveAggregates {
        self.shared.state().aggregates.clone()
    }

    /// What was wrong with the checkpoint or the marks when they were read.
    #[must_use]
    pub fn checkpoint_problem(&self) -> Option<&str> {
        self.checkpoint_problem.as_deref()
    }

    /// Blocks until everything below a sequence is counted, or counting has ended.
    pub fn wait_until(&self, sequence: u64) {
        let mut state = self.shared.state();
        while state.aggregates.watermark().sequence < sequence && self.is_counting() {
            // A thread that breaks off tells nobody, so it is looked after now and then.
            let waited = self.shared.advanced.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_counting(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }
}

fn follow(inbox: &Receiver<Arc<Committed>>, shared: &Shared) {
    for stretch in inbox {
        shared.apply(&stretch);
    }
    shared.advanced.notify_all();
}

impl Drop for LiveFollower {
    fn drop(&mut self) {
        // The feed is dropped with the log, before this; then the thread ends by itself.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the counting thread panicked");
        }
    }
}
