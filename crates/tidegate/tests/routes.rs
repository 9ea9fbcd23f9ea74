//! Every door of the server, knocked on by everybody who might, with everything that does not fit.
//!
//! The list of doors is the server's own OpenAPI document, so a new route is tested the day it is
//! added. What each kind of token may do is the table below, as the documents state it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::person::{ORIGIN, Session};
use support::wire::{self, Answer};
use support::{ADMIN, Server, plan_flag};

const GIB: u64 = 1 << 30;
/// What a refused gigabyte may leave behind in memory.
const ROOM_KIB: u64 = 64 * 1024;

/// What each kind of token may do; `admin` may do everything.
const GRANTED: [(&str, &[&str]); 3] = [
    ("server", &["evaluate", "sync", "ingest", "identify"]),
    ("browser", &["evaluate", "ingest"]),
    ("ci", &["delivery_write"]),
];

/// What each role of a person may do, as docs/access.md says; `admin` may do everything.
const ROLES: [(&str, &[&str]); 6] = [
    ("viewer", &["config_read", "observe"]),
    ("contributor", &["config_read", "observe"]),
    (
        "operator",
        &["config_read", "observe", "audit_read", "stop"],
    ),
    (
        "developer",
        &[
            "evaluate",
            "sync",
            "config_read",
            "config_write",
            "observe",
            "audit_read",
            "stop",
            "raise",
        ],
    ),
    (
        "experimenter",
        &[
            "evaluate",
            "config_read",
            "config_write",
            "observe",
            "audit_read",
            "stop",
        ],
    ),
    (
        "approver",
        &["config_read", "observe", "audit_read", "stop", "approve"],
    ),
];

/// One door, as the OpenAPI document describes it.
struct Door {
    method: String,
    path: String,
    permission: Option<String>,
    body_limit: u64,
}

impl Door {
    /// The address to knock at: nothing that exists, so that knocking changes nothing.
    fn address(&self) -> String {
        let named = |segment: &str| match segment {
            "{project}" => "default".to_owned(),
            "{collection}" => "flags".to_owned(),
            "{method}" => "ResolveBoolean".to_owned(),
            parameter if parameter.starts_with('{') => "no-such-thing".to_owned(),
            word => word.to_owned(),
        };
        self.path
            .split('/')
            .map(named)
            .collect::<Vec<_>>()
            .join("/")
    }

    /// Whether it speaks Connect, whose status for "too large" is that of `resource_exhausted`,
    /// and for an unknown method 501.
    fn is_rpc(&self) -> bool {
        self.path.starts_with("/flagd.")
    }

    /// What is answered to a body over the limit.
    fn too_large(&self) -> u16 {
        if self.is_rpc() { 429 } else { 413 }
    }

    fn knock(&self, server: &Server, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let body: &[u8] = if self.body_limit > 0 { b"{}" } else { b"" };
        wire::status_of(server.address, &self.method, &self.address(), &all, body)
    }
}

fn doors(server: &Server) -> Vec<Door> {
    let document = server
        .admin("GET", "/api/v1/openapi.json", &[], &Value::Null)
        .json();
    let mut doors = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            doors.push(Door {
                method: method.to_uppercase(),
                path: path.clone(),
                permission: operation["x-permission"].as_str().map(str::to_owned),
                body_limit: operation["x-body-limit-bytes"].as_u64().unwrap_or(0),
            });
        }
    }
    assert!(doors.len() > 20, "the document lists the routes");
    doors
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn knock_with(server: &Server, door: &Door, token: &str) -> u16 {
    door.knock(server, &[("authorization", &bearer(token))])
        .status
}

