//! Journeys whose events must share a property's value: a session, an account, anything.
//!
//! Everything that matches is gathered with its value, put into one order as merged units' events
//! are (`persons`), and folded with one state per unit and value, or per value alone. Values go to
//! buckets by their hash, units to those of their persons, so a value that many units share is
//! found whole. Values are told apart by 128-bit hashes. Cost: the matching events, sorted; memory
//! is bounded by rounds as there.

use super::persons::{At, Placed, at, ids_of, in_order, sort, ties};
use super::{QueryError, Run, classify, each_bucket, entry_us};
use crate::columns::{Block, Place};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate_metrics::{
    Assignment, ClassifiedEvent, Counted, Days, ExposureEvent, JourneyDefinition, JourneyFold,
    JourneyKey, JourneyReport, assign_units,
};
use xxhash_rust::xxh3::xxh3_128;

/// A keyed journey being answered.
pub(super) struct Keyed<'k> {
    run: &'k Run<'k>,
    key: &'k JourneyKey,
    journey: &'k JourneyDefinition,
    days: Days,
}

/// What was found for one bucket.
#[derive(Default)]
struct Gathered {
    /// With the hash of the value, where values alone are counted.
    exposures: Vec<Placed<(ExposureEvent, u128)>>,
    events: Vec<Placed<(ClassifiedEvent, u128)>>,
    /// Rows looked at.
    rows: u64,
}

impl Gathered {
    fn append(&mut self, mut other: Self) {
        self.exposures.append(&mut other.exposures);
        self.events.append(&mut other.events);
        self.rows += other.rows;
    }
}

impl<'k> Keyed<'k> {
    pub(super) fn new(
        run: &'k Run<'k>,
        key: &'k JourneyKey,
        journey: &'k JourneyDefinition,
        days: Days,
    ) -> Self {
        Self {
            run,
            key,
            journey,
            days,
        }
    }

    /// The findings of some buckets and the rows looked at for each, in as many rounds as memory
    /// asks for.
    pub(super) fn all(
        &self,
        homes: Range<u16>,
        threads: usize,
    ) -> Result<Vec<(JourneyReport, u64)>, QueryError> {
        let Some(gathered) = self.gather(&homes, threads)? else {
            let middle = homes.start + (homes.end - homes.start) / 2;
            let mut parts = self.all(homes.start..middle, threads)?;
            parts.append(&mut self.all(middle..homes.end, threads)?);
            return Ok(parts);
        };
        let tied: BTreeSet<At> = gathered
            .values()
            .flat_map(|found| {
                let exposures = ties(&found.exposures).flatten().map(|placed| placed.at);
                exposures.chain(ties(&found.events).flatten().map(|placed| placed.at))
            })
            .collect();
        let ids = ids_of(self.run, &tied, threads)?;
        let parts = gathered.into_iter().map(|(bucket, found)| {
            let exposures = in_order(found.exposures, &ids).into_iter();
            let exposures: Vec<_> = exposures.map(|placed| placed.what).collect();
            let events = in_order(found.events, &ids).into_iter();
            let events = events.map(|placed| placed.what).collect();
            (self.fold(bucket, &exposures, events), found.rows)
        });
        Ok(parts.collect())
    }

    /// What belongs to some buckets, sorted; `None` if it is too much at once.
    fn gather(
        &self,
        homes: &Range<u16>,
        threads: usize,
    ) -> Result<Option<BTreeMap<u16, Gathered>>, QueryError> {
        let run = self.run;
        let (count, may_split) = (AtomicUsize::new(0), homes.len() > 1);
        let is_too_much = || may_split && count.load(Ordering::Relaxed) > run.store.gathered_rows();
        let parts = each_bucket(0..run.state.buckets, threads, |bucket| {
            if is_too_much() {
                return Ok(BTreeMap::new());
            }
            let days = run.blocks(bucket)?;
            let found = self.sorted_out(bucket, &days, homes);
            let rows = found
                .values()
                .map(|found| found.events.len() + found.exposures.len());
            count.fetch_add(rows.sum(), Ordering::Relaxed);
            Ok::<_, QueryError>(found)
        });
        if is_too_much() {
            return Ok(None);
        }
        // Every bucket answers, if only who was exposed.
        let mut found: BTreeMap<u16, Gathered> = homes
            .clone()
            .map(|home| (home, Gathered::default()))
            .collect();
        for part in parts {
            for (home, part) in part? {
                found.entry(home).or_default().append(part);
            }
        }
        for found in found.values_mut() {
            sort(&mut found.exposures);
            sort(&mut found.events);
        }
        Ok(Some(found))
    }

