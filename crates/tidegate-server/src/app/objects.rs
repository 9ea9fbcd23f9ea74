//! Flags, segments, metrics, journeys and rollouts: created, read, changed, deleted.
//!
//! One path for every kind, because revisions, tombstones and audit are the same for all; what a
//! definition of each kind must satisfy is the `validate` table below. A definition is refused
//! with *all* that is wrong with it. What compiles but cannot be meant is a warning in the answer.

use serde_json::Value;
use tidegate_flags::{FlagSpec, Segment, Warning};
use tidegate_metrics::{JourneyDefinition, MetricDefinition};
use tidegate_store::{
    Committed, Expected, ObjectChange, ObjectKey, ObjectKind, ObjectPage, ProjectKey, StoreError,
    StoredObject, Write,
};

use super::difference::difference;
use super::owned::keep_owned;
use super::{App, AppError, Violation, actor_of};
use crate::access::Principal;
use crate::live::{LiveSet, assemble};
use crate::reports::refused;

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
    let live_before = before.as_ref().filter(|object| !object.deleted);
    let expected = expected(place, belief, before.as_ref())?;
    let spec = canonical(app, place, spec, live_before)?;
    let warnings = warnings_of(app, place, &spec)?;
    let mut change = ObjectChange::new(
        (place.project.clone(), place.kind, place.key.clone()),
        expected,
        Write::Put(spec.clone()),
        actor_of(principal),
        app.clock.now_us(),
    );
    change.reason = reason;
    change.changes = difference(live_before.map(|object| &object.spec), Some(&spec));
    let committed = commit(app, place, change).await?;
    Ok(Written {
        committed,
        created: live_before.is_none(),
        warnings,
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
    change: ObjectChange,
) -> Result<Committed, AppError> {
    let committed = async { app.store()?.object_commit(change).await }
        .await
        .map_err(|error| refusal(&error, &place.what()))?;
    crate::reconcile::serve_at_least(app, &place.project, committed.version()).await;
    Ok(committed)
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
        (Belief::Revision(revision), Some(_)) => Ok(Expected::Revision(revision)),
    }
}

/// The definition in the form that is stored, or everything that is wrong with it.
fn canonical(
    app: &App,
    place: &Place,
    spec: Value,
    before: Option<&StoredObject>,
) -> Result<Value, AppError> {
    match place.kind {
        ObjectKind::Flag => {
            let key = place.key.as_str();
            let wanted = FlagSpec::from_json(key, &spec)?;
            let current = before.and_then(|object| FlagSpec::from_json(key, &object.spec).ok());
            let project = place.project.as_str();
            Ok(keep_owned(app, project, key, current.as_ref(), wanted)?.to_json())
        }
        ObjectKind::Segment => Ok(Segment::from_json(&spec, &app.flag_limits)?.to_json()),
        ObjectKind::Rollout => {
            let known = known_flag(app, place, &spec);
            crate::rollouts::validate(&spec, known)?;
            Ok(spec)
        }
        ObjectKind::Metric => MetricDefinition::canonical(&spec).map_err(refused),
        ObjectKind::Journey => JourneyDefinition::canonical(&spec).map_err(refused),
        _ if spec.is_object() => Ok(spec),
        _ => Err(AppError::invalid(
            "",
            "not-an-object",
            "a definition is a JSON object",
        )),
    }
}

/// Whether the flag a rollout names is served.
fn known_flag(app: &App, place: &Place, spec: &Value) -> bool {
    let named = spec.get("flag").and_then(Value::as_str).unwrap_or_default();
    app.live
        .project(place.project.as_str())
        .is_some_and(|project| project.peek().specs.contains_key(named))
}

/// Compiles the set as it would be, refuses what cannot be served, and returns what looks wrong.
fn warnings_of(app: &App, place: &Place, spec: &Value) -> Result<Vec<Violation>, AppError> {
    if !matches!(place.kind, ObjectKind::Flag | ObjectKind::Segment) {
        return Ok(Vec::new());
    }
    let Some(project) = app.live.project(place.project.as_str()) else {
        return Ok(Vec::new());
    };
    let candidate = with_change(&project.load(), place, spec);
    let is_own = |warning: &&Warning| {
        place.kind == ObjectKind::Segment || warning.flag.as_deref() == Some(place.key.as_str())
    };
    let violations: Vec<Violation> = candidate
        .warnings
        .iter()
        .filter(is_own)
        .map(|warning| {
            Violation::at(
                warning.pointer.clone(),
                warning.code,
                warning.message.clone(),
            )
        })
        .collect();
    let is_broken = |key: &str| {
        candidate
            .ruleset
            .handle(key)
            .is_some_and(|flag| candidate.ruleset.is_broken(flag))
    };
    let breaks = match place.kind {
        ObjectKind::Flag => is_broken(place.key.as_str()),
        _ => candidate
            .specs
            .iter()
            .any(|(key, spec)| uses_segment(spec, place) && is_broken(key)),
    };
    if breaks {
        Err(AppError::Invalid(violations))
    } else {
        Ok(violations)
    }
}

fn with_change(current: &LiveSet, place: &Place, spec: &Value) -> LiveSet {
    let mut source = current.source.clone();
    let kind = if place.kind == ObjectKind::Flag {
        &mut source.flags
    } else {
        &mut source.segments
    };
    kind.insert(place.key.as_str().to_owned(), spec.clone());
    assemble(
        place.project.as_str(),
        &source,
        &crate::stops::Overlay::default(),
        None,
    )
}

/// The policy of a started rollout stands until the rollout has ended: what guards a change is not
/// edited while people are exposed to it.
async fn refuse_if_running(app: &App, place: &Place) -> Result<(), AppError> {
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
    let needs: fn(&FlagSpec, &Place) -> bool = match place.kind {
        ObjectKind::Flag => needs_flag,
        ObjectKind::Segment => uses_segment,
        _ => return Ok(()),
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
        .filter(|(key, spec)| *key != place.key.as_str() && needs(spec, place))
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

fn needs_flag(spec: &FlagSpec, place: &Place) -> bool {
    let named = |rule: &tidegate_flags::Rule| {
        rule.prerequisites
            .iter()
            .any(|needed| needed.flag == place.key.as_str())
    };
    spec.rules.iter().any(named)
}

fn uses_segment(spec: &FlagSpec, place: &Place) -> bool {
    let named = |rule: &tidegate_flags::Rule| {
        rule.segments
            .iter()
            .any(|segment| segment == place.key.as_str())
    };
    spec.rules.iter().any(named)
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
