//! What a record of OTLP stands for here.
//!
//! | record | becomes |
//! |---|---|
//! | log event or span event `feature_flag.evaluation` (older: `feature_flag`) | an `evaluation`, and an `exposure` if a variant was met ([`evaluation`]) |
//! | span of kind SERVER | a `request` that waits for what its trace was served ([`request`]) |
//! | any other log record with an event name | a `track` that waits likewise ([`track`]) |
//! | number point of a gauge or delta sum that names its unit | a `track` |
//! | everything else: plain log lines, inner spans, running totals, distributions | nothing; counted |
//!
//! Who it happened to: see [`attributes`]. A record of the kinds above that names nobody, and whose
//! trace names nobody either, measures nobody: it is counted as unattributed and not stored.
//!
//! Identity comes from what a record says ([`ids`]), so that an export that is repeated counts once.

pub mod attributes;
mod evaluation;
pub(crate) mod ids;
mod request;
mod track;

use std::borrow::Cow;

use tidegate_metrics::{
    Arrival, Event, EventKind, Properties, PropertyValue, ServedFlags, TraceId,
};

use super::read::{Attributes, LogRecord, Point, Span};
use super::{Limits, RequestError};
use ids::Identity;

/// A mapped request.
#[derive(Debug, Default)]
pub struct Batch {
    /// Events that are complete.
    pub ready: Vec<Event>,
    /// Events that wait for what their trace was served; the unit may still be empty.
    pub waiting: Vec<Event>,
    /// Exposures, each with the hash of what was met by whom, of which the first counts.
    pub exposures: Vec<(u128, Event)>,
    /// What became of the records.
    pub tally: Tally,
    /// Who sent events, as resources name themselves, and the newest time of each, microseconds
    /// since 1970.
    pub sources: Vec<(Box<str>, i64)>,
}

/// What became of the records of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records read.
    pub records: usize,
    /// Records that cannot be taken.
    pub rejected: usize,
    /// Records that tell of somebody, but not of whom.
    pub unattributed: usize,
    /// Records that stand for nothing here.
    pub not_stored: usize,
    /// Events set apart because they claim to be more than a day ahead.
    pub quarantined: usize,
    /// Attributes that would have become properties and were too long or too many.
    pub attributes_left_out: usize,
    /// Why records were rejected: the first few reasons, each once.
    pub reasons: Vec<Cow<'static, str>>,
}

const MOST_REASONS: usize = 3;
/// Sources of one request whose clocks are looked at.
const MOST_SOURCES: usize = 16;

impl Tally {
    fn reject(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.rejected += 1;
        let reason = reason.into();
        if self.reasons.len() < MOST_REASONS && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// Takes records one by one. The resource and scope last given hold for the records that follow.
#[derive(Debug)]
pub struct Mapper<'l> {
    limits: &'l Limits,
    arrival: Arrival,
    resource: ResourceFacts,
    scope: Identity,
    batch: Batch,
}

/// What a resource says about everything it sends.
#[derive(Debug, Default)]
struct ResourceFacts {
    identity: Identity,
    unit: Option<Box<str>>,
    properties: Properties,
    is_cut: bool,
    /// Its place among [`Batch::sources`].
    source: Option<usize>,
}

/// An event before its clocks and its id are known.
struct Draft<'a> {
    kind: EventKind,
    name: &'a str,
    unit: &'a str,
    time_ns: u64,
    identity: Identity,
    trace_id: Option<u128>,
    value: Option<f64>,
    properties: Properties,
    flags: ServedFlags,
}

/// Why a record cannot be taken.
type Refusal = Cow<'static, str>;

impl<'l> Mapper<'l> {
    /// A mapper of one request.
    #[must_use]
    pub fn new(limits: &'l Limits, arrival: Arrival) -> Self {
        Self {
            limits,
            arrival,
            resource: ResourceFacts::default(),
            scope: Identity::default(),
            batch: Batch::default(),
        }
    }

    /// What came of it all.
    #[must_use]
    pub fn finish(mut self) -> Batch {
        self.batch.sources.retain(|(_, newest)| *newest > i64::MIN);
        self.batch
    }

    /// The resource of the records that follow.
    pub(crate) fn resource(&mut self, attributes: &Attributes<'_>) {
        let mut left_out = 0;
        self.resource = ResourceFacts {
            identity: Identity::default().attributes(attributes),
            unit: attributes::unit(attributes).map(Into::into),
            properties: attributes::of_resource(attributes, &self.limits.events, &mut left_out),
            is_cut: attributes.is_cut,
            source: self.source(attributes),
        };
        self.batch.tally.attributes_left_out += left_out;
        self.scope = self.resource.identity;
    }

    /// The place of a resource among the sources, by its own name for itself.
    fn source(&mut self, attributes: &Attributes<'_>) -> Option<usize> {
        let name = attributes
            .text(&["service.instance.id", "service.name"])
            .unwrap_or_default();
        let sources = &mut self.batch.sources;
        let known = sources.iter().position(|(known, _)| known.as_ref() == name);
        if known.is_none() && sources.len() < MOST_SOURCES {
            sources.push((name.into(), i64::MIN));
            return sources.len().checked_sub(1);
        }
        known
    }

    /// The instrumentation scope of the records that follow.
    pub(crate) fn scope(&mut self, name: &str) {
        self.scope = self.resource.identity.text(name);
    }

    /// Counts a record before it is read.
    pub(crate) fn count_record(&mut self) -> Result<(), RequestError> {
        self.batch.tally.records += 1;
        let limit = self.limits.max_records;
        if self.batch.tally.records > limit {
            return Err(RequestError::TooMany {
                what: "records",
                limit,
            });
        }
        Ok(())
    }

