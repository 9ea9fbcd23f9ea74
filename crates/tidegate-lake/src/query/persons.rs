//! What merged units did: gathered out of every bucket, put into one order, and handed to the fold
//! of the person's bucket.
//!
//! A person is its root unit (`Aliases`), and is folded in the root's bucket under the root's
//! ordinal. The scan of a bucket leaves the rows of merged units out; what is gathered here takes
//! their place. So a fold sees each person as it would see one unit that had sent everything, and
//! the cost beside the scan is that of the merged units.
//!
//! Order: time, then event id. Rows of one bucket come in that order already. Where units of one
//! person, in different buckets, have events in the same microsecond, the ids of these days are
//! read; then a copy that was sent under both names is told too, and counts once.
//!
//! Memory: so many rows are gathered at a time (`ColumnOptions::gathered_rows`); beyond, buckets
//! are answered in several rounds, each of which reads the merged units' buckets again.

use super::{QueryError, Run, each_bucket, is_set};
use crate::columns::{Aliases, Block, ColumnError, Place};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate_metrics::{ClassifiedEvent, ExposureEvent};

/// What the merged units of one bucket's persons did, in total order, under the roots' ordinals.
#[derive(Debug, Default)]
pub(super) struct Persons {
    pub(super) exposures: Vec<ExposureEvent>,
    /// By part of the question's filters, see [`Run::parts`].
    events: Vec<Vec<ClassifiedEvent>>,
}

impl Persons {
    pub(super) fn events(&self, part: usize) -> &[ClassifiedEvent] {
        self.events.get(part).map_or(&[], Vec::as_slice)
    }
}

/// Where a row was found: bucket, position of the day, row of that day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct At {
    bucket: u16,
    day: u32,
    row: u32,
}

/// Something a person did, and where it was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<T> {
    pub(super) time_us: i64,
    /// The root's ordinal.
    pub(super) unit: u32,
    pub(super) at: At,
    /// The part of the question's filters that it is about.
    pub(super) part: usize,
    pub(super) what: T,
}

/// What was found of one bucket's persons, in no order.
#[derive(Debug, Default)]
pub(super) struct Found {
    exposures: Vec<Placed<ExposureEvent>>,
    events: Vec<Placed<ClassifiedEvent>>,
}

impl Found {
    fn len(&self) -> usize {
        self.exposures.len() + self.events.len()
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.exposures.append(&mut other.exposures);
        self.events.append(&mut other.events);
    }

    fn sort(&mut self) {
        sort(&mut self.exposures);
        sort(&mut self.events);
    }

    /// Where the ids are needed to know the order.
    fn ties(&self) -> impl Iterator<Item = At> {
        let exposures = ties(&self.exposures).flatten().map(|placed| placed.at);
        exposures.chain(ties(&self.events).flatten().map(|placed| placed.at))
    }

    /// Persons whose order is not known without ids.
    pub(super) fn tied(&mut self) -> BTreeSet<u32> {
        self.sort();
        let exposures = ties(&self.exposures).flatten().map(|placed| placed.unit);
        let events = ties(&self.events).flatten().map(|placed| placed.unit);
        exposures.chain(events).collect()
    }

    /// Everything in order, but for persons that are tied.
    pub(super) fn by_time(self) -> Persons {
        self.in_order(&FxHashMap::default())
    }

    /// Everything in order; ids say the order of ties.
    fn in_order(self, ids: &FxHashMap<At, [u8; 16]>) -> Persons {
        let mut events: Vec<Vec<ClassifiedEvent>> = Vec::new();
        for placed in in_order(self.events, ids) {
            if events.len() <= placed.part {
                events.resize(placed.part + 1, Vec::new());
            }
            events
                .get_mut(placed.part)
                .into_iter()
                .for_each(|events| events.push(placed.what));
        }
        let exposures = in_order(self.exposures, ids).into_iter();
        Persons {
            exposures: exposures.map(|placed| placed.what).collect(),
            events,
        }
    }
}

pub(super) fn sort<T>(placed: &mut [Placed<T>]) {
    placed.sort_unstable_by_key(|placed| (placed.time_us, placed.unit, placed.at, placed.part));
}

