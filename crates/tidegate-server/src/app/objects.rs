//! Flags, segments, metrics, journeys and rollouts: created, read, changed, deleted.
//!
//! One path for every kind, because revisions, tombstones and audit are the same for all; what a
//! definition of each kind must satisfy is in `definition.rs`, and what an edit may do to
//! exposure in `exposure.rs`.

use std::collections::BTreeSet;

use serde_json::Value;
use tidegate_flags::FlagSpec;
use tidegate_store::{
    Committed, Expected, ObjectChange, ObjectKey, ObjectKind, ObjectPage, ProjectKey, StoreError,
    StoredObject, Write,
};

use super::definition::{self, Draft};
use super::difference::difference;
use super::{App, AppError, Violation, actor_of};
use crate::access::{Permission, Principal};

/// Where an object lives, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The project.
    pub project: ProjectKey,
    /// The kind of object.
    pub kind: ObjectKind,
    /// Its key.
    pub key: ObjectKey,
}

impl Place {
    /// A checked place.
    ///
    /// # Errors
    /// Which of the names is no key, and why.
    pub fn parse(project: &str, kind: ObjectKind, key: &str) -> Result<Self, AppError> {
        let project = ProjectKey::parse(project)
            .map_err(|error| AppError::invalid("/project", "bad-key", error.to_string()))?;
        let key = ObjectKey::parse(kind, key)
            .map_err(|error| AppError::invalid("/key", "bad-key", error.to_string()))?;
        Ok(Self { project, kind, key })
    }

    fn what(&self) -> String {
        format!("{} {:?}", self.kind, self.key.as_str())
    }
}

/// What the caller believes the object's state to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It said nothing: right for a first creation only.
    Unsaid,
    /// It must not exist.
    Absent,
    /// It is at this revision.
    Revision(u64),
}

/// What a write did.
#[derive(Debug)]
pub struct Written {
    /// The commit.
    pub committed: Committed,
    /// Whether the object was created by it.
    pub created: bool,
    /// What compiles but cannot be meant, in words.
    pub warnings: Vec<Violation>,
}

/// Reads one object.
///
/// # Errors
/// `NotFound` also for a tombstone.
pub async fn read(app: &App, place: &Place) -> Result<StoredObject, AppError> {
    find(app, place)
        .await?
        .filter(|object| !object.deleted)
        .ok_or_else(|| AppError::NotFound(place.what()))
}

/// Reads one page of a kind, in key order.
///
/// # Errors
/// As storage says.
pub async fn list(
    app: &App,
    project: &str,
    kind: ObjectKind,
    after: Option<&str>,
    limit: u32,
) -> Result<ObjectPage, AppError> {
    let project = ProjectKey::parse(project)
        .map_err(|error| AppError::invalid("/project", "bad-key", error.to_string()))?;
    let after = after
        .map(|key| ObjectKey::parse(kind, key))
        .transpose()
        .map_err(|error| AppError::invalid("/after", "bad-key", error.to_string()))?;
    async {
        app.store()?
            .object_list(&project, kind, after.as_ref(), limit)
            .await
    }
    .await
    .map_err(|error| refusal(&error, "objects"))
}

/// Reads the revisions of one object, newest first, tombstones included.
///
/// # Errors
/// `NotFound` if there never was one.
pub async fn history(app: &App, place: &Place, limit: u32) -> Result<Vec<StoredObject>, AppError> {
    async {
        app.store()?
            .object_history(&place.project, place.kind, &place.key, limit)
            .await
    }
    .await
    .map_err(|error| refusal(&error, &place.what()))
}

/// Creates or replaces one object.
///
/// # Errors
/// Every rule the definition breaks; a stale or missing revision; a key that is taken.
pub async fn write(
    app: &App,
    principal: &Principal,
    place: &Place,
    belief: Belief,
    spec: Value,
    reason: Option<String>,
) -> Result<Written, AppError> {
    refuse_if_running(app, place).await?;
    let before = find(app, place).await?;
    let draft = draft(app, place, belief, spec, (before, &BTreeSet::new()))?;
    definition::refuse_raise(app, principal, &draft)?;
    let drafts = [draft];
    let warnings = definition::check(app, place.project.as_str(), &drafts).map_err(|found| {
        AppError::Invalid(found.into_iter().map(|(_, violation)| violation).collect())
    })?;
    let [draft] = drafts;
    let created = draft.before.is_none();
    let change = draft.into_change(app, principal, reason);
    let committed = commit(app, place, change).await?;
    Ok(Written {
        committed,
        created,
        warnings: warnings.into_iter().flatten().collect(),
    })
}

