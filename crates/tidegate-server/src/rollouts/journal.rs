//! The append-only log of each rollout, in the store's streams.
//!
//! Memory is ahead of disk by at most what storage refuses at the moment: entries wait in order
//! and are appended when storage takes them. An entry that a stop record also leads to carries the
//! record's id, so that it is stored once whoever comes first.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Value, json};
use tidegate_rollout::{Observations, Plan, RolloutEvent};
use tidegate_store::{DeliveryId, ProjectKey, Store, StoreError, StreamAppend};

use super::drive::Active;
use crate::app::App;
use crate::notices;

/// How long a look waits for storage; other rollouts are waiting for theirs.
pub(super) const KEEP_WAIT: std::time::Duration = std::time::Duration::from_millis(200);
/// How many records are read at a time.
const PAGE: u32 = 1000;

/// An entry on its way to disk.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What happened.
    pub(crate) event: RolloutEvent,
    /// The stop record that leads to the same entry, if one does.
    pub(crate) stop: Option<String>,
    /// The share before it, for those who are told.
    pub(crate) share_before_bp: u16,
}

/// The name of a rollout's stream.
pub(crate) fn stream(rollout: &str) -> String {
    format!("rollout/{rollout}")
}

/// Everything that happened to a rollout, oldest first.
///
/// # Errors
/// Storage; `Corrupt` for an entry that cannot be read, because a log with a hole folds to a
/// state that never was.
pub(crate) async fn read(
    store: &dyn Store,
    project: &ProjectKey,
    rollout: &str,
) -> Result<Vec<RolloutEvent>, StoreError> {
    let name = stream(rollout);
    let mut events = Vec::new();
    let mut after = 0;
    loop {
        let page = store.log_read(project, &name, after, PAGE).await?;
        for record in &page {
            events.push(parse(&name, record.sequence, &record.payload)?);
            after = record.sequence;
        }
        if page.len() < PAGE as usize {
            return Ok(events);
        }
    }
}

fn parse(stream: &str, sequence: u64, payload: &Value) -> Result<RolloutEvent, StoreError> {
    serde_json::from_value(payload.clone()).map_err(|error| StoreError::Corrupt {
        place: format!("stream {stream}, record {sequence}"),
        reason: error.to_string(),
    })
}

/// Appends one entry at its position in the log, which makes it happen once: an append whose answer
/// was lost is repeated without doubling it. Whoever wants to be told of it is told with it.
///
/// # Errors
/// Storage.
pub(crate) async fn append(
    app: &App,
    (project, rollout): (&ProjectKey, &str),
    position: u64,
    entry: &Entry,
) -> Result<(), StoreError> {
    let outbox =
        notices::of_entry(app, (project, rollout), entry.share_before_bp, &entry.event).await?;
    let payload = payload_of(&entry.event)?;
    let append = StreamAppend {
        project: project.clone(),
        stream: stream(rollout),
        payload,
        delivery: Some(match &entry.stop {
            Some(id) => DeliveryId {
                source: "stop".to_owned(),
                id: id.clone(),
            },
            None => DeliveryId {
                source: format!("rollout-log/{rollout}"),
                id: position.to_string(),
            },
        }),
        expected_head: None,
        outbox,
        now_us: entry.event.at_us(),
    };
    app.store()?.log_append(append).await.map(|_| ())
}

/// A record as it is stored.
///
/// # Errors
/// `Invalid` for what has no JSON form.
pub(super) fn payload_of(record: &impl Serialize) -> Result<Value, StoreError> {
    serde_json::to_value(record).map_err(|error| StoreError::Invalid {
        field: "payload",
        reason: error.to_string(),
    })
}

/// Keeps a plan with everything it was made from, so that it can be made again and compared.
///
/// The state is not stored: it is the fold of the first `log_length` entries of the log, as it was
/// when the plan was made; a rollback is acted on before its plan is kept. A plan that cannot be kept
/// is reported and decides all the same.
pub(super) async fn keep_plan(
    app: &App,
    rollout: &Active,
    (observations, log_length): (&Observations, u64),
    plan: &Plan,
) {
    let payload = json!({
        "format": 1,
        "log_length": log_length,
        "observations": observations,
        "plan": plan,
    });
    let append = StreamAppend {
        project: rollout.project.clone(),
        stream: plans(&rollout.name.1),
        payload,
        delivery: None,
        expected_head: None,
        outbox: Vec::new(),
        now_us: plan.now_us,
    };
    let kept = async { app.store()?.log_append(append).await };
    match tokio::time::timeout(KEEP_WAIT, kept).await {
        Ok(Ok(_)) => app.rollouts.meters.kept(),
        Ok(Err(error)) => {
            tracing::warn!(%error, rollout = %rollout.name.1, "a plan could not be kept");
        }
        Err(_) => tracing::warn!(rollout = %rollout.name.1, "storage is too slow to keep a plan"),
    }
}

/// The name of the stream of a rollout's plans.
pub(crate) fn plans(rollout: &str) -> String {
    format!("rollout-plans/{rollout}")
}

/// Appends what waits, in order, until storage refuses.
///
/// # Errors
/// The refusal; what was not appended still waits.
pub(crate) async fn flush(
    app: &App,
    (project, rollout): (&ProjectKey, &str),
    from: u64,
    waiting: &mut VecDeque<Entry>,
) -> Result<(), StoreError> {
    let mut position = from;
    while let Some(entry) = waiting.front() {
        append(app, (project, rollout), position, entry).await?;
        waiting.pop_front();
        position += 1;
    }
    Ok(())
}