    /// The events and exposures of a bucket, by where they are folded.
    fn sorted_out(
        &self,
        bucket: u16,
        days: &[(i64, Arc<Block>)],
        homes: &Range<u16>,
    ) -> BTreeMap<u16, Gathered> {
        let (run, classifier) = (self.run, self.run.classifier());
        let all = run.wants_all();
        let mut found: BTreeMap<u16, Gathered> = BTreeMap::new();
        let filters = 0..run.query.filters().len();
        for (number, (day, block)) in (0u32..).zip(days) {
            let (mut times, mut values) = (block.times(), block.values());
            for row in 0..block.len() {
                let matched = classifier.matched(block, row, &filters);
                if matched == 0 && !all {
                    continue;
                }
                let event = ClassifiedEvent {
                    unit: block.unit(row),
                    time_us: times.of(row),
                    matched,
                    value: values.of(row),
                };
                let Some(value) = self.value(block, row) else {
                    continue;
                };
                let (home, unit) = self.place((bucket, event.unit), value);
                if homes.contains(&home) {
                    found.entry(home).or_default().events.push(Placed {
                        time_us: event.time_us,
                        unit,
                        at: at(bucket, number, row),
                        part: 0,
                        what: (ClassifiedEvent { unit, ..event }, value),
                    });
                }
            }
            for (row, exposure) in run.exposures_in(*day, block) {
                let value = match self.key.counts {
                    Counted::Value => self.value(block, row),
                    Counted::Unit | Counted::UnitAndValue => Some(0),
                };
                let Some(value) = value else { continue };
                let (home, unit) = self.place((bucket, exposure.unit), value);
                if homes.contains(&home) {
                    found.entry(home).or_default().exposures.push(Placed {
                        time_us: exposure.time_us,
                        unit,
                        at: at(bucket, number, row),
                        part: 0,
                        what: (ExposureEvent { unit, ..exposure }, value),
                    });
                }
            }
        }
        if homes.contains(&bucket) {
            let rows = days.iter().map(|(_, block)| block.len() as u64);
            found.entry(bucket).or_default().rows += rows.sum::<u64>();
        }
        found
    }

    /// The hash of a row's value.
    fn value(&self, block: &Block, row: usize) -> Option<u128> {
        let text = classify::property_as_text(block.property_text(row), &self.key.property)?;
        Some(xxh3_128(text.as_bytes()))
    }

    /// Where something is folded: the person's place, or one that every row of the value has.
    fn place(&self, unit: Place, value: u128) -> Place {
        match self.key.counts {
            Counted::Unit | Counted::UnitAndValue => self.run.state.aliases.root(unit),
            Counted::Value => {
                let low = u16::try_from(value & u128::from(u16::MAX)).unwrap_or(0);
                let ordinal = u32::try_from(value >> 16 & u128::from(u32::MAX)).unwrap_or(0);
                (low & (self.run.state.buckets - 1), ordinal)
            }
        }
    }

    fn fold(
        &self,
        bucket: u16,
        exposures: &[(ExposureEvent, u128)],
        events: Vec<(ClassifiedEvent, u128)>,
    ) -> JourneyReport {
        // Dense numbers for what is followed, and who it belongs to.
        let (mut numbers, mut owners) = (FxHashMap::<(u32, u128), u32>::default(), Vec::new());
        let mut number = |unit: u32, value: u128| {
            *numbers.entry((unit, value)).or_insert_with(|| {
                owners.push(unit);
                u32::try_from(owners.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let is_by_value = self.key.counts == Counted::Value;
        let exposures: Vec<ExposureEvent> = exposures
            .iter()
            .map(|(exposure, value)| match is_by_value {
                true => ExposureEvent {
                    unit: number(exposure.unit, *value),
                    ..*exposure
                },
                false => *exposure,
            })
            .collect();
        let events: Vec<ClassifiedEvent> = events
            .into_iter()
            .map(|(event, value)| ClassifiedEvent {
                unit: number(event.unit, value),
                ..event
            })
            .collect();
        let units = match is_by_value {
            true => owners.len(),
            false => {
                let units = self.run.store.unit_count(bucket);
                usize::try_from(units).unwrap_or(usize::MAX)
            }
        };
        let assignments = match self.run.query.grouping() {
            Some(_) => assign_units(units, exposures),
            None => vec![Assignment::EVERYONE; units],
        };
        let of_owner = |owner: &u32| {
            let at = usize::try_from(*owner).unwrap_or(usize::MAX);
            assignments.get(at).copied().unwrap_or(Assignment::EVERYONE)
        };
        let followed: Vec<Assignment> = match is_by_value {
            true => assignments.clone(),
            false => owners.iter().map(of_owner).collect(),
        };
        let mut fold = JourneyFold::new(self.journey, &followed, entry_us(self.days));
        for event in events {
            fold.push(event);
        }
        let mut report = match self.key.counts {
            Counted::Unit => fold.finish_by_owner(&owners, &assignments, self.run.end_us),
            Counted::UnitAndValue | Counted::Value => fold.finish(self.run.end_us),
        };
        let mixed = assignments.iter().filter(|assignment| assignment.is_mixed);
        report.mixed_units = mixed.count() as u64;
        report
    }
}
