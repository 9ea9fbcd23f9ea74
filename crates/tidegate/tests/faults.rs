//! Faults that come from outside: bombs, too many connections, too much at a time.
//!
//! The program is run as it is; what it may cost is measured from outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "what is bounded here is time, and that is measured with a clock"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::wire;
use support::{ADMIN, Server, plan_flag, until};

/// Generous for anything linear on a busy machine, and hours away from anything quadratic.
const AT_MOST: Duration = Duration::from_secs(10);

fn serve() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    (folder, server)
}

fn targeting(rule: Value) -> Value {
    let mut flag = plan_flag();
    flag["targeting"] = json!({ "if": [rule, "on", "off"] });
    flag
}

#[test]
fn texts_that_are_costly_to_compare_cost_no_more_than_their_length() {
    let (_folder, server) = serve();
    // There are no regular expressions; versions, affixes and substrings are what compares text.
    let identifiers = "1.".repeat(20_000);
    let version = format!("1.0.0-{identifiers}1");
    let rules = [
        ("version", json!({"sem_ver": [{"var": "a"}, "^", version]})),
        (
            "prefix",
            json!({"starts_with": [{"var": "a"}, "a".repeat(40_000)]}),
        ),
        (
            "part",
            json!({"in": [format!("{}b", "a".repeat(20_000)), {"var": "a"}]}),
        ),
        (
            "digits",
            json!({"sem_ver": [{"var": "a"}, "=", "9".repeat(40_000)]}),
        ),
    ];
    for (key, rule) in &rules {
        let created = server.create_flag(key, &targeting(rule.clone()));
        assert_eq!(created.status, 201, "{key}: {created}");
    }
    let contexts = [
        format!("1.0.0-{identifiers}2"),
        "a".repeat(100_000),
        "9".repeat(100_000),
        ".".repeat(100_000),
    ];
    let started = Instant::now();
    for (key, _) in &rules {
        for text in &contexts {
            let answer = server.evaluate(key, &json!({ "a": text }));
            assert_eq!(answer.status, 200, "{key}");
        }
    }
    assert!(started.elapsed() < AT_MOST, "{:?}", started.elapsed());
}

#[test]
fn a_rule_that_compares_without_end_is_cut_short_and_harms_no_other() {
    let (_folder, server) = serve();
    assert_eq!(server.create_flag("good", &plan_flag()).status, 201);
    let compare = json!({"sem_ver": [{"var": ""}, ">", "1.0.0-a.b.c.d.e.f.g"]});
    let each = json!({ "or": vec![compare; 20] });
    let bomb = json!({"some": [{"var": "list"}, each]});
    let created = server.create_flag("bomb", &targeting(bomb));
    assert_eq!(created.status, 201, "{created}");
    let list = vec!["1.0.0-a.b.c.d.e.f.f"; 5_000];
    let started = Instant::now();
    let answer = server.evaluate("bomb", &json!({ "list": list }));
    assert!(started.elapsed() < AT_MOST, "{:?}", started.elapsed());
    assert_eq!(answer.json()["errorCode"], "GENERAL", "{answer}");
    let few = server.evaluate("bomb", &json!({ "list": ["2.0.0"] }));
    assert_eq!(
        few.json()["value"],
        true,
        "over little data the same rule decides"
    );
    assert_eq!(
        server.value_of("good", &json!({"plan": "pro"})),
        json!(true)
    );
}

#[test]
fn a_definition_that_is_too_much_is_refused_when_it_is_published() {
    let (_folder, server) = serve();
    let many: Vec<Value> = (0..260_000).map(|_| json!([])).collect();
    let wide = targeting(json!({ "or": many }));
    let deep = (0..200).fold(json!(true), |inner, _| json!({ "!": [inner] }));
    let mut rules = plan_flag();
    rules["rules"] = (0..1_001)
        .map(|rule| json!({"id": format!("r{rule}"), "variant": "on"}))
        .collect();
    for (what, flag) in [("wide", wide), ("deep", targeting(deep)), ("rules", rules)] {
        let answer = server.create_flag(what, &flag);
        assert_eq!(answer.status, 400, "{what}: {answer}");
        let said = answer.json();
        let violation = &said["violations"][0];
        assert!(violation["pointer"].is_string(), "{what}: {answer}");
    }
    assert!(server.is_ready());
}

/// A server that may open few files.
fn serve_with_few_descriptors(folder: &std::path::Path, files: usize) -> Server {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
    shell
        .args(["-c", &script, env!("CARGO_BIN_EXE_tidegate")])
        .args(["serve", "--data-dir"])
        .arg(folder)
        .env("TIDEGATE_BOOTSTRAP_TOKEN", ADMIN);
    Server::start(&mut shell)
}

