//! Many changes as one: everything wrong with any of them is said at once, and either all of them
//! are committed in one transaction or none.
//!
//! The check and the act are the same code, so that what a check finds nothing wrong with is done
//! unless somebody changes something in between; then nothing is done.

use std::collections::BTreeSet;

use serde_json::Value;
use tidegate_store::{FieldChange, ObjectKind, ProjectKey};

use super::definition::{self, Draft};
use super::objects::{self, Belief, Place, refusal};
use super::{App, AppError, Violation};
use crate::access::{Permission, Principal};

/// The most changes in one request.
pub const MOST: usize = 5_000;

/// One object as it is to be.
#[derive(Debug)]
pub struct Wish {
    /// What kind of object.
    pub kind: ObjectKind,
    /// Its key.
    pub key: String,
    /// The revision that the wish was based on: 0 for none yet, absent for whatever is there.
    pub revision: Option<u64>,
    /// Its definition.
    pub spec: Value,
}

/// What becomes of one wish.
#[derive(Debug)]
pub struct Outcome {
    /// What kind of object.
    pub kind: ObjectKind,
    /// Its key.
    pub key: String,
    /// `create`, `update` or `unchanged`.
    pub action: &'static str,
    /// After a check: the revision the wish is based on, 0 for none. Otherwise the one it led to.
    pub revision: u64,
    /// Where the definition differs from what was there.
    pub difference: Vec<FieldChange>,
    /// What compiles but cannot be meant.
    pub warnings: Vec<Violation>,
}

/// Says what `wishes` would do, and changes nothing.
///
/// # Errors
/// Everything that [`apply`] would refuse, each with a pointer below `/changes/<index>`.
pub async fn check(
    app: &App,
    principal: &Principal,
    project: &str,
    wishes: Vec<Wish>,
) -> Result<Vec<Outcome>, AppError> {
    let (drafts, warnings) = prepare(app, principal, project, wishes).await?;
    Ok(drafts
        .iter()
        .zip(warnings)
        .map(|(draft, warnings)| outcome(draft, warnings))
        .collect())
}

/// Makes all of `wishes` true, or none.
///
/// # Errors
/// Everything that is wrong with any of them; somebody who was faster; storage.
pub async fn apply(
    app: &App,
    principal: &Principal,
    project: &str,
    wishes: Vec<Wish>,
    reason: Option<&str>,
) -> Result<Vec<Outcome>, AppError> {
    let (drafts, warnings) = prepare(app, principal, project, wishes).await?;
    let mut outcomes: Vec<Outcome> = drafts
        .iter()
        .zip(warnings)
        .map(|(draft, warnings)| outcome(draft, warnings))
        .collect();
    let mut changes: Vec<_> = drafts
        .into_iter()
        .filter(Draft::changes)
        .map(|draft| draft.into_change(app, principal, reason.map(str::to_owned)))
        .collect();
    if changes.is_empty() {
        return Ok(outcomes);
    }
    let place = project_key(project)?;
    objects::refuse_while_behind(app, &place).await?;
    let committed = async {
        for change in &mut changes {
            crate::notices::attach(app, change).await?;
        }
        app.store()?.objects_commit(changes).await
    }
    .await
    .map_err(|error| refusal(&error, "the changes"))?;
    if let Some(newest) = committed.last() {
        crate::reconcile::serve_at_least(app, &place, newest.version()).await;
    }
    let changed = outcomes
        .iter_mut()
        .filter(|outcome| outcome.action != "unchanged");
    for (outcome, committed) in changed.zip(&committed) {
        outcome.revision = committed.revision;
    }
    Ok(outcomes)
}

fn outcome(draft: &Draft, warnings: Vec<Violation>) -> Outcome {
    Outcome {
        kind: draft.place.kind,
        key: draft.place.key.as_str().to_owned(),
        action: match &draft.before {
            None => "create",
            Some(_) if draft.changes() => "update",
            Some(_) => "unchanged",
        },
        revision: draft.before.as_ref().map_or(0, |before| before.revision),
        difference: draft.difference(),
        warnings,
    }
}

type Prepared = (Vec<Draft>, Vec<Vec<Violation>>);

