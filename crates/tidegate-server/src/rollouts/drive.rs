//! The task that runs rollouts: observe, plan, log, act, look again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_rollout::{
    Action, BasisPoints, GuardObservation, Lifecycle, Measured, Observations, RolloutEvent,
    RolloutSpec, RolloutState, SourceStatus, plan,
};
use tidegate_store::{
    Actor, Expected, ObjectChange, ObjectKind, ProjectKey, StopKind, StopServe, Write,
};
use tokio_util::sync::CancellationToken;

use super::journal::{self, Entry};
use super::split::Split;
use super::start::{read, rule_id};
use super::watch::Watch;
use super::{Name, Standing, Watched};
use crate::app::objects::{self, Place};
use crate::app::{App, AppError, stop};

/// How often a rollout is looked at even if no event came.
const AT_LEAST_EVERY: Duration = Duration::from_millis(250);
/// How often an unchanged verdict is written down.
const EVIDENCE_EVERY_US: i64 = 1_000_000;
/// The metric that counts failing units of a flag's own requests.
const ERRORS: &str = "errors";

/// A rollout in the hands of the task.
struct Active {
    project: ProjectKey,
    key: String,
    spec: RolloutSpec,
    state: RolloutState,
    waiting: VecDeque<Entry>,
    evidence_us: i64,
}

/// Runs every started rollout until `shutdown`.
pub async fn run(app: App, shutdown: CancellationToken) {
    let mut active: BTreeMap<Name, Active> = BTreeMap::new();
    let mut timer = tokio::time::interval(AT_LEAST_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.rollouts.watches.moved.notified() => {}
            _ = timer.tick() => {}
        }
        for name in app.rollouts.take_started() {
            match load(&app, &name).await {
                Ok(loaded) => {
                    active.insert(name, loaded);
                }
                Err(error) => tracing::error!(%error, rollout = %name.1, "a rollout cannot run"),
            }
        }
        for (name, rollout) in &mut active {
            if !rollout.state.is_terminal() {
                advance(&app, name, rollout).await;
            }
        }
    }
}

async fn load(app: &App, name: &Name) -> Result<Active, AppError> {
    let (project, key) = name;
    let place = Place::parse(project, ObjectKind::Rollout, key)?;
    let spec = read(&objects::read(app, &place).await?.spec)?;
    let refused = |error| objects::refusal(&error, "the rollout's log");
    let store = app.store().map_err(refused)?;
    let log = journal::read(store, &place.project, key)
        .await
        .map_err(refused)?;
    let state = RolloutState::fold(&spec, &log);
    let split = served_split(app, name, &spec)
        .ok_or_else(|| AppError::NotFound(format!("the rule of rollout {key:?} in its flag")))?;
    let watch = Watch::new(&spec.flag, &spec.treatment, &spec.control, Vec::new());
    app.rollouts
        .watches
        .insert(name.clone(), Watched { watch, split });
    Ok(Active {
        project: place.project,
        key: key.clone(),
        spec,
        state,
        waiting: VecDeque::new(),
        evidence_us: 0,
    })
}

fn served_split(app: &App, name: &Name, spec: &RolloutSpec) -> Option<Split> {
    let set = app.live.project(&name.0)?.load();
    Split::of(&spec.flag, set.specs.get(&spec.flag)?, &rule_id(&name.1))
}

