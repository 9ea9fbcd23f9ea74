//! One thread's part of an answer: bucket after bucket into what it has found so far.

use super::classify::Classifier;
use super::persons::Persons;
use super::usage::Counting;
use super::{DAY_US, QueryError, Run, entry_us, is_set};
use crate::columns::{Column, DayBlocks};
use std::collections::BTreeMap;
use std::ops::Range;
use tidegate_metrics::{
    Adoption, Arms, Assignment, ClassifiedEvent, Findings, JourneyFold, JourneyMemory,
    JourneyReport, Lifecycle, MetricSummary, Query, Retention, RetentionFold, UnitMeasurements,
    UsageTally, assign_units, measure_units, summarise,
};

/// What a thread has found.
enum Found {
    /// Measured units, of metrics that take something over all of them together.
    Units(Vec<UnitMeasurements>),
    Metric(Option<MetricSummary>),
    Journey(JourneyReport),
    Usage(UsageTally),
    Adoption(Adoption),
    Retention(RetentionFold),
    Lifecycle(Lifecycle),
}

/// One thread's part of an answer.
pub(super) struct Worker<'r> {
    run: &'r Run<'r>,
    found: Found,
    /// Rows read.
    pub(super) events: u64,
    counting: Counting,
    journeys: JourneyMemory,
}

impl<'r> Worker<'r> {
    pub(super) fn new(run: &'r Run<'r>) -> Self {
        let found = match run.query {
            Query::UnitMetric { metric, .. } if metric.adds_up() => Found::Metric(None),
            Query::UnitMetric { .. } => Found::Units(Vec::new()),
            Query::Journey { .. } => Found::Journey(JourneyReport::default()),
            Query::Usage { events, .. } => Found::Usage(UsageTally::new(events.len())),
            Query::Adoption { .. } => Found::Adoption(Adoption::default()),
            Query::Retention {
                days, period_days, ..
            } => Found::Retention(RetentionFold::new(days.first, *period_days)),
            Query::Lifecycle { .. } => Found::Lifecycle(Lifecycle::default()),
        };
        Self {
            run,
            found,
            events: 0,
            counting: Counting::default(),
            journeys: JourneyMemory::default(),
        }
    }

    /// What was found by other means: a journey, over so many rows.
    pub(super) fn with_journey(run: &'r Run<'r>, report: JourneyReport, rows: u64) -> Self {
        Self {
            found: Found::Journey(report),
            events: rows,
            ..Self::new(run)
        }
    }

    /// Goes on with a bucket. What merged units did comes gathered, behind what all others did.
    pub(super) fn bucket(&mut self, number: u16, persons: &Persons) -> Result<(), QueryError> {
        let run = self.run;
        let days = run.blocks(number)?;
        let rows = days.iter().map(|(_, block)| block.len() as u64);
        self.events += rows.sum::<u64>();
        let units = run.units(number);
        let assignments: Vec<Assignment> = match run.query.grouping() {
            Some(_) => {
                let own = run.own_exposures(number, &days).into_iter();
                assign_units(units, own.chain(persons.exposures.iter().copied()))
            }
            None => Vec::new(),
        };
        let bucket = Bucket {
            classifier: run.classifier(),
            days: &days,
            units,
            merged: run.merged_in(number),
            arms: match run.query.grouping() {
                Some(_) => Arms::Exposed(&assignments),
                None => Arms::Everyone(units),
            },
            persons,
        };
        match run.query {
            Query::UnitMetric { .. } => {
                let base = u64::from(number) << 32;
                self.measure(&bucket, &assignments, base)?;
            }
            Query::Journey { .. } => self.follow(&bucket),
            Query::Usage { .. } => self.count(&bucket),
            Query::Adoption { .. } => self.adopt(&bucket),
            Query::Retention { .. } => self.retain(&bucket),
            Query::Lifecycle { .. } => self.live(&bucket),
        }
        Ok(())
    }

    fn measure(
        &mut self,
        bucket: &Bucket<'_, '_>,
        assignments: &[Assignment],
        unit_base: u64,
    ) -> Result<(), QueryError> {
        let Query::UnitMetric { metric, .. } = self.run.query else {
            return Ok(());
        };
        let filters = 0..metric.filters().count();
        let events = bucket.events(0, &filters);
        let measured = measure_units(metric, assignments, events, self.run.end_us, unit_base);
        match &mut self.found {
            Found::Metric(known) => {
                let summary = summarise(metric, &[measured])?;
                match known {
                    Some(known) => known.merge(summary)?,
                    None => *known = Some(summary),
                }
            }
            Found::Units(all) => all.push(measured),
            _ => {}
        }
        Ok(())
    }

