//! Erasure of a unit: invisible at once, rewritten away, and proved by a rescan.
//!
//! One manifest record hides the unit, and every unit of its person, from every question and notes that it is to be rewritten
//! away. Then the log's segment is sealed, what it holds is flushed, the files that hold rows of
//! the unit and the dictionary are rewritten without it, and the log gives its segments up
//! without keeping their bytes for reuse. Only when a rescan finds nothing is the erasure noted as
//! complete. Whatever fails on the way, the unit stays hidden and the note stays, so that the next
//! housekeeping goes on from there. A receipt names the unit by bucket and ordinal only: it proves
//! the erasure without undoing it.

use super::ColumnError;
use super::file::{Wanted, groups_of, read_batches};
use super::manifest::{FileMeta, Record};
use super::schema::column;
use super::store::ColumnStore;
use super::units::read_entries;
use crate::log::EventLog;
use arrow::array::AsArray;
use arrow::datatypes::{UInt16Type, UInt32Type};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A unit's place: bucket, and ordinal in the bucket.
pub(crate) type Place = (u16, u32);

/// A unit that no question sees any more, with every unit of its person.
#[derive(Debug, Clone)]
pub(crate) struct Hidden {
    place: Place,
    person: Vec<Place>,
    effective_sequence: u64,
}

/// A unit that was erased, which has no name any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ErasedUnit {
    /// Its bucket.
    pub bucket: u16,
    /// Its ordinal in the bucket, which is never used again.
    pub unit: u32,
}

/// Proof of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErasureReceipt {
    /// The unit's bucket.
    pub bucket: u16,
    /// The unit's ordinal in the bucket, which is never used again.
    pub unit: u32,
    /// Every unit that was erased: those merged with it are the same person.
    pub units: Vec<ErasedUnit>,
    /// Rows of these units that were rewritten away.
    pub rows_erased: u64,
    /// Files rewritten.
    pub files_rewritten: usize,
    /// The first ingest sequence that may hold events of the same name again.
    pub effective_sequence: u64,
    /// The first sequence still in the log, at least `effective_sequence`: no earlier event is
    /// in it any more.
    pub log_first_sequence: u64,
    /// Rows of these units that a rescan of every file still found: zero.
    pub rows_found_by_rescan: u64,
    /// Files that may hold rows of these units and could not be rewritten, because they are
    /// damaged and set apart. They are in no answer; one that is taken back is rewritten then.
    pub files_set_apart: Vec<String>,
}

/// What rewriting did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rewritten {
    units: BTreeSet<Place>,
    rows: BTreeMap<Place, u64>,
    files: usize,
}

impl ColumnStore {
    /// Hides a unit and all units of its person from every question, durably; `None` if the lake has never seen it. Everything
    /// acknowledged before must have been flushed.
    pub(crate) fn hide(&self, unit: &str) -> Result<Option<Hidden>, ColumnError> {
        let _turn = self.flushing();
        let effective_sequence = self.peek().flushed_sequence;
        let Some(place) = self.units().find(unit) else {
            let leaving = self.units().leaving(unit);
            return Ok(leaving.map(|place| Hidden {
                place,
                person: vec![place],
                effective_sequence,
            }));
        };
        let person = self.peek().aliases.person(place);
        self.commit(match person.as_slice() {
            [(bucket, unit)] => Record::Erased {
                bucket: *bucket,
                unit: *unit,
            },
            person => Record::ErasedTogether {
                units: person.to_vec(),
            },
        })?;
        self.units().forget(&person);
        Ok(Some(Hidden {
            place,
            person,
            effective_sequence,
        }))
    }

    /// The names of all units of a unit's person, its own first; of a unit that is not known,
    /// its own alone.
    pub(crate) fn person_of(&self, unit: &str) -> Vec<Box<str>> {
        let mut names: Vec<Box<str>> = vec![unit.into()];
        let Some(place) = self.units().find(unit) else {
            return names;
        };
        let others = self.peek().aliases.person(place);
        for (bucket, ordinal) in others.into_iter().filter(|other| *other != place) {
            let of_bucket = self.units().names(bucket);
            let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
            names.extend(of_bucket.into_iter().nth(at).flatten());
        }
        names
    }

    /// Hidden units whose rows or names may still be on disk.
    #[must_use]
    pub fn pending_erasures(&self) -> usize {
        self.peek().erasing.len()
    }

