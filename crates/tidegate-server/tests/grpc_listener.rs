//! What a connection may cost, whatever protocol it would have spoken.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Server, Settings, flags, json as call, send, within};
use tidegate_server::listener::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn with(limits: Limits) -> Server {
    Server::with(Settings {
        flags: flags(),
        limits,
        ..Settings::default()
    })
    .await
}

/// Whether the server has closed its side, having said nothing.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut said = Vec::new();
    within(stream.read_to_end(&mut said))
        .await
        .map_or(true, |_| said.is_empty())
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_the_place_is_given_back() {
    let server = with(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    within(first.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert!(is_closed(&mut second).await);
    drop(first);
    within(async {
        loop {
            let mut third = TcpStream::connect(server.address).await.unwrap();
            // A connection that is shed may be reset before it can be written to.
            let _ = third
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
                .await;
            if third.read_exact(&mut answer).await.is_ok() {
                break;
            }
        }
    })
    .await;
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let server = with(Limits {
        first_bytes: Duration::from_millis(20),
        ..Limits::default()
    })
    .await;
    for sent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        assert!(is_closed(&mut stream).await, "{sent:?}");
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_closed() {
    let server = with(Limits {
        headers: Duration::from_millis(20),
        ..Limits::default()
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
        .await
        .unwrap();
    let mut said = Vec::new();
    within(stream.read_to_end(&mut said)).await.unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 408"),
        "{said}"
    );
}

#[tokio::test]
async fn large_heads_are_refused_and_the_server_is_none_the_worse() {
    let server = Server::start(flags()).await;
    let large = "x".repeat(60_000);
    let refused = send(
        server.address,
        "GET",
        "/healthz",
        &[("x-large", &large)],
        "",
    )
    .await;
    assert_eq!(refused.status(), 431);
    let path = "/ofrep/v1/evaluate/flags/on";
    assert_eq!(
        call(server.address, "POST", path, &[], &json!({})).await.0,
        200
    );
}

#[tokio::test]
async fn a_request_under_way_is_finished_while_draining_and_a_stuck_one_is_cut() {
    let server = with(Limits {
        drain: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let mut stuck = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /ofrep/v1/evaluate/flags/on HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    stuck.write_all(head.as_bytes()).await.unwrap();
    // Answered after the one before it was accepted, so that it is under way.
    call(
        server.address,
        "POST",
        "/ofrep/v1/evaluate/flags/on",
        &[],
        &json!({}),
    )
    .await;
    assert_eq!(server.stop().await.cut, 1);
    assert!(is_closed(&mut stuck).await);
}
