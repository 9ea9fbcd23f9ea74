//! What the executor asks for, done: the doors between a decision and the world.
//!
//! Each effect may be asked for again after a crash and changes nothing the second time: flag
//! changes carry (step, attempt) as idempotency key, log entries of a stop carry the stop's id.

use tidegate_flags::FlagSpec;
use tidegate_rollout::executor::{Change, Effect, ExecutorEvent};
use tidegate_rollout::{BasisPoints, RolloutEvent};
use tidegate_store::{Actor, Expected, ObjectChange, ObjectKind, StopKind, StopServe, Write};

use super::drive::Active;
use super::start::rule_id;
use crate::app::objects::{self, Place};
use crate::app::{App, AppError, stop};

const NOT_APPLIED: ExecutorEvent = ExecutorEvent::Failed {
    certainly_not_applied: true,
};
const MAYBE_APPLIED: ExecutorEvent = ExecutorEvent::Failed {
    certainly_not_applied: false,
};

/// Does one effect and says what came of it.
pub(super) async fn perform(app: &App, rollout: &mut Active, effect: Effect) -> ExecutorEvent {
    match effect {
        Effect::WriteStopRecord(change) => write_stop_record(app, rollout, &change),
        Effect::LogIntent(change) => {
            if let Some(event) = change.intent_event(app.clock.now_us()) {
                let stop = rollout.stop.map(|id| format!("{id}-decided"));
                rollout.note(event, stop);
            }
            written(app, rollout, change.purpose.is_rollback()).await
        }
        Effect::ApplyChange(change) => apply(app, rollout, &change).await,
        Effect::ReadBack => match served_share(app, rollout) {
            Some(share_bp) => ExecutorEvent::Served { share_bp },
            None => MAYBE_APPLIED,
        },
        Effect::LogOutcome(change) => {
            let at_us = app.clock.now_us();
            let event = change.outcome_event(at_us);
            let is_end = !matches!(event, RolloutEvent::StageEntered { .. });
            rollout.note(event, rollout.stop.map(|id| format!("{id}-outcome")));
            if let (true, Some(times)) = (change.purpose.is_rollback(), &mut rollout.times) {
                times.confirmed_us = Some(at_us);
            }
            app.operations.hooks.forget(&rollout.name);
            if is_end {
                app.rollouts.watches.remove(&rollout.name);
                app.rollouts.sources.forget(&rollout.name);
            } else {
                super::watch_phase(app, rollout, change.to_bp, at_us);
            }
            written(app, rollout, true).await
        }
        Effect::LogAbandoned(change) => {
            rollout.note(change.abandoned_event(app.clock.now_us()), None);
            written(app, rollout, true).await
        }
        Effect::ClearStopRecord => {
            rollout.stop = None;
            ExecutorEvent::Done
        }
        Effect::LogForeignEdit { found_bp } => {
            let at_us = app.clock.now_us();
            let who = "somebody else".to_owned();
            rollout.note(
                RolloutEvent::ForeignEdit {
                    at_us,
                    found_bp,
                    who,
                },
                None,
            );
            ExecutorEvent::Done
        }
        Effect::Page { change } => {
            tracing::error!(
                rollout = %rollout.name.1, step = change.key.step,
                "a rollback is served but cannot be written yet; look at storage"
            );
            ExecutorEvent::Done
        }
    }
}

/// Writes down what waits. A rollback does not wait for that: its entries stay queued.
async fn written(app: &App, rollout: &mut Active, may_wait: bool) -> ExecutorEvent {
    if may_wait {
        rollout.flush_briefly(app).await;
        return ExecutorEvent::Done;
    }
    match rollout.flush(app).await {
        Ok(()) => ExecutorEvent::Done,
        Err(error) => {
            tracing::warn!(%error, rollout = %rollout.name.1, "an intent could not be written");
            NOT_APPLIED
        }
    }
}

/// Syncs the stop and serves control at once; a disk that refuses does not keep it from being
/// served.
fn write_stop_record(app: &App, rollout: &mut Active, change: &Change) -> ExecutorEvent {
    let reason = reason_of(change);
    let outcome =
        Place::parse(&rollout.name.0, ObjectKind::Flag, &rollout.spec.flag).and_then(|place| {
            let what = (
                StopKind::Rollback,
                StopServe::RuleAtZero(rule_id(&rollout.name.1)),
            );
            stop::stop(app, Actor::system("rollout"), &place, what, &reason)
        });
    match outcome {
        Ok(stopped) => {
            rollout.stop = Some(stopped.record);
            if let Some(times) = &mut rollout.times {
                times.recorded_us = stopped.durable.then_some(stopped.recorded_us);
                times.served_us = Some(stopped.served_us);
            }
            app.rollouts.show_shut(rollout);
            if stopped.durable {
                ExecutorEvent::Done
            } else {
                MAYBE_APPLIED
            }
        }
        // Without its flag or rule there is nobody left to protect.
        Err(AppError::NotFound(_)) => ExecutorEvent::Done,
        Err(_) if served_share(app, rollout) == Some(BasisPoints::ZERO) => ExecutorEvent::Done,
        Err(error) => {
            tracing::error!(%error, rollout = %rollout.name.1, "a stop could not be served");
            NOT_APPLIED
        }
    }
}

