//! The one thread that writes the log.

use super::frame::FrameWriter;
use super::recent_ids::RecentIds;
use super::recovery::Recovered;
use super::segment::Segment;
use super::{AppendError, Appended, CommitSink, Committed, LogHealth, LogOptions, Shared};
use crate::io::LakeIo;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use tidegate_metrics::Event;

pub(super) type Reply = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

pub(super) enum Command {
    Append {
        events: Vec<Event>,
        bytes: usize,
        reply: Reply,
    },
    Trim {
        sequence: u64,
        for_good: bool,
        done: SyncSender<Result<(), AppendError>>,
    },
    Seal {
        done: SyncSender<Result<u64, AppendError>>,
    },
}

struct Waiting {
    events: Vec<Event>,
    bytes: usize,
    reply: Reply,
}

struct Current {
    segment: Segment,
    offset: u64,
}

pub(super) struct Writer {
    io: Arc<dyn LakeIo>,
    dir: PathBuf,
    options: LogOptions,
    current: Option<Current>,
    sealed: VecDeque<Segment>,
    free: Vec<String>,
    next_sequence: u64,
    recent: RecentIds,
    frames: FrameWriter,
    failed: Option<AppendError>,
    shared: Arc<Shared>,
    sink: Box<dyn CommitSink>,
}

impl Writer {
    pub(super) fn new(
        io: Arc<dyn LakeIo>,
        dir: PathBuf,
        options: LogOptions,
        recovered: Recovered,
        shared: Arc<Shared>,
        sink: Box<dyn CommitSink>,
    ) -> Self {
        Self {
            io,
            dir,
            options,
            current: recovered
                .current
                .map(|(segment, offset)| Current { segment, offset }),
            sealed: recovered.sealed.into(),
            free: recovered.free,
            next_sequence: recovered.report.next_sequence,
            recent: recovered.recent,
            frames: FrameWriter::default(),
            failed: None,
            shared,
            sink,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        let mut held = None;
        loop {
            let first = match held.take() {
                Some(command) => command,
                None => match inbox.recv() {
                    Ok(command) => command,
                    Err(_) => return,
                },
            };
            match first {
                Command::Trim {
                    sequence,
                    for_good,
                    done,
                } => {
                    // A caller that went away no longer needs the answer.
                    let _ = done.send(self.trim(sequence, for_good));
                }
                Command::Seal { done } => {
                    let _ = done.send(self.seal());
                }
                Command::Append {
                    events,
                    bytes,
                    reply,
                } => {
                    let mut group = vec![Waiting {
                        events,
                        bytes,
                        reply,
                    }];
                    held = self.gather(inbox, &mut group);
                    self.commit(group);
                }
            }
        }
    }

    // Everything that is waiting joins the group, up to its size limit.
    fn gather(&self, inbox: &Receiver<Command>, group: &mut Vec<Waiting>) -> Option<Command> {
        let mut gathered: usize = group.iter().map(|waiting| waiting.bytes).sum();
        while gathered < self.options.group_bytes {
            match inbox.try_recv() {
                Ok(Command::Append {
                    events,
                    bytes,
                    reply,
                }) => {
                    gathered += bytes;
                    group.push(Waiting {
                        events,
                        bytes,
                        reply,
                    });
                }
                Ok(other) => return Some(other),
                Err(_) => return None,
            }
        }
        None
    }

    fn commit(&mut self, group: Vec<Waiting>) {
        let mut fresh = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        for waiting in group {
            let first_sequence = self.next_sequence + fresh.len() as u64;
            let (before, offered) = (fresh.len(), waiting.events.len());
            let recent = &mut self.recent;
            fresh.extend(waiting.events.into_iter().filter(|e| recent.insert(e.id)));
            let accepted = fresh.len() - before;
            let appended = Appended {
                first_sequence,
                accepted,
                duplicates: offered - accepted,
            };
            answers.push((appended, waiting.bytes, waiting.reply));
        }
        let bytes = answers.iter().map(|(_, bytes, _)| bytes).sum();
        let outcome = self.make_durable(fresh, bytes);
        for (appended, bytes, reply) in answers {
            self.shared.settle(bytes);
            reply(outcome.clone().map(|()| appended));
        }
    }

    fn make_durable(&mut self, events: Vec<Event>, bytes: usize) -> Result<(), AppendError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if events.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.write(&events) {
            for event in &events {
                self.recent.forget(event.id);
            }
            return Err(error);
        }
        let stretch = Arc::new(Committed {
            first_sequence: self.next_sequence,
            events,
        });
        self.next_sequence = stretch.end_sequence();
        self.sink.committed(&stretch);
        if self.options.recent_bytes > 0 {
            let most = self.options.recent_bytes;
            self.shared.recent().push(&stretch, bytes, most);
        }
        self.shared
            .next_sequence
            .store(self.next_sequence, Ordering::Release);
        Ok(())
    }

