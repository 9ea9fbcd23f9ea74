//! The task that delivers: takes what is due from the outbox, sends it, and writes down what came of it.
//!
//! The outbox gives the first message of each topic only, so an endpoint hears in order and a message
//! that waits holds back its own endpoint and no other. A message is leased while it is sent: a process
//! that dies leaves it to the next one.

use std::time::Duration;

use serde_json::Value;
use tidegate_store::{OutboxRow, StoreError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::endpoint::Endpoint;
use super::log::{self, Attempt};
use super::schedule::{self, Next};
use super::{COMMAND_TOPIC, ENDPOINT_TOPIC};
use crate::app::App;
use crate::egress::destination::Destination;
use crate::egress::{EgressError, Incoming, Limits, Outgoing, Purpose};

/// How often it is looked whether a message is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Messages taken at once.
const TAKEN: u32 = 32;
/// How long a message that is being sent is nobody else's; longer than any attempt.
const LEASE_US: i64 = 75_000_000;

/// Delivers until `shutdown`.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut attempts = JoinSet::new();
    // What an earlier process left is looked for once, even if nobody listens any more.
    let mut is_first = true;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = timer.tick() => {}
            Some(_) = attempts.join_next() => {}
        }
        let somebody =
            app.operations.notices.has_endpoints() || app.operations.hooks.tells_anybody();
        if (somebody || is_first) && super::endpoints(&app).await.is_ok() {
            is_first = false;
            for row in take(&app).await {
                let app = app.clone();
                attempts.spawn(async move { deliver(&app, row).await });
            }
        }
    }
    // What is under way is finished, or its lease would have to end first.
    while attempts.join_next().await.is_some() {}
}

/// Delivers everything that is due now, one after another, and says how much that was.
pub async fn deliver_due(app: &App) -> usize {
    let mut delivered = 0;
    if super::endpoints(app).await.is_err() {
        return delivered;
    }
    loop {
        let rows = take(app).await;
        if rows.is_empty() {
            return delivered;
        }
        for row in rows {
            deliver(app, row).await;
            delivered += 1;
        }
    }
}

async fn take(app: &App) -> Vec<OutboxRow> {
    let now_us = app.clock.now_us();
    let taken = async {
        app.store()?
            .outbox_take(TAKEN, now_us, now_us + LEASE_US)
            .await
    };
    taken.await.unwrap_or_else(|error: StoreError| {
        tracing::debug!(%error, "the outbox waits for storage");
        Vec::new()
    })
}

/// Why a message did not arrive.
struct Failure {
    reason: String,
    /// Whether trying again is of no use.
    is_final: bool,
}

impl From<EgressError> for Failure {
    fn from(error: EgressError) -> Self {
        Self {
            reason: error.to_string(),
            is_final: false,
        }
    }
}

/// One attempt at one message.
async fn deliver(app: &App, row: OutboxRow) {
    let outcome = attempt(app, &row).await;
    let now_us = app.clock.now_us();
    let number = row.attempts.saturating_add(1);
    let (word, reason, next) = match outcome {
        Ok(()) => ("delivered", None, None),
        Err(failure) => {
            let next = schedule::next(number, row.created_at, now_us, row.id);
            let next = if failure.is_final { Next::GiveUp } else { next };
            let word = if next == Next::GiveUp {
                "dead"
            } else {
                "failed"
            };
            (word, Some(failure.reason), Some(next))
        }
    };
    if let Some(endpoint) = row.topic.strip_prefix(ENDPOINT_TOPIC) {
        let attempt = Attempt {
            id: text_at(&row.payload, "/data/id"),
            event: text_at(&row.payload, "/type"),
            at_us: now_us,
            number,
            outcome: word.to_owned(),
            reason: reason.clone(),
            next_us: match next {
                Some(Next::At(at_us)) => Some(at_us),
                _ => None,
            },
        };
        log::add(app, row.project.as_str(), endpoint, attempt).await;
    }
    let why = reason.unwrap_or_default();
    let noted = async {
        let store = app.store()?;
        match next {
            None => store.outbox_done(row.id).await,
            Some(Next::At(at_us)) => store.outbox_fail(row.id, &why, at_us).await,
            Some(Next::GiveUp) => store.outbox_dead(row.id, &why).await,
        }
    };
    if let Err(error) = noted.await {
        // The lease ends by itself, and the receiver knows the id.
        tracing::warn!(%error, topic = %row.topic, "the end of an attempt could not be written");
    }
}

async fn attempt(app: &App, row: &OutboxRow) -> Result<(), Failure> {
    let gone = |what: &str| Failure {
        reason: format!("{what} is gone"),
        is_final: true,
    };
    if let Some(key) = row.topic.strip_prefix(ENDPOINT_TOPIC) {
        let endpoint = app.operations.notices.endpoint(row.project.as_str(), key);
        let endpoint = endpoint.ok_or_else(|| gone("its endpoint"))?;
        let post_of = Post {
            project: row.project.as_str(),
            key,
            endpoint: &endpoint,
            purpose: Purpose::Tell,
            limits: app.operations.notices.limits,
        };
        let answer = post(app, post_of, &row.payload).await?;
        return match answer.status {
            200..=299 => Ok(()),
            // The receiver says that it will never want anything again.
            410 => Err(gone("its receiver (410)")),
            status => Err(Failure {
                reason: format!("it answered {status}"),
                is_final: false,
            }),
        };
    }
    let Some(name) = row.topic.strip_prefix(COMMAND_TOPIC) else {
        return Err(gone("whoever wanted it"));
    };
    let command = app.operations.hooks.command(name);
    let command = command.ok_or_else(|| gone("its command"))?;
    let transient = |reason| Failure {
        reason,
        is_final: false,
    };
    let ran = command.run(&row.payload).await.map_err(transient)?;
    if ran.code == Some(0) {
        return Ok(());
    }
    Err(transient(ran.in_words()))
}

/// Where and how a document is posted.
pub(crate) struct Post<'a> {
    pub(crate) project: &'a str,
    pub(crate) key: &'a str,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) purpose: Purpose,
    pub(crate) limits: Limits,
}

/// Posts one signed document.
pub(crate) async fn post(
    app: &App,
    to: Post<'_>,
    document: &Value,
) -> Result<Incoming, EgressError> {
    let body = document.to_string().into_bytes();
    let id = text_at(document, "/data/id");
    let now_us = app.clock.now_us();
    let timestamp = now_us.div_euclid(1_000_000);
    let master = app.operations.notices.master();
    let no_key = || EgressError::Failed("this server has no key to sign with".to_owned());
    let master = master.ok_or_else(no_key)?;
    let signatures: Vec<String> = to
        .endpoint
        .live_keys(now_us)
        .map(|key| {
            master
                .key(to.project, to.key, &key.id)
                .sign(&id, timestamp, &body)
        })
        .collect();
    let request = Outgoing {
        to: Destination::parse(&to.endpoint.url)?,
        headers: vec![
            ("content-type", "application/json".to_owned()),
            ("webhook-id", id),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signatures.join(" ")),
        ],
        credential: None,
        body: Some(body),
    };
    app.operations
        .egress
        .send(to.purpose, request, to.limits)
        .await
}

fn text_at(document: &Value, pointer: &str) -> String {
    let found = document.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}
