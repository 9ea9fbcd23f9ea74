//! OFREP's event stream, as web clients follow it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use support::{ADMIN, Server, Settings, flags, json as call, send, within};

const EVENTS: &str = "/ofrep/v1/events";
const ALL: &str = "/ofrep/v1/evaluate/flags";

/// A stream of events, read frame by frame.
struct Events {
    body: Incoming,
    buffer: String,
}

impl Events {
    async fn open(server: &Server, last_event_id: Option<&str>) -> Self {
        let headers: Vec<(&str, &str)> = last_event_id
            .map(|id| ("last-event-id", id))
            .into_iter()
            .collect();
        let response = send(server.address, "GET", EVENTS, &headers, "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body(),
            buffer: String::new(),
        }
    }

    /// The next block of lines; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let block = block.to_owned();
                self.buffer = rest.to_owned();
                return Some(block);
            }
            let frame = within(self.body.frame())
                .await?
                .unwrap()
                .into_data()
                .unwrap();
            self.buffer.push_str(std::str::from_utf8(&frame).unwrap());
        }
    }

    /// The id and data of the next event.
    async fn event(&mut self) -> (String, Value) {
        loop {
            let block = self.block().await.expect("an event");
            if block.contains("data: ") {
                assert!(block.contains("event: message"), "{block}");
                let field = |name: &str| {
                    block
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .unwrap()
                        .to_owned()
                };
                return (
                    field("id: "),
                    serde_json::from_str(&field("data: ")).unwrap(),
                );
            }
        }
    }
}

fn variant(server: &Server, flags: &mut Value, name: &str) {
    flags["on"]["defaultVariant"] = json!(name);
    server.serve(flags.clone());
}

#[tokio::test]
async fn a_client_is_told_to_ask_again_when_it_comes_and_on_each_change() {
    let server = Server::start(flags()).await;
    let mut events = Events::open(&server, None).await;
    assert!(events.block().await.unwrap().starts_with("retry: "));
    let (id, data) = events.event().await;
    assert_eq!(
        (id.as_str(), &data["type"]),
        ("test-0", &json!("refetchEvaluation"))
    );
    let mut served = flags();
    variant(&server, &mut served, "off");
    let (id, data) = events.event().await;
    assert_eq!(id, "test-1");
    let tag = server
        .app
        .live
        .project("default")
        .unwrap()
        .load()
        .config_tag
        .clone();
    assert_eq!(data, json!({"type": "refetchEvaluation", "etag": tag}));
}

#[tokio::test]
async fn a_client_that_returns_is_told_once_of_what_it_missed() {
    for (last_seen, told) in [
        ("test-1", Some("test-3")),
        ("test-3", None),
        ("test-99", Some("test-3")),
        ("another-1", Some("test-3")),
        ("garbage", Some("test-3")),
    ] {
        let server = Server::start(flags()).await;
        let mut served = flags();
        for name in ["off", "on", "off"] {
            variant(&server, &mut served, name);
        }
        let mut events = Events::open(&server, Some(last_seen)).await;
        events.block().await.unwrap();
        if let Some(told) = told {
            assert_eq!(events.event().await.0, told, "{last_seen}");
        }
        variant(&server, &mut served, "on");
        assert_eq!(events.event().await.0, "test-4", "{last_seen}");
    }
}

#[tokio::test]
async fn an_idle_stream_says_that_it_lives() {
    let keep_alive = Duration::from_millis(20);
    let server = Server::with(Settings {
        flags: flags(),
        keep_alive,
        ..Settings::default()
    })
    .await;
    let mut events = Events::open(&server, Some("test-0")).await;
    events.block().await.unwrap();
    for _ in 0..3 {
        assert!(events.block().await.unwrap().starts_with(':'));
    }
}

#[tokio::test]
async fn draining_ends_the_stream() {
    let server = Server::start(flags()).await;
    let mut events = Events::open(&server, Some("test-0")).await;
    events.block().await.unwrap();
    let stopping = tokio::spawn(server.stop());
    assert_eq!(events.block().await, None);
    assert_eq!(within(stopping).await.unwrap().cut, 0);
}

#[tokio::test]
async fn a_ticket_from_a_bulk_answer_opens_the_stream_and_nothing_else() {
    let asks_for_credentials = true;
    let settings = Settings {
        flags: flags(),
        asks_for_credentials,
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let bearer = format!("Bearer {ADMIN}");
    let (status, answer) = call(
        server.address,
        "POST",
        ALL,
        &[("authorization", &bearer)],
        &json!({}),
    )
    .await;
    assert_eq!(status, 200);
    let stream = &answer["eventStreams"][0];
    assert_eq!(
        (&stream["type"], &stream["inactivityDelaySec"]),
        (&json!("sse"), &json!(120))
    );
    let address = stream["endpoint"]["requestUri"].as_str().unwrap();
    assert!(
        !address.contains(ADMIN),
        "the token itself never travels in an address"
    );

    let get = async |path: &str| send(server.address, "GET", path, &[], "").await.status();
    assert_eq!(get(address).await, 200);
    assert_eq!(get(EVENTS).await, 401);
    assert_eq!(get(&format!("{EVENTS}?ticket=garbage")).await, 401);
    assert_eq!(get(&format!("{address}0")).await, 401);
    let query = address.split_once('?').unwrap().1;
    let elsewhere = format!("{ALL}?{query}");
    assert_eq!(
        send(server.address, "POST", &elsewhere, &[], "{}")
            .await
            .status(),
        401
    );
}

#[tokio::test]
async fn a_configuration_that_was_announced_is_waited_for() {
    let server = Server::start(flags()).await;
    let place = server.app.live.project("default").unwrap();
    let mut served = flags();
    let before = place.load().config_tag.clone();
    let ask = async |tag: &str| {
        let path = format!("{ALL}?flagConfigEtag={tag}");
        call(server.address, "POST", &path, &[], &json!({})).await
    };
    assert_eq!(
        ask(&before).await.0,
        200,
        "the current one is answered at once"
    );
    let value_of_on = |answer: &Value| {
        let flags = answer["flags"].as_array().unwrap();
        flags.iter().find(|flag| flag["key"] == "on").unwrap()["value"].clone()
    };
    // Another replica, which has that configuration already.
    let other = Server::start(flags()).await;
    variant(&other, &mut flags(), "off");
    let announced = other
        .app
        .live
        .project("default")
        .unwrap()
        .load()
        .config_tag
        .clone();
    let asked = ask(&announced);
    let arrives = async {
        // The request is there before the configuration is: somebody listens for it.
        within(async {
            while place.changes.listeners() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        variant(&server, &mut served, "off");
    };
    let both = async { tokio::join!(asked, arrives) };
    let (answer, ()) = tokio::time::timeout(Duration::from_millis(1500), both)
        .await
        .expect("answered because it arrived, not because the wait was over");
    assert_eq!(
        value_of_on(&answer.1),
        json!(false),
        "the answer has the announced configuration"
    );
}