    fn follow(&mut self, bucket: &Bucket<'_, '_>) {
        let (
            Query::Journey {
                journey,
                days: asked,
                ..
            },
            Found::Journey(report),
        ) = (self.run.query, &mut self.found)
        else {
            return;
        };
        let filters = 0..journey.filters().count();
        let every = self.run.wants_all();
        let memory = std::mem::take(&mut self.journeys);
        let mut fold = JourneyFold::reusing(journey, bucket.arms, entry_us(*asked), memory);
        for (_, block) in bucket.days {
            let classifier = &bucket.classifier;
            if bucket.merged.is_empty() {
                classifier.each(block, &filters, every, |event| fold.push(event));
            } else {
                classifier.each(block, &filters, every, |event| {
                    if !is_set(bucket.merged, event.unit) {
                        fold.push(event);
                    }
                });
            }
        }
        for event in bucket.persons.events(0) {
            fold.push(*event);
        }
        let (of_bucket, memory) = fold.finish_reusable(self.run.end_us);
        report.merge(of_bucket);
        self.journeys = memory;
    }

    fn count(&mut self, bucket: &Bucket<'_, '_>) {
        let Found::Usage(tally) = &mut self.found else {
            return;
        };
        let distinct = &mut self.counting.distinct;
        distinct.begin_bucket(bucket.units, bucket.merged);
        for (day, block) in bucket.days {
            self.counting
                .add(&bucket.classifier, block, tally.day(*day));
        }
        // Persons are other units than those counted above, so the counts add up.
        let mut of_persons: BTreeMap<(i64, usize), Vec<u32>> = BTreeMap::new();
        for (part, filters) in self.run.parts().into_iter().enumerate() {
            for event in bucket.persons.events(part) {
                let day = event.time_us.div_euclid(DAY_US);
                for filter in filters.clone() {
                    if event.matched >> (filter - filters.start) & 1 == 1 {
                        of_persons
                            .entry((day, filter))
                            .or_default()
                            .push(event.unit);
                    }
                }
            }
        }
        let distinct = &mut self.counting.distinct;
        distinct.begin_bucket(bucket.units, &[]);
        for ((day, filter), units) in of_persons {
            let found = distinct.count(&units);
            if let Some(cell) = tally.day(day).get_mut(filter) {
                cell.events += found.events;
                cell.units += found.units;
            }
        }
    }

    fn adopt(&mut self, bucket: &Bucket<'_, '_>) {
        let (
            Query::Adoption {
                days: asked,
                period_days,
                ..
            },
            Found::Adoption(adoption),
        ) = (self.run.query, &mut self.found)
        else {
            return;
        };
        let mut of_bucket: Option<Adoption> = None;
        for (part, filters) in self.run.parts().into_iter().enumerate() {
            let events = bucket.events(part, &filters);
            let (arms, length) = (bucket.arms, *period_days);
            let found = Adoption::of(arms, asked.first, length, filters.clone(), events);
            match &mut of_bucket {
                Some(known) => known.merge_cells(&found),
                None => of_bucket = Some(found),
            }
        }
        if let Some(found) = of_bucket {
            adoption.merge(&found);
        }
    }

    fn retain(&mut self, bucket: &Bucket<'_, '_>) {
        let Found::Retention(fold) = &mut self.found else {
            return;
        };
        let is_own = |unit: &u32| !is_set(bucket.merged, *unit);
        let parts = self.run.parts();
        fold.begin_bucket(bucket.units);
        for (day, block) in bucket.days {
            if !self.run.wants_any() {
                for filters in &parts {
                    let active = bucket.classifier.events(block, filters).into_iter();
                    fold.day(*day, active.map(|event| event.unit).filter(is_own));
                }
                continue;
            }
            match (block.units(), bucket.merged.is_empty()) {
                (Column::Narrow(units), true) => fold.day(*day, units.iter().copied()),
                (Column::Wide(units), true) => fold.day(*day, units.iter().copied()),
                (_, false) => {
                    let units = (0..block.len()).map(|row| block.unit(row));
                    fold.day(*day, units.filter(is_own));
                }
            }
        }
        // In the order of days, whatever part of the filters an event is about.
        let mut active: Vec<(i64, u32)> = Vec::new();
        for part in 0..parts.len() {
            let events = bucket.persons.events(part).iter();
            active.extend(events.map(|event| (event.time_us.div_euclid(DAY_US), event.unit)));
        }
        active.sort_unstable();
        for of_day in active.chunk_by(|a, b| a.0 == b.0) {
            if let Some((day, _)) = of_day.first() {
                fold.day(*day, of_day.iter().map(|(_, unit)| *unit));
            }
        }
    }
}

