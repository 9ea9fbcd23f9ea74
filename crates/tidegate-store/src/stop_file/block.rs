//! A block of the stop file: one record, twice.
//!
//! A copy is [`COPY_BYTES`] long: the magic `TGSTOP1\0`; state, kind, what is served and the
//! actor's kind as one byte each; sequence and time as 8 bytes big-endian; the identity
//! (16 bytes) and the reason's digest (32 bytes); project, flag, variant, actor and reason as
//! a 2-byte big-endian length and that many bytes of UTF-8; zeros; and in the last 32 bytes the
//! SHA-256 of all before it.

use std::io;

use super::record::{StopId, StopKind, StopRecord, StopServe};
use crate::{
    actor::{Actor, ActorKind},
    digest::Digest,
    key::{ObjectKey, ProjectKey},
    object::ObjectKind,
};

/// Bytes of a block: what disks write as one.
pub const BLOCK_BYTES: usize = 4096;
const COPY_BYTES: usize = BLOCK_BYTES / 2;
const BODY_BYTES: usize = COPY_BYTES - 32;
const MAGIC: &[u8; 8] = b"TGSTOP1\0";
const MAGIC_OF_ANY_VERSION: &[u8; 6] = b"TGSTOP";

/// How far a record has come; the later state counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Pending,
    Applied,
}

/// A record in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) sequence: u64,
    pub(super) state: State,
    pub(super) record: StopRecord,
}

/// What a block on disk says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Empty,
    Torn,
    Lost,
    Healed(Box<Block>),
    Whole(Box<Block>),
}

enum Copy {
    Empty,
    Damaged,
    Valid(Box<Block>),
}

impl Block {
    pub(super) fn pending(sequence: u64, record: StopRecord) -> Self {
        Self {
            sequence,
            state: State::Pending,
            record,
        }
    }

    pub(super) fn applied(sequence: u64, record: StopRecord) -> Self {
        Self {
            sequence,
            state: State::Applied,
            record,
        }
    }

    pub(super) fn to_bytes(&self) -> [u8; BLOCK_BYTES] {
        let mut copy = self.body();
        copy.resize(BODY_BYTES, 0);
        let checksum = Digest::of(&copy);
        copy.extend_from_slice(&checksum.0);
        let mut bytes = [0; BLOCK_BYTES];
        for half in bytes.chunks_exact_mut(COPY_BYTES) {
            half.copy_from_slice(&copy);
        }
        bytes
    }

    fn body(&self) -> Vec<u8> {
        let record = &self.record;
        let (serve, variant) = match &record.serve {
            StopServe::Off => (0, ""),
            StopServe::Variant(variant) => (1, variant.as_str()),
            StopServe::RuleAtZero(rule) => (2, rule.as_str()),
        };
        let mut body = MAGIC.to_vec();
        body.extend([self.state_byte(), kind_byte(record.kind), serve]);
        body.push(actor_kind_byte(record.actor.kind));
        body.extend(self.sequence.to_be_bytes());
        body.extend(record.at_us.to_be_bytes());
        body.extend(record.id.0);
        body.extend(record.reason_digest.0);
        let project = record.project.as_str();
        for text in [
            project,
            record.flag.as_str(),
            variant,
            &record.actor.id,
            &record.reason,
        ] {
            body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            body.extend(text.as_bytes());
        }
        body
    }

    fn state_byte(&self) -> u8 {
        match self.state {
            State::Pending => 1,
            State::Applied => 2,
        }
    }
}

/// Reads a block.
///
/// # Errors
/// If a newer program wrote it.
pub(super) fn read(bytes: &[u8; BLOCK_BYTES]) -> io::Result<Content> {
    let (first, second) = bytes.split_at(COPY_BYTES);
    Ok(match (read_copy(first)?, read_copy(second)?) {
        (Copy::Empty, Copy::Empty) => Content::Empty,
        (Copy::Valid(a), Copy::Valid(b)) => {
            let newer = if (b.sequence, b.state) > (a.sequence, a.state) {
                b
            } else {
                a
            };
            Content::Whole(newer)
        }
        (Copy::Valid(block), Copy::Empty) | (Copy::Empty, Copy::Valid(block)) => {
            Content::Whole(block)
        }
        (Copy::Valid(block), Copy::Damaged) | (Copy::Damaged, Copy::Valid(block)) => {
            Content::Healed(block)
        }
        (Copy::Damaged, Copy::Empty) | (Copy::Empty, Copy::Damaged) => Content::Torn,
        (Copy::Damaged, Copy::Damaged) => Content::Lost,
    })
}

fn read_copy(copy: &[u8]) -> io::Result<Copy> {
    if copy.iter().all(|&byte| byte == 0) {
        return Ok(Copy::Empty);
    }
    let (body, checksum) = copy.split_at(BODY_BYTES);
    if Digest::of(body).0 != checksum {
        return Ok(Copy::Damaged);
    }
    if body.starts_with(MAGIC_OF_ANY_VERSION) && !body.starts_with(MAGIC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the stop file was written by a newer program; start that one",
        ));
    }
    Ok(decode(body).map_or(Copy::Damaged, |block| Copy::Valid(Box::new(block))))
}

/// Takes fields off the front of a body; `None` once it is too short.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::from(u16::from_be_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

fn decode(body: &[u8]) -> Option<Block> {
    let mut fields = Fields(body);
    if fields.take()? != *MAGIC {
        return None;
    }
    let [state, kind, serve, actor_kind] = fields.take()?;
    let sequence = u64::from_be_bytes(fields.take()?);
    let at_us = i64::from_be_bytes(fields.take()?);
    let id = StopId(fields.take()?);
    let reason_digest = Digest(fields.take()?);
    let project = ProjectKey::parse(fields.text()?).ok()?;
    let flag = ObjectKey::parse(ObjectKind::Flag, fields.text()?).ok()?;
    let variant = fields.text()?;
    let actor = Actor {
        kind: actor_kind_from(actor_kind)?,
        id: fields.text()?.to_owned(),
    };
    let reason = fields.text()?.to_owned();
    let serve = match serve {
        0 => StopServe::Off,
        1 => StopServe::Variant(variant.to_owned()),
        2 => StopServe::RuleAtZero(variant.to_owned()),
        _ => return None,
    };
    let state = match state {
        1 => State::Pending,
        2 => State::Applied,
        _ => return None,
    };
    let kind = kind_from(kind)?;
    let record = StopRecord {
        id,
        project,
        flag,
        kind,
        serve,
        reason,
        reason_digest,
        actor,
        at_us,
    };
    Some(Block {
        sequence,
        state,
        record,
    })
}

fn kind_byte(kind: StopKind) -> u8 {
    match kind {
        StopKind::Kill => 1,
        StopKind::Rollback => 2,
    }
}

fn kind_from(byte: u8) -> Option<StopKind> {
    StopKind::ALL
        .iter()
        .copied()
        .find(|&kind| kind_byte(kind) == byte)
}

fn actor_kind_byte(kind: ActorKind) -> u8 {
    match kind {
        ActorKind::User => 1,
        ActorKind::Token => 2,
        ActorKind::System => 3,
    }
}

fn actor_kind_from(byte: u8) -> Option<ActorKind> {
    ActorKind::ALL
        .iter()
        .copied()
        .find(|&kind| actor_kind_byte(kind) == byte)
}
