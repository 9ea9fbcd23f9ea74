//! The event log: what is acknowledged is on disk.
//!
//! One writer thread owns the log. It takes every batch that is waiting, drops events seen
//! before, writes what remains as one checksummed frame, calls `fdatasync`, and only then
//! answers. While one commit is on its way to the disk the next batches gather, so that the
//! group grows with the load and no timer is needed.
//!
//! Segments are pre-allocated and recycled, because a write inside an allocated file needs no
//! metadata sync. A recycled segment holds old frames behind the new ones; a reader accepts only
//! the expected sequence, so they are never mistaken for events.
//!
//! A frame is written only after the frame before it is durable. Therefore a damaged frame with
//! nothing valid behind it is a write torn by a crash, never acknowledged, and is cut; a damaged
//! frame with a valid one behind it is corruption of acknowledged data and an error.
//!
//! After a failed sync nothing is known about what the disk holds (the page cache may have
//! dropped the data), so the log stops acknowledging and stays read-only until the program is
//! started again and has read back what is there.

mod frame;
mod recent_ids;
mod recovery;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use crate::codec::CodecError;
use crate::io::LakeIo;
pub use recovery::{RecoveryReport, TornTail};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tidegate_metrics::{Event, EventKind};
use tokio::sync::oneshot;
use writer::{Command, Reply, Writer};

/// How the log behaves. The defaults suit a server; tests shrink the segments.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Size of a segment. A frame that needs more gets a segment of its own size.
    pub segment_bytes: u64,
    /// Events are gathered into one commit up to about this many bytes in memory.
    pub group_bytes: usize,
    /// Bytes in memory that may wait for the disk before new batches are refused.
    pub in_flight_bytes: usize,
    /// Batches that may wait for the disk before new ones are refused.
    pub in_flight_batches: usize,
    /// Disk space that is left alone: below it events are refused and everything else works on.
    pub reserve_bytes: u64,
    /// Event ids remembered for recognising duplicates at the door; the oldest half is forgotten
    /// when this many are held. Later duplicates are removed by the columnar files.
    pub recent_ids: usize,
    /// Emptied segments kept for reuse.
    pub free_segments: usize,
    /// Bytes in memory of events that are durable and may soon be wanted by
    /// [`EventLog::recent_from`]; what comes when it is full is read from disk again.
    pub recent_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            group_bytes: 1 << 20,
            in_flight_bytes: 64 << 20,
            in_flight_batches: 4096,
            reserve_bytes: 512 << 20,
            recent_ids: 4_000_000,
            free_segments: 2,
            recent_bytes: 320 << 20,
        }
    }
}

/// The answer to a batch, given when it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Ingest sequence of the first accepted event; the others follow without gaps. With none
    /// accepted, the sequence the next event will get.
    pub first_sequence: u64,
    /// Events now durable.
    pub accepted: usize,
    /// Events recognised as delivered before.
    pub duplicates: usize,
}

/// Why a batch was not taken. Nothing of it counts, except after [`AppendError::ReadOnly`],
/// where it may turn out to be durable at the next start; sending it again is always safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much is waiting for the disk.
    #[error("log has {in_flight_bytes} bytes waiting for the disk; try again shortly")]
    Overloaded {
        /// Bytes waiting.
        in_flight_bytes: usize,
    },
    /// The disk is nearly full.
    #[error(
        "disk has {available_bytes} bytes left and {reserve_bytes} are kept in reserve; make room"
    )]
    DiskNearlyFull {
        /// Bytes left.
        available_bytes: u64,
        /// Bytes kept.
        reserve_bytes: u64,
    },
    /// A write or sync failed earlier; the log takes nothing more until restarted.
    #[error("log is read-only because {cause}; check the disk, then restart")]
    ReadOnly {
        /// What failed.
        cause: String,
    },
    /// The batch could not be encoded.
    #[error("batch cannot be stored: {0}")]
    Encoding(CodecError),
    /// The log is shutting down.
    #[error("log is closed")]
    Closed,
}

impl AppendError {
    /// Whether sending the same batch later can succeed without anyone stepping in.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::DiskNearlyFull { .. })
    }
}

