//! Running rollouts: watching what a change does, and doing what the planner decides.
//!
//! The decision is pure and lives in `tidegate-rollout`; this module feeds it and obeys it. One
//! task owns every running rollout, so a plan is always applied to the state it was made from.
//! Raising a share is an ordinary flag change by `system:rollout`; taking it back is a stop
//! ([`crate::app::stop`]), which waits for no database.

mod check;
mod distinct;
mod drive;
mod effects;
mod guards;
mod journal;
mod replay;
mod resume;
mod shadow;
pub mod sources;
mod split;
mod start;
mod vitals;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tidegate_lake::Committed;
use tidegate_rollout::command::Command;
use tidegate_rollout::{BasisPoints, Lifecycle, Plan};
use tidegate_store::{Actor, ObjectKind, StopKind, StopServe};
use tokio::sync::{Notify, mpsc, oneshot};

pub(crate) use check::shadowed;
pub use check::{GuardCheck, StartCheck};
pub use drive::run;
pub use guards::GuardSource;
pub use replay::{Replay, replay};
pub(crate) use start::{RULE_PREFIX, read as read_policy, rule_at_zero, rule_id};
pub use start::{check, start, validate};
pub(crate) use vitals::keep_notes;

use crate::app::objects::Place;
use crate::app::{App, AppError, stop};
use crate::events::Follower;
use drive::Active;
use sources::Sources;
use split::Split;
use vitals::Vitals;
use watch::Watch;

/// A rollout's name: project and key.
pub(crate) type Name = (String, String);

/// How many wishes may wait for the task; each waits for at most one look at every rollout.
const INBOX: usize = 64;

/// What somebody asks of a rollout.
#[derive(Debug)]
pub(crate) struct Ask {
    name: Name,
    command: Command,
    who: String,
    why: String,
    reply: oneshot::Sender<Result<Standing, AppError>>,
}

/// What there is to know about running rollouts, for those who look, and the way to ask.
#[derive(Debug)]
pub struct Rollouts {
    watches: Arc<Watches>,
    vitals: Arc<Vitals>,
    sources: Sources,
    standings: Mutex<BTreeMap<Name, Standing>>,
    asks: mpsc::Sender<Ask>,
    inbox: Mutex<Option<mpsc::Receiver<Ask>>>,
}

impl Default for Rollouts {
    fn default() -> Self {
        let (asks, inbox) = mpsc::channel(INBOX);
        Self {
            watches: Arc::default(),
            vitals: Arc::default(),
            sources: Sources::default(),
            standings: Mutex::default(),
            asks,
            inbox: Mutex::new(Some(inbox)),
        }
    }
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
    /// Share of the audience that gets the treatment now, in basis points.
    pub share_bp: u16,
    /// What hooks have to do with it that it goes no further, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<String>,
    /// The newest plan, with verdict, evidence and what is waited for.
    pub plan: Plan,
}

/// A rollout's hold on a flag.
#[derive(Debug)]
pub(crate) struct Steering {
    /// The rollout's key.
    pub(crate) key: String,
    /// The id of its rule in the flag.
    pub(crate) rule: String,
    /// Whether it has not ended.
    pub(crate) is_active: bool,
}

impl Rollouts {
    /// Follows the log of events on behalf of every rollout, running or not yet started.
    #[must_use]
    pub fn follower(&self) -> Arc<dyn Follower> {
        Arc::new(Sight {
            watches: Arc::clone(&self.watches),
            vitals: Arc::clone(&self.vitals),
        })
    }

    /// Takes up what guards saw before a restart.
    pub(crate) fn remember(&self, data_dir: &std::path::Path) {
        self.vitals.load(data_dir);
    }

