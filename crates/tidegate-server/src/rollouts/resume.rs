//! After a restart: every rollout goes on where its log ends, with the evidence it had.
//!
//! The log of events is read again from the first phase on; phases begin when the rollout's log
//! says so, and an event belongs to the phase in force when it was received. So a replay counts
//! exactly what was counted before. A stop record that is newer than the rollout's log goes first.

use tidegate_rollout::executor::{Change, EffectKey, ExecutorEvent, Purpose};
use tidegate_rollout::{BasisPoints, Lifecycle, RolloutEvent};
use tidegate_store::{ObjectKind, ProjectKey, StopServe, StoreError};

use super::drive::{Active, load, run_effects};
use super::start::rule_id;
use super::watches::Table;
use super::{Name, journal, times, watch_again, watch_phase};
use crate::app::App;

/// Takes up every started rollout that is not `known`; `None` if storage could not say which there
/// are, or what is served is not what storage says: then nothing is settled by reading it back.
pub(super) async fn all(
    app: &App,
    is_known: impl Fn(&Name) -> bool,
) -> Option<Vec<(Name, Active)>> {
    let is_confirmed = |key: &String| {
        let project = app.live.project(key);
        project.is_some_and(|project| project.peek().stale_since_us.is_none())
    };
    let projects = app.live.keys();
    if projects.is_empty() || !projects.iter().all(is_confirmed) {
        return None;
    }
    let names = match started(app).await {
        Ok(names) => names,
        Err(error) => {
            tracing::warn!(%error, "rollouts wait for storage");
            return None;
        }
    };
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| !is_known(name)) {
        match load(app, &name).await {
            Ok(rollout) => found.push((name, rollout)),
            Err(error) => {
                tracing::error!(%error, rollout = %name.1, "a rollout cannot be taken up");
            }
        }
    }
    for (_, rollout) in &mut found {
        show(app, rollout).await;
    }
    for project in projects {
        let own = found.iter().map(|(_, rollout)| rollout);
        let own = own.filter(|rollout| rollout.name.0 == project && !rollout.state.is_terminal());
        if let Err(error) = recount(app, &project, own).await {
            tracing::error!(%error, project, "running rollouts have lost their evidence");
        }
    }
    for (_, rollout) in &mut found {
        carry_on(app, rollout).await;
    }
    Some(found)
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

/// Shows how a rollout stood, before anything is counted again.
async fn show(app: &App, rollout: &mut Active) {
    if matches!(rollout.state.lifecycle, Lifecycle::RolledBack { .. }) {
        let kept = async { times::last(app.store()?, (&rollout.project, &rollout.name.1)).await };
        rollout.times = kept.await.unwrap_or_default();
    }
    app.rollouts.put_first_standing(rollout);
}

/// Carries on what was under way: a step that was intended, or a stop whose record is on disk.
async fn carry_on(app: &App, rollout: &mut Active) {
    let mut record = stop_record(app, rollout);
    if rollout.state.is_terminal() {
        if rollout.state.lifecycle != Lifecycle::Completed || record.is_none() {
            return;
        }
        // Only an emergency stop undoes what is complete; the record tells who asked and why.
        record = record.map(|change| Change {
            purpose: match change.purpose {
                Purpose::RollBack { reason } => Purpose::Stop {
                    who: "the stop file".to_owned(),
                    why: reason,
                },
                other => other,
            },
            ..change
        });
    }
    let event = ExecutorEvent::after_restart(&rollout.state, record);
    run_effects(app, rollout, event).await;
    // What was under way may have come to its end, and nobody looks at a rollout that ended.
    app.rollouts.put_first_standing(rollout);
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

/// Counts again from the log of events what a project's rollouts had counted, all of them in one
/// reading, then follows it live.
async fn recount(
    app: &App,
    project: &str,
    rollouts: impl Iterator<Item = &Active>,
) -> Result<(), String> {
    let mut table = Table::default();
    let mut is_empty = true;
    for rollout in rollouts {
        watch_again(app, rollout, rollout.state.started_us.unwrap_or_default());
        match phases(app, &rollout.project, &rollout.name.1).await {
            Ok(phases) => {
                for (share, at_us) in phases {
                    watch_phase(app, rollout, share, at_us);
                }
            }
            Err(error) => {
                tracing::error!(%error, rollout = %rollout.name.1, "a rollout has lost its evidence");
                app.rollouts.watches.remove(&rollout.name);
            }
        }
        if let Some(watched) = app.rollouts.watches.take(&rollout.name) {
            table.insert(rollout.name.clone(), watched);
            is_empty = false;
        }
    }
    if is_empty {
        return Ok(());
    }
    let events = app.events.history(project).await?;
    let read = |table: &mut Table, from: u64| {
        let mut end = from;
        let mut each = |stretch: tidegate_lake::Committed| {
            end = stretch.end_sequence();
            table.follow(project, &stretch, None);
            true
        };
        events.read_from(from, &mut each).map(|()| end)
    };
    let end = read(&mut table, 0)?;
    // Between the last read and the insertion events could slip by; so the end is read with the
    // table held, when there is little left to read.
    app.rollouts.watches.adopt(table, |table| {
        if let Err(error) = read(table, end) {
            tracing::error!(%error, "the end of the log of events could not be counted");
        }
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
