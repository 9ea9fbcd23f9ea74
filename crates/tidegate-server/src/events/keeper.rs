//! Keeping the lakes: what is acknowledged reaches the files within about a second, files stay
//! few, old days go.
//!
//! One task per project, so that a busy project delays nobody else's. Each turn takes no input
//! and may run twice; what fails is said in `/status`, tried again with growing pauses, and never
//! in the way of events, guards or stops. Files whose manifest failed are opened and read anew,
//! because after a failed sync nothing may be assumed about the disk; until that succeeds, what
//! was read before still answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate_lake::{DiskAlert, Lake};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::slot::{Slot, in_full};
use crate::app::App;

/// How often it is looked whether there is something to flush.
const TURN: Duration = Duration::from_secs(1);
const HOUSE_EVERY: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Files of one day above which they are merged although events keep coming.
const MANY_FILES: usize = 32;

/// Keeps the lake of every project, those of later ones included, until `shutdown`.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let mut keepers = JoinSet::new();
    let mut known = BTreeSet::new();
    let mut alert = told_of_disk(&app, DiskAlert::None);
    loop {
        for slot in app.events.slots() {
            if known.insert(slot.project.clone()) {
                keepers.spawn(keep(app.clone(), slot, shutdown.clone()));
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = app.events.opened.notified() => {}
            () = tokio::time::sleep(HOUSE_EVERY) => {}
        }
        alert = told_of_disk(&app, alert);
    }
    while keepers.join_next().await.is_some() {}
}

/// Says so when the disk becomes fuller or emptier by a level. Returns the level.
fn told_of_disk(app: &App, before: DiskAlert) -> DiskAlert {
    let Ok(disk) = app.events.disk() else {
        return before;
    };
    let alert = disk.alert();
    let (used_percent, available_bytes) = (disk.used_percent(), disk.available_bytes);
    if alert > before {
        tracing::error!(
            disk.used_percent = used_percent,
            disk.available_bytes = available_bytes,
            "the disk of the events fills up; make room, or events will be refused"
        );
    } else if alert < before {
        tracing::info!(disk.used_percent = used_percent, "the disk has room again");
    }
    alert
}

/// Moves what is left in the logs into files, when nobody sends any more.
pub(crate) async fn last_flush(app: &App) {
    for slot in app.events.slots() {
        let now = app.clock.monotonic();
        let flushed = tokio::task::spawn_blocking(move || {
            let mut keeper = Keeper::new(Arc::clone(&slot), now);
            if let Some(lake) = slot.open_lake() {
                keeper.keep_house(&lake, now);
            }
        });
        if let Err(error) = flushed.await {
            tracing::error!(%error, "the last flush broke off; the log still holds everything");
        }
    }
}

async fn keep(app: App, slot: Arc<Slot>, shutdown: CancellationToken) {
    let mut keeper = Keeper::new(slot, app.clock.monotonic());
    loop {
        let now = app.clock.monotonic();
        let turn = tokio::task::spawn_blocking(move || {
            keeper.turn(now);
            keeper
        });
        keeper = match turn.await {
            Ok(keeper) => keeper,
            Err(error) => {
                tracing::error!(%error, "a keeper of events broke off");
                return;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TURN) => {}
        }
    }
}

/// One project's keeper.
struct Keeper {
    slot: Arc<Slot>,
    next_try: Duration,
    pause: Duration,
    next_house: Duration,
    last_seen: u64,
}

impl Keeper {
    fn new(slot: Arc<Slot>, now: Duration) -> Self {
        Self {
            slot,
            next_try: now,
            pause: FIRST_PAUSE,
            next_house: now + HOUSE_EVERY,
            last_seen: 0,
        }
    }

    fn turn(&mut self, now: Duration) {
        if now < self.next_try {
            return;
        }
        let lake = match self.slot.open_lake() {
            Some(lake) if !lake.columns().has_failed() => lake,
            _ => match self.slot.open_files() {
                Ok(lake) => lake,
                Err(problem) => return self.failed(problem, now),
            },
        };
        let next = lake.log().next_sequence();
        let is_idle = std::mem::replace(&mut self.last_seen, next) == next;
        let flushed = lake.flush();
        self.slot.note_backlog(flushed.is_err(), now);
        let outcome = flushed.and_then(|_| merge(&lake, is_idle));
        if let Err(error) = outcome {
            return self.failed(in_full(&error), now);
        }
        if now >= self.next_house {
            self.keep_house(&lake, now);
        } else {
            self.succeeded();
        }
    }

    fn keep_house(&mut self, lake: &Lake, now: Duration) {
        self.next_house = now + HOUSE_EVERY;
        let flushed = lake.flush().map_err(|error| in_full(&error));
        let counted = lake.live().checkpoint().map_err(|error| in_full(&error));
        match flushed.and(counted) {
            Ok(_) => self.succeeded(),
            Err(problem) => self.failed(problem, now),
        }
    }

    fn failed(&mut self, problem: String, now: Duration) {
        tracing::error!(
            project = %self.slot.project,
            problem,
            "events wait in the log and are tried again"
        );
        self.slot.note(Some(problem));
        self.next_try = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn succeeded(&mut self) {
        self.slot.note(None);
        self.pause = FIRST_PAUSE;
    }
}

fn merge(lake: &Lake, is_idle: bool) -> Result<(), tidegate_lake::ColumnError> {
    let state = lake.columns().state();
    let most = state.days().values().map(Vec::len).max().unwrap_or(0);
    if most > MANY_FILES || (is_idle && most > 1) {
        drop(state);
        lake.columns().compact()?;
    }
    Ok(())
}
