//! The reconciler: makes memory say what storage says, and makes stops ordinary.
//!
//! It takes no input. It is woken by a signal or by a timer, reads everything it needs, and may
//! run twice. While storage cannot be read, what is served stays as it is and is labelled stale.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_store::{
    ConfigVersion, Expected, ObjectChange, ObjectKind, ProjectKey, Quarantined, Snapshot, StopKind,
    StopRecord, StoreError, StoredObject, TokenKind, TokenRecord, Write,
};
use tokio_util::sync::CancellationToken;

use crate::access::{AccessBook, BookEntry, Role};
use crate::app::App;
use crate::last_good::LastGood;
use crate::live::{LiveSet, Source, assemble};
use crate::stops::{Overlay, stopped};

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
    let _turn = app.stops.turn.lock().await;
    app.stops.mark_again();
    for record in app.stops.begin_settling() {
        match settle(app, &record).await {
            Ok(Settled::Done) => {
                app.stops.settle(record.id());
                continue;
            }
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
        app.stops.give_back(record.id());
    }
}

/// Reads everything again, as a round does, for a caller whose answer depends on it.
pub(crate) async fn reload(app: &App) {
    if let Err(error) = load_all(app, None).await {
        tracing::warn!(%error, "storage cannot be read; the next round tries again");
    }
}

async fn load_all(app: &App, kept: Option<&LastGood>) -> Result<(), StoreError> {
    for project in app.store()?.project_list().await? {
        let key = project.key;
        // Most rounds find nothing new, and reading and parsing every definition to learn that
        // costs evaluations time and the process memory.
        let version = app.store()?.config_version(&key).await?;
        if !is_confirmed(app, &key, version) {
            let stored = read(app, &key).await?;
            refresh(app, &key, stored);
        }
        keep(app, kept, &key);
    }
    load_credentials(app).await
}

