//! Delivery at the server's doors: webhooks that prove their sender, pipelines with a `ci` token, questions, what
//! Tidegate writes itself, and everything that does not fit.
//!
//! Long because each source of deliveries has its own bodies and signatures, and all share one server harness.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on has failed, and signed times are the machine's"
)]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::wire::{self, Answer};
use support::{ADMIN, Server, until};
use tidegate_delivery::webhook::hmac_sha256;

const PROJECT: &str = "/api/v1/projects/default";
const YEAR: &str = "from=2025-01-01&to=2026-01-01";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A secret of a source, made by the server.
fn secret(server: &Server, source: &str) -> (String, String) {
    let path = format!("{PROJECT}/delivery/secrets");
    let answer = server.admin("POST", &path, &[], &json!({ "source": source }));
    assert_eq!(answer.status, 201, "{answer}");
    let body = answer.json();
    (
        body["secret"].as_str().unwrap().to_owned(),
        body["record"]["id"].as_str().unwrap().to_owned(),
    )
}

fn send(server: &Server, source: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let path = format!("{PROJECT}/webhooks/{source}");
    wire::request(server.address, "POST", &path, headers, body)
}

/// A webhook of GitHub, signed with `secret`.
fn github(server: &Server, secret: &str, event: &str, delivery: &str, body: &[u8]) -> Answer {
    let signature = format!("sha256={}", hex(&hmac_sha256(secret.as_bytes(), &[body])));
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", event),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", signature.as_str()),
    ];
    send(server, "github", &headers, body)
}

/// A deployment that GitHub says has succeeded.
fn deployed(id: u32, version: &str, at: &str) -> Vec<u8> {
    json!({
        "action": "created",
        "deployment": {"id": id, "sha": "a".repeat(40), "ref": version, "environment": "production",
                       "created_at": at, "task": "deploy"},
        "deployment_status": {"id": id * 10, "state": "success", "environment": "production",
                              "created_at": at, "updated_at": at},
        "repository": {"name": "shop", "full_name": "acme/shop"},
    })
    .to_string()
    .into_bytes()
}

fn ask(server: &Server, question: &str) -> Value {
    let answer = server.admin(
        "GET",
        &format!("{PROJECT}/delivery/{question}"),
        &[],
        &Value::Null,
    );
    assert_eq!(answer.status, 200, "{question}: {answer}");
    answer.json()
}

fn deployments(server: &Server) -> f64 {
    let answer = ask(server, &format!("metrics?{YEAR}"));
    let rows = answer["rows"].as_array().unwrap();
    let total = rows
        .iter()
        .find(|row| row["service"] == "*" && row["metric"] == "deployments");
    total.unwrap()["value"].as_f64().unwrap()
}

/// What became of the latest webhooks, when at least `count` have been read.
fn received(server: &Server, count: usize) -> Vec<Value> {
    until("webhooks are read", || {
        let rows = ask(server, "received")["rows"].as_array().unwrap().clone();
        (rows.len() >= count).then_some(rows)
    })
}

#[test]
fn a_signed_webhook_is_stored_read_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let (key, _) = secret(&server, "github");
    let body = deployed(1, "v1", "2025-03-04T10:00:00Z");
    let answer = github(&server, &key, "deployment_status", "d-1", &body);
    assert_eq!(
        (answer.status, &answer.json()["stored"]),
        (202, &json!(true)),
        "{answer}"
    );
    // Sent again by hand, and by GitHub under another id: one deployment.
    assert_eq!(
        github(&server, &key, "deployment_status", "d-1", &body).status,
        202
    );
    assert_eq!(
        github(&server, &key, "deployment_status", "d-2", &body).status,
        202
    );
    let rows = received(&server, 3);
    assert!(rows.iter().all(|row| row["rows"] == 1), "{rows:?}");
    let new: Vec<&Value> = rows.iter().map(|row| &row["new"]).collect();
    assert_eq!(
        new,
        [1, 0, 1],
        "newest first, and d-1 a second time: {rows:?}"
    );
    assert_eq!(deployments(&server), 1.0);
    assert_eq!(
        ask(&server, &format!("metrics?{YEAR}&service=shop"))["rows"][0]["value"],
        1.0
    );
}

