//! The reconciler: makes memory say what storage says, and makes stops ordinary.
//!
//! It takes no input. It is woken by a signal or by a timer, reads everything it needs, and may
//! run twice. While storage cannot be read, what is served stays as it is and is labelled stale.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_store::{
    ConfigVersion, Expected, ObjectChange, ObjectKind, ProjectKey, Snapshot, StopKind, StopRecord,
    StoreError, StoredObject, TokenKind, TokenRecord, Write,
};
use tokio_util::sync::CancellationToken;

use crate::access::{AccessBook, BookEntry, Role};
use crate::app::App;
use crate::last_good::LastGood;
use crate::live::{LiveSet, Source, assemble};
use crate::stops::stopped;

/// How often storage is read even if nothing was signalled (another process may have written).
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// Runs until `shutdown`.
pub async fn run(app: App, kept: Option<Arc<LastGood>>, shutdown: CancellationToken) {
    let mut timer = tokio::time::interval(AT_LEAST_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.changed.notified() => {}
            _ = timer.tick() => {}
        }
        once(&app, kept.as_deref()).await;
    }
}

/// One pass: settle stops, then load every project that changed, then the credentials.
pub async fn once(app: &App, kept: Option<&LastGood>) {
    settle_stops(app).await;
    match load_all(app, kept).await {
        Ok(()) => {}
        Err(error) => {
            tracing::warn!(%error, "storage cannot be read; what is served is now stale");
            mark_stale(app);
        }
    }
}

/// Makes every pending stop ordinary that storage takes.
pub(crate) async fn settle_stops(app: &App) {
    for record in app.stops.pending() {
        match settle(app, &record).await {
            Ok(Settled::Done) => app.stops.settle(record.id()),
            // It stays on disk and over what storage says: a stop is only forgotten when storage
            // says the same, however strange what storage says now may be.
            Ok(Settled::NotYet(reason)) => tracing::error!(
                %reason, stop.id = %record.id(), flag.key = %record.flag(),
                "a stop does not fit what is stored and stays in force"
            ),
            Err(error) => tracing::warn!(
                %error, stop.id = %record.id(), flag.key = %record.flag(),
                "a stop is served but not yet in storage"
            ),
        }
    }
}

async fn load_all(app: &App, kept: Option<&LastGood>) -> Result<(), StoreError> {
    for project in app.store()?.project_list().await? {
        let key = project.key;
        let snapshot = app.store()?.config_snapshot(&key).await?;
        refresh(app, &key, snapshot);
        keep(app, kept, &key);
    }
    load_credentials(app).await
}

/// Serves a configuration of `project` at least as new as `version`.
///
/// Writers that wait at the same time share one load. If storage fails in between, the write is
/// done all the same and the reconciler serves it later.
pub(crate) async fn serve_at_least(app: &App, project: &ProjectKey, version: ConfigVersion) {
    let _turn = app.loading.lock().await;
    let is_served = app.live.project(project.as_str()).is_some_and(|place| {
        let set = place.peek();
        (set.epoch, set.config_version) >= (version.epoch, version.version)
    });
    if is_served {
        return;
    }
    match async { app.store()?.config_snapshot(project).await }.await {
        Ok(snapshot) => refresh(app, project, snapshot),
        Err(error) => tracing::warn!(%error, %project, "a committed change is not served yet"),
    }
    // Keeping the last good set is the reconciler's work, not this request's.
    app.changed.notify_one();
}

/// Keeps what is served as the last good set, if it is not kept already.
fn keep(app: &App, kept: Option<&LastGood>, project: &ProjectKey) {
    let (Some(kept), Some(place)) = (kept, app.live.project(project.as_str())) else {
        return;
    };
    if let Err(error) = kept.save_if_new(project.as_str(), &place.load()) {
        tracing::warn!(%error, %project, "the last good set could not be kept");
    }
}

/// Serves `snapshot` if it is newer than what is served, with the pending stops on top.
fn refresh(app: &App, project: &ProjectKey, snapshot: Snapshot) {
    app.live.update(project.as_str(), |current| {
        let overlay = app.stops.overlay();
        match current {
            Some(set) if is_newer(set, &snapshot) => None,
            Some(set) if is_same(set, &snapshot) && overlay.is_empty() => {
                set.stale_since_us.is_some().then(|| {
                    let mut fresh = set.reassembled(&overlay);
                    fresh.stale_since_us = None;
                    fresh
                })
            }
            _ => Some(assemble(
                project.as_str(),
                &source_of(snapshot),
                &overlay,
                current,
            )),
        }
    });
}

