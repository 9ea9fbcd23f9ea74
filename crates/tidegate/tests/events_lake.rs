//! Events through the real server: acknowledged, in files seconds later, kept over restarts, and
//! never in the way of flags when their files are damaged.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use support::wire::try_request;
use support::{ADMIN, Server, configured, tidegate, until};
use tidegate_lake::{LakeState, RealDisk};

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

/// What a command printed, as JSON, and whether it succeeded.
fn said(output: &std::process::Output) -> (bool, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|_| {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.success(), value)
}

fn verify_folder(folder: &Path) -> std::process::Output {
    let mut command = tidegate();
    command.args(["events", "verify", "-o", "json", "--data-dir"]);
    command.arg(folder).output().unwrap()
}

#[test]
fn events_are_verified_by_the_server_and_in_a_stopped_folder() {
    let folder = tempfile::tempdir().unwrap();
    let expected = json!({ "events": 100, "duplicates": 0, "problems": [] });
    let is_expected = |report: &Value| {
        let keys = expected.as_object().unwrap();
        keys.iter().all(|(key, value)| report[key] == *value)
    };
    {
        let server = Server::serve(folder.path());
        send(&server, 0..100);
        wait_for_watermark(&server, 100);
        let (is_well, report) = said(&server.run(&["events", "verify", "-o", "json"]));
        assert!(is_well && is_expected(&report), "{report}");
        let refused = verify_folder(folder.path());
        let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(complaint.contains("a server uses"), "{complaint}");
        server.terminate();
    }
    let (is_well, report) = said(&verify_folder(folder.path()));
    assert!(is_well && is_expected(&report), "{report}");
    assert!(report["files"].as_u64().unwrap() >= 1, "{report}");
    assert!(report["log_segments"].as_u64().unwrap() >= 1, "{report}");

    let files = folder.path().join("events/default/events");
    let file = std::fs::read_dir(&files).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    bytes[100] ^= 1;
    std::fs::write(file.path(), bytes).unwrap();
    let (is_well, report) = said(&verify_folder(folder.path()));
    let problem = report["problems"][0].as_str().unwrap().to_owned();
    let name = file.file_name().into_string().unwrap();
    assert!(!is_well && problem.contains(&name), "{report}");

    let server = Server::serve(folder.path());
    until("the files are open", || {
        (lake(&server)["state"] == "open").then_some(())
    });
    let damage = lake(&server)["damage"][0].as_str().unwrap().to_owned();
    assert!(damage.contains(&name), "{damage}");
    assert_eq!(server.run(&["events", "verify"]).status.code(), Some(1));
}

/// Events of two days, the second with one more.
fn two_days() -> Value {
    let event = |number: u64| {
        let day = number % 2 + 1;
        json!({ "id": format!("{:032x}", number + 1), "time": format!("2026-06-0{day}T12:00:00Z"),
                "unit": format!("user-{number}"), "kind": "track", "name": "paid" })
    };
    let mut all: Vec<Value> = (0..20).map(event).collect();
    all.push(event(21));
    Value::from(all)
}

