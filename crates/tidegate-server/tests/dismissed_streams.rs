//! A token that is not let in any more ends the streams that it opened, whatever they speak.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so; another process needs a clock and settings"
)]

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use support::{ADMIN, Server, Settings, flags, json as call, send, within};
use tidegate_server::access::{AccessBook, BookEntry, Role};
use tidegate_server::grpc::proto::{evaluation_v1 as v1, evaluation_v2 as v2, sync_v1};
use tidegate_store::MintedCredential;
use tonic::{Code, Request, Status, Streaming};

/// How soon a stream has to end.
const SOON: Duration = Duration::from_secs(1);

/// A server with one token of kind `server`, of which the book says what a test wants.
struct Shop {
    server: Server,
    selector: String,
    entry: BookEntry,
    bearer: String,
}

impl Shop {
    async fn open() -> Self {
        let server = Server::with(Settings {
            flags: flags(),
            asks_for_credentials: true,
            keeps_state: true,
            ..Settings::default()
        })
        .await;
        let minted = MintedCredential::mint("server").unwrap();
        let shop = Self {
            server,
            selector: minted.selector,
            entry: BookEntry {
                hash: minted.hash,
                project: "default".to_owned(),
                role: Role::Server,
                expires_at_us: None,
                disabled: false,
            },
            bearer: format!("Bearer {}", minted.text.expose()),
        };
        shop.write(Some(shop.entry.clone()));
        shop
    }

    /// Swaps the token book, as the reconciler does when storage says something else.
    fn write(&self, entry: Option<BookEntry>) {
        let entries: HashMap<_, _> = entry
            .map(|entry| (self.selector.clone(), entry))
            .into_iter()
            .collect();
        let book = AccessBook::new(entries, Some(AccessBook::bootstrap_entry(ADMIN)));
        self.server.app.access.store(book.into());
        self.server.app.streams.book_changed();
    }

    fn disable(&self) {
        self.write(Some(BookEntry {
            disabled: true,
            ..self.entry.clone()
        }));
    }

    fn with_token<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = self.bearer.parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// One stream of every kind, each of which has said something already.
    async fn streams(&self) -> Streams {
        let channel = self.server.channel().await;
        let mut one = v1::service_client::ServiceClient::new(channel.clone());
        let mut two = v2::service_client::ServiceClient::new(channel.clone());
        let mut sync = sync_v1::flag_sync_service_client::FlagSyncServiceClient::new(channel);
        let request = self.with_token(v1::EventStreamRequest {});
        let mut v1 = one.event_stream(request).await.unwrap().into_inner();
        assert!(within(v1.message()).await.unwrap().is_some());
        let request = self.with_token(v2::EventStreamRequest {});
        let mut v2 = two.event_stream(request).await.unwrap().into_inner();
        assert!(within(v2.message()).await.unwrap().is_some());
        let request = self.with_token(sync_v1::SyncFlagsRequest::default());
        let mut sync = sync.sync_flags(request).await.unwrap().into_inner();
        assert!(within(sync.message()).await.unwrap().is_some());
        let bearer = ("authorization", self.bearer.as_str());
        let address = self.server.address;
        let by_token = send(address, "GET", "/ofrep/v1/events", &[bearer], "").await;
        let (_, bulk) = call(
            address,
            "POST",
            "/ofrep/v1/evaluate/flags",
            &[bearer],
            &json!({}),
        )
        .await;
        let uri = bulk["eventStreams"][0]["endpoint"]["requestUri"]
            .as_str()
            .unwrap();
        let by_ticket = send(address, "GET", uri, &[], "").await;
        let connect = send(
            address,
            "POST",
            "/flagd.evaluation.v1.Service/EventStream",
            &[bearer, ("content-type", "application/connect+json")],
            &b"\0\0\0\0\x02{}"[..],
        )
        .await;
        let mut plain = Vec::new();
        for response in [by_token, by_ticket, connect] {
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            within(body.frame()).await.unwrap().unwrap();
            plain.push(body);
        }
        assert_eq!(self.server.app.streams.clients.len(), 6);
        Streams {
            v1,
            v2,
            sync,
            plain,
        }
    }
}

struct Streams {
    v1: Streaming<v1::EventStreamResponse>,
    v2: Streaming<v2::EventStreamResponse>,
    sync: Streaming<sync_v1::SyncFlagsResponse>,
    /// OFREP by token, OFREP by ticket, Connect.
    plain: Vec<Incoming>,
}

