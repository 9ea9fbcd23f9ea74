//! Named log events and numbers of units: things that happened, as the application tells them.
//!
//! The name is the record's event name (older: attribute `event.name`). The number an event
//! carries is `tidegate.value`, or `value`; of a data point its own. The body of a log is not
//! kept: it is text for people, and may hold anything.

use tidegate_metrics::EventKind;

use super::attributes::add_track;
use super::{Draft, Fate, Mapper, Refusal, ids};
use crate::otlp::read::{LogRecord, Point, PointKind, Value};

/// What happened; empty for a plain log line.
pub(super) fn event_name<'a>(log: &'a LogRecord<'_>) -> &'a str {
    if log.event_name.is_empty() {
        log.attributes.text(&["event.name"]).unwrap_or_default()
    } else {
        &log.event_name
    }
}

impl Mapper<'_> {
    pub(super) fn track_of_log(
        &mut self,
        log: &LogRecord<'_>,
        name: &str,
    ) -> Result<Fate, Refusal> {
        let number = ["tidegate.value", "value"]
            .iter()
            .find_map(|name| log.attributes.get(name)?.as_number());
        let mut properties = self.resource.properties.clone();
        let mut left_out = 0;
        add_track(
            &mut properties,
            &log.attributes,
            &self.limits.events,
            &mut left_out,
        );
        if number.is_some() {
            properties.retain(|(key, _)| key.as_ref() != "value");
        }
        let said = || {
            let body = log.body.as_ref().unwrap_or(&Value::Empty);
            self.scope
                .number(log.known_ns())
                .span(log.trace_id, log.span_id)
                .text(name)
                .value(body)
                .attributes(&log.attributes)
        };
        let event = self.event(Draft {
            kind: EventKind::Track,
            name,
            unit: self.unit(&log.attributes).unwrap_or_default(),
            time_ns: self.time_of([log.known_ns(), 0]),
            identity: ids::own(&log.attributes).unwrap_or_else(said),
            trace_id: log.trace_id,
            value: finite(number)?,
            properties,
            flags: Vec::new(),
        })?;
        self.batch.tally.attributes_left_out += left_out;
        Ok(self.keep_waiting(event))
    }

    pub(super) fn track_of_point(&mut self, point: &Point<'_>) -> Result<Fate, Refusal> {
        let (PointKind::Number, Some(number)) = (point.kind, point.value) else {
            return Ok(Fate::NotStored);
        };
        let Some(unit) = self.unit(&point.attributes) else {
            return Ok(Fate::NotStored);
        };
        let mut properties = self.resource.properties.clone();
        let mut left_out = 0;
        add_track(
            &mut properties,
            &point.attributes,
            &self.limits.events,
            &mut left_out,
        );
        let event = self.event(Draft {
            kind: EventKind::Track,
            name: &point.metric,
            unit,
            time_ns: self.time_of([point.time_ns, 0]),
            identity: self
                .scope
                .number(point.time_ns)
                .text(&point.metric)
                .attributes(&point.attributes),
            trace_id: None,
            value: finite(Some(number))?,
            properties,
            flags: Vec::new(),
        })?;
        self.batch.tally.attributes_left_out += left_out;
        Ok(self.keep_waiting(event))
    }
}

fn finite(number: Option<f64>) -> Result<Option<f64>, Refusal> {
    match number {
        Some(number) if !number.is_finite() => Err("a value is not a finite number".into()),
        // -0 is stored as 0, as at the native door.
        number => Ok(number.map(|number| number + 0.0)),
    }
}
