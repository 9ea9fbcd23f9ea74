//! The chain as text: one JSON document per line, checkpoints first, then entries in order.
//!
//! The form is strict, so that an altered byte is either seen as such or changes a value that
//! the chain covers: unknown fields are refused, digests are lower-case hexadecimal, and a line
//! is re-written from what was read and must come out the same.

use std::io::{self, BufRead, Read as _, Write};

use serde::{Deserialize, Serialize};

use super::{
    AuditEntry, AuditNote, AuditObject, ChainVerifier, Checkpoint, PublicKey, VerifyReport,
};
use crate::{
    actor::Actor,
    digest::{Digest, from_hex, to_hex},
};

/// Longest line, in bytes: the largest note with every byte escaped.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A line of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportLine {
    /// A signed checkpoint.
    Checkpoint(Checkpoint),
    /// An entry.
    Entry(Box<AuditEntry>),
}

/// Why an export cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The reader failed.
    #[error("the export cannot be read: {0}")]
    Io(#[from] io::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Checkpoint(CheckpointLine),
    Entry(Box<EntryLine>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine {
    sequence: u64,
    epoch: u64,
    hash: String,
    signed_at_us: i64,
    key_id: String,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine {
    sequence: u64,
    epoch: u64,
    at_us: i64,
    project: Option<String>,
    actor_kind: String,
    actor_id: String,
    action: String,
    object_kind: Option<String>,
    object_key: Option<String>,
    revision: Option<u64>,
    before: Option<String>,
    after: Option<String>,
    note_digest: Option<String>,
    previous_hash: String,
    hash: String,
    note: Option<NoteLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoteLine {
    salt: String,
    reason: Option<String>,
    changes: Option<String>,
}

/// Writes an entry as a line.
pub fn write_entry(out: &mut impl Write, entry: &AuditEntry) -> io::Result<()> {
    write_line(out, &Line::Entry(Box::new(entry_line(entry))))
}

/// Writes a checkpoint as a line.
pub fn write_checkpoint(out: &mut impl Write, checkpoint: &Checkpoint) -> io::Result<()> {
    write_line(out, &Line::Checkpoint(checkpoint_line(checkpoint)))
}

/// Verifies an export, with checkpoints that were kept elsewhere in addition to its own.
pub fn read_export(
    input: impl BufRead,
    keys: &[PublicKey],
    published: Vec<Checkpoint>,
) -> Result<VerifyReport, ExportError> {
    let mut own = Vec::new();
    let mut verifier = None;
    let mut unreadable = Vec::new();
    for_each_line(input, |number, line| match line {
        Ok(ExportLine::Checkpoint(checkpoint)) if verifier.is_none() => own.push(checkpoint),
        Ok(ExportLine::Checkpoint(_)) => {
            unreadable.push((number, "a checkpoint stands after an entry".to_owned()));
        }
        Ok(ExportLine::Entry(entry)) => verifier
            .get_or_insert_with(|| ChainVerifier::new(keys, own.drain(..).chain(published.clone())))
            .entry(&entry),
        Err(reason) => unreadable.push((number, reason)),
    })?;
    let mut verifier =
        verifier.unwrap_or_else(|| ChainVerifier::new(keys, own.into_iter().chain(published)));
    for (number, reason) in unreadable {
        verifier.unreadable(format!("line {number}"), reason);
    }
    Ok(verifier.finish())
}

fn for_each_line(
    mut input: impl BufRead,
    mut take: impl FnMut(u64, Result<ExportLine, String>),
) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if line.pop() != Some(b'\n') {
            take(number, Err("it is too long or has no end".to_owned()));
            break;
        }
        take(number, parse_line(&line));
    }
    Ok(())
}

fn parse_line(bytes: &[u8]) -> Result<ExportLine, String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let again = serde_json::to_vec(&line).map_err(|error| error.to_string())?;
    if again != bytes {
        return Err("it is not written in the one form that an export has".to_owned());
    }
    match line {
        Line::Checkpoint(line) => checkpoint_from(line).map(ExportLine::Checkpoint),
        Line::Entry(line) => entry_from(*line).map(|entry| ExportLine::Entry(Box::new(entry))),
    }
}

fn write_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn checkpoint_line(checkpoint: &Checkpoint) -> CheckpointLine {
    CheckpointLine {
        sequence: checkpoint.sequence,
        epoch: checkpoint.epoch,
        hash: checkpoint.hash.to_string(),
        signed_at_us: checkpoint.signed_at,
        key_id: checkpoint.key_id.clone(),
        signature: to_hex(&checkpoint.signature),
    }
}

fn checkpoint_from(line: CheckpointLine) -> Result<Checkpoint, String> {
    Ok(Checkpoint {
        sequence: line.sequence,
        epoch: line.epoch,
        hash: digest(&line.hash)?,
        signed_at: line.signed_at_us,
        key_id: line.key_id,
        signature: from_hex(&line.signature).map_err(|error| error.to_string())?,
    })
}

fn entry_line(entry: &AuditEntry) -> EntryLine {
    let text = |digest: Option<Digest>| digest.map(|digest| digest.to_string());
    EntryLine {
        sequence: entry.sequence,
        epoch: entry.epoch,
        at_us: entry.at_us,
        project: entry.project.clone(),
        actor_kind: entry.actor.kind.as_str().to_owned(),
        actor_id: entry.actor.id.clone(),
        action: entry.action.clone(),
        object_kind: entry.object.as_ref().map(|object| object.kind.clone()),
        object_key: entry.object.as_ref().map(|object| object.key.clone()),
        revision: entry.revision,
        before: text(entry.before),
        after: text(entry.after),
        note_digest: text(entry.note_digest),
        previous_hash: entry.previous_hash.to_string(),
        hash: entry.hash.to_string(),
        note: entry.note.as_ref().map(|note| NoteLine {
            salt: to_hex(&note.salt),
            reason: note.reason.clone(),
            changes: note.changes.clone(),
        }),
    }
}

fn entry_from(line: EntryLine) -> Result<AuditEntry, String> {
    let maybe_digest = |text: Option<String>| text.as_deref().map(digest).transpose();
    let kind = line
        .actor_kind
        .parse()
        .map_err(|error: crate::UnknownWord| error.to_string())?;
    let object = match (line.object_kind, line.object_key) {
        (Some(kind), Some(key)) => Some(AuditObject { kind, key }),
        (None, None) => None,
        _ => return Err("an object has a kind and a key".to_owned()),
    };
    Ok(AuditEntry {
        sequence: line.sequence,
        epoch: line.epoch,
        at_us: line.at_us,
        project: line.project,
        actor: Actor {
            kind,
            id: line.actor_id,
        },
        action: line.action,
        object,
        revision: line.revision,
        before: maybe_digest(line.before)?,
        after: maybe_digest(line.after)?,
        note_digest: maybe_digest(line.note_digest)?,
        previous_hash: digest(&line.previous_hash)?,
        hash: digest(&line.hash)?,
        note: line.note.map(note_from).transpose()?,
    })
}

fn note_from(line: NoteLine) -> Result<AuditNote, String> {
    let salt = from_hex(&line.salt).map_err(|error| error.to_string())?;
    Ok(AuditNote {
        salt,
        reason: line.reason,
        changes: line.changes,
    })
}

fn digest(text: &str) -> Result<Digest, String> {
    text.parse()
        .map_err(|error: crate::digest::NotHex| error.to_string())
}
