//! What `/metrics` and `/status` say of evaluations and clients, whatever protocol they speak.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use support::{Server, flags, json as call, send, within};
use tidegate_server::grpc::proto::{evaluation_v1 as v1, evaluation_v2 as v2, sync_v1};

async fn metrics(server: &Server) -> String {
    let response = send(server.address, "GET", "/metrics", &[], "").await;
    let body = within(response.into_body().collect()).await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// The count of evaluations by protocol and reason.
fn counted(page: &str, protocol: &str, reason: &str) -> u64 {
    let series =
        format!("tidegate_evaluations_total{{protocol=\"{protocol}\",reason=\"{reason}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn evaluations_are_counted_by_protocol_and_reason() {
    let server = Server::start(flags()).await;
    let mut one = v1::service_client::ServiceClient::new(server.channel().await);
    let mut two = v2::service_client::ServiceClient::new(server.channel().await);
    let boolean = |key: &str| v1::ResolveBooleanRequest {
        flag_key: key.to_owned(),
        context: None,
    };
    for key in ["on", "on", "disabled", "plan", "missing"] {
        // `plan` is text, so it is an error; `missing` evaluates nothing.
        let _ = one.resolve_boolean(boolean(key)).await;
    }
    let all = v1::ResolveAllRequest::default();
    one.resolve_all(all).await.unwrap();
    let request = v2::ResolveStringRequest {
        flag_key: "plan".to_owned(),
        context: None,
    };
    two.resolve_string(request).await.unwrap();
    let connect = "/flagd.evaluation.v2.Service/ResolveString";
    let body = json!({"flagKey": "plan", "context": {"plan": "pro"}});
    let (status, _) = call(server.address, "POST", connect, &[], &body).await;
    assert_eq!(status, 200);
    let (status, bulk) = call(
        server.address,
        "POST",
        "/ofrep/v1/evaluate/flags",
        &[],
        &json!({}),
    )
    .await;
    assert_eq!(status, 200);

    let page = metrics(&server).await;
    let of_bulk = |reason: &str| {
        let flags = bulk["flags"].as_array().unwrap();
        flags.iter().filter(|flag| flag["reason"] == reason).count() as u64
    };
    let expected = [
        ("flagd.evaluation.v1", "STATIC", 2 + of_bulk("STATIC")),
        ("flagd.evaluation.v1", "DISABLED", 1 + of_bulk("DISABLED")),
        ("flagd.evaluation.v1", "DEFAULT", of_bulk("DEFAULT")),
        ("flagd.evaluation.v1", "ERROR", 1),
        ("flagd.evaluation.v2", "DEFAULT", 1),
        ("connect", "TARGETING_MATCH", 1),
        ("connect", "STATIC", 0),
        ("ofrep", "STATIC", of_bulk("STATIC")),
        ("ofrep", "DISABLED", of_bulk("DISABLED")),
    ];
    for (protocol, reason, count) in expected {
        assert_eq!(
            counted(&page, protocol, reason),
            count,
            "{protocol} {reason}"
        );
    }
}

#[tokio::test]
async fn every_kind_of_stream_is_listed_with_what_it_may_get_wrong() {
    let server = Server::start(flags()).await;
    let channel = server.channel().await;
    let mut one = v1::service_client::ServiceClient::new(channel.clone());
    let mut two = v2::service_client::ServiceClient::new(channel.clone());
    let mut sync = sync_v1::flag_sync_service_client::FlagSyncServiceClient::new(channel);
    let mut v1 = one
        .event_stream(v1::EventStreamRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut v2 = two
        .event_stream(v2::EventStreamRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut set = sync
        .sync_flags(sync_v1::SyncFlagsRequest::default())
        .await
        .unwrap()
        .into_inner();
    within(v1.message()).await.unwrap();
    within(v2.message()).await.unwrap();
    within(set.message()).await.unwrap();
    let events = send(server.address, "GET", "/ofrep/v1/events", &[], "").await;
    let mut events = events.into_body();
    within(events.frame()).await.unwrap().unwrap();
    let headers = [("content-type", "application/connect+json")];
    let connect = send(
        server.address,
        "POST",
        "/flagd.evaluation.v1.Service/EventStream",
        &headers,
        &b"\0\0\0\0\x02{}"[..],
    )
    .await;
    let mut connect = connect.into_body();
    within(connect.frame()).await.unwrap().unwrap();

    let clients = async || {
        let (_, status) = call(server.address, "GET", "/status", &[], &Value::Null).await;
        let clients = status["projects"][0]["clients"].as_array().unwrap().clone();
        let mut listed: Vec<(String, u64, u64)> = clients
            .iter()
            .map(|client| {
                let leakage = &client["leakage"];
                (
                    client["protocol"].as_str().unwrap().to_owned(),
                    client["delivered_version"].as_u64().unwrap(),
                    leakage["flags"].as_u64().unwrap(),
                )
            })
            .collect();
        listed.sort();
        listed
    };
    let all = |version: u64| {
        [
            "connect",
            "flagd.evaluation.v1",
            "flagd.evaluation.v2",
            "flagd.sync.v1",
            "ofrep-sse",
        ]
        .map(|protocol| (protocol.to_owned(), version, 0))
        .to_vec()
    };
    assert_eq!(clients().await, all(1));
    let mut changed = flags();
    changed["on"]["defaultVariant"] = json!("off");
    server.serve(changed);
    within(v1.message()).await.unwrap();
    within(v2.message()).await.unwrap();
    within(set.message()).await.unwrap();
    within(events.frame()).await.unwrap().unwrap();
    within(connect.frame()).await.unwrap().unwrap();
    assert_eq!(clients().await, all(2), "each was told, and leaks nothing");
}
