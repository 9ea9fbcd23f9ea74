//! Merging and unmerging units: what is asked by name, decided on aliases, and made durable.
//!
//! Names first: a unit that was never seen gets its place in the dictionary, in one manifest
//! record. Then one entry of the log of aliases; once that is synced the change is seen by every
//! question that begins. A crash in between leaves a place that nothing uses.

use super::super::ColumnError;
use super::super::manifest::{LakeState, Record};
use super::super::store::ColumnStore;
use super::{AliasRefusal, Aliases, Change};
use std::sync::Arc;

/// What became of a request to merge or unmerge units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AliasReport {
    /// Units that are of another person now.
    pub changed: u64,
    /// Units that were so already.
    pub unchanged: u64,
    /// What cannot be, by position in the request.
    pub refused: Vec<(usize, AliasRefusal)>,
    /// Changes of aliases there have been in all.
    pub version: u64,
    /// Every event below this ingest sequence was in files by then.
    pub sequence: u64,
}

impl ColumnStore {
    /// Merges units into others, each pair by itself: `(unit, into)`. Durable on return.
    pub(crate) fn merge_units(
        &self,
        pairs: &[(Box<str>, Box<str>)],
    ) -> Result<AliasReport, ColumnError> {
        let _turn = self.flushing();
        let state = self.peek();
        let mut aliases = Aliases::clone(&state.aliases);
        let (mut changes, mut report) = (Vec::new(), AliasReport::default());
        for (index, (unit, into)) in pairs.iter().enumerate() {
            let mut units = self.units();
            let decided = match unit == into {
                true => Err(AliasRefusal::SameUnit),
                false => aliases.may_merge(units.find(unit), units.find(into)),
            };
            match decided {
                Err(refusal) => report.refused.push((index, refusal)),
                Ok(false) => report.unchanged += 1,
                Ok(true) => {
                    let change = Change::Merged(units.place(unit), units.place(into));
                    aliases.apply(&change);
                    changes.push(change);
                }
            }
        }
        self.commit_aliases(&state, aliases, &changes, report)
    }

    /// Takes merges back: each unit is a person again, with what was merged into it.
    pub(crate) fn unmerge_units(&self, units: &[Box<str>]) -> Result<AliasReport, ColumnError> {
        let _turn = self.flushing();
        let state = self.peek();
        let mut aliases = Aliases::clone(&state.aliases);
        let (mut changes, mut report) = (Vec::new(), AliasReport::default());
        for unit in units {
            let known = self.units().find(unit);
            match known.filter(|place| aliases.is_merged(*place)) {
                None => report.unchanged += 1,
                Some(place) => {
                    let change = Change::Unmerged(place);
                    aliases.apply(&change);
                    changes.push(change);
                }
            }
        }
        self.commit_aliases(&state, aliases, &changes, report)
    }

    fn commit_aliases(
        &self,
        state: &LakeState,
        aliases: Aliases,
        changes: &[Change],
        report: AliasReport,
    ) -> Result<AliasReport, ColumnError> {
        let before = state.aliases.version();
        if !changes.is_empty() {
            if let Err(error) = self.commit_names(state) {
                self.units().roll_back();
                return Err(error);
            }
            let mut log = self.alias_log();
            log.append(before, state.flushed_sequence, changes)?;
            self.publish_aliases(Arc::new(aliases));
        }
        let changed = changes.len() as u64;
        Ok(AliasReport {
            changed,
            version: before + changed,
            sequence: state.flushed_sequence,
            ..report
        })
    }

    fn commit_names(&self, state: &LakeState) -> Result<(), ColumnError> {
        let units = self.write_units()?;
        if units.is_some() {
            self.sync_dirs()?;
            self.commit(Record::Flushed {
                through_sequence: state.flushed_sequence,
                files: Vec::new(),
                units,
                next_file: self.next_file(),
            })?;
        }
        self.units().commit();
        Ok(())
    }
}
