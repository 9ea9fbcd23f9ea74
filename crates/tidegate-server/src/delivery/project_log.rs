//! One project's log in a running server: a writer that stays open, and the fold of what it holds.
//!
//! The writer is opened by the first append and keeps the file's lock until the server stops.
//! After an error it is dropped, so that the next append begins by reading what is really there.
//! The fold is kept with the state of the file it was made from: how often this server wrote, and the length, which
//! tells of a command that wrote before the server did. Another state means a new fold.
//! Late rows need no special case: a fold is always of everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tidegate_delivery::{DeliveryEvent, Timeline, TimelineBuilder};

use super::log_file::{Appended, DeliveryLog, LogError, LogWriter};

/// What became of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Appending {
    /// New in the log.
    pub recorded: u64,
    /// Held already.
    pub known: u64,
    /// Held already with other content; the first stays.
    pub conflicts: u64,
}

impl Appending {
    fn count(&mut self, appended: Appended) {
        match appended {
            Appended::New => self.recorded += 1,
            Appended::Known => self.known += 1,
            Appended::Conflict => self.conflicts += 1,
        }
    }
}

/// A project's log.
#[derive(Debug)]
pub struct ProjectLog {
    log: DeliveryLog,
    writer: Mutex<Option<LogWriter>>,
    /// How often this server wrote, or tried to.
    writes: AtomicU64,
    folded: Mutex<Option<(FileState, Arc<Timeline>)>>,
}

/// Writes of this server, and the file's length.
type FileState = (u64, u64);

impl ProjectLog {
    pub(super) fn new(log: DeliveryLog) -> Self {
        Self {
            log,
            writer: Mutex::default(),
            writes: AtomicU64::new(0),
            folded: Mutex::default(),
        }
    }

    /// Appends rows, all of them or none.
    ///
    /// # Errors
    /// As the log says; no row is in it then.
    pub fn append(&self, events: &[DeliveryEvent]) -> Result<Appending, LogError> {
        self.write(|batch| events.iter().try_for_each(|event| batch.take(event)))
            .map(|((), appending)| appending)
    }

    /// Appends what `work` gives, all of it or, if `work` fails, nothing.
    ///
    /// # Errors
    /// `work`'s own, or the log's.
    pub fn write<T, E: From<LogError>>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, E>,
    ) -> Result<(T, Appending), E> {
        let mut slot = lock(&self.writer);
        let outcome = self.write_into(&mut slot, work);
        self.writes.fetch_add(1, Ordering::AcqRel);
        outcome
    }

    fn write_into<T, E: From<LogError>>(
        &self,
        slot: &mut Option<LogWriter>,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, E>,
    ) -> Result<(T, Appending), E> {
        // Taken out, so that whatever goes wrong below leaves no half-filled writer behind.
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => self.log.begin(|_| ())?,
        };
        let mut batch = Batch {
            writer: &mut writer,
            appending: Appending::default(),
        };
        match work(&mut batch) {
            Ok(done) => {
                let appending = batch.appending;
                writer.commit()?;
                *slot = Some(writer);
                Ok((done, appending))
            }
            Err(error) => {
                writer.abandon()?;
                Err(error)
            }
        }
    }

    /// The fold of everything committed.
    ///
    /// # Errors
    /// As the log says.
    pub fn timeline(&self) -> Result<Arc<Timeline>, LogError> {
        let mut folded = lock(&self.folded);
        let state = (self.writes.load(Ordering::Acquire), self.log.length());
        if let Some((at, timeline)) = &*folded
            && *at == state
        {
            return Ok(Arc::clone(timeline));
        }
        let mut builder = TimelineBuilder::default();
        self.log.read(|event| builder.push(event))?;
        let timeline = Arc::new(builder.finish());
        // Rows committed while it was read may or may not be in it: the state from before says "read again".
        *folded = Some((state, Arc::clone(&timeline)));
        Ok(timeline)
    }
}

/// Rows on their way into the log together.
#[derive(Debug)]
pub struct Batch<'w> {
    writer: &'w mut LogWriter,
    appending: Appending,
}

impl Batch<'_> {
    /// Adds a row.
    ///
    /// # Errors
    /// As the log says.
    pub fn take(&mut self, event: &DeliveryEvent) -> Result<(), LogError> {
        let appended = self.writer.append(event)?;
        self.appending.count(appended);
        Ok(())
    }

    /// Rows of this batch that were new so far.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.appending.recorded
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_delivery::Moment;
    use tidegate_delivery::event::{EventBody, ExposureSeen};

    fn event(n: u16) -> DeliveryEvent {
        DeliveryEvent {
            at: Moment::EARLIEST,
            source: "test".to_owned(),
            id: n.to_string(),
            body: EventBody::Exposure(ExposureSeen {
                flag: "f".to_owned(),
                share_bp: n,
            }),
        }
    }

    #[test]
    fn what_is_appended_is_in_the_next_fold_and_a_failed_batch_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let log = ProjectLog::new(DeliveryLog::at(folder.path(), "p").unwrap());
        assert_eq!(log.timeline().unwrap().events(), 0);
        let first = log.append(&[event(1), event(2), event(1)]).unwrap();
        assert_eq!((first.recorded, first.known), (2, 1));
        assert_eq!(log.timeline().unwrap().events(), 2);
        let failed: Result<((), Appending), LogError> = log.write(|batch| {
            batch.take(&event(3))?;
            Err(LogError::ProjectName {
                name: String::new(),
            })
        });
        assert!(failed.is_err());
        assert_eq!(log.timeline().unwrap().events(), 2);
        assert_eq!(log.append(&[event(3)]).unwrap().recorded, 1);
        assert_eq!(log.timeline().unwrap().events(), 3);
    }
}