    fn write(&mut self, events: &[Event]) -> Result<(), AppendError> {
        let made = self.frames.make(self.next_sequence, events);
        made.map_err(AppendError::Encoding)?;
        let bytes = self.frames.bytes().len() as u64;
        self.make_room(bytes)?;
        let Some(current) = &mut self.current else {
            return Err(self.fail("write the log", &io::ErrorKind::NotFound.into()));
        };
        let file = &current.segment.file;
        let written = file
            .write_all_at(self.frames.bytes(), current.offset)
            .and_then(|()| file.sync_data());
        match written {
            Ok(()) => {
                current.offset += bytes;
                self.shared.set_health(LogHealth::Writing);
                Ok(())
            }
            Err(error) => Err(self.fail("write and sync the log", &error)),
        }
    }

    fn make_room(&mut self, frame_bytes: u64) -> Result<(), AppendError> {
        self.check_reserve()?;
        if let Some(current) = &self.current
            && current.offset + frame_bytes <= current.segment.bytes
        {
            return Ok(());
        }
        self.start_segment(frame_bytes)
    }

    /// Begins a new segment where the current one holds anything; returns its first sequence.
    fn seal(&mut self) -> Result<u64, AppendError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let is_empty = self
            .current
            .as_ref()
            .is_none_or(|current| current.segment.first_sequence == self.next_sequence);
        if !is_empty {
            self.start_segment(0)?;
        }
        Ok(self.next_sequence)
    }

    fn start_segment(&mut self, frame_bytes: u64) -> Result<(), AppendError> {
        let least = self
            .options
            .segment_bytes
            .max(frame_bytes + super::segment::FIRST_FRAME);
        let recycled = self.free.pop();
        let started = Segment::start(
            self.io.as_ref(),
            &self.dir,
            recycled.as_deref(),
            self.next_sequence,
            least,
        );
        match started {
            Ok(segment) => {
                let before = self.current.replace(Current {
                    segment,
                    offset: super::segment::FIRST_FRAME,
                });
                self.sealed.extend(before.map(|current| current.segment));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.free.extend(recycled);
                Err(self.refuse_full(0))
            }
            Err(error) => Err(self.fail("start a log segment", &error)),
        }
    }

    // A segment is allocated as a whole, so writing inside one needs no room; the reserve is
    // for everything else on the disk, which must go on when events are refused.
    fn check_reserve(&self) -> Result<(), AppendError> {
        match self.io.available_bytes(&self.dir) {
            Ok(available) if available < self.options.reserve_bytes => {
                Err(self.refuse_full(available))
            }
            _ => Ok(()),
        }
    }

    fn refuse_full(&self, available_bytes: u64) -> AppendError {
        self.shared.set_health(LogHealth::DiskNearlyFull);
        tracing::error!(
            disk.available_bytes = available_bytes,
            disk.reserve_bytes = self.options.reserve_bytes,
            "refusing events: the disk is nearly full"
        );
        AppendError::DiskNearlyFull {
            available_bytes,
            reserve_bytes: self.options.reserve_bytes,
        }
    }

    fn fail(&mut self, action: &str, error: &io::Error) -> AppendError {
        let cause = format!("it failed to {action}: {error}");
        tracing::error!(
            log.dir = %self.dir.display(),
            error = %error,
            "the log is read-only now: failed to {action}"
        );
        self.shared.set_health(LogHealth::ReadOnly {
            cause: cause.clone(),
        });
        let failed = AppendError::ReadOnly { cause };
        self.failed = Some(failed.clone());
        failed
    }

    // For good means that no byte of what is given up is kept for reuse.
    fn trim(&mut self, sequence: u64, for_good: bool) -> Result<(), AppendError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let mut changed = false;
        while let Some(oldest) = self.sealed.front() {
            let next = self.sealed.get(1).map(|segment| segment.first_sequence);
            let current = self.current.as_ref().map(|c| c.segment.first_sequence);
            if next.or(current).is_none_or(|end| end > sequence) {
                break;
            }
            let given_up = self.give_up(&oldest.clone(), for_good);
            given_up.map_err(|error| self.fail("trim the log", &error))?;
            self.sealed.pop_front();
            changed = true;
        }
        while for_good && let Some(name) = self.free.pop() {
            let removed = self.io.remove(&self.dir.join(name));
            removed.map_err(|error| self.fail("remove a spare segment", &error))?;
            changed = true;
        }
        if changed {
            let synced = self.io.sync_dir(&self.dir);
            synced.map_err(|error| self.fail("sync the log directory", &error))?;
        }
        Ok(())
    }

    fn give_up(&mut self, segment: &Segment, for_good: bool) -> io::Result<()> {
        if for_good || self.free.len() >= self.options.free_segments {
            return self.io.remove(&segment.path);
        }
        let name = format!("{:020}.free", segment.first_sequence);
        self.io.rename(&segment.path, &self.dir.join(&name))?;
        self.free.push(name);
        Ok(())
    }
}
