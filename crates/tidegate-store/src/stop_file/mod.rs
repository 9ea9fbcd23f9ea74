//! The stop file: kills and rollbacks that hold even while the database does not work.
//!
//! A stop is first made durable here, then served, then committed to the database as an
//! ordinary change with [`StopRecord::idempotency_key`], and then marked as applied.
//! Whoever starts reads the pending records before giving the first answer, so a crash at any
//! point between those steps leaves the flag stopped and the change applied exactly once.
//!
//! The file is made for the moment when nothing else works:
//!
//! - it is allocated beforehand, so a full disk does not stop a stop;
//! - each record has a block of [`BLOCK_BYTES`] to itself, so a torn write harms no other;
//! - appending is one write in place and one `fdatasync`;
//! - each block holds the record twice, each with its SHA-256: one flipped bit heals.
//!
//! Reading a block, by what its two copies say:
//!
//! | first copy | second copy | meaning |
//! |---|---|---|
//! | valid | anything | the one with the higher sequence and state counts |
//! | torn | empty, or an older valid one | a write that was never acknowledged: dropped |
//! | damaged | the same record, valid | healed |
//! | damaged | damaged | lost: told by [`StopFile::damage`], to be shown loudly |
//!
//! Calls block for as long as the disk takes; asynchronous callers use a blocking thread.
//!
//! A record that was never acknowledged and is whole is honoured: stopping too much is the
//! safe side.

mod block;
mod record;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use block::BLOCK_BYTES;
pub use record::{
    STOP_REASON_MAX, StopId, StopKind, StopRecord, StopRecordError, StopServe, VARIANT_MAX,
};

use crate::durable;
use block::{Block, Content, State};

/// Blocks in a new file: 1 MiB.
const BLOCKS_AT_FIRST: usize = 256;
/// Blocks in a file that has grown as far as it may: 64 MiB.
const BLOCKS_MAX: usize = 16_384;

/// What opening found that should not be there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopFileDamage {
    /// Writes that were cut off before they were acknowledged; harmless.
    pub torn: usize,
    /// Records of which one of the two copies was damaged; harmless once.
    pub healed: usize,
    /// Numbers of blocks of which both copies are damaged: a stop may be lost.
    pub lost: Vec<usize>,
}

/// What a block is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Free,
    Pending(u64),
    /// Not to be written again: its content is unknown.
    Retired,
}

#[derive(Debug)]
struct Inner {
    file: File,
    slots: Vec<Slot>,
    /// Pending records by sequence, with the number of their block.
    pending: BTreeMap<u64, (usize, StopRecord)>,
    next_sequence: u64,
}

/// The open stop file; one process has it at a time.
#[derive(Debug)]
pub struct StopFile {
    path: PathBuf,
    inner: Mutex<Inner>,
    damage: StopFileDamage,
    _lock: File,
}

impl StopFile {
    /// Opens the file, making it if it is not there, and gives the pending records in the order
    /// of appending.
    ///
    /// # Errors
    /// Besides input and output: `WouldBlock` if another process has it open, `InvalidData` if
    /// a newer program wrote it.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<(Self, Vec<StopRecord>)> {
        let path = path.into();
        let lock = durable::lock_beside(&path)?;
        if !path.exists() {
            write_new(&path, &[])?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let (mut inner, damage) = scan(file)?;
        if inner.slots.len() < BLOCKS_AT_FIRST {
            grow(&mut inner, BLOCKS_AT_FIRST)?;
        }
        let stop_file = Self {
            path,
            inner: Mutex::new(inner),
            damage,
            _lock: lock,
        };
        let pending = stop_file.pending();
        Ok((stop_file, pending))
    }

    /// Makes a record durable; when this returns `Ok`, the stop survives a power cut.
    ///
    /// Appending a record that is pending already changes nothing.
    ///
    /// # Errors
    /// After an error it is unknown whether the record is on disk; serve the stop from memory
    /// and append again.
    pub fn append(&self, record: &StopRecord) -> io::Result<()> {
        let mut inner = self.inner();
        if inner
            .pending
            .values()
            .any(|(_, pending)| pending.id == record.id)
        {
            return Ok(());
        }
        let at = free_slot(&mut inner)?;
        let sequence = inner.next_sequence;
        inner.next_sequence += 1;
        inner.slots[at] = Slot::Retired;
        write_block(&inner.file, at, &Block::pending(sequence, record.clone()))?;
        inner.slots[at] = Slot::Pending(sequence);
        inner.pending.insert(sequence, (at, record.clone()));
        Ok(())
    }