/// A definition on its way into storage, given what is there and which flags arrive with it.
pub(super) fn draft(
    app: &App,
    place: &Place,
    belief: Belief,
    spec: Value,
    (before, arriving): (Option<StoredObject>, &BTreeSet<String>),
) -> Result<Draft, AppError> {
    let expected = expected(place, belief, before.as_ref())?;
    let before = before.filter(|object| !object.deleted);
    let spec = definition::canonical(app, place, spec, before.as_ref(), arriving)?;
    Ok(Draft {
        place: place.clone(),
        expected,
        spec,
        before,
    })
}

/// Lifts a kill, so that the flag's rules decide again.
///
/// # Errors
/// A flag that is not killed; no reason; storage.
pub async fn revive(
    app: &App,
    principal: &Principal,
    place: &Place,
    reason: &str,
) -> Result<Committed, AppError> {
    if reason.trim().is_empty() {
        return Err(AppError::invalid(
            "/reason",
            "reason-needed",
            "say why it is safe again",
        ));
    }
    let stored = read(app, place).await?;
    let flag = FlagSpec::from_json(place.key.as_str(), &stored.spec)?;
    let spec = flag
        .unkill()
        .map_err(|error| AppError::Conflict(format!("{}: {error}", place.what())))?
        .to_json();
    let mut change = ObjectChange::new(
        (place.project.clone(), place.kind, place.key.clone()),
        Expected::Revision(stored.revision),
        Write::Put(spec.clone()),
        actor_of(principal),
        app.clock.now_us(),
    )
    .with_reason(reason.to_owned());
    change.action = Some("flag.revive-kill".to_owned());
    change.changes = difference(Some(&stored.spec), Some(&spec));
    commit(app, place, change).await
}

/// Deletes one object, leaving a tombstone.
///
/// # Errors
/// A stale or missing revision; another flag that needs this one.
pub async fn delete(
    app: &App,
    principal: &Principal,
    place: &Place,
    belief: Belief,
    reason: Option<String>,
) -> Result<Committed, AppError> {
    let before = read(app, place).await?;
    let Belief::Revision(revision) = belief else {
        return Err(AppError::PreconditionRequired);
    };
    if place.kind == ObjectKind::Flag && !principal.may(Permission::Raise, place.project.as_str()) {
        return Err(AppError::Forbidden(
            "a deleted flag gives each caller its own default, which may raise exposure; that \
             takes the right to raise it"
                .to_owned(),
        ));
    }
    refuse_if_running(app, place).await?;
    refuse_if_needed(app, place)?;
    let mut change = ObjectChange::new(
        (place.project.clone(), place.kind, place.key.clone()),
        Expected::Revision(revision),
        Write::Delete,
        actor_of(principal),
        app.clock.now_us(),
    );
    change.reason = reason;
    change.changes = difference(Some(&before.spec), None);
    commit(app, place, change).await
}

/// Commits a change and returns when it is served, so that a caller reads its own write.
pub(crate) async fn commit(
    app: &App,
    place: &Place,
    mut change: ObjectChange,
) -> Result<Committed, AppError> {
    refuse_while_behind(app, &place.project).await?;
    let committed = async {
        crate::notices::attach(app, &mut change).await?;
        app.store()?.object_commit(change).await
    }
    .await
    .map_err(|error| refusal(&error, &place.what()))?;
    crate::reconcile::serve_at_least(app, &place.project, committed.version()).await;
    Ok(committed)
}

/// Nothing is written into a database that is older than what is served: it would be acknowledged
/// and not served.
pub(super) async fn refuse_while_behind(app: &App, project: &ProjectKey) -> Result<(), AppError> {
    let behind = crate::reconcile::storage_behind(app, project)
        .await
        .map_err(|error| refusal(&error, "the project"))?;
    let served = app.live.project(project.as_str());
    match (behind, served) {
        (Some(stored), Some(served)) => Err(AppError::Unavailable {
            reason: served.load().behind_at(stored),
            retry_after_seconds: 60,
        }),
        _ => Ok(()),
    }
}