fn reason_of(change: &Change) -> String {
    use tidegate_rollout::executor::Purpose;
    match &change.purpose {
        Purpose::RollBack { reason } => reason.clone(),
        Purpose::Stop { who, why } => format!("emergency stop by {who}: {why}"),
        Purpose::Enter { stage } => format!("stage {stage} is entered"),
        Purpose::Complete => "the rollout is complete".to_owned(),
    }
}

/// Changes the flag in one transaction. A rollback's change is the stop being made ordinary.
async fn apply(app: &App, rollout: &Active, change: &Change) -> ExecutorEvent {
    if change.purpose.is_rollback() {
        crate::reconcile::settle_stops(app).await;
        let is_settled = rollout
            .stop
            .is_none_or(|id| !app.stops.pending().iter().any(|kept| kept.id() == id));
        return if is_settled {
            ExecutorEvent::Done
        } else {
            NOT_APPLIED
        };
    }
    match write_share(app, rollout, change).await {
        Ok(()) => ExecutorEvent::Done,
        Err(error) => {
            tracing::warn!(%error, rollout = %rollout.name.1, "a share could not be written");
            match error {
                AppError::Unavailable { .. } | AppError::Internal(_) => MAYBE_APPLIED,
                _ => NOT_APPLIED,
            }
        }
    }
}

async fn write_share(app: &App, rollout: &Active, change: &Change) -> Result<(), AppError> {
    let place = Place::parse(&rollout.name.0, ObjectKind::Flag, &rollout.spec.flag)?;
    let stored = objects::read(app, &place).await?;
    let flag = FlagSpec::from_json(&rollout.spec.flag, &stored.spec)?;
    let rule = rule_id(&rollout.name.1);
    let found = flag
        .allocation(&rule)
        .map_err(|error| AppError::Conflict(error.to_string()))?;
    if found.treatment_bp != u16::from(change.from_bp) {
        return Err(AppError::Conflict(format!(
            "{} bp is served where {} was expected",
            found.treatment_bp, change.from_bp
        )));
    }
    let spec = flag
        .with_rollout_share(&rule, u16::from(change.to_bp))
        .map_err(|error| AppError::Conflict(error.to_string()))?
        .to_json();
    let key = format!(
        "rollout/{}/{}/{}",
        rollout.name.1, change.key.step, change.key.attempt
    );
    let mut write = ObjectChange::new(
        (place.project.clone(), place.kind, place.key.clone()),
        Expected::Revision(stored.revision),
        Write::Put(spec.clone()),
        Actor::system("rollout"),
        app.clock.now_us(),
    )
    .with_reason(format!("rollout {}: {}", rollout.name.1, reason_of(change)))
    .with_idempotency_key(key);
    write.changes = crate::app::difference(Some(&stored.spec), Some(&spec));
    objects::commit(app, &place, write).await.map(|_| ())
}

/// The share that is served now, stops included. A flag or rule that is gone serves nobody.
pub(super) fn served_share(app: &App, rollout: &Active) -> Option<BasisPoints> {
    let set = app.live.project(&rollout.name.0)?.load();
    let rule = rule_id(&rollout.name.1);
    let allocation = set
        .specs
        .get(&rollout.spec.flag)
        .and_then(|flag| flag.allocation(&rule).ok());
    allocation.map_or(Some(BasisPoints::ZERO), |found| {
        BasisPoints::new(found.treatment_bp)
    })
}

/// Whether the rollout's flag is killed, so that its share serves nobody now.
pub(super) fn is_killed(app: &App, rollout: &Active) -> bool {
    app.live.project(&rollout.name.0).is_some_and(|project| {
        project
            .load()
            .specs
            .get(&rollout.spec.flag)
            .is_some_and(|flag| flag.killed.is_some())
    })
}

/// Whether what is served is not confirmed by storage.
pub(super) fn is_stale(app: &App, rollout: &Active) -> bool {
    let project = app.live.project(&rollout.name.0);
    project.is_none_or(|project| project.peek().stale_since_us.is_some())
}
