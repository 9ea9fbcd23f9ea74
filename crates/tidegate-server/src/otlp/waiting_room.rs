//! Where acknowledged events wait for what their trace was served.
//!
//! An event that waits was acknowledged, so it must survive a crash. The room is therefore a log
//! of its own, of the same make as the log of events: what waits, and the evaluations it waits
//! for, are durable before they are answered. When an event's time is up it gets what the join
//! knows ([`super::join`]) and goes to the project's log of events, where its id makes it count
//! once; then a mark says how far the room is settled, and what lies below is trimmed. A start
//! reads back what lies above the mark and goes on.
//!
//! The order of these steps is all that matters: an event leaves the room only when it is durable
//! in the log, and a crash between the two makes it arrive twice there, which the log recognises.
//!
//! Whose trace is known already when it comes does not enter: it goes to the log of events as its
//! trace was served ([`WaitingRoom::told_apart`]).

mod erasure;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_lake::{
    AppendError, CommitSink, Committed, EventLog, LogError, LogOptions, RealDisk, read_file,
    replace_file,
};
use tidegate_metrics::Event;
use tokio_util::sync::CancellationToken;

use super::ProjectState;
use super::first_exposures::FirstExposures;
use super::join::{Join, Joined};
use crate::app::App;
use crate::events::slot::in_full;
use erasure::Note;

/// How far evaluations and spans of one trace may arrive apart. SDKs export both at least every
/// five seconds.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Bytes of events that may wait; beyond it senders are told to come back.
const MOST_WAITING_BYTES: usize = 128 * 1024 * 1024;
/// How often it is looked who has waited long enough.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Events that leave the room at a time.
const MOST_AT_ONCE: usize = 10_000;
const MARK: &str = "settled";

/// One project's room.
#[derive(Debug)]
pub struct WaitingRoom {
    folder: PathBuf,
    log: EventLog,
    inside: Arc<Mutex<Inside>>,
    /// Held while some leave, from when they are chosen until they have left.
    leaving: tokio::sync::Mutex<()>,
}

/// Who waits, in the order of the room's log, and what they wait for.
#[derive(Debug)]
struct Inside {
    join: Join,
    queue: VecDeque<(u64, Event)>,
    bytes: usize,
    /// Below it everything has left.
    settled: u64,
    /// First sequence and arrival of each stretch that may hold evaluations still wanted.
    stretches: VecDeque<(u64, i64)>,
    /// The sequence after the last stretch.
    end: u64,
    /// Units that were erased, until the log says nothing of them.
    erased: Vec<Note>,
}

/// What leaves the room together.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// Events, as their trace was served.
    pub(crate) events: Vec<Event>,
    /// What the join made of each event, and whether somebody is named by it.
    pub(crate) joined: Vec<(Joined, bool)>,
    /// Below it everything has left, once these are durable.
    settled: u64,
    count: usize,
}

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// Too many wait.
    #[error("{bytes} bytes of events wait for what their traces were served; try again shortly")]
    Full {
        /// Bytes that wait.
        bytes: usize,
    },
    /// The room's log takes nothing.
    #[error(transparent)]
    Log(#[from] AppendError),
}

