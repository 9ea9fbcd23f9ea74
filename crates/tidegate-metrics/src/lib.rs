//! What happened to a unit: events folded to unit measurements and journeys.
//!
//! The crate owns the domain type [`Event`], the parser of the native wire form
//! ([`parse_events`]), and every fold that turns events into numbers: live aggregates for
//! guards, unit measurements, journeys, usage and retention.
//!
//! It is pure: it reads no clock, disk, network or environment. What "now" is, which events
//! exist and in which order they arrived are arguments. Durable storage is the business of
//! `tidegate-lake`; what the numbers mean statistically is that of `tidegate-stats`.

mod activity;
mod definition;
mod event;
mod exposure;
mod filter;
mod ingest;
mod journey;
mod lifecycle;
mod live;
mod measure;
mod query;
pub mod report;

pub use activity::{
    Adoption, AdoptionKey, DistinctUnits, Retention, RetentionFold, Usage, UsageCell, UsageTally,
};
pub use event::id::{EventId, InvalidEventId, TraceId};
pub use event::rfc3339::{InvalidTime, format_rfc3339, parse_rfc3339};
pub use event::{
    Event, EventKind, Properties, PropertyValue, ServedFlags, UnknownEventKind, unit_hash,
};
pub use exposure::{Arms, Assignment, ExposureEvent, assign_units};
pub use filter::{EventFilter, PropertyFilter, PropertyTest, Scalar};
pub use ingest::{
    Arrival, BatchError, Limits, ParsedBatch, Rejection, RejectionCode, parse_events,
};
pub use journey::{
    ClassifiedEvent, Counted, DefinitionProblem, Exclusion, JourneyDefinition, JourneyFold,
    JourneyGroup, JourneyKey, JourneyMemory, JourneyReport, MAX_EXCLUSIONS, MAX_STEPS, Reentry,
    Step, StepOrder, TimedFrom,
};
pub use lifecycle::{Lifecycle, LifecycleCell, LifecycleKey};
pub use live::{
    ArmCounts, Incomplete, LatencyHistogram, LiveAggregates, LiveLimits, MAX_RUNGS, MarkError,
    PhaseCounts, PhaseMark, RungCounts, TrackCounts, ValueMoments, Watermark,
};
pub use measure::{
    Aggregate, GroupStatistics, Measure, MetricDefinition, MetricState, MetricSummary, Observation,
    UnitMeasurement, UnitMeasurements, UnitQuantity, Winsorise, measure_units, summarise,
    summarise_states,
};
pub use query::{Answer, Days, Findings, Grouping, MAX_USAGE_EVENTS, MissingFile, Query};
