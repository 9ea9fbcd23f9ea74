//! Nothing that happens later raises exposure: edits, restarts, lost databases, second servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::locked::LockedDatabase;
use support::wire::Answer;
use support::{Server, tidegate, until};

const FLAGS: &str = "/api/v1/projects/default/flags";
const ROLLOUTS: &str = "/api/v1/projects/default/rollouts";

fn start() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    (folder, server)
}

/// A flag that is on for everybody until it is stopped.
fn open_flag() -> Value {
    json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "on", "offVariant": "off"})
}

fn dark_flag() -> Value {
    json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"})
}

fn kill(server: &Server, flag: &str) -> Answer {
    let path = format!("{FLAGS}/{flag}/kill");
    server.admin("POST", &path, &[], &json!({"reason": "it hurts"}))
}

fn value(server: &Server, flag: &str) -> Value {
    server.value_of(flag, &json!({"targetingKey": "u"}))
}

fn revision(server: &Server, path: &str) -> u64 {
    server.admin("GET", path, &[], &Value::Null).json()["revision"]
        .as_u64()
        .unwrap()
}

fn put(server: &Server, path: &str, body: &Value) -> Answer {
    let tag = format!("\"{}\"", revision(server, path));
    server.admin("PUT", path, &[("if-match", &tag)], body)
}

fn wait_until_kept(folder: &Path, file: &str, text: &str) {
    until("the file is kept", || {
        fs::read_to_string(folder.join(file))
            .ok()?
            .contains(text)
            .then_some(())
    });
}

fn remove_database(folder: &Path) {
    for name in ["tidegate.db", "tidegate.db-wal", "tidegate.db-shm"] {
        let _ = fs::remove_file(folder.join(name));
    }
}

#[test]
fn a_kill_outlives_a_database_that_does_not_know_its_flag() {
    let (folder, server) = start();
    server.create_flag("f", &open_flag());
    wait_until_kept(folder.path(), "last-good/default.json", "\"f\"");
    server.terminate();
    remove_database(folder.path());
    let server = Server::serve(folder.path());
    assert_eq!(value(&server, "f"), true, "what was served last is served");
    let killed = kill(&server, "f");
    assert_eq!(killed.json()["durable"], true, "{killed}");
    until("storage was asked", || {
        server
            .log()
            .contains("does not fit what is stored")
            .then_some(())
    });
    server.kill_nine();
    let server = Server::serve(folder.path());
    assert_eq!(value(&server, "f"), false);
}

#[test]
fn no_edit_lifts_a_kill_and_revive_does() {
    let (_folder, server) = start();
    server.create_flag("f", &open_flag());
    assert_eq!(kill(&server, "f").status, 200);
    let path = format!("{FLAGS}/f");
    let written = put(&server, &path, &open_flag());
    assert_eq!(written.status, 200, "{written}");
    assert_eq!(value(&server, "f"), false, "an edit without the kill");
    let mut turned = open_flag();
    turned["variants"]["off"] = json!(true);
    put(&server, &path, &turned);
    assert_eq!(
        value(&server, "f"),
        false,
        "an edit of what the kill serves"
    );
    let revived = server.admin(
        "POST",
        &format!("{path}/revive"),
        &[],
        &json!({"reason": "it is mended"}),
    );
    assert_eq!(revived.status, 200, "{revived}");
    assert_eq!(value(&server, "f"), true);
}

#[test]
fn a_running_rollout_keeps_its_policy_its_rule_and_its_flag() {
    let (_folder, server) = start();
    server.create_flag("f", &dark_flag());
    let policy = json!({"flag": "f", "treatment": "on", "control": "off", "blind": true,
        "reason": "a test", "stages": [{"share_bp": 1000, "min_seconds": 100_000}]});
    let path = format!("{ROLLOUTS}/r");
    assert_eq!(server.admin("PUT", &path, &[], &policy).status, 201);
    let started = server.admin("POST", &format!("{path}/start"), &[], &Value::Null);
    assert_eq!(started.status, 200, "{started}");
    let share = || {
        let flag = server
            .admin("GET", &format!("{FLAGS}/f"), &[], &Value::Null)
            .json();
        flag["spec"]["rules"][0]["rollout"]["share_bp"].as_u64()
    };
    until("the first stage", || (share() == Some(1000)).then_some(()));
    let mut wider = policy.clone();
    wider["stages"] = json!([{"share_bp": 10_000, "min_seconds": 0}]);
    assert_eq!(
        put(&server, &path, &wider).status,
        409,
        "a policy under a running rollout"
    );
    let tag = format!("\"{}\"", revision(&server, &path));
    assert_eq!(
        server
            .admin("DELETE", &path, &[("if-match", &tag)], &Value::Null)
            .status,
        409
    );
    let flag = format!("{FLAGS}/f");
    let tag = format!("\"{}\"", revision(&server, &flag));
    assert_eq!(
        server
            .admin("DELETE", &flag, &[("if-match", &tag)], &Value::Null)
            .status,
        409
    );
    assert_eq!(put(&server, &flag, &dark_flag()).status, 200);
    assert_eq!(share(), Some(1000), "an edit without the rule");
    let mut opened = server.admin("GET", &flag, &[], &Value::Null).json()["spec"].clone();
    opened["rules"][0]["rollout"]["share_bp"] = json!(10_000);
    put(&server, &flag, &opened);
    assert_eq!(share(), Some(1000), "an edit of the share");
    let stop = json!({"reason": "enough"});
    assert_eq!(
        server
            .admin("POST", &format!("{path}/stop"), &[], &stop)
            .status,
        200
    );
    until("nobody is exposed", || (share() == Some(0)).then_some(()));
    put(&server, &flag, &opened);
    assert_eq!(
        share(),
        Some(0),
        "an export of the ramp applied after it was stopped"
    );
}