impl WaitingRoom {
    /// Opens a room, with those in it who waited when the last server ended.
    ///
    /// # Errors
    /// The disk fails, or acknowledged data is damaged.
    pub fn open(folder: &Path, window: Duration) -> Result<Self, LogError> {
        let window_us = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let settled = read_file(&RealDisk, &folder.join(MARK), 8)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes);
        let inside = Arc::new(Mutex::new(Inside {
            join: Join::new(window_us),
            queue: VecDeque::new(),
            bytes: 0,
            settled,
            stretches: VecDeque::new(),
            end: settled,
            erased: erasure::notes_in(folder)?,
        }));
        let options = LogOptions {
            segment_bytes: 8 << 20,
            recent_ids: 500_000,
            free_segments: 1,
            // The room keeps those who wait itself.
            recent_bytes: 0,
            ..LogOptions::default()
        };
        let door = Box::new(Door(Arc::clone(&inside)));
        let log = EventLog::open(Arc::new(RealDisk), &folder.join("log"), options, door)?;
        Ok(Self {
            folder: folder.to_owned(),
            log,
            inside,
            leaving: tokio::sync::Mutex::default(),
        })
    }

    /// Lets events in, with the evaluations others may wait for; returns when both are durable.
    pub(crate) async fn enter(&self, events: Vec<Event>) -> Result<(), EntryError> {
        if events.is_empty() {
            return Ok(());
        }
        let bytes = self.lock().bytes;
        if bytes > MOST_WAITING_BYTES {
            return Err(EntryError::Full { bytes });
        }
        let durable = self.log.submit(events)?;
        durable.await.unwrap_or(Err(AppendError::Closed))?;
        Ok(())
    }

    /// Tells apart those whose trace is known to have been served something, who need not wait,
    /// and those who wait. The former are as their trace was served.
    pub(crate) fn told_apart(&self, events: Vec<Event>) -> (Vec<Event>, Vec<Event>) {
        let inside = self.lock();
        let mut known = Vec::new();
        let mut waiting = Vec::new();
        for mut event in events {
            match inside.join.settle(&mut event) {
                Joined::Served => known.push(event),
                Joined::Alone | Joined::Ambiguous => waiting.push(event),
            }
        }
        (known, waiting)
    }

    /// Keeps everybody inside until what is returned is dropped.
    pub(crate) async fn hold(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.leaving.lock().await
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().queue.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Traces that were forgotten before their time.
    pub(crate) fn forgotten(&self) -> u64 {
        self.lock().join.forgotten()
    }

    /// Those whose time is up, copied: they stay until they are durable elsewhere.
    pub(crate) fn due(&self, now_us: i64) -> Leaving {
        let mut inside = self.lock();
        inside.join.forget(now_us);
        let mut leaving = Leaving {
            events: Vec::new(),
            joined: Vec::new(),
            settled: inside.settled,
            count: 0,
        };
        for (sequence, event) in inside.queue.iter().take(MOST_AT_ONCE) {
            if !inside.join.is_due(event.received_us, now_us) {
                break;
            }
            let mut event = event.clone();
            let joined = inside.join.settle(&mut event);
            let is_attributed = !event.unit.is_empty();
            leaving.joined.push((joined, is_attributed));
            if is_attributed {
                leaving.events.push(event);
            }
            leaving.settled = sequence + 1;
            leaving.count += 1;
        }
        leaving
    }

    /// Shows out those who are durable elsewhere. Blocks for the disk.
    pub(crate) fn left(&self, leaving: &Leaving, now_us: i64) -> Result<(), LeaveError> {
        let unwanted_below = {
            let mut inside = self.lock();
            for _ in 0..leaving.count {
                if let Some((_, event)) = inside.queue.pop_front() {
                    inside.bytes -= event.approximate_bytes();
                }
            }
            inside.settled = leaving.settled;
            inside.unwanted_below(now_us)
        };
        let mark = leaving.settled.to_le_bytes();
        replace_file(&RealDisk, &self.folder, MARK, &mark)?;
        self.log.trim(unwanted_below)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the room could not be tidied; nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaveError {
    /// The mark could not be set.
    #[error("set the mark of the waiting room")]
    Mark(#[from] std::io::Error),
    /// The room's log could not be trimmed.
    #[error(transparent)]
    Trim(#[from] AppendError),
}

impl Inside {
    /// The sequence below which a start needs nothing: everybody has left, and nobody who waits
    /// or comes can take an evaluation.
    fn unwanted_below(&mut self, now_us: i64) -> u64 {
        let keep_us = self.join.window_us().saturating_mul(2);
        let is_old = |arrived_us: i64| now_us > arrived_us.saturating_add(keep_us);
        while self.stretches.front().is_some_and(|(_, at)| is_old(*at)) {
            self.stretches.pop_front();
        }
        let wanted = self.stretches.front().map_or(self.end, |(first, _)| *first);
        // What stands behind the last who left are evaluations, if nobody waits.
        match self.queue.is_empty() {
            true => wanted,
            false => wanted.min(self.settled),
        }
    }
}

/// Everybody comes in by the room's log, at a start as at any other time.
#[derive(Debug)]
struct Door(Arc<Mutex<Inside>>);

impl CommitSink for Door {
    fn committed(&mut self, stretch: &Arc<Committed>) {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = stretch.events.last() {
            inside
                .stretches
                .push_back((stretch.first_sequence, last.received_us));
        }
        inside.end = stretch.end_sequence();
        for (sequence, event) in (stretch.first_sequence..).zip(&stretch.events) {
            let is_erased = |note: &Note| note.concerns(sequence, &event.unit);
            if inside.erased.iter().any(is_erased) {
                continue;
            }
            if Join::concerns(event) {
                inside.join.learn(event);
            } else if sequence >= inside.settled {
                inside.bytes += event.approximate_bytes();
                inside.queue.push_back((sequence, event.clone()));
            }
        }
    }
}

/// Lets out who has waited long enough, in every project, until `shutdown`.
pub async fn run(app: App, shutdown: CancellationToken) {
    loop {
        for (project, state) in app.otlp.projects() {
            while settle_some(&app, &project, &state).await {}
            if state.waiting.has_erased() {
                give_up_erased(&app, &project, &state).await;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Lets some out; whether there may be more.
async fn settle_some(app: &App, project: &str, state: &Arc<ProjectState>) -> bool {
    let _held = state.waiting.hold().await;
    let mut leaving = state.waiting.due(app.clock.now_us());
    if leaving.count == 0 {
        return false;
    }
    let events = std::mem::take(&mut leaving.events);
    if let Err(error) = app.events.append(project, events).await {
        tracing::warn!(%error, project, "events that waited for their trace wait on");
        return false;
    }
    for (joined, is_attributed) in &leaving.joined {
        app.otlp.meters.joined(*joined, *is_attributed);
    }
    let is_full = leaving.count == MOST_AT_ONCE;
    let (room, now_us) = (Arc::clone(state), app.clock.now_us());
    let tidied = tokio::task::spawn_blocking(move || room.waiting.left(&leaving, now_us)).await;
    match tidied {
        Ok(Ok(())) => is_full,
        Ok(Err(error)) => {
            tracing::warn!(%error, project, "the waiting room cannot be tidied");
            false
        }
        Err(_) => false,
    }
}

/// Takes everything of a unit out of a project's room. Those who waited for it go to the log of
/// events at once, where whoever asks erases them with all the rest.
///
/// # Errors
/// `Unavailable`; it may be asked again.
pub(crate) async fn erase(
    app: &App,
    project: &str,
    unit: &str,
) -> Result<(), crate::app::AppError> {
    let Some(state) = app.otlp.existing(project) else {
        return Ok(());
    };
    let _held = state.waiting.hold().await;
    let (room, name) = (Arc::clone(&state), unit.to_owned());
    let erased = tokio::task::spawn_blocking(move || room.waiting.erase(&name)).await;
    let unavailable = |reason: String| crate::app::AppError::Unavailable {
        reason,
        retry_after_seconds: 60,
    };
    let left = erased
        .map_err(|error| error.to_string())
        .and_then(|erased| erased.map_err(|error| in_full(&error)))
        .map_err(unavailable)?;
    // Which exposures were news is known by hashes that hold the unit: to forget costs rows only.
    *state.exposures() = FirstExposures::default();
    app.events.append(project, left).await?;
    Ok(())
}

async fn give_up_erased(app: &App, project: &str, state: &Arc<ProjectState>) {
    // An erasure that came in between would have its note overwritten.
    let _held = state.waiting.hold().await;
    let (room, now_us) = (Arc::clone(state), app.clock.now_us());
    let given_up = tokio::task::spawn_blocking(move || room.waiting.give_up_erased(now_us)).await;
    if let Ok(Err(error)) = given_up {
        tracing::warn!(%error, project, "what was erased from the waiting room is still on disk");
    }
}

#[cfg(test)]
mod tests;