    /// Rewrites files and dictionary without the hidden units.
    pub(crate) fn rewrite_erased(&self) -> Result<Rewritten, ColumnError> {
        let turn = self.rewriting();
        let pending = self.peek().erasing.clone();
        let mut found = Rewritten::default();
        let mut dirty = BTreeSet::new();
        for file in self.peek().files.values() {
            if self.count_rows(file, &pending, &mut found.rows)? {
                dirty.insert(file.name.clone());
            }
        }
        let report = self.rewrite_days(&turn, &|_, files| {
            let dirty = files.iter().filter(|file| dirty.contains(&file.name));
            dirty.map(|file| vec![file.clone()]).collect()
        })?;
        found.files = report.files;
        found.units.clone_from(&pending);
        for file in &self.peek().units {
            if self.names_any(&file.name, &pending)? {
                self.replace_units(std::slice::from_ref(file))?;
            }
        }
        Ok(found)
    }

    /// Notes that nothing is left of the hidden units if a rescan confirms it and the log holds
    /// nothing below `sealed` any more; else they stay pending. The receipt is for `hidden`.
    pub(crate) fn complete_erasures(
        &self,
        log: &EventLog,
        rewritten: &Rewritten,
        sealed: u64,
        hidden: Option<Hidden>,
    ) -> Result<Option<ErasureReceipt>, ColumnError> {
        let state = self.state();
        let mut left = BTreeMap::new();
        for file in state.files.values() {
            self.count_rows(file, &state.erasing, &mut left)?;
        }
        let log_first_sequence = log.first_sequence()?;
        let rows_left: u64 = left.values().sum();
        if rows_left > 0 || log_first_sequence < sealed {
            return Ok(None);
        }
        // A unit hidden while the files were rewritten may have rows in none of them, but its name
        // may stand in the dictionary; it is the next round's.
        let units: Vec<Place> = rewritten.units.iter().copied().collect();
        if !units.is_empty() {
            self.commit(Record::ErasuresCompleted {
                units: units.clone(),
            })?;
            self.units().completed(&units);
        }
        Ok(hidden.map(|hidden| ErasureReceipt {
            bucket: hidden.place.0,
            unit: hidden.place.1,
            units: hidden
                .person
                .iter()
                .map(|(bucket, unit)| ErasedUnit {
                    bucket: *bucket,
                    unit: *unit,
                })
                .collect(),
            rows_erased: hidden
                .person
                .iter()
                .filter_map(|place| rewritten.rows.get(place))
                .sum(),
            files_rewritten: rewritten.files,
            effective_sequence: hidden.effective_sequence,
            log_first_sequence,
            rows_found_by_rescan: rows_left,
            files_set_apart: state.set_apart_of(&hidden.person),
        }))
    }

    /// Counts the rows of some units in a file; says whether there are any.
    fn count_rows(
        &self,
        file: &FileMeta,
        units: &BTreeSet<Place>,
        rows: &mut BTreeMap<Place, u64>,
    ) -> Result<bool, ColumnError> {
        let mut groups: Vec<usize> = units
            .iter()
            .flat_map(|(bucket, _)| groups_of(&file.groups, *bucket))
            .collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() {
            return Ok(false);
        }
        let path = self.events_dir.join(&file.name);
        let columns = [column::BUCKET, column::UNIT];
        let mut has_any = false;
        read_batches(
            self.io.as_ref(),
            &path,
            Wanted {
                groups: Some(groups),
                columns: Some(&columns),
                ..Wanted::default()
            },
            &mut |batch| {
                let wrong = || ColumnError::damaged(&path, "not an event file");
                let mut keys = batch.columns().iter();
                let buckets = keys.next().and_then(|c| c.as_primitive_opt::<UInt16Type>());
                let ordinals = keys.next().and_then(|c| c.as_primitive_opt::<UInt32Type>());
                let (buckets, ordinals) = buckets.zip(ordinals).ok_or_else(wrong)?;
                for (bucket, unit) in buckets.values().iter().zip(ordinals.values()) {
                    let place = (*bucket, *unit);
                    if units.contains(&place) {
                        *rows.entry(place).or_insert(0) += 1;
                        has_any = true;
                    }
                }
                Ok(())
            },
        )?;
        Ok(has_any)
    }

    fn names_any(&self, name: &str, units: &BTreeSet<Place>) -> Result<bool, ColumnError> {
        let mut is_named = false;
        read_entries(self.io.as_ref(), &self.units_dir.join(name), &mut |entry| {
            is_named |= entry.unit_id.is_some() && units.contains(&(entry.bucket, entry.unit));
        })?;
        Ok(is_named)
    }
}