#[test]
fn a_rollout_goes_on_where_it_was_after_a_kill_nine_and_its_plans_replay() {
    let (folder, server) = start();
    server.create_flag("f", &dark_flag());
    let policy = json!({"flag": "f", "treatment": "on", "control": "off", "blind": true,
        "reason": "a test", "stages": [{"share_bp": 1000, "min_seconds": 100_000}]});
    let path = format!("{ROLLOUTS}/r");
    server.admin("PUT", &path, &[], &policy);
    server.admin("POST", &format!("{path}/start"), &[], &Value::Null);
    let standing = |server: &Server| {
        let report = server
            .admin("GET", &format!("{path}/report"), &[], &Value::Null)
            .json();
        (report["lifecycle"].clone(), report["share_bp"].clone())
    };
    let expected = (json!("running"), json!(1000));
    until("the first stage", || {
        (standing(&server) == expected).then_some(())
    });
    server.kill_nine();
    let server = Server::serve(folder.path());
    until("it is taken up", || {
        (standing(&server) == expected).then_some(())
    });
    let replayed = server
        .admin("GET", &format!("{path}/replay"), &[], &Value::Null)
        .json();
    assert!(replayed["replay"]["plans"].as_u64() > Some(0), "{replayed}");
    assert_eq!(replayed["replay"]["different"], json!([]), "{replayed}");
}

#[test]
fn callers_are_known_after_a_restart_without_a_database() {
    let (folder, server) = start();
    server.create_flag("f", &open_flag());
    let token = server.mint("server");
    let selector = token.split('_').nth(2).unwrap().to_owned();
    wait_until_kept(folder.path(), "credentials.json", &selector);
    wait_until_kept(folder.path(), "last-good/default.json", "\"f\"");
    server.kill_nine();
    remove_database(folder.path());
    fs::write(folder.path().join("tidegate.db"), b"no database").unwrap();
    let server = Server::serve(folder.path());
    let body = json!({"context": {"targetingKey": "u"}});
    let answer = server.with_token(&token, "POST", "/ofrep/v1/evaluate/flags/f", &body);
    assert_eq!(
        (answer.status, &answer.json()["value"]),
        (200, &json!(true)),
        "{answer}"
    );
}

#[test]
fn a_damaged_log_of_events_stops_no_flag() {
    let (folder, server) = start();
    server.create_flag("f", &open_flag());
    let event =
        json!([{"time": "2026-01-01T00:00:00Z", "unit": "u", "kind": "track", "name": "n"}]);
    for _ in 0..3 {
        assert_eq!(
            server.admin("POST", "/api/v1/events", &[], &event).status,
            202
        );
    }
    server.terminate();
    fs::write(folder.path().join("events/README"), b"no log").unwrap();
    damage(&folder.path().join("events/default/log"));
    let server = Server::serve(folder.path());
    assert_eq!(value(&server, "f"), true);
    assert_eq!(kill(&server, "f").status, 200);
    let refused = server.admin("POST", "/api/v1/events", &[], &event);
    assert_eq!(refused.status, 503, "{refused}");
}

