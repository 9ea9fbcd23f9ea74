//! What may be asked of reports beside the usual: planned looks, the flag's own shares, lifecycle and
//! stickiness; and how questions that cannot be meant are refused.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use serde_json::{Value, json};
use support::Server;
use tidegate_metrics::parse_rfc3339;

const METRIC: &str = "/api/v1/projects/default/metrics/revenue";

fn send(server: &Server, events: &[Value]) {
    let answer = server.admin("POST", "/api/v1/events", &[], &json!(events));
    assert_eq!(answer.status, 202, "{answer}");
}

fn report(server: &Server, question: &[&str]) -> Value {
    let output = server.run(&[question, &["-o", "json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{complaint}"))
}

fn shown(server: &Server, question: &[&str]) -> String {
    let output = server.run(question);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A tenth of 600 units has the new checkout; everyone pays, those a little more.
fn sales() -> Vec<Value> {
    let mut events = Vec::new();
    for unit in 0..600 {
        let variant = if unit % 10 == 0 { "on" } else { "off" };
        let name = format!("u{unit}");
        events.push(
            json!({"time": "2026-06-02T10:00:00Z", "unit": name, "kind": "exposure",
                           "name": "new-checkout", "flags": {"new-checkout": variant}}),
        );
        let value = 10 + unit % 7 + u32::from(variant == "on");
        events.push(
            json!({"time": "2026-06-02T11:00:00Z", "unit": name, "kind": "track",
                           "name": "purchase", "value": value}),
        );
    }
    events
}

fn flag(share_bp: u32) -> Value {
    json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
           "rules": [{"id": "ramp", "rollout": {"treatment": "on", "control": "off",
                                                "share_bp": share_bp}}]})
}

#[test]
fn the_split_is_checked_against_the_shares_the_flag_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let spec = json!({"measure": {"sum": {"event": "purchase"}}});
    let made = server.admin("PUT", METRIC, &[("if-none-match", "*")], &spec);
    assert_eq!(made.status, 201, "{made}");
    send(&server, &sales());
    let question = ["metric", "report", "revenue", "--flag", "new-checkout"];
    let is_suspect = |report: &Value| {
        let check = &report["split"]["check"];
        assert!(check.is_object(), "{report}");
        check["alarm"] == true
    };
    // Without a flag of the name, equal shares are all there is to go by: a false alarm.
    let unknown = report(&server, &question);
    assert_eq!(unknown["split"]["shares"], "equal");
    let alarm = is_suspect(&unknown);
    let made = server.create_flag("new-checkout", &flag(1000));
    assert_eq!(made.status, 201, "{made}");
    let served = report(&server, &question);
    assert_eq!(served["split"]["shares"], "served");
    assert_eq!(
        served["method"]["shares"],
        json!([["on", 1000.0], ["off", 9000.0]])
    );
    assert!(alarm && !is_suspect(&served), "{unknown} {served}");
    let given = report(
        &server,
        &[&question[..], &["--shares", "on=1,off=1"]].concat(),
    );
    assert_eq!(given["split"]["shares"], "given");
    assert!(is_suspect(&given), "{given}");
    // After a raise no one set of shares holds for what came before.
    let raised = server.change_flag("new-checkout", 1, &flag(5000));
    assert_eq!(raised.status, 200, "{raised}");
    let changed = report(&server, &question);
    assert_eq!(changed["split"]["shares"], "changed");
    assert_eq!(changed["split"]["check"], Value::Null);
    assert!(changed["notes"].to_string().contains("--from"), "{changed}");
    // A stopped server's folder says the same.
    server.terminate();
    let output = support::tidegate()
        .args(question)
        .args(["-o", "json", "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    let offline: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(offline, changed);
}

#[test]
fn planned_looks_and_notes_are_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let spec = json!({"measure": {"sum": {"event": "purchase"}}});
    server.admin("PUT", METRIC, &[("if-none-match", "*")], &spec);
    send(&server, &sales());
    let question = ["metric", "report", "revenue", "--flag", "new-checkout"];
    let plan = ["--method", "group", "--n-max", "1200", "--looks", "2"];
    let planned = [&question[..], &plan[..]].concat();
    let look = report(&server, &planned);
    let group = &look["rows"][1]["comparison"]["group"];
    assert_eq!(look["rows"][1]["comparison"]["method"], "group_sequential");
    // Half of the plan, O'Brien-Fleming: the boundary is 2.963.
    let critical = group["critical_z"].as_f64().unwrap();
    assert!((critical - 2.963).abs() < 0.001, "{group}");
    assert!(look["rows"][0]["interval"].is_object(), "{look}");
    assert!(shown(&server, &planned).contains("against the boundary 2.96"));
    let last = report(&server, &[&planned[..], &["--last-look"]].concat());
    let stop = &last["rows"][1]["comparison"]["group"]["at_stop"];
    assert!(stop["p_value"].is_number(), "{last}");
    // Too early for anything: said as a sentence, not as what the program calls it.
    let early = ["--from", "2026-06-02", "--segment", "none"];
    let few: Vec<Value> = sales()
        .into_iter()
        .take(24)
        .map(|mut event| {
            event["unit"] = json!(format!("other-{}", event["unit"].as_str().unwrap()));
            if event["kind"] == "exposure" {
                event["name"] = json!("other");
                event["flags"] = json!({"other": event["flags"]["new-checkout"]});
            }
            event
        })
        .collect();
    send(&server, &few);
    let other = ["metric", "report", "revenue", "--flag", "other"];
    let text = shown(&server, &[&other[..], &early[..]].concat());
    assert!(
        text.contains("too early: the treatment arm has 2 events"),
        "{text}"
    );
    assert!(!text.contains("burn_in"), "{text}");
}