/// Whether exactly `version` is served, known to be fresh, with nothing on top of it and no
/// schedule that somebody's leaving would hold.
fn is_confirmed(app: &App, project: &ProjectKey, version: ConfigVersion) -> bool {
    app.stops.overlay().is_empty()
        && app.live.project(project.as_str()).is_some_and(|place| {
            let set = place.peek();
            (set.epoch, set.config_version) == (version.epoch, version.version)
                && set.stale_since_us.is_none()
                && !set.has_schedules()
        })
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
    match read(app, project).await {
        Ok(stored) => refresh(app, project, stored),
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

/// What storage says about one project.
struct Stored {
    snapshot: Snapshot,
    /// Flags whose author left, with the Unix second they left at.
    held: BTreeMap<String, i64>,
}

async fn read(app: &App, project: &ProjectKey) -> Result<Stored, StoreError> {
    let snapshot = app.store()?.config_snapshot(project).await?;
    let held = crate::schedules::held(app, &snapshot.flags).await?;
    Ok(Stored { snapshot, held })
}

/// Serves what storage says if it is newer than what is served, with the pending stops on top.
fn refresh(app: &App, project: &ProjectKey, stored: Stored) {
    app.live.update(project.as_str(), |current| {
        let overlay = app.stops.overlay();
        let snapshot = &stored.snapshot;
        match current {
            Some(set) if is_newer(set, snapshot) => behind(set, snapshot.version(), &overlay),
            Some(set) if is_same(set, &stored) && overlay.is_empty() => {
                set.stale_since_us.is_some().then(|| {
                    let mut fresh = set.reassembled(&overlay);
                    fresh.stale_since_us = None;
                    fresh.storage_behind = None;
                    fresh
                })
            }
            _ => Some(assemble(
                project.as_str(),
                &source_of(stored, current),
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

fn is_same(set: &LiveSet, stored: &Stored) -> bool {
    let version = (stored.snapshot.epoch, stored.snapshot.config_version);
    (set.epoch, set.config_version) == version && set.source.held == stored.held
}

/// The same set, labelled, where it was kept from an earlier run and the database is older: a file
/// was put back by hand. A set that storage confirmed is only older by a race between two loads.
fn behind(set: &LiveSet, stored: ConfigVersion, overlay: &Overlay) -> Option<LiveSet> {
    if set.stale_since_us.is_none() || set.storage_behind == Some(stored) {
        return None;
    }
    let mut labelled = set.reassembled(overlay);
    labelled.storage_behind = Some(stored);
    if let Some(reason) = labelled.behind() {
        tracing::error!(project = %set.project, %reason, "storage is not what it was");
    }
    Some(labelled)
}

fn source_of(stored: Stored, current: Option<&LiveSet>) -> Source {
    let Stored { snapshot, held } = stored;
    let by_key = |objects: Vec<StoredObject>| -> BTreeMap<String, Value> {
        objects
            .into_iter()
            .map(|object| (object.key.as_str().to_owned(), object.spec))
            .collect()
    };
    let mut source = Source {
        config_version: snapshot.config_version,
        epoch: snapshot.epoch,
        flags: by_key(snapshot.flags),
        segments: by_key(snapshot.segments),
        evaluators: serde_json::Map::new(),
        metadata: metadata_of(&snapshot.sets),
        held,
        set_aside: BTreeMap::new(),
    };
    for bad in &snapshot.quarantined {
        tracing::error!(kind = %bad.kind, key = %bad.key, reason = %bad.reason, "a stored row is kept aside");
        let name = format!("{} {}", bad.kind, bad.key);
        source.set_aside.insert(name, bad.reason.clone());
        keep_last_good(&mut source, bad, current);
    }
    source
}

/// A row that cannot be decoded is served as it last could.
fn keep_last_good(source: &mut Source, bad: &Quarantined, current: Option<&LiveSet>) {
    let Some(current) = current else { return };
    let (from, to) = match bad.kind {
        ObjectKind::Flag => (&current.source.flags, &mut source.flags),
        ObjectKind::Segment => (&current.source.segments, &mut source.segments),
        _ => return,
    };
    if let Some(good) = from.get(&bad.key) {
        to.insert(bad.key.clone(), good.clone());
    }
}

/// The metadata that the project's flags have in common.
fn metadata_of(sets: &[StoredObject]) -> serde_json::Map<String, Value> {
    sets.iter()
        .filter_map(|set| set.spec.get("metadata")?.as_object())
        .flat_map(|metadata| metadata.clone())
        .collect()
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

/// The version of storage, where it is older than what is served and was served before the start.
///
/// Asked of storage itself and not of the label on what is served: between the opening of storage
/// and the first load nobody has looked yet, and whatever is written then would be lost.
pub(crate) async fn storage_behind(
    app: &App,
    project: &ProjectKey,
) -> Result<Option<ConfigVersion>, StoreError> {
    let Some(set) = app.live.project(project.as_str()).map(|place| place.load()) else {
        return Ok(None);
    };
    if set.stale_since_us.is_none() {
        return Ok(None);
    }
    let stored = app.store()?.config_version(project).await?;
    let is_older = (set.epoch, set.config_version) > (stored.epoch, stored.version);
    Ok(is_older.then_some(stored))
}

/// Makes one stop an ordinary change, exactly once: its id is the idempotency key, by which a stop
/// is recognised that was made ordinary before, however often it was lifted since.
async fn settle(app: &App, record: &StopRecord) -> Result<Settled, StoreError> {
    let (project, flag) = (record.project(), record.flag());
    if storage_behind(app, project).await?.is_some() {
        return Ok(Settled::NotYet(
            "the database is older than what is served".to_owned(),
        ));
    }
    let key = record.idempotency_key();
    if app
        .store()?
        .idempotency_find(project, &key)
        .await?
        .is_some()
    {
        return Ok(Settled::Done);
    }
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
    .with_idempotency_key(key);
    change.changes = crate::app::difference(Some(&object.spec), Some(&spec));
    change.action = Some(
        match record.kind() {
            StopKind::Kill => "flag.kill",
            StopKind::Rollback => "flag.rollback",
        }
        .to_owned(),
    );
    crate::notices::attach(app, &mut change).await?;
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
        if storage_behind(app, &project.key).await?.is_some() {
            keep_what_was_disabled(app, project.key.as_str(), &mut entries);
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
        let book = AccessBook::new(entries, bootstrap);
        book.give_back_uses(before.take_uses());
        app.access.store(book.into());
        app.streams.book_changed();
    }
    Ok(())
}

/// An older database does not bring back a token that was disabled since, nor forget one.
fn keep_what_was_disabled(app: &App, project: &str, entries: &mut HashMap<String, BookEntry>) {
    let known = app.access.load();
    for (selector, entry) in known.entries() {
        if entry.project == project {
            let merged = entries
                .entry(selector.to_owned())
                .or_insert_with(|| entry.clone());
            merged.disabled |= entry.disabled;
        }
    }
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
