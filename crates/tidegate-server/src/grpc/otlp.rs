//! OTLP over gRPC: the `Export` method of the three collector services, on the one port.
//!
//! The calls are unary and their answers three fields long, so the frame is read here: that keeps
//! the limit on what comes out of decompression, the shared budget of memory and the reader that
//! builds nothing, which a generated service would not. A refusal carries `RetryInfo` exactly
//! where another try makes sense, because clients go by it.

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::{Code, Status};

use super::is_grpc;
use crate::access::Principal;
use crate::app::App;
use crate::bodies::receive::receive;
use crate::bodies::unpack::Packing;
use crate::http::otlp::{BODY_BYTES, encoding_of, row};
use crate::http::routes::Routes;
use crate::http::sent_at::arrival;
use crate::otlp::answer::{Refusal, rpc_status, success_body};
use crate::otlp::take::{Export, take};
use crate::otlp::{Encoding, Signal};

/// Compressed flag and length.
const PREFIX_BYTES: usize = 5;

/// The routes of the three services.
pub(crate) fn routes(mut routes: Routes) -> Routes {
    const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    for (signal, path, summary) in [
        (Signal::Logs, LOGS, "Export logs, as OTLP over gRPC"),
        (Signal::Traces, TRACES, "Export spans, as OTLP over gRPC"),
        (
            Signal::Metrics,
            METRICS,
            "Export metrics, as OTLP over gRPC",
        ),
    ] {
        let take = move |app: State<App>, sender: Extension<Principal>, request: Request| {
            export(app, sender, signal, request)
        };
        routes = routes.add(row(path, summary), take);
    }
    routes
}

async fn export(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    signal: Signal,
    request: Request,
) -> Response {
    if !is_grpc(request.headers()) {
        let message =
            "this path speaks gRPC; over HTTP export to /v1/logs, /v1/traces, /v1/metrics";
        let refusal = Refusal::for_good(415, Code::InvalidArgument, message);
        let encoding = encoding_of(request.headers()).unwrap_or(Encoding::Json);
        return crate::http::otlp::refused(&refusal, encoding);
    }
    let arrival = arrival(request.headers(), app.clock.now_us());
    let outcome = match export_of(&app, &principal, signal, request).await {
        Ok(export) => take(&app, &principal, export, arrival).await,
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(taken) => answered(&success_body(&taken, signal, Encoding::Protobuf)),
        Err(refusal) => refused(&refusal),
    }
}

/// The one message of a call.
async fn export_of(
    app: &App,
    sender: &Principal,
    signal: Signal,
    request: Request,
) -> Result<Export, Refusal> {
    let (head, body) = request.into_parts();
    let packing = packing_of(&head.headers)?;
    let held = app.events.room.hold(sender.default_project());
    let frame = receive(held, &head.headers, body, BODY_BYTES).await?;
    let (is_packed, message) = message_of(&frame.bytes)?;
    let body = frame.map(|_| message);
    Ok(Export {
        signal,
        encoding: Encoding::Protobuf,
        packing: if is_packed { packing } else { Packing::Plain },
        body,
    })
}

fn packing_of(headers: &HeaderMap) -> Result<Packing, Refusal> {
    let name = headers
        .get("grpc-encoding")
        .map(|value| value.to_str().unwrap_or("?"));
    Packing::named(name).ok_or_else(|| {
        let message = "this grpc-encoding is not understood; use gzip, zstd or identity";
        Refusal::for_good(415, Code::Unimplemented, message)
    })
}

/// Whether the message is packed, and the message.
fn message_of(frame: &Bytes) -> Result<(bool, Bytes), Refusal> {
    let broken = || {
        let message = "a call holds exactly one message, preceded by a flag and its length";
        Refusal::for_good(400, Code::InvalidArgument, message)
    };
    let (prefix, message) = frame
        .split_first_chunk::<PREFIX_BYTES>()
        .ok_or_else(broken)?;
    let [flag, length @ ..] = *prefix;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| broken())?;
    if flag > 1 || length != message.len() {
        return Err(broken());
    }
    Ok((flag == 1, frame.slice(PREFIX_BYTES..)))
}

fn answered(message: &[u8]) -> Response {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    // An answer is a number and at most a few short reasons.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(frame.freeze()).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert(
        "grpc-accept-encoding",
        HeaderValue::from_static("identity,gzip,zstd"),
    );
    response
}

/// A refusal as a gRPC answer.
pub(crate) fn refused(refusal: &Refusal) -> Response {
    let details = Bytes::from(rpc_status(refusal).encode_to_vec());
    let status = Status::with_details(refusal.code, refusal.message.clone(), details);
    let mut response: Response = status.into_http();
    response.headers_mut().insert(
        "grpc-accept-encoding",
        HeaderValue::from_static("identity,gzip,zstd"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_holds_exactly_one_message() {
        let framed = |bytes: &[u8]| message_of(&Bytes::copy_from_slice(bytes));
        assert_eq!(
            framed(&[0, 0, 0, 0, 2, 7, 8]),
            Ok((false, Bytes::from_static(&[7, 8])))
        );
        assert_eq!(framed(&[1, 0, 0, 0, 0]), Ok((true, Bytes::new())));
        let broken: [&[u8]; 5] = [
            &[],
            &[0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 7],
            &[0, 0, 0, 0, 0, 7],
            &[2, 0, 0, 0, 0],
        ];
        for bytes in broken {
            assert_eq!(framed(bytes).unwrap_err().code, Code::InvalidArgument);
        }
    }
}
