//! A database that is not what it was: put back by hand, damaged in one row, or written by a newer
//! program. What was served is served on, it is said, and a stop holds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use support::{Server, tidegate, until};
use tidegate_store::{
    Actor, ObjectKey, ObjectKind, ProjectKey, StopFile, StopId, StopKind, StopRecord, StopServe,
};

fn open_flag(value: bool) -> Value {
    json!({"state": "ENABLED", "variants": {"on": value, "off": false},
        "defaultVariant": "on", "offVariant": "off"})
}

fn value(server: &Server, flag: &str) -> Value {
    server.value_of(flag, &json!({"targetingKey": "u"}))
}

fn wait_until_kept(server: &Server, folder: &Path) {
    let version = status(server)["projects"][0]["config_version"].clone();
    until("the served set is kept", || {
        let text = fs::read_to_string(folder.join("last-good/default.json")).ok()?;
        let kept: Value = serde_json::from_str(&text).ok()?;
        (kept["source"]["config_version"] == version).then_some(())
    });
}

fn status(server: &Server) -> Value {
    server.admin("GET", "/status", &[], &Value::Null).json()
}

/// Copies the database aside and back: the files of a store that nobody has open.
fn copy(from: &Path, to: &Path) {
    for name in ["tidegate.db", "tidegate.db-wal", "tidegate.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

fn run(arguments: &[&str]) -> std::process::Output {
    tidegate().args(arguments).output().unwrap()
}

fn alter(database: &Path, statement: &'static str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let address = format!("sqlite://{}", database.display());
        let mut connection = SqliteConnection::connect(&address).await.unwrap();
        sqlx::raw_sql(statement)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn an_older_database_put_back_is_noticed_and_raises_nothing_until_it_is_made_to_count() {
    let folder = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let server = Server::serve(folder.path());
    server.create_flag("f", &open_flag(true));
    server.terminate();
    copy(folder.path(), older.path());

    let server = Server::serve(folder.path());
    server.create_flag("g", &open_flag(true));
    let minted = server.mint("server");
    server.change_flag("f", 1, &open_flag(true));
    wait_until_kept(&server, folder.path());
    server.terminate();

    copy(older.path(), folder.path());
    let server = Server::serve(folder.path());
    assert_eq!(value(&server, "g"), true, "what was served is served on");
    let told = status(&server)["projects"][0]["storage_behind"].clone();
    assert!(
        told.as_str().unwrap().contains("tidegate restore"),
        "{told}"
    );
    let ready = support::request(server.address, "GET", "/readyz", &[], b"");
    assert_eq!(ready.status, 200, "{ready}");
    assert!(
        ready.json()["storage"].as_str().unwrap().contains("older"),
        "{ready}"
    );
    let written = server.create_flag("h", &open_flag(true));
    assert_eq!(
        written.status, 503,
        "not acknowledged and not served: {written}"
    );
    assert!(
        written.to_string().contains("older than what is served"),
        "{written}"
    );
    let kept = server.with_token(&minted, "POST", "/ofrep/v1/evaluate/flags/g", &json!({}));
    assert_eq!(kept.status, 200, "a token minted since is known still");
    let kill = "/api/v1/projects/default/flags/f/kill";
    let killed = server.admin("POST", kill, &[], &json!({"reason": "it hurts"}));
    assert_eq!(killed.json()["durable"], true, "{killed}");
    server.kill_nine();
    let server = Server::serve(folder.path());
    assert_eq!(value(&server, "f"), false, "the kill holds over a restart");
    server.terminate();

    let doctor = run(&["doctor", "--data-dir", data]);
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.code(), Some(1), "{said}");
    assert!(
        said.contains("FAIL  served sets") && said.contains("tidegate restore"),
        "{said}"
    );

    let whole = older.path().join("copy.db");
    let whole = whole.to_str().unwrap();
    assert!(
        run(&["backup", "--data-dir", data, "--to", whole])
            .status
            .success()
    );
    let restored = run(&[
        "restore",
        "--data-dir",
        data,
        "--from",
        whole,
        "--reason",
        "a bad disk",
    ]);
    assert!(restored.status.success(), "{restored:?}");
    let server = Server::serve(folder.path());
    until("the restored state is served", || {
        status(&server)["projects"][0]["storage_behind"]
            .is_null()
            .then_some(())
    });
    until("the kill became ordinary", || {
        (status(&server)["pending_stops"] == 0).then_some(())
    });
    assert_eq!(value(&server, "f"), false);
    assert_eq!(server.create_flag("h", &open_flag(true)).status, 201);
}

/// As a power cut between the commit and the mark would leave it.
fn unmark(folder: &Path, id: &str) {
    let mut bytes = [0; 16];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap();
    }
    let flag = ObjectKey::parse(ObjectKind::Flag, "f").unwrap();
    let record = StopRecord::new(
        StopId(bytes),
        (ProjectKey::parse("default").unwrap(), flag),
        (StopKind::Kill, StopServe::Off),
        "it hurts",
        (Actor::token("bootstrap"), 1),
    );
    let (file, pending) = StopFile::open(folder.join("stops")).unwrap();
    assert!(pending.is_empty());
    file.append(&record.unwrap()).unwrap();
}

#[test]
fn a_stop_whose_mark_was_lost_is_recognised_and_does_not_come_into_force_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    server.create_flag("f", &open_flag(true));
    let act = |what: &str| {
        let path = format!("/api/v1/projects/default/flags/f/{what}");
        server.admin("POST", &path, &[], &json!({"reason": "it hurts"}))
    };
    let id = act("kill").json()["stop"].as_str().unwrap().to_owned();
    until("the kill is ordinary", || {
        (status(&server)["pending_stops"] == 0).then_some(())
    });
    assert_eq!(act("revive").status, 200);
    server.terminate();
    unmark(folder.path(), &id);
    let server = Server::serve(folder.path());
    until("the stop is recognised", || {
        (status(&server)["pending_stops"] == 0).then_some(())
    });
    assert_eq!(value(&server, "f"), true, "it was lifted");
    let audit = server.admin("GET", "/api/v1/projects/default/audit", &[], &Value::Null);
    let rows = audit.json()["rows"].as_array().unwrap().clone();
    let kills = rows
        .iter()
        .filter(|row| row["action"] == "flag.kill")
        .count();
    assert_eq!(kills, 1, "{audit}");
    server.terminate();
    let (_, pending) = StopFile::open(folder.path().join("stops")).unwrap();
    assert!(pending.is_empty(), "marked this time");
}

