//! The watches of all running rollouts, fed on the log's own threads.
//!
//! An event is shown to the rollouts of the flags it carries and to no other, so that a thousand
//! rollouts cost an event no more than the few it concerns. What changed is noted by name: whoever
//! plans asks what is new instead of looking everywhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_lake::Committed;
use tidegate_metrics::Event;
use tidegate_rollout::BasisPoints;
use tidegate_rollout::evidence::BAKE_PERIODS;
use tokio::sync::Notify;

use super::Name;
use super::split::Split;
use super::vitals::Vitals;
use super::watch::{Change, Watch};
use crate::clock::Clock;
use crate::events::Follower;

/// Every watch, by rollout.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    table: Mutex<Table>,
    /// Told when something is new.
    pub(super) moved: Notify,
}

/// Watches with an index of the flags they watch.
#[derive(Debug, Default)]
pub(super) struct Table {
    watches: BTreeMap<Name, Watched>,
    /// The rollouts of each project's flags.
    by_flag: HashMap<String, HashMap<String, Vec<Name>>>,
    changed: BTreeMap<Name, Change>,
}

/// An event that counts as evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Its ingest sequence.
    pub(crate) sequence: u64,
    /// When it arrived, Unix microseconds.
    pub(crate) received_us: i64,
    /// When it was durable and counted, just before it was acknowledged, Unix microseconds.
    pub(crate) counted_us: i64,
}

/// A watch with the split of each phase, which says what arm a unit is in.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) watch: Watch,
    /// `None` where the flag had lost its rule: nothing is counted in such a phase.
    pub(crate) splits: Vec<Option<Arc<Split>>>,
    /// The first evidence that no plan has seen yet.
    pub(super) unseen: Option<Evidence>,
}

impl Watched {
    pub(crate) fn new(watch: Watch) -> Self {
        Self {
            watch,
            splits: Vec::new(),
            unseen: None,
        }
    }

    /// Begins a phase of constant share; with a length, the first period of a bake.
    pub(crate) fn begin_phase(
        &mut self,
        (split, share): (Option<Split>, BasisPoints),
        at_us: i64,
        period_us: Option<i64>,
    ) {
        // After a restart phases begin before events are counted again: what was due had begun then.
        self.begin_periods(at_us);
        self.splits.push(split.map(Arc::new));
        self.watch.begin_phase(share, at_us);
        if let Some(length_us) = period_us {
            self.watch.cut_into_periods(length_us, BAKE_PERIODS);
        }
    }

    /// Begins the periods of a bake that are due.
    fn begin_periods(&mut self, at_us: i64) {
        while self.watch.begin_period(at_us) {
            let split = self.splits.last().cloned().flatten();
            self.splits.push(split);
        }
    }

    /// Counts one event.
    fn meet(&mut self, event: &Event, sequence: u64, counted_us: i64) -> Change {
        if !self.watch.concerns(event) {
            return Change::default();
        }
        self.begin_periods(event.received_us);
        let Some(phase) = self.watch.phase_of(event) else {
            // A rollout may be waiting for just that.
            let units = self.watch.learn(event);
            return Change {
                evidence: false,
                units,
            };
        };
        let split = self.splits.get(phase).and_then(Option::as_deref);
        let Some(arm) = split.and_then(|split| split.arm_of(&event.unit)) else {
            return Change::default();
        };
        let change = self.watch.count(event, phase, arm);
        if change.evidence && self.unseen.is_none() {
            self.unseen = Some(Evidence {
                sequence,
                received_us: event.received_us,
                counted_us,
            });
        }
        change
    }
}

fn newest_us(stretch: &Committed) -> i64 {
    let received = stretch.events.iter().map(|event| event.received_us);
    received.max().unwrap_or(0)
}

impl Watches {
    pub(crate) fn with<T>(&self, name: &Name, act: impl FnOnce(&mut Watched) -> T) -> Option<T> {
        self.lock().watches.get_mut(name).map(act)
    }

