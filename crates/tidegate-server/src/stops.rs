//! Stops that work without a database: recorded on disk, served, then made ordinary.
//!
//! A kill or a rollback first syncs one record to the pre-allocated stop file, is then served
//! from memory, and only afterwards becomes the ordinary transaction with its audit entry. The
//! record's id is the idempotency key of that transaction, so it happens exactly once however
//! often the process dies in between. If the disk refuses the record, the stop is served anyway
//! and the answer says `durable: false`: the one exception to "acknowledged means durable",
//! because a stop that waits for a disk is no stop.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tidegate_flags::{EditError, FlagSpec};
use tidegate_store::{StopFile, StopId, StopRecord, StopServe};

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

/// The stop file and what is pending in it.
#[derive(Debug)]
pub struct Stops {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Option<StopFile>,
    pending: Vec<StopRecord>,
}

impl Stops {
    /// The stops of `file`; `None` where no file could be opened, so that stops still work.
    #[must_use]
    pub fn new(file: Option<StopFile>, pending: Vec<StopRecord>) -> Self {
        Self {
            inner: Mutex::new(Inner { file, pending }),
        }
    }

    /// Records a stop and returns whether the record is on disk. Blocks for one small sync.
    pub fn record(&self, record: StopRecord) -> bool {
        let mut inner = self.lock();
        let durable = match inner.file.as_ref().map(|file| file.append(&record)) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::error!(%error, stop.id = %record.id(), "the stop file refused a record");
                false
            }
            None => false,
        };
        inner.pending.push(record);
        durable
    }

    /// Marks a stop as ordinary: its transaction is committed.
    pub fn settle(&self, id: StopId) {
        let mut inner = self.lock();
        if let Some(Err(error)) = inner.file.as_ref().map(|file| file.applied(&id)) {
            // Harmless: the transaction carries the id, so settling again changes nothing.
            tracing::warn!(%error, stop.id = %id, "the stop file could not be marked");
        }
        inner.pending.retain(|record| record.id() != id);
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
