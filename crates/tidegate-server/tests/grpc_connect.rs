//! The evaluation service over HTTP and JSON, as browsers speak to it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use support::{Server, flags, json as call, send, within};

const V1: &str = "/flagd.evaluation.v1.Service";
const V2: &str = "/flagd.evaluation.v2.Service";

#[tokio::test]
async fn unary_calls_answer_in_protobufs_json() {
    let server = Server::start(flags()).await;
    let ask =
        async |path: String, body: Value| call(server.address, "POST", &path, &[], &body).await;
    let pro = json!({"flagKey": "plan", "context": {"plan": "pro", "targetingKey": "u1"}});
    let (status, said) = ask(format!("{V1}/ResolveString"), pro).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&said["value"], &said["variant"]),
        (&json!("some"), &json!("pro"))
    );
    assert_eq!(said["reason"], "TARGETING_MATCH");
    assert_eq!(said["metadata"]["contextId"], "u1");

    let whole = json!({"flagKey": "whole"});
    let (_, said) = ask(format!("{V1}/ResolveInt"), whole.clone()).await;
    assert_eq!(said["value"], "10", "64-bit integers travel as text");
    let (_, said) = ask(format!("{V2}/ResolveFloat"), whole).await;
    assert_eq!(said["value"], 10.0);

    let disabled = json!({"flagKey": "disabled"});
    let (_, said) = ask(format!("{V1}/ResolveBoolean"), disabled.clone()).await;
    assert_eq!(
        (&said["value"], &said["variant"]),
        (&json!(false), &json!(""))
    );
    let (_, said) = ask(format!("{V2}/ResolveBoolean"), disabled).await;
    assert_eq!((said.get("value"), said.get("variant")), (None, None));
    assert_eq!(said["reason"], "DISABLED");

    let (status, said) = ask(format!("{V1}/ResolveAll"), json!({"context": {}})).await;
    assert_eq!(status, 200);
    assert_eq!(said["flags"]["on"]["boolValue"], true);
    assert_eq!(
        said["flags"]["thing"]["objectValue"],
        json!({"x": [1, 2.5, "y"]})
    );
    assert!(said["flags"].get("disabled").is_none());
}

#[tokio::test]
async fn failures_are_a_status_with_a_code() {
    let server = Server::start(flags()).await;
    let cases = [
        (
            "ResolveBoolean",
            json!({"flagKey": "missing"}),
            404,
            "not_found",
        ),
        (
            "ResolveBoolean",
            json!({"flagKey": "plan"}),
            400,
            "invalid_argument",
        ),
        (
            "ResolveBoolean",
            json!({"flagKey": "on", "context": 5}),
            400,
            "invalid_argument",
        ),
        (
            "ResolveBoolean",
            json!({"flagKey": 5}),
            400,
            "invalid_argument",
        ),
        ("ResolveBoolean", json!([1]), 400, "invalid_argument"),
        ("ResolveNothing", json!({}), 501, "unimplemented"),
    ];
    for (method, body, status, code) in cases {
        let path = format!("{V1}/{method}");
        let answer = call(server.address, "POST", &path, &[], &body).await;
        assert_eq!(
            (answer.0, &answer.1["code"]),
            (status, &json!(code)),
            "{method} {body}"
        );
        assert!(answer.1["message"].is_string());
    }
    let path = format!("{V2}/ResolveAll");
    assert_eq!(
        call(server.address, "POST", &path, &[], &json!({})).await.0,
        501
    );
    let path = format!("{V1}/ResolveBoolean");
    let headers = [("content-type", "text/plain")];
    assert_eq!(
        send(server.address, "POST", &path, &headers, "{}")
            .await
            .status(),
        415
    );
    let headers = [("content-encoding", "gzip")];
    let answer = call(
        server.address,
        "POST",
        &path,
        &headers,
        &json!({"flagKey": "on"}),
    )
    .await;
    assert_eq!(
        (answer.0, &answer.1["code"]),
        (501, &json!("unimplemented"))
    );
}

#[tokio::test]
async fn the_event_stream_is_enveloped_and_ends_with_an_end() {
    let server = Server::start(flags()).await;
    let headers = [("content-type", "application/connect+json")];
    let path = format!("{V1}/EventStream");
    let response = send(
        server.address,
        "POST",
        &path,
        &headers,
        &b"\0\0\0\0\x02{}"[..],
    )
    .await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "application/connect+json"
    );
    let mut body = response.into_body();
    let mut next = async || {
        let frame = within(body.frame())
            .await
            .expect("more")
            .unwrap()
            .into_data()
            .unwrap();
        let length = u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize;
        assert_eq!(frame.len(), 5 + length);
        (
            frame[0],
            serde_json::from_slice::<Value>(&frame[5..]).unwrap(),
        )
    };
    assert_eq!(next().await, (0, json!({"type": "provider_ready"})));
    let mut changed = flags();
    changed["on"]["defaultVariant"] = json!("off");
    server.serve(changed);
    let expected = json!({
        "type": "configuration_change", "data": {"flags": {"on": {"type": "update"}}}
    });
    assert_eq!(next().await, (0, expected));
    let stopping = tokio::spawn(server.stop());
    assert_eq!(next().await, (0, json!({"type": "provider_shutdown"})));
    assert_eq!(next().await, (2, json!({})));
    assert_eq!(within(stopping).await.unwrap().cut, 0);
}
