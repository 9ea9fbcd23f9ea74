//! The event stream of the evaluation service.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so; another process needs a clock and settings"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Server, Settings, flags, within};
use tidegate_server::grpc::proto::evaluation_v1::{self as v1, service_client::ServiceClient};
use tidegate_server::grpc::structs::{self, StructLimits};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Streaming};

async fn next(stream: &mut Streaming<v1::EventStreamResponse>) -> Option<(String, Value)> {
    let event = within(stream.message()).await.unwrap()?;
    let limits = StructLimits {
        depth: 8,
        items: 1000,
    };
    let data = event
        .data
        .map(|data| structs::to_json(data, limits).unwrap());
    Some((event.r#type, data.map_or(Value::Null, Value::Object)))
}

async fn open(server: &Server, selector: Option<&str>) -> Streaming<v1::EventStreamResponse> {
    let mut client = ServiceClient::new(server.channel().await);
    let mut request = Request::new(v1::EventStreamRequest {});
    if let Some(selector) = selector {
        request
            .metadata_mut()
            .insert("flagd-selector", selector.parse().unwrap());
    }
    let mut stream = client.event_stream(request).await.unwrap().into_inner();
    assert_eq!(
        next(&mut stream).await,
        Some(("provider_ready".to_owned(), Value::Null))
    );
    stream
}

fn changed(flags: Value) -> Option<(String, Value)> {
    Some(("configuration_change".to_owned(), json!({ "flags": flags })))
}

#[tokio::test]
async fn real_differences_are_announced_and_nothing_else() {
    let server = Server::start(flags()).await;
    let mut stream = open(&server, None).await;
    server.serve(flags());
    let mut next_flags = flags();
    next_flags["on"]["defaultVariant"] = json!("off");
    next_flags["new"] = next_flags["on"].clone();
    next_flags.as_object_mut().unwrap().remove("plan");
    server.serve(next_flags);
    let expected = changed(json!({
        "new": {"type": "create"}, "on": {"type": "update"}, "plan": {"type": "delete"}
    }));
    assert_eq!(
        next(&mut stream).await,
        expected,
        "the first, unchanged set was not announced"
    );
}

#[tokio::test]
async fn a_selection_hears_of_its_own_flags_only() {
    let server = Server::start(flags()).await;
    let mut other = open(&server, Some("flagSetId=other")).await;
    let mut next_flags = flags();
    next_flags["on"]["defaultVariant"] = json!("off");
    server.serve(next_flags.clone());
    // A flag moves into the selection, and the one that was there leaves it.
    next_flags["on"]["metadata"] = json!({"flagSetId": "other"});
    next_flags["elsewhere"]["metadata"] = json!({});
    server.serve(next_flags);
    let expected = changed(json!({"elsewhere": {"type": "delete"}, "on": {"type": "create"}}));
    assert_eq!(next(&mut other).await, expected);
}

#[tokio::test]
async fn an_idle_stream_says_that_it_lives() {
    let keep_alive = Duration::from_millis(30);
    let server = Server::with(Settings {
        flags: flags(),
        keep_alive,
        ..Settings::default()
    })
    .await;
    let mut stream = open(&server, None).await;
    for _ in 0..3 {
        assert_eq!(
            next(&mut stream).await,
            Some(("keep_alive".to_owned(), Value::Null))
        );
    }
}

#[tokio::test]
async fn a_server_that_drains_says_goodbye_and_cuts_nobody() {
    let server = Server::start(flags()).await;
    let mut stream = open(&server, None).await;
    let stopping = tokio::spawn(server.stop());
    assert_eq!(
        next(&mut stream).await,
        Some(("provider_shutdown".to_owned(), Value::Null))
    );
    assert_eq!(next(&mut stream).await, None);
    drop(stream);
    assert_eq!(within(stopping).await.unwrap().cut, 0);
}

#[tokio::test]
async fn the_clients_deadline_ends_the_stream() {
    let server = Server::start(flags()).await;
    let mut client = ServiceClient::new(server.channel().await);
    let mut request = Request::new(v1::EventStreamRequest {});
    request
        .metadata_mut()
        .insert("grpc-timeout", "30m".parse().unwrap());
    let mut stream = client.event_stream(request).await.unwrap().into_inner();
    assert!(next(&mut stream).await.is_some());
    let ended = within(stream.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::DeadlineExceeded);
}

/// Pings as close as they come for a moment; for as long as `TIDEGATE_SOAK_SECONDS` says, at the
/// pace of the most eager provider, in the long run of `make nightly`.
#[tokio::test]
async fn frequent_pings_do_not_end_a_stream() {
    let soak = std::env::var("TIDEGATE_SOAK_SECONDS").ok();
    let (pings, lives) = match soak.map(|seconds| seconds.parse().unwrap()) {
        Some(seconds) => (Duration::from_secs(10), Duration::from_secs(seconds)),
        None => (Duration::from_millis(5), Duration::from_millis(500)),
    };
    let keep_alive = Duration::from_millis(100);
    let server = Server::with(Settings {
        flags: flags(),
        keep_alive,
        ..Settings::default()
    })
    .await;
    let channel = Endpoint::from_shared(format!("http://{}", server.address))
        .unwrap()
        .http2_keep_alive_interval(pings)
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect()
        .await
        .unwrap();
    let mut client = ServiceClient::new(channel);
    let mut stream = client
        .event_stream(v1::EventStreamRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(next(&mut stream).await.unwrap().0, "provider_ready");
    for _ in 0..lives.as_millis() / keep_alive.as_millis() {
        assert_eq!(next(&mut stream).await.unwrap().0, "keep_alive");
    }
}

#[tokio::test]
async fn streams_are_counted_bounded_and_given_back() {
    let settings = Settings {
        flags: flags(),
        most_streams: 2,
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let first = open(&server, None).await;
    let _second = open(&server, None).await;
    assert_eq!(server.app.streams.clients.len(), 2);
    let mut client = ServiceClient::new(server.channel().await);
    let refused = client
        .event_stream(v1::EventStreamRequest {})
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(first);
    within(async {
        while server.app.streams.clients.len() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    open(&server, None).await;
}