/// Why the log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error("access {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Acknowledged data is damaged.
    #[error(
        "read {path}: {detail} at byte {offset}, where sequence {sequence} should be; restore the \
         file from a backup, or move it away and accept the loss"
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The sequence expected there.
        sequence: u64,
        /// What is wrong.
        detail: String,
    },
    /// The writer thread could not be started.
    #[error("start the log's writer thread")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

impl LogError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// A stretch of durable events in ingest order.
#[derive(Debug)]
pub struct Committed {
    /// Ingest sequence of the first event.
    pub first_sequence: u64,
    /// The events.
    pub events: Vec<Event>,
}

impl Committed {
    /// The sequence after the last event.
    #[must_use]
    pub fn end_sequence(&self) -> u64 {
        self.first_sequence + self.events.len() as u64
    }
}

/// Follows the log: called for every durable stretch, in order and without gaps, first with what
/// recovery read and then with every commit. It runs on the writer's thread before the batch is
/// acknowledged and must be quick; slow work belongs behind a bounded channel.
pub trait CommitSink: Send {
    /// Takes a durable stretch.
    fn committed(&mut self, stretch: &Arc<Committed>);
}

/// A sink that takes no notice.
#[derive(Debug, Clone, Copy)]
pub struct NoSink;

impl CommitSink for NoSink {
    fn committed(&mut self, _stretch: &Arc<Committed>) {}
}

/// Whether the log takes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogHealth {
    /// It does.
    Writing,
    /// The last batch was refused for lack of room.
    DiskNearlyFull,
    /// It stopped for good after a fault.
    ReadOnly {
        /// What failed.
        cause: String,
    },
}

#[derive(Debug)]
struct Shared {
    in_flight_bytes: AtomicUsize,
    in_flight_batches: AtomicUsize,
    next_sequence: AtomicU64,
    health: Mutex<LogHealth>,
    recent: Mutex<Recent>,
}

/// The newest stretches, as they were committed.
#[derive(Debug, Default)]
struct Recent {
    stretches: VecDeque<(Arc<Committed>, usize)>,
    bytes: usize,
}

impl Recent {
    /// Keeps a stretch if there is room. The oldest are wanted first, and giving them up here
    /// would cost the writer the time that freeing them takes.
    fn push(&mut self, stretch: &Arc<Committed>, bytes: usize, most_bytes: usize) {
        if self.bytes + bytes <= most_bytes {
            self.stretches.push_back((Arc::clone(stretch), bytes));
            self.bytes += bytes;
        }
    }

    /// Takes out what lies below a sequence, to be dropped when the lock is not held.
    fn forget_below(&mut self, sequence: u64) -> Vec<Arc<Committed>> {
        let mut forgotten = Vec::new();
        while let Some((front, _)) = self.stretches.front()
            && front.end_sequence() <= sequence
            && let Some((stretch, bytes)) = self.stretches.pop_front()
        {
            self.bytes -= bytes;
            forgotten.push(stretch);
        }
        forgotten
    }
}

impl Shared {
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch that was in flight is no more.
    fn settle(&self, bytes: usize) {
        self.in_flight_bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.in_flight_batches.fetch_sub(1, Ordering::AcqRel);
    }

    fn set_health(&self, health: LogHealth) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

/// How much of what may wait for the disk a batch may fill, by the best that is in it. So under
/// overload what analysis can miss is told to come back first, then what guards watch, and last
/// exposures, without which neither means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    Others,
    Requests,
    Exposures,
}

impl Share {
    fn of(events: &[Event]) -> Self {
        let one = |event: &Event| match event.kind {
            EventKind::Exposure => Self::Exposures,
            EventKind::Request => Self::Requests,
            EventKind::Track | EventKind::Evaluation => Self::Others,
        };
        events.iter().map(one).max().unwrap_or(Self::Others)
    }

    const fn part(self, whole: usize) -> usize {
        match self {
            Self::Others => whole / 4 * 3,
            Self::Requests => whole / 8 * 7,
            Self::Exposures => whole,
        }
    }
}

/// The open log. Dropping it commits what is waiting and ends the writer.
#[derive(Debug)]
pub struct EventLog {
    io: Arc<dyn LakeIo>,
    dir: PathBuf,
    options: LogOptions,
    commands: Option<SyncSender<Command>>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    recovery: RecoveryReport,
}

