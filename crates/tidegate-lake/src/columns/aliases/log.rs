//! The log of aliases: every merge and unmerge there ever was, in order.
//!
//! An entry is one request's changes with the version before them and the ingest sequence at that
//! time, so the log says who was whom at any moment. It holds places and no names: destroying a
//! name in the dictionary makes a person's entries nobody's.

use super::super::ColumnError;
use super::super::erasure::Place;
use super::super::records::{self, RecordFile, frame};
use super::Aliases;
use crate::io::LakeIo;
use serde::{Deserialize, Serialize};
use std::path::Path;

const NAME: &str = "aliases";
const FORMAT: u32 = 1;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Change {
    /// A unit became part of another's person.
    Merged(Place, Place),
    /// A unit became a person again, with what was merged into it.
    Unmerged(Place),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Record {
    Format(u32),
    Entry {
        /// Changes before this entry.
        version: u64,
        /// The ingest sequence that was flushed by then.
        sequence: u64,
        changes: Vec<Change>,
    },
}

/// The open log.
#[derive(Debug)]
pub(in super::super) struct AliasLog {
    records: RecordFile,
}

/// What a log's records add up to, and the first thing that is wrong with them.
#[derive(Debug, Default)]
struct Sum {
    aliases: Aliases,
    problem: Option<String>,
}

impl Sum {
    fn add(&mut self, record: Record) {
        let problem = match record {
            Record::Format(FORMAT) => None,
            Record::Format(other) => Some(format!("format {other} is not {FORMAT}")),
            Record::Entry { version, .. } if version != self.aliases.version() => {
                let expected = self.aliases.version();
                Some(format!(
                    "an entry follows version {version} instead of {expected}"
                ))
            }
            Record::Entry { changes, .. } => {
                let impossible = changes.iter().find(|change| !self.aliases.apply(change));
                impossible.map(|change| format!("{change:?} was not possible"))
            }
        };
        self.problem = self.problem.take().or(problem);
    }
}

fn read(io: &dyn LakeIo, path: &Path) -> Result<Option<(Aliases, Vec<u8>)>, ColumnError> {
    let mut sum = Sum::default();
    let content = records::read(io, path, &mut |record| sum.add(record))?;
    match sum.problem {
        Some(problem) => Err(ColumnError::damaged(path, problem)),
        None => Ok(content.map(|content| (sum.aliases, content))),
    }
}

/// Reads the log in a lake's directory again.
///
/// # Errors
/// [`ColumnError`] if it is damaged, or contradicts itself.
pub(in super::super) fn check(io: &dyn LakeIo, dir: &Path) -> Result<Aliases, ColumnError> {
    let found = read(io, &dir.join(NAME))?;
    Ok(found.map(|(aliases, _)| aliases).unwrap_or_default())
}

impl AliasLog {
    /// Opens or makes the log; returns what it says too, persons since erased included.
    pub(in super::super) fn open(
        io: &dyn LakeIo,
        dir: &Path,
    ) -> Result<(Self, Aliases), ColumnError> {
        let path = dir.join(NAME);
        let (aliases, content) = match read(io, &path)? {
            Some((aliases, content)) if !content.is_empty() => (aliases, content),
            _ => {
                let format = frame(&Record::Format(FORMAT));
                let format = format.map_err(|e| ColumnError::io(&path, e))?;
                (Aliases::default(), format)
            }
        };
        let records = RecordFile::create(io, dir, NAME, &content)?;
        Ok((Self { records }, aliases))
    }

    pub(in super::super) fn has_failed(&self) -> bool {
        self.records.has_failed()
    }

    /// Makes changes durable that follow a version.
    pub(in super::super) fn append(
        &mut self,
        version: u64,
        sequence: u64,
        changes: &[Change],
    ) -> Result<(), ColumnError> {
        self.records.append(&Record::Entry {
            version,
            sequence,
            changes: changes.to_vec(),
        })
    }
}
