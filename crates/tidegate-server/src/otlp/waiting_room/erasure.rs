//! Erasing a unit from the room: those who wait for it leave at once, what was told of it is
//! forgotten, and what the room's log still says of it is given up with the segment.
//!
//! The log cannot be rewritten, because others wait in it who were acknowledged. So it is sealed,
//! and a note is made durable: below this sequence nothing of this unit counts. A start reads the
//! log by these notes. Once nobody needs the log below the sequence any more, two windows later at
//! the latest, its files are removed for good, and then the note. A note has the unit's 64-bit
//! hash and not its name.

use std::path::Path;

use tidegate_lake::{AppendError, LogError, RealDisk, read_file, replace_file};
use tidegate_metrics::{Event, unit_hash};

use super::{Inside, LeaveError, WaitingRoom};

const NOTES: &str = "erased";
const NOTE_BYTES: usize = 16;
/// A longer file is none of ours.
const MOST_NOTE_BYTES: u64 = 16 << 20;

/// Nothing of the unit counts that stands below the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    below: u64,
    unit: u64,
}

impl Note {
    /// Whether an event of the room's log is meant.
    pub(super) fn concerns(&self, sequence: u64, unit: &str) -> bool {
        sequence < self.below && self.unit == unit_hash(unit)
    }
}

/// The notes of a room. Without them what was erased would come back, so a file that cannot be read
/// keeps the room shut.
pub(super) fn notes_in(folder: &Path) -> Result<Vec<Note>, LogError> {
    let path = folder.join(NOTES);
    let bytes = match read_file(&RealDisk, &path, MOST_NOTE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(LogError::Io { path, source }),
    };
    let (notes, _) = bytes.as_chunks::<NOTE_BYTES>();
    let notes = notes
        .iter()
        .map(|note| {
            let value = u128::from_le_bytes(*note);
            let [below, unit] = [value, value >> 64].map(|half| half & u128::from(u64::MAX));
            Note {
                below: u64::try_from(below).unwrap_or(u64::MAX),
                unit: u64::try_from(unit).unwrap_or(u64::MAX),
            }
        })
        .collect();
    Ok(notes)
}

fn keep_notes(folder: &Path, notes: &[Note]) -> std::io::Result<()> {
    let bytes: Vec<u8> = notes
        .iter()
        .flat_map(|note| [note.below.to_le_bytes(), note.unit.to_le_bytes()])
        .flatten()
        .collect();
    replace_file(&RealDisk, folder, NOTES, &bytes)
}

/// Why a unit could not be erased from the room; it may be asked again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ErasureError {
    /// The room's log cannot be sealed.
    #[error("seal the log of the waiting room")]
    Seal(#[from] AppendError),
    /// The note cannot be kept.
    #[error("note the erasure in the waiting room")]
    Note(#[from] std::io::Error),
}

impl WaitingRoom {
    /// Takes everything of a unit out of the room and returns those who waited, as their traces
    /// were served so far; whoever asks erases them where they go. On return a start would not
    /// find them either. Nobody may be leaving meanwhile. Blocks for the disk.
    ///
    /// # Errors
    /// [`ErasureError`]; the room is as it was.
    pub(crate) fn erase(&self, unit: &str) -> Result<Vec<Event>, ErasureError> {
        let below = self.log.seal()?;
        let note = Note {
            below,
            unit: unit_hash(unit),
        };
        let mut notes = self.lock().erased.clone();
        notes.push(note);
        keep_notes(&self.folder, &notes)?;
        let mut inside = self.lock();
        inside.erased = notes;
        Ok(inside.take_out(unit))
    }

    /// Gives up the log below the notes once nobody needs it. Blocks for the disk.
    pub(crate) fn give_up_erased(&self, now_us: i64) -> Result<(), LeaveError> {
        let (unwanted_below, rest) = {
            let mut inside = self.lock();
            if inside.erased.is_empty() {
                return Ok(());
            }
            let unwanted_below = inside.unwanted_below(now_us);
            let rest = inside.erased.iter();
            let rest: Vec<Note> = rest
                .filter(|note| note.below > unwanted_below)
                .copied()
                .collect();
            if rest.len() == inside.erased.len() {
                return Ok(());
            }
            (unwanted_below, rest)
        };
        self.log.forget_below(unwanted_below)?;
        keep_notes(&self.folder, &rest)?;
        self.lock().erased = rest;
        Ok(())
    }

    /// Whether something erased is still to be given up.
    pub(crate) fn has_erased(&self) -> bool {
        !self.lock().erased.is_empty()
    }
}

impl Inside {
    /// Takes out who waits for a unit, by its own word or by that of its trace, and forgets what
    /// traces were served for the unit.
    fn take_out(&mut self, unit: &str) -> Vec<Event> {
        let mut taken = Vec::new();
        let mut stay = std::collections::VecDeque::with_capacity(self.queue.len());
        for (sequence, event) in std::mem::take(&mut self.queue) {
            let mut settled = event.clone();
            self.join.settle(&mut settled);
            if event.unit.as_ref() == unit || settled.unit.as_ref() == unit {
                self.bytes -= event.approximate_bytes();
                taken.push(settled);
            } else {
                stay.push_back((sequence, event));
            }
        }
        self.queue = stay;
        self.join.forget_unit(unit);
        taken
    }
}
