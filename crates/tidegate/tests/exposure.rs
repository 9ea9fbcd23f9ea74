//! Raising exposure is a right of its own: an edit is no way around it, and a schedule does not
//! outlive whoever answers for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::person::Session;
use support::{Server, until};

const FLAGS: &str = "/api/v1/projects/default/flags";
const PEOPLE: &str = "/api/v1/projects/default/people";

fn person(server: &Server, email: &str, role: &str) -> (String, Session) {
    let body = json!({"email": email, "name": role, "roles": [role]});
    let invited = server.admin("POST", PEOPLE, &[], &body);
    let id = invited.json()["person"]["id"].as_str().unwrap().to_owned();
    (id, Session::by_link(server, &invited))
}

fn dark() -> Value {
    json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"})
}

fn put(server: &Server, who: &Session, key: &str, revision: u64, flag: &Value) -> u16 {
    let path = format!("{FLAGS}/{key}");
    let tag = format!("\"{revision}\"");
    let condition = match revision {
        0 => ("if-none-match", "*"),
        _ => ("if-match", tag.as_str()),
    };
    who.send_with(server, "PUT", &path, &[condition], flag)
        .status
}

#[test]
fn an_experimenter_writes_what_exposes_nobody_and_a_developer_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let (_, experimenter) = person(&server, "e@example.com", "experimenter");
    let (_, developer) = person(&server, "d@example.com", "developer");
    let mut open = dark();
    open["rules"] = json!([{"id": "beta", "units": ["ada"], "variant": "on"}]);
    assert_eq!(
        put(&server, &experimenter, "new", 0, &open),
        403,
        "a new flag that exposes"
    );
    assert_eq!(
        put(&server, &experimenter, "new", 0, &dark()),
        201,
        "a dark one"
    );
    let mut told = dark();
    told["description"] = json!("what it is for");
    assert_eq!(put(&server, &experimenter, "new", 1, &told), 200);
    assert_eq!(put(&server, &experimenter, "new", 2, &open), 403);
    assert_eq!(put(&server, &developer, "new", 2, &open), 200);
    assert_eq!(
        put(&server, &experimenter, "new", 3, &told),
        200,
        "taking it back"
    );

    let segment = "/api/v1/projects/default/segments/team";
    let body = json!({"units": ["ada"]});
    let made = experimenter.send(&server, "PUT", segment, &body);
    assert_eq!(made.status, 201, "a segment that no flag names: {made}");
    let mut by_segment = dark();
    by_segment["rules"] = json!([{"id": "team", "segments": ["team"], "variant": "on"}]);
    assert_eq!(put(&server, &developer, "new", 4, &by_segment), 200);
    let wider = json!({"units": ["ada", "bob"]});
    let refused = experimenter.send_with(&server, "PUT", segment, &[("if-match", "\"1\"")], &wider);
    assert_eq!(refused.status, 403, "{refused}");
    let gone = format!("{FLAGS}/new");
    let refused = experimenter.send_with(
        &server,
        "DELETE",
        &gone,
        &[("if-match", "\"5\"")],
        &Value::Null,
    );
    assert_eq!(refused.status, 403, "{refused}");

    let many = json!({"changes": [{"kind": "flag", "key": "other", "spec": open}]});
    for path in ["changes", "changes/check"] {
        let path = format!("/api/v1/projects/default/{path}");
        let refused = experimenter.send(&server, "POST", &path, &many);
        assert_eq!(refused.status, 400, "{refused}");
        assert_eq!(
            refused.json()["violations"][0]["code"],
            "may-raise",
            "{refused}"
        );
    }
}

#[test]
fn a_schedule_whose_author_left_raises_nothing_and_says_so_until_it_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let (id, author) = person(&server, "a@example.com", "developer");
    let now = support::unix_seconds();
    let mut flag = dark();
    flag["rules"] = json!([{"id": "launch", "variant": "on", "from": now + 6}]);
    assert_eq!(put(&server, &author, "launch", 0, &flag), 201);
    assert_eq!(put(&server, &author, "mine", 0, &flag), 201);
    let disabled = server.run(&["person", "disable", "a@example.com"]);
    let said = String::from_utf8_lossy(&disabled.stderr).into_owned();
    assert!(disabled.status.success(), "{disabled:?}");
    assert!(
        said.contains("launch") && said.contains("does not begin"),
        "{said}"
    );
    // Somebody takes one of them over.
    let admin = format!("{FLAGS}/mine");
    let taken = server.admin("PUT", &admin, &[("if-match", "\"1\"")], &flag);
    assert_eq!(taken.status, 200, "{taken}");
    until("the schedule that was taken over begins", || {
        (server.value_of("mine", &json!({})) == true).then_some(())
    });
    assert_eq!(
        server.value_of("launch", &json!({})),
        false,
        "nobody answers for it"
    );
    let status = server.admin("GET", "/status", &[], &Value::Null).json();
    let warnings = status["projects"][0]["warnings"].as_array().unwrap();
    let held: Vec<&Value> = warnings
        .iter()
        .filter(|w| w["code"] == "held_schedule")
        .collect();
    assert_eq!(
        (held.len(), &held[0]["flag"]),
        (1, &json!("launch")),
        "{warnings:?}"
    );
    server.kill_nine();
    let server = Server::serve(folder.path());
    assert_eq!(
        server.value_of("launch", &json!({})),
        false,
        "after a restart too"
    );
    let enable = format!("{PEOPLE}/{id}/enable");
    assert_eq!(server.admin("POST", &enable, &[], &Value::Null).status, 200);
    assert_eq!(
        server.value_of("launch", &json!({})),
        true,
        "its author answers again"
    );
}
