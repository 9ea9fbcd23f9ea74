//! People: invited, given roles in places, reset, disabled, forgotten; and what none of them may.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::person::{PASSWORD, Session};
use support::wire::Answer;
use support::{Server, plan_flag};

const PEOPLE: &str = "/api/v1/projects/default/people";
const FLAGS: &str = "/api/v1/projects/default/flags";

fn start() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    (folder, server)
}

fn invite(server: &Server, email: &str, role: &str, everywhere: bool) -> Answer {
    let body = json!({"email": email, "name": "Somebody", "roles": [role],
        "everywhere": everywhere});
    server.admin("POST", PEOPLE, &[], &body)
}

fn id_of(answer: &Answer) -> String {
    answer.json()["person"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn an_invited_person_sets_a_password_and_may_what_the_role_grants_where_it_was_granted() {
    let folder = tempfile::tempdir().unwrap();
    support::strange::project_with_token(folder.path());
    let server = Server::serve(folder.path());
    server.create_flag("f", &plan_flag());
    let invited = invite(&server, "Ada@Example.com", "operator", false);
    assert_eq!(invited.status, 201, "{invited}");
    let session = Session::by_link(&server, &invited);
    assert_eq!(
        session.send(&server, "GET", FLAGS, &Value::Null).status,
        200
    );
    let write = session.send(&server, "PUT", &format!("{FLAGS}/g"), &plan_flag());
    assert_eq!(write.status, 403, "{write}");
    let kill = session.send(
        &server,
        "POST",
        &format!("{FLAGS}/f/kill"),
        &json!({"reason": "it hurts"}),
    );
    assert_eq!(kill.status, 200, "{kill}");
    let elsewhere = "/api/v1/projects/strange/flags";
    let foreign = session.send(&server, "GET", elsewhere, &Value::Null);
    assert_eq!(
        foreign.status, 403,
        "a role in one project is none in another"
    );
    let again = invite(&server, "ada@example.COM", "viewer", false);
    assert_eq!(again.status, 409, "one address, one person: {again}");

    let roles = format!("{PEOPLE}/{}/roles", id_of(&invited));
    let wider = json!({"roles": ["viewer"], "everywhere": true});
    assert_eq!(server.admin("PUT", &roles, &[], &wider).status, 200);
    let foreign = session.send(&server, "GET", elsewhere, &Value::Null);
    assert_eq!(foreign.status, 200, "roles hold at once: {foreign}");
    let unknown = json!({"roles": ["viewer", "king", "queen"]});
    let refused = server.admin("PUT", &roles, &[], &unknown);
    assert_eq!(refused.status, 400, "{refused}");
    let violations = refused.json()["violations"].as_array().unwrap().len();
    assert_eq!(violations, 2, "{refused}");
}

#[test]
fn a_reset_or_a_new_password_or_a_disabling_ends_every_sign_in() {
    let (_folder, server) = start();
    let invited = invite(&server, "ada@example.com", "viewer", false);
    let person = format!("{PEOPLE}/{}", id_of(&invited));
    let first = Session::by_link(&server, &invited);
    let second = Session::by_password(&server, "ada@example.com", PASSWORD).unwrap();
    let is_in = |session: &Session| session.send(&server, "GET", FLAGS, &Value::Null).status;
    assert_eq!((is_in(&first), is_in(&second)), (200, 200));

    let next = "another-long-password";
    let third = Session::by_new_password(&server, "ada@example.com", PASSWORD, next).unwrap();
    assert_eq!(
        (is_in(&first), is_in(&second), is_in(&third)),
        (401, 401, 200)
    );
    assert!(Session::by_password(&server, "ada@example.com", PASSWORD).is_none());
    assert!(Session::by_new_password(&server, "ada@example.com", PASSWORD, next).is_none());

    let reset = server.admin("POST", &format!("{person}/reset"), &[], &Value::Null);
    assert_eq!(reset.status, 200, "{reset}");
    assert_eq!(is_in(&third), 401);
    assert!(
        Session::by_password(&server, "ada@example.com", next).is_none(),
        "the password before does not let in while the link waits"
    );
    let fourth = Session::by_link(&server, &reset);
    assert_eq!(is_in(&fourth), 200);

    let disabled = server.admin("POST", &format!("{person}/disable"), &[], &Value::Null);
    assert_eq!(disabled.status, 200, "{disabled}");
    assert_eq!(is_in(&fourth), 401);
    assert!(Session::by_password(&server, "ada@example.com", PASSWORD).is_none());
    let reset = server.admin("POST", &format!("{person}/reset"), &[], &Value::Null);
    assert_eq!(reset.status, 409, "{reset}");
    server.admin("POST", &format!("{person}/enable"), &[], &Value::Null);
    assert!(Session::by_password(&server, "ada@example.com", PASSWORD).is_some());
}

#[test]
fn nobody_manages_more_than_they_may_do_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = support::strange::project_with_token(folder.path());
    let server = Server::serve(folder.path());
    let chief = invite(&server, "chief@example.com", "admin", true);
    let local = invite(&server, "local@example.com", "admin", false);
    let local = Session::by_link(&server, &local);

    let everywhere = json!({"email": "x@example.com", "name": "X", "roles": ["viewer"],
        "everywhere": true});
    let refused = local.send(&server, "POST", PEOPLE, &everywhere);
    assert_eq!(refused.status, 403, "a role everywhere: {refused}");
    let chiefs = format!("{PEOPLE}/{}", id_of(&chief));
    for action in ["reset", "disable"] {
        let refused = local.send(&server, "POST", &format!("{chiefs}/{action}"), &Value::Null);
        assert_eq!(refused.status, 403, "{action}: {refused}");
    }
    assert_eq!(
        local.send(&server, "DELETE", &chiefs, &Value::Null).status,
        403
    );
    let strangers = "/api/v1/projects/strange/people";
    assert_eq!(
        local.send(&server, "GET", strangers, &Value::Null).status,
        403
    );
    let seen = server.with_token(&stranger, "GET", strangers, &Value::Null);
    assert_eq!(seen.status, 200);
    assert!(seen.to_string().contains("chief@"), "{seen}");
    assert!(!seen.to_string().contains("local@"), "not of this project");

    // The last who administers everything stays, whoever of the people asks.
    let chief = Session::by_link(&server, &chief);
    let roles = format!("{chiefs}/roles");
    let less = json!({"roles": [], "everywhere": true});
    assert_eq!(chief.send(&server, "PUT", &roles, &less).status, 409);
    let leave = chief.send(&server, "POST", &format!("{chiefs}/disable"), &Value::Null);
    assert_eq!(leave.status, 409, "{leave}");
    let second = invite(&server, "second@example.com", "admin", true);
    assert_eq!(second.status, 201);
    assert_eq!(chief.send(&server, "PUT", &roles, &less).status, 200);
    assert_eq!(chief.send(&server, "GET", FLAGS, &Value::Null).status, 403);
}

#[test]
fn the_audit_tells_who_changed_whom_and_knows_no_address() {
    let (folder, server) = start();
    let invited = invite(&server, "ada@example.com", "viewer", false);
    Session::by_link(&server, &invited);
    let id = id_of(&invited);
    let person = format!("{PEOPLE}/{id}");
    let roles = json!({"roles": ["developer"]});
    server.admin("PUT", &format!("{person}/roles"), &[], &roles);
    server.admin("POST", &format!("{person}/disable"), &[], &Value::Null);
    assert_eq!(
        server.admin("DELETE", &person, &[], &Value::Null).status,
        200
    );
    let audit = server.admin("GET", "/api/v1/projects/default/audit", &[], &Value::Null);
    let rows = audit.json()["rows"].as_array().unwrap().clone();
    let about: Vec<(String, Value)> = rows
        .iter()
        .filter(|row| row["object"] == format!("user {id}"))
        .map(|row| {
            (
                row["action"].as_str().unwrap().to_owned(),
                row["reason"].clone(),
            )
        })
        .collect();
    let actions: Vec<&str> = about.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "user.create",
            "user.password",
            "session.start",
            "user.grants",
            "user.disable",
            "user.erase"
        ]
    );
    assert_eq!(about[3].1, "roles in project default: developer");
    assert!(!audit.to_string().contains("ada@"), "{audit}");
    let listed = server.admin("GET", PEOPLE, &[], &Value::Null);
    assert!(!listed.to_string().contains("ada@"), "forgotten: {listed}");
    server.terminate();
    let data = folder.path().to_str().unwrap();
    let verified = support::tidegate()
        .args(["audit", "verify", "--data-dir", data])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn the_command_line_does_all_of_it() {
    let (_folder, server) = start();
    let text = |output: &std::process::Output| {
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let run = |arguments: &[&str]| {
        let output = server.run(&[&["person"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    };
    let ada = "ada@example.com";
    let added = run(&["add", ada, "--name", "Ada", "--role", "developer"]);
    let link = added.lines().next().unwrap();
    assert!(
        link.starts_with(&format!("http://{}/sign-in?link=", server.address)),
        "{added}"
    );
    let listed = run(&["list"]);
    assert!(
        listed.contains("developer in default") && listed.contains("invited"),
        "{listed}"
    );
    run(&["role", ada, "--role", "viewer", "--role", "operator"]);
    run(&["role", ada, "--role", "approver", "--everywhere"]);
    let listed = run(&["list"]);
    for expected in [
        "viewer in default",
        "operator in default",
        "approver everywhere",
    ] {
        assert!(listed.contains(expected), "{listed}");
    }
    assert!(!listed.contains("developer"), "{listed}");
    assert!(run(&["reset", ada]).contains("/sign-in?link="));
    assert!(run(&["disable", ada]).contains("may not sign in"));
    assert!(run(&["list"]).contains("disabled"));
    run(&["enable", ada]);
    run(&["forget", ada]);
    let gone = server.run(&["person", "reset", ada]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone).contains("person list"), "{}", text(&gone));
}