/// One look at one rollout, and what follows from it.
async fn advance(app: &App, name: &Name, rollout: &mut Active) {
    let now_us = app.clock.now_us();
    let observations = observe(app, name, rollout, now_us);
    let plan = plan(&rollout.spec, &rollout.state, &observations, now_us);
    let is_news = rollout.state.last_verdict != Some(plan.verdict);
    if is_news || now_us - rollout.evidence_us >= EVIDENCE_EVERY_US {
        rollout.evidence_us = now_us;
        note(
            rollout,
            RolloutEvent::Evidence {
                at_us: now_us,
                watermark: observations.watermark,
                plan: plan.digest(),
                verdict: plan.verdict,
                monitored: plan.monitored,
            },
        );
    }
    for action in &plan.actions {
        if let Err(error) = act(app, name, rollout, action, now_us).await {
            tracing::error!(%error, rollout = %rollout.key, ?action, "an action was not taken");
        }
    }
    let standing = Standing {
        key: rollout.key.clone(),
        flag: rollout.spec.flag.clone(),
        lifecycle: word(&rollout.state.lifecycle).to_owned(),
        plan,
    };
    app.rollouts.put_standing(name.clone(), standing);
    flush(app, rollout).await;
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

fn note(rollout: &mut Active, event: RolloutEvent) {
    rollout.state = rollout.state.clone().apply(&rollout.spec, &event);
    rollout.waiting.push_back(Entry { event, stop: None });
}

async fn flush(app: &App, rollout: &mut Active) {
    let Ok(store) = app.store() else { return };
    let outcome = journal::flush(store, &rollout.project, &rollout.key, &mut rollout.waiting).await;
    if let Err(error) = outcome {
        tracing::warn!(%error, rollout = %rollout.key, "the rollout's log waits for storage");
    }
}

fn observe(app: &App, name: &Name, rollout: &Active, now_us: i64) -> Observations {
    app.rollouts
        .watches
        .with(name, |watched| {
            let watch = &watched.watch;
            let guard = |guard: &tidegate_rollout::Guard| GuardObservation {
                metric: guard.metric.clone(),
                source: source(guard.metric.as_str(), watch),
                as_of_us: watch.as_of_us(),
                proven: true,
                dropped_samples: 0,
                measured: Measured::FirstEvents {
                    phases: watch.failing().to_vec(),
                },
            };
            Observations {
                watermark: watch.watermark(),
                as_of_us: now_us,
                last_unit_us: watch.last_unit_us(),
                phases: watch.phases().to_vec(),
                guards: rollout.spec.guards.iter().map(guard).collect(),
                multiply_exposed_units: 0,
                counts_units_once_over_all_guards: rollout.spec.guards.len() == 1,
            }
        })
        .unwrap_or_default()
}

fn source(metric: &str, watch: &Watch) -> SourceStatus {
    if metric != ERRORS {
        let reason = format!("metric {metric:?} is not measured here; `errors` is");
        return SourceStatus::Untrustworthy { reason };
    }
    if watch.is_incomplete() {
        let reason = "more units than can be remembered were seen".to_owned();
        return SourceStatus::Untrustworthy { reason };
    }
    SourceStatus::Ok
}

async fn act(
    app: &App,
    name: &Name,
    rollout: &mut Active,
    action: &Action,
    now_us: i64,
) -> Result<(), AppError> {
    match action {
        Action::RollBack { reason, .. } => roll_back(app, name, rollout, reason, now_us),
        Action::SetShare { to_bp, stage, .. } => {
            set_share(app, name, rollout, *to_bp).await?;
            let at_us = app.clock.now_us();
            note(
                rollout,
                RolloutEvent::StageEntered {
                    at_us,
                    stage: *stage,
                    share_bp: *to_bp,
                },
            );
            begin_phase(app, name, rollout, *to_bp, at_us);
            Ok(())
        }
        Action::Complete { to_bp, .. } => {
            set_share(app, name, rollout, *to_bp).await?;
            let at_us = app.clock.now_us();
            note(
                rollout,
                RolloutEvent::Completed {
                    at_us,
                    share_bp: *to_bp,
                },
            );
            app.rollouts.watches.remove(name);
            Ok(())
        }
        Action::Page { reason } => {
            tracing::warn!(%reason, rollout = %rollout.key, "somebody should look");
            Ok(())
        }
        Action::Hold | Action::AskApproval { .. } | Action::RequestSyntheticLoad => Ok(()),
    }
}

/// Takes the change back through a stop: on disk, served, and only then made ordinary.
fn roll_back(
    app: &App,
    name: &Name,
    rollout: &mut Active,
    reason: &str,
    now_us: i64,
) -> Result<(), AppError> {
    let place = Place::parse(&name.0, ObjectKind::Flag, &rollout.spec.flag)?;
    let what = (StopKind::Rollback, StopServe::RuleAtZero(rule_id(&name.1)));
    stop::stop(app, Actor::system("rollout"), &place, what, reason)?;
    if !matches!(rollout.state.lifecycle, Lifecycle::RollingBack { .. }) {
        let plan = rollout.state.last_plan;
        if let Some(plan) = plan {
            let reason = reason.to_owned();
            note(
                rollout,
                RolloutEvent::RollbackDecided {
                    at_us: now_us,
                    reason,
                    plan,
                },
            );
        }
    }
    note(
        rollout,
        RolloutEvent::RolledBack {
            at_us: app.clock.now_us(),
        },
    );
    app.rollouts.watches.remove(name);
    Ok(())
}

async fn set_share(
    app: &App,
    name: &Name,
    rollout: &Active,
    to_bp: BasisPoints,
) -> Result<(), AppError> {
    let place = Place::parse(&name.0, ObjectKind::Flag, &rollout.spec.flag)?;
    let stored = objects::read(app, &place).await?;
    let spec = tidegate_flags::FlagSpec::from_json(&rollout.spec.flag, &stored.spec)?
        .with_rollout_share(&rule_id(&name.1), u16::from(to_bp))
        .map_err(|error| AppError::Conflict(error.to_string()))?
        .to_json();
    let mut change = ObjectChange::new(
        (place.project.clone(), place.kind, place.key.clone()),
        Expected::Revision(stored.revision),
        Write::Put(spec.clone()),
        Actor::system("rollout"),
        app.clock.now_us(),
    )
    .with_reason(format!("rollout {} goes to {to_bp}", rollout.key));
    change.changes = crate::app::difference(Some(&stored.spec), Some(&spec));
    objects::commit(app, &place, change).await?;
    crate::reconcile::once(app, None).await;
    Ok(())
}

fn begin_phase(app: &App, name: &Name, rollout: &Active, share: BasisPoints, at_us: i64) {
    let Some(split) = served_split(app, name, &rollout.spec) else {
        return;
    };
    app.rollouts.watches.with(name, |watched| {
        watched.split = split;
        watched.watch.begin_phase(share, share.complement(), at_us);
    });
}
