//! Stopping: the one use case that must never wait, ask or depend.
//!
//! A kill serves the flag's named off variant past all targeting. It needs no revision, no
//! approval and no database: record on disk, swap in memory, answer; the ordinary transaction
//! follows from the reconciler under the record's id.

use tidegate_store::{Actor, ObjectKind, StopId, StopKind, StopRecord, StopServe};

use super::objects::Place;
use super::{App, AppError, actor_of};
use crate::access::Principal;
use crate::stops::stopped;

/// What a stop did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The record's id, which the audit entry will carry too.
    pub id: String,
    /// The record itself, by identity.
    pub record: StopId,
    /// Whether the record is on disk. `false`: it is served, and lost if the process dies now.
    pub durable: bool,
    /// The variant that everybody gets.
    pub serves: Option<String>,
    /// When the disk had taken or refused the record, Unix microseconds.
    pub recorded_us: i64,
    /// When it was what is served, Unix microseconds.
    pub served_us: i64,
}

/// Kills a flag.
///
/// # Errors
/// `NotFound` for a flag that is not served; `Invalid` for one without an off variant, or
/// without a reason.
pub fn kill(
    app: &App,
    principal: &Principal,
    project: &str,
    flag: &str,
    reason: &str,
) -> Result<Stopped, AppError> {
    if reason.trim().is_empty() {
        return Err(AppError::invalid(
            "/reason",
            "reason-needed",
            "say why; the next person will ask",
        ));
    }
    let place = Place::parse(project, ObjectKind::Flag, flag)?;
    let what = (StopKind::Kill, StopServe::Off);
    stop(app, actor_of(principal), &place, what, reason)
}

/// Records, serves and schedules one stop.
///
/// # Errors
/// As [`kill`].
pub fn stop(
    app: &App,
    actor: Actor,
    place: &Place,
    what: (StopKind, StopServe),
    reason: &str,
) -> Result<Stopped, AppError> {
    let missing = || AppError::NotFound(format!("flag {:?}", place.key.as_str()));
    let served = app
        .live
        .project(place.project.as_str())
        .ok_or_else(missing)?;
    let id = StopId::random().map_err(|error| AppError::Internal(error.to_string()))?;
    let record = StopRecord::new(
        id,
        (place.project.clone(), place.key.clone()),
        what,
        reason,
        (actor, app.clock.now_us()),
    )
    .map_err(|error| {
        AppError::invalid(&format!("/{}", error.field), "bad-stop", error.to_string())
    })?;
    let set = served.load();
    let spec = set.specs.get(place.key.as_str()).ok_or_else(missing)?;
    let next = stopped(spec, &record)
        .map_err(|error| AppError::invalid("/flag", "cannot-be-stopped", error.to_string()))?;
    let serves = next
        .killed
        .is_some()
        .then(|| next.off_variant.clone())
        .flatten();
    let recorded = app
        .stops
        .record(record)
        .map_err(|full| AppError::Unavailable {
            reason: full.to_string(),
            retry_after_seconds: 30,
        })?;
    let recorded_us = app.clock.now_us();
    app.live.update(place.project.as_str(), |current| {
        current.map(|set| set.reassembled(&app.stops.overlay()))
    });
    let served_us = app.clock.now_us();
    app.changed.notify_one();
    Ok(Stopped {
        id: recorded.id.to_string(),
        record: recorded.id,
        durable: recorded.durable,
        serves,
        recorded_us,
        served_us,
    })
}