    /// Marks a record as committed to the database and frees its block; a record that is not
    /// pending is left alone.
    ///
    /// # Errors
    /// After an error the record is pending still, and may be marked again.
    pub fn applied(&self, id: &StopId) -> io::Result<()> {
        let mut inner = self.inner();
        let found = inner
            .pending
            .iter()
            .find(|(_, (_, record))| record.id == *id);
        let Some((&sequence, &(at, ref record))) = found else {
            return Ok(());
        };
        let block = Block::applied(sequence, record.clone());
        write_block(&inner.file, at, &block)?;
        inner.pending.remove(&sequence);
        inner.slots[at] = Slot::Free;
        Ok(())
    }

    /// The pending records in the order of appending.
    pub fn pending(&self) -> Vec<StopRecord> {
        self.inner()
            .pending
            .values()
            .map(|(_, record)| record.clone())
            .collect()
    }

    /// What opening found that should not be there.
    pub fn damage(&self) -> &StopFileDamage {
        &self.damage
    }

    /// Writes the pending records to a fresh file of the least size and puts it in the place of
    /// this one; damaged blocks are gone after it.
    pub fn compact(&self) -> io::Result<()> {
        let mut inner = self.inner();
        let blocks: Vec<_> = inner
            .pending
            .iter()
            .map(|(&sequence, (_, record))| Block::pending(sequence, record.clone()))
            .collect();
        write_new(&self.path, &blocks)?;
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let next_sequence = inner.next_sequence;
        (*inner, _) = scan(file)?;
        inner.next_sequence = next_sequence;
        Ok(())
    }

    /// A panic while the lock was held cannot leave the state half changed: each change is one
    /// assignment after the write that it tells of.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads all blocks, one at a time.
fn scan(file: File) -> io::Result<(Inner, StopFileDamage)> {
    let len = file.metadata()?.len();
    let block_len = u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX);
    let count = usize::try_from(len / block_len)
        .unwrap_or(usize::MAX)
        .min(BLOCKS_MAX);
    let mut inner = Inner {
        file,
        slots: Vec::with_capacity(count),
        pending: BTreeMap::new(),
        next_sequence: 1,
    };
    let mut damage = StopFileDamage::default();
    let mut bytes = [0; BLOCK_BYTES];
    for at in 0..count {
        inner.file.read_exact_at(&mut bytes, offset(at))?;
        let slot = take_block(&mut inner, at, &bytes, &mut damage)?;
        inner.slots.push(slot);
    }
    Ok((inner, damage))
}

fn take_block(
    inner: &mut Inner,
    at: usize,
    bytes: &[u8; BLOCK_BYTES],
    damage: &mut StopFileDamage,
) -> io::Result<Slot> {
    let block = match block::read(bytes)? {
        Content::Empty => return Ok(Slot::Free),
        Content::Torn => {
            damage.torn += 1;
            return Ok(Slot::Free);
        }
        Content::Lost => {
            damage.lost.push(at);
            return Ok(Slot::Retired);
        }
        Content::Healed(block) => {
            damage.healed += 1;
            block
        }
        Content::Whole(block) => block,
    };
    inner.next_sequence = inner.next_sequence.max(block.sequence + 1);
    if block.state == State::Applied {
        return Ok(Slot::Free);
    }
    inner.pending.insert(block.sequence, (at, block.record));
    Ok(Slot::Pending(block.sequence))
}

fn free_slot(inner: &mut Inner) -> io::Result<usize> {
    let free = |inner: &Inner| inner.slots.iter().position(|slot| *slot == Slot::Free);
    if let Some(at) = free(inner) {
        return Ok(at);
    }
    let target = (inner.slots.len() * 2).min(BLOCKS_MAX);
    grow(inner, target)?;
    free(inner).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::StorageFull,
            "the stop file holds as many stops as it may",
        )
    })
}

/// Allocates blocks by writing zeros: a hole in a sparse file would need room later, just when
/// there is none.
fn grow(inner: &mut Inner, target: usize) -> io::Result<()> {
    for at in inner.slots.len()..target {
        inner.file.write_all_at(&[0; BLOCK_BYTES], offset(at))?;
    }
    inner.file.sync_all()?;
    inner.slots.resize(target, Slot::Free);
    Ok(())
}

fn write_block(file: &File, at: usize, block: &Block) -> io::Result<()> {
    file.write_all_at(&block.to_bytes(), offset(at))?;
    file.sync_data()
}

/// Writes a file of the first size with `blocks` at its start, durably in the place of `path`.
fn write_new(path: &Path, blocks: &[Block]) -> io::Result<()> {
    let fresh = durable::with_suffix(path, ".fresh");
    let file = durable::create_private(&fresh)?;
    file.set_len(0)?;
    for at in 0..blocks.len().max(BLOCKS_AT_FIRST) {
        let bytes = blocks.get(at).map_or([0; BLOCK_BYTES], Block::to_bytes);
        file.write_all_at(&bytes, offset(at))?;
    }
    durable::replace(&fresh, path)
}

fn offset(at: usize) -> u64 {
    u64::try_from(at.saturating_mul(BLOCK_BYTES)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
