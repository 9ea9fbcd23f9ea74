//! Guarded rollouts on the real server: guards are proven before the start, harm is taken back while
//! the database is locked and across kill -9, and a completed change can be undone.
//!
//! `TIDEGATE_ROLLBACK_KILLS` sets the number of kills, for long runs.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on has failed; a kill at a chosen moment needs a clock"
)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::locked::LockedDatabase;
use support::{Server, configured, tidegate, until};
use tidegate_store::{ProjectKey, SqliteOptions, SqliteStore, StreamStore as _};

const ROLLOUTS: &str = "/api/v1/projects/default/rollouts";
const UNITS: usize = 80;

/// A dark flag and a rollout of half of everybody, both of this name.
fn prepare(server: &Server, name: &str, stages: &Value, guards: &Value) {
    let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"});
    assert_eq!(server.create_flag(name, &flag).status, 201);
    let policy = json!({"flag": name, "treatment": "on", "control": "off", "reason": "a test",
        "stages": stages, "guards": guards, "cooldown_seconds": 0});
    let made = server.admin("PUT", &format!("{ROLLOUTS}/{name}"), &[], &policy);
    assert_eq!(made.status, 201, "{made}");
}

fn post(server: &Server, events: &[Value]) {
    let answer = server.admin("POST", "/api/v1/events", &[], &json!(events));
    assert_eq!(answer.status, 202, "{answer}");
}

fn request(unit: &str, flag: &str, variant: &str, failed: bool) -> Value {
    json!({"time": "2026-01-01T00:00:00Z", "unit": unit, "kind": "request", "name": "checkout",
        "value": 12.0, "properties": {"error": failed}, "flags": {flag: variant}})
}

fn start(server: &Server, name: &str) {
    let path = format!("{ROLLOUTS}/{name}/start");
    let started = server.admin("POST", &path, &[], &Value::Null);
    assert_eq!(started.status, 200, "{started}");
}

fn report(server: &Server, name: &str) -> Value {
    let path = format!("{ROLLOUTS}/{name}/report");
    server.admin("GET", &path, &[], &Value::Null).json()
}

/// Starts a rollout whose guard is proven, and waits until half of everybody has the change.
fn open_half(server: &Server, name: &str) {
    let stages = json!([{"share_bp": 5000, "min_seconds": 100_000}]);
    prepare(
        server,
        name,
        &stages,
        &json!([{"metric": "errors/checkout"}]),
    );
    post(server, &[request("somebody", "another-flag", "off", false)]);
    start(server, name);
    until("half has the change", || {
        (report(server, name)["share_bp"] == 5000).then_some(())
    });
}

/// Who has the change.
fn arms(server: &Server, name: &str) -> Vec<(String, bool)> {
    let arm = |number: usize| {
        let unit = format!("user-{number}");
        let value = server.value_of(name, &json!({"targetingKey": unit}));
        (unit, value == true)
    };
    (0..UNITS).map(arm).collect()
}

/// Everybody checks out, and fails with the change.
fn harm(server: &Server, name: &str, arms: &[(String, bool)]) {
    harm_at(server, name, arms, "2026-01-01T00:00:00Z");
}

fn harm_at(server: &Server, name: &str, arms: &[(String, bool)], time: &str) {
    let event = |(unit, treated): &(String, bool)| {
        let mut event = request(unit, name, if *treated { "on" } else { "off" }, *treated);
        event["time"] = json!(time);
        event
    };
    post(server, &arms.iter().map(event).collect::<Vec<_>>());
}

fn exposed<'a>(server: &Server, name: &str, arms: &'a [(String, bool)]) -> Vec<&'a str> {
    let has =
        |(unit, _): &&(String, bool)| server.value_of(name, &json!({"targetingKey": unit})) == true;
    arms.iter()
        .filter(has)
        .map(|(unit, _)| unit.as_str())
        .collect()
}

fn wait_until_rolled_back(server: &Server, name: &str) {
    until("it is rolled back", || {
        (report(server, name)["lifecycle"] == "rolled back").then_some(())
    });
}

/// How often the flag's share went from something to nothing.
fn closings(server: &Server, name: &str) -> usize {
    let path = format!("/api/v1/projects/default/flags/{name}/history?limit=100");
    let history = server.admin("GET", &path, &[], &Value::Null).json();
    let mut rows: Vec<(u64, u64)> = history["rows"]
        .as_array()
        .unwrap_or_else(|| panic!("{history}"))
        .iter()
        .map(|row| {
            let share = row["spec"]["rules"][0]["rollout"]["share_bp"].as_u64();
            (row["revision"].as_u64().unwrap(), share.unwrap_or(0))
        })
        .collect();
    rows.sort_unstable();
    rows.windows(2)
        .filter(|pair| pair[0].1 > 0 && pair[1].1 == 0)
        .count()
}

