//! Notices: telling others what happened, after it happened and exactly as it was committed.
//!
//! A change writes its notices into the store's outbox in its own transaction; a task takes them from
//! there and posts them, in order for each endpoint, for up to a day ([`schedule`]), signed as Standard
//! Webhooks says ([`signature`]). Nothing that publishes waits for a receiver: what a slow, failing or
//! refused endpoint costs is that its own messages wait.
//!
//! Delivery is at least once; a receiver discards what it knows by `webhook-id`.

mod deliver;
pub mod endpoint;
pub mod event;
pub(crate) mod log;
pub mod manage;
pub mod schedule;
pub mod signature;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde_json::Value;
use tidegate_rollout::RolloutEvent;
use tidegate_store::{
    ObjectChange, ObjectKind, OutboxMessage, ProjectKey, StoreError, StoredObject,
};

pub use deliver::deliver_due;
pub(crate) use deliver::{Post, post, run};
use endpoint::Endpoint;
use event::Event;
use signature::MasterKey;

use crate::app::App;
use crate::egress::Limits;

/// What the topics of endpoints begin with.
pub(crate) const ENDPOINT_TOPIC: &str = "webhook:";
/// What the topics of command hooks begin with.
pub(crate) const COMMAND_TOPIC: &str = "command:";

/// What an exchange with an endpoint may cost.
const DELIVERY: Limits = Limits {
    time: Duration::from_secs(10),
    bytes: 16 * 1024,
};

type Endpoints = BTreeMap<String, BTreeMap<String, Endpoint>>;

/// Who is told, and with which key.
#[derive(Debug)]
pub struct Notices {
    master: Option<MasterKey>,
    base: String,
    limits: Limits,
    /// Every endpoint by project and key; absent until storage said which there are.
    endpoints: ArcSwapOption<Endpoints>,
}

impl Default for Notices {
    fn default() -> Self {
        Self::new(None, "")
    }
}

impl Notices {
    /// Notices signed by keys of `master`, with links that begin with `base`.
    #[must_use]
    pub fn new(master: Option<MasterKey>, base: &str) -> Self {
        Self {
            master,
            base: base.trim_end_matches('/').to_owned(),
            limits: DELIVERY,
            endpoints: ArcSwapOption::empty(),
        }
    }

    /// The same with other limits of a delivery.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What links begin with.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What one exchange with an endpoint may cost.
    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    fn master(&self) -> Option<&MasterKey> {
        self.master.as_ref()
    }

    /// One endpoint, as far as it is known.
    pub(crate) fn endpoint(&self, project: &str, key: &str) -> Option<Endpoint> {
        self.endpoints
            .load()
            .as_ref()?
            .get(project)?
            .get(key)
            .cloned()
    }

    /// The endpoints of a project that are asked before a raise; `None` until they are known.
    pub(crate) fn asked(&self, project: &str) -> Option<BTreeMap<String, Endpoint>> {
        let known = self.endpoints.load();
        Some(asked_of(known.as_ref()?, project))
    }

    fn has_endpoints(&self) -> bool {
        let known = self.endpoints.load();
        known
            .as_ref()
            .is_some_and(|all| all.values().any(|own| !own.is_empty()))
    }
}

/// Adds to a change the messages that leave with it.
///
/// # Errors
/// Storage could not say who is to be told; the change would fail as well.
pub(crate) async fn attach(app: &App, change: &mut ObjectChange) -> Result<(), StoreError> {
    // Who is told of an endpoint would be told of somebody else's address.
    if change.kind == ObjectKind::Webhook || !anybody_listens(app, &change.project).await? {
        return Ok(());
    }
    let before = app
        .store()?
        .object_get(&change.project, change.kind, &change.key)
        .await?
        .filter(|object| !object.deleted)
        .map(|object| object.spec);
    let id = event_id();
    let event = event::of_change(
        change,
        before.as_ref(),
        (&id, app.operations.notices.base()),
    );
    let messages = messages(app, change.project.as_str(), &event);
    change.outbox.extend(messages);
    Ok(())
}

