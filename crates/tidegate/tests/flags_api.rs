//! Flags over the public API: revisions, refusals, entity tags, and what outlives what.
//!
//! Long because every refusal of the flag routes is here, beside what it refuses.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use support::wire::Answer;
use support::{Server, plan_flag, tidegate, until};

const FLAGS: &str = "/api/v1/projects/default/flags";

fn server() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    (folder, server)
}

/// The codes of a refusal, each with its place.
fn violations(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 400, "{answer}");
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = answer.json()["violations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    rows.iter()
        .map(|row| (text(row, "pointer"), text(row, "message")))
        .collect()
}

#[test]
fn a_stale_or_missing_revision_and_a_taken_key_are_told_apart() {
    let (_folder, server) = server();
    let path = format!("{FLAGS}/checkout");
    assert_eq!(server.create_flag("checkout", &plan_flag()).status, 201);
    assert_eq!(
        server.create_flag("checkout", &plan_flag()).status,
        409,
        "it exists"
    );
    let post = json!({"key": "checkout", "spec": plan_flag()});
    assert_eq!(
        server.admin("POST", FLAGS, &[], &post).status,
        409,
        "POST never replaces"
    );
    assert_eq!(
        server.admin("PUT", &path, &[], &plan_flag()).status,
        428,
        "no If-Match"
    );
    assert_eq!(
        server.admin("DELETE", &path, &[], &Value::Null).status,
        428,
        "no If-Match"
    );
    let changed = server.change_flag("checkout", 1, &plan_flag());
    assert_eq!(
        (changed.status, changed.json()["revision"].as_u64()),
        (200, Some(2))
    );
    let stale = server.change_flag("checkout", 1, &plan_flag());
    assert_eq!(stale.status, 412, "{stale}");
    assert_eq!(stale.json()["current_revision"], 2, "{stale}");
    assert_eq!(
        server.change_flag("checkout", 9, &plan_flag()).status,
        412,
        "from the future"
    );
    assert_eq!(server.change_flag("other", 1, &plan_flag()).status, 404);
    let read = server.admin("GET", &path, &[], &Value::Null);
    assert_eq!(
        (read.header("etag"), &read.json()["revision"]),
        (Some("\"2\""), &json!(2))
    );

    let deleted = server.admin("DELETE", &path, &[("if-match", "\"2\"")], &Value::Null);
    assert_eq!(deleted.status, 200, "{deleted}");
    assert_eq!(server.admin("GET", &path, &[], &Value::Null).status, 404);
    let reused = server.create_flag("checkout", &plan_flag());
    assert_eq!(reused.status, 409, "{reused}");
    assert!(reused.to_string().contains("deleted"), "says why: {reused}");
    assert_eq!(server.admin("POST", FLAGS, &[], &post).status, 409);
}

#[test]
fn of_many_editors_at_once_none_loses_anything() {
    const EDITORS: usize = 12;
    let (_folder, server) = server();
    assert_eq!(server.create_flag("shared", &plan_flag()).status, 201);
    std::thread::scope(|scope| {
        for editor in 0..EDITORS {
            let server = &server;
            scope.spawn(move || {
                until("the edit is taken", || {
                    let path = format!("{FLAGS}/shared");
                    let read = server.admin("GET", &path, &[], &Value::Null).json();
                    let mut spec = read["spec"].clone();
                    spec["metadata"][format!("editor{editor}")] = json!(true);
                    let revision = read["revision"].as_u64().unwrap();
                    let answer = server.change_flag("shared", revision, &spec);
                    assert!([200, 412].contains(&answer.status), "{answer}");
                    (answer.status == 200).then_some(())
                });
            });
        }
    });
    let read = server
        .admin("GET", &format!("{FLAGS}/shared"), &[], &Value::Null)
        .json();
    assert_eq!(read["spec"]["metadata"].as_object().unwrap().len(), EDITORS);
    assert_eq!(read["revision"], 1 + EDITORS);
    let history = server
        .admin("GET", &format!("{FLAGS}/shared/history"), &[], &Value::Null)
        .json();
    assert_eq!(history["rows"].as_array().unwrap().len(), 1 + EDITORS);
}