    /// Asks something of a rollout and returns how it stands afterwards.
    ///
    /// # Errors
    /// What was asked does not make sense now, or could not be written down.
    pub async fn ask(
        &self,
        (project, key): (&str, &str),
        command: Command,
        (who, why): (String, String),
    ) -> Result<Standing, AppError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            name: (project.to_owned(), key.to_owned()),
            command,
            who,
            why,
            reply,
        };
        let stopped = || AppError::Unavailable {
            reason: "the server is stopping".to_owned(),
            retry_after_seconds: 5,
        };
        self.asks.send(ask).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// How every rollout of a project stands, by key.
    #[must_use]
    pub fn standings(&self, project: &str) -> Vec<Standing> {
        let standings = self.lock_standings();
        let own = standings.iter().filter(|((owner, _), _)| owner == project);
        own.map(|(_, standing)| standing.clone()).collect()
    }

    /// How one rollout stands, if it has been started.
    #[must_use]
    pub fn standing(&self, project: &str, key: &str) -> Option<Standing> {
        self.lock_standings()
            .get(&(project.to_owned(), key.to_owned()))
            .cloned()
    }

    /// Shuts a running rollout at once, on the caller's own thread: the task that runs rollouts may
    /// be waiting for storage, and a stop waits for nothing. What it means is written down after.
    pub(crate) fn shut(&self, app: &App, (project, key): (&str, &str), actor: Actor, why: &str) {
        let Some(standing) = self.standing(project, key) else {
            return;
        };
        if matches!(standing.lifecycle.as_str(), "completed" | "rolled back") {
            return;
        }
        let place = Place::parse(project, ObjectKind::Flag, &standing.flag);
        let what = (StopKind::Rollback, StopServe::RuleAtZero(rule_id(key)));
        let outcome = place.and_then(|place| stop::stop(app, actor, &place, what, why));
        if let Err(error) = outcome {
            tracing::warn!(%error, rollout = %key, "a rollout could not be shut at once");
        }
    }

    /// The rollouts that steer a flag, running or ended.
    #[must_use]
    pub(crate) fn steering(&self, project: &str, flag: &str) -> Vec<Steering> {
        let standings = self.lock_standings();
        let of_flag = standings
            .iter()
            .filter(|((owner, _), standing)| owner == project && standing.flag == flag);
        of_flag
            .map(|((_, key), standing)| Steering {
                key: key.clone(),
                rule: rule_id(key),
                is_active: !matches!(standing.lifecycle.as_str(), "completed" | "rolled back"),
            })
            .collect()
    }

    /// Has every rollout looked at now.
    pub(crate) fn look_again(&self) {
        self.watches.moved.notify_one();
    }

    fn put_standing(&self, rollout: &Active, plan: Plan) {
        let hooks = self
            .standing(&rollout.name.0, &rollout.name.1)
            .and_then(|standing| standing.hooks);
        let standing = Standing {
            key: rollout.name.1.clone(),
            flag: rollout.spec.flag.clone(),
            lifecycle: word(&rollout.state.lifecycle).to_owned(),
            share_bp: u16::from(rollout.state.share_bp),
            hooks,
            plan,
        };
        self.lock_standings().insert(rollout.name.clone(), standing);
    }

    /// Shows a rollout that was taken up after a restart, before anything is planned anew.
    fn put_first_standing(&self, rollout: &Active) {
        let nothing_seen = tidegate_rollout::Observations::default();
        let now_us = rollout.state.log_time_us.unwrap_or_default();
        let plan = tidegate_rollout::plan(&rollout.spec, &rollout.state, &nothing_seen, now_us);
        self.put_standing(rollout, plan);
    }

    /// Brings what acting on a plan changed into the standing, beside the plan that decided it.
    fn refresh_standing(&self, rollout: &Active, hooks: Option<String>) {
        if let Some(standing) = self.lock_standings().get_mut(&rollout.name) {
            word(&rollout.state.lifecycle).clone_into(&mut standing.lifecycle);
            standing.share_bp = u16::from(rollout.state.share_bp);
            standing.hooks = hooks;
        }
    }

    fn lock_standings(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Standing>> {
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take_inbox(&self) -> Option<mpsc::Receiver<Ask>> {
        self.inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// The name of the stream that holds a rollout's log.
pub(crate) fn stream_of(rollout: &str) -> String {
    journal::stream(rollout)
}

const fn word(lifecycle: &Lifecycle) -> &'static str {
    match lifecycle {
        Lifecycle::Draft => "draft",
        Lifecycle::Running => "running",
        Lifecycle::Paused { .. } => "paused",
        Lifecycle::RollingBack { .. } => "rolling back",
        Lifecycle::RolledBack { .. } => "rolled back",
        Lifecycle::Completed => "completed",
    }
}

/// Begins to watch a rollout from nothing, as at a start.
fn watch_again(app: &App, rollout: &Active, since_us: i64) {
    let sources = rollout
        .spec
        .guards
        .iter()
        .filter_map(|guard| GuardSource::of(&guard.metric));
    let arms = (
        rollout.spec.treatment.as_str(),
        rollout.spec.control.as_str(),
    );
    for guard in &rollout.spec.guards {
        if let Some(GuardSource::Source(key)) = GuardSource::of(&guard.metric) {
            app.rollouts
                .sources
                .follow(&rollout.name, &key, arms, since_us);
        }
    }
    let watch = Watch::new(&rollout.spec.flag, arms, sources.collect(), since_us);
    app.rollouts.watches.insert(
        rollout.name.clone(),
        Watched {
            watch,
            splits: Vec::new(),
        },
    );
}

/// Begins a phase of constant share in a rollout's watch.
fn watch_phase(app: &App, rollout: &Active, share: BasisPoints, at_us: i64) {
    let set = app
        .live
        .project(&rollout.name.0)
        .map(|project| project.load());
    let flag = set
        .as_ref()
        .and_then(|set| set.specs.get(&rollout.spec.flag));
    let split =
        flag.and_then(|flag| Split::at_share(&rollout.spec.flag, flag, &rollout.name.1, share));
    app.rollouts.sources.begin_phase(&rollout.name);
    app.rollouts.watches.with(&rollout.name, |watched| {
        watched.splits.push(split);
        watched.watch.begin_phase(share, at_us);
    });
}

/// The watches of all running rollouts, fed on the log's own threads.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    table: Mutex<BTreeMap<Name, Watched>>,
    moved: Notify,
}

/// A watch with the split of each phase, which says what arm a unit is in.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) watch: Watch,
    /// `None` where the flag had lost its rule: nothing is counted in such a phase.
    pub(crate) splits: Vec<Option<Split>>,
}