/// Runs of one person at one time that were found in several buckets.
pub(super) fn ties<T>(sorted: &[Placed<T>]) -> impl Iterator<Item = &[Placed<T>]> {
    let runs = sorted.chunk_by(|a, b| (a.time_us, a.unit) == (b.time_us, b.unit));
    runs.filter(|run| {
        let ends = run.first().zip(run.last());
        ends.is_some_and(|(first, last)| first.at.bucket != last.at.bucket)
    })
}

pub(super) fn in_order<T: Copy>(
    mut sorted: Vec<Placed<T>>,
    ids: &FxHashMap<At, [u8; 16]>,
) -> Vec<Placed<T>> {
    if !ids.is_empty() {
        // Only ties have ids; whatever has none keeps its place among its like.
        sorted.sort_by_key(|placed| {
            let id = ids.get(&placed.at);
            (placed.time_us, placed.unit, id, placed.part)
        });
        sorted.dedup_by_key(|placed| {
            let known = ids.get(&placed.at).ok_or(placed.at);
            (placed.unit, known, placed.part)
        });
    }
    sorted
}

/// The merged units of each bucket that has some, roots included, as a flag by ordinal.
pub(super) fn merged_by_bucket(aliases: &Aliases) -> BTreeMap<u16, Vec<bool>> {
    let mut merged: BTreeMap<u16, Vec<bool>> = BTreeMap::new();
    for (bucket, ordinal) in aliases.persons().flat_map(|(_, units)| units) {
        set(merged.entry(bucket).or_default(), ordinal);
    }
    merged
}

fn set(flags: &mut Vec<bool>, unit: u32) {
    let at = usize::try_from(unit).unwrap_or(usize::MAX);
    if flags.len() <= at {
        flags.resize(at.saturating_add(1), false);
    }
    if let Some(flag) = flags.get_mut(at) {
        *flag = true;
    }
}

/// By bucket of the unit: whose events its units' events are.
pub(super) struct Routes(BTreeMap<u16, FxHashMap<u32, Place>>);

impl Routes {
    /// To the persons of some buckets; of these only to certain ones, if so asked.
    pub(super) fn to(
        aliases: &Aliases,
        homes: &Range<u16>,
        only: Option<&BTreeSet<Place>>,
    ) -> Self {
        let mut routes: BTreeMap<u16, FxHashMap<u32, Place>> = BTreeMap::new();
        for (root, units) in aliases.persons() {
            if homes.contains(&root.0) && only.is_none_or(|only| only.contains(&root)) {
                for (bucket, unit) in units {
                    routes.entry(bucket).or_default().insert(unit, root);
                }
            }
        }
        Self(routes)
    }

    pub(super) fn lead_from(&self, bucket: u16) -> bool {
        self.0.contains_key(&bucket)
    }

    /// What routed units did in some rows of a bucket, by the person's bucket.
    pub(super) fn follow(
        &self,
        run: &Run<'_>,
        bucket: u16,
        days: &[(i64, Arc<Block>)],
    ) -> BTreeMap<u16, Found> {
        let mut found: BTreeMap<u16, Found> = BTreeMap::new();
        let Some(routes) = self.0.get(&bucket) else {
            return found;
        };
        // One array access a row; the map is asked for merged units alone.
        let mut is_routed = Vec::new();
        routes.keys().for_each(|unit| set(&mut is_routed, *unit));
        let root_of = |unit: u32| {
            let root = is_set(&is_routed, unit).then(|| routes.get(&unit));
            root.flatten().copied()
        };
        let classifier = run.classifier();
        for (number, (day, block)) in (0u32..).zip(days) {
            let (mut times, mut values) = (block.times(), block.values());
            for row in 0..block.len() {
                let Some(root) = root_of(block.unit(row)) else {
                    continue;
                };
                let (time_us, value) = (times.of(row), values.of(row));
                for (part, filters) in run.parts().into_iter().enumerate() {
                    let matched = match run.wants_any() {
                        true => 1,
                        false => classifier.matched(block, row, &filters),
                    };
                    if matched == 0 && !run.wants_all() {
                        continue;
                    }
                    let found = found.entry(root.0).or_default();
                    found.events.push(Placed {
                        time_us,
                        unit: root.1,
                        at: at(bucket, number, row),
                        part,
                        what: ClassifiedEvent {
                            unit: root.1,
                            time_us,
                            matched,
                            value,
                        },
                    });
                }
            }
            for (row, exposure) in run.exposures_in(*day, block) {
                let Some(root) = root_of(exposure.unit) else {
                    continue;
                };
                let found = found.entry(root.0).or_default();
                found.exposures.push(Placed {
                    time_us: exposure.time_us,
                    unit: root.1,
                    at: at(bucket, number, row),
                    part: 0,
                    what: ExposureEvent {
                        unit: root.1,
                        ..exposure
                    },
                });
            }
        }
        found
    }
}

