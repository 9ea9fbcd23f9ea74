//! The Connect protocol for the evaluation services: HTTP and JSON where a browser has no gRPC.
//!
//! `POST /flagd.evaluation.v1.Service/ResolveBoolean` with a JSON body is a plain HTTP call: the
//! answer is JSON, an error is a status with `{"code", "message"}`. `EventStream` is a stream of
//! envelopes (one byte of flags, four of length, JSON) in both directions, the last of which ends
//! the stream and carries its error. JSON is protobuf's: camel case, 64-bit integers as text.
//! Compression is neither used nor asked for; a compressed request is refused by name.
//! Whatever is asked is asked of [`crate::grpc::answer`], as over gRPC.

use std::convert::Infallible;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Map, Value, json};
use tidegate_flags::{ErrorCode, parse_context};
use tonic::{Code, Status};

use crate::app::App;
use crate::clients::Protocol;
use crate::grpc::answer::{Answer, Kind, Question, Typed};
use crate::grpc::caller::Caller;
use crate::grpc::evaluation_v1::expressible;
use crate::grpc::events::{self, Notice};
use crate::grpc::{Version, status};
use crate::meters::Asked;

const UNARY: &str = "application/json";
const STREAMING: &str = "application/connect+json";
/// What an endpoint says it takes when it is sent something else.
const ACCEPTED: HeaderValue =
    HeaderValue::from_static("application/json, application/connect+json, application/grpc");
/// The flag of the envelope that ends a stream.
const END: u8 = 0b10;
/// The flag of a compressed envelope.
const COMPRESSED: u8 = 0b01;
/// Flags and length in front of each message.
const PREFIX_BYTES: usize = 5;

/// Answers one call that is not gRPC. The body is limited by the guard.
pub(crate) async fn call(app: &App, version: Version, method: &str, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let kind = content_type(&head.headers);
    match (Method::named(version, method), kind.as_deref()) {
        (None, _) => failure(&Status::unimplemented(format!(
            "there is no method {method:?}"
        ))),
        (Some(Method::EventStream), Some(STREAMING)) => {
            let opened = match Caller::of_connect(&head.extensions, &head.headers) {
                Ok(caller) => open(app, &caller, body).await,
                Err(status) => Err(status),
            };
            streaming(opened)
        }
        (Some(method), Some(UNARY)) if method != Method::EventStream => {
            let answered = match Caller::of_connect(&head.extensions, &head.headers) {
                Ok(caller) => unary(app, version, method, caller, &head.headers, body).await,
                Err(status) => Err(status),
            };
            answered.map_or_else(|status| failure(&status), |said| json_answer(&said))
        }
        _ => {
            let cure =
                "send application/json to a unary method, application/connect+json to a stream";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            refusal(status, &Status::invalid_argument(cure))
        }
    }
}

/// A refusal whose status HTTP knows better than Connect does.
pub(crate) fn refusal(http: StatusCode, status: &Status) -> Response {
    let mut response = failure(status);
    if matches!(
        http,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::NOT_FOUND
    ) {
        *response.status_mut() = http;
    }
    if http == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        response.headers_mut().insert("accept-post", ACCEPTED);
    }
    response
}

/// A refusal in Connect's words.
fn failure(status: &Status) -> Response {
    let (word, http) = in_connect(status.code());
    let body = json!({ "code": word, "message": status.message() });
    (
        http,
        [(CONTENT_TYPE, HeaderValue::from_static(UNARY))],
        body.to_string(),
    )
        .into_response()
}

fn json_answer(answer: &Value) -> Response {
    (
        [(CONTENT_TYPE, HeaderValue::from_static(UNARY))],
        answer.to_string(),
    )
        .into_response()
}

/// The media type without its parameters, in lower case.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Resolve(Kind),
    ResolveAll,
    EventStream,
}

impl Method {
    fn named(version: Version, name: &str) -> Option<Self> {
        Some(match name {
            "ResolveBoolean" => Self::Resolve(Kind::Boolean),
            "ResolveString" => Self::Resolve(Kind::String),
            "ResolveFloat" => Self::Resolve(Kind::Float),
            "ResolveInt" => Self::Resolve(Kind::Int),
            "ResolveObject" => Self::Resolve(Kind::Object),
            "ResolveAll" if version == Version::V1 => Self::ResolveAll,
            "EventStream" => Self::EventStream,
            _ => return None,
        })
    }
}

