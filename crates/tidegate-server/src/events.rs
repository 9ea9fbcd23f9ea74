//! Events from the door to the disk: read, appended durably, then acknowledged.
//!
//! A 2xx means that the events are synced. The live aggregates follow the log on its own thread,
//! so that what is acknowledged is what guards see, and a restart rebuilds them by replay. Files
//! for questions follow within about a second (`keeper`), and are opened behind the start, so
//! that neither their size nor their damage keeps the server from answering.

pub(crate) mod care;
pub(crate) mod flushing;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod keeper;
pub(crate) mod slot;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_lake::{
    AppendError, Appended, CommitSink, Committed, Covered, DiskSpace, HotMemory, Intake,
    KeptMemory, Lake, LakeIo, LakeOptions, LogError, LogHealth, OpenError, RealDisk,
};
use tidegate_metrics::{Arrival, BatchError, Event, Limits, ParsedBatch, parse_events};

use crate::app::AppError;
use crate::bodies::room::Room;
use crate::meters::{self, EventMeters};
use history::History;
use slot::{Slot, Standing};
use tokio::sync::Notify;

/// The lake of each project, opened when first needed, and the limits at the door.
#[derive(Debug)]
pub struct Events {
    folder: PathBuf,
    followers: Arc<Followers>,
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    /// Why a project's log could not be opened.
    refused: Mutex<HashMap<String, String>>,
    /// Wakes the keeper when a project has sent its first event.
    pub(crate) opened: Notify,
    /// Memory for bodies on their way in, of this door and of OTLP.
    pub(crate) room: Room,
    limits: Limits,
    meters: EventMeters,
    retention: Retention,
    report_limit: Duration,
    /// Decoded rows of all projects, so that many projects need no more memory than one.
    hot_memory: HotMemory,
    /// Metrics kept up of all projects, likewise.
    kept_memory: KeptMemory,
}

/// Bytes of decoded rows over all projects.
const HOT_BYTES: usize = 896 << 20;
/// Bytes of metrics kept up over all projects.
const KEPT_BYTES: usize = 256 << 20;

/// How often a question looks again for a lake that is being opened.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// For how many days events are kept; for ever where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// In projects that are not named below.
    pub days: Option<u32>,
    /// By project.
    pub days_of: BTreeMap<String, u32>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Ingested {
    /// What was read, with every rejection.
    pub batch: ParsedBatchSummary,
    /// What is durable now.
    pub appended: Appended,
}

/// The part of a parsed batch that is answered.
#[derive(Debug)]
pub struct ParsedBatchSummary {
    /// Events accepted but set apart for their time.
    pub quarantined: usize,
    /// Events refused.
    pub rejected_events: usize,
    /// The newest time among the events taken, microseconds since 1970.
    pub newest_us: Option<i64>,
    /// Every violation.
    pub rejected: Vec<tidegate_metrics::Rejection>,
}

