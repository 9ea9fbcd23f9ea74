//! Reading the inbox: each webhook parsed, its rows appended to its project's log, its outcome remembered.
//!
//! What cannot be parsed is remembered with the reason and leaves the inbox: the sender was answered, and reading it
//! again would not make it readable. What cannot be *appended* (a full disk, a log that another process holds) stays
//! and is tried again, without holding up other projects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde::Serialize;
use tidegate_delivery::DeliveryEvent;
use tidegate_delivery::event::EventBody;
use tidegate_delivery::webhook::Parsed;

use super::Shared;
use super::inbox::Waiting;
use super::log_file::LogError;
use crate::meters;

/// How soon a refused append is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// Notes kept of one webhook.
const MAX_NOTES: usize = 20;

/// What became of one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Project.
    #[serde(skip)]
    pub project: String,
    /// Who sent it.
    pub source: String,
    /// The sender's name for it, where a header has one.
    pub delivery: Option<String>,
    /// When it came.
    pub received_at: String,
    /// Rows that it became.
    pub rows: usize,
    /// Those of them that the log did not hold already, from an earlier delivery of the same.
    pub new: u64,
    /// Why it could not be read at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What was left out of it, and why.
    pub notes: Vec<String>,
}

/// The thread that reads.
pub(super) struct Reader {
    shared: Arc<Shared>,
    /// Webhooks that need not be kept any more.
    done: Arc<AtomicU64>,
    /// Webhooks whose rows the log has refused so far, by project.
    refused: BTreeMap<String, Vec<Ready>>,
}

/// A parsed webhook.
struct Ready {
    events: Vec<DeliveryEvent>,
    outcome: Outcome,
    waiting: Waiting,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, done: Arc<AtomicU64>) -> Self {
        Self {
            shared,
            done,
            refused: BTreeMap::new(),
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Vec<Waiting>>) {
        loop {
            match inbox.recv_timeout(TRY_AGAIN) {
                Ok(batch) => self.take(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for (project, ready) in std::mem::take(&mut self.refused) {
                self.append(project, ready);
            }
        }
    }

    fn take(&mut self, batch: Vec<Waiting>) {
        for waiting in batch {
            let ready = read(waiting);
            let project = ready.outcome.project.clone();
            self.refused.entry(project).or_default().push(ready);
        }
    }

    fn append(&mut self, project: String, ready: Vec<Ready>) {
        match self.try_append(&project, &ready) {
            Ok(new) => {
                tracing::debug!(project, ?new, "webhooks were read");
                self.done.fetch_add(ready.len() as u64, Ordering::AcqRel);
                for (mut one, new) in ready.into_iter().zip(new) {
                    one.outcome.new = new;
                    let unreadable = usize::from(one.outcome.refused.is_some());
                    meters::add(&self.shared.meters.unreadable, unreadable);
                    self.shared.remember(one.outcome);
                    drop(one.waiting.room);
                }
            }
            Err(error) => {
                tracing::error!(%error, project, "rows of webhooks wait for the delivery log");
                self.refused.insert(project, ready);
            }
        }
    }

    /// How many rows of each webhook were new.
    fn try_append(&self, project: &str, ready: &[Ready]) -> Result<Vec<u64>, LogError> {
        let log = self.shared.log(project)?;
        if ready.iter().all(|one| one.events.is_empty()) {
            return Ok(vec![0; ready.len()]);
        }
        let (new, _) = log.write(|batch| {
            let append = |one: &Ready| -> Result<u64, LogError> {
                let before = batch.recorded();
                one.events.iter().try_for_each(|event| batch.take(event))?;
                Ok(batch.recorded() - before)
            };
            ready
                .iter()
                .map(append)
                .collect::<Result<Vec<u64>, LogError>>()
        })?;
        Ok(new)
    }
}

/// Rulings need somebody who rules; a webhook proves a system.
fn without_rulings(mut events: Vec<DeliveryEvent>, notes: &mut Vec<String>) -> Vec<DeliveryEvent> {
    let before = events.len();
    events.retain(|event| !matches!(event.body, EventBody::Correction(_)));
    if events.len() < before {
        notes.push("rulings on deployments are not taken from webhooks".to_owned());
    }
    events
}

fn read(waiting: Waiting) -> Ready {
    let received = &waiting.received;
    let mut outcome = Outcome {
        project: received.project().to_owned(),
        source: received.source().to_owned(),
        delivery: received.delivery().map(str::to_owned),
        received_at: received.received_at().to_string(),
        rows: 0,
        new: 0,
        refused: None,
        notes: Vec::new(),
    };
    let events = match received.parse() {
        Ok(Parsed { events, mut notes }) => {
            let more = notes.len().saturating_sub(MAX_NOTES);
            notes.truncate(MAX_NOTES);
            if more > 0 {
                notes.push(format!("and {more} more"));
            }
            outcome.notes = notes;
            without_rulings(events, &mut outcome.notes)
        }
        Err(error) => {
            tracing::warn!(%error, source = received.source(), "a webhook cannot be read");
            outcome.refused = Some(error.to_string());
            Vec::new()
        }
    };
    outcome.rows = events.len();
    Ready {
        events,
        outcome,
        waiting,
    }
}