#[test]
fn everything_wrong_with_a_question_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let spec = json!({"measure": {"sum": {"event": "purchase"}}});
    server.admin("PUT", METRIC, &[("if-none-match", "*")], &spec);
    let pointers = |rest: &str| {
        let path = format!("/api/v1/projects/default/{rest}");
        let answer = server.admin("GET", &path, &[], &Value::Null);
        assert_eq!(answer.status, 400, "{answer}");
        let body = answer.json();
        let violations = body["violations"].as_array().unwrap().iter();
        let pointers =
            violations.map(|violation| violation["pointer"].as_str().unwrap().to_owned());
        pointers.collect::<Vec<_>>()
    };
    assert_eq!(
        pointers(
            "metrics/revenue/report?from=June&to=July&alpha=2&shares=on&n_max=5&period=day&method=group"
        ),
        [
            "/query/period",
            "/query/flag",
            "/query/from",
            "/query/to",
            "/query/shares",
            "/query/looks",
            "/query/alpha"
        ]
    );
    assert_eq!(
        pointers("reports/usage?segment=x&period=0&from=never&control=off"),
        [
            "/query/control",
            "/query/events",
            "/query/from",
            "/query/segment",
            "/query/period"
        ]
    );
    assert_eq!(pointers("reports/retention?show=all"), ["/query/show"]);
    // What cannot be read is said with what is out of range, and each place once.
    assert_eq!(
        pointers(
            "metrics/revenue/report?flag=f&alpha=x&tune_at=0&prior_sd=-1&period=day&from=June&colour=red"
        ),
        [
            "/query/alpha",
            "/query/colour",
            "/query/period",
            "/query/from",
            "/query/tune_at",
            "/query/prior_sd"
        ]
    );
    assert_eq!(
        pointers("metrics/revenue/report?flag=f&method=guess&n_max=many&looks=3&alpha=0.9"),
        ["/query/method", "/query/n_max", "/query/alpha"]
    );
    let journey = json!({"steps": ["a", "b"]});
    let path = "/api/v1/projects/default/journeys/checkout";
    server.admin("PUT", path, &[("if-none-match", "*")], &journey);
    assert_eq!(
        pointers("journeys/checkout/report?alpha=9&tune_at=x&prior_sd=0&shares=on=1&segment=s"),
        [
            "/query/tune_at",
            "/query/shares",
            "/query/segment",
            "/query/alpha",
            "/query/prior_sd"
        ]
    );
    let many = vec!["e"; 257].join(",");
    assert_eq!(
        pointers(&format!("reports/usage?events={many}&period=0&alpha=1")),
        ["/query/alpha", "/query/events", "/query/period"]
    );
    assert_eq!(
        pointers("reports/retention?alpha=2&period=0&from=never&looks=x&segment=s"),
        [
            "/query/looks",
            "/query/segment",
            "/query/from",
            "/query/period",
            "/query/alpha"
        ]
    );
    assert_eq!(pointers("reports/retention?flag=f"), ["/query/flag"]);
    assert_eq!(
        pointers("reports/retention?from=2000-01-01&to=2026-01-01&period=day"),
        ["/query/period"]
    );
    assert_eq!(
        pointers("metrics/revenue/report?flag=f&looks=5&last_look=true"),
        ["/query/looks", "/query/last_look"]
    );
    // The same of a mapping: a key it does not know and a column the file does not have.
    let at = folder.path();
    std::fs::write(at.join("sales.csv"), "customer,when\nann,2026-06-01\n").unwrap();
    std::fs::write(
        at.join("sales.toml"),
        "unit = \"client\"\ntime = \"when\"\nname = \"sale\"\ncolour = \"red\"\nvalue = 3\n",
    )
    .unwrap();
    let output = support::tidegate()
        .current_dir(at)
        .args([
            "events",
            "import",
            "--file",
            "sales.csv",
            "--mapping",
            "sales.toml",
        ])
        .args(["--data-dir", "elsewhere"])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for key in ["colour", "value", "unit: there is no column \"client\""] {
        assert!(complaint.contains(key), "{key}: {complaint}");
    }
}