impl Events {
    /// The logs under `data_dir`; those that exist are opened and checked now.
    ///
    /// # Errors
    /// As the log says: a disk that fails, or acknowledged data that is damaged.
    pub fn open(data_dir: &Path, followers: Arc<Followers>) -> Result<Self, LogError> {
        let folder = data_dir.join("events");
        let io = |source| LogError::Io {
            path: folder.clone(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(io)?;
        let mut existing = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if entry.path().is_dir() && tidegate_store::ProjectKey::parse(&name).is_ok() {
                existing.push(name);
            }
        }
        let events = Self {
            folder,
            followers,
            slots: Mutex::default(),
            refused: Mutex::default(),
            opened: Notify::new(),
            room: Room::default(),
            limits: Limits::default(),
            meters: EventMeters::default(),
            retention: Retention::default(),
            report_limit: crate::reports::USUAL_LIMIT,
            hot_memory: HotMemory::new(HOT_BYTES),
            kept_memory: KeptMemory::new(KEPT_BYTES),
        };
        for name in &existing {
            // A damaged log refuses events and says so; flags and kills go on.
            if let Err(error) = events.slot(name) {
                tracing::error!(%error, project = %name, "a log of events cannot be opened");
            }
        }
        Ok(events)
    }

    /// The same, keeping events for so long.
    #[must_use]
    pub fn keeping(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The same, answering reports within so long.
    #[must_use]
    pub fn answering_within(mut self, limit: Duration) -> Self {
        self.report_limit = limit;
        self
    }

    /// How long a report may take.
    pub(crate) fn report_limit(&self) -> Duration {
        self.report_limit
    }

    /// For how many days a project's events are kept.
    pub(crate) fn keep_days(&self, project: &str) -> Option<u32> {
        let own = self.retention.days_of.get(project).copied();
        own.or(self.retention.days)
    }

    /// What takes a project's events: its log, and the live aggregates over it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn intake(&self, project: &str) -> Result<Arc<Intake>, OpenError> {
        self.slot(project).map(|slot| Arc::clone(&slot.intake))
    }

    /// A project's lake, which answers questions about its events. Asking it takes time and
    /// blocks: do it on a thread for that.
    ///
    /// # Errors
    /// `Unavailable` while log or files cannot be opened, with the reason.
    pub fn lake(&self, project: &str) -> Result<Arc<Lake>, AppError> {
        self.slot(project)
            .map_err(|error| cannot_open(project, &error))?
            .lake()
    }

    /// The same; waits a little for a lake that is being opened, as after a start. Blocks.
    ///
    /// # Errors
    /// As [`Self::lake`].
    pub(crate) fn lake_soon(&self, project: &str) -> Result<Arc<Lake>, AppError> {
        for _ in 1..LOOKS {
            match self.lake(project) {
                Err(AppError::Unavailable { .. }) => std::thread::sleep(BETWEEN_LOOKS),
                found => return found,
            }
        }
        self.lake(project)
    }

    /// Brings what is acknowledged into a project's files; returns the lake, and up to where.
    /// Waits a little for a lake that is being opened. Blocks.
    ///
    /// # Errors
    /// As [`Self::lake`], and files that cannot be written.
    pub(crate) fn flushed(&self, project: &str) -> Result<(Arc<Lake>, Covered), AppError> {
        let lake = self.lake_soon(project)?;
        let slot = self
            .slot(project)
            .map_err(|error| cannot_open(project, &error))?;
        let covered = flushing::flush(&lake, slot.unflushed());
        let covered = covered.map_err(|error| crate::reports::unreadable(&error))?;
        Ok((lake, covered))
    }

    /// Whether a project has events, or had.
    pub(crate) fn is_known(&self, project: &str) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.contains_key(project)
    }

    /// A project's events from the first on, for whoever counts them again.
    ///
    /// # Errors
    /// Why log or files cannot be opened.
    pub(crate) async fn history(&self, project: &str) -> Result<History, String> {
        let slot = self.slot(project).map_err(|error| slot::in_full(&error))?;
        History::of(&slot).await
    }

