//! Whatever the framework refuses, on every route there is: said in the words of the protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use support::{Server, Settings, flags, send, within};
use tidegate_server::http::routes::{Dialect, RouteRow, Verb};
use tokio::net::TcpStream;

/// An answer as a client has it.
struct Answer {
    status: u16,
    kind: String,
    allow: Option<String>,
    body: Bytes,
}

impl Answer {
    async fn of(response: hyper::Response<hyper::body::Incoming>) -> Self {
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let (kind, allow) = (header("content-type").unwrap_or_default(), header("allow"));
        let status = response.status().as_u16();
        let body = within(response.into_body().collect()).await.unwrap();
        Self {
            status,
            kind,
            allow,
            body: body.to_bytes(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What is wrong with the form of this refusal in `dialect`; empty if nothing is.
    fn faults(&self, dialect: Dialect) -> Vec<String> {
        let said = self.json();
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let (expected, is_right) = match dialect {
            Dialect::Problem => (
                "a problem document whose type is a section of docs/errors.md",
                self.kind == "application/problem+json"
                    && ["title", "detail"]
                        .iter()
                        .all(|field| is_text(&said[*field]))
                    && said["status"] == self.status
                    && said["type"].as_str().is_some_and(is_documented),
            ),
            Dialect::Ofrep => (
                "errorCode and errorDetails, or nothing to 401 and 403",
                match self.status {
                    401 | 403 => self.body.is_empty(),
                    _ => {
                        self.kind == "application/json"
                            && is_text(&said["errorCode"])
                            && is_text(&said["errorDetails"])
                    }
                },
            ),
            Dialect::Manifest => (
                "an error with message and status",
                is_text(&said["error"]["message"]) && said["error"]["status"] == self.status,
            ),
            Dialect::Rpc => (
                "a code and a message",
                is_text(&said["code"]) && is_text(&said["message"]),
            ),
            Dialect::Otlp => (
                "a google.rpc.Status in the encoding of the request",
                match self.kind.as_str() {
                    "application/json" => said["code"].is_u64() && is_text(&said["message"]),
                    kind => kind == "application/x-protobuf" && !self.body.is_empty(),
                },
            ),
        };
        if is_right {
            return Vec::new();
        }
        let body = String::from_utf8_lossy(&self.body);
        vec![format!(
            "{} with {:?} {body:?} and not {expected}",
            self.status, self.kind
        )]
    }
}

fn is_documented(kind: &str) -> bool {
    const ERRORS: &str = include_str!("../../../docs/errors.md");
    let section = kind.strip_prefix("/docs/errors#");
    section.is_some_and(|section| ERRORS.lines().any(|line| line == format!("## {section}")))
}

async fn ask(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    Answer::of(send(server.address, method, path, headers, body).await).await
}

fn rows(server: &Server) -> Vec<RouteRow> {
    let (_, rows) = tidegate_server::http::router(&server.app);
    assert!(rows.len() > 20);
    rows
}

const fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
        Verb::Delete => "DELETE",
    }
}

/// The row's path with `text` for each of its parameters.
fn with(row: &RouteRow, text: &str) -> String {
    let segments = row.path.split('/').map(|segment| match segment {
        "{method}" if text == "x" => "ResolveBoolean",
        parameter if parameter.starts_with('{') => text,
        word => word,
    });
    segments.collect::<Vec<_>>().join("/")
}

fn kind_of(row: &RouteRow) -> [(&'static str, &'static str); 1] {
    match row.path.starts_with("/sign-in") {
        true => [("content-type", "application/x-www-form-urlencoded")],
        false => [("content-type", "application/json")],
    }
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_on_every_route_that_reads_it() {
    let server = Server::start(flags()).await;
    let mut wrong = Vec::new();
    for row in rows(&server).iter().filter(|row| row.path.contains('{')) {
        let path = with(row, "%ff%fe");
        let answer = ask(&server, method(row.verb), &path, &kind_of(row), "").await;
        let faults = answer.faults(row.dialect);
        wrong.extend(faults.iter().map(|fault| format!("{}: {fault}", row.path)));
        assert_eq!(answer.status, 400, "{} {}", method(row.verb), row.path);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_method_that_a_route_does_not_take_is_refused_with_those_it_takes() {
    let server = Server::start(flags()).await;
    let mut wrong = Vec::new();
    for row in rows(&server) {
        let answer = ask(&server, "PATCH", &with(&row, "x"), &[], "").await;
        assert_eq!(answer.status, 405, "{}", row.path);
        let allow = answer.allow.clone().unwrap_or_default();
        assert!(allow.contains(method(row.verb)), "{}: {allow:?}", row.path);
        let faults = answer.faults(row.dialect);
        wrong.extend(faults.iter().map(|fault| format!("{}: {fault}", row.path)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_path_where_nothing_lives_is_refused_in_the_words_spoken_there() {
    let server = Server::start(flags()).await;
    let json = [("content-type", "application/json")];
    for (path, dialect) in [
        ("/nothing", Dialect::Problem),
        ("/api/v2/projects", Dialect::Problem),
        ("/ofrep/v2/evaluate/flags", Dialect::Ofrep),
        ("/openfeature/v9/manifest", Dialect::Manifest),
        ("/flagd.evaluation.v9.Service/ResolveBoolean", Dialect::Rpc),
    ] {
        let answer = ask(&server, "POST", path, &json, "{}").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.faults(dialect), Vec::<String>::new(), "{path}");
    }
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let path = "/grpc.health.v1.Health/Check";
    let response = send(server.address, "POST", path, &grpc, &b"\0\0\0\0\0"[..]).await;
    assert_eq!(response.status(), 200, "gRPC says it in its own status");
    assert_eq!(response.headers()["grpc-status"], "12");
}

#[tokio::test]
async fn every_violation_of_a_query_is_named_at_once() {
    let server = Server::start(flags()).await;
    for path in [
        "/api/v1/projects/default/flags",
        "/api/v1/projects/default/audit",
    ] {
        let query = "after=1&after=2&limit=many&nonsense=1";
        let answer = ask(&server, "GET", &format!("{path}?{query}"), &[], "").await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.faults(Dialect::Problem), Vec::<String>::new());
        let said = answer.json();
        let pointers: Vec<&str> = said["violations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|violation| violation["pointer"].as_str().unwrap())
            .collect();
        let expected = ["/query/after", "/query/limit", "/query/nonsense"];
        assert_eq!(pointers, expected, "{path}");
    }
    let reason = ask(
        &server,
        "PUT",
        "/api/v1/projects/default/flags/new?raeson=typo",
        &[],
        "{}",
    );
    assert_eq!(
        reason.await.json()["violations"][0]["pointer"],
        "/query/raeson"
    );
    let later = "/ofrep/v1/evaluate/flags?flagConfigLastModified=1&later=2";
    let answer = ask(&server, "POST", later, &[], "{}").await;
    assert_eq!(answer.status, 200, "OFREP clients may know more than we do");
}

#[tokio::test]
async fn a_form_that_does_not_fit_is_a_problem() {
    let server = Server::start(flags()).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let json = [("content-type", "application/json")];
    for (headers, body, status) in [
        (&form, "address=only", 400),
        (&form, "address=%ff&password=x&address=twice", 400),
        (&json, "{}", 415),
    ] {
        let answer = ask(&server, "POST", "/sign-in", headers, body).await;
        assert_eq!(answer.status, status, "{body}");
        assert_eq!(
            answer.faults(Dialect::Problem),
            Vec::<String>::new(),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused_with_the_kinds_that_are_read() {
    let server = Server::start(flags()).await;
    let text = [("content-type", "text/plain")];
    for path in [
        "/flagd.evaluation.v1.Service/ResolveBoolean",
        "/flagd.evaluation.v2.Service/EventStream",
        "/flagd.sync.v1.FlagSyncService/FetchAllFlags",
    ] {
        let response = send(server.address, "POST", path, &text, "{}").await;
        assert!(response.headers().contains_key("accept-post"), "{path}");
        let answer = Answer::of(response).await;
        assert_eq!(answer.status, 415, "{path}");
        assert_eq!(answer.faults(Dialect::Rpc), Vec::<String>::new(), "{path}");
    }
}

/// Sends a body without saying how long it is.
async fn chunked(server: &Server, row: &RouteRow, bytes: usize) -> Option<Answer> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let [(name, kind)] = kind_of(row);
    let chunk = Bytes::from(vec![b' '; 64 * 1024]);
    let chunks = (0..bytes.div_ceil(chunk.len()))
        .map(move |_| Ok::<_, std::convert::Infallible>(Frame::data(chunk.clone())));
    let request = hyper::Request::builder()
        .method(method(row.verb))
        .uri(with(row, "x"))
        .header("host", server.address.to_string())
        .header(name, kind)
        .body(StreamBody::new(stream::iter(chunks)))
        .unwrap();
    // A server that hangs up while it is still sent to may take its answer with it.
    let response = within(sender.send_request(request)).await.ok()?;
    Some(Answer::of(response).await)
}

#[tokio::test]
async fn a_body_that_proves_too_large_while_it_is_read_is_refused_like_one_that_said_so() {
    let server = Server::start(flags()).await;
    let (mut answered, mut wrong) = (Vec::new(), Vec::new());
    for row in rows(&server).iter().filter(|row| row.body_limit > 0) {
        let Some(answer) = chunked(&server, row, row.body_limit + 128 * 1024).await else {
            continue;
        };
        // What does not exist, is of another kind or cannot be done now is said without the body.
        if [404, 415, 503].contains(&answer.status) {
            continue;
        }
        answered.push(row.dialect);
        let expected = if row.dialect == Dialect::Rpc {
            429
        } else {
            413
        };
        assert_eq!(answer.status, expected, "{}", row.path);
        let faults = answer.faults(row.dialect);
        wrong.extend(faults.iter().map(|fault| format!("{}: {fault}", row.path)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for dialect in [
        Dialect::Problem,
        Dialect::Ofrep,
        Dialect::Manifest,
        Dialect::Rpc,
    ] {
        assert!(answered.contains(&dialect), "{dialect:?} was never heard");
    }
}

/// Of a project whose files nobody has opened yet, which a report waits for.
#[tokio::test]
async fn a_report_that_takes_too_long_is_given_up_with_the_cure() {
    let server = Server::with(Settings {
        report_limit: std::time::Duration::ZERO,
        ..Settings::default()
    })
    .await;
    let path = "/api/v1/projects/default/reports/retention";
    let asked = support::json(server.address, "GET", path, &[], &Value::Null);
    let (status, refused) = asked.await;
    assert_eq!(status, 503, "{refused}");
    let detail = refused["detail"].as_str().unwrap();
    for cure in ["fewer days", "report_seconds"] {
        assert!(detail.contains(cure), "{detail}");
    }
}
