//! What a log holds, kept beside it, so that opening a large log costs what was added since.
//!
//! `DATA_DIR/delivery/<project>.index` is a cache: whatever is doubtful about it (its own checksum, a log that is
//! shorter, other bytes where it ends) makes it nothing, and the log is read from its start as without it.
//! Nothing is answered from it but "this delivery is known"; questions read the log itself.
//!
//! ```text
//! "TGDINDX1", committed bytes, rows, xxh3 of the log's last 64 KiB before that point, number of entries   u64 each
//! (key u128, content u64) per row
//! number of notes u32, then (name length u32, name, length u64, bytes) each
//! xxh3 of everything before u64
//! ```
//! All numbers are little endian. *Notes* are what a writer wants to find again beside the rows; the log does not
//! know what they mean, and a note may be older than the rows.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const MAGIC: &[u8; 8] = b"TGDINDX1";
/// Bytes of the log whose checksum ties the index to it.
const GUARD_BYTES: u64 = 64 * 1024;
/// More entries, or longer notes, than any log has: a length beyond is damage.
const MAX_ENTRIES: u64 = 1 << 28;
const MAX_NOTE_BYTES: u64 = 1 << 32;
const MAX_NOTES: u32 = 10_000;
const MAX_NAME_BYTES: u32 = 4096;
/// Room that is made at once, however many a damaged header speaks of.
const MAX_ROOM: usize = 1 << 21;

/// An index as read.
#[derive(Debug, Default)]
pub(super) struct LogIndex {
    pub(super) committed_bytes: u64,
    pub(super) rows: u64,
    pub(super) known: FxHashMap<u128, u64>,
    pub(super) notes: BTreeMap<String, Vec<u8>>,
}

/// Something to be found again: its length, and what writes it.
pub struct Note<'n> {
    /// Its name.
    pub name: &'n str,
    /// How many bytes `write` writes.
    pub bytes: u64,
    /// Writes it, piece by piece.
    pub write: &'n dyn Fn(&mut dyn Write) -> io::Result<()>,
}

/// Reads the index at `path` if it belongs to `log`.
pub(super) fn load(path: &Path, log: &mut File) -> Option<LogIndex> {
    let file = File::open(path).ok()?;
    let mut from = Hashed::new(BufReader::with_capacity(1 << 18, file));
    let index = read(&mut from).ok()?;
    let sum = from.hash.digest();
    (number(&mut from).ok()? == sum).then_some(())?;
    let guard = guard(log, index.0.committed_bytes).ok()?;
    (guard == index.1).then_some(index.0)
}

/// The index, and the checksum of the log's end that it was made with.
fn read(from: &mut impl Read) -> io::Result<(LogIndex, u64)> {
    let mut magic = [0; 8];
    from.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(damaged());
    }
    let (committed_bytes, rows) = (number(from)?, number(from)?);
    let (guard, count) = (number(from)?, bounded(number(from)?, MAX_ENTRIES)?);
    let room = usize::try_from(count).unwrap_or(MAX_ROOM).min(MAX_ROOM);
    let mut known = FxHashMap::with_capacity_and_hasher(room, Default::default());
    for _ in 0..count {
        let mut key = [0; 16];
        from.read_exact(&mut key)?;
        known.insert(u128::from_le_bytes(key), number(from)?);
    }
    let mut notes = BTreeMap::new();
    let count = short_number(from)?;
    if count > MAX_NOTES {
        return Err(damaged());
    }
    for _ in 0..count {
        let length = u64::from(short_number(from)?);
        let name = bytes(from, bounded(length, u64::from(MAX_NAME_BYTES))?)?;
        let name = String::from_utf8(name).map_err(|_| damaged())?;
        let length = bounded(number(from)?, MAX_NOTE_BYTES)?;
        notes.insert(name, bytes(from, length)?);
    }
    let index = LogIndex {
        committed_bytes,
        rows,
        known,
        notes,
    };
    Ok((index, guard))
}

/// Writes an index for `log` under another name and puts it in its place.
pub(super) fn save(
    path: &Path,
    log: &mut File,
    (committed_bytes, rows): (u64, u64),
    known: &FxHashMap<u128, u64>,
    (old, new): (&BTreeMap<String, Vec<u8>>, &Note<'_>),
) -> io::Result<()> {
    let next = path.with_extension("index.next");
    let mut to = Hashed::new(BufWriter::with_capacity(1 << 18, File::create(&next)?));
    to.write_all(MAGIC)?;
    let guard = guard(log, committed_bytes)?;
    for value in [committed_bytes, rows, guard, known.len() as u64] {
        to.write_all(&value.to_le_bytes())?;
    }
    for (key, content) in known {
        to.write_all(&key.to_le_bytes())?;
        to.write_all(&content.to_le_bytes())?;
    }
    let kept = || old.iter().filter(|(name, _)| *name != new.name);
    let count = u32::try_from(kept().count() + 1).map_err(|_| damaged())?;
    to.write_all(&count.to_le_bytes())?;
    for (name, bytes) in kept() {
        head(&mut to, name, bytes.len() as u64)?;
        to.write_all(bytes)?;
    }
    head(&mut to, new.name, new.bytes)?;
    (new.write)(&mut to)?;
    let sum = to.hash.digest();
    to.write_all(&sum.to_le_bytes())?;
    to.inner.flush()?;
    fs::rename(&next, path)
}

fn head(to: &mut impl Write, name: &str, bytes: u64) -> io::Result<()> {
    let length = u32::try_from(name.len()).map_err(|_| damaged())?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(name.as_bytes())?;
    to.write_all(&bytes.to_le_bytes())
}

/// The checksum of the log's last bytes before `end`.
fn guard(log: &mut File, end: u64) -> io::Result<u64> {
    let start = end.saturating_sub(GUARD_BYTES);
    log.seek(SeekFrom::Start(start))?;
    Ok(xxh3_64(&bytes(log, end - start)?))
}

fn bytes(from: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    from.take(length).read_to_end(&mut read)?;
    if read.len() as u64 == length {
        Ok(read)
    } else {
        Err(damaged())
    }
}

fn number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn short_number(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn bounded(value: u64, most: u64) -> io::Result<u64> {
    if value <= most {
        Ok(value)
    } else {
        Err(damaged())
    }
}

fn damaged() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

/// Passes bytes on and adds them to a checksum.
struct Hashed<T> {
    inner: T,
    hash: Xxh3,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Xxh3::new(),
        }
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