async fn unary(
    app: &App,
    version: Version,
    method: Method,
    caller: Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Value, Status> {
    refuse_compression(headers.get(CONTENT_ENCODING))?;
    let bytes = read(body).await?;
    let mut sent = message(app, &bytes)?;
    let context = match sent.remove("context") {
        Some(Value::Object(context)) => context,
        None | Some(Value::Null) => Map::new(),
        Some(_) => {
            let detail = "/context: must be an object";
            return Err(status::of_evaluation(ErrorCode::InvalidContext, detail));
        }
    };
    let question = Question::new(Asked::Connect, &caller.principal, caller.selector, context);
    let Method::Resolve(kind) = method else {
        let answers = question.ask_all(app)?;
        let flags = answers.by_key.into_iter();
        let flags: Map<String, Value> = flags
            .filter_map(|(key, answer)| Some((key, any(answer)?)))
            .collect();
        return Ok(json!({ "flags": flags, "metadata": answers.metadata }));
    };
    let key = match sent.remove("flagKey").or_else(|| sent.remove("flag_key")) {
        Some(Value::String(key)) => key,
        None => String::new(),
        Some(_) => return Err(Status::invalid_argument("/flagKey: must be text")),
    };
    let answer = question.ask(app, &key, kind)?;
    Ok(match version {
        Version::V1 => written_v1(expressible(&key, answer)?, kind),
        Version::V2 => written_v2(answer),
    })
}

/// The whole body; the guard's limit ends it with an error that is the caller's.
async fn read(body: Body) -> Result<Bytes, Status> {
    to_bytes(body, usize::MAX).await.map_err(|_| {
        Status::resource_exhausted("the body is larger than this method takes, or broke off")
    })
}

fn message(app: &App, bytes: &[u8]) -> Result<Map<String, Value>, Status> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    parse_context(bytes, &app.flag_limits)
        .map_err(|violation| Status::invalid_argument(violation.to_string()))
}

fn refuse_compression(encoding: Option<&HeaderValue>) -> Result<(), Status> {
    match encoding.map(HeaderValue::as_bytes) {
        None | Some(b"identity" | b"") => Ok(()),
        Some(_) => Err(Status::unimplemented(
            "compressed requests are not read; use identity",
        )),
    }
}

/// v1 always has a value: the zero of the type where there is none.
fn written_v1(answer: Answer, kind: Kind) -> Value {
    let zero = match kind {
        Kind::Boolean => json!(false),
        Kind::String => json!(""),
        Kind::Float => json!(0.0),
        Kind::Int => json!("0"),
        Kind::Object => json!({}),
    };
    json!({
        "value": answer.value.map_or(zero, written),
        "reason": answer.reason,
        "variant": answer.variant.unwrap_or_default(),
        "metadata": answer.metadata,
    })
}

fn written_v2(answer: Answer) -> Value {
    let mut said = Map::new();
    if let Some(value) = answer.value {
        said.insert("value".to_owned(), written(value));
    }
    said.insert("reason".to_owned(), Value::from(answer.reason));
    if let Some(variant) = answer.variant {
        said.insert("variant".to_owned(), Value::from(variant));
    }
    said.insert("metadata".to_owned(), Value::Object(answer.metadata));
    Value::Object(said)
}

/// A value as protobuf's JSON writes it.
fn written(value: Typed) -> Value {
    match value {
        Typed::Boolean(boolean) => Value::from(boolean),
        Typed::String(text) => Value::from(text),
        Typed::Float(number) => Value::from(number),
        Typed::Int(whole) => Value::from(whole.to_string()),
        Typed::Object(object) => Value::Object(object),
    }
}

/// The entry of a bulk answer; `None` where v1 cannot express it.
fn any(answer: Answer) -> Option<Value> {
    let value = answer.value?;
    let field = match value {
        Typed::Boolean(_) => "boolValue",
        Typed::String(_) => "stringValue",
        Typed::Float(_) | Typed::Int(_) => "doubleValue",
        Typed::Object(_) => "objectValue",
    };
    let mut said = Map::new();
    said.insert("reason".to_owned(), Value::from(answer.reason));
    said.insert(
        "variant".to_owned(),
        Value::from(answer.variant.unwrap_or_default()),
    );
    said.insert(field.to_owned(), written(value));
    said.insert("metadata".to_owned(), Value::Object(answer.metadata));
    Some(Value::Object(said))
}

async fn open(
    app: &App,
    caller: &Caller,
    body: Body,
) -> Result<impl Stream<Item = Result<Notice, Status>> + Send + 'static, Status> {
    let bytes = read(body).await?;
    message(app, request_message(&bytes)?)?;
    events::open(app, &caller.principal, caller.opening(Protocol::Connect))
}

/// The one message of a request that opens a stream.
fn request_message(bytes: &[u8]) -> Result<&[u8], Status> {
    let malformed = || Status::invalid_argument("a stream opens with one enveloped message");
    let (prefix, message) = bytes
        .split_first_chunk::<PREFIX_BYTES>()
        .ok_or_else(malformed)?;
    let [flags, length @ ..] = *prefix;
    if flags & COMPRESSED != 0 {
        return Err(Status::unimplemented(
            "compressed requests are not read; use identity",
        ));
    }
    let is_whole = usize::try_from(u32::from_be_bytes(length)) == Ok(message.len());
    if flags == 0 && is_whole {
        Ok(message)
    } else {
        Err(malformed())
    }
}

