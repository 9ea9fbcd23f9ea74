//! The columnar files: the log's events as Parquet, open to any engine.
//!
//! One file per UTC day and flush, compacted to one file per day. Inside, rows are ordered by
//! (range of unit buckets, time, event id) and a range is a row group, so that a question is
//! answered bucket by bucket, in time order, without a sort: a unit's whole history lies in one
//! bucket, and its state fits a cache. `docs/lake.md` documents the columns.
//!
//! Commit protocol: data files written aside, synced, renamed; the directory synced; one manifest
//! record appended and synced; only then are the files part of the lake, and only then may the
//! log be trimmed. A crash leaves the old list or the new one; what no manifest record names is
//! deleted at the next start.
//!
//! Events count once: copies of an event id that the door did not recognise fall into the same
//! day and bucket, where reading drops all but one and compaction removes them for good.

mod aliases;
mod block;
mod compaction;
mod damage;
mod day_writer;
mod decode;
mod dictionary;
mod erasure;
mod file;
mod flush;
mod hot;
mod manifest;
mod merge;
mod news;
#[cfg(test)]
mod old_files;
mod ranges;
mod records;
mod replay;
mod rows;
mod scan;
mod schema;
mod store;
mod units;
mod verify;

pub use aliases::{AliasRefusal, AliasReport, Aliases};
pub(crate) use block::{Block, Column, Sort};
pub use compaction::CompactionReport;
pub use erasure::{ErasedUnit, ErasureReceipt};
pub(crate) use erasure::{Hidden, Place};
pub use flush::FlushReport;
pub use hot::HotMemory;
pub use manifest::{DamagedFile, FileMeta, LakeState, RowGroupMeta};
pub(crate) use news::DayBlocks;
pub use rows::{Rows, Texts};
pub(crate) use scan::NewRows;
pub use store::{ColumnOptions, ColumnStore};
pub use verify::VerifyReport;
pub(crate) use verify::error_text;

use crate::codec::CodecError;
use crate::log::LogError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the columnar files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ColumnError {
    /// The disk failed.
    #[error("access {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Parquet or Arrow refused.
    #[error("read or write {path} as Parquet: {detail}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the library said.
        detail: String,
    },
    /// Stored data contradicts itself.
    #[error("read {path}: {detail}; restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A property or flag text could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl ColumnError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn parquet(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self::Parquet {
            path: path.to_owned(),
            detail: error.to_string(),
        }
    }

    pub(crate) fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            detail: detail.into(),
        }
    }
}
