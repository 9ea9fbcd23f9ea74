//! Who is let in by which port, over every protocol of this edge.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use serde_json::json;
use support::{ADMIN, Server, Settings, channel, flags, json as call, send};
use tidegate_server::grpc::proto::evaluation_v2::{ResolveBooleanRequest, service_client};
use tidegate_server::grpc::proto::sync_v1::{FetchAllFlagsRequest, flag_sync_service_client};
use tonic::{Code, Request};

async fn guarded() -> Server {
    let asks_for_credentials = true;
    Server::with(Settings {
        flags: flags(),
        asks_for_credentials,
        ..Settings::default()
    })
    .await
}

fn with_token<T>(message: T, authorization: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = authorization {
        request
            .metadata_mut()
            .insert("authorization", value.parse().unwrap());
    }
    request
}

fn asked() -> ResolveBooleanRequest {
    ResolveBooleanRequest {
        flag_key: "on".to_owned(),
        context: None,
    }
}

#[tokio::test]
async fn the_main_port_asks_every_protocol_for_a_credential() {
    let server = guarded().await;
    let mut evaluation = service_client::ServiceClient::new(server.channel().await);
    let mut sync = flag_sync_service_client::FlagSyncServiceClient::new(server.channel().await);
    let bearer = format!("Bearer {ADMIN}");
    let cases = [
        (None, Err(Code::Unauthenticated)),
        (Some("Bearer garbage"), Err(Code::Unauthenticated)),
        (Some(ADMIN), Err(Code::Unauthenticated)),
        (Some(bearer.as_str()), Ok(())),
    ];
    for (authorization, expected) in cases {
        let answer = evaluation
            .resolve_boolean(with_token(asked(), authorization))
            .await;
        assert_eq!(answer.map(drop).map_err(|status| status.code()), expected);
        let asked = with_token(FetchAllFlagsRequest::default(), authorization);
        let answer = sync.fetch_all_flags(asked).await;
        assert_eq!(answer.map(drop).map_err(|status| status.code()), expected);
    }
    let path = "/flagd.evaluation.v1.Service/ResolveBoolean";
    let body = json!({"flagKey": "on"});
    let (status, said) = call(server.address, "POST", path, &[], &body).await;
    assert_eq!((status, &said["code"]), (401, &json!("unauthenticated")));
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(
        call(server.address, "POST", path, &headers, &body).await.0,
        200
    );
}

#[tokio::test]
async fn each_flagd_port_serves_its_protocol_without_a_credential_and_nothing_else() {
    let server = guarded().await;
    let [evaluation, sync, ofrep] = server.flagd;
    let mut client = service_client::ServiceClient::new(channel(evaluation).await);
    assert_eq!(
        client
            .resolve_boolean(asked())
            .await
            .unwrap()
            .into_inner()
            .value,
        Some(true)
    );
    let mut client = flag_sync_service_client::FlagSyncServiceClient::new(channel(sync).await);
    assert!(
        client
            .fetch_all_flags(FetchAllFlagsRequest::default())
            .await
            .is_ok()
    );
    let one = "/ofrep/v1/evaluate/flags/on";
    let (status, said) = call(ofrep, "POST", one, &[], &json!({})).await;
    assert_eq!((status, &said["value"]), (200, &json!(true)));

    let connect = "/flagd.evaluation.v1.Service/ResolveBoolean";
    for (port, path) in [
        (evaluation, one),
        (sync, one),
        (sync, connect),
        (ofrep, connect),
        (ofrep, "/status"),
        (ofrep, "/healthz"),
        (evaluation, "/api/v1/projects/default/flags"),
    ] {
        let status = call(port, "POST", path, &[], &json!({"flagKey": "on"}))
            .await
            .0;
        assert_eq!(status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_page_that_points_its_name_at_loopback_is_not_let_in() {
    let server = guarded().await;
    let [evaluation, _, ofrep] = server.flagd;
    let one = "/ofrep/v1/evaluate/flags/on";
    let host = |name: &'static str| [("host", name), ("content-type", "application/json")];
    let port = ofrep.port();
    for name in ["localhost", "127.0.0.1", "[::1]"] {
        let name: &'static str = format!("{name}:{port}").leak();
        assert_eq!(
            send(ofrep, "POST", one, &host(name), "{}").await.status(),
            200,
            "{name}"
        );
    }
    let refused = send(ofrep, "POST", one, &host("evil.example:8016"), "{}").await;
    assert_eq!(refused.status(), 421);
    let connect = "/flagd.evaluation.v1.Service/ResolveAll";
    let refused = send(
        evaluation,
        "POST",
        connect,
        &host("evil.example:8013"),
        "{}",
    )
    .await;
    assert_eq!(refused.status(), 421);
}
