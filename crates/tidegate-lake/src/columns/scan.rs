//! Rows out of files: decoded by row group, held in memory, and put together for a day.

use super::ColumnError;
use super::block::{Block, Packing};
use super::decode::Decoder;
use super::file::{Footer, Wanted, groups_of, read_batches};
use super::hot::{DayKey, HotTier, Left, Made, Moment, Part, PartKey, Taken, Unmerged};
use super::manifest::{FileMeta, LakeState};
use super::rows::{Rows, Texts};
use super::schema::{column, reading_schema};
use crate::io::LakeIo;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What a scan needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    pub(super) io: &'a dyn LakeIo,
    pub(super) dir: &'a Path,
    pub(super) state: &'a LakeState,
    pub(super) with_properties: bool,
    pub(super) hot: &'a HotTier,
    pub(super) lake: u64,
    pub(super) texts: &'a Mutex<Texts>,
}

/// Rows decoded at a time: what is made of them on the way stays near the processor.
const BATCH_ROWS: usize = 8192;

/// What of a file is decoded.
#[derive(Debug, Default)]
struct Stretch {
    groups: Option<Vec<usize>>,
    with_ids: bool,
    from_sequence: Option<u64>,
}

/// Rows of a bucket and day out of several files, one file after the other.
#[derive(Debug, Default)]
pub(crate) struct NewRows(Rows);

impl NewRows {
    /// The rows in order, each event once.
    pub(crate) fn in_order(self) -> Block {
        let Self(mut rows) = self;
        rows.merge(0);
        rows.ids = Vec::new();
        Block::pack(rows)
    }
}