/// Whether the refusal has a violation at or under each place.
fn all_named(answer: &Answer, places: &[&str]) {
    let found = violations(answer);
    for place in places {
        let is_named = found.iter().any(|(found, _)| found.starts_with(place));
        assert!(is_named, "{place} in {found:#?}");
    }
}

#[test]
fn every_violation_is_told_at_once_with_its_place() {
    let (_folder, server) = server();
    let answer = server.create_flag(
        "wrong",
        &json!({
            "state": "MAYBE",
            "variants": {"on": true, "": false},
            "rules": [
                {"id": "a", "variant": "on", "split": {"weights": [["on", 10_000]]}},
                {"id": "b", "split": {"weights": [["on", 4_000]]}},
                {"id": "c", "rollout": {"treatment": "on", "control": "on", "share_bp": 10_001}},
            ],
            "colour": "red",
        }),
    );
    all_named(
        &answer,
        &[
            "/state",
            "/variants",
            "/rules/0",
            "/rules/1",
            "/rules/2",
            "/colour",
        ],
    );
    let answer = server.create_flag(
        "wrong",
        &json!({
            "state": "ENABLED",
            "variants": {"on": true, "off": false},
            "defaultVariant": "of",
            "offVariant": "nowhere",
            "rules": [
                {"id": "a", "variant": "absent"},
                {"id": "b", "split": {"weights": [["on", 4_000], ["missing", 6_000]]}},
                {"id": "c", "rollout": {"treatment": "on", "control": "gone", "share_bp": 1}},
            ],
        }),
    );
    all_named(
        &answer,
        &[
            "/defaultVariant",
            "/offVariant",
            "/rules/0/variant",
            "/rules/1/split/weights/1/0",
            "/rules/2/rollout/control",
        ],
    );
    let read = server.admin("GET", &format!("{FLAGS}/wrong"), &[], &Value::Null);
    assert_eq!(read.status, 404, "nothing was stored");
}

#[test]
fn an_unknown_variant_or_operator_is_refused_and_a_mix_of_types_is_warned_of_where_it_is() {
    let (_folder, server) = server();
    let mut unknown = plan_flag();
    unknown["rules"] = json!([{"id": "r", "units": ["u"], "variant": "purple"}]);
    let found = violations(&server.create_flag("unknown", &unknown));
    assert!(
        found
            .iter()
            .any(|(place, why)| place == "/rules/0/variant" && why.contains("purple")),
        "{found:?}"
    );
    let mixed = json!({"state": "ENABLED", "variants": {"a": true, "b": 2}, "defaultVariant": "a"});
    let answer = server.create_flag("mixed", &mixed);
    let warning = &answer.json()["warnings"][0];
    assert_eq!(
        (&warning["pointer"], &warning["code"]),
        (&json!("/variants"), &json!("mixed_types")),
        "{answer}"
    );
    let mut operator = plan_flag();
    operator["targeting"] = json!({"iff": [true, "on"]});
    let found = violations(&server.create_flag("operator", &operator));
    assert!(
        found
            .iter()
            .any(|(place, why)| place.contains("targeting") && why.contains("iff")),
        "{found:?}"
    );
}

/// A flag that is on where all of `needed` serve `on`.
fn dependent(needed: &[&str]) -> Value {
    let prerequisites: Vec<Value> = needed
        .iter()
        .map(|flag| json!({"flag": flag, "variants": ["on"]}))
        .collect();
    let mut flag = plan_flag();
    flag["targeting"] = json!({"if": [true, "on"]});
    if !needed.is_empty() {
        flag["rules"] = json!([{"id": "needs", "prerequisites": prerequisites, "variant": "on"}]);
        flag.as_object_mut().unwrap().shift_remove("targeting");
    }
    flag
}

