//! One thread's part of an answer: bucket after bucket into what it has found so far.

use super::classify::Classifier;
use super::usage::Counting;
use super::{QueryError, Run};
use crate::columns::{Column, DayBlocks};
use std::ops::Range;
use tidegate_metrics::{
    Adoption, Arms, Assignment, Findings, JourneyFold, JourneyMemory, JourneyReport, MetricSummary,
    Query, Retention, RetentionFold, StepOrder, UnitMeasurements, UsageTally, assign_units,
    measure_units, summarise,
};

const DAY_US: i64 = 86_400_000_000;
/// Filters that one pass over the events can tell apart.
const FILTERS_AT_ONCE: usize = 64;

/// What a thread has found.
enum Found {
    /// Measured units, of metrics that take something over all of them together.
    Units(Vec<UnitMeasurements>),
    Metric(Option<MetricSummary>),
    Journey(JourneyReport),
    Usage(UsageTally),
    Adoption(Adoption),
    Retention(RetentionFold),
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
        };
        Self {
            run,
            found,
            events: 0,
            counting: Counting::default(),
            journeys: JourneyMemory::default(),
        }
    }

    /// Goes on with a bucket.
    pub(super) fn bucket(&mut self, bucket: u16) -> Result<(), QueryError> {
        let run = self.run;
        let days = run.blocks(bucket)?;
        self.events += days
            .iter()
            .map(|(_, block)| block.len() as u64)
            .sum::<u64>();
        let units = run.units(bucket);
        let classifier = run.classifier();
        let assignments: Vec<Assignment> = match run.query.grouping() {
            Some(by) => assign_units(units, run.exposures(by, &days)),
            None => Vec::new(),
        };
        let arms = match run.query.grouping() {
            Some(_) => Arms::Exposed(&assignments),
            None => Arms::Everyone(units),
        };
        match run.query {
            Query::UnitMetric { .. } => {
                let base = u64::from(bucket) << 32;
                self.measure(&classifier, &days, &assignments, base)?;
            }
            Query::Journey { .. } => self.follow(&classifier, &days, arms),
            Query::Usage { .. } => {
                let Found::Usage(tally) = &mut self.found else {
                    return Ok(());
                };
                self.counting.distinct.begin_bucket(units);
                for (day, block) in &days {
                    self.counting.add(&classifier, block, tally.day(*day));
                }
            }
            Query::Adoption { .. } => self.adopt(&classifier, &days, arms),
            Query::Retention { .. } => self.retain(&classifier, &days, units),
        }
        Ok(())
    }

    fn measure(
        &mut self,
        classifier: &Classifier<'_>,
        days: &DayBlocks,
        assignments: &[Assignment],
        unit_base: u64,
    ) -> Result<(), QueryError> {
        let Query::UnitMetric { metric, .. } = self.run.query else {
            return Ok(());
        };
        let filters = 0..metric.filters().count();
        let events = days.iter();
        let events = events.flat_map(|(_, block)| classifier.events(block, &filters));
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

    fn follow(&mut self, classifier: &Classifier<'_>, days: &DayBlocks, arms: Arms<'_>) {
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
        let from = asked.first.saturating_mul(DAY_US);
        let to = asked.last.saturating_add(1).saturating_mul(DAY_US);
        let filters = 0..journey.filters().count();
        let every = journey.order == StepOrder::Strict;
        let memory = std::mem::take(&mut self.journeys);
        let mut fold = JourneyFold::reusing(journey, arms, from..to, memory);
        for (_, block) in days {
            classifier.each(block, &filters, every, |event| fold.push(event));
        }
        let (of_bucket, memory) = fold.finish_reusable(self.run.end_us);
        report.merge(of_bucket);
        self.journeys = memory;
    }

    fn adopt(&mut self, classifier: &Classifier<'_>, days: &DayBlocks, arms: Arms<'_>) {
        let (
            Query::Adoption {
                events,
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
        for first in (0..events.len()).step_by(FILTERS_AT_ONCE) {
            let filters = first..events.len().min(first + FILTERS_AT_ONCE);
            let matched = days.iter();
            let matched = matched.flat_map(|(_, block)| classifier.events(block, &filters));
            let found = Adoption::of(arms, asked.first, *period_days, filters.clone(), matched);
            match &mut of_bucket {
                Some(known) => known.merge_cells(&found),
                None => of_bucket = Some(found),
            }
        }
        if let Some(found) = of_bucket {
            adoption.merge(&found);
        }
    }

    fn retain(&mut self, classifier: &Classifier<'_>, days: &DayBlocks, units: usize) {
        let (Query::Retention { events, .. }, Found::Retention(fold)) =
            (self.run.query, &mut self.found)
        else {
            return;
        };
        fold.begin_bucket(units);
        for (day, block) in days {
            if events.is_empty() {
                match block.units() {
                    Column::Narrow(units) => fold.day(*day, units.iter().copied()),
                    Column::Wide(units) => fold.day(*day, units.iter().copied()),
                }
                continue;
            }
            for first in (0..events.len()).step_by(FILTERS_AT_ONCE) {
                let filters: Range<usize> = first..events.len().min(first + FILTERS_AT_ONCE);
                let active = classifier.events(block, &filters).into_iter();
                fold.day(*day, active.map(|event| event.unit));
            }
        }
    }
}

/// What all threads found together.
pub(super) fn join(query: &Query, workers: Vec<Worker<'_>>) -> Result<Findings, QueryError> {
    let (mut units, mut metric) = (Vec::new(), None::<MetricSummary>);
    let (mut journey, mut adoption) = (JourneyReport::default(), Adoption::default());
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
    })
}