    pub(crate) fn insert(&self, name: Name, watched: Watched) {
        self.lock().insert(name, watched);
    }

    /// Inserts the watches of another table, letting `last` see them while nothing else can be counted.
    pub(super) fn adopt(&self, mut other: Table, last: impl FnOnce(&mut Table)) {
        let mut table = self.lock();
        last(&mut other);
        for (name, watched) in other.watches {
            table.insert(name, watched);
        }
    }

    pub(crate) fn take(&self, name: &Name) -> Option<Watched> {
        self.lock().remove(name)
    }

    pub(crate) fn remove(&self, name: &Name) {
        self.lock().remove(name);
    }

    /// Notes that a rollout is to be looked at, whatever its counts say.
    pub(crate) fn touch(&self, name: &Name) {
        let both = Change {
            evidence: true,
            units: true,
        };
        self.lock().changed.insert(name.clone(), both);
        self.moved.notify_one();
    }

    /// What is new since the last time this was asked, by rollout.
    pub(super) fn take_changed(&self) -> BTreeMap<Name, Change> {
        std::mem::take(&mut self.lock().changed)
    }

    fn follow(&self, project: &str, stretch: &Committed, counted_us: i64) {
        self.lock().follow(project, stretch, Some(counted_us));
        self.moved.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    pub(super) fn insert(&mut self, name: Name, watched: Watched) {
        let flags = self.by_flag.entry(name.0.clone()).or_default();
        let names = flags.entry(watched.watch.flag().to_owned()).or_default();
        if !names.contains(&name) {
            names.push(name.clone());
        }
        self.watches.insert(name, watched);
    }

    fn remove(&mut self, name: &Name) -> Option<Watched> {
        let watched = self.watches.remove(name)?;
        if let Some(flags) = self.by_flag.get_mut(&name.0) {
            let flag = watched.watch.flag();
            if let Some(names) = flags.get_mut(flag) {
                names.retain(|known| known != name);
                if names.is_empty() {
                    flags.remove(flag);
                }
            }
        }
        Some(watched)
    }

    /// Counts a stretch of events in ingest order; `counted_us` is absent for one that is counted again.
    pub(super) fn follow(&mut self, project: &str, stretch: &Committed, counted_us: Option<i64>) {
        let Self {
            watches,
            by_flag,
            changed,
        } = self;
        let Some(flags) = by_flag.get(project) else {
            return;
        };
        for (sequence, event) in (stretch.first_sequence..).zip(&stretch.events) {
            let rollouts = event
                .flags
                .iter()
                .filter_map(|(flag, _)| flags.get(flag.as_ref()));
            for name in rollouts.flatten() {
                let Some(watched) = watches.get_mut(name) else {
                    continue;
                };
                let counted_us = counted_us.unwrap_or(event.received_us);
                let change = watched.meet(event, sequence, counted_us);
                if change != Change::default() {
                    changed.entry(name.clone()).or_default().add(change);
                }
            }
        }
        let (end, newest_us) = (stretch.end_sequence(), newest_us(stretch));
        let own = watches
            .range_mut((project.to_owned(), String::new())..)
            .take_while(|((owner, _), _)| owner == project);
        for (_, watched) in own {
            watched.watch.advance(end, newest_us);
        }
    }
}

/// Everything rollouts see of the log.
pub(super) struct Sight {
    watches: Arc<Watches>,
    vitals: Arc<Vitals>,
    clock: Arc<dyn Clock>,
}

impl Sight {
    pub(super) fn new(watches: Arc<Watches>, vitals: Arc<Vitals>, clock: Arc<dyn Clock>) -> Self {
        Self {
            watches,
            vitals,
            clock,
        }
    }
}

impl std::fmt::Debug for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sight").finish_non_exhaustive()
    }
}

impl Follower for Sight {
    fn follow(&self, project: &str, stretch: &Committed) {
        self.watches.follow(project, stretch, self.clock.now_us());
        self.vitals.follow(project, stretch);
    }
}