#[test]
fn a_damaged_row_is_set_aside_listed_and_served_as_it_last_could() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    server.create_flag("bad", &open_flag(true));
    server.create_flag("good", &open_flag(true));
    wait_until_kept(&server, folder.path());
    server.terminate();
    alter(
        &folder.path().join("tidegate.db"),
        "UPDATE object SET spec = '{\"state\":' WHERE key = 'bad'; \
         UPDATE project SET config_version = config_version + 1",
    );
    let server = Server::serve(folder.path());
    assert_eq!(value(&server, "good"), true);
    assert_eq!(value(&server, "bad"), true, "its last good version");
    let problems = status(&server)["projects"][0]["problems"].clone();
    assert_eq!(problems[0]["flag"], "bad", "{problems}");
    assert_eq!(problems[0]["serves_previous"], true, "{problems}");
    server.create_flag("another", &open_flag(true));
    assert_eq!(value(&server, "bad"), true, "after the next change too");
    server.terminate();
    let doctor = run(&["doctor", "--data-dir", folder.path().to_str().unwrap()]);
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(
        said.contains("\"bad\"") && said.contains("damaged"),
        "{said}"
    );
}

#[test]
fn a_database_of_a_newer_program_is_named_left_alone_and_what_was_served_can_be_exported() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let server = Server::serve(folder.path());
    server.create_flag("f", &open_flag(true));
    wait_until_kept(&server, folder.path());
    server.terminate();
    let database = folder.path().join("tidegate.db");
    alter(&database, "PRAGMA user_version = 99");
    let before = fs::read(&database).unwrap();
    let server = Server::serve(folder.path());
    assert_eq!(value(&server, "f"), true);
    until("the log says why", || {
        server.log().contains("99").then_some(())
    });
    let ready = support::request(server.address, "GET", "/readyz", &[], b"");
    assert_eq!(ready.json()["storage"], "not open", "{ready}");
    server.terminate();
    assert_eq!(fs::read(&database).unwrap(), before, "left as it was");
    let doctor = run(&["doctor", "--data-dir", data]);
    assert!(String::from_utf8(doctor.stdout).unwrap().contains("99"));
    let exported = run(&["export", "--data-dir", data]);
    assert!(exported.status.success(), "{exported:?}");
    let text = String::from_utf8(exported.stdout).unwrap();
    assert!(
        text.contains("key: f") && text.contains("\"on\": true"),
        "{text}"
    );

    // What was exported, another server takes.
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("all.yaml");
    fs::write(&file, text).unwrap();
    let other = Server::serve(&elsewhere.path().join("data"));
    let applied = other.run(&["apply", "-f", file.to_str().unwrap()]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(value(&other, "f"), true);
}
