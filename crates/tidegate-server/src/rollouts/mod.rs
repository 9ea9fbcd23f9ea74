//! Running rollouts: watching what a change does, and doing what the planner decides.
//!
//! The decision is pure and lives in `tidegate-rollout`; this module feeds it and obeys it. One
//! task hands out every running rollout and takes it back ([`rounds`]), so a plan is always applied
//! to the state it was made from, and no rollout waits for another's storage.
//! Raising a share is an ordinary flag change by `system:rollout`; taking it back is a stop
//! ([`crate::app::stop`]), which waits for no database.

mod check;
mod distinct;
mod drive;
mod effects;
mod guards;
mod journal;
mod meters;
mod replay;
mod resume;
mod rounds;
mod shadow;
pub mod sources;
mod split;
mod start;
mod times;
mod vitals;
pub mod watch;
mod watches;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tidegate_rollout::command::Command;
use tidegate_rollout::{BasisPoints, Lifecycle, Plan};
use tidegate_store::{Actor, ObjectKind, StopKind, StopServe};
use tokio::sync::{mpsc, oneshot};

pub(crate) use check::shadowed;
pub use check::{GuardCheck, StartCheck};
pub use guards::GuardSource;
pub use replay::{Replay, replay};
pub use rounds::run;
pub(crate) use start::{RULE_PREFIX, read as read_policy, rule_at_zero, rule_id};
pub use start::{check, start, validate};
pub use times::RollbackTimes;
pub(crate) use vitals::keep_notes;

use crate::app::objects::Place;
use crate::app::{App, AppError, stop};
use crate::clock::Clock;
use crate::events::Follower;
use drive::Active;
use sources::Sources;
use split::Split;
use vitals::Vitals;
use watch::Watch;
use watches::{Sight, Watched, Watches};

/// A rollout's name: project and key.
pub(crate) type Name = (String, String);

/// How many wishes may wait for the task, and how many for one rollout that is being looked at.
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
    meters: meters::PlanMeters,
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
            meters: meters::PlanMeters::default(),
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
    /// When each step of its last rollback happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackTimes>,
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
    /// Follows the log of events on behalf of every rollout, running or not yet started; `clock`
    /// tells when an event was counted.
    #[must_use]
    pub fn follower(&self, clock: Arc<dyn Clock>) -> Arc<dyn Follower> {
        let (watches, vitals) = (Arc::clone(&self.watches), Arc::clone(&self.vitals));
        Arc::new(Sight::new(watches, vitals, clock))
    }

    /// What planning costs, and how long evidence waits for it.
    pub(crate) const fn meters(&self) -> &meters::PlanMeters {
        &self.meters
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

    /// Has one rollout looked at now: what it was waiting for may have come.
    pub(crate) fn look_again(&self, rollout: &Name) {
        self.watches.touch(rollout);
    }

    fn put_standing(&self, rollout: &Active, plan: Plan) {
        let hooks = self
            .standing(&rollout.name.0, &rollout.name.1)
            .and_then(|standing| standing.hooks);
        let standing = Standing {
            key: rollout.name.1.clone(),
            flag: rollout.spec.flag.clone(),
            lifecycle: word(&rollout.state.lifecycle).to_owned(),
            share_bp: shown_share(rollout),
            hooks,
            rollback: rollout.times.clone(),
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

    /// Shows at once that control is served, while the rollback is still on its way into storage.
    fn show_shut(&self, rollout: &Active) {
        if let Some(standing) = self.lock_standings().get_mut(&rollout.name) {
            "rolling back".clone_into(&mut standing.lifecycle);
            standing.share_bp = 0;
            standing.rollback.clone_from(&rollout.times);
        }
    }

    /// Brings what acting on a plan changed into the standing, beside the plan that decided it.
    fn refresh_standing(&self, rollout: &Active, hooks: Option<String>) {
        if let Some(standing) = self.lock_standings().get_mut(&rollout.name) {
            word(&rollout.state.lifecycle).clone_into(&mut standing.lifecycle);
            standing.share_bp = shown_share(rollout);
            standing.hooks = hooks;
            standing.rollback.clone_from(&rollout.times);
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

/// The share that is served: of a rollback whose stop is served, none, whatever is in its log yet.
fn shown_share(rollout: &Active) -> u16 {
    let is_rolling_back = matches!(rollout.state.lifecycle, Lifecycle::RollingBack { .. });
    let times = rollout.times.as_ref();
    if is_rolling_back && times.is_some_and(|times| times.served_us.is_some()) {
        0
    } else {
        u16::from(rollout.state.share_bp)
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
    app.rollouts
        .watches
        .insert(rollout.name.clone(), Watched::new(watch));
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
    let spec = &rollout.spec;
    let period_us = spec.bake_period_us().filter(|_| spec.bakes_at(share));
    app.rollouts.watches.with(&rollout.name, |watched| {
        watched.begin_phase((split, share), at_us, period_us);
    });
}