#[test]
fn a_proven_webhook_without_the_name_of_its_delivery_is_sent_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let (key, _) = secret(&server, "github");
    let body = deployed(1, "v1", "2025-03-04T10:00:00Z");
    let signature = format!("sha256={}", hex(&hmac_sha256(key.as_bytes(), &[&body])));
    let named = [
        ("x-github-event", "deployment_status"),
        ("x-hub-signature-256", signature.as_str()),
    ];
    let answer = send(&server, "github", &named, &body);
    assert_eq!(answer.status, 400, "{answer}");
    assert!(answer.to_string().contains("X-GitHub-Delivery"), "{answer}");
    // A push yields no rows, and one that cannot be read is not taken for one.
    assert_eq!(
        github(&server, &key, "push", "d-1", b"{\"ref\":").status,
        202
    );
    let rows = received(&server, 1);
    assert!(rows[0]["refused"].is_string(), "{rows:?}");
}

#[test]
fn who_does_not_prove_itself_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let body = deployed(1, "v1", "2025-03-04T10:00:00Z");
    let unknown = github(&server, "whatever it is", "deployment_status", "d", &body);
    assert_eq!(unknown.status, 401, "no secret yet: {unknown}");
    let (key, _) = secret(&server, "github");
    let wrong = github(
        &server,
        "another key than that",
        "deployment_status",
        "d",
        &body,
    );
    assert_eq!(wrong.status, 401, "{wrong}");
    assert_eq!(
        wrong.json()["type"],
        "/docs/errors#unauthenticated",
        "{wrong}"
    );
    let signature = format!("sha256={}", hex(&hmac_sha256(key.as_bytes(), &[&body])));
    let cut = &body[..body.len() - 7];
    for (what, headers, body) in [
        (
            "truncated",
            vec![("x-hub-signature-256", signature.as_str())],
            cut,
        ),
        ("unsigned", vec![], &body[..]),
        (
            "old algorithm",
            vec![("x-hub-signature", "sha1=aa")],
            &body[..],
        ),
        (
            "no digest",
            vec![("x-hub-signature-256", "sha256=zz")],
            &body[..],
        ),
    ] {
        let answer = send(&server, "github", &headers, body);
        assert_eq!(answer.status, 401, "{what}: {answer}");
    }
    for source in ["gitlab", "pagerduty", "alertmanager", "cdevents", "generic"] {
        let headers = [("x-hub-signature-256", signature.as_str())];
        assert_eq!(
            send(&server, source, &headers, &body).status,
            401,
            "{source}"
        );
    }
    assert_eq!(send(&server, "sourcehut", &[], &body).status, 404);
    let elsewhere = "/api/v1/projects/no-such/webhooks/github";
    let headers = [("x-hub-signature-256", signature.as_str())];
    let other = wire::request(server.address, "POST", elsewhere, &headers, &body);
    assert_eq!(other.status, 401, "{other}");
    assert_eq!(deployments(&server), 0.0);
    assert_eq!(ask(&server, "received")["rows"], json!([]));
}

#[test]
fn a_key_is_changed_without_a_gap_and_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let (first, first_id) = secret(&server, "github");
    let (second, _) = secret(&server, "github");
    let body = deployed(1, "v1", "2025-03-04T10:00:00Z");
    for key in [&first, &second] {
        assert_eq!(
            github(&server, key, "deployment_status", "d", &body).status,
            202
        );
    }
    let path = format!("{PROJECT}/delivery/secrets");
    let third = server.admin("POST", &path, &[], &json!({ "source": "github" }));
    assert_eq!(third.status, 409, "{third}");
    let listed = server.admin("GET", &path, &[], &Value::Null);
    assert_eq!(listed.json()["rows"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(&first) && !listed.to_string().contains(&second));
    let revoked = server.admin("DELETE", &format!("{path}/{first_id}"), &[], &Value::Null);
    assert_eq!(revoked.status, 200, "{revoked}");
    assert_eq!(
        github(&server, &first, "deployment_status", "d", &body).status,
        401
    );
    assert_eq!(
        github(&server, &second, "deployment_status", "d", &body).status,
        202
    );
    // Both acts are in the audit trail, and no secret is.
    let audit = server.admin("GET", &format!("{PROJECT}/audit"), &[], &Value::Null);
    let text = audit.to_string();
    assert!(text.contains("webhook-secret.create") && text.contains("webhook-secret.revoke"));
    assert!(!text.contains(&first) && !text.contains(&second));
    server.terminate();
    let server = Server::serve(folder.path());
    assert_eq!(
        github(&server, &second, "deployment_status", "d", &body).status,
        202
    );
    assert_eq!(
        github(&server, &first, "deployment_status", "d", &body).status,
        401
    );
}

