//! OTLP requests as the field's own message types build them, in both encodings.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use tidegate_server::otlp::Signal;

/// Noon of a day, in nanoseconds.
pub const NOON_NS: u64 = 1_780_315_200_000_000_000;
/// The same in microseconds.
pub const NOON_US: i64 = 1_780_315_200_000_000;

/// An attribute's value.
#[derive(Debug, Clone)]
pub enum Is {
    Text(&'static str),
    Int(i64),
    Double(f64),
    Bool(bool),
    List,
}

/// Attributes.
pub fn attributes(pairs: &[(&str, Is)]) -> Vec<KeyValue> {
    let value = |is: &Is| match is {
        Is::Text(text) => any_value::Value::StringValue((*text).to_owned()),
        Is::Int(number) => any_value::Value::IntValue(*number),
        Is::Double(number) => any_value::Value::DoubleValue(*number),
        Is::Bool(truth) => any_value::Value::BoolValue(*truth),
        Is::List => any_value::Value::ArrayValue(Default::default()),
    };
    pairs
        .iter()
        .map(|(key, is)| KeyValue {
            key: (*key).to_owned(),
            value: Some(AnyValue {
                value: Some(value(is)),
            }),
            ..KeyValue::default()
        })
        .collect()
}

pub fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "test".to_owned(),
        ..InstrumentationScope::default()
    })
}

pub fn resource(pairs: &[(&str, Is)]) -> Option<Resource> {
    Some(Resource {
        attributes: attributes(pairs),
        ..Resource::default()
    })
}

/// A log event of trace 7 and span 3.
pub fn log(name: &str, pairs: &[(&str, Is)]) -> LogRecord {
    LogRecord {
        time_unix_nano: NOON_NS,
        event_name: name.to_owned(),
        attributes: attributes(pairs),
        trace_id: 7u128.to_be_bytes().to_vec(),
        span_id: 3u64.to_be_bytes().to_vec(),
        ..LogRecord::default()
    }
}

pub fn logs(records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(&[("service.name", Is::Text("shop"))]),
            scope_logs: vec![ScopeLogs {
                scope: scope(),
                log_records: records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

/// A server span of that trace, a quarter of a second long.
pub fn server_span(trace: u128, id: u64, pairs: &[(&str, Is)]) -> Span {
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        name: "GET".to_owned(),
        kind: span::SpanKind::Server.into(),
        start_time_unix_nano: NOON_NS,
        end_time_unix_nano: NOON_NS + 250_000_000,
        attributes: attributes(pairs),
        ..Span::default()
    }
}

pub fn with_status(mut span: Span, code: i32) -> Span {
    span.status = Some(Status {
        code,
        message: "as it went".to_owned(),
    });
    span
}

/// An evaluation as a span event.
pub fn span_event(name: &str, pairs: &[(&str, Is)]) -> span::Event {
    span::Event {
        time_unix_nano: NOON_NS + 1000,
        name: name.to_owned(),
        attributes: attributes(pairs),
        ..span::Event::default()
    }
}

pub fn traces(spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(&[
                ("service.name", Is::Text("shop")),
                ("host.ip", Is::Text("192.0.2.7")),
            ]),
            scope_spans: vec![ScopeSpans {
                scope: scope(),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// The path of a signal over HTTP.
pub fn path(signal: Signal) -> String {
    format!("/v1/{}", signal.as_str())
}