pub(super) fn at(bucket: u16, day: u32, row: usize) -> At {
    At {
        bucket,
        day,
        row: u32::try_from(row).unwrap_or(u32::MAX),
    }
}

/// Everything merged units did whose persons are of some buckets, by the person's bucket; `None`
/// if that is too much at once. Of one bucket's persons it never is.
pub(super) fn gather(
    run: &Run<'_>,
    homes: &Range<u16>,
    only: Option<&BTreeSet<Place>>,
    threads: usize,
) -> Result<Option<BTreeMap<u16, Persons>>, QueryError> {
    let routes = Routes::to(&run.state.aliases, homes, only);
    let (gathered, may_split) = (AtomicUsize::new(0), homes.len() > 1);
    let is_too_much = || may_split && gathered.load(Ordering::Relaxed) > run.store.gathered_rows();
    let parts = each_bucket(0..run.state.buckets, threads, |bucket| {
        if !routes.lead_from(bucket) || is_too_much() {
            return Ok(BTreeMap::new());
        }
        let found = routes.follow(run, bucket, &run.blocks(bucket)?);
        gathered.fetch_add(found.values().map(Found::len).sum(), Ordering::Relaxed);
        Ok::<_, QueryError>(found)
    });
    if is_too_much() {
        return Ok(None);
    }
    let mut found: BTreeMap<u16, Found> = BTreeMap::new();
    for part in parts {
        for (home, part) in part? {
            found.entry(home).or_default().append(part);
        }
    }
    found.values_mut().for_each(Found::sort);
    let tied: BTreeSet<At> = found.values().flat_map(Found::ties).collect();
    let ids = ids_of(run, &tied, threads)?;
    let persons = found.into_iter();
    let persons = persons.map(|(home, found)| (home, found.in_order(&ids)));
    Ok(Some(persons.collect()))
}

/// The ids of some rows.
pub(super) fn ids_of(
    run: &Run<'_>,
    wanted: &BTreeSet<At>,
    threads: usize,
) -> Result<FxHashMap<At, [u8; 16]>, ColumnError> {
    if wanted.is_empty() {
        return Ok(FxHashMap::default());
    }
    let first = |bucket, day| At {
        bucket,
        day,
        row: 0,
    };
    let parts = each_bucket(0..run.state.buckets, threads, |bucket| {
        let mut found = Vec::new();
        for (day, (date, files)) in (0u32..).zip(&run.days) {
            let mut rows = wanted
                .range(first(bucket, day)..first(bucket, day + 1))
                .peekable();
            if rows.peek().is_none() {
                continue;
            }
            let store = run.store;
            let ids = store.day_ids(run.state, *date, files, bucket, run.with_properties())?;
            for at in rows {
                let row = usize::try_from(at.row).unwrap_or(usize::MAX);
                found.extend(ids.get(row).map(|id| (*at, *id)));
            }
        }
        Ok::<_, ColumnError>(found)
    });
    let mut ids = FxHashMap::default();
    for part in parts {
        ids.extend(part?);
    }
    Ok(ids)
}

/// Does some work for buckets together with what their persons did, in as many rounds as memory
/// asks for.
pub(super) fn in_rounds(
    run: &Run<'_>,
    homes: Range<u16>,
    only: Option<&BTreeSet<Place>>,
    threads: usize,
    work: &mut dyn FnMut(Range<u16>, BTreeMap<u16, Persons>) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    if run.state.aliases.is_empty() {
        return work(homes, BTreeMap::new());
    }
    match gather(run, &homes, only, threads)? {
        Some(persons) => work(homes, persons),
        None => {
            let middle = homes.start + (homes.end - homes.start) / 2;
            in_rounds(run, homes.start..middle, only, threads, work)?;
            in_rounds(run, middle..homes.end, only, threads, work)
        }
    }
}