#[test]
fn every_route_lets_in_whom_the_table_grants_it_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = support::strange::project_with_token(folder.path());
    let server = Server::serve(folder.path());
    let tokens: Vec<(&str, String)> = GRANTED
        .iter()
        .map(|(kind, _)| (*kind, server.mint(kind)))
        .collect();
    for door in doors(&server) {
        let name = format!("{} {}", door.method, door.path);
        let Some(permission) = &door.permission else {
            continue;
        };
        for garbage in [
            vec![],
            vec![("authorization", "Bearer garbage")],
            vec![("authorization", "Bearer ")],
            vec![("authorization", "Basic YTpi")],
            vec![("x-api-key", "tg_admin_aaaaaaaaaaaaaaaa_bbbb")],
            vec![("x-api-key", "")],
        ] {
            let status = door.knock(&server, &garbage).status;
            assert_eq!(status, 401, "{name} with {garbage:?}");
        }
        for ((kind, token), (_, granted)) in tokens.iter().zip(GRANTED) {
            let status = knock_with(&server, &door, token);
            if granted.contains(&permission.as_str()) {
                assert!(![401, 403].contains(&status), "{name} as {kind}: {status}");
            } else {
                assert_eq!(status, 403, "{name} as {kind}");
            }
        }
        let status = knock_with(&server, &door, ADMIN);
        let is_answered = status < 500 || (door.is_rpc() && status == 501);
        assert!(
            ![401, 403].contains(&status) && is_answered,
            "{name} as admin: {status}"
        );
        if door.path.contains("{project}") {
            let status = knock_with(&server, &door, &stranger);
            assert_eq!(status, 403, "{name} with the token of another project");
        }
    }
    assert!(server.is_ready());
}

#[test]
fn every_route_lets_in_the_people_whom_the_table_grants_it_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    support::strange::project_with_token(folder.path());
    let server = Server::serve(folder.path());
    let people = "/api/v1/projects/default/people";
    let doors = doors(&server);
    for (role, granted) in ROLES.iter().chain(&[("admin", &[] as &[&str])]) {
        let body = json!({"email": format!("{role}@example.com"), "name": role, "roles": [role]});
        let invited = server.admin("POST", people, &[], &body);
        let session = Session::by_link(&server, &invited);
        for door in &doors {
            let name = format!("{} {} as {role}", door.method, door.path);
            let Some(permission) = &door.permission else {
                continue;
            };
            let status = door.knock(&server, &session.headers(ORIGIN)).status;
            if *role == "admin" || granted.contains(&permission.as_str()) {
                assert!(![401, 403].contains(&status), "{name}: {status}");
            } else {
                assert_eq!(status, 403, "{name}");
            }
            if door.method != "GET" {
                let foreign = session.headers("https://evil.example");
                assert_eq!(
                    door.knock(&server, &foreign).status,
                    403,
                    "{name}, elsewhere"
                );
            }
            if door.path.contains("{project}") {
                let path = door.address().replacen("/default/", "/strange/", 1);
                let headers = session.headers(ORIGIN);
                let answer = wire::status_of(server.address, &door.method, &path, &headers, b"");
                assert_eq!(answer.status, 403, "{name} in another project");
            }
        }
    }
    assert!(server.is_ready());
}

#[test]
fn a_token_without_a_project_in_the_path_acts_in_its_own_project_only() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = support::strange::project_with_token(folder.path());
    let server = Server::serve(folder.path());
    server.create_flag("secret-plan", &plan_flag());
    let one = server.with_token(
        &stranger,
        "POST",
        "/ofrep/v1/evaluate/flags/secret-plan",
        &json!({}),
    );
    assert_eq!(one.json()["errorCode"], "FLAG_NOT_FOUND", "{one}");
    for (method, path) in [
        ("POST", "/ofrep/v1/evaluate/flags"),
        ("POST", "/flagd.evaluation.v1.Service/ResolveAll"),
        ("GET", "/openfeature/v0/manifest"),
        ("GET", "/status"),
    ] {
        let body = if method == "POST" {
            json!({})
        } else {
            Value::Null
        };
        let answer = server.with_token(&stranger, method, path, &body);
        assert_eq!(answer.status, 200, "{path}: {answer}");
        assert!(
            !answer.to_string().contains("secret-plan"),
            "{path}: {answer}"
        );
    }
}

#[test]
fn public_routes_say_nothing_about_any_flag() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    server.create_flag("secret-plan", &plan_flag());
    for door in doors(&server)
        .iter()
        .filter(|door| door.permission.is_none())
    {
        let headers = [("content-type", "application/json")];
        let body: &[u8] = if door.body_limit > 0 { b"{}" } else { b"" };
        let answer = wire::request(
            server.address,
            &door.method,
            &door.address(),
            &headers,
            body,
        );
        assert!(answer.status < 500, "{}: {answer}", door.path);
        assert!(
            !answer.to_string().contains("secret-plan"),
            "{}: {answer}",
            door.path
        );
    }
}