pub(crate) async fn find(app: &App, place: &Place) -> Result<Option<StoredObject>, AppError> {
    async {
        app.store()?
            .object_get(&place.project, place.kind, &place.key)
            .await
    }
    .await
    .map_err(|error| refusal(&error, &place.what()))
}

/// Which state the store shall expect, given what the caller believes and what is there.
fn expected(
    place: &Place,
    belief: Belief,
    before: Option<&StoredObject>,
) -> Result<Expected, AppError> {
    match (belief, before) {
        (_, Some(object)) if object.deleted => Err(AppError::Conflict(format!(
            "{} was deleted and its key is kept, because code that still asks for it would get \
             another meaning; choose another key",
            place.what()
        ))),
        (Belief::Absent, Some(object)) => Err(AppError::Conflict(format!(
            "{} exists already, at revision {}",
            place.what(),
            object.revision
        ))),
        (Belief::Unsaid, Some(_)) => Err(AppError::PreconditionRequired),
        (Belief::Unsaid | Belief::Absent, None) => Ok(Expected::Absent),
        (Belief::Revision(_), None) => Err(AppError::NotFound(place.what())),
        (Belief::Revision(sent), Some(object)) if sent != object.revision => Err(AppError::Stale {
            current: object.revision,
        }),
        (Belief::Revision(revision), Some(_)) => Ok(Expected::Revision(revision)),
    }
}

/// The policy of a started rollout stands until the rollout has ended: what guards a change is not
/// edited while people are exposed to it.
pub(super) async fn refuse_if_running(app: &App, place: &Place) -> Result<(), AppError> {
    if place.kind != ObjectKind::Rollout {
        return Ok(());
    }
    let (project, key) = (place.project.as_str(), place.key.as_str());
    let stream = crate::rollouts::stream_of(key);
    let head = async { app.store()?.log_head(&place.project, &stream).await }
        .await
        .map_err(|error| refusal(&error, &place.what()))?;
    let has_ended = app
        .rollouts
        .standing(project, key)
        .is_some_and(|standing| matches!(standing.lifecycle.as_str(), "completed" | "rolled back"));
    if head == 0 || has_ended {
        return Ok(());
    }
    Err(AppError::Conflict(format!(
        "{} is running; abort it first, or let it end",
        place.what()
    )))
}

/// A flag that others have as a prerequisite is not deleted under them.
fn refuse_if_needed(app: &App, place: &Place) -> Result<(), AppError> {
    let Some(project) = app.live.project(place.project.as_str()) else {
        return Ok(());
    };
    if place.kind == ObjectKind::Flag {
        let steering = app
            .rollouts
            .steering(place.project.as_str(), place.key.as_str());
        if let Some(active) = steering.into_iter().find(|rollout| rollout.is_active) {
            return Err(AppError::Conflict(format!(
                "{} is steered by rollout {:?}; abort that first",
                place.what(),
                active.key
            )));
        }
    }
    let set = project.load();
    let dependants: Vec<&str> = set
        .specs
        .iter()
        .filter(|(key, spec)| *key != place.key.as_str() && definition::needs(spec, place))
        .map(|(key, _)| key.as_str())
        .collect();
    if dependants.is_empty() {
        return Ok(());
    }
    Err(AppError::Conflict(format!(
        "{} is needed by {}; change them first",
        place.what(),
        dependants.join(", ")
    )))
}

/// A store error in the words of a use case. A fault of storage is never the caller's mistake.
pub(crate) fn refusal(error: &StoreError, what: &str) -> AppError {
    match error {
        StoreError::Stale { current } => AppError::Stale { current: *current },
        StoreError::NotFound { what } => AppError::NotFound(what.clone()),
        StoreError::Exists { .. } | StoreError::Tombstoned { .. } => {
            AppError::Conflict(error.to_string())
        }
        StoreError::Invalid { field, reason } => {
            AppError::invalid(&format!("/{field}"), "cannot-be-stored", reason.clone())
        }
        StoreError::Unavailable { .. } => {
            tracing::warn!(%error, what, "storage is unavailable");
            AppError::Unavailable {
                reason: "storage is not available; evaluation and kills go on".to_owned(),
                retry_after_seconds: 2,
            }
        }
        StoreError::Corrupt { .. } | StoreError::SchemaTooNew { .. } => {
            AppError::Internal(error.to_string())
        }
    }
}