impl Watched {
    /// Counts a stretch of events in ingest order.
    pub(crate) fn follow(&mut self, stretch: &Committed) {
        for event in &stretch.events {
            if !self.watch.concerns(event) {
                continue;
            }
            let Some(phase) = self.watch.phase_of(event) else {
                self.watch.learn(event);
                continue;
            };
            let split = self.splits.get(phase).and_then(Option::as_ref);
            if let Some(arm) = split.and_then(|split| split.arm_of(&event.unit)) {
                self.watch.count(event, phase, arm);
            }
        }
        let as_of_us = stretch.events.iter().map(|event| event.received_us).max();
        self.watch
            .advance(stretch.end_sequence(), as_of_us.unwrap_or(0));
    }
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

    /// Inserts a watch, letting `last` see it while nothing else can be counted.
    pub(crate) fn insert_after(
        &self,
        name: Name,
        mut watched: Watched,
        last: impl FnOnce(&mut Watched),
    ) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        last(&mut watched);
        table.insert(name, watched);
    }

    pub(crate) fn take(&self, name: &Name) -> Option<Watched> {
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name)
    }

    pub(crate) fn remove(&self, name: &Name) {
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

/// Everything rollouts see of the log.
#[derive(Debug)]
struct Sight {
    watches: Arc<Watches>,
    vitals: Arc<Vitals>,
}

impl Follower for Sight {
    fn follow(&self, project: &str, stretch: &Committed) {
        self.watches.follow(project, stretch);
        self.vitals.follow(project, stretch);
    }
}

impl Watches {
    fn follow(&self, project: &str, stretch: &Committed) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, watched) in table.iter_mut().filter(|((owner, _), _)| owner == project) {
            watched.follow(stretch);
        }
        drop(table);
        self.moved.notify_one();
    }
}
