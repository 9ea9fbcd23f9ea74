//! Stops that work without a database: recorded on disk, served, then made ordinary.
//!
//! A kill or a rollback first syncs one record to the pre-allocated stop file, is then served
//! from memory, and only afterwards becomes the ordinary transaction with its audit entry. The
//! record's id is the idempotency key of that transaction, so it happens exactly once however
//! often the process dies in between. If the disk refuses the record, the stop is served anyway
//! and the answer says `durable: false`: the one exception to "acknowledged means durable",
//! because a stop that waits for a disk is no stop.
//!
//! A stop that says what a pending one says already is that one: repeating a kill while storage is
//! down takes no room, so the pending stops are bounded by what there is to stop. Beyond
//! [`MOST_PENDING`] a stop is refused in words; the last half of the room is for people, so that a
//! storm of rollbacks leaves them a kill.
//!
//! A record that storage has, and whose mark on disk failed, is marked again each round, and after
//! a restart it is recognised by its id: it does not come into force a second time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tidegate_flags::{EditError, FlagSpec};
use tidegate_store::{StopFile, StopId, StopKind, StopRecord, StopServe};

/// The stops that storage does not know yet, as they lie over what it says.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    records: Vec<StopRecord>,
}

impl Overlay {
    /// An overlay of `records`, oldest first.
    #[must_use]
    pub fn new(records: Vec<StopRecord>) -> Self {
        Self { records }
    }

    /// Whether nothing lies over storage.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Lays the stops of `project` over its flags. A stop never raises exposure: a record that
    /// does not fit the definition any more (its flag or rule is gone) changes nothing.
    pub fn apply(&self, project: &str, specs: &mut BTreeMap<String, FlagSpec>) {
        for record in self
            .records
            .iter()
            .filter(|record| record.project().as_str() == project)
        {
            let Some(spec) = specs.get_mut(record.flag().as_str()) else {
                continue;
            };
            match stopped(spec, record) {
                Ok(next) => *spec = next,
                Err(reason) => tracing::warn!(
                    flag.key = %record.flag(), stop.id = %record.id(), %reason,
                    "a stop record does not fit the flag any more"
                ),
            }
        }
    }
}

/// `spec` as the stop leaves it.
///
/// # Errors
/// Why the stop does not fit the flag.
pub fn stopped(spec: &FlagSpec, record: &StopRecord) -> Result<FlagSpec, EditError> {
    let at_seconds = record.at_us().div_euclid(1_000_000);
    match record.serve() {
        StopServe::RuleAtZero(rule) => spec.with_rollout_share(rule, 0),
        StopServe::Off => spec.kill(record.reason(), &record.actor().to_string(), at_seconds),
        StopServe::Variant(variant) => {
            let mut spec = spec.clone();
            spec.off_variant = Some(variant.clone());
            spec.kill(record.reason(), &record.actor().to_string(), at_seconds)
        }
    }
}

/// Whether stops are durable, and what opening their file found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StopFileState {
    /// Whether a stop would be on disk before it is served.
    pub usable: bool,
    /// What to know about a file that is not usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Damaged blocks, each of which may have held a stop.
    pub lost_blocks: Vec<usize>,
}

/// The most stops that wait for storage.
pub const MOST_PENDING: usize = 8_192;
/// Of these, the room that only kills may use.
const ROOM_FOR_KILLS: usize = 4_096;

/// What became of a stop that was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The record that is in force: the new one, or one that said the same.
    pub id: StopId,
    /// Whether it is on disk.
    pub durable: bool,
}

/// More stops wait for storage than can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{waiting} stops wait for the database, and no more are taken; see /status for what keeps it \
     from writing"
)]
pub struct TooManyStops {
    /// How many wait.
    pub waiting: usize,
}

