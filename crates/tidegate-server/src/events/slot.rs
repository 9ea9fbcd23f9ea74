//! One project's events: what takes them, which opens at once, and the lake over it, which opens
//! behind.
//!
//! A lake that cannot be opened, or whose files fail, keeps nobody from sending events, from
//! guarding a rollout or from stopping one: only answers wait, and say why.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tidegate_lake::{Intake, Lake, LakeOptions, LogHealth, RealDisk};

use super::care::Verification;
use crate::app::AppError;

/// One project's events.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The project.
    pub(crate) project: String,
    /// What takes events.
    pub(crate) intake: Arc<Intake>,
    /// The newest verification.
    pub(crate) verification: Verification,
    dir: PathBuf,
    options: LakeOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lake: Option<Arc<Lake>>,
    /// Why the lake is not open, or what its keeper last failed at.
    problem: Option<String>,
    /// Since when something is in the log and not in files, by the monotonic clock.
    behind_since: Option<Duration>,
}

/// Whether questions can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Files {
    /// Not yet; the server has just started.
    Opening,
    /// They can.
    Open,
    /// They cannot, and the reason is given; it is tried again.
    Refused,
}

/// How a project's events stand, for those who look.
#[derive(Debug, Serialize)]
pub(crate) struct Standing {
    /// The project.
    pub(crate) project: String,
    /// Whether questions can be answered.
    pub(crate) state: Files,
    /// Event files.
    pub(crate) files: usize,
    /// Rows in them.
    pub(crate) rows: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// Every event below this ingest sequence is in files.
    pub(crate) watermark: u64,
    /// Acknowledged events that are only in the log yet.
    pub(crate) unflushed_events: u64,
    /// For how long some event has been waiting for a file, in seconds.
    pub(crate) flush_lag_seconds: u64,
    /// Every event below this ingest sequence is counted live.
    pub(crate) live_watermark: u64,
    /// Units that are hidden and not yet rewritten away.
    pub(crate) pending_erasures: usize,
    /// Files that are set apart because they are damaged, and what else the newest verification
    /// found wrong.
    pub(crate) damage: Vec<String>,
    /// What failed last and has not succeeded since.
    pub(crate) problem: Option<String>,
}

impl Slot {
    pub(crate) fn new(
        project: &str,
        intake: Arc<Intake>,
        dir: PathBuf,
        options: LakeOptions,
    ) -> Self {
        Self {
            project: project.to_owned(),
            intake,
            verification: Verification::default(),
            dir,
            options,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lake, if it is open.
    pub(crate) fn open_lake(&self) -> Option<Arc<Lake>> {
        self.state().lake.clone()
    }

    /// The lake.
    ///
    /// # Errors
    /// `Unavailable` while it is not open, with the reason.
    pub(crate) fn lake(&self) -> Result<Arc<Lake>, AppError> {
        let state = self.state();
        state.lake.clone().ok_or_else(|| AppError::Unavailable {
            reason: state.problem.clone().unwrap_or_else(|| {
                "the event files are being opened; ask again in a moment".to_owned()
            }),
            retry_after_seconds: 2,
        })
    }

    /// Opens the columnar files; takes time and blocks.
    pub(crate) fn open_files(&self) -> Result<Arc<Lake>, String> {
        let opened = Lake::over(
            Arc::clone(&self.intake),
            Arc::new(RealDisk),
            &self.dir,
            self.options.columns.clone(),
        );
        let mut state = self.state();
        match opened {
            Ok(lake) => {
                let lake = Arc::new(lake);
                state.lake = Some(Arc::clone(&lake));
                state.problem = None;
                Ok(lake)
            }
            Err(error) => {
                let problem = format!("the event files cannot be opened: {}", in_full(&error));
                state.problem = Some(problem.clone());
                Err(problem)
            }
        }
    }

    /// Events that wait for a file, if the files are open.
    pub(crate) fn unflushed(&self) -> u64 {
        let next = self.intake.log().next_sequence();
        self.open_lake().map_or(0, |lake| {
            next.saturating_sub(lake.columns().state().flushed_sequence)
        })
    }

    /// Why the lake is not open, or what its keeper last failed at.
    pub(crate) fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// Notes what the keeper failed at, or that it succeeded.
    pub(crate) fn note(&self, problem: Option<String>) {
        self.state().problem = problem;
    }

    /// Notes at `now` whether something waits to be flushed.
    pub(crate) fn note_backlog(&self, is_behind: bool, now: Duration) {
        let mut state = self.state();
        state.behind_since = is_behind.then(|| state.behind_since.unwrap_or(now));
    }

    /// Whether the log takes events.
    pub(crate) fn health(&self) -> LogHealth {
        self.intake.log().health()
    }

    /// How it stands at `now`.
    pub(crate) fn standing(&self, now: Duration) -> Standing {
        let (lake, problem, behind_since) = {
            let state = self.state();
            (
                state.lake.clone(),
                state.problem.clone(),
                state.behind_since,
            )
        };
        let files = lake.as_ref().map(|lake| lake.columns().state());
        let next = self.intake.log().next_sequence();
        let watermark = files.as_ref().map_or(0, |files| files.flushed_sequence);
        let set_apart = lake.as_ref().zip(files.as_ref());
        let set_apart = set_apart.map(|(lake, files)| lake.columns().damage(files));
        let mut damage = set_apart.unwrap_or_default();
        damage.extend(self.verification.damage());
        Standing {
            project: self.project.clone(),
            state: match (&files, &problem) {
                (Some(_), _) => Files::Open,
                (None, None) => Files::Opening,
                (None, Some(_)) => Files::Refused,
            },
            files: files.as_ref().map_or(0, |files| files.files.len()),
            rows: files.as_ref().map_or(0, |files| files.rows()),
            bytes: files
                .as_ref()
                .map_or(0, |files| files.files.values().map(|file| file.bytes).sum()),
            watermark,
            unflushed_events: next.saturating_sub(watermark),
            flush_lag_seconds: behind_since.map_or(0, |since| now.saturating_sub(since).as_secs()),
            pending_erasures: files.as_ref().map_or(0, |files| files.erasing.len()),
            live_watermark: self.intake.live().watermark().sequence,
            damage,
            problem,
        }
    }
}

/// An error with its causes, as one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