impl Scan<'_> {
    /// The rows of a bucket in the files of one day, in order.
    pub(super) fn day(
        &self,
        day: i64,
        files: &[&FileMeta],
        bucket: u16,
    ) -> Result<Arc<Block>, ColumnError> {
        let single = match files {
            [file] if file.is_compacted => Some(*file),
            _ => None,
        };
        if let Some(file) = single
            && !self.has_erased(bucket)
        {
            return self.whole(file, bucket);
        }
        let key = DayKey {
            lake: self.lake,
            day,
            bucket,
            with_properties: self.with_properties,
        };
        let rows = files.iter().map(|file| file.rows).sum();
        if single.is_none() && !self.hot.fits_day(rows) {
            self.hot.drop_day(key);
            return self.merged(files, bucket);
        }
        let slot = self.hot.day(key);
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Moment::of(self.state);
        if let Some(made) = held.as_ref()
            && made.at == now
        {
            return Ok(Arc::clone(&made.block));
        }
        let base = held.take_if(|made| made.at.only_grew_until(&now) && made.block.has_ids());
        let (block, is_part) = match (single, base) {
            (Some(file), _) => self.without_erased(file, bucket)?,
            (None, Some(base)) => (self.grown(base, files, bucket)?, false),
            (None, None) => (self.merged(files, bucket)?, false),
        };
        // A question about an earlier moment leaves what a later one has made.
        let is_late = held
            .as_ref()
            .is_some_and(|made| made.at.sequence > now.sequence);
        if !is_late {
            // A part as it stands takes no room of its own.
            let bytes = if is_part { 0 } else { block.heap_bytes() };
            *held = Some(Made {
                at: now,
                block: Arc::clone(&block),
            });
            drop(held);
            self.hot.keep_day(key, &slot, bytes);
        }
        Ok(block)
    }

    /// A day with what came since it was made.
    fn grown(
        &self,
        base: Made,
        files: &[&FileMeta],
        bucket: u16,
    ) -> Result<Arc<Block>, ColumnError> {
        let Made { at, mut block } = base;
        let newer = files.iter().filter(|file| file.end_sequence > at.sequence);
        let mut rows = Rows::default();
        for file in newer {
            self.gather(file, bucket, at.sequence, &mut rows)?;
        }
        if !rows.is_empty() {
            // In place, unless a question still reads what was there.
            Arc::make_mut(&mut block).grow(rows);
        }
        Ok(block)
    }

    fn has_erased(&self, bucket: u16) -> bool {
        let places = (bucket, 0)..=(bucket, u32::MAX);
        self.state.erased.range(places).next().is_some()
    }

    fn is_erased(&self, bucket: u16) -> impl Fn(u32) -> bool {
        let has_erased = self.has_erased(bucket);
        move |unit| has_erased && self.state.erased.contains(&(bucket, unit))
    }

    /// A bucket of a file whose rows are in order and each there once.
    fn whole(&self, file: &FileMeta, bucket: u16) -> Result<Arc<Block>, ColumnError> {
        let groups = groups_of(&file.groups, bucket);
        if let [group] = groups.as_slice() {
            let part = self.part(file, *group)?;
            return Ok(part.block(bucket).map(Arc::clone).unwrap_or_default());
        }
        let mut rows = Rows::default();
        for group in groups {
            if let Some(block) = self.part(file, group)?.block(bucket) {
                rows.append(&block.unpack(), |_| false);
            }
        }
        Ok(Arc::new(Block::pack(rows)))
    }

    /// The same without erased units; says whether none was in it.
    fn without_erased(
        &self,
        file: &FileMeta,
        bucket: u16,
    ) -> Result<(Arc<Block>, bool), ColumnError> {
        let block = self.whole(file, bucket)?;
        let is_erased = self.is_erased(bucket);
        if !(0..block.len()).any(|row| is_erased(block.unit(row))) {
            return Ok((block, true));
        }
        let mut rows = Rows::default();
        rows.append(&block.unpack(), is_erased);
        Ok((Arc::new(Block::pack(rows)), false))
    }

    /// The event ids of the rows that [`Self::day`] answers, in the same order.
    pub(super) fn day_ids(
        &self,
        day: i64,
        files: &[&FileMeta],
        bucket: u16,
    ) -> Result<Vec<[u8; 16]>, ColumnError> {
        let block = self.day(day, files, bucket)?;
        match block.has_ids() {
            true => Ok(block.ids().to_vec()),
            false => Ok(self.merged_rows(files, bucket)?.ids),
        }
    }

    /// A bucket of files that overlap, as one run; with its ids, so that it can grow.
    fn merged(&self, files: &[&FileMeta], bucket: u16) -> Result<Arc<Block>, ColumnError> {
        Ok(Arc::new(Block::pack(self.merged_rows(files, bucket)?)))
    }

    fn merged_rows(&self, files: &[&FileMeta], bucket: u16) -> Result<Rows, ColumnError> {
        // The ids of a compacted file differ from each other: the largest such file goes first.
        let mut files = files.to_vec();
        files.sort_by_key(|file| std::cmp::Reverse((file.is_compacted, file.rows)));
        let (mut rows, mut unique) = (Rows::default(), 0);
        for (at, file) in files.into_iter().enumerate() {
            self.gather(file, bucket, 0, &mut rows)?;
            if at == 0 && file.is_compacted {
                unique = rows.len();
            }
        }
        rows.merge(unique);
        Ok(rows)
    }

    /// Appends a file's rows of a bucket at or above a sequence, but for those of erased units.
    fn gather(
        &self,
        file: &FileMeta,
        bucket: u16,
        from_sequence: u64,
        rows: &mut Rows,
    ) -> Result<(), ColumnError> {
        for group in groups_of(&file.groups, bucket) {
            let found = self.unmerged(file, group, bucket, from_sequence)?;
            rows.append(&found, self.is_erased(bucket));
        }
        Ok(())
    }

    /// A row group's rows of a bucket to be merged. Neighbouring buckets share what is decoded.
    fn unmerged(
        &self,
        file: &FileMeta,
        group: usize,
        bucket: u16,
        from_sequence: u64,
    ) -> Result<Rows, ColumnError> {
        let is_all_new = file.first_sequence >= from_sequence;
        let stretch = Stretch {
            groups: Some(vec![group]),
            with_ids: true,
            from_sequence: (!is_all_new).then_some(from_sequence),
        };
        let meta = file.groups.get(group);
        if meta.is_some_and(|meta| meta.first_bucket < meta.last_bucket) {
            let (key, from) = (self.part_key(file, group), stretch.from_sequence);
            let from = from.unwrap_or(0);
            let decode = || Ok::<_, ColumnError>(Unmerged::new(self.decode(file, &stretch)?));
            match self.hot.unmerged(key, from, decode)?.take(bucket) {
                Taken::Rows(rows, Left::Some) => return Ok(*rows),
                Taken::Rows(rows, Left::Nothing) => {
                    self.hot.drop_unmerged(key, from);
                    return Ok(*rows);
                }
                Taken::Gone => {}
            }
        }
        Ok(self
            .decode(file, &stretch)?
            .remove(&bucket)
            .unwrap_or_default())
    }

    /// The rows of some files at or above a sequence by bucket, but for those of erased units.
    pub(super) fn news(
        &self,
        files: &[&FileMeta],
        from_sequence: u64,
    ) -> Result<BTreeMap<u16, NewRows>, ColumnError> {
        let mut by_bucket: BTreeMap<u16, NewRows> = BTreeMap::new();
        for file in files {
            let stretch = Stretch {
                with_ids: true,
                from_sequence: Some(from_sequence),
                ..Stretch::default()
            };
            for (bucket, found) in self.decode(file, &stretch)? {
                if !found.is_empty() {
                    let NewRows(rows) = by_bucket.entry(bucket).or_default();
                    rows.append(&found, self.is_erased(bucket));
                }
            }
        }
        Ok(by_bucket)
    }

    fn part_key(&self, file: &FileMeta, group: usize) -> PartKey {
        PartKey {
            lake: self.lake,
            file: file.checksum,
            group,
            with_properties: self.with_properties,
        }
    }

    fn part(&self, file: &FileMeta, group: usize) -> Result<Arc<Part>, ColumnError> {
        self.hot.part(self.part_key(file, group), || {
            let stretch = Stretch {
                groups: Some(vec![group]),
                ..Stretch::default()
            };
            let packed = match self.with_properties {
                true => {
                    let by_bucket = self.decode(file, &stretch)?.into_iter();
                    by_bucket
                        .map(|(bucket, rows)| (bucket, Block::pack(rows)))
                        .collect()
                }
                false => self.pack(file, &stretch)?,
            };
            let blocks = packed.into_iter();
            Ok(Part {
                blocks: blocks
                    .map(|(bucket, block)| (bucket, Arc::new(block)))
                    .collect(),
            })
        })
    }

    /// Rows by bucket, in the order of the file, without quarantined ones.
    fn decode(
        &self,
        file: &FileMeta,
        stretch: &Stretch,
    ) -> Result<BTreeMap<u16, Rows>, ColumnError> {
        let expected = match stretch.from_sequence {
            None => rows_of_a_bucket(file, stretch.groups.as_deref()),
            Some(_) => 0,
        };
        let mut by_bucket: BTreeMap<u16, Rows> = BTreeMap::new();
        self.each_batch(file, stretch, &mut |decoder| {
            for (bucket, rows) in decoder.buckets() {
                let kept = decoder.kept(rows, stretch.from_sequence)?;
                let into = by_bucket
                    .entry(bucket)
                    .or_insert_with(|| Rows::with_room_for(expected));
                decoder.push(&kept, into)?;
            }
            Ok(())
        })?;
        Ok(by_bucket)
    }

    /// The same packed, without properties and ids.
    fn pack(&self, file: &FileMeta, stretch: &Stretch) -> Result<Vec<(u16, Block)>, ColumnError> {
        let expected = rows_of_a_bucket(file, stretch.groups.as_deref());
        let mut by_bucket: BTreeMap<u16, Packing> = BTreeMap::new();
        self.each_batch(file, stretch, &mut |decoder| {
            let packable = decoder.packable()?;
            for (bucket, rows) in decoder.buckets() {
                let kept = decoder.kept(rows, stretch.from_sequence)?;
                let into = by_bucket
                    .entry(bucket)
                    .or_insert_with(|| Packing::with_room_for(expected));
                into.push(&packable.of(&kept));
            }
            Ok(())
        })?;
        let packed = by_bucket.into_iter();
        Ok(packed
            .map(|(bucket, packing)| (bucket, packing.finish()))
            .collect())
    }

    /// Reads what is wanted of a file.
    fn each_batch(
        &self,
        file: &FileMeta,
        stretch: &Stretch,
        each: &mut dyn FnMut(&Decoder<'_>) -> Result<(), &'static str>,
    ) -> Result<(), ColumnError> {
        let path = self.dir.join(&file.name);
        let footer = self.hot.footer(self.lake, file.checksum, || {
            Footer::read(self.io, &path, &reading_schema)
        })?;
        let groups = stretch.groups.as_deref();
        // A column without any value costs as much to read as a full one.
        let has_any = |column| !footer.is_all_null(groups, column);
        let columns: Vec<usize> = [
            (true, column::BUCKET),
            (true, column::UNIT),
            (true, column::TIME),
            (true, column::KIND),
            (true, column::NAME),
            (has_any(column::VALUE), column::VALUE),
            (has_any(column::VARIANT), column::VARIANT),
            (true, column::QUARANTINED),
            (stretch.with_ids, column::EVENT_ID),
            (
                stretch.with_ids || stretch.from_sequence.is_some(),
                column::SEQUENCE,
            ),
            (
                self.with_properties && has_any(column::PROPERTIES),
                column::PROPERTIES,
            ),
        ]
        .into_iter()
        .filter_map(|(is_read, column)| is_read.then_some(column))
        .collect();
        let wanted = Wanted {
            groups: stretch.groups.clone(),
            columns: Some(&columns),
            footer: Some(footer),
            batch_rows: Some(BATCH_ROWS),
        };
        read_batches(self.io, &path, wanted, &mut |batch| {
            let wrong = |column| ColumnError::damaged(&path, format!("column {column} is wrong"));
            let decoder = Decoder::of(&batch, self.with_properties, self.texts).map_err(wrong)?;
            each(&decoder).map_err(wrong)
        })
    }
}

/// About how many rows each bucket of some row groups has, a little more than that.
fn rows_of_a_bucket(file: &FileMeta, groups: Option<&[usize]>) -> usize {
    let [group] = groups.unwrap_or(&[]) else {
        return 0;
    };
    let expected = file.groups.get(*group).map(|group| {
        let buckets = u64::from(group.last_bucket.saturating_sub(group.first_bucket)) + 1;
        let each = group.rows / buckets;
        each + each / 8
    });
    usize::try_from(expected.unwrap_or(0)).unwrap_or(0)
}