#[test]
fn when_descriptors_run_out_connections_are_shed_and_a_kill_still_works() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_with_few_descriptors(folder.path(), 160);
    assert_eq!(server.create_flag("good", &plan_flag()).status, 201);
    let before = server.value_of("good", &json!({"plan": "pro"}));
    assert_eq!(before, json!(true));
    // More streams than there are descriptors; those that are let in stay.
    let mut crowd = Vec::new();
    for _ in 0..300 {
        let Ok(mut stream) = TcpStream::connect(server.address) else {
            continue;
        };
        let request = format!(
            "GET /ofrep/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\n\r\n"
        );
        if stream.write_all(request.as_bytes()).is_ok() {
            crowd.push(stream);
        }
    }
    let path = "/api/v1/projects/default/flags/good/kill";
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str())];
    let why = br#"{"reason":"checkout fails"}"#;
    let killed = until("a place of the reserve is free", || {
        wire::try_request(server.address, "POST", path, &headers, why)
            .filter(|answer| answer.status != 503)
    });
    assert_eq!(killed.status, 200, "{killed}");
    assert_eq!(killed.json()["durable"], true, "it is on disk, too");
    drop(crowd);
    let after = until("there is room again", || {
        let one = "/ofrep/v1/evaluate/flags/good";
        let context = br#"{"context":{"plan":"pro"}}"#;
        let answer = wire::try_request(server.address, "POST", one, &headers, context)?;
        answer.json().get("value").cloned()
    });
    assert_eq!(after, json!(false), "the kill is served");
}

#[test]
fn under_pressure_memory_stays_bounded_and_readiness_is_not_withdrawn() {
    const BODY: usize = 200 * 1024;
    const CLIENTS: usize = 200;
    let (_folder, server) = serve();
    for flag in 0..50 {
        let created = server.create_flag(&format!("flag-{flag}"), &plan_flag());
        assert_eq!(created.status, 201);
    }
    let before = server.resident_kib();
    // Half-sent bodies, and streams that nobody reads.
    let mut pressing: Vec<TcpStream> = Vec::new();
    for client in 0..CLIENTS {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = format!("host: localhost\r\nauthorization: Bearer {ADMIN}\r\n");
        let request = match client % 2 {
            0 => format!(
                "POST /ofrep/v1/evaluate/flags HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{{\"context\":{{\"a\":\"{}",
                BODY + 100,
                "x".repeat(BODY)
            ),
            _ => format!("GET /ofrep/v1/events HTTP/1.1\r\n{head}\r\n"),
        };
        stream.write_all(request.as_bytes()).unwrap();
        pressing.push(stream);
        assert!(server.is_ready(), "with {client} clients");
    }
    for change in 1..=20 {
        let mut flag = plan_flag();
        flag["defaultVariant"] = json!(if change % 2 == 0 { "off" } else { "on" });
        assert_eq!(server.change_flag("flag-0", change, &flag).status, 200);
        let all = server.admin("POST", "/ofrep/v1/evaluate/flags", &[], &json!({}));
        assert_eq!(all.status, 200);
        assert!(server.is_ready(), "after change {change}");
    }
    let grown = server.resident_kib().saturating_sub(before);
    // Each body as it was sent, once more for the buffer it grew in, and a margin.
    let most = u64::try_from(CLIENTS / 2 * BODY * 3 / 1024).unwrap() + 64 * 1024;
    assert!(grown < most, "{grown} KiB more, at most {most}");
    drop(pressing);
    let slow = until("the clients are gone", || {
        let status = server.admin("GET", "/status", &[], &Value::Null).json();
        let clients = status["projects"][0]["clients"].as_array()?.len();
        (clients == 0).then_some(status)
    });
    assert_eq!(slow["projects"][0]["flags"], 50);
    assert!(server.is_ready());
    assert_eq!(
        server.value_of("flag-1", &json!({"plan": "pro"})),
        json!(true)
    );
}

#[test]
fn a_stream_that_nobody_reads_holds_up_neither_changes_nor_readers() {
    let (_folder, server) = serve();
    assert_eq!(server.create_flag("good", &plan_flag()).status, 201);
    let open = |path: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let _unread = open("/ofrep/v1/events");
    let mut read = open("/ofrep/v1/events");
    let before = server.resident_kib();
    let (mut heard, mut chunk) = (String::new(), [0; 4096]);
    for revision in 1..=100 {
        let mut flag = plan_flag();
        flag["defaultVariant"] = json!(if revision % 2 == 0 { "off" } else { "on" });
        assert_eq!(server.change_flag("good", revision, &flag).status, 200);
        // The flag's creation was the first change.
        let told = format!("-{}\n", revision + 1);
        while !heard.contains(&told) {
            let taken = read.read(&mut chunk).unwrap();
            assert!(taken > 0, "the reader was cut off");
            heard.push_str(&String::from_utf8_lossy(&chunk[..taken]));
        }
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    let status = server.admin("GET", "/status", &[], &Value::Null).json();
    let clients = status["projects"][0]["clients"].as_array().unwrap();
    assert_eq!(clients.len(), 2, "both are still there: {clients:?}");
}