impl EventLog {
    /// Opens the log in a directory, reading back and checking everything it holds.
    ///
    /// # Errors
    /// [`LogError`] if the disk fails or acknowledged data is damaged. A torn tail is no error:
    /// it is cut and reported by [`EventLog::recovery`].
    pub fn open(
        io: Arc<dyn LakeIo>,
        dir: &Path,
        options: LogOptions,
        mut sink: Box<dyn CommitSink>,
    ) -> Result<Self, LogError> {
        io.create_dir_all(dir).map_err(|e| LogError::io(dir, e))?;
        let recovered = recovery::recover(io.as_ref(), dir, &options, sink.as_mut())?;
        let shared = Arc::new(Shared {
            in_flight_bytes: AtomicUsize::new(0),
            in_flight_batches: AtomicUsize::new(0),
            next_sequence: AtomicU64::new(recovered.report.next_sequence),
            health: Mutex::new(LogHealth::Writing),
            recent: Mutex::default(),
        });
        let (commands, inbox) = sync_channel(options.in_flight_batches);
        let recovery = recovered.report.clone();
        let writer = Writer::new(
            Arc::clone(&io),
            dir.to_owned(),
            options.clone(),
            recovered,
            Arc::clone(&shared),
            sink,
        );
        let thread = std::thread::Builder::new()
            .name("tidegate-log".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(|source| LogError::Thread { source })?;
        Ok(Self {
            io,
            dir: dir.to_owned(),
            options,
            commands: Some(commands),
            shared,
            writer: Some(thread),
            recovery,
        })
    }

    /// Appends a batch and waits until it is durable. Blocks; asynchronous callers use
    /// [`EventLog::submit`].
    ///
    /// # Errors
    /// [`AppendError`]; see there what it means for the batch.
    pub fn append(&self, events: Vec<Event>) -> Result<Appended, AppendError> {
        let (sender, receiver) = sync_channel(1);
        self.enqueue(
            events,
            Box::new(move |answer| {
                // A caller that went away no longer needs the answer.
                let _ = sender.send(answer);
            }),
        )?;
        receiver.recv().unwrap_or(Err(AppendError::Closed))
    }

    /// Hands a batch over and returns at once; the receiver yields when the batch is durable. A
    /// receiver whose sender is gone means the log closed.
    ///
    /// # Errors
    /// [`AppendError::Overloaded`] if too much is waiting, [`AppendError::Closed`] at shutdown.
    pub fn submit(
        &self,
        events: Vec<Event>,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(
            events,
            Box::new(move |answer| {
                let _ = sender.send(answer);
            }),
        )?;
        Ok(receiver)
    }

    fn enqueue(&self, events: Vec<Event>, reply: Reply) -> Result<(), AppendError> {
        let bytes: usize = events.iter().map(Event::approximate_bytes).sum();
        let shared = &self.shared;
        let waiting = shared.in_flight_bytes.fetch_add(bytes, Ordering::AcqRel);
        let batches = shared.in_flight_batches.fetch_add(1, Ordering::AcqRel);
        let overloaded = AppendError::Overloaded {
            in_flight_bytes: waiting,
        };
        let share = Share::of(&events);
        // A batch larger than the whole budget passes when nothing else waits.
        let is_over = waiting > 0
            && (waiting.saturating_add(bytes) > share.part(self.options.in_flight_bytes)
                || batches >= share.part(self.options.in_flight_batches));
        if is_over {
            shared.settle(bytes);
            return Err(overloaded);
        }
        let Some(commands) = &self.commands else {
            shared.settle(bytes);
            return Err(AppendError::Closed);
        };
        let command = Command::Append {
            events,
            bytes,
            reply,
        };
        commands.try_send(command).map_err(|error| {
            shared.settle(bytes);
            match error {
                TrySendError::Full(_) => overloaded,
                TrySendError::Disconnected(_) => AppendError::Closed,
            }
        })
    }

    /// Gives up segments that hold only sequences below `sequence`, keeping some of their files
    /// for reuse. Returns when done.
    ///
    /// # Errors
    /// [`AppendError`] if the log is closed, overloaded or read-only.
    pub fn trim(&self, sequence: u64) -> Result<(), AppendError> {
        self.command(|done| Command::Trim {
            sequence,
            for_good: false,
            done,
        })
    }

    /// As [`EventLog::trim`], but no byte of what is given up, now or before, is kept for reuse.
    ///
    /// # Errors
    /// As [`EventLog::trim`].
    pub fn forget_below(&self, sequence: u64) -> Result<(), AppendError> {
        self.command(|done| Command::Trim {
            sequence,
            for_good: true,
            done,
        })
    }

    /// Ends the segment being written, so that what it holds can be given up. Returns the sequence
    /// the next event gets, which begins a segment.
    ///
    /// # Errors
    /// As [`EventLog::trim`], or if there is no room for a new segment.
    pub fn seal(&self) -> Result<u64, AppendError> {
        self.command(|done| Command::Seal { done })
    }

    fn command<T>(
        &self,
        make: impl FnOnce(SyncSender<Result<T, AppendError>>) -> Command,
    ) -> Result<T, AppendError> {
        let (sender, receiver) = sync_channel(1);
        let commands = self.commands.as_ref().ok_or(AppendError::Closed)?;
        commands
            .send(make(sender))
            .map_err(|_| AppendError::Closed)?;
        receiver.recv().unwrap_or(Err(AppendError::Closed))
    }

    /// Reads durable events from `sequence` on, in order, until the end as of now or until
    /// `each` answers `false`. The first stretch may begin before `sequence`.
    ///
    /// # Errors
    /// [`LogError`] if the disk fails or acknowledged data is damaged.
    pub fn read_from(
        &self,
        sequence: u64,
        each: &mut dyn FnMut(Committed) -> bool,
    ) -> Result<(), LogError> {
        let end = self.next_sequence();
        recovery::read_range(self.io.as_ref(), &self.dir, sequence, end, each)
    }

    /// Durable events from `sequence` on as they are still in memory, about `limit` of them, in
    /// order and without gaps; the first stretch may begin before `sequence`. Nothing if the
    /// first of them must be read with [`EventLog::read_from`].
    #[must_use]
    pub fn recent_from(&self, sequence: u64, limit: usize) -> Vec<Arc<Committed>> {
        let recent = self.shared.recent();
        let holds = |(first, _): &(Arc<Committed>, usize)| {
            (first.first_sequence..first.end_sequence()).contains(&sequence)
        };
        if !recent.stretches.front().is_some_and(holds) {
            return Vec::new();
        }
        let wanted = recent.stretches.iter().map(|(stretch, _)| stretch);
        let (mut count, mut next) = (0, None);
        wanted
            .take_while(|stretch| {
                // What there was no room for is missing in between.
                let follows = next.is_none_or(|next| next == stretch.first_sequence);
                let is_wanted = follows && count < limit;
                count += stretch.events.len();
                next = Some(stretch.end_sequence());
                is_wanted
            })
            .map(Arc::clone)
            .collect()
    }

    /// Says that nobody wants events below `sequence` from memory any more.
    pub fn forget_recent(&self, sequence: u64) {
        let forgotten = self.shared.recent().forget_below(sequence);
        drop(forgotten);
    }

    /// The first sequence still in the log.
    ///
    /// # Errors
    /// [`LogError::Io`] if the directory cannot be read.
    pub fn first_sequence(&self) -> Result<u64, LogError> {
        let names = segment::list(self.io.as_ref(), &self.dir)?;
        Ok(names
            .segments
            .first()
            .copied()
            .unwrap_or_else(|| self.next_sequence()))
    }

    /// Segments in the log.
    ///
    /// # Errors
    /// [`LogError::Io`] if the directory cannot be read.
    pub fn segments(&self) -> Result<usize, LogError> {
        Ok(segment::list(self.io.as_ref(), &self.dir)?.segments.len())
    }

    /// The sequence the next event will get; everything below is durable.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.shared.next_sequence.load(Ordering::Acquire)
    }

    /// Bytes waiting for the disk.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.shared.in_flight_bytes.load(Ordering::Acquire)
    }

    /// Whether the log takes events.
    #[must_use]
    pub fn health(&self) -> LogHealth {
        let health = self.shared.health.lock();
        health.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was found when the log was opened.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log's writer thread panicked");
        }
    }
}