/// Flips one bit of the first frame of every segment.
fn damage(folder: &Path) {
    let segments: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for path in segments.into_iter().filter(|path| path.is_file()) {
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.iter().rposition(|byte| *byte != 0) {
            let middle = at / 8;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
}

#[test]
fn one_folder_has_one_server() {
    let (folder, server) = start();
    let second = tidegate()
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another server is using"), "{said}");
    assert!(server.is_ready());
}

/// A blind rollout of flag `f` that opens to 10 % and stays there.
fn blind_rollout(server: &Server, stages: &Value) {
    server.create_flag("f", &dark_flag());
    let policy = json!({"flag": "f", "treatment": "on", "control": "off", "blind": true,
        "reason": "a test", "stages": stages});
    let path = format!("{ROLLOUTS}/r");
    assert_eq!(server.admin("PUT", &path, &[], &policy).status, 201);
    let started = server.admin("POST", &format!("{path}/start"), &[], &Value::Null);
    assert_eq!(started.status, 200, "{started}");
    until("the first stage", || {
        (served_share(server) > 0).then_some(())
    });
}

/// How many of a thousand units get the treatment now.
fn served_share(server: &Server) -> usize {
    (0..1000)
        .filter(|number| {
            let unit = json!({"targetingKey": format!("unit-{number}")});
            server.value_of("f", &unit) == json!(true)
        })
        .count()
}

#[test]
fn a_stop_is_served_while_the_database_is_locked() {
    let (folder, server) = start();
    blind_rollout(
        &server,
        &json!([{"share_bp": 1000, "min_seconds": 100_000}]),
    );
    let lock = LockedDatabase::of(folder.path());
    // The answer may wait for storage; that nobody is exposed does not.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let stop = json!({"reason": "enough"});
            server.admin("POST", &format!("{ROLLOUTS}/r/stop"), &[], &stop)
        });
        until("nobody is exposed", || {
            (served_share(&server) == 0).then_some(())
        });
        lock.release();
        asked.join().unwrap();
    });
    assert_eq!(served_share(&server), 0);
}

#[test]
fn a_command_that_was_refused_never_acts() {
    let (folder, server) = start();
    blind_rollout(
        &server,
        &json!([{"share_bp": 1000, "min_seconds": 100_000}]),
    );
    let path = format!("{ROLLOUTS}/r");
    let why = json!({"reason": "a test"});
    assert_eq!(
        server
            .admin("POST", &format!("{path}/pause"), &[], &why)
            .status,
        200
    );
    let lock = LockedDatabase::of(folder.path());
    let refused = server.admin("POST", &format!("{path}/resume"), &[], &why);
    assert_eq!(refused.status, 503, "{refused}");
    lock.release();
    until("storage is well", || {
        (server.create_flag("other", &dark_flag()).status == 201).then_some(())
    });
    let report = server
        .admin("GET", &format!("{path}/report"), &[], &Value::Null)
        .json();
    assert_eq!(report["lifecycle"], "paused", "{report}");
}

#[test]
fn a_killed_flag_is_not_opened_further_behind_its_kill() {
    let (_folder, server) = start();
    let stages =
        json!([{"share_bp": 1000, "min_seconds": 2}, {"share_bp": 10_000, "min_seconds": 0}]);
    blind_rollout(&server, &stages);
    assert_eq!(kill(&server, "f").status, 200);
    let report = || {
        server
            .admin("GET", &format!("{ROLLOUTS}/r/report"), &[], &Value::Null)
            .json()
    };
    until("the plan wants the next stage", || {
        let wants = report()["plan"]["actions"]
            .as_array()?
            .iter()
            .any(|action| matches!(action["action"].as_str(), Some("set_share" | "complete")));
        wants.then_some(())
    });
    assert_eq!(report()["share_bp"], 1000);
    let why = json!({"reason": "it is mended"});
    server.admin("POST", &format!("{ROLLOUTS}/r/pause"), &[], &why);
    assert_eq!(
        server
            .admin("POST", &format!("{FLAGS}/f/revive"), &[], &why)
            .status,
        200
    );
    assert!(
        served_share(&server) < 200,
        "lifting the kill exposes what was seen before it"
    );
}

#[test]
fn in_dev_a_kill_outlives_a_reload_and_harms_no_flag_that_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flags.json");
    let save = |set: &Value| fs::write(&file, set.to_string()).unwrap();
    save(&json!({"flags": {"f": open_flag(), "g": open_flag(), "mark": dark_flag()}}));
    let server = Server::dev(&file);
    let mut broken = open_flag();
    broken["state"] = json!("SIDEWAYS");
    save(&json!({"flags": {"f": open_flag(), "g": broken, "mark": open_flag()}}));
    until("the edit is served", || {
        (value(&server, "mark") == json!(true)).then_some(())
    });
    assert_eq!(kill(&server, "f").status, 200);
    assert_eq!(
        (value(&server, "f"), value(&server, "g")),
        (json!(false), json!(true))
    );
    save(&json!({"flags": {"f": open_flag(), "g": broken, "mark": dark_flag()}}));
    until("the reload is served", || {
        (value(&server, "mark") == json!(false)).then_some(())
    });
    assert_eq!(
        (value(&server, "f"), value(&server, "g")),
        (json!(false), json!(true))
    );
}

#[test]
fn a_stop_is_not_told_to_come_back_later() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tidegate.toml");
    fs::write(&config, "requests_per_second = 2.0\n").unwrap();
    let mut command = tidegate();
    command
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .arg("--data-dir")
        .arg(folder.path());
    let server = Server::start(&mut command);
    assert_eq!(server.create_flag("f", &open_flag()).status, 201);
    until("the limit is reached", || {
        (server.evaluate("f", &json!({})).status == 429).then_some(())
    });
    let killed = kill(&server, "f");
    assert_eq!(killed.status, 200, "{killed}");
}
