//! The delivery log on disk: append-only, checksummed, all or nothing.
//!
//! One file per project, `DATA_DIR/delivery/<project>.log`, readable with any JSON tool:
//!
//! ```text
//! {"format":"tidegate-delivery-log","version":1}
//! {"at":1735689600000,"source":"csv:deployments","id":"...","body":{"deployment":{...}}}
//! ...
//! {"commit":{"rows":2,"bytes":311,"xxh3":"91a4c..."}}
//! ```
//!
//! * Rows count only when the commit line after them is there and its checksum over the rows' bytes holds.
//!   An import is one commit: a crash in the middle leaves the log as it was.
//! * Bytes after the last commit line are a torn write: readers skip them, the next writer cuts them off.
//! * A checksum that does not hold *before* the last commit line is damage, and is refused by name and offset.
//! * A writer holds an exclusive lock, so the server and a command never write at once.
//! * A delivery `(source, id)` that the log holds is not written again.
//! * A large log has an [`index`] beside it, so that a writer reads only what was added since.
//!
//! A writer may commit many times: the server keeps one open, so that an append costs only itself.
//!
//! Must not know: what rows mean.

mod index;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_delivery::{DeliveryEvent, Moment};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

const HEADER: &str = r#"{"format":"tidegate-delivery-log","version":1}"#;
const HEADER_BYTES: u64 = HEADER.len() as u64 + 1;
const COMMIT_PREFIX: &[u8] = br#"{"commit":"#;
/// Longest line: rows have bounded fields, so a longer one is damage.
const MAX_LINE_BYTES: u64 = 8 * 1024 * 1024;

/// Rows added since the last index that make writing one worth while.
const ROWS_WORTH_AN_INDEX: u64 = 10_000;

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error("{path}: {error}")]
    Io {
        /// The log.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another kind of file, or a newer version.
    #[error("{path} is no delivery log of version 1; its first line is {first:?}")]
    Format {
        /// The file.
        path: PathBuf,
        /// How it begins.
        first: String,
    },
    /// What was committed is not what is there.
    #[error("{path} is damaged at byte {offset}: {cause}; restore it from a backup")]
    Damaged {
        /// The log.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What does not hold.
        cause: String,
    },
    /// Another writer has it.
    #[error("{path} is in use by another process; stop the server, or send the data to it instead")]
    InUse {
        /// The log.
        path: PathBuf,
    },
    /// A name that could leave the folder.
    #[error(
        "{name:?} is no project name; use lower-case letters, digits, '-', '_' and '.', at most 64"
    )]
    ProjectName {
        /// The name.
        name: String,
    },
}

pub use index::Note;

/// Where a project's log is.
#[derive(Debug, Clone)]
pub struct DeliveryLog {
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct CommitLine {
    commit: CommitMark,
}

#[derive(Debug, Serialize, Deserialize)]
struct CommitMark {
    rows: u64,
    bytes: u64,
    xxh3: String,
}

/// A row that the log holds, as far as a writer reads it: names at once, the body only if somebody asks.
#[derive(Debug, Deserialize)]
pub struct HeldRow<'l> {
    /// When it happened.
    pub at: Moment,
    /// Who told us.
    #[serde(borrow)]
    pub source: Cow<'l, str>,
    /// The sender's name for it.
    #[serde(borrow)]
    pub id: Cow<'l, str>,
    /// What happened, as JSON text.
    #[serde(borrow)]
    pub body: &'l RawValue,
}

/// What a pass over the log found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LogExtent {
    /// Committed rows.
    pub rows: u64,
    /// End of the last commit line.
    committed_bytes: u64,
    /// Bytes after it, of a write that did not end.
    pub torn_bytes: u64,
}

impl DeliveryLog {
    /// The log of a project under a data directory; nothing is opened yet.
    ///
    /// # Errors
    /// [`LogError::ProjectName`].
    pub fn at(data_dir: &Path, project: &str) -> Result<Self, LogError> {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if project.is_empty()
            || project.len() > 64
            || project.starts_with('.')
            || !project.bytes().all(is_plain)
        {
            return Err(LogError::ProjectName {
                name: project.to_owned(),
            });
        }
        Ok(Self {
            path: data_dir.join("delivery").join(format!("{project}.log")),
        })
    }

