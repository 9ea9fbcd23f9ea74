//! Audit: who did what, in a chain that shows any later alteration.
//!
//! One chain runs through the whole store; its entries are numbered from 1 without gaps.
//! Each entry carries the hash of the one before it, and its own hash covers that and all its
//! fields, so altering, removing or reordering an entry breaks every hash after it.
//! The chain alone cannot show that its *end* was cut off: that is what signed checkpoints
//! ([`Checkpoint`]) are for, best published where the store's host cannot reach.
//!
//! Reasons and differences are free text and may name a person, so they stay **outside** the
//! chain: the entry holds only the salted digest of its [`AuditNote`].
//! A note can be erased and the chain still verifies; a note that is present must match.
//! The salt keeps a short erased reason from being guessed back from its digest.
//!
//! The encoding is given in `docs/storage.md`, enough to verify without this program.

mod checkpoint;
mod export;
mod verify;

pub use checkpoint::{Checkpoint, CheckpointSigner, PublicKey, SignerError};
pub use export::{ExportError, ExportLine, read_export, write_checkpoint, write_entry};
pub use verify::{ChainVerifier, FINDINGS_MAX, Finding, VerifyReport};

use crate::{
    access::By,
    actor::Actor,
    digest::{Digest, Encoder},
    error::StoreResult,
    key::{OBJECT_KEY_MAX, ProjectKey},
    object::{FieldChange, REASON_BYTES_MAX, validate_field_changes, within},
};

/// What an audit entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditObject {
    /// Kind, such as `flag`, `token`, `user`.
    pub kind: String,
    /// Key inside the kind; opaque for people.
    pub key: String,
}

impl AuditObject {
    /// An object by kind and key.
    pub fn new(kind: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            key: key.into(),
        }
    }
}

/// An entry before it has a place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditDraft {
    /// Project, unless the entry is about the whole store.
    pub project: Option<ProjectKey>,
    /// Who.
    pub actor: Actor,
    /// What was done, such as `flag.kill`.
    pub action: String,
    /// To what.
    pub object: Option<AuditObject>,
    /// Revision after it.
    pub revision: Option<u64>,
    /// SHA-256 of the JSON text before.
    pub before: Option<Digest>,
    /// SHA-256 of the JSON text after.
    pub after: Option<Digest>,
    /// Why; kept outside the chain.
    pub reason: Option<String>,
    /// The difference; kept outside the chain.
    pub changes: Vec<FieldChange>,
    /// When, microseconds since the Unix epoch.
    pub now_us: i64,
}

impl AuditDraft {
    /// A draft about `object` (or the whole store), without revision, digests or difference.
    pub fn new(action: &str, object: Option<AuditObject>, by: &By) -> Self {
        Self {
            project: None,
            actor: by.actor.clone(),
            action: action.to_owned(),
            object,
            revision: None,
            before: None,
            after: None,
            reason: by.reason.clone(),
            changes: Vec::new(),
            now_us: by.now_us,
        }
    }

    pub(crate) fn validate(&self) -> StoreResult<()> {
        self.actor.validate()?;
        within("action", Some(&self.action), 100)?;
        if let Some(object) = &self.object {
            within("object.kind", Some(&object.kind), 100)?;
            within("object.key", Some(&object.key), OBJECT_KEY_MAX)?;
        }
        within("reason", self.reason.as_deref(), REASON_BYTES_MAX)?;
        validate_field_changes(&self.changes)
    }

    /// The entry that follows `head`, with `salt` for its note.
    pub(crate) fn seal(self, head: &AuditHead, epoch: u64, salt: [u8; 16]) -> AuditEntry {
        let note = AuditNote::of(self.reason, &self.changes, salt);
        let mut entry = AuditEntry {
            sequence: head.sequence + 1,
            epoch,
            at_us: self.now_us,
            project: self.project.map(|project| project.as_str().to_owned()),
            actor: self.actor,
            action: self.action,
            object: self.object,
            revision: self.revision,
            before: self.before,
            after: self.after,
            note_digest: note.as_ref().map(AuditNote::digest),
            previous_hash: head.hash,
            hash: Digest::ZERO,
            note,
        };
        entry.hash = entry.computed_hash();
        entry
    }
}