/// Three weeks: ann comes on five days of the first and stays, bob leaves and comes back, cem is new
/// in the third, dot came long before.
fn visits() -> Vec<Value> {
    let visit = |unit: &str, day: &str| json!({"time": format!("{day}T12:00:00Z"), "unit": unit, "kind": "track", "name": "visit"});
    let mut events: Vec<Value> = (1..=5)
        .map(|day| visit("ann", &format!("2026-06-0{day}")))
        .collect();
    events.extend([
        visit("ann", "2026-06-09"),
        visit("ann", "2026-06-16"),
        visit("bob", "2026-06-02"),
        visit("bob", "2026-06-21"),
        visit("cem", "2026-06-15"),
        visit("dot", "2026-03-01"),
        visit("dot", "2026-06-10"),
    ]);
    events
}

/// New, returning, resurrecting and dormant units of a row.
fn kinds(row: &Value) -> [u64; 4] {
    ["new", "returning", "resurrecting", "dormant"].map(|kind| row[kind].as_u64().unwrap())
}

#[test]
fn who_is_new_stays_leaves_and_comes_back_and_how_often() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    send(&server, &visits());
    let weeks = [
        "retention",
        "report",
        "--period",
        "week",
        "--from",
        "2026-06-01",
        "--to",
        "2026-06-21",
    ];
    let ask = |view: &'static str| [&weeks[..], &["--show", view]].concat();
    let lifecycle = report(&server, &ask("lifecycle"));
    let rows = lifecycle["rows"].as_array().unwrap().iter();
    let rows: Vec<[u64; 4]> = rows.map(kinds).collect();
    assert_eq!(rows, [[2, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]]);
    let second = &lifecycle["rows"][1];
    assert_eq!((&second["n"], &second["value"]), (&json!(2), &json!(0.5)));
    assert!(second["interval"]["upper"].as_f64().unwrap() < 1.0);
    assert_eq!(
        lifecycle["definition"]["query"]["lifecycle"]["period_days"],
        7
    );
    let text = shown(&server, &ask("lifecycle"));
    assert!(
        text.contains("resurrecting") && text.contains("2026-06-08"),
        "{text}"
    );
    let stickiness = report(&server, &ask("stickiness"));
    let first = &stickiness["rows"][0];
    assert_eq!(first["by_days"], json!({"1": 1, "5": 1}));
    assert!(
        (first["value"].as_f64().unwrap() - 3.0 / 7.0).abs() < 1e-12,
        "{first}"
    );
    assert!(shown(&server, &ask("stickiness")).contains("1: 1, 5: 1"));
    let cohorts = report(&server, &ask("cohorts"));
    assert_eq!(cohorts, report(&server, &weeks));
}

