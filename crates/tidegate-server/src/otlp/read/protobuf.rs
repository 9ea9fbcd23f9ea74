//! OTLP as protobuf, read without building it.
//!
//! Field numbers are those of opentelemetry-proto, `opentelemetry/proto/*/v1/*.proto`. A resource
//! may stand behind what belongs to it, so a group is walked twice: once for its resource, once
//! for its records. What is not read (links, exemplars, buckets, schema addresses) is stepped over
//! without a look inside.

use std::borrow::Cow;

use super::wire::{Field, Fields, WireError};
use super::{
    Attribute, Attributes, LogRecord, Point, PointKind, Span, SpanEvent, Value, is_evaluation_name,
    rounded,
};
use crate::otlp::map::Mapper;
use crate::otlp::{Limits, RequestError, Signal};

/// Reads a request and hands each record to `mapper`.
pub(crate) fn read<'a>(
    signal: Signal,
    bytes: &'a [u8],
    limits: &'a Limits,
    mapper: &mut Mapper<'_>,
) -> Result<(), RequestError> {
    let reader = Reader { signal, limits };
    for group in messages(bytes, 1) {
        reader.group(group.map_err(malformed)?, mapper)?;
    }
    Ok(())
}

fn malformed(error: WireError) -> RequestError {
    RequestError::Malformed {
        encoding: "protobuf",
        detail: error.to_string(),
    }
}

