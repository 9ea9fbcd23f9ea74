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
        reserve: 0,
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

#[tokio::test]
async fn a_crowd_keeps_nobody_from_a_stop() {
    let server = with(Limits {
        connections: 2,
        reserve: 2,
        ..Limits::default()
    })
    .await;
    let mut crowd = Vec::new();
    for _ in 0..2 {
        let events = send(server.address, "GET", "/ofrep/v1/events", &[], "").await;
        assert_eq!(events.status(), 200);
        crowd.push(events);
    }
    let evaluate = "/ofrep/v1/evaluate/flags/on";
    let kill = "/api/v1/projects/default/flags/on/kill";
    let why = json!({"reason": "checkout fails"});
    // One after the other: a place of the reserve is given back when its connection ends.
    let (status, said) = call(server.address, "POST", evaluate, &[], &json!({})).await;
    assert_eq!(status, 503, "{said}");
    assert!(said["errorDetails"].as_str().unwrap().contains("stops"));
    let (status, said) = within(async {
        loop {
            // Until the place of the one before is given back.
            let response = try_call(&server, kill, &why).await;
            if let Some(response) = response {
                break response;
            }
        }
    })
    .await;
    assert_ne!(status, 503, "{said}");
    drop(crowd);
    within(async {
        loop {
            let answer = try_call(&server, evaluate, &json!({})).await;
            if answer.is_some_and(|(status, _)| status == 200) {
                break;
            }
        }
    })
    .await;
}

/// As a client that may find the door shut.
async fn try_call(
    server: &Server,
    path: &str,
    body: &serde_json::Value,
) -> Option<(u16, serde_json::Value)> {
    let mut stream = TcpStream::connect(server.address).await.ok()?;
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut said = Vec::new();
    within(stream.read_to_end(&mut said)).await.ok()?;
    let said = String::from_utf8(said).ok()?;
    let status = said.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = said.split_once("\r\n\r\n")?;
    Some((status, serde_json::from_str(body).unwrap_or_default()))
}

#[tokio::test]
async fn pings_without_any_call_under_way_do_not_end_a_connection() {
    let server = Server::start(flags()).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut stream = tokio::io::BufStream::new(stream);
    // The preface, empty settings, and far more pings than one in ten seconds would ever make.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    const PINGS: u64 = 1_000;
    let (mut sent, mut answered) = (0, 0);
    while answered < PINGS {
        if sent < PINGS {
            stream
                .write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0])
                .await
                .unwrap();
            stream.write_all(&u64::to_be_bytes(sent)).await.unwrap();
            sent += 1;
        }
        stream.flush().await.unwrap();
        let mut head = [0; 9];
        within(stream.read_exact(&mut head)).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        within(stream.read_exact(&mut payload)).await.unwrap();
        let (kind, is_answer) = (head[3], head[4] & 1 == 1);
        assert_ne!(kind, 7, "a GOAWAY after {answered} answers: {payload:?}");
        if kind == 6 && is_answer {
            answered += 1;
        }
    }
}
