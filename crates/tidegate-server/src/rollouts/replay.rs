//! Making every kept plan again from its inputs, and comparing bytes.

use serde::{Deserialize, Serialize};
use tidegate_rollout::{Observations, Plan, RolloutState, canonical_bytes, plan};
use tidegate_store::{ObjectKind, StoreError};

use super::journal;
use super::start::read;
use crate::app::objects::{self, Place};
use crate::app::{App, AppError};

/// The format of kept plans.
const FORMAT: u64 = 1;

/// What a replay found.
#[derive(Debug, Default, Serialize)]
pub struct Replay {
    /// Plans made again.
    pub plans: u64,
    /// Those that came out the same, byte for byte.
    pub identical: u64,
    /// Sequence of each plan that came out different.
    pub different: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: u64,
    log_length: usize,
    observations: Observations,
    plan: Plan,
}

/// Replays every kept plan of a rollout.
///
/// # Errors
/// A rollout that does not exist; storage.
pub async fn replay(app: &App, project: &str, key: &str) -> Result<Replay, AppError> {
    let place = Place::parse(project, ObjectKind::Rollout, key)?;
    let policy = read(&objects::read(app, &place).await?.spec)?;
    let refused = |error: StoreError| objects::refusal(&error, "the rollout's log");
    let store = app.store().map_err(refused)?;
    let log = journal::read(store, &place.project, key)
        .await
        .map_err(refused)?;
    let mut found = Replay::default();
    let mut after = 0;
    loop {
        let page = store
            .log_read(&place.project, &journal::plans(key), after, 500)
            .await
            .map_err(refused)?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = last.sequence;
        for record in &page {
            found.plans += 1;
            let again = serde_json::from_value::<Kept>(record.payload.clone())
                .ok()
                .filter(|kept| kept.format == FORMAT && kept.log_length <= log.len())
                .map(|kept| {
                    let state = RolloutState::fold(&policy, &log[..kept.log_length]);
                    let made = plan(&policy, &state, &kept.observations, kept.plan.now_us);
                    canonical_bytes(&made) == canonical_bytes(&kept.plan)
                });
            if again == Some(true) {
                found.identical += 1;
            } else {
                found.different.push(record.sequence);
            }
        }
    }
}
