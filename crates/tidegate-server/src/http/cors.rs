//! Which web pages of other origins may evaluate flags and send events from a browser.
//!
//! Nobody, unless the operator lists them. Only the protocols browsers evaluate with (OFREP with
//! its event stream, and Connect) and send events by (the native door, and OTLP over HTTP) are
//! opened; administration never is. Cookies are never allowed
//! across origins, so a listed page has the rights of the token it holds and no more.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;

/// Paths that begin so are evaluation, as browsers do it.
const EVALUATION: [&str; 2] = ["/ofrep/", "/flagd.evaluation."];
/// Where browsers send events to.
const EVENTS: [&str; 4] = ["/api/v1/events", "/v1/logs", "/v1/traces", "/v1/metrics"];
const HEADERS: &str = "authorization, content-type, content-encoding, x-api-key, if-none-match, \
                       connect-protocol-version, connect-timeout-ms, flagd-selector, \
                       tidegate-sent-at, tidegate-source";

/// Whether listed pages may call a path.
fn is_opened(path: &str) -> bool {
    EVALUATION.iter().any(|prefix| path.starts_with(prefix)) || EVENTS.contains(&path)
}

/// The origins an operator listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<String>);

/// An origin that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin; write scheme, host and port if it is not the usual one, in lower \
     case and without a path, as in https://shop.example"
)]
pub struct NotAnOrigin(pub String);

impl AllowedOrigins {
    /// These origins and no others; there is no wildcard.
    ///
    /// # Errors
    /// [`NotAnOrigin`] for the first that no browser would send.
    pub fn new(origins: &[String]) -> Result<Self, NotAnOrigin> {
        for origin in origins {
            if !is_origin(origin) {
                return Err(NotAnOrigin(origin.clone()));
            }
        }
        Ok(Self(origins.to_vec()))
    }

    fn contain(&self, origin: &HeaderValue) -> bool {
        self.0
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
    }
}

/// Scheme, host and port as a browser writes them.
fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let allowed = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-.:[]".contains(character)
    };
    host.is_some_and(|host| !host.is_empty() && host.chars().all(allowed))
}

/// Answers preflights and marks answers, for listed origins on opened paths.
pub(crate) async fn layer(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_opened = is_opened(request.uri().path());
    let origin = request.headers().get(ORIGIN).cloned();
    let allowed = origin.filter(|origin| app.operations.allowed_origins.contain(origin));
    if !is_opened {
        return next.run(request).await;
    }
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &allowed {
        Some(_) if is_preflight => preflight(),
        _ => next.run(request).await,
    };
    mark(response.headers_mut(), allowed);
    response
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn mark(headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
    // Caches keep answers to different origins apart, refused ones too.
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("etag, retry-after"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluation_and_events_are_opened_and_nothing_beside_them() {
        for (path, expected) in [
            ("/ofrep/v1/evaluate/flags", true),
            ("/flagd.evaluation.v1.Service/ResolveAll", true),
            ("/api/v1/events", true),
            ("/v1/traces", true),
            ("/api/v1/events/anything", false),
            ("/v1/tracesx", false),
            ("/api/v1/projects/default/flags", false),
            ("/metrics", false),
        ] {
            assert_eq!(is_opened(path), expected, "{path}");
        }
    }

    #[test]
    fn only_what_a_browser_would_send_is_an_origin() {
        let cases = [
            ("https://shop.example", true),
            ("http://localhost:5173", true),
            ("http://[::1]:80", true),
            ("*", false),
            ("null", false),
            ("https://", false),
            ("https://shop.example/", false),
            ("https://Shop.example", false),
            ("https://*.example", false),
            ("ftp://shop.example", false),
        ];
        for (origin, expected) in cases {
            let outcome = AllowedOrigins::new(&[origin.to_owned()]);
            assert_eq!(outcome.is_ok(), expected, "{origin}");
        }
    }
}
