//! What an operator sees of a running server: numbers, states, and the rights to them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod house;

use std::collections::BTreeSet;

use house::Server;
use serde_json::json;

fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{metrics}"));
    line.parse().unwrap()
}

#[test]
fn metrics_count_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.make_flag("new-checkout", "on");
    assert_eq!(server.value_of("new-checkout"), true);
    assert!(server.value_of("no-such-flag").is_null());
    let all = server.ask("POST", "/ofrep/v1/evaluate/flags", &json!({}));
    assert_eq!(all.status, 200);
    let event = json!({ "id": "0193f0a0-0000-7000-8000-000000000001", "time": "2026-01-01T00:00:00Z", "unit": "user-1",
                        "kind": "track", "name": "bought" });
    let broken = json!({ "time": "2026-01-01T00:00:00Z", "unit": "user-1", "kind": "dance", "name": "bought" });
    let events = server.ask("POST", "/api/v1/events", &json!([event, event, broken]));
    assert_eq!(events.status, 202, "{}", events.text);

    let answer = server.get("/metrics");
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let text = answer.text;
    for (series, expected) in [
        (
            r#"tidegate_evaluations_total{protocol="ofrep",reason="STATIC"}"#,
            2.0,
        ),
        (r#"tidegate_events_total{outcome="accepted"}"#, 1.0),
        (r#"tidegate_events_total{outcome="duplicate"}"#, 1.0),
        (r#"tidegate_events_total{outcome="rejected"}"#, 1.0),
        (r#"tidegate_event_log_writable{project="default"}"#, 1.0),
        (r#"tidegate_http_requests_total{status="2xx"}"#, 4.0),
        (r#"tidegate_http_requests_total{status="4xx"}"#, 1.0),
        (r#"tidegate_flags{project="default"}"#, 1.0),
        (r#"tidegate_config_stale_seconds{project="default"}"#, 0.0),
        ("tidegate_storage_writable", 1.0),
        ("tidegate_stop_file_usable", 1.0),
        ("tidegate_pending_stops", 0.0),
    ] {
        assert!(
            (value(&text, series) - expected).abs() < 1e-9,
            "{series}\n{text}"
        );
    }
    let head = server.get("/status").json()["storage"]["audit_sequence"].as_f64();
    assert!((value(&text, "tidegate_audit_head_sequence") - head.unwrap()).abs() < 1e-9);
}

#[test]
fn every_documented_metric_is_answered_and_none_besides() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let text = server.get("/metrics").text;
    let answered: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let document = include_str!("../../../docs/metrics.md");
    let documented: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `tidegate_")?.split('`').next())
        .collect();
    let answered: BTreeSet<&str> = answered
        .iter()
        .filter_map(|name| name.strip_prefix("tidegate_"))
        .collect();
    assert_eq!(answered, documented);
    assert_eq!(server.send("GET", "/metrics", &[], "").status, 401);
}

#[test]
fn status_says_how_the_log_and_the_stop_file_are() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let status = server.get("/status").json();
    assert_eq!(
        status["stop_file"],
        json!({ "usable": true, "lost_blocks": [] })
    );
    let sent = server.ask(
        "POST",
        "/api/v1/events",
        &json!([{ "time": "2026-01-01T00:00:00Z", "unit": "user-1", "kind": "track", "name": "bought" }]),
    );
    assert_eq!(sent.status, 202);
    let logs = &server.get("/status").json()["event_logs"];
    assert_eq!(
        logs,
        &json!([{ "project": "default", "state": "writing", "reason": null }])
    );
}

#[test]
fn a_stop_file_that_cannot_be_opened_is_said_and_stops_still_work() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("stops")).unwrap();
    let server = Server::start(folder.path(), &[]);
    server.make_flag("new-checkout", "on");
    let status = server.get("/status").json();
    assert_eq!(status["stop_file"]["usable"], false);
    assert!(
        status["stop_file"]["reason"]
            .as_str()
            .unwrap()
            .contains("not durable")
    );
    let metrics = server.get("/metrics").text;
    assert!((value(&metrics, "tidegate_stop_file_usable")).abs() < 1e-9);
    let kill = "/api/v1/projects/default/flags/new-checkout/kill";
    let killed = server.ask("POST", kill, &json!({ "reason": "it fails" }));
    assert_eq!(killed.json()["durable"], false, "{}", killed.text);
    assert_eq!(server.value_of("new-checkout"), false);
}
