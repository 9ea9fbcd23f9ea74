//! Verification of a chain, entry by entry, in constant memory.
//!
//! Findings are all reported, up to [`FINDINGS_MAX`]; a finding is what an alteration must
//! leave behind:
//!
//! - a field changed: the entry's hash no longer follows from its fields;
//! - an entry removed, added or moved: a gap in the sequence, or a predecessor's hash that is
//!   not the predecessor's;
//! - everything rewritten consistently, or the end cut off: a signed checkpoint speaks of an
//!   entry that is missing or has another hash;
//! - a note changed: it no longer gives the digest that the chain covers.
//!
//! A checkpoint of an earlier epoch than the entry in its place is *superseded*: a restored
//! backup is a shorter chain, and the entry `store.restore` says who restored it and why.
//! That is counted and not a finding, because a restore is allowed; who must know that none
//! happened looks at the count.

use std::{collections::BTreeMap, fmt};

use super::{AuditEntry, AuditHead, Checkpoint, PublicKey};
use crate::digest::Digest;

/// Most findings kept; the rest are only counted.
pub const FINDINGS_MAX: usize = 100;

/// Something that a correct chain cannot contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The entry that should come next is not there.
    Gap {
        /// Sequence that should have come.
        expected: u64,
        /// Sequence that came.
        found: u64,
    },
    /// The entry names another predecessor.
    BrokenLink {
        /// Sequence of the entry.
        sequence: u64,
    },
    /// The entry's fields do not give its hash.
    AlteredEntry {
        /// Sequence of the entry.
        sequence: u64,
    },
    /// The note does not give the digest in the entry.
    AlteredNote {
        /// Sequence of the entry.
        sequence: u64,
    },
    /// The entry's epoch is lower than one before it.
    EpochWentBack {
        /// Sequence of the entry.
        sequence: u64,
    },
    /// No given public key signed the checkpoint.
    BadSignature {
        /// Sequence that the checkpoint is about.
        sequence: u64,
        /// Key that it names.
        key_id: String,
    },
    /// The checkpoint is about an entry beyond the end.
    TailRemoved {
        /// Sequence that the checkpoint is about.
        sequence: u64,
        /// Sequence of the last entry.
        end: u64,
    },
    /// The checkpoint says another hash than the entry has.
    CheckpointMismatch {
        /// Sequence that the checkpoint is about.
        sequence: u64,
    },
    /// A row or line that cannot be read at all.
    Unreadable {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { expected, found } => {
                write!(
                    f,
                    "entry {expected} is missing: entry {found} is in its place"
                )
            }
            Self::BrokenLink { sequence } => {
                write!(f, "entry {sequence} does not follow from the one before it")
            }
            Self::AlteredEntry { sequence } => write!(f, "entry {sequence} was altered"),
            Self::AlteredNote { sequence } => write!(f, "the note of entry {sequence} was altered"),
            Self::EpochWentBack { sequence } => {
                write!(f, "the epoch goes back at entry {sequence}")
            }
            Self::BadSignature { sequence, key_id } => {
                write!(
                    f,
                    "no given key signed the checkpoint at {sequence} (key {key_id})"
                )
            }
            Self::TailRemoved { sequence, end } => write!(
                f,
                "a checkpoint was signed at entry {sequence}, but the chain ends at {end}"
            ),
            Self::CheckpointMismatch { sequence } => {
                write!(f, "entry {sequence} is not the one that was signed")
            }
            Self::Unreadable { place, reason } => write!(f, "{place} cannot be read: {reason}"),
        }
    }
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifyReport {
    /// How many entries were read.
    pub entries: u64,
    /// The end of the chain.
    pub head: AuditHead,
    /// How many checkpoints were confirmed by signature and by the chain.
    pub checkpoints_confirmed: u64,
    /// Sequence of the last confirmed checkpoint: up to there, alteration is excluded as far
    /// as the key is trusted.
    pub confirmed_to: u64,
    /// How many well-signed checkpoints belong to a state that a restore replaced.
    pub checkpoints_superseded: u64,
    /// How many notes were erased.
    pub notes_erased: u64,
    /// What is wrong, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How many findings there were in all.
    pub findings_total: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.findings_total == 0
    }
}