async fn end<T>(stream: &mut Streaming<T>) -> Status {
    within(stream.message())
        .await
        .err()
        .expect("it ends with a status")
}

async fn rest(body: &mut Incoming) -> String {
    let mut text = Vec::new();
    while let Some(frame) = within(body.frame()).await {
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// All six streams end, each as its protocol ends, and take no place any more.
async fn all_end(shop: &Shop, mut streams: Streams) {
    assert_eq!(end(&mut streams.v1).await.code(), Code::Unauthenticated);
    assert_eq!(end(&mut streams.v2).await.code(), Code::Unauthenticated);
    assert_eq!(end(&mut streams.sync).await.code(), Code::Unauthenticated);
    let [by_token, by_ticket, connect] = &mut streams.plain[..] else {
        panic!("three plain streams")
    };
    assert_eq!(rest(by_token).await, "");
    assert_eq!(rest(by_ticket).await, "");
    let last = rest(connect).await;
    assert!(last.contains("unauthenticated"), "{last}");
    drop(streams);
    within(async {
        while !shop.server.app.streams.clients.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn disabling_a_token_ends_its_streams_at_once() {
    let shop = Shop::open().await;
    let streams = shop.streams().await;
    let disabled = Instant::now();
    shop.disable();
    all_end(&shop, streams).await;
    assert!(disabled.elapsed() < SOON, "{:?}", disabled.elapsed());
}

#[tokio::test]
async fn revoking_a_token_ends_its_streams_at_once() {
    let shop = Shop::open().await;
    let streams = shop.streams().await;
    let revoked = Instant::now();
    shop.write(None);
    all_end(&shop, streams).await;
    assert!(revoked.elapsed() < SOON, "{:?}", revoked.elapsed());
}

#[tokio::test]
async fn a_token_that_expires_ends_its_streams_when_it_does() {
    let shop = Shop::open().await;
    let streams = shop.streams().await;
    let left = Duration::from_millis(300);
    let opened = Instant::now();
    let left_us = i64::try_from(left.as_micros()).unwrap();
    shop.write(Some(BookEntry {
        expires_at_us: Some(shop.server.app.clock.now_us() + left_us),
        ..shop.entry.clone()
    }));
    all_end(&shop, streams).await;
    let elapsed = opened.elapsed();
    assert!(elapsed >= left, "not before: {elapsed:?}");
    assert!(elapsed < left + SOON, "and not long after: {elapsed:?}");
}

#[tokio::test]
async fn the_streams_of_others_go_on_and_a_change_behind_the_disabling_is_not_told() {
    let shop = Shop::open().await;
    let streams = shop.streams().await;
    let admin = format!("Bearer {ADMIN}");
    let headers = [("authorization", admin.as_str())];
    let other = send(shop.server.address, "GET", "/ofrep/v1/events", &headers, "").await;
    let mut other = other.into_body();
    within(other.frame()).await.unwrap().unwrap();
    shop.disable();
    let mut changed = flags();
    changed["on"]["defaultVariant"] = json!("off");
    shop.server.serve(changed);
    let frame = within(other.frame()).await.unwrap().unwrap();
    let told = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
    assert!(told.contains("refetchEvaluation"), "{told}");
    drop(other);
    // Neither a change nor anything else comes before the end.
    all_end(&shop, streams).await;
}

#[tokio::test]
async fn disabling_through_the_api_ends_streams_too() {
    let asks_for_credentials = true;
    let server = Server::with(Settings {
        flags: flags(),
        asks_for_credentials,
        keeps_state: true,
        ..Settings::default()
    })
    .await;
    let admin = format!("Bearer {ADMIN}");
    let admin = [("authorization", admin.as_str())];
    let tokens = "/api/v1/projects/default/tokens";
    let wanted = json!({"name": "shop", "kind": "browser"});
    let (status, minted) = call(server.address, "POST", tokens, &admin, &wanted).await;
    assert_eq!(status, 201, "{minted}");
    let bearer = format!("Bearer {}", minted["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let events = send(server.address, "GET", "/ofrep/v1/events", &headers, "").await;
    let mut events = events.into_body();
    within(events.frame()).await.unwrap().unwrap();
    let selector = minted["record"]["selector"].as_str().unwrap();
    let path = format!("{tokens}/{selector}");
    let (status, _) = call(server.address, "DELETE", &path, &admin, &Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(rest(&mut events).await, "");
    let again = send(server.address, "GET", "/ofrep/v1/events", &headers, "").await;
    assert_eq!(again.status(), 401);
}