#[test]
fn prerequisites_in_a_cycle_or_too_deep_are_refused_with_the_path() {
    let (_folder, server) = server();
    assert_eq!(server.create_flag("a", &dependent(&[])).status, 201);
    assert_eq!(server.create_flag("b", &dependent(&["a"])).status, 201);
    assert_eq!(server.create_flag("c", &dependent(&["b"])).status, 201);
    let cycle = server.change_flag("a", 1, &dependent(&["c"]));
    let found = violations(&cycle);
    let is_path = |why: &str| {
        ["\"a\"", "\"b\"", "\"c\""]
            .iter()
            .all(|key| why.contains(key.trim_matches('"')))
    };
    assert!(
        found
            .iter()
            .any(|(place, why)| place.contains("/rules") && is_path(why)),
        "{found:?}"
    );
    assert_eq!(
        server.value_of("c", &json!({})),
        json!(true),
        "what was served still is"
    );
    let itself = violations(&server.create_flag("selfish", &dependent(&["selfish"])));
    assert!(
        itself.iter().any(|(_, why)| why.contains("cycle")),
        "{itself:?}"
    );

    assert_eq!(server.create_flag("link0", &dependent(&[])).status, 201);
    let refused = (1..=1_000).find_map(|depth| {
        let needed = format!("link{}", depth - 1);
        let answer = server.create_flag(&format!("link{depth}"), &dependent(&[&needed]));
        (answer.status != 201).then_some((depth, answer))
    });
    let (depth, answer) = refused.expect("a chain has an end");
    let found = violations(&answer);
    assert!(
        found
            .iter()
            .any(|(_, why)| why.contains("deep") && why.contains("link0")),
        "{found:?}"
    );
    assert!(depth <= 10, "refused at depth {depth}");
    let last = format!("link{}", depth - 1);
    assert_eq!(
        server.value_of(&last, &json!({})),
        json!(true),
        "the chain up to there works"
    );
}

#[test]
fn a_needed_flag_is_not_deleted_under_those_who_need_it() {
    let (_folder, server) = server();
    assert_eq!(server.create_flag("base", &dependent(&[])).status, 201);
    assert_eq!(server.create_flag("top", &dependent(&["base"])).status, 201);
    let path = format!("{FLAGS}/base");
    let refused = server.admin("DELETE", &path, &[("if-match", "\"1\"")], &Value::Null);
    assert_eq!(refused.status, 409, "{refused}");
    assert!(
        refused.to_string().contains("top"),
        "names who needs it: {refused}"
    );
    let top = format!("{FLAGS}/top");
    assert_eq!(
        server
            .admin("DELETE", &top, &[("if-match", "\"1\"")], &Value::Null)
            .status,
        200
    );
    assert_eq!(
        server
            .admin("DELETE", &path, &[("if-match", "\"1\"")], &Value::Null)
            .status,
        200
    );
}

