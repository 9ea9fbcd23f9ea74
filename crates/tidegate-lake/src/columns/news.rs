//! Rows at or above an ingest sequence: what is new to whoever has seen everything below.
//!
//! Only files that hold such sequences are read. Copies within what is new are dropped; a copy of
//! something older is not recognised here, and is for the reader to tell by its time.

use super::ColumnError;
use super::block::Block;
use super::manifest::{FileMeta, LakeState};
use super::scan::NewRows;
use super::store::ColumnStore;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Blocks of a bucket with their days.
pub(crate) type DayBlocks = Vec<(i64, Arc<Block>)>;
/// What is new of each bucket, by day.
pub(crate) type News = BTreeMap<u16, Vec<(i64, NewRows)>>;

impl ColumnStore {
    /// The new rows of some days, by bucket. Putting them in order is left to whoever has the
    /// bucket in hand.
    pub(crate) fn rows_since(
        &self,
        state: &LakeState,
        days: &[(i64, Vec<&FileMeta>)],
        from_sequence: u64,
        with_properties: bool,
    ) -> Result<News, ColumnError> {
        let mut found = News::new();
        let scan = self.scan(state, with_properties);
        for (day, files) in days {
            let newer = files.iter().copied();
            let newer: Vec<&FileMeta> = newer
                .filter(|file| file.end_sequence > from_sequence)
                .collect();
            for (bucket, rows) in scan.news(&newer, from_sequence)? {
                found.entry(bucket).or_default().push((*day, rows));
            }
        }
        Ok(found)
    }
}