#[test]
fn a_rollout_starts_when_its_guards_are_proven_or_somebody_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let stages = json!([{"share_bp": 5000, "min_seconds": 100_000}]);
    let guards = json!([{"metric": "errors/chekout"}, {"metric": "latency/checkout"}]);
    prepare(&server, "f", &stages, &guards);
    let start = |body: &Value| server.admin("POST", &format!("{ROLLOUTS}/f/start"), &[], body);
    let nothing_came = start(&Value::Null);
    assert_eq!(nothing_came.status, 400, "{nothing_came}");
    post(&server, &[request("u", "f", "off", false)]);
    let check = server.run(&["rollout", "plan", "f", "-o", "json"]);
    assert_eq!(check.status.code(), Some(1));
    let check: Value = serde_json::from_slice(&check.stdout).unwrap();
    let reasons: Vec<&str> = check["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] == "refuse")
        .map(|finding| finding["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons.len(), 1, "{check}");
    assert!(
        reasons[0].contains("did you mean \"errors/checkout\"?"),
        "{check}"
    );
    for guard in check["guards"].as_array().unwrap() {
        assert_eq!(guard["fired_on_injected_fault"], true, "{guard}");
    }
    let refused = start(&Value::Null);
    assert_eq!(refused.status, 400, "{refused}");
    assert_eq!(
        refused.json()["violations"][0]["pointer"],
        "/guards/0/metric",
        "{refused}"
    );
    assert_eq!(
        start(&json!({"unproven": true})).status,
        400,
        "without a reason"
    );
    let started = start(&json!({"unproven": true, "reason": "the service is new"}));
    assert_eq!(started.status, 200, "{started}");
    let audit = server.run(&["audit", "list", "-o", "json"]);
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.contains("not proven: the service is new"), "{audit}");
}

#[test]
fn what_guards_saw_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    post(&server, &[request("u", "f", "off", false)]);
    server.terminate();
    let server = Server::serve(folder.path());
    let stages = json!([{"share_bp": 5000, "min_seconds": 100_000}]);
    prepare(
        &server,
        "f",
        &stages,
        &json!([{"metric": "errors/checkout"}]),
    );
    start(&server, "f");
}

#[test]
fn harm_is_taken_back_while_the_database_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    open_half(&server, "f");
    let arms = arms(&server, "f");
    assert!(!exposed(&server, "f", &arms).is_empty());
    let lock = LockedDatabase::of(folder.path());
    harm(&server, "f", &arms);
    until("nobody is exposed", || {
        exposed(&server, "f", &arms).is_empty().then_some(())
    });
    lock.release();
    wait_until_rolled_back(&server, "f");
    assert_eq!(exposed(&server, "f", &arms), Vec::<&str>::new());
    assert_eq!(closings(&server, "f"), 1);
}

#[test]
fn a_rollback_that_waits_for_the_database_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let all = ["f", "g", "h"].map(|name| {
        open_half(&server, name);
        (name, arms(&server, name))
    });
    let lock = LockedDatabase::of(folder.path());
    let mut slowest = Duration::ZERO;
    for (name, arms) in &all {
        harm(&server, name, arms);
        let acknowledged = Instant::now();
        until("nobody is exposed", || {
            exposed(&server, name, arms).is_empty().then_some(())
        });
        slowest = slowest.max(acknowledged.elapsed());
    }
    let standing = report(&server, "f");
    assert_eq!(
        (&standing["lifecycle"], &standing["share_bp"]),
        (&json!("rolling back"), &json!(0)),
        "served, and not in the database yet: {standing}"
    );
    lock.release();
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    for (name, _) in &all {
        wait_until_rolled_back(&server, name);
        let times = report(&server, name)["rollback"].clone();
        let at = |step: &str| times[step].as_i64().unwrap_or_else(|| panic!("{times}"));
        let steps = [
            "received_us",
            "counted_us",
            "seen_us",
            "decided_us",
            "recorded_us",
        ];
        let steps = steps
            .into_iter()
            .chain(["served_us", "confirmed_us"])
            .map(at);
        assert!(steps.is_sorted(), "{times}");
    }
}

#[test]
fn a_retried_rollout_is_watched_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    open_half(&server, "f");
    let arms = arms(&server, "f");
    harm(&server, "f", &arms);
    wait_until_rolled_back(&server, "f");
    let why = json!({"reason": "it is mended"});
    let retried = server.admin("POST", &format!("{ROLLOUTS}/f/retry"), &[], &why);
    assert_eq!(retried.status, 200, "{retried}");
    until("half has the change again", || {
        (report(&server, "f")["share_bp"] == 5000).then_some(())
    });
    // The same checkouts at the same time would be the same events.
    harm_at(&server, "f", &arms, "2026-01-01T00:00:01Z");
    wait_until_rolled_back(&server, "f");
    assert_eq!(closings(&server, "f"), 2);
}

