//! After a restart: every rollout goes on where its log ends, with the evidence it had.
//!
//! The log of events is read again from the first phase on; phases begin when the rollout's log
//! says so, and an event belongs to the phase in force when it was received. So a replay counts
//! exactly what was counted before. A stop record that is newer than the rollout's log goes first.

use std::collections::BTreeMap;

use tidegate_rollout::executor::{Change, EffectKey, ExecutorEvent, Purpose};
use tidegate_rollout::{BasisPoints, RolloutEvent};
use tidegate_store::{ObjectKind, ProjectKey, StopServe, StoreError};

use super::drive::{Active, load, run_effects};
use super::start::rule_id;
use super::{Name, Watched, journal, watch_again, watch_phase};
use crate::app::App;

/// Takes up every started rollout; `false` if storage could not say which there are, or what is
/// served is not what storage says: then nothing is settled by reading it back.
pub(super) async fn all(app: &App, active: &mut BTreeMap<Name, Active>) -> bool {
    let is_confirmed = |key: &String| {
        let project = app.live.project(key);
        project.is_some_and(|project| project.peek().stale_since_us.is_none())
    };
    let projects = app.live.keys();
    if projects.is_empty() || !projects.iter().all(is_confirmed) {
        return false;
    }
    let names = match started(app).await {
        Ok(names) => names,
        Err(error) => {
            tracing::warn!(%error, "rollouts wait for storage");
            return false;
        }
    };
    for name in names {
        if active.contains_key(&name) {
            continue;
        }
        match load(app, &name).await {
            Ok(mut rollout) => {
                if let Err(error) = take_up(app, &mut rollout).await {
                    tracing::error!(%error, rollout = %name.1, "a rollout has lost its evidence");
                }
                active.insert(name, rollout);
            }
            Err(error) => {
                tracing::error!(%error, rollout = %name.1, "a rollout cannot be taken up");
            }
        }
    }
    true
}

/// The names of all rollouts that have a log.
async fn started(app: &App) -> Result<Vec<Name>, StoreError> {
    let store = app.store()?;
    let mut names = Vec::new();
    for project in store.project_list().await? {
        let mut after = None;
        loop {
            let page = store
                .object_list(&project.key, ObjectKind::Rollout, after.as_ref(), 1000)
                .await?;
            for object in page.objects {
                let key = object.key.as_str().to_owned();
                if store.log_head(&project.key, &journal::stream(&key)).await? > 0 {
                    names.push((project.key.as_str().to_owned(), key));
                }
            }
            match page.next_after {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    Ok(names)
}

async fn take_up(app: &App, rollout: &mut Active) -> Result<(), String> {
    app.rollouts.put_first_standing(rollout);
    if rollout.state.is_terminal() {
        return Ok(());
    }
    let recounted = recount(app, rollout).await;
    let record = stop_record(app, rollout);
    let event = ExecutorEvent::after_restart(&rollout.state, record);
    run_effects(app, rollout, event).await;
    // What was under way may have come to its end, and nobody looks at a rollout that ended.
    app.rollouts.put_first_standing(rollout);
    recounted
}

/// The rollback a stop record on disk asks for.
fn stop_record(app: &App, rollout: &mut Active) -> Option<Change> {
    let rule = StopServe::RuleAtZero(rule_id(&rollout.name.1));
    let record = app.stops.pending().into_iter().find(|record| {
        record.project() == &rollout.project
            && record.flag().as_str() == rollout.spec.flag
            && record.serve() == &rule
    })?;
    rollout.stop = Some(record.id());
    Some(Change {
        key: EffectKey {
            step: rollout.state.steps + 1,
            attempt: 1,
        },
        purpose: Purpose::RollBack {
            reason: record.reason().to_owned(),
        },
        from_bp: rollout.state.share_bp,
        to_bp: BasisPoints::ZERO,
        plan: rollout.state.last_plan,
    })
}

/// Counts again from the log of events what the rollout had counted, then follows it live.
async fn recount(app: &App, rollout: &Active) -> Result<(), String> {
    watch_again(app, rollout, rollout.state.started_us.unwrap_or_default());
    for (share, at_us) in phases(app, &rollout.project, &rollout.name.1).await? {
        watch_phase(app, rollout, share, at_us);
    }
    let Some(mut watched) = app.rollouts.watches.take(&rollout.name) else {
        return Ok(());
    };
    let events = app.events.history(&rollout.name.0).await?;
    // Between the last read and the insertion events could slip by; so the end is read with the
    // table held, when there is little left to read.
    let read = |watched: &mut Watched| {
        let from = watched.watch.watermark();
        let mut each = |stretch: tidegate_lake::Committed| {
            watched.follow(&stretch);
            true
        };
        events.read_from(from, &mut each)
    };
    read(&mut watched)?;
    app.rollouts
        .watches
        .insert_after(rollout.name.clone(), watched, |watched| {
            read(watched).unwrap_or_else(|error| {
                tracing::error!(%error, "the end of the log of events could not be counted");
            });
        });
    Ok(())
}

/// The periods of constant share a rollout's log tells of.
async fn phases(
    app: &App,
    project: &ProjectKey,
    key: &str,
) -> Result<Vec<(BasisPoints, i64)>, String> {
    let log = async { journal::read(app.store()?, project, key).await }
        .await
        .map_err(|error| error.to_string())?;
    let since = log
        .iter()
        .rposition(|event| {
            matches!(
                event,
                RolloutEvent::Started { .. } | RolloutEvent::Retried { .. }
            )
        })
        .unwrap_or(0);
    let phase = |event: &RolloutEvent| match event {
        RolloutEvent::StageEntered {
            at_us, share_bp, ..
        } => Some((*share_bp, *at_us)),
        RolloutEvent::ForeignEdit {
            at_us, found_bp, ..
        } => Some((*found_bp, *at_us)),
        _ => None,
    };
    Ok(log.iter().skip(since).filter_map(phase).collect())
}