/// The bulk answer to a body, given an entity tag.
fn bulk(server: &Server, body: &str, tag: Option<&str>) -> Answer {
    let authorization = format!("Bearer {}", support::ADMIN);
    let mut headers = vec![
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    headers.extend(tag.map(|tag| ("if-none-match", tag)));
    support::request(
        server.address,
        "POST",
        "/ofrep/v1/evaluate/flags",
        &headers,
        body.as_bytes(),
    )
}

#[test]
fn an_entity_tag_covers_the_configuration_and_every_attribute() {
    let (_folder, server) = server();
    server.create_flag("checkout", &plan_flag());
    let free = r#"{"context":{"targetingKey":"u","plan":"free","n":{"a":1,"b":2}}}"#;
    let first = bulk(&server, free, None);
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    let same = bulk(&server, free, Some(&tag));
    assert_eq!(
        (same.status, same.body.len(), same.header("etag")),
        (304, 0, Some(tag.as_str()))
    );
    for spelled in [
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        tag.trim_matches('"').to_owned(),
    ] {
        assert_eq!(bulk(&server, free, Some(&spelled)).status, 304, "{spelled}");
    }
    for other in ["*", "\"x\"", "\"\"", ""] {
        assert_eq!(bulk(&server, free, Some(other)).status, 200, "{other}");
    }
    let reordered = r#"{ "context": {"n":{"b":2,"a":1},"plan":"free","targetingKey":"u"} }"#;
    assert_eq!(
        bulk(&server, reordered, Some(&tag)).status,
        304,
        "order means nothing"
    );
    for changed in [
        r#"{"context":{"targetingKey":"u","plan":"pro","n":{"a":1,"b":2}}}"#,
        r#"{"context":{"targetingKey":"v","plan":"free","n":{"a":1,"b":2}}}"#,
        r#"{"context":{"targetingKey":"u","plan":"free","n":{"a":1,"b":3}}}"#,
        r#"{"context":{"targetingKey":"u","plan":"free","n":{"a":1}}}"#,
        r#"{"context":{"targetingKey":"u","plan":"free","n":{"a":"1","b":2}}}"#,
        r#"{"context":{"targetingKey":"u","plan":"free","n":{"a":1,"b":2},"more":null}}"#,
        "{}",
    ] {
        let answer = bulk(&server, changed, Some(&tag));
        assert_eq!(answer.status, 200, "{changed}");
        assert_ne!(answer.header("etag"), Some(tag.as_str()), "{changed}");
    }
    let mut flag = plan_flag();
    flag["defaultVariant"] = json!("on");
    assert_eq!(server.change_flag("checkout", 1, &flag).status, 200);
    let after = bulk(&server, free, Some(&tag));
    assert_eq!(
        (after.status, &after.json()["flags"][0]["value"]),
        (200, &json!(true))
    );
    let tag = after.header("etag").unwrap().to_owned();
    assert_eq!(kill(&server, "checkout").status, 200);
    assert_eq!(
        bulk(&server, free, Some(&tag)).status,
        200,
        "a kill changes the tag"
    );
}

fn kill(server: &Server, flag: &str) -> Answer {
    let path = format!("{FLAGS}/{flag}/kill");
    server.admin("POST", &path, &[], &json!({"reason": "cards fail"}))
}

fn audit(server: &Server) -> Vec<Value> {
    let path = "/api/v1/projects/default/audit?limit=1000";
    let rows = server.admin("GET", path, &[], &Value::Null).json();
    rows["rows"].as_array().cloned().unwrap_or_default()
}

fn kills_in_audit(server: &Server) -> Vec<Value> {
    let rows = audit(server).into_iter();
    rows.filter(|row| row["action"] == "flag.kill").collect()
}

#[test]
fn a_kill_serves_the_off_variant_at_once_and_says_why_in_the_audit() {
    let (folder, server) = server();
    server.create_flag("checkout", &plan_flag());
    let pro = json!({"targetingKey": "u", "plan": "pro"});
    assert_eq!(server.value_of("checkout", &pro), json!(true));
    let output = server.run(&["flag", "kill", "checkout", "--reason", "cards fail"]);
    assert!(output.status.success(), "{output:?}");
    let answer = server.evaluate("checkout", &pro).json();
    assert_eq!(
        (&answer["value"], &answer["variant"]),
        (&json!(false), &json!("off")),
        "{answer}"
    );
    assert_ne!(
        answer["reason"], "DISABLED",
        "that would give each caller its own default"
    );
    let entry = until("the kill is in the audit", || kills_in_audit(&server).pop());
    assert_eq!(entry["reason"], "cards fail", "{entry}");
    assert!(
        entry["object"].as_str().unwrap().contains("checkout"),
        "{entry}"
    );
    let path = format!("{FLAGS}/checkout/kill");
    assert_eq!(
        server
            .admin("POST", &path, &[], &json!({"reason": " "}))
            .status,
        400
    );
    server.terminate();
    let again = Server::serve(folder.path());
    assert_eq!(
        again.value_of("checkout", &pro),
        json!(false),
        "it holds after a restart"
    );
    assert_eq!(kills_in_audit(&again).len(), 1, "and happened once");
}

/// Runs `work` while another process would hold the database's write lock.
fn while_locked(database: &Path, work: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let address = format!("sqlite://{}", database.display());
    let mut lock = runtime
        .block_on(SqliteConnection::connect(&address))
        .unwrap();
    runtime.block_on(lock.execute("BEGIN EXCLUSIVE")).unwrap();
    work();
    runtime.block_on(lock.execute("ROLLBACK")).unwrap();
}

#[test]
fn a_locked_database_refuses_writes_in_time_and_touches_neither_evaluation_nor_kills() {
    let (folder, server) = server();
    server.create_flag("checkout", &plan_flag());
    let pro = json!({"targetingKey": "u", "plan": "pro"});
    while_locked(&folder.path().join("tidegate.db"), || {
        let refused = server.change_flag("checkout", 1, &plan_flag());
        assert_eq!(refused.status, 503, "{refused}");
        assert!(refused.header("retry-after").is_some(), "{refused}");
        assert_eq!(server.value_of("checkout", &pro), json!(true));
        let killed = kill(&server, "checkout");
        assert_eq!(
            (killed.status, &killed.json()["durable"]),
            (200, &json!(true)),
            "{killed}"
        );
        assert_eq!(server.value_of("checkout", &pro), json!(false));
        assert!(server.is_ready());
    });
    until("the kill is made ordinary", || {
        kills_in_audit(&server).pop()
    });
    let read = server
        .admin("GET", &format!("{FLAGS}/checkout"), &[], &Value::Null)
        .json();
    assert_eq!(read["spec"]["killed"]["reason"], "cards fail", "{read}");
    assert_eq!(kills_in_audit(&server).len(), 1);
}

#[test]
fn a_kill_during_a_lock_survives_kill_nine_and_is_applied_once() {
    let (folder, server) = server();
    server.create_flag("checkout", &plan_flag());
    while_locked(&folder.path().join("tidegate.db"), || {
        assert_eq!(kill(&server, "checkout").status, 200);
        server.kill_nine();
    });
    let pro = json!({"targetingKey": "u", "plan": "pro"});
    for _ in 0..2 {
        let server = Server::serve(folder.path());
        assert_eq!(
            server.value_of("checkout", &pro),
            json!(false),
            "served before anything else"
        );
        until("the kill is made ordinary", || {
            kills_in_audit(&server).pop()
        });
        assert_eq!(kills_in_audit(&server).len(), 1);
        server.kill_nine();
    }
}

fn destroy_database(folder: &Path) {
    for name in ["tidegate.db", "tidegate.db-wal", "tidegate.db-shm"] {
        let path = folder.join(name);
        if path.exists() {
            std::fs::write(path, b"this was a database once, and is none any more").unwrap();
        }
    }
}

#[test]
fn with_the_database_destroyed_a_restart_serves_the_last_good_set_and_says_it_is_stale() {
    let (folder, server) = server();
    server.create_flag("checkout", &plan_flag());
    let kept = folder.path().join("last-good/default.json");
    until("the set is kept", || {
        std::fs::read_to_string(&kept)
            .ok()?
            .contains("checkout")
            .then_some(())
    });
    server.terminate();
    destroy_database(folder.path());
    let server = Server::serve(folder.path());
    let pro = json!({"targetingKey": "u", "plan": "pro"});
    assert_eq!(server.value_of("checkout", &pro), json!(true));
    let ready = support::request(server.address, "GET", "/readyz", &[], b"");
    assert_eq!(
        (ready.status, &ready.json()["stale"]),
        (200, &json!(true)),
        "{ready}"
    );
    let status = server.admin("GET", "/status", &[], &Value::Null).json();
    assert!(status["projects"][0]["stale_since"].is_string(), "{status}");
    assert_eq!(status["storage"]["writable"], false, "{status}");
    assert_eq!(server.change_flag("checkout", 1, &plan_flag()).status, 503);
    let killed = kill(&server, "checkout");
    assert_eq!(
        (killed.status, &killed.json()["durable"]),
        (200, &json!(true)),
        "{killed}"
    );
    assert_eq!(server.value_of("checkout", &pro), json!(false));
    server.kill_nine();
    let server = Server::serve(folder.path());
    assert_eq!(
        server.value_of("checkout", &pro),
        json!(false),
        "the stop outlives the process"
    );
    assert!(
        server.log().contains("storage"),
        "the log says what is wrong: {}",
        server.log()
    );
}

#[test]
fn the_audit_verifies_offline_and_one_altered_byte_is_found() {
    let (folder, server) = server();
    server.create_flag("checkout", &plan_flag());
    server.change_flag("checkout", 1, &plan_flag());
    assert_eq!(kill(&server, "checkout").status, 200);
    until("the kill is in the audit", || kills_in_audit(&server).pop());
    server.terminate();
    assert!(verifies(folder.path()), "an honest trail");
    for alteration in [
        "UPDATE audit_entry SET actor_id = 'X' || substr(actor_id, 2) WHERE sequence = 3",
        "UPDATE audit_entry SET action = 'X' || substr(action, 2) WHERE sequence = 3",
        "UPDATE audit_entry SET object_key = 'X' || substr(object_key, 2) WHERE sequence = 3",
        "UPDATE audit_entry SET at_us = at_us + 1 WHERE sequence = 3",
        "UPDATE audit_entry SET revision = revision + 1 WHERE sequence = 3",
        "UPDATE audit_entry SET hash = CAST(CASE substr(hash, 1, 1) WHEN x'00' THEN x'01' ELSE x'00' END \
         || substr(hash, 2) AS BLOB) WHERE sequence = 2",
        "UPDATE audit_note SET reason = 'X' || substr(reason, 2) WHERE reason IS NOT NULL",
        "DELETE FROM audit_entry WHERE sequence = 2",
    ] {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
        }
        alter(&copy.path().join("tidegate.db"), alteration);
        assert!(!verifies(copy.path()), "not found: {alteration}");
    }
}