/// A life begins with the first exposure: ann's first two visits and dot's came before or without one,
/// and cem met both variants.
#[test]
fn who_stays_and_how_often_is_told_by_variant_from_the_first_exposure_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let met = |unit: &str, time: &str, variant: &str| json!({"time": time, "unit": unit, "kind": "exposure", "name": "f", "flags": {"f": variant}});
    let mut events = visits();
    events.extend([
        met("ann", "2026-06-03T00:00:00Z", "on"),
        met("bob", "2026-06-01T00:00:00Z", "off"),
        met("cem", "2026-06-14T00:00:00Z", "on"),
        met("cem", "2026-06-15T00:00:00Z", "off"),
    ]);
    send(&server, &events);
    let weeks = [
        "--period",
        "week",
        "--from",
        "2026-06-01",
        "--to",
        "2026-06-21",
    ];
    let of = [
        "retention",
        "report",
        "--event",
        "visit",
        "--flag",
        "f",
        "--show",
    ];
    let ask = |view: &'static str| [&of[..], &[view], &weeks].concat();
    let lifecycle = report(&server, &ask("lifecycle"));
    let rows = lifecycle["rows"].as_array().unwrap().iter();
    let rows: Vec<(&str, [u64; 4])> = rows
        .map(|row| (row["variant"].as_str().unwrap(), kinds(row)))
        .collect();
    let expected = [
        ("off", [1, 0, 0, 0]),
        ("on", [1, 0, 0, 0]),
        ("off", [0, 0, 0, 1]),
        ("on", [0, 1, 0, 0]),
        ("off", [0, 0, 1, 0]),
        ("on", [0, 1, 0, 0]),
    ];
    assert_eq!(rows, expected);
    assert_eq!(lifecycle["mixed_units"], 1);
    let stickiness = report(&server, &ask("stickiness"));
    assert_eq!(stickiness["rows"][1]["by_days"], json!({"3": 1}));
    for view in ["lifecycle", "stickiness"] {
        let text = shown(&server, &ask(view));
        assert!(
            text.contains("variant") && !text.contains("segment"),
            "{text}"
        );
        assert!(
            text.contains("1 units were exposed to two variants"),
            "{text}"
        );
    }
}

#[test]
fn weeks_in_which_nobody_came_back_are_shown_as_zero() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    send(&server, &visits());
    let question = ["retention", "report", "--from", "2026-06-15", "--to"];
    let ask = |to: &str| {
        let cohorts = report(&server, &[&question[..], &[to]].concat());
        let rows = cohorts["rows"].as_array().unwrap().iter();
        let rows: Vec<(i64, u64, bool)> = rows
            .map(|row| {
                let active = row["active"].as_u64().unwrap();
                (
                    row["later"].as_i64().unwrap(),
                    active,
                    row["is_complete"] == true,
                )
            })
            .collect();
        let received = cohorts["computed_from"]["received_until"].as_str().unwrap();
        (rows, parse_rfc3339(received).unwrap())
    };
    // What was sent arrived months later, so that all these weeks were over by then.
    assert_eq!(ask("2026-06-21").0, [(0, 3, true)]);
    let all = [(0, 3, true), (1, 0, true), (2, 0, true)];
    assert_eq!(ask("2026-07-05").0, all);
    // The week in which it arrived is not over, and later ones are not there.
    let (rows, received_us) = ask("2045-06-18");
    let begun =
        (received_us - parse_rfc3339("2026-06-15T00:00:00Z").unwrap()) / (7 * 86_400_000_000);
    assert_eq!(rows.last(), Some(&(begun, 0, false)));
}

