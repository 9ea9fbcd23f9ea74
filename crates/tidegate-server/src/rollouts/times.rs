//! When each step of a rollback happened: what an SRE asks first, and what is kept with the decision.
//!
//! `received -> counted` is ingestion, `counted -> seen` detection, `seen -> decided` the decision,
//! `decided -> recorded` the sync of the stop record, `recorded -> served` the swap of what is
//! served. What clients see after that is theirs to measure.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_store::{DeliveryId, ProjectKey, Store, StoreError, StreamAppend};

use super::journal;
use super::watches::Evidence;

/// The steps of one rollback, Unix microseconds; absent for what did not happen or is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackTimes {
    /// Ingest sequence of the first event the decision rests on that no earlier plan had seen: the
    /// evidence crossed its threshold at this event, or at one that came with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deciding_sequence: Option<u64>,
    /// Ingest sequence up to which everything was counted when it was decided.
    pub watermark: u64,
    /// When the deciding event arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_us: Option<i64>,
    /// When it was durable and counted, just before it was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_us: Option<i64>,
    /// When the counts were taken that the deciding plan was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_us: Option<i64>,
    /// When the plan was made.
    pub decided_us: i64,
    /// When the stop record was synced to disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_us: Option<i64>,
    /// When control was what everybody is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_us: Option<i64>,
    /// When the change was in the database and in the rollout's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_us: Option<i64>,
}

impl RollbackTimes {
    /// A decision of now that rests on `evidence`.
    pub(super) fn decided(
        evidence: Option<Evidence>,
        watermark: u64,
        (seen_us, decided_us): (i64, i64),
    ) -> Self {
        Self {
            deciding_sequence: evidence.map(|evidence| evidence.sequence),
            watermark,
            received_us: evidence.map(|evidence| evidence.received_us),
            counted_us: evidence.map(|evidence| evidence.counted_us),
            seen_us: Some(seen_us),
            decided_us,
            ..Self::default()
        }
    }
}

/// The name of the stream of a rollout's rollbacks.
fn stream(rollout: &str) -> String {
    format!("rollout-rollbacks/{rollout}")
}

/// Keeps the times of a confirmed rollback, once.
pub(super) async fn keep(
    store: &dyn Store,
    (project, rollout): (&ProjectKey, &str),
    times: &RollbackTimes,
) -> Result<(), StoreError> {
    let append = StreamAppend {
        project: project.clone(),
        stream: stream(rollout),
        payload: journal::payload_of(times)?,
        delivery: Some(DeliveryId {
            source: stream(rollout),
            id: times.decided_us.to_string(),
        }),
        expected_head: None,
        outbox: Vec::new(),
        now_us: times.confirmed_us.unwrap_or(times.decided_us),
    };
    store.log_append(append).await.map(|_| ())
}

/// The times of a rollout's last rollback, if they were kept.
pub(super) async fn last(
    store: &dyn Store,
    (project, rollout): (&ProjectKey, &str),
) -> Result<Option<RollbackTimes>, StoreError> {
    let name = stream(rollout);
    let head = store.log_head(project, &name).await?;
    if head == 0 {
        return Ok(None);
    }
    let newest = store.log_read(project, &name, head - 1, 1).await?;
    let read = |payload: Value| serde_json::from_value(payload).ok();
    Ok(newest
        .into_iter()
        .next()
        .and_then(|record| read(record.payload)))
}
