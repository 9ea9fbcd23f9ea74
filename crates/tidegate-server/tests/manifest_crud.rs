//! The OpenFeature manifest API, as code generators use it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use serde_json::{Value, json};
use support::{ADMIN, Server, Settings, flags, json as call, send};

const ALL: &str = "/openfeature/v0/manifest";
const FLAGS: &str = "/openfeature/v0/manifest/flags";

async fn server() -> Server {
    Server::with(Settings {
        keeps_state: true,
        ..Settings::default()
    })
    .await
}

fn flag(key: &str) -> Value {
    json!({"key": key, "type": "boolean", "defaultValue": false, "description": "why"})
}

#[tokio::test]
async fn a_flag_is_created_read_changed_and_archived() {
    let server = server().await;
    let one = format!("{FLAGS}/search");
    let (status, said) = call(server.address, "POST", FLAGS, &[], &flag("search")).await;
    assert_eq!(status, 201, "{said}");
    assert!(said["updatedAt"].as_str().unwrap().ends_with('Z'));
    let shown = json!({
        "key": "search", "name": "search", "type": "boolean", "description": "why",
        "defaultValue": false
    });
    assert_eq!(said["flag"], shown);

    let change =
        json!({"key": "search", "type": "boolean", "name": "Search", "defaultValue": true});
    let (status, said) = call(server.address, "PUT", &one, &[], &change).await;
    assert_eq!(status, 200, "{said}");
    let (status, said) = call(server.address, "GET", ALL, &[], &Value::Null).await;
    let shown = json!({
        "key": "search", "name": "Search", "type": "boolean", "description": "why",
        "defaultValue": true
    });
    assert_eq!((status, &said), (200, &json!({ "flags": [shown] })));

    let (status, said) = call(server.address, "DELETE", &one, &[], &Value::Null).await;
    assert_eq!(status, 200, "{said}");
    assert!(said["message"].is_string() && said["archivedAt"].is_string());
    let (_, said) = call(server.address, "GET", ALL, &[], &Value::Null).await;
    assert_eq!(said, json!({"flags": []}), "archived flags are not listed");
}

#[tokio::test]
async fn conflicts_and_mistakes_are_told_apart() {
    let server = server().await;
    call(server.address, "POST", FLAGS, &[], &flag("live")).await;
    call(server.address, "POST", FLAGS, &[], &flag("gone")).await;
    call(
        server.address,
        "DELETE",
        &format!("{FLAGS}/gone"),
        &[],
        &Value::Null,
    )
    .await;
    let text = |key: &str| json!({"key": key, "type": "string", "defaultValue": "x"});
    let mut unknown = flag("new");
    unknown["variants"] = json!({});
    let cases = [
        ("POST", FLAGS.to_owned(), flag("live"), 409, "key"),
        ("POST", FLAGS.to_owned(), flag("gone"), 409, "key"),
        ("POST", FLAGS.to_owned(), unknown, 400, "variants"),
        ("POST", FLAGS.to_owned(), json!({"key": "new"}), 400, "type"),
        ("PUT", format!("{FLAGS}/live"), text("live"), 409, "type"),
        ("PUT", format!("{FLAGS}/live"), flag("other"), 400, "key"),
        ("PUT", format!("{FLAGS}/gone"), flag("gone"), 409, "key"),
        ("PUT", format!("{FLAGS}/never"), flag("never"), 404, ""),
        ("DELETE", format!("{FLAGS}/gone"), Value::Null, 409, "key"),
        ("DELETE", format!("{FLAGS}/never"), Value::Null, 404, ""),
    ];
    for (method, path, body, status, field) in cases {
        let (is, said) = call(server.address, method, &path, &[], &body).await;
        assert_eq!(is, status, "{method} {path} {said}");
        let error = &said["error"];
        assert_eq!(error["status"], status);
        assert!(error["message"].is_string());
        let named = error["details"][0]["field"].as_str().unwrap_or_default();
        assert_eq!(named, field, "{method} {path} {said}");
    }
}

#[tokio::test]
async fn answers_say_what_the_token_can_do_and_refusals_are_in_the_manifests_words() {
    let settings = Settings {
        keeps_state: true,
        asks_for_credentials: true,
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str())];
    let answer = send(server.address, "GET", ALL, &headers, "").await;
    assert_eq!(
        answer.headers()["x-manifest-capabilities"],
        "read,write,delete"
    );
    let (status, said) = call(server.address, "GET", ALL, &[], &Value::Null).await;
    assert_eq!((status, &said["error"]["status"]), (401, &json!(401)));
}

#[tokio::test]
async fn a_developers_server_shows_the_manifest_of_its_file_and_writes_none() {
    let text = json!({"flags": flags()}).to_string();
    let clock = std::sync::Arc::new(tidegate_server::clock::SystemClock::start());
    let listen = "127.0.0.1:0".parse().unwrap();
    let running = tidegate_server::dev::start(listen, &text, clock)
        .await
        .unwrap();
    let all = "/openfeature/v0/manifest";
    let response = send(running.address, "GET", all, &[], "").await;
    assert_eq!(response.headers()["x-manifest-capabilities"], "read");
    let (status, manifest) = call(running.address, "GET", all, &[], &Value::Null).await;
    assert_eq!(status, 200);
    let shown = manifest["flags"].as_array().unwrap();
    let plan = shown.iter().find(|flag| flag["key"] == "plan").unwrap();
    assert_eq!(plan["type"], "string");
    assert_eq!(plan["defaultValue"], "none");
    assert_eq!(shown.len(), flags().as_object().unwrap().len());

    let flag = json!({"key": "new", "type": "boolean", "defaultValue": true});
    for (method, path) in [
        ("POST", format!("{all}/flags")),
        ("PUT", format!("{all}/flags/on")),
        ("DELETE", format!("{all}/flags/on")),
    ] {
        let body = if method == "DELETE" {
            &Value::Null
        } else {
            &flag
        };
        let (status, said) = call(running.address, method, &path, &[], body).await;
        assert_eq!(status, 409, "{method}: {said}");
        let message = said["error"]["message"].as_str().unwrap();
        assert!(message.contains("file"), "{message}");
    }
    running.stop(std::time::Duration::from_secs(5)).await;
}
