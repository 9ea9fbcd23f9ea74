//! OTLP as JSON, read one record at a time.
//!
//! Each level is cut out as raw text and taken apart only when its turn comes, so that what is
//! held is the request itself and one record. Unknown fields are ignored, as the specification
//! demands; nesting is bounded by the reader.

use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::json_text::{Double, Text, Whole, hexadecimal};
use super::{
    Attributes, LogRecord, Point, PointKind, Span, SpanEvent, Value, is_evaluation_name, rounded,
};
use crate::otlp::map::Mapper;
use crate::otlp::{Limits, RequestError, Signal};

/// Reads a request and hands each record to `mapper`.
pub(crate) fn read(
    signal: Signal,
    bytes: &[u8],
    limits: &Limits,
    mapper: &mut Mapper<'_>,
) -> Result<(), RequestError> {
    let text = std::str::from_utf8(bytes).map_err(|error| RequestError::Malformed {
        encoding: "JSON",
        detail: error.to_string(),
    })?;
    let [groups] = members(text, [names(signal).groups])?;
    each(groups, &mut |group| {
        Reader { signal, limits }.group(group, mapper)
    })
}

/// What the levels of a signal are called.
struct Names {
    groups: &'static str,
    scopes: &'static str,
    records: &'static str,
}

const fn names(signal: Signal) -> Names {
    match signal {
        Signal::Logs => Names {
            groups: "resourceLogs",
            scopes: "scopeLogs",
            records: "logRecords",
        },
        Signal::Traces => Names {
            groups: "resourceSpans",
            scopes: "scopeSpans",
            records: "spans",
        },
        Signal::Metrics => Names {
            groups: "resourceMetrics",
            scopes: "scopeMetrics",
            records: "metrics",
        },
    }
}

struct Reader<'l> {
    signal: Signal,
    limits: &'l Limits,
}

impl Reader<'_> {
    fn group(&self, group: &RawValue, mapper: &mut Mapper<'_>) -> Result<(), RequestError> {
        let names = names(self.signal);
        let [resource, scopes] = members(group.get(), ["resource", names.scopes])?;
        let resource: Resource<'_> = parsed(resource)?;
        mapper.resource(&self.cut(resource.attributes));
        each(scopes, &mut |scope| {
            let [info, records] = members(scope.get(), ["scope", names.records])?;
            let info: Scope<'_> = parsed(info)?;
            mapper.scope(&info.name.0);
            each(records, &mut |record| self.record(record, mapper))
        })
    }

    fn record(&self, record: &RawValue, mapper: &mut Mapper<'_>) -> Result<(), RequestError> {
        match self.signal {
            Signal::Logs => {
                mapper.count_record()?;
                mapper.log(&self.log(parsed(Some(record))?))
            }
            Signal::Traces => {
                mapper.count_record()?;
                mapper.span(&self.span(parsed(Some(record))?)?)
            }
            Signal::Metrics => self.metric(record, mapper),
        }
    }

    fn log<'a>(&self, log: LogJson<'a>) -> LogRecord<'a> {
        LogRecord {
            time_ns: log.time_unix_nano.unsigned(),
            observed_ns: log.observed_time_unix_nano.unsigned(),
            event_name: log.event_name.0,
            body: log.body,
            attributes: self.cut(log.attributes),
            trace_id: hexadecimal(&log.trace_id.0, 32),
            span_id: span_id(&log.span_id.0),
        }
    }

    fn span<'a>(&self, span: SpanJson<'a>) -> Result<Span<'a>, RequestError> {
        let mut found = Span {
            trace_id: hexadecimal(&span.trace_id.0, 32),
            span_id: span_id(&span.span_id.0),
            name: span.name.0,
            kind: span.kind.signed(),
            start_ns: span.start_time_unix_nano.unsigned(),
            end_ns: span.end_time_unix_nano.unsigned(),
            attributes: self.cut(span.attributes),
            evaluations: Vec::new(),
            is_cut: false,
            status: span.status.unwrap_or_default().code.signed(),
        };
        each(span.events, &mut |event| {
            let event: EventJson<'a> = parsed(Some(event))?;
            if !is_evaluation_name(&event.name.0) {
                return Ok(());
            }
            if found.evaluations.len() >= self.limits.max_span_evaluations {
                found.is_cut = true;
                return Ok(());
            }
            found.evaluations.push(SpanEvent {
                time_ns: event.time_unix_nano.unsigned(),
                name: event.name.0,
                attributes: self.cut(event.attributes),
            });
            Ok(())
        })?;
        Ok(found)
    }

    fn metric(&self, metric: &RawValue, mapper: &mut Mapper<'_>) -> Result<(), RequestError> {
        const DELTA: i64 = 1;
        let metric: MetricJson<'_> = parsed(Some(metric))?;
        let sum_kind = |sum: &PointsJson<'_>| {
            if sum.aggregation_temporality.signed() == DELTA {
                PointKind::Number
            } else {
                PointKind::RunningTotal
            }
        };
        let groups = [
            metric.gauge.map(|data| (PointKind::Number, data)),
            metric.sum.map(|data| (sum_kind(&data), data)),
            metric.histogram.map(|data| (PointKind::Distribution, data)),
            metric
                .exponential_histogram
                .map(|data| (PointKind::Distribution, data)),
            metric.summary.map(|data| (PointKind::Distribution, data)),
        ];
        for (kind, data) in groups.into_iter().flatten() {
            each(data.data_points, &mut |point| {
                mapper.count_record()?;
                let point: PointJson<'_> = parsed(Some(point))?;
                let number = point.as_int.map(|whole| rounded(whole.signed()));
                mapper.point(&Point {
                    metric: metric.name.0.clone(),
                    kind,
                    time_ns: point.time_unix_nano.unsigned(),
                    value: point.as_double.0.or(number),
                    attributes: self.cut(point.attributes),
                })
            })?;
        }
        Ok(())
    }

    fn cut<'a>(&self, mut attributes: Attributes<'a>) -> Attributes<'a> {
        if attributes.list.len() > self.limits.max_attributes {
            attributes.list.truncate(self.limits.max_attributes);
            attributes.is_cut = true;
        }
        attributes
    }
}