fn verifies(folder: &Path) -> bool {
    let output = tidegate()
        .args(["audit", "verify", "--data-dir"])
        .arg(folder)
        .output()
        .unwrap();
    output.status.success()
}

fn alter(database: &Path, statement: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let address = format!("sqlite://{}", database.display());
        let mut connection = SqliteConnection::connect(&address).await.unwrap();
        for trigger in ["updated", "deleted"] {
            let drop = match trigger {
                "updated" => "DROP TRIGGER audit_entry_is_never_updated",
                _ => "DROP TRIGGER audit_entry_is_never_deleted",
            };
            connection.execute(drop).await.unwrap();
        }
        connection
            .execute("PRAGMA foreign_keys = OFF")
            .await
            .unwrap();
        let changed = connection.execute(statement).await.unwrap();
        assert!(changed.rows_affected() > 0, "{statement}");
        connection.close().await.unwrap();
    });
}

#[test]
fn what_is_exported_plans_to_nothing_and_applies_to_the_same() {
    let (folder, server) = server();
    let set = folder.path().join("flags.json");
    let flags = json!({
        "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@us.example"]}},
        "flags": {
            "plain": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
                      "targeting": {"if": [{"$ref": "staff"}, "on"]}},
            "number": {"state": "ENABLED", "variants": {"one": 1.0, "half": 0.5}, "defaultVariant": "one"},
            "thing/with slash": {"state": "DISABLED", "variants": {"a": {"b": [1, null, "c"]}}, "defaultVariant": null},
        }
    });
    std::fs::write(&set, flags.to_string()).unwrap();
    let run = |server: &Server, command: &str, path: &Path| {
        let output = server.run(&[command, "-f", path.to_str().unwrap()]);
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&server, "apply", &set);
    server.create_flag("ours", &{
        let mut flag = plan_flag();
        flag["rules"] = json!([{"id": "ramp", "rollout": {"treatment": "on", "control": "off", "share_bp": 500}}]);
        flag
    });
    let first = folder.path().join("first");
    run(&server, "export", &first);
    assert_eq!(run(&server, "plan", &first).trim(), "nothing to change");
    run(&server, "apply", &first);
    let read = server
        .admin("GET", &format!("{FLAGS}/ours"), &[], &Value::Null)
        .json();
    assert_eq!(
        read["revision"], 1,
        "applying what is there changes nothing"
    );

    let elsewhere = tempfile::tempdir().unwrap();
    let other = Server::serve(elsewhere.path());
    run(&other, "apply", &first);
    let second = folder.path().join("second");
    run(&other, "export", &second);
    assert_eq!(files_in(&first), files_in(&second));
    assert_eq!(files_in(&first).len(), 4);
}

fn files_in(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}
