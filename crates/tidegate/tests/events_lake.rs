//! Events through the real server: acknowledged, in files seconds later, kept over restarts, and
//! never in the way of flags when their files are damaged.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{Server, until};

/// Events `numbers`, one per unit, as the native door takes them.
fn events(numbers: std::ops::Range<u64>) -> Value {
    let event = |number: u64| {
        json!({ "id": format!("{:032x}", number + 1), "time": "2026-06-01T00:00:00Z",
                "unit": format!("user-{number}"), "kind": "track", "name": "paid", "value": 1.5 })
    };
    numbers.map(event).collect()
}

fn send(server: &Server, numbers: std::ops::Range<u64>) -> Value {
    let answer = server.admin("POST", "/api/v1/events", &[], &events(numbers));
    assert_eq!(answer.status, 202, "{answer}");
    answer.json()
}

fn lake(server: &Server) -> Value {
    let status = server.admin("GET", "/status", &[], &Value::Null).json();
    status["lakes"][0].clone()
}

fn wait_for_watermark(server: &Server, sequence: u64) -> Value {
    until("acknowledged events are in files", || {
        let lake = lake(server);
        (lake["watermark"] == sequence).then_some(lake)
    })
}

fn damage(manifest: &Path) {
    let mut bytes = std::fs::read(manifest).unwrap();
    bytes[20] ^= 4;
    std::fs::write(manifest, bytes).unwrap();
}

#[test]
fn acknowledged_events_reach_the_files_and_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let server = Server::serve(folder.path());
        assert_eq!(send(&server, 0..100)["accepted"], 100);
        let lake = wait_for_watermark(&server, 100);
        assert_eq!(
            (&lake["state"], &lake["rows"], &lake["problem"]),
            (&json!("open"), &json!(100), &Value::Null)
        );
        server.kill_nine();
    }
    let server = Server::serve(folder.path());
    assert_eq!(send(&server, 50..120)["accepted"], 20);
    let lake = wait_for_watermark(&server, 120);
    assert_eq!(lake["rows"], 120);
    let disk = &server.admin("GET", "/status", &[], &Value::Null).json()["disk"];
    assert!(disk["used_percent"].as_u64().unwrap() <= 100, "{disk}");
}

#[test]
fn damaged_files_stop_neither_flags_nor_kills_nor_events() {
    let folder = tempfile::tempdir().unwrap();
    {
        let server = Server::serve(folder.path());
        send(&server, 0..10);
        wait_for_watermark(&server, 10);
        server.kill_nine();
    }
    damage(&folder.path().join("events/default/manifest"));
    let server = Server::serve(folder.path());
    let reason = until("the damage is said", || {
        let lake = lake(&server);
        (lake["state"] == "refused").then(|| lake["problem"].as_str().unwrap().to_owned())
    });
    assert!(
        reason.contains("manifest") && reason.contains("damaged"),
        "{reason}"
    );
    assert_eq!(send(&server, 10..20)["accepted"], 10);
    server.create_flag("f", &support::plan_flag());
    let kill = "/api/v1/projects/default/flags/f/kill";
    let killed = server.admin("POST", kill, &[], &json!({ "reason": "it fails" }));
    assert_eq!(killed.json()["durable"], true, "{killed}");
    assert_eq!(server.value_of("f", &json!({ "plan": "pro" })), false);
}