/// Whether what is served is newer: two loads may finish in the other order than they began.
fn is_newer(set: &LiveSet, snapshot: &Snapshot) -> bool {
    (set.epoch, set.config_version) > (snapshot.epoch, snapshot.config_version)
}

fn is_same(set: &LiveSet, snapshot: &Snapshot) -> bool {
    (set.epoch, set.config_version) == (snapshot.epoch, snapshot.config_version)
}

fn source_of(snapshot: Snapshot) -> Source {
    let by_key = |objects: Vec<StoredObject>| -> BTreeMap<String, Value> {
        objects
            .into_iter()
            .map(|object| (object.key.as_str().to_owned(), object.spec))
            .collect()
    };
    for bad in &snapshot.quarantined {
        tracing::error!(kind = %bad.kind, key = %bad.key, reason = %bad.reason, "a stored row is kept aside");
    }
    Source {
        config_version: snapshot.config_version,
        epoch: snapshot.epoch,
        flags: by_key(snapshot.flags),
        segments: by_key(snapshot.segments),
        evaluators: serde_json::Map::new(),
        metadata: serde_json::Map::new(),
    }
}

fn mark_stale(app: &App) {
    let now = app.clock.now_us();
    for project in app.live.keys() {
        app.live.update(&project, |current| {
            let set = current.filter(|set| set.stale_since_us.is_none())?;
            let mut stale = set.reassembled(&app.stops.overlay());
            stale.stale_since_us = Some(now);
            Some(stale)
        });
    }
}

/// What became of a stop that storage was asked to make ordinary.
enum Settled {
    /// Storage says the same as the stop, or the flag is deleted.
    Done,
    /// Storage knows the flag differently, or not at all.
    NotYet(String),
}

/// Makes one stop an ordinary change, exactly once: its id is the idempotency key.
async fn settle(app: &App, record: &StopRecord) -> Result<Settled, StoreError> {
    let (project, flag) = (record.project(), record.flag());
    let stored = app
        .store()?
        .object_get(project, ObjectKind::Flag, flag)
        .await?;
    let Some(object) = stored else {
        return Ok(Settled::NotYet("the flag is not in storage".to_owned()));
    };
    if object.deleted {
        return Ok(Settled::Done);
    }
    let spec = match tidegate_flags::FlagSpec::from_json(flag.as_str(), &object.spec)
        .map_err(|violations| format!("{violations:?}"))
        .and_then(|spec| stopped(&spec, record).map_err(|error| error.to_string()))
    {
        Ok(spec) => spec.to_json(),
        Err(reason) => return Ok(Settled::NotYet(reason)),
    };
    let mut change = ObjectChange::new(
        (project.clone(), ObjectKind::Flag, flag.clone()),
        // Read, stopped and written at one revision: an editor who was faster loses nothing, and
        // the next pass stops what that editor wrote.
        Expected::Revision(object.revision),
        Write::Put(spec.clone()),
        record.actor().clone(),
        record.at_us(),
    )
    .with_reason(record.reason().to_owned())
    .with_idempotency_key(record.idempotency_key());
    change.changes = crate::app::difference(Some(&object.spec), Some(&spec));
    change.action = Some(
        match record.kind() {
            StopKind::Kill => "flag.kill",
            StopKind::Rollback => "flag.rollback",
        }
        .to_owned(),
    );
    app.store()?
        .object_commit(change)
        .await
        .map(|_| Settled::Done)
}

/// Reloads the token book from storage.
pub(crate) async fn load_credentials(app: &App) -> Result<(), StoreError> {
    let mut entries = HashMap::new();
    for project in app.store()?.project_list().await? {
        for token in app.store()?.token_list(&project.key).await? {
            entries.insert(token.selector.clone(), entry_of(&token));
        }
    }
    if let Some(kept) = &app.kept_credentials
        && let Err(error) = kept.save(&entries)
    {
        tracing::warn!(%error, "the token book could not be kept");
    }
    let before = app.access.load();
    if !before.has_exactly(&entries) {
        let bootstrap = before.bootstrap().cloned();
        app.access.store(AccessBook::new(entries, bootstrap).into());
        app.streams.book_changed();
    }
    Ok(())
}

fn entry_of(token: &TokenRecord) -> BookEntry {
    BookEntry {
        hash: token.hash,
        project: token.project.as_str().to_owned(),
        role: match token.kind {
            TokenKind::Admin => Role::Admin,
            TokenKind::Server => Role::Server,
            TokenKind::Browser => Role::Browser,
            TokenKind::Ci => Role::Ci,
        },
        expires_at_us: token.expires_at,
        disabled: token.disabled_at.is_some(),
    }
}