#[test]
fn a_damaged_file_is_set_apart_named_in_reports_and_taken_back_when_it_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("events/default");
    // The one that is part of the lake; a merge may have left another.
    let file_of = |day: &str| {
        let state = LakeState::read(&RealDisk, &project).unwrap().unwrap();
        let name = state.files.into_keys().find(|name| name.starts_with(day));
        project.join("events").join(name.unwrap())
    };
    let usage = |server: &Server, from: &str| {
        let days = ["--from", from, "--to", "2026-06-02", "-o", "json"];
        let question = [&["usage", "report", "--event", "paid"][..], &days].concat();
        let (is_well, report) = said(&server.run(&question));
        assert!(is_well, "{report}");
        report
    };
    let (file, copy) = {
        let server = Server::serve(folder.path());
        let sent = server.admin("POST", "/api/v1/events", &[], &two_days());
        assert_eq!(sent.status, 202, "{sent}");
        wait_for_watermark(&server, 21);
        assert!(usage(&server, "2026-06-01")["incomplete"].is_null());
        server.kill_nine();
        let file = file_of("2026-06-01");
        let copy = std::fs::read(&file).unwrap();
        // Cut short, as a disk that lost the end of it would have it.
        std::fs::write(&file, &copy[..copy.len() / 2]).unwrap();
        (file, copy)
    };
    let name = file.file_name().unwrap().to_str().unwrap();
    let server = Server::serve(folder.path());
    // Nobody has verified; the question itself finds it.
    let report = until("the files are open", || {
        (lake(&server)["state"] == "open").then(|| usage(&server, "2026-06-01"))
    });
    assert_eq!(report["rows"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["rows"][0]["n"], 11, "{report}");
    let missing = &report["incomplete"];
    assert_eq!(missing["rows_missing"], 10, "{report}");
    assert_eq!(missing["files"][0]["file"], name, "{report}");
    assert_eq!(missing["files"][0]["day"], "2026-06-01", "{report}");
    assert!(usage(&server, "2026-06-02")["incomplete"].is_null());
    let shown = server.run(&["usage", "report", "--event", "paid", "--from", "2026-06-01"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("INCOMPLETE: 10 events of 2026-06-01"),
        "{shown}"
    );
    assert!(
        !file.exists()
            && folder
                .path()
                .join("events/default/damaged")
                .join(name)
                .exists()
    );
    server.terminate();

    // It stays known, in a stopped folder and over a start.
    let (is_well, verified) = said(&verify_folder(folder.path()));
    assert!(!is_well);
    assert_eq!(verified["set_apart"][0]["rows"], 10, "{verified}");
    let cure = verified["problems"][0].as_str().unwrap();
    assert!(
        cure.contains(file.to_str().unwrap()) && cure.contains("Restore"),
        "{cure}"
    );
    let server = Server::serve(folder.path());
    let damage = until("the files are open", || {
        let lake = lake(&server);
        (lake["state"] == "open").then(|| lake["damage"].clone())
    });
    assert!(damage[0].as_str().unwrap().contains(name), "{damage}");
    let gauge = "tidegate_lake_damage{project=\"default\"}";
    assert_eq!(server.counter(gauge), 1);
    std::fs::write(&file, copy).unwrap();
    let (is_well, verified) = said(&server.run(&["events", "verify", "-o", "json"]));
    assert!(is_well && verified["events"] == 21, "{verified}");
    assert_eq!(verified["taken_back"], json!([name]));
    let report = usage(&server, "2026-06-01");
    assert!(report["incomplete"].is_null(), "{report}");
    assert_eq!(report["rows"][0]["n"], 10, "{report}");
    assert_eq!(lake(&server)["damage"], json!([]));
}

#[test]
fn a_folder_without_events_is_told_from_a_wrong_project() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = |arguments: &[&str]| {
        let mut command = tidegate();
        command
            .args(["events", "verify", "--data-dir"])
            .arg(folder.path());
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let empty = complaint(&[]);
    assert!(empty.contains("is it the right one"), "{empty}");
    std::fs::create_dir_all(folder.path().join("events/shop")).unwrap();
    let other = complaint(&[]);
    assert!(
        other.contains("shop") && other.contains("--project"),
        "{other}"
    );
}

#[test]
fn an_erased_unit_is_gone_and_the_audit_does_not_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    send(&server, 0..50);
    wait_for_watermark(&server, 50);
    let erase = ["events", "erase", "--unit", "user-7", "--yes", "-o", "json"];
    // A script is asked as a person is.
    let unsure = server.run(&erase[..4]);
    let complaint = String::from_utf8_lossy(&unsure.stderr).into_owned();
    assert!(
        !unsure.status.success() && complaint.contains("--yes"),
        "{complaint}"
    );
    assert_eq!(lake(&server)["rows"], 50);
    let (is_well, receipt) = said(&server.run(&erase));
    assert!(is_well, "{receipt}");
    assert_eq!(receipt["rows_erased"], 1);
    assert_eq!(receipt["rows_found_by_rescan"], 0);
    assert_eq!(receipt["is_audited"], true);
    assert_eq!(lake(&server)["rows"], 49);
    let again = server.run(&erase);
    assert!(!again.status.success());
    let audit = server.admin("GET", "/api/v1/projects/default/audit", &[], &Value::Null);
    assert!(
        audit.json()["rows"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| { row["action"] == "events.erase" })
    );
    assert!(!audit.to_string().contains("user-7"), "{audit}");
    let token = server.mint("server");
    let path = "/api/v1/projects/default/events/erase";
    let refused = server.with_token(&token, "POST", path, &json!({ "unit": "user-8" }));
    assert_eq!(refused.status, 403);
}

