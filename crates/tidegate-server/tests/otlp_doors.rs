//! OTLP over HTTP and gRPC: what is taken, how it is answered, and how it is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod otlp_support;
mod support;

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use otlp_support::Is::Text;
use otlp_support::{NOON_NS, log, logs, server_span, traces};
use prost::Message;
use serde_json::{Value, json};
use support::{ADMIN, PATIENCE, Server, Settings, send};
use tidegate_metrics::{Event, EventKind};
use tidegate_server::otlp::Encoding;
use tidegate_server::otlp::answer::{Refusal, RpcStatus, refusal_body, rpc_status};
use tonic::{Code, Request};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const GZIP: (&str, &str) = ("content-encoding", "gzip");

async fn server() -> Server {
    Server::start(json!({})).await
}

struct Answer {
    status: u16,
    kind: String,
    body: Bytes,
}

impl Answer {
    fn refusal(&self) -> RpcStatus {
        assert_eq!(self.kind, PROTOBUF.1);
        RpcStatus::decode(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        assert_eq!(self.kind, "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn export(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let response = send(server.address, "POST", path, headers, body).await;
    let kind = response.headers().get("content-type");
    Answer {
        status: response.status().as_u16(),
        kind: kind.map_or_else(String::new, |kind| kind.to_str().unwrap().to_owned()),
        body: response.into_body().collect().await.unwrap().to_bytes(),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Everything durable in the default project.
fn events(server: &Server) -> Vec<Event> {
    let mut all = Vec::new();
    let intake = server.app.events.intake("default").unwrap();
    let mut each = |stretch: tidegate_lake::Committed| {
        all.extend(stretch.events);
        true
    };
    intake.log().read_from(0, &mut each).unwrap();
    all
}

/// Waits until so many events of a kind are durable.
async fn until(server: &Server, kind: EventKind, count: usize) -> Vec<Event> {
    let wait = async {
        loop {
            let mut found = events(server);
            found.retain(|event| event.kind == kind);
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap()
}

fn evaluation() -> opentelemetry_proto::tonic::logs::v1::LogRecord {
    log(
        "feature_flag.evaluation",
        &[
            ("feature_flag.key", Text("f")),
            ("feature_flag.result.variant", Text("on")),
            ("feature_flag.context.id", Text("user-17")),
        ],
    )
}

#[tokio::test]
async fn each_encoding_is_taken_and_answered_in_kind() {
    let server = server().await;
    let request = logs(vec![evaluation()]);
    let (protobuf, json) = (
        request.encode_to_vec(),
        serde_json::to_vec(&request).unwrap(),
    );
    let zstd = ("content-encoding", "zstd");
    let packed = zstd::encode_all(&protobuf[..], 1).unwrap();
    for (headers, body, kind, expected) in [
        (
            vec![PROTOBUF],
            protobuf.clone(),
            "application/x-protobuf",
            &b""[..],
        ),
        (vec![JSON], json.clone(), "application/json", &b"{}"[..]),
        (
            vec![PROTOBUF, GZIP],
            gzip(&protobuf),
            "application/x-protobuf",
            &b""[..],
        ),
        (
            vec![JSON, GZIP],
            gzip(&json),
            "application/json",
            &b"{}"[..],
        ),
        (
            vec![PROTOBUF, zstd],
            packed,
            "application/x-protobuf",
            &b""[..],
        ),
        (vec![PROTOBUF], vec![], "application/x-protobuf", &b""[..]),
        (vec![JSON], b"{}".to_vec(), "application/json", &b"{}"[..]),
    ] {
        let answer = export(&server, "/v1/logs", &headers, body).await;
        assert_eq!(
            (answer.status, answer.kind.as_str()),
            (200, kind),
            "{headers:?}"
        );
        assert_eq!(
            &answer.body[..],
            expected,
            "partial_success is unset: {headers:?}"
        );
    }
    let kinds: Vec<EventKind> = events(&server).iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [EventKind::Evaluation, EventKind::Exposure],
        "five times the same export counts once"
    );
}

#[tokio::test]
async fn what_is_rejected_is_counted_in_a_partial_success() {
    let server = server().await;
    let mut nameless = evaluation();
    nameless.attributes.remove(0);
    let request = logs(vec![evaluation(), nameless]);
    let answer = export(&server, "/v1/logs", &[PROTOBUF], request.encode_to_vec()).await;
    let partial = ExportLogsServiceResponse::decode(answer.body)
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!((answer.status, partial.rejected_log_records), (200, 1));
    assert_eq!(
        partial.error_message,
        "an evaluation has no feature_flag.key"
    );
    let mut backwards = server_span(1, 1, &[]);
    backwards.end_time_unix_nano = 1;
    let request = serde_json::to_vec(&traces(vec![backwards])).unwrap();
    let answer = export(&server, "/v1/traces", &[JSON], request).await;
    assert_eq!(
        answer.json(),
        json!({"partialSuccess": {
            "rejectedSpans": "1",
            "errorMessage": "a server span ends before it starts"
        }})
    );
}

#[tokio::test]
async fn a_clock_far_ahead_is_a_warning_and_the_events_are_set_apart() {
    let server = server().await;
    let mut ahead = evaluation();
    ahead.time_unix_nano = 4_000_000_000_000_000_000;
    let request = logs(vec![ahead]).encode_to_vec();
    let answer = export(&server, "/v1/logs", &[PROTOBUF], request).await;
    let partial = ExportLogsServiceResponse::decode(answer.body)
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(partial.rejected_log_records, 0);
    assert!(
        partial.error_message.contains("set apart"),
        "{}",
        partial.error_message
    );
    assert!(events(&server).iter().all(|event| event.is_quarantined));
}

#[tokio::test]
async fn refusals_are_statuses_in_the_encoding_of_the_request() {
    let server = server().await;
    let broken: [(&str, &[u8]); 3] = [
        ("cut off", &[0x0a, 0x7f]),
        ("a group", &[0x0b]),
        ("another type", &[0x08, 1]),
    ];
    for (name, body) in broken {
        let answer = export(&server, "/v1/traces", &[PROTOBUF], body.to_vec()).await;
        let status = answer.refusal();
        assert_eq!(
            (answer.status, status.code),
            (400, Code::InvalidArgument.into()),
            "{name}"
        );
        assert!(
            status.message.contains("no OTLP protobuf"),
            "{}",
            status.message
        );
    }
    let answer = export(
        &server,
        "/v1/metrics",
        &[JSON],
        &b"{\"resourceMetrics\":7}"[..],
    )
    .await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_i64()),
        (400, Some(3))
    );
    let answer = export(
        &server,
        "/v1/logs",
        &[PROTOBUF, GZIP],
        &b"no such thing"[..],
    )
    .await;
    assert_eq!(
        (answer.status, answer.refusal().code),
        (400, Code::InvalidArgument.into())
    );
    for headers in [
        vec![],
        vec![("content-type", "text/plain")],
        vec![JSON, ("content-encoding", "br")],
    ] {
        let answer = export(&server, "/v1/logs", &headers, &b"{}"[..]).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_i64()),
            (415, Some(3)),
            "{headers:?}"
        );
    }
    assert!(events(&server).is_empty());
}

#[tokio::test]
async fn a_bomb_costs_its_fuse() {
    let server = server().await;
    let bomb = gzip(&vec![0; 65 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024);
    let answer = export(&server, "/v1/traces", &[PROTOBUF, GZIP], bomb).await;
    assert_eq!(
        (answer.status, answer.refusal().code),
        (413, Code::ResourceExhausted.into())
    );
    assert!(
        answer.refusal().details.is_empty(),
        "no RetryInfo: it must not come again"
    );
}

#[tokio::test]
async fn refusals_that_waiting_cures_say_how_long() {
    let busy = Refusal::for_now(Code::ResourceExhausted, "busy", 7);
    assert_eq!((busy.http, rpc_status(&busy).details.len()), (429, 1));
    let away = Refusal::for_now(Code::Unavailable, "away", 7);
    assert_eq!(away.http, 503);
    let text = refusal_body(&away, Encoding::Json);
    let body: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(body["details"][0]["retryDelay"], "7s");
    let detail = rpc_status(&away).details.remove(0);
    assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.RetryInfo");
    assert_eq!(detail.value, [0x0a, 2, 0x08, 7]);
}

#[tokio::test]
async fn only_who_may_ingest_is_let_in_and_told_so_in_its_own_words() {
    let server = Server::with(Settings {
        asks_for_credentials: true,
        ..Settings::default()
    })
    .await;
    let body = logs(vec![evaluation()]).encode_to_vec();
    let answer = export(&server, "/v1/logs", &[PROTOBUF], body.clone()).await;
    assert_eq!(
        (answer.status, answer.refusal().code),
        (401, Code::Unauthenticated.into())
    );
    let bearer = format!("Bearer {ADMIN}");
    let known = [PROTOBUF, ("authorization", bearer.as_str())];
    assert_eq!(export(&server, "/v1/logs", &known, body).await.status, 200);
    let mut client = LogsServiceClient::new(server.channel().await);
    let refused = client.export(logs(vec![evaluation()])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut request = Request::new(logs(vec![evaluation()]));
    request
        .metadata_mut()
        .insert("authorization", bearer.parse().unwrap());
    assert!(client.export(request).await.is_ok());
}

#[tokio::test]
async fn every_collector_service_answers_on_the_one_port() {
    let server = server().await;
    let channel = server.channel().await;
    let answer = LogsServiceClient::new(channel.clone())
        .export(logs(vec![evaluation()]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.partial_success, None);
    let mut backwards = server_span(1, 1, &[]);
    backwards.end_time_unix_nano = 1;
    let answer = TraceServiceClient::new(channel.clone())
        .export(traces(vec![backwards]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.partial_success.unwrap().rejected_spans, 1);
    let answer = MetricsServiceClient::new(channel)
        .export(ExportMetricsServiceRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.partial_success, None);
    assert_eq!(events(&server).len(), 2);
}

#[tokio::test]
async fn an_oversized_call_is_refused_for_good() {
    let server = server().await;
    let mut large = evaluation();
    large.event_name = "x".repeat(17 * 1024 * 1024);
    let refused = LogsServiceClient::new(server.channel().await)
        .export(logs(vec![large]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let status = RpcStatus::decode(refused.details()).unwrap_or_default();
    assert!(
        status.details.is_empty(),
        "no RetryInfo: it must not come again"
    );
}

#[tokio::test]
async fn spans_carry_what_their_trace_was_served_whichever_comes_first() {
    let server = server().await;
    let of_trace = |trace: u128, mut record: opentelemetry_proto::tonic::logs::v1::LogRecord| {
        record.trace_id = trace.to_be_bytes().to_vec();
        logs(vec![record]).encode_to_vec()
    };
    let span = |trace: u128| {
        traces(vec![server_span(trace, 1, &[("enduser.id", Text("own"))])]).encode_to_vec()
    };
    let mut later = evaluation();
    later.time_unix_nano = NOON_NS + 1;
    for (path, body) in [
        ("/v1/logs", of_trace(1, evaluation())),
        ("/v1/traces", span(1)),
        ("/v1/traces", span(2)),
        ("/v1/logs", of_trace(2, later)),
        ("/v1/traces", span(3)),
        ("/v1/traces", span(1)),
    ] {
        let answer = export(&server, path, &[PROTOBUF], body).await;
        assert_eq!(answer.status, 200);
        assert!(
            ExportTraceServiceResponse::decode(answer.body)
                .unwrap()
                .partial_success
                .is_none()
        );
    }
    let mut requests = until(&server, EventKind::Request, 3).await;
    requests.sort_by_key(|event| event.trace_id.map(|trace| trace.0));
    let told: Vec<(&str, Option<&str>)> = requests
        .iter()
        .map(|event| (event.unit.as_ref(), event.variant("f")))
        .collect();
    assert_eq!(
        told,
        [
            ("user-17", Some("on")),
            ("user-17", Some("on")),
            ("own", None)
        ]
    );
}

#[tokio::test]
async fn only_the_first_time_a_unit_meets_a_variant_is_an_exposure() {
    let server = server().await;
    let at = |time_ns: u64, variant: &'static str| {
        let mut record = evaluation();
        record.time_unix_nano = time_ns;
        record.attributes[1] =
            otlp_support::attributes(&[("feature_flag.result.variant", Text(variant))]).remove(0);
        record
    };
    let sends = [
        vec![
            at(NOON_NS + 5_000, "on"),
            at(NOON_NS + 3_000, "on"),
            at(NOON_NS + 9_000, "on"),
        ],
        vec![at(NOON_NS + 4_000, "on"), at(NOON_NS + 8_000, "off")],
        vec![at(NOON_NS + 2_000, "on")],
    ];
    for records in sends {
        let body = logs(records).encode_to_vec();
        assert_eq!(
            export(&server, "/v1/logs", &[PROTOBUF], body).await.status,
            200
        );
    }
    let all = events(&server);
    let of = |kind| all.iter().filter(move |event: &&Event| event.kind == kind);
    assert_eq!(
        of(EventKind::Evaluation).count(),
        6,
        "every evaluation is kept"
    );
    let mut met: Vec<(Option<&str>, i64)> = of(EventKind::Exposure)
        .map(|event| (event.variant("f"), event.time_us - 1_780_315_200_000_000))
        .collect();
    met.sort();
    let first = |variant: &str| {
        met.iter()
            .filter(|(v, _)| *v == Some(variant))
            .map(|(_, t)| *t)
            .min()
    };
    assert_eq!((first("on"), first("off")), (Some(2), Some(8)));
    assert!(
        !met.iter().any(|(_, time)| [9, 4].contains(time)),
        "{met:?}"
    );
}

#[tokio::test]
async fn the_clock_of_a_sender_is_shown_and_changes_nothing() {
    let server = server().await;
    let sent = ("tidegate-sent-at", "2026-06-01T00:00:00Z");
    let body = logs(vec![evaluation()]).encode_to_vec();
    export(&server, "/v1/logs", &[PROTOBUF, sent], body).await;
    let native =
        json!([{"time": "2026-06-01T12:00:00Z", "unit": "u", "kind": "track", "name": "n"}]);
    let headers = [sent, ("tidegate-source", "phone-3")];
    let (status, _) =
        support::json(server.address, "POST", "/api/v1/events", &headers, &native).await;
    assert_eq!(status, 202);
    let (_, shown) = support::json(server.address, "GET", "/status", &[], &Value::Null).await;
    let clocks = shown["clocks"].as_array().unwrap();
    let sources: Vec<&str> = clocks
        .iter()
        .map(|clock| clock["source"].as_str().unwrap())
        .collect();
    assert_eq!(sources, ["local-developer phone-3", "local-developer shop"]);
    for clock in clocks {
        assert_eq!(clock["by"], "sent");
        assert!(
            clock["behind_ms"].as_i64() > Some(24 * 3_600_000),
            "{clock}"
        );
    }
    let track = events(&server)
        .into_iter()
        .find(|event| event.kind == EventKind::Track)
        .unwrap();
    assert_eq!(track.time_us, 1_780_315_200_000_000, "as it was sent");
    assert_eq!(track.sent_us, Some(1_780_272_000_000_000));
}

#[tokio::test]
async fn what_became_of_records_is_in_the_metrics() {
    let server = server().await;
    let mut nameless = evaluation();
    nameless.attributes.remove(0);
    let body = logs(vec![evaluation(), nameless, log("", &[])]).encode_to_vec();
    export(&server, "/v1/logs", &[PROTOBUF], body).await;
    export(
        &server,
        "/v1/traces",
        &[PROTOBUF],
        traces(vec![server_span(5, 1, &[])]).encode_to_vec(),
    )
    .await;
    let metrics = async || {
        let answer = send(server.address, "GET", "/metrics", &[], "").await;
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let text = metrics().await;
    for line in [
        r#"tidegate_otlp_records_total{signal="logs",outcome="taken"} 1"#,
        r#"tidegate_otlp_records_total{signal="logs",outcome="rejected"} 1"#,
        r#"tidegate_otlp_records_total{signal="logs",outcome="not_stored"} 1"#,
        r#"tidegate_otlp_records_total{signal="traces",outcome="taken"} 1"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let wait = async {
        let line = r#"tidegate_otlp_joined_total{outcome="unattributed"} 1"#;
        while !metrics().await.contains(line) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}
