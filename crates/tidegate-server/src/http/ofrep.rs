//! OFREP 0.3: one flag, all flags, and not answering when nothing changed.
//!
//! The entity tag is derived from the *request*: digest of the configuration, the canonical
//! context and, where the set reads time, the second. So a matching tag is answered 304 without
//! evaluating anything, and a changed attribute never gets a 304.
//! flagd's selector narrows both, as over gRPC ([`crate::grpc::selector`]); it is part of the tag.

use axum::body::Bytes;
use axum::extract::{Extension, FromRequest as _, Path, Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tidegate_flags::{ErrorCode, Limits, Resolution, parse_context};

use super::query;
use crate::access::Principal;
use crate::app::App;
use crate::grpc::selector::Selector;
use crate::live::LiveSet;
use crate::meters::Reasons;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// One evaluated flag in OFREP's words.
#[derive(Serialize)]
struct Success<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Value>,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Failure<'a> {
    key: &'a str,
    #[serde(rename = "errorCode")]
    error_code: &'static str,
    #[serde(rename = "errorDetails")]
    error_details: &'a str,
}

/// The flag's metadata with the caller's context id, written without copying either.
struct Metadata<'a> {
    of_flag: &'a Map<String, Value>,
    context_id: Option<&'a str>,
}

impl Serialize for Metadata<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let extra = usize::from(self.context_id.is_some());
        let mut map = serializer.serialize_map(Some(self.of_flag.len() + extra))?;
        for (key, value) in self.of_flag {
            if key != "contextId" {
                map.serialize_entry(key, value)?;
            }
        }
        if let Some(id) = self.context_id {
            map.serialize_entry("contextId", id)?;
        }
        map.end()
    }
}

/// Who asks, and for which flags.
struct Asked {
    principal: Principal,
    selector: Selector,
}

/// `POST /ofrep/v1/evaluate/flags/{key}`
pub(crate) async fn evaluate_one(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(key): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let selector = Selector::of_request(request.headers(), "")
        .map_err(|error| bad_request(Some(&key), ErrorCode::General, &error.to_string()))?;
    let body = read(request).await?;
    let Some(project) = app.live.project(principal.default_project()) else {
        return Err(flag_not_found(&key));
    };
    let set = project.peek();
    let context = request_context(&body, &app.flag_limits)
        .map_err(|details| bad_request(Some(&key), ErrorCode::InvalidContext, &details))?;
    let handle = set
        .ruleset
        .handle(&key)
        .ok_or_else(|| flag_not_found(&key))?;
    let bound = set.ruleset.bind(&context, app.clock.now_seconds());
    let resolution = set.ruleset.evaluate(handle, &bound);
    if !selector.admits(&set.project, resolution.metadata) {
        return Err(flag_not_found(&key));
    }
    let meters = &app.operations.meters;
    meters.evaluated(crate::meters::Asked::Ofrep, resolution.reason);
    let mut text = Vec::with_capacity(256);
    let status = write_resolution(&mut text, &key, &resolution, targeting_key(&context));
    Ok((status, [(CONTENT_TYPE, JSON)], text).into_response())
}