/// The stop file and what is pending in it.
#[derive(Debug)]
pub struct Stops {
    inner: Mutex<Inner>,
    /// Taken in turns by those who make stops ordinary.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    file: Option<StopFile>,
    pending: Vec<StopRecord>,
    /// Pending, and not on disk.
    volatile: Vec<StopId>,
    /// Pending, and being committed: a stop that comes now is not taken for one of these, because
    /// it would be forgotten with it.
    settling: Vec<StopId>,
    /// Committed, and still pending on disk.
    unmarked: Vec<StopId>,
}

impl Stops {
    /// The stops of `file`; `None` where no file could be opened, so that stops still work.
    #[must_use]
    pub fn new(file: Option<StopFile>, pending: Vec<StopRecord>) -> Self {
        Self {
            turn: tokio::sync::Mutex::default(),
            inner: Mutex::new(Inner {
                file,
                pending,
                volatile: Vec::new(),
                settling: Vec::new(),
                unmarked: Vec::new(),
            }),
        }
    }

    /// Records a stop. Blocks for one small sync.
    ///
    /// # Errors
    /// [`TooManyStops`]; nothing is recorded then.
    pub fn record(&self, record: StopRecord) -> Result<Recorded, TooManyStops> {
        let mut inner = self.lock();
        let standing = inner
            .pending
            .iter()
            .find(|pending| {
                says_the_same(pending, &record) && !inner.settling.contains(&pending.id())
            })
            .cloned();
        if let Some(standing) = standing {
            let id = standing.id();
            if inner.volatile.contains(&id) && inner.append(&standing) {
                inner.volatile.retain(|other| *other != id);
            }
            let durable = !inner.volatile.contains(&id);
            return Ok(Recorded { id, durable });
        }
        let waiting = inner.pending.len();
        let room = match record.kind() {
            StopKind::Kill => MOST_PENDING,
            StopKind::Rollback => MOST_PENDING - ROOM_FOR_KILLS,
        };
        if waiting >= room {
            return Err(TooManyStops { waiting });
        }
        let (id, durable) = (record.id(), inner.append(&record));
        if !durable {
            inner.volatile.push(id);
        }
        inner.pending.push(record);
        Ok(Recorded { id, durable })
    }

    /// The pending stops, oldest first, on their way into storage: until each is settled or given
    /// back, an equal stop that comes is recorded anew.
    #[must_use]
    pub fn begin_settling(&self) -> Vec<StopRecord> {
        let mut inner = self.lock();
        inner.settling = inner.pending.iter().map(StopRecord::id).collect();
        inner.pending.clone()
    }

    /// Storage did not take a stop: it is pending as before.
    pub fn give_back(&self, id: StopId) {
        self.lock().settling.retain(|other| *other != id);
    }

    /// Marks a stop as ordinary: its transaction is committed.
    pub fn settle(&self, id: StopId) {
        let mut inner = self.lock();
        inner.settling.retain(|other| *other != id);
        inner.unmarked.retain(|other| *other != id);
        inner.volatile.retain(|other| *other != id);
        inner.pending.retain(|record| record.id() != id);
        inner.mark(id);
    }

    /// Tries the marks again that failed.
    pub fn mark_again(&self) {
        let mut inner = self.lock();
        for id in std::mem::take(&mut inner.unmarked) {
            inner.mark(id);
        }
    }

    /// How many stops storage has, and the file on disk still takes for pending.
    #[must_use]
    pub fn unmarked(&self) -> usize {
        self.lock().unmarked.len()
    }

    /// Whether memory, file and storage say the same, so that nothing must be recognised later.
    #[must_use]
    pub fn are_settled(&self) -> bool {
        let inner = self.lock();
        inner.pending.is_empty() && inner.unmarked.is_empty()
    }

    /// What lies over storage now.
    #[must_use]
    pub fn overlay(&self) -> Overlay {
        Overlay::new(self.lock().pending.clone())
    }

    /// The stops that storage does not know yet, oldest first.
    #[must_use]
    pub fn pending(&self) -> Vec<StopRecord> {
        self.lock().pending.clone()
    }

