//! Saying that units are one person, and taking it back.
//!
//! Each pair of a request stands by itself: what cannot be is refused with its place, the others
//! are merged. A change is audited by its number in the log of aliases, never by a unit's name:
//! the chain is kept for ever, and a person may ask to be forgotten.

use serde::Serialize;
use tidegate_lake::{AliasReport, ColumnError, Lake};
use tidegate_store::{AuditDraft, AuditObject, By, ProjectKey};

use super::care::{self, MAX_UNIT_BYTES};
use super::slot::in_full;
use crate::access::Principal;
use crate::app::{App, AppError, Violation, actor_of};

/// Pairs or units in one request.
pub(crate) const MOST_CHANGES: usize = 5_000;

/// Units said to be one person.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// Whose events are to be the other's.
    pub(crate) unit: Box<str>,
    /// The person.
    pub(crate) into: Box<str>,
}

/// What became of a request.
#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    /// Units that are of another person now.
    changed: u64,
    /// Units that were so already.
    unchanged: u64,
    /// What cannot be.
    rejected: Vec<Rejected>,
    /// Changes of aliases there have been in all.
    version: u64,
    /// Every event below this ingest sequence was in files by then; later ones follow too.
    sequence: u64,
    /// Whether the audit trail says so; the change itself does not wait for storage.
    is_audited: bool,
}

impl Changed {
    /// Whether everything asked for was refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.changed == 0 && self.unchanged == 0 && !self.rejected.is_empty()
    }
}

#[derive(Debug, Serialize)]
struct Rejected {
    index: usize,
    pointer: String,
    code: &'static str,
    detail: &'static str,
}

/// Merges units into others. Durable before it is answered.
///
/// # Errors
/// Every unit's name that is none; `Unavailable` if the files are not open or the disk fails.
pub(crate) async fn merge(
    app: &App,
    principal: &Principal,
    project: &str,
    pairs: Vec<Pair>,
) -> Result<Changed, AppError> {
    let named = pairs.iter().enumerate().flat_map(|(index, pair)| {
        let at = |name: &str| format!("/merges/{index}/{name}");
        [(at("unit"), &*pair.unit), (at("into"), &*pair.into)]
    });
    check(pairs.len(), "/merges", named)?;
    let pairs: Vec<_> = pairs
        .into_iter()
        .map(|pair| (pair.unit, pair.into))
        .collect();
    let change = move |lake: &Lake| lake.merge_units(&pairs);
    changed(app, principal, project, "events.merge", change).await
}

/// Takes merges back.
///
/// # Errors
/// As [`merge`].
pub(crate) async fn unmerge(
    app: &App,
    principal: &Principal,
    project: &str,
    units: Vec<Box<str>>,
) -> Result<Changed, AppError> {
    let named = units.iter().enumerate();
    let named = named.map(|(index, unit)| (format!("/units/{index}"), &**unit));
    check(units.len(), "/units", named)?;
    let change = move |lake: &Lake| lake.unmerge_units(&units);
    changed(app, principal, project, "events.unmerge", change).await
}

fn check<'u>(
    count: usize,
    list: &str,
    named: impl Iterator<Item = (String, &'u str)>,
) -> Result<(), AppError> {
    if count == 0 || count > MOST_CHANGES {
        let rule = format!("holds 1 to {MOST_CHANGES}; send more in several requests");
        return Err(AppError::invalid(list, "out-of-range", rule));
    }
    let wrong = named.filter(|(_, unit)| unit.is_empty() || unit.len() > MAX_UNIT_BYTES);
    let rule = format!("is a unit's name, of 1 to {MAX_UNIT_BYTES} bytes");
    let violations: Vec<Violation> = wrong
        .map(|(pointer, _)| Violation::at(pointer, "out-of-range", rule.as_str()))
        .collect();
    match violations.is_empty() {
        true => Ok(()),
        false => Err(AppError::Invalid(violations)),
    }
}

async fn changed(
    app: &App,
    principal: &Principal,
    project: &str,
    action: &str,
    change: impl FnOnce(&Lake) -> Result<AliasReport, ColumnError> + Send + 'static,
) -> Result<Changed, AppError> {
    let key = ProjectKey::parse(project)
        .map_err(|error| AppError::invalid("", "project-key", error.to_string()))?;
    let (of_app, of_project) = (app.clone(), project.to_owned());
    let work = move || {
        let lake = of_app.events.lake_soon(&of_project)?;
        change(&lake).map_err(|error| {
            tracing::error!(%error, project = %of_project, "units cannot be merged or unmerged");
            AppError::Unavailable {
                reason: format!("nothing was changed: {}", in_full(&error)),
                retry_after_seconds: 5,
            }
        })
    };
    let done = tokio::task::spawn_blocking(work).await;
    let report = done.map_err(|error| AppError::Internal(error.to_string()))??;
    let mut is_audited = true;
    if report.changed > 0 {
        let by = By::new(actor_of(principal), app.clock.now_us());
        let changes = format!("{}-{}", report.version - report.changed + 1, report.version);
        let object = AuditObject::new("aliases", changes);
        let mut draft = AuditDraft::new(action, Some(object), &by);
        draft.project = Some(key);
        draft.revision = Some(report.version);
        is_audited = care::audited(app, draft).await;
    }
    let rejected = report.refused.iter().map(|(index, refusal)| Rejected {
        index: *index,
        pointer: format!("/merges/{index}"),
        code: refusal.code(),
        detail: refusal.detail(),
    });
    Ok(Changed {
        changed: report.changed,
        unchanged: report.unchanged,
        rejected: rejected.collect(),
        version: report.version,
        sequence: report.sequence,
        is_audited,
    })
}