#[test]
fn a_browser_token_sees_values_and_never_a_rule() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let mut flag = plan_flag();
    flag["targeting"] = json!({"if": [{"in": [{"var": "email"}, ["ceo@customer.example"]]}, "on"]});
    flag["description"] = json!("the takeover of our rival");
    assert_eq!(server.create_flag("dark", &flag).status, 201);
    let browser = server.mint("browser");
    let context = json!({"context": {"targetingKey": "u"}});
    for path in [
        "/ofrep/v1/evaluate/flags/dark",
        "/ofrep/v1/evaluate/flags",
        "/flagd.evaluation.v1.Service/ResolveAll",
    ] {
        let answer = server.with_token(&browser, "POST", path, &context);
        assert_eq!(answer.status, 200, "{path}: {answer}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(
            text.contains("off") && text.contains("false"),
            "{path}: {text}"
        );
        assert!(
            !text.contains("ceo@") && !text.contains("takeover"),
            "{path}: {text}"
        );
    }
    let sync = "/flagd.sync.v1.FlagSyncService/FetchAllFlags";
    let refused = server.with_token(&browser, "POST", sync, &json!({}));
    assert!(!refused.to_string().contains("ceo@"), "{refused}");
}

#[test]
fn a_path_has_one_spelling() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    for path in [
        "//api/v1/projects/default/flags",
        "/api//v1/projects/default/flags",
        "/api/v1/projects/default//flags",
        "/api/v1/../v1/projects/default/flags",
        "/api/v1/./projects/default/flags",
        "/api/v1/projects/default/flags/..%5cdefault",
        "/api/v1/projects/default/flags/a%00b",
        "/api/v1/projects/default%2fflags",
        "/api/v1/projects/..%2f..%2fstatus/flags",
        "/API/v1/projects/default/flags",
        "/api/v1/projects/default/flags/",
    ] {
        for headers in [vec![], vec![("authorization", bearer(ADMIN))]] {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let answer = wire::request(server.address, "GET", path, &headers, b"");
            assert!((400..500).contains(&answer.status), "{path}: {answer}");
        }
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let before = server.resident_kib();
    let authorization = bearer(ADMIN);
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    for door in doors(&server) {
        for length in [door.body_limit + 1, GIB, u64::MAX >> 1] {
            let answer = wire::declare(
                server.address,
                &door.method,
                &door.address(),
                &headers,
                length,
            );
            assert_eq!(
                answer.status,
                door.too_large(),
                "{} of {length} bytes: {answer}",
                door.path
            );
            if door.path.starts_with("/api/") {
                assert_eq!(
                    answer.json()["type"],
                    "/docs/errors#too-large",
                    "{}",
                    door.path
                );
            }
        }
    }
    assert!(server.is_ready());
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < ROOM_KIB, "{grown} KiB more");
}

#[test]
fn a_body_without_end_is_cut_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let before = server.resident_kib();
    let authorization = bearer(ADMIN);
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    // What the sockets between us hold comes on top of the limit.
    let sockets = 16 << 20;
    for door in doors(&server).iter().filter(|door| door.body_limit > 0) {
        let (taken, answer) =
            wire::stream_body(server.address, &door.method, &door.address(), &headers, GIB);
        assert!(
            taken < door.body_limit + sockets,
            "{} took {taken} bytes",
            door.path
        );
        // Hanging up may take the answer with it; 404 and 415 come before the body is wanted.
        if let Some(answer) = answer.filter(|answer| ![404, 415].contains(&answer.status)) {
            assert_eq!(answer.status, door.too_large(), "{}: {answer}", door.path);
            let is_named = answer.to_string().contains(&door.body_limit.to_string());
            assert!(
                is_named || !door.path.starts_with("/api/"),
                "{}: {answer}",
                door.path
            );
        }
    }
    assert!(server.is_ready());
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < ROOM_KIB, "{grown} KiB more");
}