#[test]
fn signed_times_bound_replays() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let (key, _) = secret(&server, "generic");
    let body = json!({"id": "b-1", "at": "2025-03-04T10:00:00Z",
        "deployment": {"service": "shop", "environment": "production", "version": "v1"}});
    let body = body.to_string();
    let signed = |seconds: u64| {
        let parts: [&[u8]; 5] = [
            b"w-1",
            b".",
            &seconds.to_string().into_bytes(),
            b".",
            body.as_bytes(),
        ];
        let code = hmac_sha256(key.as_bytes(), &parts);
        let signature = format!("v1,{}", base64(&code));
        let time = seconds.to_string();
        let headers = [
            ("webhook-id", "w-1"),
            ("webhook-timestamp", time.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        send(&server, "generic", &headers, body.as_bytes())
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for off in [now - 3600, now + 3600, 0] {
        let answer = signed(off);
        assert_eq!(answer.status, 401, "{answer}");
        assert!(answer.to_string().contains("timestamp"), "{answer}");
    }
    assert_eq!(signed(now).status, 202);
    received(&server, 1);
    assert_eq!(deployments(&server), 1.0);
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let all = chunk
            .iter()
            .fold(0_u32, |all, &byte| all << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(all >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

/// Bodies that a proven sender may send all the same.
#[test]
fn what_cannot_be_read_is_told_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let (key, _) = secret(&server, "generic");
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str())];
    let deployment = |id: &str, at: &str| {
        json!({"id": id, "at": at,
               "deployment": {"service": "shop", "environment": "production", "version": id}})
    };
    let good = deployment("v1", "2025-03-04T10:00:00Z");
    let mixed = json!([
        good,
        deployment("v2", "1955-11-05T06:15:00Z"),
        deployment("v3", "2999-01-01T00:00:00Z"),
        {"id": "x", "deployment": {"service": "", "environment": "production"}},
        {"id": "y", "holiday": {}},
        {"id": "z", "correction": {"deployment": "d", "ruling": "did_not_fail", "reason": "r", "by": "me"}},
    ]);
    let deep = "[".repeat(100_000);
    let text = mixed.to_string();
    let bodies: [(&[u8], bool); 6] = [
        (&text.as_bytes()[..text.len() / 2], false),
        (b"\xff\xfe{}", false),
        (deep.as_bytes(), false),
        (b"", false),
        (b"7", false),
        (text.as_bytes(), true),
    ];
    for (body, _) in bodies {
        assert_eq!(send(&server, "generic", &headers, body).status, 202);
    }
    let mut rows = received(&server, bodies.len());
    rows.reverse();
    for ((_, is_readable), row) in bodies.iter().zip(&rows) {
        assert_eq!(row["refused"].is_null(), *is_readable, "{row}");
    }
    let last = rows.last().unwrap();
    assert_eq!(last["rows"], 1, "{last}");
    let notes = last["notes"].to_string();
    for told in [
        "1980 to 2199",
        "/body/deployment/service",
        "row 4",
        "rulings",
    ] {
        assert!(notes.contains(told), "{told}: {notes}");
    }
    assert_eq!(deployments(&server), 1.0);
    let too_long = wire::declare(
        server.address,
        "POST",
        &format!("{PROJECT}/webhooks/generic"),
        &headers,
        6 << 20,
    );
    assert_eq!(too_long.status, 413, "{too_long}");
    assert!(server.is_ready());
}

#[test]
fn what_was_answered_survives_kill_nine() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let (key, _) = secret(&server, "github");
    for n in 1..=40 {
        let body = deployed(n, &format!("v{n}"), "2025-03-04T10:00:00Z");
        let answer = github(&server, &key, "deployment_status", &format!("d-{n}"), &body);
        assert_eq!(answer.status, 202, "{answer}");
    }
    server.kill_nine();
    let server = Server::serve(folder.path());
    until("all forty are in the log", || {
        (deployments(&server) == 40.0).then_some(())
    });
}

#[test]
fn a_pipeline_records_deployments_and_incidents_with_a_ci_token() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let ci = server.mint("ci");
    let deployment = json!({"service": "shop", "version": "v1", "at": "2025-03-04T10:00:00Z",
                            "commit": "b".repeat(40)});
    let post = |path: &str, body: &Value| server.with_token(&ci, "POST", path, body);
    let first = post("/api/v1/deployments", &deployment);
    assert_eq!(
        (first.status, &first.json()["recorded"]),
        (201, &json!(true)),
        "{first}"
    );
    let again = post("/api/v1/deployments", &deployment);
    assert_eq!(
        (again.status, &again.json()["recorded"]),
        (200, &json!(false)),
        "{again}"
    );
    let bad = json!({"id": "x", "service": "", "version": "x".repeat(2000), "commit": "v12"});

    let refused = post("/api/v1/deployments", &bad);
    assert_eq!(refused.status, 400, "{refused}");
    let pointers: Vec<String> = refused.json()["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|violation| violation["pointer"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pointers, ["/service", "/version", "/commit"]);
    for (field, value) in [
        ("at", "soon"),
        ("at", "1955-11-05T06:15:00Z"),
        ("outcome", "lucky"),
        ("colour", "red"),
    ] {
        let mut body = deployment.clone();
        body[field] = json!(value);
        assert_eq!(post("/api/v1/deployments", &body).status, 400, "{field}");
    }
    let incident = json!({"incident": "i-1", "service": "shop", "title": "Checkout down",
                          "detected_at": "2025-03-04T11:00:00Z", "caused_by": "v1",
                          "runbook": "https://runbooks.example/checkout"});
    assert_eq!(post("/api/v1/incidents", &incident).status, 201);
    let over = json!({"incident": "i-1", "resolved_at": "2025-03-04T12:30:00Z"});
    assert_eq!(post("/api/v1/incidents", &over).status, 201);
    let metrics = format!("metrics?{YEAR}&service=shop&explain=true");
    let answer = ask(&server, &metrics);
    let row = |name: &str| {
        let rows = answer["rows"].as_array().unwrap();
        rows.iter()
            .find(|row| row["metric"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(row("change_fail_rate")["value"], 1.0);
    assert_eq!(row("failed_deployment_recovery_time")["value"], 2.5);
    // The deployed commit is in no repository that is known: that is said, not guessed.
    assert_eq!(row("change_lead_time")["value"], Value::Null, "{answer}");
    // A pipeline writes and does not read.
    let read = server.with_token(
        &ci,
        "GET",
        &format!("{PROJECT}/delivery/{metrics}"),
        &Value::Null,
    );
    assert_eq!(read.status, 403);
    let found = ask(&server, "incidents?search=checkout%20RUNBOOKS&explain=true");
    assert_eq!(found["rows"][0]["id"], "api:i-1", "{found}");
    assert_eq!(found["rows"][0]["hours"], 1.5);
    assert!(
        found["rows"][0]["timeline"]
            .to_string()
            .contains("deployment of v1"),
        "{found}"
    );
    assert_eq!(ask(&server, "incidents?search=payments")["rows"], json!([]));
    let postmortem = ask(&server, "postmortem?incident=api%3Ai-1");
    assert!(
        postmortem["markdown"]
            .as_str()
            .unwrap()
            .contains("## Actions")
    );
}

fn run(server: &Server, arguments: &[&str]) -> String {
    let output = server.run(&[&["delivery"], arguments].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

fn offline(data_dir: &Path, arguments: &[&str]) -> (bool, String) {
    let output = support::tidegate()
        .arg("delivery")
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

const TABLE: &str = "unix,environment,service,new_tag\n\
    1736121600,integration,shop,v1\n\
    1736121600,production,shop,v1\n\
    1736208000,staging,shop,v2\n\
    1736208600,production,shop,v2\n\
    1736294400,production,shop,v1\n\
    1736294400,production,till,v7\n\
    soon,production,shop,v3\n";

#[test]
fn the_command_line_gives_the_same_answers_through_a_server_and_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::serve(&data);
    let table = folder.path().join("t.csv");
    std::fs::write(&table, TABLE).unwrap();
    let map = "time=unix,environment=environment,service=service,version=new_tag";
    let import = [
        "import-csv",
        "--file",
        table.to_str().unwrap(),
        "--kind",
        "deployments",
        "--map",
        map,
        "-o",
        "json",
    ];
    let report: Value = serde_json::from_str(&run(&server, &import)).unwrap();
    assert_eq!(
        (
            &report["imported"],
            &report["rejected"],
            &report["problems"][0]["line"]
        ),
        (&json!(6), &json!(1), &json!(8)),
        "{report}"
    );
    let again: Value = serde_json::from_str(&run(&server, &import)).unwrap();
    assert_eq!(
        (&again["imported"], &again["known"]),
        (&json!(0), &json!(6))
    );
    let deploy = [
        "deploy",
        "--service",
        "till",
        "--version",
        "v8",
        "--at",
        "2025-01-09T09:00:00Z",
    ];
    assert_eq!(run(&server, &deploy), "recorded\n");
    assert_eq!(run(&server, &deploy), "known already\n");
    let incident = [
        "incident",
        "--id",
        "i1",
        "--service",
        "till",
        "--title",
        "Down",
        "--detected-at",
        "2025-01-09T10:00:00Z",
        "--resolved-at",
        "2025-01-09T11:00:00Z",
    ];
    assert_eq!(run(&server, &incident), "recorded\n");
    let ruling = [
        "correct",
        "--deployment",
        "api:production/till/v8@1736413200000",
        "--ruling",
        "did-not-fail",
        "--reason",
        "the supplier was down",
    ];
    assert_eq!(run(&server, &ruling), "recorded\n");
    let targets = r#"{"services": {"shop": {"deployments_per_day": 40}}}"#;
    assert_eq!(
        run(&server, &["set-targets", targets]),
        "the targets are set\n"
    );
    let questions: Vec<Vec<&str>> = vec![
        vec![
            "metrics",
            "--from",
            "2025-01-01",
            "--to",
            "2025-02-01",
            "--explain",
        ],
        vec!["pipeline", "--from", "2025-01-01", "--to", "2025-02-01"],
        vec!["flow", "--from", "2025-01-01", "--to", "2025-02-01"],
        vec![
            "forecast",
            "--from",
            "2025-01-01",
            "--to",
            "2025-02-01",
            "--days",
            "7",
            "--of",
            "deployments",
        ],
        vec!["summary", "--from", "2025-01-01", "--to", "2025-04-01"],
        vec![
            "targets",
            "--from",
            "2025-01-01",
            "--to",
            "2025-02-01",
            "--targets",
            targets,
        ],
        vec!["incidents", "--search", "down", "--explain"],
        vec!["postmortem", "api:i1"],
    ];
    let both = |question: &[&str]| {
        [
            run(&server, question),
            run(&server, &[question, &["-o", "json"]].concat()),
        ]
    };
    let through: Vec<[String; 2]> = questions.iter().map(|question| both(question)).collect();
    let kept = run(
        &server,
        &["targets", "--from", "2025-01-01", "--to", "2025-02-01"],
    );
    assert_eq!(kept, through[5][0], "targets that are set need not be said");
    assert!(
        kept.contains("target 40") && kept.contains("target 1"),
        "{kept}"
    );
    // While the server has the log, its files are readable and not writable.
    let (is_done, told) = offline(&data, &deploy);
    assert!(
        !is_done && told.contains("in use by another process"),
        "{told}"
    );
    for (question, answers) in questions.iter().zip(&through) {
        for (more, answer) in [&[][..], &["-o", "json"]].iter().zip(answers) {
            let (is_done, text) = offline(&data, &[question, *more].concat());
            assert!(is_done, "{text}");
            assert_eq!(&text, answer, "{question:?}");
        }
    }
    server.terminate();
    let (is_done, told) = offline(&data, &deploy);
    assert!(
        is_done && told.starts_with("recorded"),
        "another source: {told}"
    );
}

#[test]
fn a_repository_is_imported_through_a_server_and_the_second_time_only_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(&folder.path().join("data"));
    let repository = folder.path().join("shop");
    let path = repository.to_str().unwrap();
    git(&repository, &["init", "-q", "-b", "main", path]);
    for n in 1..=5 {
        change(&repository, n);
    }
    let import = ["import-git", path, "--resolve-commit-ids", "-o", "json"];
    let first: Value = serde_json::from_str(&run(&server, &import)).unwrap();
    assert_eq!(first["commits"], 5, "{first}");
    change(&repository, 6);
    let second: Value = serde_json::from_str(&run(&server, &import)).unwrap();
    assert_eq!(
        (&second["commits"], &second["added"]),
        (&json!(1), &json!(1)),
        "{second}"
    );
    let ids = String::from_utf8(git(&repository, &["log", "--format=%H"])).unwrap();
    for (nth, id) in ids.lines().take(2).enumerate() {
        let at = format!("2025-02-0{}T12:00:00Z", 2 - nth);
        run(
            &server,
            &[
                "deploy",
                "--service",
                "shop",
                "--version",
                id,
                "--commit",
                id,
                "--at",
                &at,
            ],
        );
    }
    let lead = ask(
        &server,
        &format!("metrics?{YEAR}&service=shop&explain=true"),
    );
    let rows = lead["rows"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["metric"] == "change_lead_time")
        .unwrap();
    assert_eq!(row["n"], 1, "{row:#}");
    assert_eq!(row["contributing"][0]["id"], ids.lines().next().unwrap());
}

fn git(repository: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = std::process::Command::new("git");
    if repository.exists() {
        command.arg("-C").arg(repository);
    }
    let output = command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=n", "-c", "user.email=e@example.invalid"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn change(repository: &Path, n: u32) {
    std::fs::write(repository.join("file"), n.to_string()).unwrap();
    git(repository, &["add", "."]);
    let date = format!("--date=2025-01-{n:02}T10:00:00Z");
    git(repository, &["commit", "-q", "-m", "change", &date]);
}

#[test]
fn an_import_is_all_or_nothing_and_may_not_speak_for_tidegate() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let ci = server.mint("ci");
    let row = |source: &str, id: &str, body: Value| {
        json!({"at": 1_741_082_400_000_i64, "source": source, "id": id, "body": body}).to_string()
    };
    let deployment =
        json!({"deployment": {"service": "shop", "environment": "production", "version": "v1"}});
    let rows = [
        row("csv:mine", "1", deployment.clone()),
        row(
            "tidegate",
            "audit/1/1",
            json!({"exposure": {"flag": "f", "share_bp": 0}}),
        ),
        row(
            "csv:mine",
            "2",
            json!({"correction": {"deployment": "d", "ruling": "failed", "reason": "r", "by": "b"}}),
        ),
        "{\"at\":".to_owned(),
        row("csv:mine", "3", deployment),
    ];
    let path = format!("{PROJECT}/delivery/rows");
    let bearer = format!("Bearer {ci}");
    let headers = [("authorization", bearer.as_str())];
    let send = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        wire::request(server.address, "POST", path, headers, body)
    };
    let body = rows.join("\n");
    let strict = send(&format!("{path}?strict=true"), &headers, body.as_bytes());
    assert_eq!(
        (strict.status, &strict.json()["committed"]),
        (422, &json!(false)),
        "{strict}"
    );
    assert_eq!(
        (strict.header("content-type"), &strict.json()["type"]),
        (
            Some("application/problem+json"),
            &json!("/docs/errors#nothing-taken")
        ),
        "{strict}"
    );
    assert_eq!(deployments(&server), 0.0);
    let lenient = send(&path, &headers, body.as_bytes());
    let report = lenient.json();
    assert_eq!(
        (lenient.status, &report["recorded"], &report["rejected"]),
        (200, &json!(2), &json!(3)),
        "{lenient}"
    );
    let lines: Vec<u64> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [2, 3, 4]);
    let packed = [headers[0], ("content-encoding", "gzip")];
    let broken = send(&path, &packed, b"\x1f\x8b\x08 not gzip at all");
    assert_eq!(broken.status, 400, "{broken}");
    let endless = vec![b'x'; 1 << 20];
    assert_eq!(send(&path, &headers, &endless).status, 400);
    assert_eq!(deployments(&server), 2.0);
}

#[test]
fn exposures_are_written_once_whatever_happens() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let mut flag = support::plan_flag();
    flag.as_object_mut().unwrap().remove("targeting");
    assert_eq!(server.create_flag("dark", &flag).status, 201);
    flag["rules"] =
        json!([{"id": "some", "rollout": {"treatment": "on", "control": "off", "share_bp": 500}}]);
    assert_eq!(server.change_flag("dark", 1, &flag).status, 200);
    flag["description"] = json!("a word more changes no exposure");
    assert_eq!(server.change_flag("dark", 2, &flag).status, 200);
    flag["rules"][0]["rollout"]["share_bp"] = json!(10_000);
    assert_eq!(server.change_flag("dark", 3, &flag).status, 200);
    let killed = server.admin(
        "POST",
        &format!("{PROJECT}/flags/dark/kill"),
        &[],
        &json!({"reason": "harm"}),
    );
    assert_eq!(killed.status, 200, "{killed}");
    let shares = || {
        let text =
            std::fs::read_to_string(folder.path().join("delivery/default.log")).unwrap_or_default();
        let rows = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        rows.filter_map(|row| row["body"]["exposure"]["share_bp"].as_u64())
            .collect::<Vec<_>>()
    };
    until("the kill is written", || {
        (shares() == [500, 10_000, 0]).then_some(())
    });
    server.kill_nine();
    let server = Server::serve(folder.path());
    let revived = server.admin(
        "POST",
        &format!("{PROJECT}/flags/dark/revive"),
        &[],
        &json!({"reason": "fixed"}),
    );
    assert_eq!(revived.status, 200, "{revived}");
    until("the revival is written", || {
        (shares().len() == 4).then_some(())
    });
    // Reading on from nothing gives the same rows again, and the log holds each once.
    server.terminate();
    let server = Server::serve(folder.path());
    let deleted = server.admin(
        "DELETE",
        &format!("{PROJECT}/flags/dark"),
        &[("if-match", "\"6\"")],
        &Value::Null,
    );
    assert_eq!(deleted.status, 200, "{deleted}");
    until("the deletion is written", || {
        (shares().len() == 5).then_some(())
    });
    assert_eq!(shares(), [500, 10_000, 0, 10_000, 0]);
}

#[test]
fn questions_that_make_no_sense_are_refused_with_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    for (question, told) in [
        ("metrics?from=2025-01-01", "missing field `to`"),
        ("metrics?from=soon&to=2026-01-01", "/from"),
        ("metrics?from=2026-01-01&to=2025-01-01", "`to` after `from`"),
        ("metrics?from=2025-01-01&to=2026-01-01&colour=red", "colour"),
        (
            "metrics?from=2025-01-01&to=2026-01-01&definition=wishful",
            "dora-2025",
        ),
        ("forecast?from=2025-01-01&to=2026-01-01", "items or days"),
        (
            "forecast?from=2025-01-01&to=2026-01-01&days=5",
            "nothing was finished",
        ),
        (
            "targets?from=2025-01-01&to=2026-01-01&targets=%7B%22x%22%3A1%7D",
            "/targets",
        ),
        ("incidents?from=soon", "/from"),
    ] {
        let answer = server.admin(
            "GET",
            &format!("{PROJECT}/delivery/{question}"),
            &[],
            &Value::Null,
        );
        assert_eq!(answer.status, 400, "{question}: {answer}");
        assert!(answer.to_string().contains(told), "{question}: {answer}");
    }
    let missing = server.admin(
        "GET",
        &format!("{PROJECT}/delivery/postmortem?incident=x"),
        &[],
        &Value::Null,
    );
    assert_eq!(missing.status, 404, "{missing}");
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("accept", "text/plain")];
    let path = format!("{PROJECT}/delivery/summary?{YEAR}");
    let text = wire::request(server.address, "GET", &path, &headers, b"");
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(
        String::from_utf8(text.body)
            .unwrap()
            .starts_with("In 2025-01-01 to 2026-01-01")
    );
}
