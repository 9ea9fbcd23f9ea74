//! kill -9 of the real server while a hundred clients write: what was acknowledged is there.
//!
//! `TIDEGATE_KILLS` sets the number of kills, for long runs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::wire::try_request;
use support::{ADMIN, Server, configured, plan_flag, tidegate, until};

const WRITERS: usize = 100;
const FLAGS: &str = "/api/v1/projects/default/flags";

/// What the server acknowledged: the newest revision of each flag, and the flags killed.
#[derive(Default)]
struct Acknowledged {
    revisions: BTreeMap<String, u64>,
    killed: Vec<String>,
}

/// Writes one flag again and again until the server is gone.
fn write_until_it_dies(
    address: SocketAddr,
    key: &str,
    seen: &Mutex<Acknowledged>,
    done: &AtomicUsize,
) {
    let path = format!("{FLAGS}/{key}");
    let authorization = format!("Bearer {ADMIN}");
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &Value| {
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        try_request(address, method, path, &all, &body)
    };
    let Some(read) = send("GET", &path, &[], &Value::Null) else {
        return;
    };
    let mut revision = read.json()["revision"].as_u64();
    loop {
        let tag = revision.map(|revision| format!("\"{revision}\""));
        let condition = match &tag {
            Some(tag) => ("if-match", tag.as_str()),
            None => ("if-none-match", "*"),
        };
        let Some(answer) = send("PUT", &path, &[condition], &plan_flag()) else {
            return;
        };
        let Some(written) = answer.json()["revision"].as_u64() else {
            // Waited too long for its turn at a busy store: nothing was acknowledged.
            assert_eq!(answer.status, 503, "{key}: {answer}");
            continue;
        };
        revision = Some(written);
        seen.lock()
            .unwrap()
            .revisions
            .insert(key.to_owned(), written);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Kills one flag, if the server lives long enough to say so.
fn stop_one(address: SocketAddr, key: &str, seen: &Mutex<Acknowledged>) {
    let path = format!("{FLAGS}/{key}/kill");
    let authorization = format!("Bearer {ADMIN}");
    let headers = [("authorization", authorization.as_str())];
    let body = json!({"reason": "the last act"}).to_string();
    let answer = try_request(address, "POST", &path, &headers, body.as_bytes());
    if answer.is_some_and(|answer| answer.json()["durable"] == true) {
        seen.lock().unwrap().killed.push(key.to_owned());
    }
}

/// One life of a server: a hundred writers, one stop, and the end without warning.
fn one_life(folder: &Path, round: u32, seen: &Mutex<Acknowledged>) {
    let server = Server::serve(folder);
    let address = server.address;
    let stopped = format!("stopped{round}");
    assert_eq!(server.create_flag(&stopped, &plan_flag()).status, 201);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (seen, done) = (&seen, &done);
            scope.spawn(move || write_until_it_dies(address, &format!("flag{writer}"), seen, done));
        }
        let wanted = 50 + 10 * usize::try_from(round % 7).unwrap();
        until("enough was written", || {
            (done.load(Ordering::Relaxed) >= wanted).then_some(())
        });
        stop_one(address, &stopped, seen);
        server.kill_nine();
    });
}

fn is_kept(server: &Server, seen: &Acknowledged) {
    let rows = server
        .admin("GET", &format!("{FLAGS}?limit=1000"), &[], &Value::Null)
        .json();
    let kept: BTreeMap<&str, u64> = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["key"].as_str().unwrap(),
                row["revision"].as_u64().unwrap(),
            )
        })
        .collect();
    for (key, revision) in &seen.revisions {
        let found = kept.get(key.as_str()).copied().unwrap_or(0);
        assert!(
            found >= *revision,
            "{key}: acknowledged at {revision}, found at {found}"
        );
    }
    for key in &seen.killed {
        let value = server.value_of(key, &json!({"plan": "pro"}));
        assert_eq!(value, json!(false), "{key} was killed");
    }
}

/// How often each flag was killed, as the audit says.
fn kills_in_audit(server: &Server) -> BTreeMap<String, usize> {
    let mut kills = BTreeMap::new();
    let mut after = 0;
    loop {
        let path = format!("/api/v1/projects/default/audit?limit=1000&after={after}");
        let page = server.admin("GET", &path, &[], &Value::Null).json();
        let rows = page["rows"].as_array().unwrap().clone();
        let Some(last) = rows.last() else {
            return kills;
        };
        after = last["sequence"].as_u64().unwrap();
        for row in rows.iter().filter(|row| row["action"] == "flag.kill") {
            let object = row["object"].as_str().unwrap().trim_start_matches("flag ");
            *kills.entry(object.to_owned()).or_insert(0) += 1;
        }
    }
}

#[test]
fn what_was_acknowledged_outlives_kill_nine_and_a_stop_is_applied_once() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Mutex::default();
    for round in 0..configured("TIDEGATE_KILLS", 5) {
        one_life(folder.path(), round, &seen);
        let verified = tidegate()
            .args(["audit", "verify", "--data-dir"])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(verified.status.success(), "round {round}: {verified:?}");
        let server = Server::serve(folder.path());
        is_kept(&server, &seen.lock().unwrap());
    }
    let seen = seen.into_inner().unwrap();
    assert!(!seen.killed.is_empty(), "some stop was acknowledged");
    let server = Server::serve(folder.path());
    until("every stop is made ordinary", || {
        let kills = kills_in_audit(&server);
        seen.killed
            .iter()
            .all(|key| kills.contains_key(key))
            .then_some(())
    });
    for (key, times) in kills_in_audit(&server) {
        assert_eq!(times, 1, "{key} was stopped once");
    }
    is_kept(&server, &seen);
}