/// `POST /ofrep/v1/evaluate/flags`
pub(crate) async fn evaluate_all(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<Response, Response> {
    let selector = Selector::of_request(request.headers(), "")
        .map_err(|error| bad_request(None, ErrorCode::General, &error.to_string()))?;
    let asked = Asked {
        principal,
        selector,
    };
    let announced = announced(request.uri());
    let known = request.headers().get_all(IF_NONE_MATCH);
    let known: Vec<HeaderValue> = known.into_iter().cloned().collect();
    let body = read(request).await?;
    let Some(project) = app.live.project(asked.principal.default_project()) else {
        let details = "the project is not served";
        return Err(bad_request(None, ErrorCode::General, details));
    };
    if let Some(tag) = announced {
        super::sse::catch_up(&project, &tag).await;
    }
    let set = project.load();
    let context = request_context(&body, &app.flag_limits)
        .map_err(|details| bad_request(None, ErrorCode::InvalidContext, &details))?;
    let now_seconds = app.clock.now_seconds();
    let tag = entity_tag(&set, &asked.selector, &context, now_seconds);
    if matches_any(&known, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    let text = write_all(&app, &set, &asked, &context, now_seconds);
    Ok((StatusCode::OK, [(CONTENT_TYPE, JSON), (ETAG, tag)], text).into_response())
}

/// The whole body. One that is too large is refused by the framework, in words that the guard
/// translates.
async fn read(request: Request) -> Result<Bytes, Response> {
    Bytes::from_request(request, &())
        .await
        .map_err(IntoResponse::into_response)
}

/// What an event told the client before it asked again. Parameters of later versions of OFREP
/// are passed over.
fn announced(uri: &Uri) -> Option<String> {
    uri.query()?;
    let mut sent = query::pairs(uri).into_iter();
    sent.find_map(|(name, value)| (name == "flagConfigEtag").then_some(value))
}

/// Where the caller learns of changes. The address holds a ticket for that stream alone, because
/// browsers cannot send a token there.
fn event_streams(app: &App, principal: &Principal) -> Value {
    let path = super::sse::PATH;
    let address = match app.access.load().ticket_of(&principal.id) {
        Some(ticket) => format!("{path}?ticket={ticket}"),
        None => path.to_owned(),
    };
    json!([{
        "type": "sse",
        "endpoint": { "requestUri": address },
        "inactivityDelaySec": 120
    }])
}

fn write_all(
    app: &App,
    set: &LiveSet,
    asked: &Asked,
    context: &Map<String, Value>,
    now: i64,
) -> Vec<u8> {
    let bound = set.ruleset.bind(context, now);
    let context_id = targeting_key(context);
    let mut text = Vec::with_capacity(64 + set.ruleset.len() * 160);
    text.extend_from_slice(br#"{"flags":["#);
    let mut is_first = true;
    let mut reasons = Reasons::default();
    set.ruleset.evaluate_all(&bound, |key, resolution| {
        if !asked.selector.admits(&set.project, resolution.metadata) {
            return;
        }
        if !is_first {
            text.push(b',');
        }
        is_first = false;
        reasons.note(resolution.reason);
        write_resolution(&mut text, key, &resolution, context_id);
    });
    let meters = &app.operations.meters;
    meters.evaluated_all(crate::meters::Asked::Ofrep, &reasons);
    text.extend_from_slice(br#"],"metadata":"#);
    if asked.selector == Selector::Everything {
        write_json(&mut text, set.ruleset.metadata());
    } else {
        let mut metadata = set.ruleset.metadata().clone();
        asked.selector.echo(&mut metadata);
        write_json(&mut text, &metadata);
    }
    text.extend_from_slice(br#","eventStreams":"#);
    write_json(&mut text, &event_streams(app, &asked.principal));
    text.push(b'}');
    text
}

/// Writes one resolution and returns the status a single evaluation answers with.
fn write_resolution(
    text: &mut Vec<u8>,
    key: &str,
    resolution: &Resolution<'_>,
    context_id: Option<&str>,
) -> StatusCode {
    if let Some(error) = &resolution.error {
        let failure = Failure {
            key,
            error_code: error.code.as_str(),
            error_details: &error.detail,
        };
        write_json(text, &failure);
        return match error.code {
            ErrorCode::FlagNotFound => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        };
    }
    write_json(
        text,
        &Success {
            key,
            value: resolution.value,
            reason: resolution.reason.as_str(),
            variant: resolution.variant,
            metadata: Metadata {
                of_flag: resolution.metadata,
                context_id,
            },
        },
    );
    StatusCode::OK
}

/// Serialising into memory what was parsed from JSON cannot fail.
fn write_json<T: Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) {
    if let Err(error) = serde_json::to_writer(text, value) {
        tracing::error!(%error, "a value could not be written as JSON");
    }
}

/// The request's `context`, within limits. An empty body is an empty context.
fn request_context(body: &[u8], limits: &Limits) -> Result<Map<String, Value>, String> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let mut request = parse_context(body, limits).map_err(|violation| violation.to_string())?;
    match request.remove("context") {
        Some(Value::Object(context)) => Ok(context),
        None | Some(Value::Null) => Ok(Map::new()),
        Some(_) => Err("/context: must be an object".to_owned()),
    }
}

fn targeting_key(context: &Map<String, Value>) -> Option<&str> {
    context.get("targetingKey").and_then(Value::as_str)
}

/// Digest of all that an answer depends on, quoted.
fn entity_tag(
    set: &LiveSet,
    selector: &Selector,
    context: &Map<String, Value>,
    now_seconds: i64,
) -> HeaderValue {
    let mut digest = Sha256::new();
    digest.update(set.config_tag.as_bytes());
    digest.update([0]);
    if *selector != Selector::Everything {
        digest.update(selector.to_string());
        digest.update([0]);
    }
    digest_canonical(&mut digest, context);
    if set.depends_on_time {
        digest.update(now_seconds.to_be_bytes());
    }
    let digest = digest.finalize();
    let mut tag = [b'"'; 34];
    for (pair, byte) in tag[1..33].chunks_exact_mut(2).zip(&digest) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Feeds an object in key order, so that the order of attributes does not matter.
fn digest_canonical(digest: &mut Sha256, object: &Map<String, Value>) {
    let mut keys: Vec<&String> = object.keys().collect();
    keys.sort_unstable();
    digest.update([b'{']);
    for key in keys {
        digest.update((key.len() as u64).to_be_bytes());
        digest.update(key.as_bytes());
        match &object[key] {
            Value::Object(inner) => digest_canonical(digest, inner),
            Value::String(text) => {
                digest.update([b'"']);
                digest.update((text.len() as u64).to_be_bytes());
                digest.update(text.as_bytes());
            }
            other => {
                let text = other.to_string();
                digest.update((text.len() as u64).to_be_bytes());
                digest.update(text.as_bytes());
            }
        }
    }
    digest.update([b'}']);
}

/// Weak comparison over a list; `*` means nothing for POST; unquoted tokens are accepted.
fn matches_any(known: &[HeaderValue], tag: &HeaderValue) -> bool {
    let own = tag.to_str().unwrap_or_default().trim_matches('"');
    known
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().trim_start_matches("W/").trim_matches('"'))
        .any(|token| !token.is_empty() && token == own)
}

fn flag_not_found(key: &str) -> Response {
    let body = json!({
        "key": key,
        "errorCode": "FLAG_NOT_FOUND",
        "errorDetails": format!("there is no flag {key:?} in this project"),
    });
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

fn bad_request(key: Option<&str>, code: ErrorCode, details: &str) -> Response {
    let mut body = json!({ "errorCode": code.as_str(), "errorDetails": details });
    if let (Some(key), Some(object)) = (key, body.as_object_mut()) {
        object.insert("key".to_owned(), Value::from(key));
    }
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}
