//! What became of the last deliveries to each endpoint, for people who wonder.
//!
//! A ring of the newest attempts, in one named value of the store: bounded, and there after a
//! restart. It holds no body and no address. That it is written after the attempt, and may be lost
//! with the process, is no loss: what has to be delivered is in the outbox.

use serde::{Deserialize, Serialize};

use crate::app::App;

/// Attempts that are kept.
const KEPT: usize = 100;
/// Longest reason, in bytes.
const MAX_REASON: usize = 200;

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// The message's id, as its receiver sees it.
    pub id: String,
    /// The type of its event.
    pub event: String,
    /// When, Unix microseconds.
    pub at_us: i64,
    /// Which attempt this was, from 1.
    pub number: u32,
    /// What became of it: `delivered`, `failed`, `dead`, `allowed` or `held`.
    pub outcome: String,
    /// Why, where it did not arrive.
    pub reason: Option<String>,
    /// When the next attempt is due, Unix microseconds.
    pub next_us: Option<i64>,
}

/// The newest attempts at an endpoint, the newest first.
pub(crate) async fn read(app: &App, project: &str, endpoint: &str) -> Vec<Attempt> {
    let name = named_value(project, endpoint);
    let kept = async { app.store()?.kv_get(&name).await };
    let bytes = kept.await.ok().flatten().unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Adds an attempt, forgetting the oldest.
pub(crate) async fn add(app: &App, project: &str, endpoint: &str, mut attempt: Attempt) {
    if let Some(reason) = &mut attempt.reason {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
    }
    let mut attempts = read(app, project, endpoint).await;
    attempts.insert(0, attempt);
    attempts.truncate(KEPT);
    let value = serde_json::to_vec(&attempts).unwrap_or_default();
    let name = named_value(project, endpoint);
    let kept = async { app.store()?.kv_put(&name, &value).await };
    if let Err(error) = kept.await {
        tracing::warn!(%error, %endpoint, "the log of deliveries could not be written");
    }
}

fn named_value(project: &str, endpoint: &str) -> String {
    format!("webhook-log/{project}/{endpoint}")
}