/// The messages that leave with an entry of a rollout's log.
///
/// # Errors
/// As [`attach`].
pub(crate) async fn of_entry(
    app: &App,
    (project, rollout): (&ProjectKey, &str),
    share_before_bp: u16,
    entry: &RolloutEvent,
) -> Result<Vec<OutboxMessage>, StoreError> {
    if !anybody_listens(app, project).await? {
        return Ok(Vec::new());
    }
    let id = event_id();
    let place = (project.as_str(), rollout);
    let about = (id.as_str(), app.operations.notices.base());
    let event = event::of_rollout(place, share_before_bp, entry, about);
    Ok(event.map_or_else(Vec::new, |event| messages(app, project.as_str(), &event)))
}

async fn anybody_listens(app: &App, project: &ProjectKey) -> Result<bool, StoreError> {
    let known = endpoints(app).await?;
    let has_endpoint = known
        .get(project.as_str())
        .is_some_and(|own| !own.is_empty());
    Ok(has_endpoint || app.operations.hooks.tells(project.as_str()))
}

/// One message for each endpoint and command hook that wants the event.
fn messages(app: &App, project: &str, event: &Event) -> Vec<OutboxMessage> {
    let known = app.operations.notices.endpoints.load_full();
    let own = known.as_ref().and_then(|all| all.get(project));
    let endpoints = own
        .into_iter()
        .flatten()
        .filter(|(_, endpoint)| endpoint.wants(&event.name))
        .map(|(key, _)| format!("{ENDPOINT_TOPIC}{key}"));
    let commands = app
        .operations
        .hooks
        .told(project, &event.name)
        .map(|name| format!("{COMMAND_TOPIC}{name}"));
    endpoints
        .chain(commands)
        .map(|topic| message(topic, event.document.clone()))
        .collect()
}

fn message(topic: String, payload: Value) -> OutboxMessage {
    OutboxMessage { topic, payload }
}

/// A new identity for something that happened.
pub(crate) fn event_id() -> String {
    format!("evt_{}", uuid::Uuid::now_v7().simple())
}

/// Every endpoint, read from storage unless it is known.
async fn endpoints(app: &App) -> Result<Arc<Endpoints>, StoreError> {
    match app.operations.notices.endpoints.load_full() {
        Some(known) => Ok(known),
        None => reload(app).await,
    }
}

fn asked_of(endpoints: &Endpoints, project: &str) -> BTreeMap<String, Endpoint> {
    let own = endpoints.get(project).into_iter().flatten();
    own.filter(|(_, endpoint)| endpoint.asks)
        .map(|(key, endpoint)| (key.clone(), endpoint.clone()))
        .collect()
}

/// The endpoints of a project that are asked before a raise.
///
/// # Errors
/// Storage could not say.
pub(crate) async fn endpoints_asked(
    app: &App,
    project: &str,
) -> Result<BTreeMap<String, Endpoint>, StoreError> {
    Ok(asked_of(endpoints(app).await?.as_ref(), project))
}

/// Reads every endpoint from storage.
pub(crate) async fn reload(app: &App) -> Result<Arc<Endpoints>, StoreError> {
    let mut all = Endpoints::new();
    for project in app.store()?.project_list().await? {
        let own = all.entry(project.key.as_str().to_owned()).or_default();
        for object in of_kind(app, &project.key).await? {
            match Endpoint::from_stored(&object.spec) {
                Some(endpoint) => drop(own.insert(object.key.as_str().to_owned(), endpoint)),
                None => tracing::error!(key = %object.key, "an endpoint cannot be read"),
            }
        }
    }
    let all = Arc::new(all);
    app.operations
        .notices
        .endpoints
        .store(Some(Arc::clone(&all)));
    Ok(all)
}

async fn of_kind(app: &App, project: &ProjectKey) -> Result<Vec<StoredObject>, StoreError> {
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = app
            .store()?
            .object_list(project, ObjectKind::Webhook, after.as_ref(), 1000)
            .await?;
        found.extend(page.objects);
        after = page.next_after;
        if after.is_none() {
            return Ok(found);
        }
    }
}