#[test]
fn a_completed_change_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let stages = json!([{"share_bp": 10_000, "min_seconds": 0}]);
    let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"});
    server.create_flag("f", &flag);
    let policy = json!({"flag": "f", "treatment": "on", "control": "off", "blind": true,
        "reason": "a test", "at_end": "ship", "stages": stages});
    let made = server.admin("PUT", &format!("{ROLLOUTS}/f"), &[], &policy);
    assert_eq!(made.status, 201, "{made}");
    start(&server, "f");
    until("it is complete", || {
        (report(&server, "f")["lifecycle"] == "completed").then_some(())
    });
    assert_eq!(server.value_of("f", &json!({"targetingKey": "u"})), true);
    let undone = server.run(&["rollout", "undo", "f", "--reason", "customers complain"]);
    assert!(undone.status.success(), "{undone:?}");
    assert_eq!(server.value_of("f", &json!({"targetingKey": "u"})), false);
    wait_until_rolled_back(&server, "f");
}

/// When, after the deciding events were acknowledged, the server is killed.
fn moment(server: &Server, name: &str, arms: &[(String, bool)], round: u32) {
    match round % 3 {
        // As soon as control is served: decided, synced to the stop file, perhaps not yet ordinary.
        0 => until("control is served", || {
            exposed(server, name, &arms[..8]).is_empty().then_some(())
        }),
        1 => {}
        _ => {
            let wait = Duration::from_micros(u64::from(round) * 397 % 20_000);
            let begun = Instant::now();
            while begun.elapsed() < wait {
                std::hint::spin_loop();
            }
        }
    }
}

fn one_kill(folder: &Path, round: u32) {
    let name = format!("f{round}");
    let server = Server::serve(folder);
    open_half(&server, &name);
    let arms = arms(&server, &name);
    harm(&server, &name, &arms);
    moment(&server, &name, &arms, round);
    let before = exposed(&server, &name, &arms).len();
    server.kill_nine();
    let server = Server::serve(folder);
    let after = exposed(&server, &name, &arms).len();
    assert!(
        after <= before,
        "{after} exposed after the restart, {before} before"
    );
    wait_until_rolled_back(&server, &name);
    assert_eq!(exposed(&server, &name, &arms), Vec::<&str>::new());
    assert_eq!(closings(&server, &name), 1, "applied exactly once");
    let path = format!("{ROLLOUTS}/{name}/replay");
    let replayed = server.admin("GET", &path, &[], &Value::Null).json();
    assert_eq!(replayed["replay"]["different"], json!([]), "{replayed}");
    server.terminate();
    assert_eq!(decisions(folder, &name), 1, "decided exactly once");
}

/// How many decisions to roll back the log of a rollout holds, its server being stopped.
fn decisions(folder: &Path, name: &str) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteOptions::new(folder.join("tidegate.db"));
        let store = SqliteStore::open(options).await.unwrap();
        let project = ProjectKey::parse("default").unwrap();
        let stream = format!("rollout/{name}");
        let log = store.log_read(&project, &stream, 0, 1000).await.unwrap();
        log.iter()
            .filter(|record| record.payload["event"] == "rollback_decided")
            .count()
    })
}

#[test]
fn a_rollback_is_applied_once_whenever_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..configured("TIDEGATE_ROLLBACK_KILLS", 6) {
        one_kill(folder.path(), round);
    }
}

#[test]
fn a_plan_whose_metric_nobody_measures_is_not_played() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    let play = |metrics: &[&str]| {
        let guard =
            |metric: &&str| json!({"metric": metric, "direction": "increase", "margin": 0.5});
        let guards: Vec<Value> = metrics.iter().map(guard).collect();
        let stages =
            json!([{"share_bp": 1000, "min_seconds": 60}, {"share_bp": 10000, "min_seconds": 60}]);
        let spec = json!({"flag": "f", "treatment": "on", "control": "off", "reason": "a test",
            "stages": stages, "guards": guards});
        std::fs::write(&plan, spec.to_string()).unwrap();
        let arguments = ["--traffic", "5", "--error-rate", "0.1", "--histories", "1"];
        let mut command = tidegate();
        command
            .args(["rollout", "simulate", "-f"])
            .arg(&plan)
            .args(arguments);
        let output = command.output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), complaint)
    };
    let (is_played, complaint) = play(&["errors/checkout"]);
    assert!(is_played, "{complaint}");
    let (is_played, complaint) = play(&["erors", "conversions", "speed"]);
    assert!(!is_played);
    for said in [
        "/guards/0/metric: metric \"erors\" is not measured; did you mean \"errors\"?",
        "/guards/1/metric: metric \"conversions\" is not measured; guards can be",
        "/guards/2/metric: metric \"speed\" is not measured; guards can be",
    ] {
        assert!(complaint.contains(said), "{complaint}");
    }
}