impl Worker<'_> {
    fn live(&mut self, bucket: &Bucket<'_, '_>) {
        let (
            Query::Lifecycle {
                days, period_days, ..
            },
            Found::Lifecycle(lifecycle),
        ) = (self.run.query, &mut self.found)
        else {
            return;
        };
        let parts = self.run.parts();
        let any = self.run.wants_any();
        let by_arm = self.run.query.grouping().is_some();
        let own = bucket.days.iter().flat_map(|(day, block)| {
            let mut active = Vec::new();
            if any {
                // Of an event without a filter its day is asked, and by arm whether it came after
                // the exposure.
                let mut times = block.times();
                active.extend((0..block.len()).map(|row| ClassifiedEvent {
                    unit: block.unit(row),
                    time_us: match by_arm {
                        true => times.of(row),
                        false => day.saturating_mul(DAY_US),
                    },
                    matched: 1,
                    value: f64::NAN,
                }));
            } else {
                for filters in &parts {
                    active.extend(bucket.classifier.events(block, filters));
                }
            }
            active.retain(|event| !is_set(bucket.merged, event.unit));
            active
        });
        let of_persons = (0..parts.len()).flat_map(|part| bucket.persons.events(part));
        let mut of_persons: Vec<ClassifiedEvent> = of_persons.copied().collect();
        of_persons.sort_by_key(|event| event.time_us);
        let events = own.chain(of_persons);
        let found = Lifecycle::of(bucket.arms, *days, *period_days, events);
        lifecycle.merge(&found);
    }
}

/// What is known of a bucket.
struct Bucket<'b, 'q> {
    classifier: Classifier<'q>,
    days: &'b DayBlocks,
    units: usize,
    /// Units that are left out, since a person's events come gathered.
    merged: &'b [bool],
    arms: Arms<'b>,
    persons: &'b Persons,
}

impl Bucket<'_, '_> {
    /// The events that match one of a part of the filters: those of units that are persons by
    /// themselves in the order of time, then those of all others.
    fn events(&self, part: usize, filters: &Range<usize>) -> impl Iterator<Item = ClassifiedEvent> {
        let own = self.days.iter();
        let own = own.flat_map(|(_, block)| self.classifier.events(block, filters));
        let own = own.filter(|event| !is_set(self.merged, event.unit));
        own.chain(self.persons.events(part).iter().copied())
    }
}

/// What all threads found together.
pub(super) fn join(query: &Query, workers: Vec<Worker<'_>>) -> Result<Findings, QueryError> {
    let (mut units, mut metric) = (Vec::new(), None::<MetricSummary>);
    let (mut journey, mut adoption) = (JourneyReport::default(), Adoption::default());
    let mut lifecycle = Lifecycle::default();
    let mut usage = UsageTally::new(query.filters().len());
    let mut retention = Retention::default();
    for part in workers.into_iter().map(|worker| worker.found) {
        match part {
            Found::Units(part) => units.extend(part),
            Found::Metric(Some(part)) => match &mut metric {
                Some(metric) => metric.merge(part)?,
                None => metric = Some(part),
            },
            Found::Metric(None) => {}
            Found::Journey(part) => journey.merge(part),
            Found::Usage(part) => usage.merge(&part),
            Found::Adoption(part) => adoption.merge(&part),
            Found::Retention(part) => retention.merge(&part.finish()),
            Found::Lifecycle(part) => lifecycle.merge(&part),
        }
    }
    Ok(match query {
        Query::UnitMetric {
            metric: definition, ..
        } => Findings::UnitMetric(match metric {
            Some(metric) => metric,
            None => summarise(definition, &units)?,
        }),
        Query::Journey { .. } => Findings::Journey(journey),
        Query::Usage { .. } => Findings::Usage(usage.finish()),
        Query::Adoption { .. } => Findings::Adoption(adoption),
        Query::Retention { .. } => Findings::Retention(retention),
        Query::Lifecycle { .. } => Findings::Lifecycle(lifecycle),
    })
}