/// The messages in the fields of that number.
fn messages(bytes: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], WireError>> {
    let mut fields = Fields::new(bytes);
    let mut is_over = false;
    std::iter::from_fn(move || {
        while !is_over {
            match fields.next_field() {
                Ok(Some(field)) if field.number == number => return Some(field.bytes()),
                Ok(Some(_)) => {}
                Ok(None) => is_over = true,
                Err(error) => {
                    is_over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

struct Reader<'a> {
    signal: Signal,
    limits: &'a Limits,
}

impl<'a> Reader<'a> {
    /// `ResourceLogs`, `ResourceSpans` or `ResourceMetrics`.
    fn group(&self, bytes: &'a [u8], mapper: &mut Mapper<'_>) -> Result<(), RequestError> {
        let mut attributes = Attributes::default();
        for resource in messages(bytes, 1) {
            let resource = resource.map_err(malformed)?;
            self.attributes(resource, 1, &mut attributes)
                .map_err(malformed)?;
        }
        mapper.resource(&attributes);
        for scope in messages(bytes, 2) {
            self.scope(scope.map_err(malformed)?, mapper)?;
        }
        Ok(())
    }

    /// `ScopeLogs`, `ScopeSpans` or `ScopeMetrics`.
    fn scope(&self, bytes: &'a [u8], mapper: &mut Mapper<'_>) -> Result<(), RequestError> {
        let mut name = "";
        for scope in messages(bytes, 1) {
            let mut fields = Fields::new(scope.map_err(malformed)?);
            while let Some(field) = fields.next_field().map_err(malformed)? {
                if field.number == 1 {
                    name = field.text().map_err(malformed)?;
                }
            }
        }
        mapper.scope(name);
        for record in messages(bytes, 2) {
            let record = record.map_err(malformed)?;
            match self.signal {
                Signal::Logs => {
                    mapper.count_record()?;
                    mapper.log(&self.log(record).map_err(malformed)?)?;
                }
                Signal::Traces => {
                    mapper.count_record()?;
                    mapper.span(&self.span(record).map_err(malformed)?)?;
                }
                Signal::Metrics => self.metric(record, mapper)?,
            }
        }
        Ok(())
    }

    fn log(&self, bytes: &'a [u8]) -> Result<LogRecord<'a>, WireError> {
        let mut log = LogRecord::default();
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => log.time_ns = field.fixed64()?,
                5 => log.body = Some(value(field.bytes()?)?),
                6 => self.attribute(&field, &mut log.attributes)?,
                9 => log.trace_id = trace_id(field.bytes()?),
                10 => log.span_id = span_id(field.bytes()?),
                11 => log.observed_ns = field.fixed64()?,
                12 => log.event_name = Cow::Borrowed(field.text()?),
                _ => {}
            }
        }
        Ok(log)
    }

    fn span(&self, bytes: &'a [u8]) -> Result<Span<'a>, WireError> {
        let mut span = Span::default();
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => span.trace_id = trace_id(field.bytes()?),
                2 => span.span_id = span_id(field.bytes()?),
                5 => span.name = Cow::Borrowed(field.text()?),
                6 => span.kind = signed(field.varint()?),
                7 => span.start_ns = field.fixed64()?,
                8 => span.end_ns = field.fixed64()?,
                9 => self.attribute(&field, &mut span.attributes)?,
                11 => self.span_event(field.bytes()?, &mut span)?,
                15 => span.status = status(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(span)
    }

    /// Keeps the event if it tells of a flag. Its name may stand behind its attributes.
    fn span_event(&self, bytes: &'a [u8], span: &mut Span<'a>) -> Result<(), WireError> {
        let mut event = SpanEvent::default();
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => event.time_ns = field.fixed64()?,
                2 => event.name = Cow::Borrowed(field.text()?),
                _ => {}
            }
        }
        if !is_evaluation_name(&event.name) {
            return Ok(());
        }
        if span.evaluations.len() >= self.limits.max_span_evaluations {
            span.is_cut = true;
            return Ok(());
        }
        self.attributes(bytes, 3, &mut event.attributes)?;
        span.evaluations.push(event);
        Ok(())
    }

    fn metric(&self, bytes: &'a [u8], mapper: &mut Mapper<'_>) -> Result<(), RequestError> {
        let mut name = "";
        let mut data = None;
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next_field().map_err(malformed)? {
            match field.number {
                1 => name = field.text().map_err(malformed)?,
                5 | 7 | 9 | 10 | 11 => {
                    data = Some((field.number, field.bytes().map_err(malformed)?));
                }
                _ => {}
            }
        }
        let Some((kind, data)) = data else {
            return Ok(());
        };
        let kind = point_kind(kind, data).map_err(malformed)?;
        for point in messages(data, 1) {
            mapper.count_record()?;
            let point = point
                .and_then(|point| self.point(name, kind, point))
                .map_err(malformed)?;
            mapper.point(&point)?;
        }
        Ok(())
    }

    fn point(
        &self,
        metric: &'a str,
        kind: PointKind,
        bytes: &'a [u8],
    ) -> Result<Point<'a>, WireError> {
        let mut point = Point {
            metric: Cow::Borrowed(metric),
            kind,
            time_ns: 0,
            value: None,
            attributes: Attributes::default(),
        };
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next_field()? {
            match (field.number, kind) {
                (3, _) => point.time_ns = field.fixed64()?,
                // Other kinds of points use these numbers for other things.
                (_, PointKind::Distribution) => {}
                (4, _) => point.value = Some(f64::from_bits(field.fixed64()?)),
                (6, _) => point.value = Some(rounded(signed(field.fixed64()?))),
                (7, _) => self.attribute(&field, &mut point.attributes)?,
                _ => {}
            }
        }
        Ok(point)
    }

    fn attributes(
        &self,
        bytes: &'a [u8],
        number: u32,
        into: &mut Attributes<'a>,
    ) -> Result<(), WireError> {
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next_field()? {
            if field.number == number {
                self.attribute(&field, into)?;
            }
        }
        Ok(())
    }

    fn attribute(&self, field: &Field<'a>, into: &mut Attributes<'a>) -> Result<(), WireError> {
        into.push(key_value(field.bytes()?)?, self.limits.max_attributes);
        Ok(())
    }
}

/// A running total is a sum whose temporality is not delta (1).
fn point_kind(field: u32, data: &[u8]) -> Result<PointKind, WireError> {
    const GAUGE: u32 = 5;
    const SUM: u32 = 7;
    const DELTA: u64 = 1;
    if field != SUM {
        return Ok(if field == GAUGE {
            PointKind::Number
        } else {
            PointKind::Distribution
        });
    }
    let mut temporality = 0;
    let mut fields = Fields::new(data);
    while let Some(field) = fields.next_field()? {
        if field.number == 2 {
            temporality = field.varint()?;
        }
    }
    Ok(if temporality == DELTA {
        PointKind::Number
    } else {
        PointKind::RunningTotal
    })
}

fn key_value(bytes: &[u8]) -> Result<Attribute<'_>, WireError> {
    let mut key = "";
    let mut found = Value::Empty;
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => key = field.text()?,
            2 => found = value(field.bytes()?)?,
            _ => {}
        }
    }
    Ok((Cow::Borrowed(key), found))
}

/// `AnyValue`; of several members the last counts, as in every oneof.
fn value(bytes: &[u8]) -> Result<Value<'_>, WireError> {
    let mut found = Value::Empty;
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next_field()? {
        found = match field.number {
            1 => Value::Text(Cow::Borrowed(field.text()?)),
            2 => Value::Bool(field.varint()? != 0),
            3 => Value::Int(signed(field.varint()?)),
            4 => Value::Double(f64::from_bits(field.fixed64()?)),
            5..=7 => Value::Nested(field.bytes()?),
            _ => continue,
        };
    }
    Ok(found)
}

fn status(bytes: &[u8]) -> Result<i64, WireError> {
    let mut code = 0;
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next_field()? {
        if field.number == 3 {
            code = signed(field.varint()?);
        }
    }
    Ok(code)
}

/// Two's complement, as protobuf stores signed numbers.
fn signed(number: u64) -> i64 {
    i64::from_le_bytes(number.to_le_bytes())
}

fn trace_id(bytes: &[u8]) -> Option<u128> {
    let id = u128::from_be_bytes(bytes.try_into().ok()?);
    (id != 0).then_some(id)
}

fn span_id(bytes: &[u8]) -> Option<u64> {
    let id = u64::from_be_bytes(bytes.try_into().ok()?);
    (id != 0).then_some(id)
}