/// Two units of one account: ann begins in one session and pays in another, bob pays in one.
fn sessions() -> Vec<Value> {
    let step = |unit: &str, minute: u32, name: &str, session: &str| {
        json!({"time": format!("2026-06-02T10:{minute:02}:00Z"), "unit": unit, "kind": "track",
               "name": name, "properties": {"session": session, "account": "acme"}})
    };
    vec![
        step("ann", 1, "view", "a1"),
        step("ann", 2, "purchase", "a2"),
        step("bob", 3, "view", "b1"),
        step("bob", 4, "purchase", "b1"),
        json!({"time": "2026-06-02T10:05:00Z", "unit": "eve", "kind": "track", "name": "view"}),
    ]
}

#[test]
fn a_journey_is_held_to_a_session_or_followed_by_account() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    send(&server, &sessions());
    let path = |key: &str| format!("/api/v1/projects/default/journeys/{key}");
    let steps = json!(["view", "purchase"]);
    let wrong = json!({"steps": steps, "key": {"property": "", "counts": "people", "by": 1}});
    let refused = server.admin("PUT", &path("wrong"), &[("if-none-match", "*")], &wrong);
    let body = refused.json();
    let pointers: Vec<&str> = body["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|violation| violation["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/key/property", "/key/counts", "/key/by"]);
    let reached = |name: &str, key: Value| {
        let mut spec = json!({"steps": steps});
        if !key.is_null() {
            spec["key"] = key;
        }
        let made = server.admin("PUT", &path(name), &[("if-none-match", "*")], &spec);
        assert_eq!(made.status, 201, "{made}");
        let journey = report(&server, &["journey", "report", name]);
        let row = &journey["rows"][0];
        let steps = row["steps"].as_array().unwrap().iter();
        let reached: Vec<u64> = steps
            .map(|step| step["reached"].as_u64().unwrap())
            .collect();
        (
            row["n"].as_u64().unwrap(),
            reached,
            journey["shares_of"].as_str().unwrap().to_owned(),
        )
    };
    let plain = reached("plain", Value::Null);
    assert_eq!((plain.0, plain.1), (3, vec![3, 2]));
    let held = reached("held", json!("session"));
    assert_eq!(
        (held.0, held.1),
        (2, vec![2, 1]),
        "ann paid in another session"
    );
    let each = reached(
        "each",
        json!({"property": "session", "counts": "unit_and_value"}),
    );
    assert_eq!((each.0, each.1), (3, vec![2, 1]));
    assert_eq!(each.2, "session of a unit that did any of the steps");
    let account = reached("account", json!({"property": "account", "counts": "value"}));
    assert_eq!((account.0, account.1), (1, vec![1, 1]));
    let text = shown(&server, &["journey", "report", "account"]);
    assert!(
        text.contains("1 account that did any of the steps"),
        "{text}"
    );
}

#[test]
fn an_event_of_the_future_decides_no_days_and_ended_periods_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let paid = |unit: &str, time: &str| json!({"time": time, "unit": unit, "kind": "track", "name": "paid"});
    send(
        &server,
        &[
            paid("a", "2026-06-02T12:00:00Z"),
            paid("b", "2026-06-05T12:00:00Z"),
        ],
    );
    let usage = ["usage", "report", "--event", "paid"];
    let before = report(&server, &usage);
    assert_eq!(before["rows"].as_array().unwrap().len(), 2, "{before}");
    send(&server, &[paid("c", "9999-01-01T00:00:00Z")]);
    let after = report(&server, &usage);
    assert_eq!(after["rows"], before["rows"]);
    for question in [&usage[..], &["retention", "report", "--period", "day"]] {
        let only = ["--from", "2026-06-02", "--to", "2026-06-02"];
        let ended = report(&server, &[question, &only].concat());
        assert_eq!(ended["rows"][0]["is_complete"], true, "{ended}");
    }
}
