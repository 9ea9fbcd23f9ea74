//! Parquet over [`LakeIo`]: files written aside with a running checksum, files read in ranges.

use super::ColumnError;
use super::manifest::RowGroupMeta;
use super::schema::writer_properties;
use crate::io::{LakeFile, LakeIo};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::{Buf, Bytes};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const BUFFER_BYTES: usize = 1 << 20;

/// Writes through a buffer and remembers the checksum of everything written.
struct Sink {
    file: Arc<dyn LakeFile>,
    offset: u64,
    buffer: Vec<u8>,
    hash: Xxh3,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.hash.update(&self.buffer);
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// A Parquet file being written aside; it appears under its name only when finished.
pub(super) struct FileWriter<'i> {
    io: &'i dyn LakeIo,
    dir: PathBuf,
    name: String,
    aside: PathBuf,
    writer: ArrowWriter<Sink>,
}

/// What a finished file is.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) checksum: u64,
}

impl<'i> FileWriter<'i> {
    pub(super) fn create(
        io: &'i dyn LakeIo,
        dir: &Path,
        name: &str,
        schema: Arc<Schema>,
    ) -> Result<Self, ColumnError> {
        let aside = dir.join(format!("{name}.new"));
        let file = io.create(&aside).map_err(|e| ColumnError::io(&aside, e))?;
        let sink = Sink {
            file,
            offset: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            hash: Xxh3::new(),
        };
        let writer = ArrowWriter::try_new(sink, schema, Some(writer_properties()))
            .map_err(|e| ColumnError::parquet(&aside, &e))?;
        Ok(Self {
            io,
            dir: dir.to_owned(),
            name: name.to_owned(),
            aside,
            writer,
        })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ColumnError> {
        let written = self.writer.write(batch);
        written.map_err(|e| ColumnError::parquet(&self.aside, &e))
    }

    pub(super) fn end_row_group(&mut self) -> Result<(), ColumnError> {
        let flushed = self.writer.flush();
        flushed.map_err(|e| ColumnError::parquet(&self.aside, &e))
    }

    /// Completes, syncs and names the file. The caller syncs the directory.
    pub(super) fn finish(mut self) -> Result<Finished, ColumnError> {
        let finished = self.writer.finish();
        finished.map_err(|e| ColumnError::parquet(&self.aside, &e))?;
        let sink = self.writer.inner_mut();
        let path = self.dir.join(&self.name);
        sink.flush()
            .and_then(|()| sink.file.sync_data())
            .and_then(|()| self.io.rename(&self.aside, &path))
            .map_err(|e| ColumnError::io(&path, e))?;
        Ok(Finished {
            name: self.name,
            bytes: sink.offset,
            checksum: sink.hash.digest(),
        })
    }
}

/// A file as Parquet's reader wants it.
#[derive(Debug, Clone)]
struct Source {
    file: Arc<dyn LakeFile>,
    bytes: u64,
}

impl Source {
    fn open(io: &dyn LakeIo, path: &Path) -> Result<Self, ColumnError> {
        let file = io.open(path).map_err(|e| ColumnError::io(path, e))?;
        let bytes = file.byte_len().map_err(|e| ColumnError::io(path, e))?;
        Ok(Self { file, bytes })
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Source {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let length = self.bytes.saturating_sub(start).min(64 << 10);
        let length = usize::try_from(length).unwrap_or(0);
        Ok(self.get_bytes(start, length)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut buffer = vec![0; length];
        let read = self.file.read_exact_at(&mut buffer, start);
        read.map_err(|e| ParquetError::External(Box::new(e)))?;
        Ok(Bytes::from(buffer))
    }
}

/// The footer of a Parquet file: where its row groups and columns lie. Reading it costs as much as
/// decoding a thousand rows, so whoever reads a file in parts keeps it.
#[derive(Debug, Clone)]
pub(super) struct Footer(ArrowReaderMetadata);

impl Footer {
    /// Reads the footer, of a file that is to be read as a schema of equal meaning as its own.
    pub(super) fn read(
        io: &dyn LakeIo,
        path: &Path,
        schema: &dyn Fn(&SchemaRef) -> SchemaRef,
    ) -> Result<Self, ColumnError> {
        let source = Source::open(io, path)?;
        let read = || {
            let own = ArrowReaderMetadata::load(&source, ArrowReaderOptions::new())?;
            let options = ArrowReaderOptions::new().with_schema(schema(own.schema()));
            ArrowReaderMetadata::try_new(Arc::clone(own.metadata()), options)
        };
        guarded(path, read).map(Self)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.0.metadata().memory_size()
    }

    /// Whether a column has no value in some row groups, or in any.
    pub(super) fn is_all_null(&self, groups: Option<&[usize]>, column: usize) -> bool {
        let all = self.0.metadata().row_groups();
        let is_null = |group: &RowGroupMetaData| {
            let chunk = group.columns().get(column);
            let nulls = chunk.and_then(|chunk| chunk.statistics()?.null_count_opt());
            nulls.is_some() && nulls == u64::try_from(group.num_rows()).ok()
        };
        match groups {
            Some(groups) => groups
                .iter()
                .all(|group| all.get(*group).is_some_and(is_null)),
            None => all.iter().all(is_null),
        }
    }
}

/// Calls into the Parquet library, which panics over some files that are damaged.
fn guarded<T, E: std::fmt::Display>(
    path: &Path,
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, ColumnError> {
    // Whatever it was in the middle of is dropped with the error.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|e| ColumnError::parquet(path, &e)),
        Err(_) => Err(ColumnError::damaged(path, "its content cannot be decoded")),
    }
}

/// What of a Parquet file is read.
#[derive(Debug, Default)]
pub(super) struct Wanted<'w> {
    /// Row groups; all if not said.
    pub(super) groups: Option<Vec<usize>>,
    /// Columns; all if not said.
    pub(super) columns: Option<&'w [usize]>,
    /// The footer, if it is known, with the schema to read as.
    pub(super) footer: Option<Footer>,
    /// Rows in a batch.
    pub(super) batch_rows: Option<usize>,
}

/// The batches of a Parquet file, in order.
pub(super) struct Batches {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
}

impl Batches {
    pub(super) fn open(
        io: &dyn LakeIo,
        path: &Path,
        wanted: Wanted<'_>,
    ) -> Result<Self, ColumnError> {
        let source = Source::open(io, path)?;
        let builder = match wanted.footer {
            Some(Footer(metadata)) => {
                ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata)
            }
            None => guarded(path, || ParquetRecordBatchReaderBuilder::try_new(source))?,
        };
        let mut builder = builder.with_batch_size(wanted.batch_rows.unwrap_or(1 << 16));
        if let Some(columns) = wanted.columns {
            let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        if let Some(groups) = wanted.groups {
            let known = builder.metadata().num_row_groups();
            if groups.iter().any(|group| *group >= known) {
                return Err(ColumnError::damaged(path, "a row group is missing"));
            }
            builder = builder.with_row_groups(groups);
        }
        let reader = guarded(path, || builder.build())?;
        Ok(Self {
            path: path.to_owned(),
            reader,
        })
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ColumnError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (path, reader) = (&self.path, &mut self.reader);
        guarded(path, || reader.next().transpose()).transpose()
    }
}

/// Reads some row groups and columns of a Parquet file. `each` sees the batches in order.
pub(super) fn read_batches(
    io: &dyn LakeIo,
    path: &Path,
    wanted: Wanted<'_>,
    each: &mut dyn FnMut(RecordBatch) -> Result<(), ColumnError>,
) -> Result<(), ColumnError> {
    for batch in Batches::open(io, path, wanted)? {
        each(batch?)?;
    }
    Ok(())
}

/// Length and checksum of a file as it is now.
pub(super) fn checksum_of(io: &dyn LakeIo, path: &Path) -> io::Result<(u64, u64)> {
    let file = io.open(path)?;
    let bytes = file.byte_len()?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let left = usize::try_from(bytes - offset).unwrap_or(BUFFER_BYTES);
        let Some(view) = buffer.get_mut(..left.min(BUFFER_BYTES)) else {
            break;
        };
        file.read_exact_at(view, offset)?;
        hash.update(view);
        offset += view.len() as u64;
    }
    Ok((bytes, hash.digest()))
}

/// Row groups that hold rows of a bucket.
pub(super) fn groups_of(groups: &[RowGroupMeta], bucket: u16) -> Vec<usize> {
    let overlapping = groups
        .iter()
        .enumerate()
        .filter(|(_, group)| (group.first_bucket..=group.last_bucket).contains(&bucket));
    overlapping.map(|(index, _)| index).collect()
}