    /// What the newest verification of a project's events found wrong.
    pub(crate) fn damage(&self, project: &str) -> Vec<String> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(project);
        slot.map_or_else(Vec::new, |slot| slot.verification.damage())
    }

    /// Every project that has events.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().map(Arc::clone).collect()
    }

    /// How the lakes stand, at `now` of the monotonic clock, by project.
    pub(crate) fn standings(&self, now: Duration) -> Vec<Standing> {
        self.slots().iter().map(|slot| slot.standing(now)).collect()
    }

    /// How full the disk of the events is.
    pub(crate) fn disk(&self) -> std::io::Result<DiskSpace> {
        DiskSpace::of(&self.folder)
    }

    fn slot(&self, project: &str) -> Result<Arc<Slot>, OpenError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(project) {
            return Ok(Arc::clone(slot));
        }
        let sink = Box::new(Feed {
            project: project.to_owned(),
            followers: Arc::clone(&self.followers),
        });
        let dir = self.folder.join(project);
        let mut options = LakeOptions::default();
        options.columns.hot_memory = Some(self.hot_memory.clone());
        options.columns.kept_memory = Some(self.kept_memory.clone());
        let disk: Arc<dyn LakeIo> = Arc::new(RealDisk);
        let opened = Intake::open(&disk, &dir, &options, sink);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let intake = match opened {
            Ok(intake) => Arc::new(intake),
            Err(error) => {
                refused.insert(project.to_owned(), slot::in_full(&error));
                return Err(error);
            }
        };
        refused.remove(project);
        let slot = Arc::new(Slot::new(project, intake, dir, options));
        slots.insert(project.to_owned(), Arc::clone(&slot));
        self.opened.notify_one();
        Ok(slot)
    }

    /// Whether a project's log takes events; a log that was never opened would.
    pub fn health_of(&self, project: &str) -> LogHealth {
        let known = self
            .health()
            .into_iter()
            .find(|(owner, _)| owner == project);
        known.map_or(LogHealth::Writing, |(_, health)| health)
    }

    /// Whether each project's log takes events; one that could not be opened does not.
    pub fn health(&self) -> Vec<(String, LogHealth)> {
        let mut found: Vec<(String, LogHealth)> = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots
                .iter()
                .map(|(project, slot)| (project.clone(), slot.health()))
                .collect()
        };
        // Locked after the other was let go: opening a log takes both, in the other order.
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        found.extend(refused.iter().map(|(project, cause)| {
            (
                project.clone(),
                LogHealth::ReadOnly {
                    cause: cause.clone(),
                },
            )
        }));
        found
    }

    /// What became of events so far.
    pub(crate) fn meters(&self) -> &EventMeters {
        &self.meters
    }

    /// Reads a batch. Takes time in proportion to its length.
    ///
    /// # Errors
    /// A batch whose frame cannot be found.
    pub fn parse(&self, bytes: &[u8], arrival: Arrival) -> Result<ParsedBatch, AppError> {
        parse_events(bytes, &self.limits, arrival).map_err(|error| refused(&error))
    }

    /// Makes the events of a batch durable, and says what became of each.
    ///
    /// # Errors
    /// A log that refuses, with the time to come back.
    pub async fn take(&self, project: &str, batch: ParsedBatch) -> Result<Ingested, AppError> {
        let summary = ParsedBatchSummary {
            quarantined: batch.quarantined(),
            rejected_events: batch.rejected_events(),
            newest_us: batch.accepted.iter().map(|event| event.time_us).max(),
            rejected: batch.rejected,
        };
        meters::add(&self.meters.rejected, summary.rejected_events);
        let appended = self.append(project, batch.accepted).await?;
        meters::add(&self.meters.quarantined, summary.quarantined);
        Ok(Ingested {
            batch: summary,
            appended,
        })
    }

    /// Makes events durable, however they arrived.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub async fn append(&self, project: &str, events: Vec<Event>) -> Result<Appended, AppError> {
        let intake = self
            .intake(project)
            .map_err(|error| cannot_open(project, &error))?;
        let log = intake.log();
        if events.is_empty() {
            let first_sequence = log.next_sequence();
            return Ok(Appended {
                first_sequence,
                accepted: 0,
                duplicates: 0,
            });
        }
        let offered = events.len();
        let answer = log.submit(events).map_err(|error| {
            if matches!(error, AppendError::Overloaded { .. }) {
                meters::add(&self.meters.shed, offered);
            }
            unavailable(&error)
        })?;
        let appended = answer
            .await
            .unwrap_or(Err(AppendError::Closed))
            .map_err(|error| unavailable(&error))?;
        meters::add(&self.meters.accepted, appended.accepted);
        meters::add(&self.meters.duplicates, appended.duplicates);
        Ok(appended)
    }
}

fn cannot_open(project: &str, error: &OpenError) -> AppError {
    tracing::error!(%error, project, "the log of events cannot be opened");
    AppError::Unavailable {
        reason: slot::in_full(error),
        retry_after_seconds: 5,
    }
}

fn refused(error: &BatchError) -> AppError {
    let code = match error {
        BatchError::TooManyBytes { .. } => "batch-too-large",
        BatchError::TooManyEvents { .. } => "too-many-events",
        BatchError::Malformed { .. } => "malformed-batch",
    };
    AppError::invalid("", code, error.to_string())
}

/// Too much at once is the caller's to slow down; a disk that is full or broken is ours.
fn unavailable(error: &AppendError) -> AppError {
    match error {
        AppendError::Overloaded { .. } => AppError::RateLimited {
            reason: error.to_string(),
            retry_after_seconds: 1,
        },
        _ => {
            tracing::error!(%error, "events are refused");
            AppError::Unavailable {
                reason: error.to_string(),
                retry_after_seconds: 5,
            }
        }
    }
}

/// Who is told of every durable stretch, project by project, in ingest order.
pub trait Follower: Send + Sync + std::fmt::Debug {
    /// Takes a stretch. Runs before the batch is acknowledged, so it must be quick.
    fn follow(&self, project: &str, stretch: &Committed);
}

/// The followers of all logs.
#[derive(Debug, Default)]
pub struct Followers(Vec<Arc<dyn Follower>>);

impl Followers {
    /// These followers, told in this order.
    #[must_use]
    pub fn new(followers: Vec<Arc<dyn Follower>>) -> Self {
        Self(followers)
    }
}

/// Ties one project's log to the followers.
#[derive(Debug)]
struct Feed {
    project: String,
    followers: Arc<Followers>,
}

impl CommitSink for Feed {
    fn committed(&mut self, stretch: &Arc<Committed>) {
        for follower in &self.followers.0 {
            follower.follow(&self.project, stretch);
        }
    }
}