    /// Takes a log record.
    pub(crate) fn log(&mut self, log: &LogRecord<'_>) -> Result<(), RequestError> {
        let name = track::event_name(log);
        if name.is_empty() {
            self.batch.tally.not_stored += 1;
            return Ok(());
        }
        let outcome = if log.attributes.is_cut || self.resource.is_cut {
            Err(self.too_many_attributes())
        } else if super::read::is_evaluation_name(name) {
            self.evaluation_of_log(log)
        } else {
            self.track_of_log(log, name)
        };
        self.settle(outcome)
    }

    /// Takes a span, and the evaluations it tells of.
    pub(crate) fn span(&mut self, span: &Span<'_>) -> Result<(), RequestError> {
        let outcome = if span.attributes.is_cut || self.resource.is_cut {
            Err(self.too_many_attributes())
        } else if span.is_cut {
            Err(format!(
                "a span has more than {} flag evaluations",
                self.limits.max_span_evaluations
            )
            .into())
        } else {
            self.parts_of_span(span)
        };
        self.settle(outcome)
    }

    /// Takes a data point.
    pub(crate) fn point(&mut self, point: &Point<'_>) -> Result<(), RequestError> {
        let outcome = if point.attributes.is_cut || self.resource.is_cut {
            Err(self.too_many_attributes())
        } else {
            self.track_of_point(point)
        };
        self.settle(outcome)
    }

    fn too_many_attributes(&self) -> Refusal {
        let most = self.limits.max_attributes;
        format!("a record or its resource has more than {most} attributes").into()
    }

    fn settle(&mut self, outcome: Result<Fate, Refusal>) -> Result<(), RequestError> {
        match outcome {
            Ok(Fate::Taken) => {}
            Ok(Fate::Unattributed) => self.batch.tally.unattributed += 1,
            Ok(Fate::NotStored) => self.batch.tally.not_stored += 1,
            Err(reason) => self.batch.tally.reject(reason),
        }
        let events = self.batch.ready.len() + self.batch.waiting.len();
        let limit = self.limits.events.max_events;
        if events > limit {
            return Err(RequestError::TooMany {
                what: "events",
                limit,
            });
        }
        Ok(())
    }

    /// Who a record is about: its own word, or else its resource's.
    fn unit<'a>(&'a self, attributes: &'a Attributes<'_>) -> Option<&'a str> {
        attributes::unit(attributes).or(self.resource.unit.as_deref())
    }

    /// The event of a draft, with its clocks; refuses what no event may hold.
    fn event(&self, draft: Draft<'_>) -> Result<Event, Refusal> {
        let limits = &self.limits.events;
        check_text("a name", draft.name, limits.max_name_bytes)?;
        if !draft.unit.is_empty() {
            check_text("a unit", draft.unit, limits.max_unit_bytes)?;
        }
        for (flag, variant) in &draft.flags {
            check_text("a flag key", flag, limits.max_name_bytes)?;
            check_text("a variant", variant, limits.max_name_bytes)?;
        }
        let time_us = i64::try_from(draft.time_ns / 1000).map_err(|_| "a time is out of range")?;
        let ahead_us = time_us.saturating_sub(self.arrival.received_us);
        Ok(Event {
            id: draft.identity.of_kind(draft.kind.as_str()).id(),
            time_us,
            received_us: self.arrival.received_us,
            sent_us: self.arrival.sent_us,
            unit: draft.unit.into(),
            kind: draft.kind,
            name: draft.name.into(),
            value: draft.value,
            properties: draft.properties,
            flags: draft.flags,
            trace_id: draft.trace_id.map(TraceId),
            is_quarantined: ahead_us > limits.max_future_us,
        })
    }

    /// Keeps an event that is complete.
    fn keep(&mut self, event: Event) {
        self.note_time(&event);
        self.batch.tally.quarantined += usize::from(event.is_quarantined);
        self.batch.ready.push(event);
    }

    fn note_time(&mut self, event: &Event) {
        let source = self
            .resource
            .source
            .and_then(|place| self.batch.sources.get_mut(place));
        if let Some((_, newest_us)) = source {
            *newest_us = event.time_us.max(*newest_us);
        }
    }

    /// Keeps an event until its trace is known; without a trace it must name its unit.
    fn keep_waiting(&mut self, event: Event) -> Fate {
        if event.trace_id.is_none() {
            if event.unit.is_empty() {
                return Fate::Unattributed;
            }
            self.keep(event);
            return Fate::Taken;
        }
        self.note_time(&event);
        self.batch.tally.quarantined += usize::from(event.is_quarantined);
        self.batch.waiting.push(event);
        Fate::Taken
    }

    /// When a log record or point happened; what does not know is taken to happen now.
    fn time_of(&self, candidates: [u64; 2]) -> u64 {
        let known = candidates.into_iter().find(|time| *time > 0);
        known.unwrap_or_else(|| {
            let micros = u64::try_from(self.arrival.received_us).unwrap_or(0);
            micros.saturating_mul(1000)
        })
    }
}

/// What became of a record that is in order.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    Unattributed,
    NotStored,
}

fn check_text(what: &str, text: &str, most_bytes: usize) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(format!("{what} is empty").into());
    }
    if text.len() > most_bytes {
        return Err(format!("{what} has more than {most_bytes} bytes").into());
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} holds a control character").into());
    }
    Ok(())
}

/// Adds a property in its place; the first of a name stays.
fn set(properties: &mut Properties, key: &str, value: PropertyValue) {
    if let Err(place) = properties.binary_search_by(|(known, _)| known.as_ref().cmp(key)) {
        properties.insert(place, (key.into(), value));
    }
}