    fn index_path(&self) -> PathBuf {
        self.path.with_extension("index")
    }

    /// How long the file is, torn bytes included; 0 where there is none yet.
    #[must_use]
    pub fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |about| about.len())
    }

    /// Hands every committed row to `each`; a log that does not exist yet has none.
    ///
    /// # Errors
    /// [`LogError`]; rows handed out before it are to be forgotten.
    pub fn read(&self, mut each: impl FnMut(DeliveryEvent)) -> Result<LogExtent, LogError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(LogExtent::default());
            }
            Err(error) => return Err(self.io(error)),
        };
        let extent = self.verify(&file)?;
        self.each_row(&mut file, (HEADER_BYTES, extent), |line, offset| {
            each(self.row(line, offset)?);
            Ok(())
        })?;
        Ok(extent)
    }

    /// Opens the log for appending, creating it if new; `each` sees what it holds.
    ///
    /// # Errors
    /// [`LogError::InUse`] where another writer has it; else what [`DeliveryLog::read`] may say.
    pub fn begin(&self, mut each: impl FnMut(&HeldRow<'_>)) -> Result<LogWriter, LogError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|error| self.io(error))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(|error| self.io(error))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LogError::InUse {
                path: self.path.clone(),
            },
            TryLockError::Error(error) => self.io(error),
        })?;
        let index = index::load(&self.index_path(), &mut file);
        let (from, extent) = match &index {
            Some(index) => {
                let start = LogExtent {
                    rows: index.rows,
                    committed_bytes: index.committed_bytes,
                    torn_bytes: 0,
                };
                file.seek(SeekFrom::Start(index.committed_bytes))
                    .map_err(|error| self.io(error))?;
                let mut rest = BufReader::with_capacity(1 << 18, &file);
                (index.committed_bytes, self.commits(&mut rest, start)?)
            }
            None => {
                file.seek(SeekFrom::Start(0))
                    .map_err(|error| self.io(error))?;
                (HEADER_BYTES, self.verify(&file)?)
            }
        };
        let index = index.unwrap_or_default();
        let indexed_rows = index.rows;
        let (mut known, notes) = (index.known, index.notes);
        self.each_row(&mut file, (from, extent), |line, offset| {
            let held: HeldRow<'_> = serde_json::from_slice(line)
                .map_err(|error| self.damaged(offset, error.to_string()))?;
            known.insert(key_of(&held.source, &held.id), xxh3_64(line));
            each(&held);
            Ok(())
        })?;
        let mut start = extent.committed_bytes;
        file.set_len(start).map_err(|error| self.io(error))?;
        file.seek(SeekFrom::Start(start))
            .map_err(|error| self.io(error))?;
        if start == 0 {
            writeln!(file, "{HEADER}").map_err(|error| self.io(error))?;
            sync_folder(folder).map_err(|error| self.io(error))?;
            start = HEADER_BYTES;
        }
        Ok(LogWriter {
            log: self.clone(),
            file: BufWriter::with_capacity(1 << 20, file),
            known,
            notes,
            indexed_rows,
            committed_rows: extent.rows,
            start,
            rows: 0,
            bytes: 0,
            checksum: Xxh3::new(),
            line: Vec::new(),
        })
    }

    /// Checks every commit and finds where the last one ends, in constant memory.
    fn verify(&self, file: impl Read) -> Result<LogExtent, LogError> {
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut extent = LogExtent::default();
        let mut line = Vec::new();
        let offset = self.read_line(&mut reader, &mut line, 0)?;
        if line != format!("{HEADER}\n").as_bytes() {
            // A crash while the header itself was written leaves a file that holds nothing yet.
            if HEADER.as_bytes().starts_with(&line) {
                return Ok(LogExtent {
                    torn_bytes: offset,
                    ..extent
                });
            }
            let first = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
            return Err(LogError::Format {
                path: self.path.clone(),
                first,
            });
        }
        extent.committed_bytes = offset;
        self.commits(&mut reader, extent)
    }

    /// Checks every commit after an extent that was checked before.
    fn commits(
        &self,
        reader: &mut impl BufRead,
        mut extent: LogExtent,
    ) -> Result<LogExtent, LogError> {
        let mut line = Vec::new();
        let mut offset = extent.committed_bytes;
        let mut batch = Batch::default();
        loop {
            offset += self.read_line(reader, &mut line, offset)?;
            if !line.ends_with(b"\n") {
                break;
            }
            if line.starts_with(COMMIT_PREFIX) {
                batch
                    .check(&line)
                    .map_err(|cause| self.damaged(extent.committed_bytes, cause))?;
                extent.rows += batch.rows;
                extent.committed_bytes = offset;
                batch = Batch::default();
            } else {
                batch.take(&line);
            }
        }
        extent.torn_bytes = offset - extent.committed_bytes;
        Ok(extent)
    }

    /// Walks the rows of a verified extent, from an offset at which a line begins.
    fn each_row(
        &self,
        file: &mut File,
        (from, extent): (u64, LogExtent),
        mut each: impl FnMut(&[u8], u64) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        file.seek(SeekFrom::Start(from))
            .map_err(|error| self.io(error))?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut line = Vec::new();
        let mut offset = from;
        while offset < extent.committed_bytes {
            let start = offset;
            offset += self.read_line(&mut reader, &mut line, start)?;
            match line.strip_suffix(b"\n") {
                Some(row) if !row.starts_with(COMMIT_PREFIX) => each(row, start)?,
                Some(_) => {}
                None => {
                    return Err(
                        self.damaged(start, "the file changed while it was read".to_owned())
                    );
                }
            }
        }
        Ok(())
    }

    fn read_line(
        &self,
        reader: &mut impl BufRead,
        line: &mut Vec<u8>,
        offset: u64,
    ) -> Result<u64, LogError> {
        line.clear();
        let read = reader
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', line)
            .map_err(|error| self.io(error))? as u64;
        if read == MAX_LINE_BYTES {
            return Err(self.damaged(offset, "a line has more than 8 MiB".to_owned()));
        }
        Ok(read)
    }

    fn row(&self, line: &[u8], offset: u64) -> Result<DeliveryEvent, LogError> {
        serde_json::from_slice(line).map_err(|error| self.damaged(offset, error.to_string()))
    }

    fn damaged(&self, offset: u64, cause: String) -> LogError {
        LogError::Damaged {
            path: self.path.clone(),
            offset,
            cause,
        }
    }

    fn io(&self, error: io::Error) -> LogError {
        LogError::Io {
            path: self.path.clone(),
            error,
        }
    }
}

