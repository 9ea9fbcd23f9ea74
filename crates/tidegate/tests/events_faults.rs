//! Faults that meet events on their way in: damage, a locked database, bombs, overload, a noisy
//! neighbour, and everything that is no event.
//!
//! The program is run as it is; what it may cost is measured from outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use support::locked::LockedDatabase;
use support::{ADMIN, Answer, Server, plan_flag, request, until};

const EVENTS: &str = "/api/v1/events";
const MIB: usize = 1024 * 1024;

fn serve() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    (folder, server)
}

fn event(number: u64) -> Value {
    json!({ "id": format!("{:032x}", number + 1), "time": "2026-06-01T00:00:00Z",
            "unit": format!("user-{number}"), "kind": "track", "name": "paid", "value": 1.5 })
}

/// Sends bytes as the administrator.
fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let bearer = format!("Bearer {ADMIN}");
    let mut all = vec![("authorization", bearer.as_str())];
    all.extend_from_slice(headers);
    request(server.address, "POST", path, &all, body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Fault 6.
#[test]
fn after_damage_was_found_reports_say_that_they_are_incomplete() {
    let (folder, server) = serve();
    let all: Value = (0..100).map(event).collect();
    assert_eq!(server.admin("POST", EVENTS, &[], &all).status, 202);
    let status = || server.admin("GET", "/status", &[], &Value::Null).json();
    until("the events are in files", || {
        (status()["lakes"][0]["watermark"] == 100).then_some(())
    });
    let usage = || {
        let path = "/api/v1/projects/default/reports/usage?events=paid";
        server.admin("GET", path, &[], &Value::Null)
    };
    let before = usage().json();
    assert!(before.get("incomplete").is_none(), "{before}");
    let files = folder.path().join("events/default/units");
    let file = std::fs::read_dir(&files).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file.path(), bytes).unwrap();
    assert_eq!(server.run(&["events", "verify"]).status.code(), Some(1));
    let name = file.file_name().into_string().unwrap();
    let after = usage().json();
    let damage = after["incomplete"]["damage"][0].as_str().unwrap();
    assert!(damage.contains(&name), "{after}");
    assert_eq!(after["rows"], before["rows"]);
    let shown = server.run(&["usage", "report", "--event", "paid"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        text.contains("INCOMPLETE") && text.contains(&name),
        "{text}"
    );
    assert!(status()["lakes"][0]["damage"][0].is_string());
}

/// Fault 9.
#[test]
fn while_the_database_is_locked_events_are_taken_and_answered_for() {
    let (folder, server) = serve();
    let lock = LockedDatabase::of(folder.path());
    for number in 0..20 {
        let answer = server.admin("POST", EVENTS, &[], &json!([event(number)]));
        assert_eq!(
            (answer.status, &answer.json()["accepted"]),
            (202, &json!(1))
        );
    }
    let refused = server.create_flag("f", &plan_flag());
    assert_eq!(refused.status, 503, "the lock holds: {refused}");
    let path = "/api/v1/projects/default/reports/usage?events=paid";
    let report = server.admin("GET", path, &[], &Value::Null);
    assert_eq!(report.status, 200, "{report}");
    lock.release();
    assert_eq!(server.create_flag("f", &plan_flag()).status, 201);
}

/// The most a server has held, in KiB.
fn peak_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// Fault 28.
#[test]
fn many_bombs_at_once_share_one_room() {
    const AT_ONCE: usize = 40;
    let (_folder, server) = serve();
    let before = peak_kib(&server);
    // What it unpacks to is over no limit by its own word, and it never ends.
    let endless = [gzip(&vec![b' '; 80 * MIB]), gzip(b"")].concat();
    let honest = gzip(&vec![b' '; 80 * MIB]);
    let (json, protobuf) = ("application/json", "application/x-protobuf");
    let doors = [
        (EVENTS, json, &endless),
        (EVENTS, json, &honest),
        ("/v1/logs", protobuf, &endless),
        ("/v1/traces", protobuf, &endless),
    ];
    std::thread::scope(|scope| {
        let server = &server;
        let all: Vec<_> = doors
            .iter()
            .cycle()
            .take(AT_ONCE)
            .map(|(path, kind, body)| {
                let headers = [("content-type", *kind), ("content-encoding", "gzip")];
                scope.spawn(move || post(server, path, &headers, body))
            })
            .collect();
        for one in all {
            let answer = one.join().unwrap();
            match answer.status {
                413 => {}
                429 => assert!(answer.header("retry-after").is_some(), "{answer}"),
                _ => panic!("{answer}"),
            }
        }
    });
    let grown = peak_kib(&server) - before;
    let most = (256 + 64) * 1024;
    assert!(grown < most, "{grown} KiB more at the peak, at most {most}");
    let taken = post(
        &server,
        EVENTS,
        &[("content-encoding", "gzip")],
        &gzip(event(1).to_string().as_bytes()),
    );
    assert_eq!(taken.status, 202, "the room is free again: {taken}");
}

/// Fault 28.
#[test]
fn a_body_without_end_and_a_document_without_bottom_are_refused_in_little_memory() {
    let (_folder, server) = serve();
    let before = peak_kib(&server);
    // A gigabyte by its own word is refused before a byte of it is read.
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let head = format!(
        "POST {EVENTS} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\n\
         content-length: 1073741824\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");

    let keys: String = (0..1_000_000).map(|key| format!("\"k{key}\":1,")).collect();
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let of = |properties: &str| {
        format!(
            r#"[{{"time":"2026-06-01T00:00:00Z","unit":"u","kind":"track","name":"n","properties":{properties}}}]"#
        )
    };
    let cases = [
        (
            "a million keys",
            of(&format!("{{{keys}\"end\":1}}")),
            "event_too_large",
        ),
        (
            "ten thousand deep",
            of(&format!("{{\"a\":{deep}}}")),
            "type_mismatch",
        ),
    ];
    for (what, body, code) in cases {
        let answer = post(&server, EVENTS, &[], body.as_bytes());
        assert_eq!(answer.status, 400, "{what}: {answer}");
        let said = answer.json();
        let is_listed = said["rejected"][0]["code"] == code;
        assert!(is_listed || said["violations"].is_array(), "{what}: {said}");
    }
    let grown = peak_kib(&server) - before;
    assert!(grown < 128 * 1024, "{grown} KiB more at the peak");
}

/// Fault 29, and the contract of a batch of which nothing could be taken.
#[test]
fn what_is_no_event_is_refused_with_a_problem_that_names_each_place() {
    let (_folder, server) = serve();
    let event = |unit: &str, value: &str, more: &str| {
        format!(
            r#"{{"time":"2026-06-01T00:00:00Z","unit":{unit},"kind":"track","name":"n","value":{value}{more}}}"#
        )
        .into_bytes()
    };
    let mut not_utf8 = event("\"u?\"", "1", "");
    let place = not_utf8.iter().position(|byte| *byte == b'?').unwrap();
    not_utf8[place] = 0xff;
    let cases: [(&str, Vec<u8>, &str, &str); 8] = [
        ("not UTF-8", not_utf8, "", "encoding_invalid"),
        (
            "NUL",
            event("\"u\\u0000\"", "1", ""),
            "/unit",
            "text_control_character",
        ),
        ("NaN", event("\"u\"", "NaN", ""), "", "json_invalid"),
        ("infinity", event("\"u\"", "1e999", ""), "", "json_invalid"),
        (
            "u64 max",
            event("\"u\"", "18446744073709551615", ""),
            "/value",
            "number_not_exact",
        ),
        (
            "a key twice",
            event("\"u\"", "1", ",\"unit\":\"v\""),
            "/unit",
            "field_duplicate",
        ),
        (
            "half a document",
            b"{\"time\":".to_vec(),
            "",
            "json_invalid",
        ),
        (
            "a lone surrogate",
            event("\"u\\ud800\"", "1", ""),
            "",
            "json_invalid",
        ),
    ];
    for (what, body, pointer, code) in cases {
        let answer = post(&server, EVENTS, &[], &body);
        assert_eq!(answer.status, 400, "{what}: {answer}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{what}"
        );
        let said = answer.json();
        for (member, is_right) in [
            ("type", said["type"] == "/docs/errors#nothing-taken"),
            ("title", said["title"].is_string()),
            ("status", said["status"] == 400),
            ("detail", said["detail"].is_string()),
            ("accepted", said["accepted"] == 0),
            ("duplicates", said["duplicates"] == 0),
            ("quarantined", said["quarantined"] == 0),
            ("index", said["rejected"][0]["index"] == 0),
            ("pointer", said["rejected"][0]["pointer"] == pointer),
            ("code", said["rejected"][0]["code"] == code),
        ] {
            assert!(is_right, "{what}, {member}: {said}");
        }
    }
    let taken = post(&server, EVENTS, &[], &event("\"u\"", "-0.0", ""));
    assert_eq!(taken.status, 202, "{taken}");
    let tail = server.admin("GET", "/api/v1/projects/default/events", &[], &Value::Null);
    assert_eq!(
        tail.json()["rows"][0]["value"].to_string(),
        "0.0",
        "-0 is stored as 0"
    );
}

/// Fault 26: events ten times over never hold up an evaluation, and who is told to come back is
/// told when; what was acknowledged is there.
#[test]
fn a_flood_of_events_fails_no_evaluation_and_loses_nothing() {
    const SENDERS: u64 = 8;
    const BATCHES: u64 = 20;
    let (_folder, server) = serve();
    assert_eq!(server.create_flag("good", &plan_flag()).status, 201);
    let accepted: u64 = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let server = &server;
                scope.spawn(move || {
                    let mut accepted = 0;
                    for batch in 0..BATCHES {
                        let first = (sender * BATCHES + batch) * 500;
                        let body: Value = (first..first + 500).map(event).collect();
                        let answer = server.admin("POST", EVENTS, &[], &body);
                        match answer.status {
                            202 => accepted += answer.json()["accepted"].as_u64().unwrap(),
                            429 => assert!(answer.header("retry-after").is_some(), "{answer}"),
                            _ => panic!("{answer}"),
                        }
                    }
                    accepted
                })
            })
            .collect();
        for _ in 0..100 {
            let answer = server.evaluate("good", &json!({ "plan": "pro" }));
            assert_eq!(
                (answer.status, &answer.json()["value"]),
                (200, &json!(true))
            );
        }
        senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .sum()
    });
    assert!(accepted > 0);
    let shed = server.counter("tidegate_events_total{outcome=\"shed\"}");
    assert_eq!(
        accepted + shed,
        SENDERS * BATCHES * 500,
        "each is accepted or counted as shed"
    );
    let verified = server.run(&["events", "verify", "-o", "json"]);
    let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(report["events"], accepted, "{report}");
}
