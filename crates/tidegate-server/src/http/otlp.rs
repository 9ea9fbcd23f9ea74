//! OTLP over HTTP: `POST /v1/{logs,traces,metrics}`, protobuf or JSON, gzip, zstd or plain.
//!
//! The answer is written as the request was; a content type that is neither is answered in JSON.

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tonic::Code;

use super::routes::{Access, Dialect, RouteRow, Routes, Verb};
use super::sent_at::arrival;
use crate::access::{Permission, Principal};
use crate::app::App;
use crate::bodies::receive::receive;
use crate::bodies::unpack::Packing;
use crate::otlp::answer::{Refusal, refusal_body, success_body};
use crate::otlp::take::{Export, take};
use crate::otlp::{Encoding, Signal};

/// The largest export before it is unpacked.
pub(crate) const BODY_BYTES: usize = 16 * 1024 * 1024;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The routes of the three signals.
pub(crate) fn routes(mut routes: Routes) -> Routes {
    for (signal, path, summary) in [
        (Signal::Logs, "/v1/logs", "Export logs, as OTLP"),
        (Signal::Traces, "/v1/traces", "Export spans, as OTLP"),
        (Signal::Metrics, "/v1/metrics", "Export metrics, as OTLP"),
    ] {
        let take = move |app: State<App>, sender: Extension<Principal>, request: Request| {
            export(app, sender, signal, request)
        };
        routes = routes.add(row(path, summary), take);
    }
    routes
}

/// The declaration of a route that takes exports.
pub(crate) const fn row(path: &'static str, summary: &'static str) -> RouteRow {
    RouteRow {
        verb: Verb::Post,
        path,
        access: Access::Needs(Permission::Ingest),
        body_limit: BODY_BYTES,
        dialect: Dialect::Otlp,
        summary,
    }
}

async fn export(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    signal: Signal,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let Some(encoding) = encoding_of(&head.headers) else {
        let message = format!("send {PROTOBUF} or {JSON}");
        let refusal = Refusal::for_good(415, Code::InvalidArgument, message);
        return refused(&refusal, Encoding::Json);
    };
    let packed = text(&head.headers, &CONTENT_ENCODING);
    let Some(packing) = Packing::named(packed) else {
        let message = "this Content-Encoding is not understood; use gzip, zstd or none";
        return refused(
            &Refusal::for_good(415, Code::InvalidArgument, message),
            encoding,
        );
    };
    let held = app.events.room.hold(principal.default_project());
    let export = match receive(held, &head.headers, body, BODY_BYTES).await {
        Ok(body) => Export {
            signal,
            encoding,
            packing,
            body,
        },
        Err(error) => return refused(&error.into(), encoding),
    };
    let arrival = arrival(&head.headers, app.clock.now_us());
    match take(&app, &principal, export, arrival).await {
        Ok(taken) => {
            let body = success_body(&taken, signal, encoding);
            ([(CONTENT_TYPE, content_type(encoding))], body).into_response()
        }
        Err(refusal) => refused(&refusal, encoding),
    }
}

/// A refusal as an HTTP answer.
pub(crate) fn refused(refusal: &Refusal, encoding: Encoding) -> Response {
    let body = refusal_body(refusal, encoding);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(refusal.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(encoding));
    if let Some(seconds) = refusal.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// How a request is written down, if that is known.
pub(crate) fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    let kind = text(headers, &CONTENT_TYPE)?;
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| essence.eq_ignore_ascii_case(known);
    if is(PROTOBUF) {
        return Some(Encoding::Protobuf);
    }
    is(JSON).then_some(Encoding::Json)
}

const fn content_type(encoding: Encoding) -> HeaderValue {
    match encoding {
        Encoding::Protobuf => HeaderValue::from_static(PROTOBUF),
        Encoding::Json => HeaderValue::from_static(JSON),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