/// Every wish as a draft, or everything that is wrong with any of them.
async fn prepare(
    app: &App,
    principal: &Principal,
    project: &str,
    wishes: Vec<Wish>,
) -> Result<Prepared, AppError> {
    if wishes.len() > MOST {
        let message = format!("{} changes, and at most {MOST} are taken", wishes.len());
        return Err(AppError::invalid("/changes", "too-many", message));
    }
    project_key(project)?;
    let arriving: BTreeSet<String> = wishes
        .iter()
        .filter(|wish| wish.kind == ObjectKind::Flag)
        .map(|wish| wish.key.clone())
        .collect();
    let mut faults = repeated(&wishes);
    let mut drafts = Vec::new();
    for (index, wish) in wishes.into_iter().enumerate() {
        match draft(app, principal, project, wish, &arriving).await {
            Ok(draft) => drafts.push(draft),
            Err(error) => faults.extend(as_violations(index, error)?),
        }
    }
    if !faults.is_empty() {
        return Err(AppError::Invalid(faults));
    }
    let warnings = definition::check(app, project, &drafts).map_err(|found| {
        let placed = |(index, violation)| below(index, "/spec", violation);
        AppError::Invalid(found.into_iter().map(placed).collect())
    })?;
    Ok((drafts, warnings))
}

fn repeated(wishes: &[Wish]) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for (index, wish) in wishes.iter().enumerate() {
        if !seen.insert((wish.kind, wish.key.as_str())) {
            let message = format!("{} {:?} is there twice; keep one", wish.kind, wish.key);
            faults.push(Violation::at(
                format!("/changes/{index}"),
                "repeated",
                message,
            ));
        }
    }
    faults
}

async fn draft(
    app: &App,
    principal: &Principal,
    project: &str,
    wish: Wish,
    arriving: &BTreeSet<String>,
) -> Result<Draft, AppError> {
    let place = Place::parse(project, wish.kind, &wish.key)?;
    let before = objects::find(app, &place).await?;
    let belief = match (wish.revision, &before) {
        (Some(0), _) => Belief::Absent,
        (Some(revision), _) => Belief::Revision(revision),
        (None, None) => Belief::Absent,
        (None, Some(object)) => Belief::Revision(object.revision),
    };
    let mut spec = wish.spec;
    // A file says how a flag was: a new flag comes killed if it was, and a flag that is here keeps
    // the kill it has, or has not.
    let is_here = before.as_ref().is_some_and(|object| !object.deleted);
    if is_here && let Some(fields) = spec.as_object_mut() {
        fields.shift_remove("killed");
    }
    let draft = objects::draft(app, &place, belief, spec, (before, arriving))?;
    if !draft.changes() {
        return Ok(draft);
    }
    objects::refuse_if_running(app, &place).await?;
    // Whoever may only read still learns what a change would do.
    if principal.may(Permission::ConfigWrite, project) {
        definition::refuse_raise(app, principal, &draft)?;
    }
    Ok(draft)
}

/// What is wrong with one wish, placed in the whole request; a fault of ours is no such thing.
fn as_violations(index: usize, error: AppError) -> Result<Vec<Violation>, AppError> {
    let whole = |code: &str, message: String| {
        vec![Violation::at(format!("/changes/{index}"), code, message)]
    };
    Ok(match error {
        AppError::Invalid(violations) => violations
            .into_iter()
            .map(|violation| match violation.pointer.as_str() {
                "/key" | "/project" => below(index, "", violation),
                _ => below(index, "/spec", violation),
            })
            .collect(),
        AppError::Stale { current } => whole(
            "stale",
            format!("somebody changed it first: it is at revision {current} now; plan again"),
        ),
        AppError::Conflict(reason) => whole("conflict", reason),
        AppError::Forbidden(reason) => whole("may-raise", reason),
        AppError::NotFound(what) => whole("not-found", format!("{what} does not exist")),
        other => return Err(other),
    })
}

fn below(index: usize, part: &str, violation: Violation) -> Violation {
    Violation {
        pointer: format!("/changes/{index}{part}{}", violation.pointer),
        ..violation
    }
}

fn project_key(project: &str) -> Result<ProjectKey, AppError> {
    ProjectKey::parse(project)
        .map_err(|error| AppError::invalid("/project", "bad-key", error.to_string()))
}
