//! Files as rows: CSV, Parquet and NDJSON, one row at a time.
//!
//! A file is opened twice or three times, first to learn its columns, then for each pass over its
//! rows; memory is one record or one batch of records, whatever the file's size.

mod csv;
mod ndjson;
mod parquet;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};

use super::binding::Columns;
use super::cell::Cell;
use super::row::CellRefusal;

/// One row, read or refused.
pub(super) struct Row {
    /// Counted from 1, without a header.
    pub(super) number: u64,
    /// The line it begins at, in files that have lines.
    pub(super) line: Option<u64>,
    /// The cells of the columns asked for, in their order.
    pub(super) cells: Result<Vec<Cell>, CellRefusal>,
}

/// A pass over the rows of a file. The inner error ends it: what follows cannot be told apart.
pub(super) trait Rows {
    /// The next row; `None` at the end.
    fn next_row(&mut self) -> Result<Option<Row>>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Ndjson,
    Parquet,
}

/// A file to import.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    format: Format,
    delimiter: u8,
    /// Bytes, or for Parquet rows.
    pub(super) size: u64,
    /// How much of `size` the current pass has read.
    pub(super) done: Arc<AtomicU64>,
}

/// Counts what passes through.
struct Counted {
    file: File,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Source {
    /// Looks at a file. The format is that of its name (`.csv`, `.tsv`, `.parquet`, `.ndjson`,
    /// `.jsonl`, each but Parquet also with `.gz`), or else of its first byte.
    pub(super) fn open(path: &Path, delimiter: Option<u8>) -> Result<Self> {
        let about =
            std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            about.is_file(),
            "{} is not a file; an import reads it more than once, so save a stream to a file first",
            path.display()
        );
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        let bare = name.strip_suffix(".gz").unwrap_or(&name);
        let extension = bare.rsplit_once('.').map_or("", |(_, extension)| extension);
        let format = match extension {
            "csv" | "tsv" | "txt" => Format::Csv,
            "ndjson" | "jsonl" | "json" => Format::Ndjson,
            "parquet" => Format::Parquet,
            _ => sniff(path)?,
        };
        let tab = if extension == "tsv" { b'\t' } else { b',' };
        let mut source = Self {
            path: path.to_owned(),
            format,
            delimiter: delimiter.unwrap_or(tab),
            size: about.len(),
            done: Arc::default(),
        };
        if format == Format::Parquet {
            source.size = parquet::row_count(&source.path)?;
        }
        Ok(source)
    }

    /// The columns of the file.
    pub(super) fn columns(&self) -> Result<Columns> {
        let columns = match self.format {
            Format::Csv => csv::columns(self.plain()?, self.delimiter),
            Format::Ndjson => ndjson::columns(self.plain()?),
            Format::Parquet => parquet::columns(&self.path),
        };
        columns.with_context(|| self.name())
    }

    /// Begins a pass over the rows, with the cells of these columns.
    pub(super) fn rows(&self, needed: &[String]) -> Result<Box<dyn Rows>> {
        self.done.store(0, Ordering::Relaxed);
        Ok(match self.format {
            Format::Csv => Box::new(csv::CsvRows::new(self.plain()?, self.delimiter, needed)?),
            Format::Ndjson => Box::new(ndjson::NdjsonRows::new(self.plain()?, needed)),
            Format::Parquet => {
                let done = Arc::clone(&self.done);
                Box::new(parquet::ParquetRows::new(&self.path, needed, done)?)
            }
        })
    }

    fn plain(&self) -> Result<Box<dyn Read>> {
        let counted = Counted {
            file: File::open(&self.path).with_context(|| self.name())?,
            done: Arc::clone(&self.done),
        };
        crate::table_file::plain(counted).with_context(|| self.name())
    }

    fn name(&self) -> String {
        format!("reading {}", self.path.display())
    }
}

fn sniff(path: &Path) -> Result<Format> {
    let mut head = Vec::new();
    crate::table_file::open(path)?
        .take(4)
        .read_to_end(&mut head)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(match head.as_slice() {
        b"PAR1" => Format::Parquet,
        [b'{', ..] => Format::Ndjson,
        _ => Format::Csv,
    })
}