/// Takes entries in order and reports at the end.
#[derive(Debug)]
pub struct ChainVerifier {
    head: AuditHead,
    claims: BTreeMap<u64, Vec<Checkpoint>>,
    report: VerifyReport,
}

impl ChainVerifier {
    /// A verifier that will hold the chain against `checkpoints`, trusting only `keys`.
    ///
    /// Without keys nothing is known of the end of the chain, and every checkpoint is a
    /// finding.
    pub fn new(keys: &[PublicKey], checkpoints: impl IntoIterator<Item = Checkpoint>) -> Self {
        let mut verifier = Self {
            head: AuditHead::EMPTY,
            claims: BTreeMap::new(),
            report: VerifyReport {
                entries: 0,
                head: AuditHead::EMPTY,
                checkpoints_confirmed: 0,
                confirmed_to: 0,
                checkpoints_superseded: 0,
                notes_erased: 0,
                findings: Vec::new(),
                findings_total: 0,
            },
        };
        for checkpoint in checkpoints {
            verifier.claim(keys, checkpoint);
        }
        verifier
    }

    fn claim(&mut self, keys: &[PublicKey], checkpoint: Checkpoint) {
        if keys.iter().any(|key| checkpoint.is_signed_by(key)) {
            self.claims
                .entry(checkpoint.sequence)
                .or_default()
                .push(checkpoint);
        } else {
            let Checkpoint {
                sequence, key_id, ..
            } = checkpoint;
            self.find(Finding::BadSignature { sequence, key_id });
        }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &AuditEntry) {
        let sequence = entry.sequence;
        self.report.entries += 1;
        let expected = self.head.sequence + 1;
        if sequence != expected {
            self.find(Finding::Gap {
                expected,
                found: sequence,
            });
        } else if entry.previous_hash != self.head.hash {
            self.find(Finding::BrokenLink { sequence });
        }
        if entry.epoch < self.head.epoch {
            self.find(Finding::EpochWentBack { sequence });
        }
        if entry.computed_hash() != entry.hash {
            self.find(Finding::AlteredEntry { sequence });
        }
        self.note(entry);
        self.confirm(entry);
        self.head = entry.as_head();
    }

    /// Records that a row or line could not be read.
    pub fn unreadable(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.find(Finding::Unreadable {
            place: place.into(),
            reason: reason.into(),
        });
    }

    /// Ends the chain.
    pub fn finish(mut self) -> VerifyReport {
        let end = self.head.sequence;
        for (sequence, claims) in std::mem::take(&mut self.claims) {
            for claim in claims {
                if claim.epoch < self.head.epoch {
                    self.report.checkpoints_superseded += 1;
                } else if sequence == 0 && claim.hash == Digest::ZERO {
                    self.report.checkpoints_confirmed += 1;
                } else {
                    self.find(Finding::TailRemoved { sequence, end });
                }
            }
        }
        self.report.head = self.head;
        self.report
    }

    fn note(&mut self, entry: &AuditEntry) {
        match (&entry.note, entry.note_digest) {
            (None, Some(_)) => self.report.notes_erased += 1,
            (Some(note), digest) if digest != Some(note.digest()) => {
                self.find(Finding::AlteredNote {
                    sequence: entry.sequence,
                });
            }
            _ => {}
        }
    }

    fn confirm(&mut self, entry: &AuditEntry) {
        let sequence = entry.sequence;
        for claim in self.claims.remove(&sequence).unwrap_or_default() {
            if claim.hash == entry.hash && claim.epoch == entry.epoch {
                self.report.checkpoints_confirmed += 1;
                self.report.confirmed_to = self.report.confirmed_to.max(sequence);
            } else if claim.epoch < entry.epoch {
                self.report.checkpoints_superseded += 1;
            } else {
                self.find(Finding::CheckpointMismatch { sequence });
            }
        }
    }

    fn find(&mut self, finding: Finding) {
        self.report.findings_total += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }
}
