//! Looking after stored events when somebody asks: verifying them all, erasing one unit.
//!
//! A verification reads everything, so it runs behind the request that asks for it, one at a time
//! per project, and is asked after. An erasure is audited without the unit's id: the chain is kept
//! for ever, and what is erased must not be read from it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tidegate_lake::background::{self, GivesWay};
use tidegate_lake::{ErasureReceipt, HousekeepingError, Lake, VerifyReport};
use tidegate_store::{AuditDraft, AuditObject, By, ProjectKey};

use super::slot::{Slot, in_full};
use crate::access::Principal;
use crate::app::{App, AppError, actor_of};
use crate::otlp::waiting_room;

/// The longest unit id.
pub(super) const MAX_UNIT_BYTES: usize = 512;

/// The newest verification of a project's events, and what the last complete one found wrong
/// besides the files that it set apart.
#[derive(Debug, Default)]
pub(crate) struct Verification {
    state: Mutex<VerificationState>,
    damage: Mutex<Vec<String>>,
}

/// How far a verification is.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum VerificationState {
    /// Nobody asked since the start.
    #[default]
    None,
    /// Reading.
    Running {
        /// Files read.
        files_done: usize,
        /// Files in all.
        files: usize,
    },
    /// Everything was read.
    Done {
        /// What was found.
        report: VerifyReport,
    },
    /// It broke off.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Verification {
    fn state(&self) -> MutexGuard<'_, VerificationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, Vec<String>> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the newest complete verification found wrong besides the files that it set apart.
    pub(crate) fn damage(&self) -> Vec<String> {
        self.found().clone()
    }

    fn begin(&self) -> bool {
        let mut state = self.state();
        let is_new = !matches!(*state, VerificationState::Running { .. });
        if is_new {
            *state = VerificationState::Running {
                files_done: 0,
                files: 0,
            };
        }
        is_new
    }

    fn run(&self, lake: &Lake) {
        let verified = lake.verify(&mut |files_done, files| {
            *self.state() = VerificationState::Running { files_done, files };
        });
        *self.state() = match verified {
            Ok(report) => {
                for problem in &report.problems {
                    tracing::error!(problem, "stored events are damaged");
                }
                *self.found() = report.elsewhere().to_vec();
                VerificationState::Done { report }
            }
            Err(error) => VerificationState::Failed {
                reason: in_full(&error),
            },
        };
    }
}

/// Begins a verification, or joins the one under way.
///
/// # Errors
/// `Unavailable` while the files are not open.
pub(crate) fn verify(app: &App, project: &str) -> Result<VerificationState, AppError> {
    let slot = existing(app, project)?;
    let lake = slot.lake()?;
    if slot.verification.begin() {
        let verified = Arc::clone(&slot);
        let verifying = move || verified.verification.run(&lake);
        let begun = background::spawn("tidegate-verify", GivesWay::Entirely, verifying);
        if let Err(error) = begun {
            *slot.verification.state() = VerificationState::Failed {
                reason: in_full(&error),
            };
        }
    }
    Ok(slot.verification.state().clone())
}

/// How the newest verification stands.
///
/// # Errors
/// `NotFound` where there are no events.
pub(crate) fn verification(app: &App, project: &str) -> Result<VerificationState, AppError> {
    Ok(existing(app, project)?.verification.state().clone())
}

/// Erases a unit and all units of its person: no answer sees it from now on, and it is rewritten away before the receipt.
///
/// # Errors
/// `NotFound` if the unit was never seen, `Unavailable` if something failed; what was hidden stays
/// hidden, and the keeper completes it.
pub(crate) async fn erase(
    app: &App,
    principal: &Principal,
    project: &str,
    unit: String,
) -> Result<Erased, AppError> {
    if unit.is_empty() || unit.len() > MAX_UNIT_BYTES {
        let message = format!("name the unit, in at most {MAX_UNIT_BYTES} bytes");
        return Err(AppError::invalid("/unit", "out-of-range", message));
    }
    let key = ProjectKey::parse(project)
        .map_err(|error| AppError::invalid("", "project-key", error.to_string()))?;
    let lake = existing(app, project)?.lake()?;
    // First those who wait for their trace, so that nothing of the unit arrives later.
    for unit in lake.person_of(&unit) {
        waiting_room::erase(app, project, &unit).await?;
    }
    let erased = tokio::task::spawn_blocking(move || lake.erase_unit(&unit)).await;
    let erased = erased.map_err(|error| AppError::Internal(error.to_string()))?;
    let receipt = match erased {
        Ok(Some(receipt)) => receipt,
        Ok(None) => return Err(AppError::NotFound("this unit".to_owned())),
        Err(error) => return Err(unfinished(project, &error)),
    };
    let by = By::new(actor_of(principal), app.clock.now_us());
    let place = format!("{}/{}", receipt.bucket, receipt.unit);
    let object = AuditObject::new("unit", place);
    let mut draft = AuditDraft::new("events.erase", Some(object), &by);
    draft.project = Some(key);
    Ok(Erased {
        receipt,
        is_audited: audited(app, draft).await,
    })
}

/// Notes in the audit trail what was done already; says whether that succeeded.
pub(super) async fn audited(app: &App, draft: AuditDraft) -> bool {
    let action = draft.action.clone();
    let audited = async { app.store()?.audit_append(draft).await }.await;
    if let Err(error) = &audited {
        tracing::error!(%error, action, "what was done is not in the audit trail");
    }
    audited.is_ok()
}

/// A unit erased.
#[derive(Debug, Serialize)]
pub(crate) struct Erased {
    #[serde(flatten)]
    receipt: ErasureReceipt,
    /// Whether the audit trail says so; the erasure itself does not wait for storage.
    is_audited: bool,
}

fn unfinished(project: &str, error: &HousekeepingError) -> AppError {
    tracing::error!(%error, project, "an erasure is not finished");
    AppError::Unavailable {
        reason: format!(
            "{}; a unit that was hidden stays hidden and is rewritten away by the keeper",
            in_full(error)
        ),
        retry_after_seconds: 60,
    }
}

/// The slot of a project that has events; asking makes none.
fn existing(app: &App, project: &str) -> Result<Arc<Slot>, AppError> {
    let slots = app.events.slots();
    let found = slots.into_iter().find(|slot| slot.project == project);
    found.ok_or_else(|| AppError::NotFound(format!("any event of project {project}")))
}
