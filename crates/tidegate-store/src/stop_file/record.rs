//! What a stop says.

use std::fmt;

use crate::{
    actor::{ACTOR_ID_MAX, Actor},
    credential::{NoEntropy, random_bytes},
    digest::{Digest, to_hex},
    key::{ObjectKey, ProjectKey},
    object::text_enum,
};

/// Longest reason kept in full, in bytes; of a longer one the beginning and the digest are.
pub const STOP_REASON_MAX: usize = 1000;
/// Longest variant name, in bytes.
pub const VARIANT_MAX: usize = 200;

text_enum! {
    /// Why a flag is stopped.
    StopKind {
        /// Somebody turned it off at once.
        Kill => "kill",
        /// A guard found harm.
        Rollback => "rollback",
    }
}

/// What is served to everyone while the stop holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopServe {
    /// The flag's own off variant.
    Off,
    /// This variant.
    Variant(String),
    /// Whatever the flag's rules give once its rollout rule of this id has share zero.
    RuleAtZero(String),
}

/// Identity of a stop.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StopId(pub [u8; 16]);

impl StopId {
    /// A new identity from the operating system's generator.
    pub fn random() -> Result<Self, NoEntropy> {
        let mut bytes = [0; 16];
        random_bytes(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for StopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for StopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record that does not fit its block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} has {len} bytes, 1 to {max} are allowed")]
pub struct StopRecordError {
    /// Name of the field.
    pub field: &'static str,
    /// Length found, in bytes.
    pub len: usize,
    /// Length allowed, in bytes.
    pub max: usize,
}

/// A stop of one flag; made by [`StopRecord::new`], so that it always fits its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRecord {
    pub(super) id: StopId,
    pub(super) project: ProjectKey,
    pub(super) flag: ObjectKey,
    pub(super) kind: StopKind,
    pub(super) serve: StopServe,
    pub(super) reason: String,
    pub(super) reason_digest: Digest,
    pub(super) actor: Actor,
    pub(super) at_us: i64,
}

impl StopRecord {
    /// A stop of `flag` at `at_us` (microseconds since the Unix epoch), for `reason`.
    pub fn new(
        id: StopId,
        (project, flag): (ProjectKey, ObjectKey),
        (kind, serve): (StopKind, StopServe),
        reason: &str,
        (actor, at_us): (Actor, i64),
    ) -> Result<Self, StopRecordError> {
        fits("actor.id", &actor.id, ACTOR_ID_MAX)?;
        if let StopServe::Variant(variant) | StopServe::RuleAtZero(variant) = &serve {
            fits("variant", variant, VARIANT_MAX)?;
        }
        let kept = &reason[..reason.floor_char_boundary(STOP_REASON_MAX)];
        Ok(Self {
            id,
            project,
            flag,
            kind,
            serve,
            reason: kept.to_owned(),
            reason_digest: Digest::of(reason.as_bytes()),
            actor,
            at_us,
        })
    }

    /// Identity.
    pub fn id(&self) -> StopId {
        self.id
    }

    /// Project of the flag.
    pub fn project(&self) -> &ProjectKey {
        &self.project
    }

    /// The flag.
    pub fn flag(&self) -> &ObjectKey {
        &self.flag
    }

    /// Why it is stopped.
    pub fn kind(&self) -> StopKind {
        self.kind
    }

    /// What is served instead.
    pub fn serve(&self) -> &StopServe {
        &self.serve
    }

    /// The reason, or the first [`STOP_REASON_MAX`] bytes of it.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// SHA-256 of the whole reason.
    pub fn reason_digest(&self) -> Digest {
        self.reason_digest
    }

    /// Who stopped it.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// When, microseconds since the Unix epoch.
    pub fn at_us(&self) -> i64 {
        self.at_us
    }

    /// The key under which the stop is committed to the database, exactly once.
    pub fn idempotency_key(&self) -> String {
        format!("stop-{}", self.id)
    }
}

fn fits(field: &'static str, text: &str, max: usize) -> Result<(), StopRecordError> {
    match text.len() {
        len if len == 0 || len > max => Err(StopRecordError { field, len, max }),
        _ => Ok(()),
    }
}