/// Free text that belongs to an entry and may be erased without breaking the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditNote {
    /// Random bytes that keep an erased note from being guessed.
    pub salt: [u8; 16],
    /// Why, in the actor's words.
    pub reason: Option<String>,
    /// The difference, as the JSON text of an array of [`FieldChange`].
    pub changes: Option<String>,
}

impl AuditNote {
    fn of(reason: Option<String>, changes: &[FieldChange], salt: [u8; 16]) -> Option<Self> {
        let changes = match changes {
            [] => None,
            some => serde_json::to_string(some).ok(),
        };
        (reason.is_some() || changes.is_some()).then_some(Self {
            salt,
            reason,
            changes,
        })
    }

    /// The salted digest that the chain covers.
    pub fn digest(&self) -> Digest {
        Encoder::new("tidegate.audit.note.v1")
            .bytes(&self.salt)
            .optional(self.reason.as_deref(), Encoder::text)
            .optional(self.changes.as_deref(), Encoder::text)
            .finish()
    }

    /// The difference, parsed; empty if there is none or it cannot be read.
    pub fn field_changes(&self) -> Vec<FieldChange> {
        self.changes
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }
}

/// An entry of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Place in the chain, from 1 without gaps.
    pub sequence: u64,
    /// Epoch of the store when it was written.
    pub epoch: u64,
    /// When, microseconds since the Unix epoch; order is by sequence, never by time.
    pub at_us: i64,
    /// Project, unless the entry is about the whole store.
    pub project: Option<String>,
    /// Who.
    pub actor: Actor,
    /// What was done.
    pub action: String,
    /// To what.
    pub object: Option<AuditObject>,
    /// Revision after it.
    pub revision: Option<u64>,
    /// SHA-256 of the JSON text before.
    pub before: Option<Digest>,
    /// SHA-256 of the JSON text after.
    pub after: Option<Digest>,
    /// Salted digest of the note, if the entry was written with one.
    pub note_digest: Option<Digest>,
    /// Hash of the entry before; zero for the first.
    pub previous_hash: Digest,
    /// Hash of this entry.
    pub hash: Digest,
    /// The note, unless there was none or it was erased.
    pub note: Option<AuditNote>,
}

impl AuditEntry {
    /// The hash that the other fields give.
    pub fn computed_hash(&self) -> Digest {
        Encoder::new("tidegate.audit.entry.v1")
            .number(self.sequence)
            .number(self.epoch)
            .signed(self.at_us)
            .optional(self.project.as_deref(), Encoder::text)
            .text(self.actor.kind.as_str())
            .text(&self.actor.id)
            .text(&self.action)
            .optional(self.object.as_ref(), |e, object| {
                e.text(&object.kind).text(&object.key)
            })
            .optional(self.revision, Encoder::number)
            .optional(self.before, |e, digest| e.bytes(&digest.0))
            .optional(self.after, |e, digest| e.bytes(&digest.0))
            .optional(self.note_digest, |e, digest| e.bytes(&digest.0))
            .bytes(&self.previous_hash.0)
            .finish()
    }

    /// Why, in the actor's words, unless none was given or it was erased.
    pub fn reason(&self) -> Option<&str> {
        self.note.as_ref().and_then(|note| note.reason.as_deref())
    }

    /// The head of a chain that ends with this entry.
    pub fn as_head(&self) -> AuditHead {
        AuditHead {
            sequence: self.sequence,
            epoch: self.epoch,
            hash: self.hash,
        }
    }
}

/// The end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Sequence of the last entry; 0 if there is none.
    pub sequence: u64,
    /// Epoch of the last entry.
    pub epoch: u64,
    /// Hash of the last entry; zero if there is none.
    pub hash: Digest,
}

impl AuditHead {
    /// The head of the empty chain.
    pub const EMPTY: Self = Self {
        sequence: 0,
        epoch: 0,
        hash: Digest::ZERO,
    };
}

/// Which entries to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// Only those of this project; by default all.
    pub project: Option<ProjectKey>,
    /// With a project: also those about no project, such as changes of people.
    pub with_whole_store: bool,
    /// Only those about this object.
    pub object: Option<AuditObject>,
    /// Only those with a greater sequence.
    pub after: u64,
    /// At most so many.
    pub limit: u32,
}