/// Rows not yet known to be committed.
#[derive(Default)]
struct Batch {
    rows: u64,
    bytes: u64,
    checksum: Xxh3,
}

impl Batch {
    fn take(&mut self, line: &[u8]) {
        self.rows += 1;
        self.bytes += line.len() as u64;
        self.checksum.update(line);
    }

    fn check(&self, commit_line: &[u8]) -> Result<(), String> {
        let CommitLine { commit } =
            serde_json::from_slice(commit_line).map_err(|error| error.to_string())?;
        if commit.rows != self.rows || commit.bytes != self.bytes {
            return Err(format!(
                "the commit line speaks of {} rows in {} bytes, there are {} in {}",
                commit.rows, commit.bytes, self.rows, self.bytes
            ));
        }
        if commit.xxh3 != format!("{:016x}", self.checksum.digest()) {
            return Err("the checksum does not hold".to_owned());
        }
        Ok(())
    }
}

/// What became of a row given to the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It will be in the log after the commit.
    New,
    /// The log holds this delivery already.
    Known,
    /// The log holds this delivery with another content; the first one stays.
    Conflict,
}

/// Appends to one log: rows are gathered, then committed together.
///
/// After an error the writer is of no use: drop it and begin anew, which cuts off what was torn.
pub struct LogWriter {
    log: DeliveryLog,
    file: BufWriter<File>,
    known: FxHashMap<u128, u64>,
    notes: BTreeMap<String, Vec<u8>>,
    /// Rows that the index beside the log covers.
    indexed_rows: u64,
    committed_rows: u64,
    start: u64,
    rows: u64,
    bytes: u64,
    checksum: Xxh3,
    line: Vec<u8>,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter")
            .field("path", &self.log.path)
            .field("uncommitted_rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Adds a row unless the log holds its delivery.
    ///
    /// # Errors
    /// As the system says.
    pub fn append(&mut self, event: &DeliveryEvent) -> Result<Appended, LogError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event).map_err(|error| self.log.io(error.into()))?;
        let content = xxh3_64(&self.line);
        let key = key_of(&event.source, &event.id);
        if let Some(&held) = self.known.get(&key) {
            return Ok(if held == content {
                Appended::Known
            } else {
                Appended::Conflict
            });
        }
        self.known.insert(key, content);
        self.line.push(b'\n');
        self.checksum.update(&self.line);
        self.file
            .write_all(&self.line)
            .map_err(|error| self.log.io(error))?;
        self.rows += 1;
        self.bytes += self.line.len() as u64;
        Ok(Appended::New)
    }

    /// Makes all rows added since the last commit durable at once; returns how many.
    ///
    /// # Errors
    /// As the system says; the rows are then not in the log.
    pub fn commit(&mut self) -> Result<u64, LogError> {
        let rows = self.rows;
        if rows == 0 {
            return Ok(0);
        }
        let mark = CommitMark {
            rows,
            bytes: self.bytes,
            xxh3: format!("{:016x}", self.checksum.digest()),
        };
        let mut line = serde_json::to_vec(&CommitLine { commit: mark })
            .map_err(|error| self.log.io(error.into()))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .and_then(|()| self.file.flush())
            .and_then(|()| self.file.get_ref().sync_data())
            .map_err(|error| self.log.io(error))?;
        self.start += self.bytes + line.len() as u64;
        self.committed_rows += rows;
        self.rows = 0;
        self.bytes = 0;
        self.checksum = Xxh3::new();
        Ok(rows)
    }

    /// What was noted under this name when the index was written; rows after that were handed to `each`.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<&[u8]> {
        self.notes.get(name).map(Vec::as_slice)
    }

    /// Writes the index anew, with a note, if enough has been added to make that worth while.
    ///
    /// # Errors
    /// As the system says; the log is whole without an index.
    pub fn keep_index(&mut self, note: &Note<'_>) -> io::Result<()> {
        if self.committed_rows - self.indexed_rows < ROWS_WORTH_AN_INDEX {
            return Ok(());
        }
        let extent = (self.start, self.committed_rows);
        let path = self.log.index_path();
        let saved = index::save(
            &path,
            self.file.get_mut(),
            extent,
            &self.known,
            (&self.notes, note),
        );
        self.file.get_mut().seek(SeekFrom::Start(self.start))?;
        saved?;
        self.indexed_rows = self.committed_rows;
        Ok(())
    }

    /// Leaves the log as it was at the last commit.
    ///
    /// # Errors
    /// As the system says; what was torn is then cut off by the next writer.
    pub fn abandon(self) -> Result<(), LogError> {
        let Self {
            log, file, start, ..
        } = self;
        let (file, _unwritten) = file.into_parts();
        file.set_len(start).map_err(|error| log.io(error))
    }
}

fn key_of(source: &str, id: &str) -> u128 {
    // Sources hold no NUL (an event text with one would still only collide with itself split elsewhere).
    let mut key = Vec::with_capacity(source.len() + id.len() + 1);
    key.extend_from_slice(source.as_bytes());
    key.push(0);
    key.extend_from_slice(id.as_bytes());
    xxh3_128(&key)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
