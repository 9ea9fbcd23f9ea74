//! Unmodified OpenTelemetry SDKs from PyPI and npm, with OpenFeature's hooks, against the real server.
//!
//! A small service evaluates a flag over OFREP while it serves requests, and exports what its SDK
//! records: spans, evaluations, log events, metrics. What a running rollout's guard then counts by
//! variant must be what the service itself saw. `scripts/test-clients` installs the SDKs, pinned.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Server, until};

const UNITS: usize = 60;
const ROLLOUT: &str = "/api/v1/projects/default/rollouts/new-checkout";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the service saw.
struct Seen {
    served: BTreeMap<String, bool>,
    failed: Vec<String>,
}

impl Seen {
    /// Units per arm, of all or of those that failed.
    fn by_arm<'a>(&self, units: impl Iterator<Item = &'a String>) -> Value {
        let (mut treatment, mut control) = (0, 0);
        for unit in units {
            match self.served[unit] {
                true => treatment += 1,
                false => control += 1,
            }
        }
        json!({ "treatment": treatment, "control": control })
    }
}

fn run(program: &str, protocol: &str, server: &Server) -> Seen {
    let installed = Command::new(root().join("scripts/test-clients")).status();
    assert!(
        installed.unwrap().success(),
        "the clients cannot be installed"
    );
    let clients = root().join("tests/clients");
    let mut command = match program {
        "python" => {
            let mut python = Command::new(root().join("target/clients/python/bin/python"));
            python.arg(clients.join("python_otel.py"));
            python
        }
        _ => {
            let mut node = Command::new("node");
            node.arg(clients.join("node_otel.mjs"));
            node
        }
    };
    let units: Vec<String> = (0..UNITS).map(|number| format!("user-{number}")).collect();
    let job = json!({
        "host": "127.0.0.1",
        "port": server.address.port(),
        "token": server.mint("server"),
        "protocol": protocol,
        "flag": "new-checkout",
        "units": units,
    });
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{job}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    Seen {
        served: serde_json::from_value(seen["served"].clone()).unwrap(),
        failed: serde_json::from_value(seen["failed"].clone()).unwrap(),
    }
}

/// A server where half of the units are served the treatment, for longer than the test lasts.
fn server(folder: &Path) -> Server {
    let server = Server::serve(folder);
    let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"});
    assert_eq!(server.create_flag("new-checkout", &flag).status, 201);
    let policy = json!({"flag": "new-checkout", "treatment": "on", "control": "off",
        "guards": [{"metric": "errors/POST /checkout", "direction": "increase"}],
        "stages": [{"share_bp": 5000, "min_seconds": 100_000}], "staleness_seconds": 600});
    let put = server.admin("PUT", ROLLOUT, &[], &policy);
    assert_eq!(put.status, 201, "{put}");
    let start = json!({"unproven": true, "reason": "the service is new"});
    let started = server.admin("POST", &format!("{ROLLOUT}/start"), &[], &start);
    assert_eq!(started.status, 200, "{started}");
    until("half of the units are served the treatment", || {
        (report(&server)["share_bp"] == 5000).then_some(())
    });
    server
}

fn report(server: &Server) -> Value {
    server
        .admin("GET", &format!("{ROLLOUT}/report"), &[], &Value::Null)
        .json()
}

fn is_counted_right(program: &str, protocol: &str, log_records: usize) {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path());
    let seen = run(program, protocol, &server);
    assert_eq!(seen.served.len(), UNITS);
    assert!(seen.served.values().any(|on| *on) && seen.served.values().any(|on| !*on));
    assert!(!seen.failed.is_empty());

    let units = seen.by_arm(seen.served.keys());
    let failures = seen.by_arm(seen.failed.iter());
    let guard = until("the guard has counted every unit and failure", || {
        let guard = report(&server)["plan"]["report"]["guards"][0].clone();
        (guard["units"] == units && guard["events"] == failures).then_some(guard)
    });
    assert_ne!(guard["events"], json!({"treatment": 0, "control": 0}));
    // An evaluation, an exposure, a request and a purchase of each.
    let accepted = r#"tidegate_events_total{outcome="accepted"}"#;
    until("every event is counted", || {
        (server.counter(accepted) >= 4 * UNITS as u64).then_some(())
    });
    for (series, expected) in [
        (accepted, 4 * UNITS),
        (r#"tidegate_events_total{outcome="duplicate"}"#, 0),
        (r#"tidegate_events_total{outcome="rejected"}"#, 0),
        (
            r#"tidegate_otlp_records_total{signal="traces",outcome="taken"}"#,
            UNITS,
        ),
        (
            r#"tidegate_otlp_records_total{signal="logs",outcome="taken"}"#,
            log_records,
        ),
        (r#"tidegate_otlp_joined_total{outcome="served"}"#, 2 * UNITS),
        (r#"tidegate_otlp_joined_total{outcome="unattributed"}"#, 0),
        ("tidegate_otlp_requests_refused_total", 0),
    ] {
        assert_eq!(server.counter(series), expected as u64, "{series}");
    }
    let totals = r#"tidegate_otlp_records_total{signal="metrics",outcome="not_stored"}"#;
    assert!(server.counter(totals) > 0, "a running total is of nobody");
}

#[test]
fn python_over_http() {
    is_counted_right("python", "http", UNITS);
}

#[test]
fn python_over_grpc() {
    is_counted_right("python", "grpc", UNITS);
}

// OpenFeature's hook for Node writes evaluations as log events, so there are twice as many.

#[test]
fn node_over_http_json() {
    is_counted_right("node", "json", 2 * UNITS);
}

#[test]
fn node_over_http_protobuf() {
    is_counted_right("node", "proto", 2 * UNITS);
}

#[test]
fn node_over_grpc() {
    is_counted_right("node", "grpc", 2 * UNITS);
}