/// A server span of a unit, in a trace of which nothing else is known, as OTLP in JSON.
fn span_of(unit: &str) -> Value {
    let attribute = json!({ "key": "enduser.id", "value": { "stringValue": unit } });
    let span = json!({
        "traceId": format!("{:032x}", unit.len()), "spanId": "b7ad6b7169203331",
        "name": "GET /cart", "kind": 2, "attributes": [attribute],
        "startTimeUnixNano": "1780315200000000000", "endTimeUnixNano": "1780315200050000000",
    });
    json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [span] }] }] })
}

#[test]
fn an_erasure_reaches_what_waits_for_its_trace() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    send(&server, 0..10);
    wait_for_watermark(&server, 10);
    let waiting = "tidegate_otlp_waiting_events{project=\"default\"}";
    for unit in ["user-7", "nobody-else-knows"] {
        let answer = server.admin("POST", "/v1/traces", &[], &span_of(unit));
        assert_eq!(answer.status, 200, "{answer}");
    }
    for (unit, rows, left) in [("user-7", 2, 1), ("nobody-else-knows", 1, 0)] {
        let erase = ["events", "erase", "--unit", unit, "--yes", "-o", "json"];
        let (is_well, receipt) = said(&server.run(&erase));
        assert!(is_well, "{receipt}");
        assert_eq!(
            receipt["rows_erased"], rows,
            "the waiting span, too: {receipt}"
        );
        assert_eq!(receipt["rows_found_by_rescan"], 0);
        assert_eq!(server.counter(waiting), left);
    }
    assert_eq!(lake(&server)["rows"], 9);
}

/// Distinct units that did `paid` on the one day there is.
fn payers(server: &Server) -> Value {
    let report = ["usage", "report", "--event", "paid", "-o", "json"];
    let (is_well, report) = said(&server.run(&report));
    assert!(is_well, "{report}");
    report["rows"][0]["value"].clone()
}