    /// Whether stops are durable, and what opening their file found.
    #[must_use]
    pub fn file_state(&self) -> StopFileState {
        let inner = self.lock();
        let lost = inner.file.as_ref().map(|file| file.damage().lost.clone());
        StopFileState {
            usable: inner.file.is_some(),
            reason: inner
                .file
                .is_none()
                .then_some("the stop file cannot be opened; stops are served and not durable"),
            lost_blocks: lost.unwrap_or_default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether the record is on disk now.
    fn append(&self, record: &StopRecord) -> bool {
        match self.file.as_ref().map(|file| file.append(record)) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::error!(%error, stop.id = %record.id(), "the stop file refused a record");
                false
            }
            None => false,
        }
    }

    fn mark(&mut self, id: StopId) {
        if let Some(Err(error)) = self.file.as_ref().map(|file| file.applied(&id)) {
            tracing::warn!(%error, stop.id = %id, "the stop file could not be marked; again soon");
            self.unmarked.push(id);
        }
    }
}

/// Whether two stops come to the same: what is served, not who asked and why.
fn says_the_same(one: &StopRecord, other: &StopRecord) -> bool {
    one.project() == other.project()
        && one.flag() == other.flag()
        && one.kind() == other.kind()
        && one.serve() == other.serve()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_store::{Actor, ObjectKey, ObjectKind, ProjectKey};

    fn stop(flag: &str, kind: StopKind) -> StopRecord {
        let key = ObjectKey::parse(ObjectKind::Flag, flag).unwrap();
        StopRecord::new(
            StopId::random().unwrap(),
            (ProjectKey::parse("default").unwrap(), key),
            (kind, StopServe::Off),
            "it hurts",
            (Actor::system("test"), 1),
        )
        .unwrap()
    }

    fn in_file() -> (tempfile::TempDir, Stops) {
        let folder = tempfile::tempdir().unwrap();
        let (file, pending) = StopFile::open(folder.path().join("stops")).unwrap();
        (folder, Stops::new(Some(file), pending))
    }

    #[test]
    fn a_stop_that_is_repeated_is_one_and_one_that_comes_during_the_commit_is_another() {
        let (_folder, stops) = in_file();
        let first = stops.record(stop("f", StopKind::Kill)).unwrap();
        assert!(first.durable);
        assert_eq!(stops.record(stop("f", StopKind::Kill)), Ok(first));
        assert_eq!(stops.pending().len(), 1);
        assert_eq!(stops.begin_settling().len(), 1);
        let second = stops.record(stop("f", StopKind::Kill)).unwrap();
        assert_ne!(
            second.id, first.id,
            "it must outlive the settling of the first"
        );
        stops.settle(first.id);
        assert_eq!(stops.pending().len(), 1);
        stops.settle(second.id);
        assert!(stops.are_settled());
    }

    #[test]
    fn pending_stops_are_bounded_and_the_last_room_is_for_kills() {
        let stops = Stops::new(None, Vec::new());
        for number in 0..MOST_PENDING - ROOM_FOR_KILLS {
            let recorded = stops.record(stop(&format!("f{number}"), StopKind::Rollback));
            assert!(recorded.is_ok_and(|recorded| !recorded.durable));
        }
        let waiting = MOST_PENDING - ROOM_FOR_KILLS;
        let refused = stops.record(stop("one-more", StopKind::Rollback));
        assert_eq!(refused, Err(TooManyStops { waiting }));
        for number in 0..ROOM_FOR_KILLS {
            assert!(
                stops
                    .record(stop(&format!("k{number}"), StopKind::Kill))
                    .is_ok()
            );
        }
        let refused = stops.record(stop("one-more", StopKind::Kill)).unwrap_err();
        assert!(refused.to_string().contains("8192 stops wait"), "{refused}");
        let again = stops.record(stop("k0", StopKind::Kill));
        assert!(again.is_ok(), "what is stopped already needs no room");
    }
}
