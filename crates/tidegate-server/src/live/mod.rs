//! What is served right now: one compiled rule set per project, swapped whole.
//!
//! Readers take an `Arc` and nothing else: no lock, no storage, no await. The one writer is the
//! reconciler (and, for a stop, the request that stops, which must not wait for a database).
//! A set is never edited in place: it is assembled from a source, compiled, compared with the
//! one before, swapped, and only then announced.

mod assemble;
mod changes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tidegate_flags::{FlagSpec, Ruleset, Warning};
use tidegate_store::ConfigVersion;

use crate::stops::Overlay;
pub use assemble::{FlagProblem, Source, assemble};

pub use changes::{Change, Changes, FlagChange, Resume};

/// Everything that answering for one project needs.
#[derive(Debug)]
pub struct LiveSet {
    /// The project, which is also the flag set id.
    pub project: String,
    /// The compiled rules.
    pub ruleset: Ruleset,
    /// The definitions the rules were compiled from, stop records overlaid.
    pub specs: BTreeMap<String, FlagSpec>,
    /// What the set was assembled from, unreadable definitions included, without any stop.
    pub source: Source,
    /// Digest of the content, equal on every replica that serves the same configuration.
    pub config_tag: String,
    /// Whether any flag's value can change with time alone.
    pub depends_on_time: bool,
    /// Monotonic version of the configuration in its store.
    pub config_version: u64,
    /// Raised by a restore, so that an older version of a newer epoch still wins.
    pub epoch: u64,
    /// What compiles but cannot be meant.
    pub warnings: Vec<Warning>,
    /// Flags that could not be read; the version before them is served where there is one.
    pub problems: Vec<FlagProblem>,
    /// The version of storage, where that is older than this set was when it was last confirmed.
    pub storage_behind: Option<ConfigVersion>,
    /// Unix microseconds since when the store could not confirm this set; `None` while it does.
    pub stale_since_us: Option<i64>,
}

impl LiveSet {
    /// Whether any flag has a rule that begins or ends by itself, held or not.
    #[must_use]
    pub fn has_schedules(&self) -> bool {
        if !self.source.held.is_empty() {
            return true;
        }
        let mut rules = self.specs.values().flat_map(|spec| &spec.rules);
        rules.any(|rule| rule.from.is_some() || rule.until.is_some())
    }

    /// The same set with `overlay`, which is every stop that storage does not know, on top.
    #[must_use]
    pub fn reassembled(&self, overlay: &Overlay) -> Self {
        let mut next = assemble(&self.project, &self.source, overlay, Some(self));
        next.stale_since_us = self.stale_since_us;
        next.storage_behind = self.storage_behind;
        next
    }

    /// What is wrong and what to do, where storage is older than what is served.
    #[must_use]
    pub fn behind(&self) -> Option<String> {
        self.storage_behind.map(|stored| self.behind_at(stored))
    }

    /// The same about any older version of storage.
    #[must_use]
    pub fn behind_at(&self, stored: ConfigVersion) -> String {
        format!(
            "the database is older than what is served (version {} of epoch {}, against version \
             {} of epoch {}), as after a file was put back by hand. What was served is served on; \
             nothing but a stop changes it. Stop the server; put the newer database back, or make \
             this one count: `tidegate backup --data-dir D --to COPY`, then `tidegate restore \
             --data-dir D --from COPY`",
            stored.version, stored.epoch, self.config_version, self.epoch
        )
    }
}

/// One project's place in memory: the set that is served, and who listens to its changes.
#[derive(Debug)]
pub struct LiveProject {
    current: ArcSwap<LiveSet>,
    /// Announces swaps; public because streams subscribe to it.
    pub changes: Changes,
}

impl LiveProject {
    fn new(set: LiveSet) -> Self {
        Self {
            current: ArcSwap::from_pointee(set),
            changes: Changes::default(),
        }
    }

    /// The set that is served now.
    pub fn load(&self) -> Arc<LiveSet> {
        self.current.load_full()
    }

    /// Borrows the set that is served now without touching its reference count.
    pub fn peek(&self) -> arc_swap::Guard<Arc<LiveSet>> {
        self.current.load()
    }

    fn swap(&self, next: LiveSet) {
        let before = self.load();
        let difference = assemble::difference(&before, &next);
        let tag = next.config_tag.clone();
        self.current.store(Arc::new(next));
        self.changes.publish(tag, difference);
    }
}

/// All projects that are served.
#[derive(Debug, Default)]
pub struct Live {
    projects: ArcSwap<BTreeMap<String, Arc<LiveProject>>>,
    writing: Mutex<()>,
}

impl Live {
    /// The project of that key, if it is served.
    pub fn project(&self, key: &str) -> Option<Arc<LiveProject>> {
        self.projects.load().get(key).cloned()
    }

    /// The keys of all projects that are served.
    pub fn keys(&self) -> Vec<String> {
        self.projects.load().keys().cloned().collect()
    }

    /// Replaces what `project` serves by what `next` makes of the set before.
    ///
    /// Writers take turns, so `next` sees the newest set and no swap is lost. `next` returns
    /// `None` to leave things as they are.
    pub fn update(&self, project: &str, next: impl FnOnce(Option<&LiveSet>) -> Option<LiveSet>) {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.project(project) {
            Some(place) => {
                if let Some(set) = next(Some(&place.load())) {
                    place.swap(set);
                }
            }
            None => {
                let Some(set) = next(None) else { return };
                let mut projects = BTreeMap::clone(&self.projects.load());
                projects.insert(project.to_owned(), Arc::new(LiveProject::new(set)));
                self.projects.store(Arc::new(projects));
            }
        }
    }
}
