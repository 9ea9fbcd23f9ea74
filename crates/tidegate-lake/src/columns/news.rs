//! Rows at or above an ingest sequence: what is new to whoever has seen everything below.
//!
//! Only files that hold such sequences are read. Copies within what is new are dropped; a copy of
//! something older is not recognised here, and is for the reader to tell by its time.

use super::ColumnError;
use super::manifest::LakeState;
use super::rows::{Part, Rows, Scan};
use super::store::ColumnStore;
use std::collections::BTreeMap;

impl ColumnStore {
    /// The new rows of some days, by bucket, in time order within each day.
    pub(crate) fn rows_since(
        &self,
        state: &LakeState,
        days: &[i64],
        from_sequence: u64,
        with_properties: bool,
    ) -> Result<BTreeMap<u16, Vec<Rows>>, ColumnError> {
        let mut found: BTreeMap<u16, Vec<Rows>> = BTreeMap::new();
        for day in days {
            let files = state.files_of(*day);
            let newer = files
                .into_iter()
                .filter(|file| file.end_sequence > from_sequence);
            let scan = self.scan(state, with_properties);
            let mut parts: Vec<Part> = Vec::new();
            for file in newer {
                parts.push(scan.news(file, from_sequence, self.texts())?);
            }
            for bucket in 0..state.buckets {
                let rows = Scan::merged(&parts, bucket);
                if !rows.is_empty() {
                    found.entry(bucket).or_default().push(rows);
                }
            }
        }
        Ok(found)
    }
}