/// A stream's failures travel inside it, even the one that keeps it from starting.
fn streaming<S>(opened: Result<S, Status>) -> Response
where
    S: Stream<Item = Result<Notice, Status>> + Send + 'static,
{
    let body = match opened {
        Ok(notices) => Body::from_stream(enveloped(notices)),
        Err(status) => Body::from(envelope(END, &end(Some(&status)))),
    };
    ([(CONTENT_TYPE, HeaderValue::from_static(STREAMING))], body).into_response()
}

fn enveloped<S>(notices: S) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static
where
    S: Stream<Item = Result<Notice, Status>> + Send + 'static,
{
    // The end is said once: by the error that ended the stream, or by this after the last notice.
    let ended = stream::once(async { None });
    notices.map(Some).chain(ended).scan(false, |is_over, item| {
        let next = match item {
            _ if *is_over => None,
            Some(Ok(notice)) => Some(envelope(0, &written_notice(notice))),
            Some(Err(status)) => Some(envelope(END, &end(Some(&status)))),
            None => Some(envelope(END, &end(None))),
        };
        *is_over |= next
            .as_ref()
            .is_some_and(|bytes| bytes.first() == Some(&END));
        async move { next.map(Ok) }
    })
}

fn written_notice(notice: Notice) -> Value {
    let mut said = json!({ "type": notice.kind });
    if let (Some(data), Some(object)) = (notice.data, said.as_object_mut()) {
        object.insert("data".to_owned(), Value::Object(data));
    }
    said
}

fn end(status: Option<&Status>) -> Value {
    match status {
        None => json!({}),
        Some(status) => {
            let (word, _) = in_connect(status.code());
            json!({ "error": { "code": word, "message": status.message() } })
        }
    }
}

fn envelope(flags: u8, message: &Value) -> Bytes {
    let text = message.to_string();
    // Larger than 4 GiB cannot happen: a notice lists flag keys, whose number is bounded.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + text.len());
    bytes.push(flags);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.into()
}

/// Connect's word for a status code, and the HTTP status it travels with.
fn in_connect(code: Code) -> (&'static str, StatusCode) {
    match code {
        // An error that says that there is none would be one of ours.
        Code::Ok | Code::Unknown => ("unknown", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Cancelled => ("canceled", StatusCode::REQUEST_TIMEOUT),
        Code::InvalidArgument => ("invalid_argument", StatusCode::BAD_REQUEST),
        Code::DeadlineExceeded => ("deadline_exceeded", StatusCode::GATEWAY_TIMEOUT),
        Code::NotFound => ("not_found", StatusCode::NOT_FOUND),
        Code::AlreadyExists => ("already_exists", StatusCode::CONFLICT),
        Code::PermissionDenied => ("permission_denied", StatusCode::FORBIDDEN),
        Code::ResourceExhausted => ("resource_exhausted", StatusCode::TOO_MANY_REQUESTS),
        Code::FailedPrecondition => ("failed_precondition", StatusCode::BAD_REQUEST),
        Code::Aborted => ("aborted", StatusCode::CONFLICT),
        Code::OutOfRange => ("out_of_range", StatusCode::BAD_REQUEST),
        Code::Unimplemented => ("unimplemented", StatusCode::NOT_IMPLEMENTED),
        Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        Code::DataLoss => ("data_loss", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_opens_with_exactly_one_plain_message() {
        let cases: [(&[u8], Option<&[u8]>); 7] = [
            (b"\0\0\0\0\x02{}", Some(b"{}")),
            (b"\0\0\0\0\0", Some(b"")),
            (b"\0\0\0\0\x03{}", None),
            (b"\0\0\0\0\x01{}", None),
            (b"\x01\0\0\0\x02{}", None),
            (b"\x02\0\0\0\x02{}", None),
            (b"\0\0\0", None),
        ];
        for (sent, expected) in cases {
            assert_eq!(request_message(sent).ok(), expected, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_is_ended_once_and_says_why() {
        let notice = || {
            Ok(Notice {
                kind: "keep_alive",
                data: None,
            })
        };
        let ended = Status::deadline_exceeded("over");
        let cases = [
            (vec![notice()], vec![r#"{"type":"keep_alive"}"#, "{}"]),
            (
                vec![notice(), Err(ended)],
                vec![
                    r#"{"type":"keep_alive"}"#,
                    r#"{"error":{"code":"deadline_exceeded","message":"over"}}"#,
                ],
            ),
        ];
        for (notices, expected) in cases {
            let envelopes: Vec<Bytes> = enveloped(stream::iter(notices))
                .map(|item| item.unwrap())
                .collect()
                .await;
            let texts: Vec<&str> = envelopes
                .iter()
                .map(|bytes| std::str::from_utf8(&bytes[PREFIX_BYTES..]).unwrap())
                .collect();
            assert_eq!(texts, expected);
            let flags: Vec<u8> = envelopes.iter().map(|bytes| bytes[0]).collect();
            assert_eq!(flags, [0, END]);
        }
    }
}
