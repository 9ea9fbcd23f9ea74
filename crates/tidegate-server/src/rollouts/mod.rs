//! Running rollouts: watching what a change does, and doing what the planner decides.
//!
//! The decision is pure and lives in `tidegate-rollout`; this module feeds it and obeys it. One
//! task owns every running rollout, so a plan is always applied to the state it was made from.
//! Raising a share is an ordinary flag change by `system:rollout`; taking it back is a stop
//! ([`crate::app::stop`]), which waits for no database.

mod drive;
mod journal;
mod split;
mod start;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tidegate_lake::Committed;
use tidegate_rollout::Plan;
use tokio::sync::Notify;

pub use drive::run;
pub use start::{start, validate};

use crate::events::Follower;
use split::Split;
use watch::Watch;

/// A rollout's name: project and key.
pub(crate) type Name = (String, String);

/// What there is to know about running rollouts, for those who look.
#[derive(Debug, Default)]
pub struct Rollouts {
    watches: Arc<Watches>,
    reports: Mutex<BTreeMap<Name, Standing>>,
    started: Mutex<Vec<Name>>,
}

/// One rollout as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// Its key.
    pub key: String,
    /// The flag it opens.
    pub flag: String,
    /// What it is doing, in one word.
    pub lifecycle: String,
    /// The newest plan, with verdict, evidence and what is waited for.
    pub plan: Plan,
}

impl Rollouts {
    /// Follows the log of events on behalf of every running rollout.
    #[must_use]
    pub fn follower(&self) -> Arc<dyn Follower> {
        Arc::clone(&self.watches) as Arc<dyn Follower>
    }

    /// How every rollout stands, by key.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        self.lock_reports().values().cloned().collect()
    }

    /// How one rollout stands, if it has been started.
    #[must_use]
    pub fn standing(&self, project: &str, key: &str) -> Option<Standing> {
        self.lock_reports()
            .get(&(project.to_owned(), key.to_owned()))
            .cloned()
    }

    fn put_standing(&self, name: Name, standing: Standing) {
        self.lock_reports().insert(name, standing);
    }

    fn lock_reports(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Standing>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a rollout that has just been started to the task that runs it.
    fn announce_start(&self, name: Name) {
        self.started
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name);
        self.watches.moved.notify_one();
    }

    fn take_started(&self) -> Vec<Name> {
        std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The watches of all running rollouts, fed on the log's own threads.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    table: Mutex<BTreeMap<Name, Watched>>,
    moved: Notify,
}

/// A watch with the split that says which arm a unit is in, one per phase.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) watch: Watch,
    pub(crate) split: Split,
}

impl Watches {
    pub(crate) fn with<T>(&self, name: &Name, act: impl FnOnce(&mut Watched) -> T) -> Option<T> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.get_mut(name).map(act)
    }

    pub(crate) fn insert(&self, name: Name, watched: Watched) {
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, watched);
    }

    pub(crate) fn remove(&self, name: &Name) {
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

impl Follower for Watches {
    fn follow(&self, project: &str, stretch: &Committed) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, watched) in table.iter_mut().filter(|((owner, _), _)| owner == project) {
            for event in &stretch.events {
                if watched.watch.concerns(event)
                    && let Some(arm) = watched.split.arm_of(&event.unit)
                {
                    watched.watch.count(event, arm);
                }
            }
            let as_of_us = stretch.events.iter().map(|event| event.received_us).max();
            watched
                .watch
                .advance(stretch.end_sequence(), as_of_us.unwrap_or(0));
        }
        drop(table);
        self.moved.notify_one();
    }
}
