//! What becomes of each kind of record, in both encodings, and what is refused.
//!
//! Long because the mapping is a table: a row for each attribute, old name and refusal.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod otlp_support;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    Sum, metric, number_data_point,
};
use otlp_support::Is::{Bool, Double, Int, List, Text};
use otlp_support::{
    Is, NOON_NS, NOON_US, log, logs, resource, scope, server_span, span_event, traces, with_status,
};
use proptest::prelude::*;
use prost::Message;
use serde::Serialize;
use tidegate_metrics::{Arrival, Event, EventKind, PropertyValue};
use tidegate_server::otlp::map::{Batch, Tally};
use tidegate_server::otlp::{Encoding, Limits, RequestError, Signal, decode};

/// Attributes of a record in the tables.
type Attributes = Vec<(&'static str, Is)>;

const DAY_US: i64 = 24 * 3_600_000_000;

fn arrival() -> Arrival {
    Arrival {
        received_us: NOON_US + 5_000_000,
        sent_us: None,
    }
}

/// One encoding: the ids of records with nested values differ between the two.
fn of_protobuf<T: Message>(signal: Signal, request: &T) -> Batch {
    let bytes = request.encode_to_vec();
    decode(
        signal,
        Encoding::Protobuf,
        &bytes,
        &Limits::default(),
        arrival(),
    )
    .unwrap()
}

/// Both encodings of a request, which must come to the same.
fn batch<T: Message + Serialize>(signal: Signal, request: &T) -> Batch {
    let read = |encoding, bytes: &[u8]| {
        decode(signal, encoding, bytes, &Limits::default(), arrival()).unwrap()
    };
    let protobuf = read(Encoding::Protobuf, &request.encode_to_vec());
    let json = read(Encoding::Json, &serde_json::to_vec(request).unwrap());
    assert_eq!(protobuf.ready, json.ready);
    assert_eq!(protobuf.waiting, json.waiting);
    assert_eq!(protobuf.exposures, json.exposures);
    assert_eq!(protobuf.tally, json.tally);
    protobuf
}

fn of_logs(records: Vec<opentelemetry_proto::tonic::logs::v1::LogRecord>) -> Batch {
    batch(Signal::Logs, &logs(records))
}

fn of_spans(spans: Vec<opentelemetry_proto::tonic::trace::v1::Span>) -> Batch {
    batch(Signal::Traces, &traces(spans))
}

/// Properties as text, without which service it was.
fn properties(event: &Event) -> Vec<(String, String)> {
    let text = |value: &PropertyValue| match value {
        PropertyValue::Text(text) => text.to_string(),
        PropertyValue::Number(number) => number.to_string(),
        PropertyValue::Bool(truth) => truth.to_string(),
    };
    let own = event
        .properties
        .iter()
        .filter(|(key, _)| key.as_ref() != "service.name");
    own.map(|(key, value)| (key.to_string(), text(value)))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn an_evaluation_that_a_unit_met_is_an_evaluation_and_an_exposure() {
    let found = of_logs(vec![log(
        "feature_flag.evaluation",
        &[
            ("feature_flag.key", Text("new-checkout")),
            ("feature_flag.result.variant", Text("on")),
            ("feature_flag.result.reason", Text("TARGETING_MATCH")),
            ("feature_flag.provider.name", Text("flagd")),
            ("feature_flag.context.id", Text("user-17")),
            ("feature_flag.set.id", Text("shop")),
            ("feature_flag.version", Text("42")),
        ],
    )]);
    let [evaluation] = found.ready.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(evaluation.kind, EventKind::Evaluation);
    assert_eq!(evaluation.name.as_ref(), "new-checkout");
    assert_eq!(evaluation.unit.as_ref(), "user-17");
    assert_eq!(evaluation.variant("new-checkout"), Some("on"));
    assert_eq!(evaluation.time_us, NOON_US);
    assert_eq!(evaluation.trace_id.unwrap().0, 7);
    assert!(evaluation.id.is_derived());
    assert_eq!(
        properties(evaluation),
        pairs(&[
            ("provider", "flagd"),
            ("reason", "targeting_match"),
            ("set_id", "shop"),
            ("version", "42"),
        ])
    );
    let [(_, exposure)] = found.exposures.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(exposure.kind, EventKind::Exposure);
    assert_eq!(exposure.variant("new-checkout"), Some("on"));
    assert_ne!(exposure.id, evaluation.id);
}

#[test]
fn older_names_say_the_same() {
    let forms: [(&str, Vec<(&str, Is)>); 3] = [
        (
            "feature_flag.evaluation",
            vec![
                ("feature_flag.key", Text("f")),
                ("feature_flag.variant", Text("on")),
                ("feature_flag.evaluation.reason", Text("static")),
                ("feature_flag.provider_name", Text("p")),
                ("feature_flag.context.id", Text("u")),
            ],
        ),
        (
            "feature_flag",
            vec![
                ("feature_flag.key", Text("f")),
                ("feature_flag.variant", Text("on")),
                ("feature_flag.reason", Text("static")),
                ("feature_flag.system", Text("p")),
                ("feature_flag.context.id", Text("u")),
            ],
        ),
        (
            "",
            vec![
                ("event.name", Text("feature_flag.evaluation")),
                ("feature_flag.key", Text("f")),
                ("feature_flag.result.variant", Text("on")),
                ("feature_flag.result.reason", Text("static")),
                ("feature_flag.provider.name", Text("p")),
                ("enduser.id", Text("u")),
            ],
        ),
    ];
    for (name, attributes) in forms {
        let found = of_logs(vec![log(name, &attributes)]);
        let evaluation = &found.ready[0];
        assert_eq!(evaluation.variant("f"), Some("on"), "{name}");
        assert_eq!(evaluation.unit.as_ref(), "u");
        assert_eq!(
            properties(evaluation),
            pairs(&[("provider", "p"), ("reason", "static")])
        );
        assert_eq!(found.exposures.len(), 1);
    }
}

#[test]
fn what_nobody_met_is_no_exposure() {
    let base = || {
        vec![
            ("feature_flag.key", Text("f")),
            ("feature_flag.context.id", Text("u")),
        ]
    };
    let with = |more: Attributes| {
        let mut all = base();
        all.extend(more);
        all
    };
    let variant = || ("feature_flag.result.variant", Text("on"));
    let cases: [(&str, Attributes, usize); 6] = [
        ("a variant", with(vec![variant()]), 1),
        (
            "a value without a variant",
            with(vec![("feature_flag.result.value", Text("true"))]),
            0,
        ),
        (
            "an error type",
            with(vec![variant(), ("error.type", Text("flag_not_found"))]),
            0,
        ),
        (
            "an error message",
            with(vec![variant(), ("error.message", Text("secret detail"))]),
            0,
        ),
        (
            "the reason error",
            with(vec![
                variant(),
                ("feature_flag.result.reason", Text("ERROR")),
            ]),
            0,
        ),
        (
            "the code says that nothing was shown",
            with(vec![variant(), ("tidegate.exposure", Bool(false))]),
            0,
        ),
    ];
    for (name, attributes, exposures) in cases {
        let found = of_logs(vec![log("feature_flag.evaluation", &attributes)]);
        assert_eq!(found.ready.len(), 1, "{name}");
        assert_eq!(found.exposures.len(), exposures, "{name}");
        assert!(!format!("{found:?}").contains("secret detail"), "{name}");
    }
}

#[test]
fn a_server_span_is_a_request_that_waits_for_its_trace() {
    let found = of_spans(vec![server_span(
        9,
        5,
        &[
            ("http.request.method", Text("GET")),
            ("http.route", Text("/cart/{id}")),
            ("http.response.status_code", Int(200)),
            ("enduser.id", Text("user-17")),
        ],
    )]);
    assert!(found.ready.is_empty());
    let [request] = found.waiting.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(request.kind, EventKind::Request);
    assert_eq!(request.name.as_ref(), "GET /cart/{id}");
    assert_eq!(request.value, Some(250.0));
    assert_eq!(request.time_us, NOON_US + 250_000, "when it ended");
    assert_eq!(request.unit.as_ref(), "user-17");
    assert_eq!(
        properties(request),
        pairs(&[
            ("error", "false"),
            ("http.request.method", "GET"),
            ("http.route", "/cart/{id}"),
            ("status", "200"),
        ])
    );
}

#[test]
fn a_request_fails_by_its_status_or_else_by_what_it_answered() {
    const UNSET: i32 = 0;
    const OK: i32 = 1;
    const ERROR: i32 = 2;
    let cases: [(i32, Attributes, bool); 8] = [
        (UNSET, vec![], false),
        (UNSET, vec![("http.response.status_code", Int(404))], false),
        (UNSET, vec![("http.response.status_code", Int(500))], true),
        (UNSET, vec![("http.status_code", Text("503"))], true),
        (UNSET, vec![("error.type", Text("timeout"))], true),
        (ERROR, vec![("http.response.status_code", Int(200))], true),
        (OK, vec![("http.response.status_code", Int(500))], false),
        (
            UNSET,
            vec![("http.response.status_code", Int(99_999))],
            false,
        ),
    ];
    for (status, attributes, has_failed) in cases {
        let found = of_spans(vec![with_status(server_span(1, 1, &attributes), status)]);
        let request = &found.waiting[0];
        assert_eq!(request.is_failed_request(), has_failed, "{request:?}");
    }
}

#[test]
fn evaluations_on_spans_are_found_in_events_and_in_attributes() {
    let mut span = server_span(
        9,
        5,
        &[
            ("session.id", Text("s-1")),
            ("flag.evaluation.dark", Bool(true)),
        ],
    );
    span.events = vec![
        span_event(
            "feature_flag.evaluation",
            &[
                ("feature_flag.key", Text("f")),
                ("feature_flag.result.variant", Text("on")),
                ("feature_flag.context.id", Text("user-17")),
            ],
        ),
        span_event(
            "feature_flag",
            &[
                ("feature_flag.key", Text("g")),
                ("feature_flag.variant", Text("x")),
            ],
        ),
        span_event("exception", &[("exception.message", Text("card 4111"))]),
    ];
    let mut inner = server_span(
        9,
        6,
        &[
            ("feature_flag.key", Text("h")),
            ("feature_flag.result.variant", Text("off")),
            ("feature_flag.context.id", Text("user-17")),
        ],
    );
    inner.kind = 1;
    let found = of_spans(vec![span, inner]);
    let told: Vec<(&str, &str, Option<&str>)> = found
        .ready
        .iter()
        .map(|event| {
            (
                event.name.as_ref(),
                event.unit.as_ref(),
                event.variant(&event.name),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("f", "user-17", Some("on")),
            ("g", "s-1", Some("x")),
            ("dark", "s-1", None),
            ("h", "user-17", Some("off")),
        ]
    );
    assert_eq!(found.exposures.len(), 3);
    assert_eq!(found.waiting.len(), 1);
    assert!(!format!("{found:?}").contains("4111"));
}

#[test]
fn a_named_log_event_is_a_track_without_anything_personal() {
    let found = of_protobuf(
        Signal::Logs,
        &logs(vec![log(
            "checkout_completed",
            &[
                ("tidegate.unit", Text("user-17")),
                ("tidegate.value", Double(42.5)),
                ("cart.size", Int(3)),
                ("cart.items", List),
                ("client.address", Text("192.0.2.7")),
                ("user.email", Text("a@customer.example")),
                ("user_agent.original", Text("Firefox")),
                ("url.full", Text("https://shop.example/?q=secret")),
            ],
        )]),
    );
    let [track] = found.waiting.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (track.kind, track.name.as_ref()),
        (EventKind::Track, "checkout_completed")
    );
    assert_eq!((track.unit.as_ref(), track.value), ("user-17", Some(42.5)));
    assert_eq!(properties(track), pairs(&[("cart.size", "3")]));
    assert_eq!(found.tally.attributes_left_out, 1, "the list");
}

#[test]
fn what_stands_for_nothing_is_counted_and_what_names_nobody_too() {
    let mut inner = server_span(1, 1, &[]);
    inner.kind = 3;
    let spans = of_spans(vec![inner]);
    assert_eq!((spans.tally.records, spans.tally.not_stored), (1, 1));
    let mut nobody = log("bought", &[]);
    nobody.trace_id.clear();
    let evaluation = log(
        "feature_flag.evaluation",
        &[("feature_flag.key", Text("f"))],
    );
    let found = of_logs(vec![log("", &[]), nobody, evaluation]);
    assert_eq!(
        found.tally,
        Tally {
            records: 3,
            unattributed: 2,
            not_stored: 1,
            ..Tally::default()
        }
    );
    assert!(found.ready.is_empty() && found.waiting.is_empty());
}

fn number(pairs: &[(&str, Is)]) -> NumberDataPoint {
    NumberDataPoint {
        attributes: otlp_support::attributes(pairs),
        time_unix_nano: NOON_NS,
        value: Some(number_data_point::Value::AsInt(4)),
        ..NumberDataPoint::default()
    }
}

#[test]
fn a_number_of_a_unit_is_a_track_and_no_other_metric_is() {
    let named = |name: &str, data| Metric {
        name: name.to_owned(),
        data: Some(data),
        ..Metric::default()
    };
    let unit = [("tidegate.unit", Text("user-17"))];
    let sum = |temporality| {
        metric::Data::Sum(Sum {
            data_points: vec![number(&unit)],
            aggregation_temporality: temporality,
            is_monotonic: true,
        })
    };
    let histogram = metric::Data::Histogram(Histogram {
        data_points: vec![HistogramDataPoint {
            attributes: otlp_support::attributes(&unit),
            time_unix_nano: NOON_NS,
            count: 3,
            sum: Some(1.5),
            bucket_counts: vec![1, 2],
            explicit_bounds: vec![0.5],
            ..HistogramDataPoint::default()
        }],
        aggregation_temporality: 1,
    });
    let gauge = metric::Data::Gauge(Gauge {
        data_points: vec![number(&unit), number(&[])],
    });
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(&[("service.name", Text("shop"))]),
            scope_metrics: vec![ScopeMetrics {
                scope: scope(),
                metrics: vec![
                    named("gauge", gauge),
                    named("delta", sum(1)),
                    named("total", sum(2)),
                    named("http.server.request.duration", histogram),
                ],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    let found = batch(Signal::Metrics, &request);
    let told: Vec<(&str, &str, Option<f64>)> = found
        .ready
        .iter()
        .map(|event| (event.name.as_ref(), event.unit.as_ref(), event.value))
        .collect();
    assert_eq!(
        told,
        [
            ("gauge", "user-17", Some(4.0)),
            ("delta", "user-17", Some(4.0))
        ]
    );
    assert_eq!((found.tally.records, found.tally.not_stored), (5, 3));
}

#[test]
fn a_record_that_cannot_be_taken_costs_its_neighbours_nothing() {
    let good = || server_span(1, 1, &[("enduser.id", Text("u"))]);
    let mut no_id = good();
    no_id.trace_id = vec![0; 16];
    let mut backwards = good();
    backwards.end_time_unix_nano = NOON_NS - 1;
    let mut endless = good();
    endless.end_time_unix_nano = 0;
    let mut long = good();
    long.name = "x".repeat(201);
    let many: Vec<(String, Is)> = (0..129)
        .map(|number| (format!("k{number}"), Int(1)))
        .collect();
    let many: Vec<(&str, Is)> = many.iter().map(|(key, _)| (key.as_str(), Int(1))).collect();
    let crowded = server_span(1, 2, &many);
    let mut control = good();
    control.attributes = otlp_support::attributes(&[("enduser.id", Text("a\u{0}b"))]);
    let found = of_spans(vec![
        good(),
        no_id,
        backwards,
        endless,
        long,
        crowded,
        control,
    ]);
    assert_eq!((found.tally.records, found.tally.rejected), (7, 6));
    assert_eq!(found.waiting.len(), 1);
    assert_eq!(
        found.tally.reasons,
        [
            "a span has no valid trace id or span id",
            "a server span ends before it starts",
            "a server span has no start or no end",
        ],
        "the first few reasons"
    );
}

#[test]
fn what_claims_to_be_a_day_ahead_is_set_apart_and_any_age_is_taken() {
    let at = |time_us: i64| {
        let mut record = log("bought", &[("tidegate.unit", Text("u"))]);
        record.time_unix_nano = u64::try_from(time_us).unwrap() * 1000;
        record
    };
    let received_us = arrival().received_us;
    let found = of_logs(vec![
        at(1),
        at(received_us + DAY_US),
        at(received_us + DAY_US + 1),
    ]);
    let apart: Vec<bool> = found
        .waiting
        .iter()
        .map(|event| event.is_quarantined)
        .collect();
    assert_eq!(apart, [false, false, true]);
    assert_eq!((found.tally.quarantined, found.tally.rejected), (1, 0));
}

#[test]
fn an_export_that_is_repeated_says_the_same_and_a_different_one_something_else() {
    let id = |record| of_logs(vec![record]).waiting[0].id;
    let base = || log("bought", &[("tidegate.unit", Text("u")), ("a", Int(1))]);
    let turned = log("bought", &[("a", Int(1)), ("tidegate.unit", Text("u"))]);
    assert_eq!(id(base()), id(base()));
    assert_eq!(id(base()), id(turned), "in whatever order");
    let mut observed_later = base();
    observed_later.observed_time_unix_nano = NOON_NS + 9;
    assert_eq!(id(base()), id(observed_later));
    let mut later = base();
    later.time_unix_nano += 1;
    let other = log("bought", &[("tidegate.unit", Text("u")), ("a", Int(2))]);
    for different in [later, other] {
        assert_ne!(id(base()), id(different));
    }
    let named = |uid: &'static str, amount| {
        log(
            "bought",
            &[
                ("tidegate.unit", Text("u")),
                ("log.record.uid", Text(uid)),
                ("a", Int(amount)),
            ],
        )
    };
    assert_eq!(id(named("01ARZ3", 1)), id(named("01ARZ3", 2)), "its own id");
    assert_ne!(id(named("01ARZ3", 1)), id(named("01ARZ4", 1)));
}

#[test]
fn requests_that_are_too_large_or_hold_too_much_are_refused_whole() {
    let limits = Limits {
        max_bytes: 4000,
        max_records: 3,
        ..Limits::default()
    };
    let read = |request: &[u8]| {
        decode(
            Signal::Traces,
            Encoding::Protobuf,
            request,
            &limits,
            arrival(),
        )
    };
    let spans = |count| {
        traces(
            (0..count)
                .map(|id| server_span(1, id + 1, &[("user.id", Text("u"))]))
                .collect(),
        )
    };
    assert_eq!(read(&spans(3).encode_to_vec()).unwrap().waiting.len(), 3);
    assert_eq!(
        read(&spans(4).encode_to_vec()).unwrap_err(),
        RequestError::TooMany {
            what: "records",
            limit: 3
        }
    );
    assert_eq!(
        read(&[0; 4001]).unwrap_err(),
        RequestError::TooLarge { limit: 4000 }
    );
    // Two bytes a record: what is claimed costs nothing before it is counted.
    let empty = [[0x12u8, 0].repeat(1900)].concat();
    let mut scope = vec![0x12, 0xd8, 0x1d];
    scope.extend(empty);
    let mut group = vec![0x0a, 0xdb, 0x1d];
    group.extend(scope);
    assert_eq!(
        read(&group).unwrap_err(),
        RequestError::TooMany {
            what: "records",
            limit: 3
        }
    );
}

#[test]
fn json_is_read_as_the_specification_writes_it() {
    let trace = "5B8EFFF798038103D269B633813FC60C";
    let span = |id: &str, more: &str| {
        format!(
            r#"{{"resourceSpans":[{{"unknown":{{"a":[1]}},"scopeSpans":[{{"spans":[{{"traceId":"{id}","spanId":"eee19b7ec3c1b174","name":"I\u00e9","kind":2,"startTimeUnixNano":1780315200000000000,"endTimeUnixNano":"1780315200250000000","attributes":[{{"key":"enduser.id","value":{{"stringValue":"u"}}}},{{"key":"http.response.status_code","value":{{"intValue":"500"}}}}],"status":{{}},"flags":257{more}}}]}}],"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}}}}]}}"#
        )
    };
    let read = |text: &str| {
        decode(
            Signal::Traces,
            Encoding::Json,
            text.as_bytes(),
            &Limits::default(),
            arrival(),
        )
    };
    let upper = read(&span(trace, "")).unwrap();
    let lower = read(&span(&trace.to_lowercase(), "")).unwrap();
    assert_eq!(upper.waiting, lower.waiting);
    let request = &upper.waiting[0];
    assert_eq!(request.name.as_ref(), "Ié");
    assert!(request.is_failed_request());
    assert!(
        request.property("service.name").is_some(),
        "a resource may stand behind its spans"
    );
    for empty in [
        "{}",
        "null",
        r#"{"resourceSpans":null}"#,
        r#"{"resourceSpans":[]}"#,
    ] {
        assert_eq!(read(empty).unwrap().tally, Tally::default(), "{empty}");
    }
    let deep = format!(",\"x\":{}", "[".repeat(5000));
    let (worded, endless) = (span(trace, ",\"kind\":\"SERVER\""), span(trace, &deep));
    let broken: [&str; 7] = [
        "",
        "[]",
        "{",
        r#"{"resourceSpans":{}}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[7]}]}]}"#,
        &worded,
        &endless,
    ];
    for text in broken {
        let refusal = read(text).unwrap_err();
        assert!(
            matches!(refusal, RequestError::Malformed { .. }),
            "{text}: {refusal}"
        );
    }
}

fn is() -> impl Strategy<Value = Is> {
    prop_oneof![
        prop::sample::select(vec!["", "u", "é\"\\", "on", "500"]).prop_map(Text),
        any::<i64>().prop_map(Int),
        (-1e9..1e9f64).prop_map(Double),
        any::<bool>().prop_map(Bool),
    ]
}

fn some_attributes() -> impl Strategy<Value = Vec<(&'static str, Is)>> {
    let key = prop::sample::select(vec![
        "feature_flag.key",
        "feature_flag.result.variant",
        "feature_flag.variant",
        "feature_flag.context.id",
        "enduser.id",
        "http.response.status_code",
        "error.type",
        "event.name",
        "value",
        "x",
    ]);
    prop::collection::vec((key, is()), 0..8)
}

proptest! {
    /// Whatever is exported, both encodings come to the same, and every event keeps the limits.
    #[test]
    fn protobuf_and_json_agree_on_anything(
        records in prop::collection::vec((prop::sample::select(vec!["", "feature_flag.evaluation", "bought"]), some_attributes(), any::<bool>()), 0..6),
        spans in prop::collection::vec((some_attributes(), some_attributes(), 0i32..6, 0i32..3, 0u64..3), 0..6),
    ) {
        let records = records.iter().map(|(name, attributes, has_trace)| {
            let mut record = log(name, attributes);
            if !has_trace {
                record.trace_id.clear();
            }
            record
        });
        let found = of_logs(records.collect());
        let spans = spans.iter().map(|(attributes, event, kind, status, id)| {
            let mut span = with_status(server_span((*id).into(), *id, attributes), *status);
            span.kind = *kind;
            span.events = vec![span_event("feature_flag.evaluation", event)];
            span
        });
        let more = of_spans(spans.collect());
        for batch in [&found, &more] {
            let done = batch.tally.rejected + batch.tally.unattributed + batch.tally.not_stored;
            prop_assert!(done <= batch.tally.records);
            for event in batch.ready.iter().chain(&batch.waiting) {
                prop_assert!(!event.name.is_empty() && event.value.is_none_or(f64::is_finite));
                prop_assert!(!event.unit.is_empty() || event.trace_id.is_some());
                prop_assert!(event.properties.is_sorted_by(|one, next| one.0 < next.0));
            }
        }
    }
}

/// Any bytes as any signal in any encoding: an answer or a typed refusal, never a panic.
fn never_panics(signal: Signal, encoding: Encoding) {
    let limits = Limits::default();
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(batch) = decode(signal, encoding, bytes, &limits, arrival()) {
            for event in batch.ready.iter().chain(&batch.waiting) {
                assert!(!event.name.is_empty());
                assert!(event.value.is_none_or(f64::is_finite));
            }
        }
    });
}

#[test]
fn fuzz_protobuf_logs() {
    never_panics(Signal::Logs, Encoding::Protobuf);
}

#[test]
fn fuzz_protobuf_traces() {
    never_panics(Signal::Traces, Encoding::Protobuf);
}

#[test]
fn fuzz_protobuf_metrics() {
    never_panics(Signal::Metrics, Encoding::Protobuf);
}

#[test]
fn fuzz_json_logs() {
    never_panics(Signal::Logs, Encoding::Json);
}

#[test]
fn fuzz_json_traces() {
    never_panics(Signal::Traces, Encoding::Json);
}

#[test]
fn fuzz_json_metrics() {
    never_panics(Signal::Metrics, Encoding::Json);
}

/// A good request with some bytes changed: closer to the edge than random bytes ever come.
#[test]
fn fuzz_a_good_request_that_was_damaged() {
    let mut span = server_span(
        1,
        1,
        &[
            ("enduser.id", Text("u")),
            ("a", Int(-1)),
            ("b", Double(0.5)),
            ("c", List),
        ],
    );
    span.events = vec![span_event(
        "feature_flag.evaluation",
        &[("feature_flag.key", Text("f"))],
    )];
    let request = traces(vec![with_status(span, 2)]);
    let texts = [
        (Encoding::Protobuf, request.encode_to_vec()),
        (Encoding::Json, serde_json::to_vec(&request).unwrap()),
    ];
    let limits = Limits::default();
    bolero::check!()
        .with_type::<Vec<(u16, u8)>>()
        .for_each(|changes: &Vec<(u16, u8)>| {
            for (encoding, good) in &texts {
                let mut bytes = good.clone();
                for (place, byte) in changes {
                    let place = usize::from(*place) % bytes.len();
                    bytes[place] = *byte;
                }
                let _ = decode(Signal::Traces, *encoding, &bytes, &limits, arrival());
            }
        });
}
