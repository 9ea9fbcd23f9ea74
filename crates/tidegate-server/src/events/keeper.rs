//! Keeping the lakes: what is acknowledged reaches the files within about a second, files stay
//! few, old days go, and once a day everything is read again to find what the disk has damaged.
//!
//! One task per project, so that a busy project delays nobody else's. Each turn takes no input
//! and may run twice; what fails is said in `/status`, tried again with growing pauses, and never
//! in the way of events, guards or stops. Files whose manifest failed are opened and read anew,
//! because after a failed sync nothing may be assumed about the disk; until that succeeds, what
//! was read before still answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_lake::background::{self, GivesWay};
use tidegate_lake::{ColumnError, DiskAlert, Lake};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::care;
use super::slot::{Slot, in_full};
use crate::app::App;

/// How often it is looked whether there is something to flush.
const TURN: Duration = Duration::from_secs(1);
/// So many events are flushed sooner, in shorter bursts, which keep a report from waiting long and
/// requests from waiting beside a long one.
const PLENTY: u64 = 100_000;
/// From so many events on a flush has a thread of its own, which gives way.
const MUCH: u64 = 10_000;
/// With so many a flush does not give way.
const LAGGING: u64 = 400_000;
/// How often it is looked whether there are.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const HOUSE_EVERY: Duration = Duration::from_secs(60);
/// How often everything stored is read again, to find what the disk has damaged.
const VERIFY_EVERY: Duration = Duration::from_secs(20 * 60 * 60);
const FIRST_VERIFY: Duration = Duration::from_secs(60 * 60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const DAY_US: i64 = 86_400_000_000;

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
        let Some(lake) = slot.open_lake() else {
            continue;
        };
        let kept = tokio::task::spawn_blocking(move || lake.keep_house());
        let problem = match kept.await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => in_full(&error),
            Err(error) => in_full(&error),
        };
        tracing::warn!(project = %slot.project, problem, "the log keeps what was not flushed");
    }
}

async fn keep(app: App, slot: Arc<Slot>, shutdown: CancellationToken) {
    let mut keeper = Keeper::new(slot, app.clock.monotonic());
    let keep_days = app.events.keep_days(&keeper.slot.project);
    let mut next_verify = app.clock.monotonic() + FIRST_VERIFY;
    loop {
        let monotonic = app.clock.monotonic();
        if monotonic >= next_verify && care::verify(&app, &keeper.slot.project).is_ok() {
            next_verify = monotonic + VERIFY_EVERY;
        }
        let now = Now {
            monotonic,
            day: app.clock.now_us().div_euclid(DAY_US),
            keep_days,
        };
        let turn = tokio::task::spawn_blocking(move || {
            keeper.turn(&now);
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
            () = plenty(&keeper.slot) => {}
        }
    }
}

/// Waits until there is plenty to flush.
async fn plenty(slot: &Slot) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if slot.unflushed() >= PLENTY {
            return;
        }
    }
}

/// What a turn knows of the world.
struct Now {
    monotonic: Duration,
    /// Days since 1970 in UTC.
    day: i64,
    /// Days of events that are kept; all if not said.
    keep_days: Option<u32>,
}

/// One project's keeper.
struct Keeper {
    slot: Arc<Slot>,
    next_try: Duration,
    pause: Duration,
    next_house: Duration,
    next_tidy: Duration,
    tidying: Option<JoinHandle<Result<(), String>>>,
    tidy_problem: Option<String>,
    house_problem: Option<String>,
}

impl Keeper {
    fn new(slot: Arc<Slot>, now: Duration) -> Self {
        Self {
            slot,
            next_try: now,
            pause: FIRST_PAUSE,
            next_house: now + HOUSE_EVERY,
            next_tidy: now,
            tidying: None,
            tidy_problem: None,
            house_problem: None,
        }
    }

    fn turn(&mut self, now: &Now) {
        if now.monotonic < self.next_try {
            return;
        }
        let lake = match self.slot.open_lake() {
            Some(lake) if !lake.columns().has_failed() => lake,
            _ => match self.slot.open_files() {
                Ok(lake) => lake,
                Err(problem) => return self.failed(problem, now),
            },
        };
        let flushed = flush(&lake, self.slot.unflushed());
        self.slot.note_backlog(flushed.is_err(), now.monotonic);
        if let Err(error) = flushed {
            return self.failed(in_full(&error), now);
        }
        self.pause = FIRST_PAUSE;
        self.tidy(&lake, now);
        if now.monotonic >= self.next_house {
            self.next_house = now.monotonic + HOUSE_EVERY;
            self.house_problem = told(&self.slot.project, keep_house(&lake, now));
        }
        let problem = self.tidy_problem.clone();
        self.slot
            .note(problem.or_else(|| self.house_problem.clone()));
    }

    // Merging a large day takes minutes, so it has a thread of its own, which an exit does not
    // wait for: what is not committed is as if it had not begun. A file that cannot be merged,
    // because it is damaged, is tried again now and then.
    fn tidy(&mut self, lake: &Arc<Lake>, now: &Now) {
        if let Some(done) = self.tidying.take_if(|thread| thread.is_finished()) {
            let outcome = done
                .join()
                .unwrap_or_else(|_| Err("merging files broke off".to_owned()));
            self.tidy_problem = told(&self.slot.project, outcome);
            if self.tidy_problem.is_some() {
                self.next_tidy = now.monotonic + LONGEST_PAUSE;
            }
        }
        if self.tidying.is_some() || now.monotonic < self.next_tidy {
            return;
        }
        let (lake, day) = (Arc::clone(lake), now.day);
        let begun = background::spawn("tidegate-tidy", GivesWay::Entirely, move || {
            let tidied = lake.tidy(day);
            tidied.map(|_| ()).map_err(|error| in_full(&error))
        });
        self.tidying = begun.ok();
    }

    fn failed(&mut self, problem: String, now: &Now) {
        tracing::error!(
            project = %self.slot.project,
            problem,
            "events wait in the log and are tried again"
        );
        self.slot.note(Some(problem));
        self.next_try = now.monotonic + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Flushing takes a while, in which requests come first; unless it lags behind, since then it
/// would do so more and more.
fn flush(lake: &Arc<Lake>, unflushed: u64) -> Result<u64, ColumnError> {
    if !(MUCH..LAGGING).contains(&unflushed) {
        return lake.flush();
    }
    let flushing = Arc::clone(lake);
    let begun = background::spawn("tidegate-flush", GivesWay::Somewhat, move || {
        flushing.flush()
    });
    let flushed = begun.ok().and_then(|thread| thread.join().ok());
    flushed.unwrap_or_else(|| lake.flush())
}

/// What failed, said in the log too.
fn told(project: &str, outcome: Result<(), String>) -> Option<String> {
    let problem = outcome.err()?;
    tracing::error!(project, problem, "stored events cannot be looked after");
    Some(problem)
}

fn keep_house(lake: &Lake, now: &Now) -> Result<(), String> {
    lake.keep_house().map_err(|error| in_full(&error))?;
    if let Some(days) = now.keep_days {
        let first_day = now.day.saturating_sub(i64::from(days));
        let expired = lake.columns().expire_before(first_day);
        expired.map_err(|error| in_full(&error))?;
    }
    Ok(())
}
