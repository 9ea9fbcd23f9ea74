//! Guards on a service's own traces: nothing but spans arrives, and what is harmed shuts.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test that cannot go on has failed; spans need the time of day in nanoseconds"
)]

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::{ADMIN, Server, request, until};

const ROLLOUTS: &str = "/api/v1/projects/default/rollouts";
/// Both changes must be shut by then, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);
const BATCH: u64 = 100;

/// A number from 0 to 1 that only depends on the unit and on what it is for.
fn chance(unit: u64, salt: u64) -> f64 {
    let mut bits =
        unit.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^= bits >> 30;
    bits = bits.wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

fn set_up(server: &Server, name: &str, metric: &str) {
    let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"});
    assert_eq!(server.create_flag(name, &flag).status, 201);
    let policy = json!({"flag": name, "treatment": "on", "control": "off", "alpha": 0.01,
        "guards": [{"metric": metric, "direction": "increase"}], "no_data": "hold",
        "stages": [{"share_bp": 5000, "min_seconds": 100_000}], "staleness_seconds": 60});
    let path = format!("{ROLLOUTS}/{name}");
    assert_eq!(server.admin("PUT", &path, &[], &policy).status, 201);
    let start = json!({"unproven": true, "reason": "the service is new"});
    let started = server.admin("POST", &format!("{path}/start"), &[], &start);
    assert_eq!(started.status, 200, "{started}");
}

fn standing(server: &Server, name: &str) -> Value {
    let path = format!("{ROLLOUTS}/{name}/report");
    server.admin("GET", &path, &[], &Value::Null).json()
}

/// One request of one unit, as a server span that tells which variants it met.
fn span(server: &Server, unit: u64, now_ns: u128) -> Value {
    let name = format!("user-{unit}");
    let context = json!({"context": {"targetingKey": name}});
    let served = server
        .admin("POST", "/ofrep/v1/evaluate/flags", &[], &context)
        .json();
    let met: Vec<(String, String)> = served["flags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flag| {
            (
                flag["key"].as_str().unwrap().to_owned(),
                flag["variant"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let is_on = |flag: &str| {
        met.iter()
            .any(|(key, variant)| key == flag && variant == "on")
    };
    let fails = chance(unit, 1) < if is_on("tripled-errors") { 0.15 } else { 0.05 };
    let is_slow = is_on("slower") && chance(unit, 2) < 0.2;
    let milliseconds = (80.0 + 40.0 * chance(unit, 3)) * if is_slow { 10.0 } else { 1.0 };
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let events: Vec<Value> = met
        .iter()
        .map(|(key, variant)| {
            json!({
                "timeUnixNano": now_ns.to_string(),
                "name": "feature_flag.evaluation",
                "attributes": [
                    text("feature_flag.key", key),
                    text("feature_flag.result.variant", variant),
                    text("feature_flag.context.id", &name),
                ],
            })
        })
        .collect();
    json!({
        "traceId": format!("{:032x}", unit + 1),
        "spanId": format!("{:016x}", unit + 1),
        "name": "POST /checkout",
        "kind": 2,
        "startTimeUnixNano": now_ns.to_string(),
        "endTimeUnixNano": (now_ns + (milliseconds * 1e6) as u128).to_string(),
        "attributes": [
            text("http.request.method", "POST"),
            text("http.route", "/checkout"),
            {"key": "http.response.status_code", "value": {"intValue": if fails { "500" } else { "200" }}},
        ],
        "events": events,
    })
}

fn send(server: &Server, spans: &[Value]) {
    let export = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]});
    let bearer = format!("Bearer {ADMIN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = export.to_string().into_bytes();
    let answer = request(server.address, "POST", "/v1/traces", &headers, &body);
    assert_eq!((answer.status, answer.json()), (200, json!({})), "{answer}");
}

#[test]
fn what_waits_for_its_trace_outlives_kill_nine_and_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    set_up(&server, "dark", "errors");
    let now_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let mut request = span(&server, 1, now_ns);
    // What it was served is told later, by an inner span of its trace.
    let mut inner = request.clone();
    inner["kind"] = json!(1);
    inner["spanId"] = json!("00000000000000ff");
    request["events"] = json!([]);
    send(&server, &[request.clone()]);
    server.kill_nine();

    let server = Server::serve(folder.path());
    send(&server, &[inner]);
    // Sent again it need not wait; who waited since before the kill follows, and is recognised.
    send(&server, &[request]);
    let served = r#"tidegate_otlp_joined_total{outcome="served"}"#;
    assert_eq!(server.counter(served), 1);
    until("who waited got what its trace was served", || {
        (server.counter(served) > 1).then_some(())
    });
    for (series, expected) in [
        (served, 2),
        // An evaluation, the exposure that it is, and the request.
        (r#"tidegate_events_total{outcome="accepted"}"#, 3),
        (r#"tidegate_events_total{outcome="duplicate"}"#, 1),
    ] {
        assert_eq!(server.counter(series), expected, "{series}");
    }
}

#[test]
fn a_change_that_triples_errors_and_one_that_slows_requests_are_shut_on_spans_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    set_up(&server, "tripled-errors", "errors");
    set_up(&server, "slower", "latency/POST /checkout");
    let began = Instant::now();
    let mut unit = 0;
    let is_shut = |name: &str| standing(&server, name)["lifecycle"] == "rolled back";
    while !(is_shut("tripled-errors") && is_shut("slower")) {
        let (one, other) = (
            standing(&server, "tripled-errors"),
            standing(&server, "slower"),
        );
        assert!(
            began.elapsed() < PATIENCE,
            "after {unit} units: {one:#}\n{other:#}"
        );
        let now_ns = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        let spans: Vec<Value> = (unit..unit + BATCH)
            .map(|unit| span(&server, unit, now_ns))
            .collect();
        send(&server, &spans);
        unit += BATCH;
    }
    for (name, guard) in [("tripled-errors", "errors"), ("slower", "latency")] {
        let standing = standing(&server, name);
        assert_eq!(standing["share_bp"], 0, "{standing}");
        let sentence = standing["plan"]["report"]["sentence"].as_str().unwrap();
        assert!(
            sentence.starts_with(&format!("rolled back: {guard}")),
            "{sentence}"
        );
        let value = server.value_of(name, &json!({"targetingKey": "user-1"}));
        assert_eq!(value, false, "nobody is served {name} any more");
    }
}