#[test]
fn units_merged_over_the_door_are_one_person_until_they_are_unmerged() {
    let folder = tempfile::tempdir().unwrap();
    let merges = "/api/v1/projects/default/events/merge";
    {
        let server = Server::serve(folder.path());
        send(&server, 0..50);
        assert_eq!(payers(&server), 50);
        let merge = ["events", "merge", "--unit", "user-1", "--into", "user-2"];
        let output = server.run(&[&merge[..], &["-o", "json"]].concat());
        let (is_well, merged) = said(&output);
        assert!(is_well, "{merged}");
        assert_eq!(
            (&merged["changed"], &merged["version"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(payers(&server), 49);
        // An application's back end may say so; a browser's token may not.
        let pairs = json!({ "merges": [{ "unit": "user-3", "into": "user-1" },
                                       { "unit": "user-2", "into": "user-3" },
                                       { "unit": "new-visitor", "into": "user-4" }] });
        let browser = server.mint("browser");
        assert_eq!(
            server.with_token(&browser, "POST", merges, &pairs).status,
            403
        );
        let answer = server.with_token(&server.mint("server"), "POST", merges, &pairs);
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["changed"]),
            (200, &json!(2)),
            "{answer}"
        );
        let refusal = &body["rejected"][0];
        assert_eq!(
            (&refusal["pointer"], &refusal["code"], &body["is_audited"]),
            (&json!("/merges/1"), &json!("cycle"), &json!(true)),
        );
        server.kill_nine();
    }
    let server = Server::serve(folder.path());
    assert_eq!(payers(&server), 48);
    let file = folder.path().join("pairs.csv");
    std::fs::write(
        &file,
        "into,unit\nuser-2,user-1\nuser-1,user-2\nuser-9,user-8\n",
    )
    .unwrap();
    let output = server.run(&["events", "merge", "--file", file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.starts_with("1 merged, 1 were so already, 1 refused"),
        "{text}"
    );
    assert!(text.contains("user-2 into user-1"), "{text}");
    let (is_well, verified) = said(&server.run(&["events", "verify", "-o", "json"]));
    assert!(is_well, "{verified}");
    assert_eq!(verified["merged_units"], 4);
    let unmerge = ["events", "unmerge", "--unit", "user-1", "-o", "json"];
    assert_eq!(said(&server.run(&unmerge)).1["changed"], 1);
    assert_eq!(said(&server.run(&unmerge)).1["unchanged"], 1);
    assert_eq!(payers(&server), 48);
    let audit = server.admin("GET", "/api/v1/projects/default/audit", &[], &Value::Null);
    for action in ["events.merge", "events.unmerge"] {
        assert!(audit.to_string().contains(action), "{audit}");
    }
    assert!(!audit.to_string().contains("user-1"), "{audit}");
    let empty = server.admin(
        "POST",
        merges,
        &[],
        &json!({ "merges": [{ "unit": "", "into": "" }] }),
    );
    let body = empty.json();
    assert_eq!(
        (empty.status, body["violations"].as_array().unwrap().len()),
        (400, 2),
        "{empty}"
    );
}

#[test]
fn the_newest_events_are_shown_as_they_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let (_, none) = said(&server.run(&["events", "tail", "-o", "json"]));
    assert_eq!(none["rows"], json!([]));
    send(&server, 0..30);
    let (_, newest) = said(&server.run(&["events", "tail", "-n", "3", "-o", "json"]));
    let units: Vec<&str> = newest["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["unit"].as_str().unwrap())
        .collect();
    assert_eq!(units, ["user-27", "user-28", "user-29"]);
    assert_eq!(newest["next"], 30);
    let path = "/api/v1/projects/default/events?after=10&limit=2";
    let some = server.admin("GET", path, &[], &Value::Null).json();
    assert_eq!(
        (&some["rows"][0]["sequence"], &some["next"]),
        (&json!(10), &json!(12))
    );
    assert_eq!(some["rows"][0]["value"], 1.5);
}

/// Sends batches until the server is gone; each overlaps the one before, as a client does that
/// lost the answer.
fn send_until_it_dies(
    address: SocketAddr,
    client: u64,
    next: &AtomicU64,
    acked: &Mutex<BTreeSet<u64>>,
) {
    let authorization = format!("Bearer {ADMIN}");
    let headers = [("authorization", authorization.as_str())];
    let mut last: Vec<u64> = Vec::new();
    loop {
        let first = next.fetch_add(10, Ordering::Relaxed);
        let numbers: Vec<u64> = last
            .iter()
            .copied()
            .take(1)
            .chain(first..first + 10)
            .collect();
        let event = |number: &u64| {
            json!({ "id": format!("{:032x}", number + 1), "time": "2026-06-01T00:00:00Z",
                    "unit": format!("client-{client}"), "kind": "track", "name": "n" })
        };
        let body: Value = numbers.iter().map(event).collect();
        let answer = try_request(
            address,
            "POST",
            "/api/v1/events",
            &headers,
            body.to_string().as_bytes(),
        );
        match answer {
            Some(answer) if answer.status == 202 => acked.lock().unwrap().extend(&numbers),
            _ => return,
        }
        last = numbers;
    }
}

/// `TIDEGATE_KILLS` sets the number of kills, for long runs.
#[test]
fn events_outlive_kill_nine_of_the_server_and_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let (next, acked) = (AtomicU64::new(0), Mutex::new(BTreeSet::new()));
    let mut seen = 0;
    for round in 0..configured("TIDEGATE_KILLS", 4) {
        let server = Server::serve(folder.path());
        let address = server.address;
        std::thread::scope(|scope| {
            for client in 0..8 {
                let (next, acked) = (&next, &acked);
                scope.spawn(move || send_until_it_dies(address, client, next, acked));
            }
            let wanted = seen + 300 + 170 * usize::try_from(round % 3).unwrap();
            until("enough was acknowledged", || {
                (acked.lock().unwrap().len() >= wanted).then_some(())
            });
            server.kill_nine();
        });
        seen = acked.lock().unwrap().len();
        let (is_well, report) = said(&verify_folder(folder.path()));
        assert!(is_well, "round {round}: {report}");
        let stored = report["events"].as_u64().unwrap();
        assert!(
            stored >= u64::try_from(seen).unwrap(),
            "round {round}: lost events: {report}"
        );
    }
    let server = Server::serve(folder.path());
    let acked = acked.into_inner().unwrap();
    // Everything sent again is recognised or counted once: distinct events are those ever sent.
    let all: Vec<u64> = acked.iter().copied().collect();
    for numbers in all.chunks(1000) {
        let event = |number: &u64| {
            json!({ "id": format!("{:032x}", number + 1), "time": "2026-06-01T00:00:00Z",
                    "unit": "again", "kind": "track", "name": "n" })
        };
        let body: Value = numbers.iter().map(event).collect();
        let answer = server.admin("POST", "/api/v1/events", &[], &body).json();
        assert_eq!(
            answer["accepted"], 0,
            "an acknowledged event was lost: {answer}"
        );
    }
}
