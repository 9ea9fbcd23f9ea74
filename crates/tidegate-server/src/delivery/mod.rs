//! Delivery at the server: one log per project, written by webhooks, pipelines, people and Tidegate itself.
//!
//! ```text
//! webhook -> signature -> inbox (synced) -> 202          the sender waits for this much
//!                              \-> parse -> log (synced)  and this follows
//! pipeline, person, own events ---------> log (synced) -> answer
//! question -> timeline (the fold of the log, kept until the log grows) -> answer
//! ```
//!
//! * The log is a file ([`log_file`]), not a table: it is what `tidegate delivery` reads without a server, and it
//!   takes deliveries while storage is away.
//! * A delivery counts once, by (source, id); what is sent again changes nothing, so every writer may retry.
//! * A log is opened when it is first written to, and its lock held until the server stops.
//!
//! Must not know: HTTP, and what rows mean; `tidegate-delivery` reads and measures them.

mod frame;
mod inbox;
pub mod log_file;
mod own;
mod own_rollouts;
mod project_log;
mod reader;
pub mod secrets;
pub mod settings;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_delivery::webhook::MAX_BODY_BYTES;
use tidegate_delivery::{DeliveryEvent, Timeline};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use frame::Received;
use inbox::Inbox;
pub use inbox::ReceiveError;
use log_file::{DeliveryLog, LogError};
pub use own::{SOURCE as OWN_SOURCE, run};
pub use project_log::{Appending, Batch, ProjectLog};
pub use reader::Outcome;
use secrets::SecretBook;

use crate::app::AppError;
use crate::meters::WebhookMeters;

/// Bytes of webhooks that may be in memory at a time: arriving, waiting for the disk, or waiting to be read.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Questions that are computed at a time; others wait, so that serving flags keeps the machine.
const MAX_ANSWERS: usize = 2;
/// Webhooks of which it is remembered what became of them.
const MAX_REMEMBERED: usize = 500;

/// Everything delivery at this server.
#[derive(Debug)]
pub struct Delivery {
    shared: Arc<Shared>,
    inbox: Inbox,
    waiting: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

/// What the threads of the inbox share with the doors.
#[derive(Debug)]
struct Shared {
    data_dir: PathBuf,
    logs: Mutex<HashMap<String, Arc<ProjectLog>>>,
    secrets: SecretBook,
    outcomes: Mutex<VecDeque<Outcome>>,
    meters: WebhookMeters,
}

impl Shared {
    /// The log of a project, opened or not.
    fn log(&self, project: &str) -> Result<Arc<ProjectLog>, LogError> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(project) {
            return Ok(Arc::clone(log));
        }
        let log = Arc::new(ProjectLog::new(DeliveryLog::at(&self.data_dir, project)?));
        logs.insert(project.to_owned(), Arc::clone(&log));
        Ok(log)
    }

    fn remember(&self, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if outcomes.len() == MAX_REMEMBERED {
            outcomes.pop_front();
        }
        outcomes.push_back(outcome);
    }
}

/// Room for the body of one webhook; held until its rows are in the log.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Delivery {
    /// Opens the inbox under `data_dir` and reads what a stopped server had not read yet.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(data_dir: &Path) -> std::io::Result<Self> {
        let folder = data_dir.join("delivery");
        std::fs::create_dir_all(&folder)?;
        let shared = Arc::new(Shared {
            data_dir: data_dir.to_owned(),
            logs: Mutex::default(),
            secrets: SecretBook::open(&folder.join("webhook-secrets.json")),
            outcomes: Mutex::default(),
            meters: WebhookMeters::default(),
        });
        Ok(Self {
            inbox: Inbox::open(&folder.join("webhooks.inbox"), Arc::clone(&shared))?,
            shared,
            waiting: Arc::new(Semaphore::new(MAX_WAITING_BYTES)),
            answers: Arc::new(Semaphore::new(MAX_ANSWERS)),
        })
    }

    /// The secrets of webhooks.
    #[must_use]
    pub fn secrets(&self) -> &SecretBook {
        &self.shared.secrets
    }

    /// What was counted of webhooks.
    pub(crate) fn meters(&self) -> &WebhookMeters {
        &self.shared.meters
    }

    /// Room that is taken.
    pub(crate) fn waiting_bytes(&self) -> usize {
        MAX_WAITING_BYTES - self.waiting.available_permits()
    }

    /// Room for a webhook of `bytes`, before a byte of it is read. `None`: too many are waiting.
    #[must_use]
    pub fn room(&self, bytes: usize) -> Option<Room> {
        let bytes = u32::try_from(bytes.clamp(1, MAX_BODY_BYTES)).ok()?;
        let permit = Arc::clone(&self.waiting).try_acquire_many_owned(bytes);
        permit.ok().map(Room)
    }

    /// Stores a webhook; `Ok` means that it is on disk and will be read.
    ///
    /// # Errors
    /// [`ReceiveError`]; nothing is kept then.
    pub async fn receive(&self, received: Received, room: Room) -> Result<(), ReceiveError> {
        self.inbox.receive(received, room).await
    }

    /// What became of the latest webhooks of a project, newest first.
    #[must_use]
    pub fn outcomes(&self, project: &str) -> Vec<Outcome> {
        let outcomes = self
            .shared
            .outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        outcomes
            .iter()
            .rev()
            .filter(|outcome| outcome.project == project)
            .cloned()
            .collect()
    }

    /// Appends rows, all of them or none.
    ///
    /// # Errors
    /// The log is damaged, in use elsewhere, or the disk refuses.
    pub async fn append(
        &self,
        project: &str,
        events: Vec<DeliveryEvent>,
    ) -> Result<Appending, AppError> {
        self.with_log(project, move |log| log.append(&events)).await
    }

    /// Does something slow with a project's log, away from the threads that serve.
    ///
    /// # Errors
    /// The log is damaged, in use elsewhere, or the disk refuses.
    pub async fn with_log<T: Send + 'static>(
        &self,
        project: &str,
        work: impl FnOnce(&ProjectLog) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, AppError> {
        let log = self.shared.log(project).map_err(|error| refusal(&error))?;
        tokio::task::spawn_blocking(move || work(&log))
            .await
            .map_err(|error| AppError::Internal(error.to_string()))?
            .map_err(|error| refusal(&error))
    }

    /// Computes an answer from the fold of a project's log, a few at a time.
    ///
    /// # Errors
    /// The log cannot be read, or what `answer` says.
    pub async fn ask<T: Send + 'static>(
        &self,
        project: &str,
        answer: impl FnOnce(&Timeline) -> Result<T, AppError> + Send + 'static,
    ) -> Result<T, AppError> {
        let _turn = Arc::clone(&self.answers).acquire_owned().await;
        let log = self.shared.log(project).map_err(|error| refusal(&error))?;
        let computed = tokio::task::spawn_blocking(move || {
            let timeline = log.timeline().map_err(|error| refusal(&error))?;
            answer(&timeline)
        });
        computed
            .await
            .map_err(|error| AppError::Internal(error.to_string()))?
    }
}

/// A log's refusal in the words of a use case.
pub(crate) fn refusal(error: &LogError) -> AppError {
    match error {
        LogError::ProjectName { .. } => AppError::invalid("/project", "bad-key", error.to_string()),
        LogError::Io { .. } | LogError::InUse { .. } => {
            tracing::warn!(%error, "the delivery log is not available");
            AppError::Unavailable {
                reason: "the delivery log is not available; nothing was recorded".to_owned(),
                retry_after_seconds: 5,
            }
        }
        LogError::Format { .. } | LogError::Damaged { .. } => AppError::Internal(error.to_string()),
    }
}