fn span_id(text: &str) -> Option<u64> {
    hexadecimal(text, 16).and_then(|id| u64::try_from(id).ok())
}

#[derive(Deserialize, Default)]
struct Resource<'a> {
    #[serde(borrow, default)]
    attributes: Attributes<'a>,
}

#[derive(Deserialize, Default)]
struct Scope<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct LogJson<'a> {
    time_unix_nano: Whole,
    observed_time_unix_nano: Whole,
    #[serde(borrow)]
    event_name: Text<'a>,
    #[serde(borrow)]
    body: Option<Value<'a>>,
    #[serde(borrow)]
    attributes: Attributes<'a>,
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    span_id: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SpanJson<'a> {
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    span_id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    kind: Whole,
    start_time_unix_nano: Whole,
    end_time_unix_nano: Whole,
    #[serde(borrow)]
    attributes: Attributes<'a>,
    #[serde(borrow)]
    events: Option<&'a RawValue>,
    status: Option<StatusJson>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StatusJson {
    code: Whole,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EventJson<'a> {
    time_unix_nano: Whole,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    attributes: Attributes<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MetricJson<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    gauge: Option<PointsJson<'a>>,
    #[serde(borrow)]
    sum: Option<PointsJson<'a>>,
    #[serde(borrow)]
    histogram: Option<PointsJson<'a>>,
    #[serde(borrow)]
    exponential_histogram: Option<PointsJson<'a>>,
    #[serde(borrow)]
    summary: Option<PointsJson<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PointsJson<'a> {
    #[serde(borrow)]
    data_points: Option<&'a RawValue>,
    aggregation_temporality: Whole,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PointJson<'a> {
    time_unix_nano: Whole,
    as_double: Double,
    as_int: Option<Whole>,
    #[serde(borrow)]
    attributes: Attributes<'a>,
}

fn malformed(error: &serde_json::Error) -> RequestError {
    RequestError::Malformed {
        encoding: "JSON",
        detail: error.to_string(),
    }
}

fn parsed<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> Result<T, RequestError> {
    let Some(raw) = raw else {
        return Ok(T::default());
    };
    let found: Option<T> = serde_json::from_str(raw.get()).map_err(|error| malformed(&error))?;
    Ok(found.unwrap_or_default())
}

/// The members of an object by these names; of a name that occurs twice the last one.
fn members<'a, const N: usize>(
    text: &'a str,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], RequestError> {
    struct Members<const N: usize>([&'static str; N]);
    impl<'de, const N: usize> Visitor<'de> for Members<N> {
        type Value = [Option<&'de RawValue>; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an object with {}", self.0.join(" and "))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = [None; N];
            while let Some(Text(key)) = map.next_key()? {
                let place = self.0.iter().position(|name| *name == key);
                match place.and_then(|place| found.get_mut(place)) {
                    Some(slot) => *slot = map.next_value::<Option<&'de RawValue>>()?,
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            Ok(found)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok([None; N])
        }
    }
    let mut input = serde_json::Deserializer::from_str(text);
    let found = input
        .deserialize_any(Members(names))
        .and_then(|found| input.end().map(|()| found));
    found.map_err(|error| malformed(&error))
}

/// Hands over each element of a list as raw text; a list that is absent has none.
fn each<'a>(
    list: Option<&'a RawValue>,
    take: &mut dyn FnMut(&'a RawValue) -> Result<(), RequestError>,
) -> Result<(), RequestError> {
    let Some(list) = list else {
        return Ok(());
    };
    let mut refusal = None;
    let mut input = serde_json::Deserializer::from_str(list.get());
    let outcome = Elements {
        take,
        refusal: &mut refusal,
    }
    .deserialize(&mut input);
    match (refusal, outcome) {
        (Some(refusal), _) => Err(refusal),
        (None, outcome) => outcome.map_err(|error| malformed(&error)),
    }
}

struct Elements<'t, 'a> {
    take: &'t mut dyn FnMut(&'a RawValue) -> Result<(), RequestError>,
    refusal: &'t mut Option<RequestError>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            if let Err(refusal) = (self.take)(element) {
                *self.refusal = Some(refusal);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