/// Doors that read JSON, with a body in which `HERE` is an ordinary value.
fn readers() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        (
            "PUT",
            "/api/v1/projects/default/flags/new",
            r#"{"state":"ENABLED","variants":{"on":HERE}}"#,
        ),
        (
            "POST",
            "/api/v1/projects/default/flags",
            r#"{"key":"new","spec":HERE}"#,
        ),
        (
            "PUT",
            "/api/v1/projects/default/segments/new",
            r#"{"when":HERE}"#,
        ),
        (
            "POST",
            "/api/v1/projects/default/flags/good/kill",
            r#"{"reason":HERE}"#,
        ),
        (
            "POST",
            "/api/v1/projects/default/flags/good/evaluate",
            r#"{"context":{"a":HERE}}"#,
        ),
        (
            "POST",
            "/api/v1/projects/default/tokens",
            r#"{"name":"n","kind":"ci","x":HERE}"#,
        ),
        (
            "POST",
            "/api/v1/projects/default/changes",
            r#"{"changes":[{"kind":"flag","key":"new","spec":HERE}]}"#,
        ),
        (
            "POST",
            "/api/v1/projects/default/people",
            r#"{"email":"a@b.c","name":"A","roles":["viewer"],"x":HERE}"#,
        ),
        (
            "POST",
            "/api/v1/events",
            r#"[{"time":"2026-09-01T00:00:00Z","unit":"u","kind":"track","name":"n","properties":{"p":HERE}}]"#,
        ),
        (
            "POST",
            "/ofrep/v1/evaluate/flags/good",
            r#"{"context":{"a":HERE}}"#,
        ),
        (
            "POST",
            "/ofrep/v1/evaluate/flags",
            r#"{"context":{"a":HERE}}"#,
        ),
        (
            "POST",
            "/openfeature/v0/manifest/flags",
            r#"{"key":"new","type":"object","defaultValue":HERE}"#,
        ),
        (
            "POST",
            "/flagd.evaluation.v1.Service/ResolveBoolean",
            r#"{"flagKey":"good","context":{"a":HERE}}"#,
        ),
    ]
}

/// Values that no reader may take, each with words of which the refusal must use one: they name
/// the place or the rule.
fn poisons() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let keys: Vec<String> = (0..1_000_000)
        .map(|index| format!("\"k{index}\":0"))
        .collect();
    vec![
        (
            "10,000 levels",
            deep.into_bytes(),
            &["nest", "deep", "level", "recursion"],
        ),
        (
            "invalid UTF-8",
            b"\"\xff\xfe\"".to_vec(),
            &["UTF-8", "utf-8", "unicode"],
        ),
        (
            "a key twice",
            br#"{"twice":1,"twice":2}"#.to_vec(),
            &["twice"],
        ),
        ("NaN", b"NaN".to_vec(), &["column", "expected", "line"]),
        (
            "half a document",
            b"{\"a\":".to_vec(),
            &["column", "expected", "line", "EOF"],
        ),
        (
            "1 M keys",
            format!("{{{}}}", keys.join(",")).into_bytes(),
            &["bytes", "large", "many", "keys", "items"],
        ),
    ]
}

#[test]
fn poisoned_json_is_refused_with_its_place_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    assert_eq!(server.create_flag("good", &plan_flag()).status, 201);
    let before = server.resident_kib();
    let authorization = bearer(ADMIN);
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("connect-protocol-version", "1"),
    ];
    let mut wrong = Vec::new();
    for (method, path, template) in readers() {
        let (start, end) = template.split_once("HERE").unwrap();
        for (what, poison, words) in poisons() {
            let body = [start.as_bytes(), &poison, end.as_bytes()].concat();
            let answer = wire::request(server.address, method, path, &headers, &body);
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let is_typed = match answer.status {
                413 => true,
                429 => text.contains("resource_exhausted"),
                400 => {
                    text.contains("/properties/p") || words.iter().any(|word| text.contains(word))
                }
                _ => false,
            };
            if !is_typed {
                let shown: String = text.chars().take(200).collect();
                wrong.push(format!(
                    "{method} {path} with {what}: {} {shown}",
                    answer.status
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        server.value_of("good", &json!({"plan": "pro"})),
        json!(true)
    );
    assert!(server.is_ready());
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 2 * ROOM_KIB, "{grown} KiB more");
}

#[test]
fn a_batch_as_large_as_the_limit_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let row = |index: usize| {
        format!(
            r#"{{"time":"2026-09-01T00:00:00Z","unit":"u{index}","kind":"track","name":"seen","properties":{{"pad":"{}"}}}}"#,
            "x".repeat(200)
        )
    };
    let body = (0..12_000).map(row).collect::<Vec<_>>().join("\n");
    assert!(body.len() > 3 << 20);
    let authorization = bearer(ADMIN);
    let headers = [("authorization", authorization.as_str())];
    let answer = wire::request(
        server.address,
        "POST",
        "/api/v1/events",
        &headers,
        body.as_bytes(),
    );
    assert_eq!(
        (answer.status, &answer.json()["accepted"]),
        (202, &json!(12_000)),
        "{answer}"
    );
}
