//! A route is built from its declaration: path, who may call it, how much it may send.
//!
//! There is no way to add a handler without naming an [`Access`] and a body limit, so the default
//! is denial by construction. The declarations are data ([`RouteRow`]): a test walks them all and
//! knocks on every door with no token, garbage, the wrong project and each role.

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{DefaultBodyLimit, RawPathParams, Request, State};
use axum::handler::Handler;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http_body_util::Limited;
use serde::Serialize;

pub use super::dialect::Dialect;
use super::dialect::Speech;
use super::problem::Problem;
use crate::access::{Permission, Principal, PrincipalKind};
use crate::app::App;
use crate::listener::{DoorPrincipal, InReserve};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Anybody who reaches the port; such a route shows nothing about any project.
    Public,
    /// Callers whom the table grants this permission, in their own project.
    Needs(Permission),
    /// As `Needs`, or whoever presents a ticket in the address: for event streams, which
    /// browsers open without headers.
    NeedsOrTicket(Permission),
}

/// The methods routes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Read.
    Get,
    /// Create, or act.
    Post,
    /// Create or replace.
    Put,
    /// Remove.
    Delete,
}

impl Verb {
    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// One route's declaration.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RouteRow {
    /// The method.
    pub verb: Verb,
    /// The path with `{name}` parameters.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// The largest body it takes, in bytes.
    pub body_limit: usize,
    /// How it refuses.
    pub dialect: Dialect,
    /// What it does, in one line, for the OpenAPI document.
    pub summary: &'static str,
}

/// The routes under construction: declarations beside the router they built.
pub(crate) struct Routes {
    app: App,
    rows: Vec<RouteRow>,
    router: Router<App>,
}

impl Routes {
    pub(crate) fn new(app: App) -> Self {
        Self {
            app,
            rows: Vec::new(),
            router: Router::new(),
        }
    }

    /// Adds one route; the guard in front of it enforces what the row declares.
    pub(crate) fn add<H, T>(mut self, row: RouteRow, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let rule = Rule {
            app: self.app.clone(),
            row,
        };
        // The row's limit is the only one: the framework's own, of 2 MB, would undercut it.
        let guarded = on(row.verb.filter(), handler)
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(rule, guard));
        self.router = self.router.route(row.path, guarded);
        self.rows.push(row);
        self
    }

    /// The router, and the declarations it was built from.
    pub(crate) fn finish(self) -> (Router, Vec<RouteRow>) {
        let router = self
            .router
            .fallback(no_such_route)
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(self.app);
        (router, self.rows)
    }
}

async fn no_such_route(request: Request) -> Response {
    let path = request.uri().path();
    Speech::of_path(path, request.headers()).say(Problem::no_such_route(path))
}

async fn method_not_allowed(request: Request) -> Response {
    Speech::of_path(request.uri().path(), request.headers()).say(Problem::method_not_allowed())
}

#[derive(Clone)]
struct Rule {
    app: App,
    row: RouteRow,
}

async fn guard(
    State(rule): State<Rule>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let speech = Speech::new(rule.row.dialect, request.headers());
    let Ok(parameters) = parameters else {
        return speech.say(Problem::path_not_text());
    };
    if let Err(problem) = admit(&rule, &parameters, &mut request).await {
        return speech.say(problem);
    }
    let limit = rule.row.body_limit;
    // The connection holds a body to the length it declares, and that was looked at.
    let is_bounded = declared_length(request.headers()).is_some() || request.body().is_end_stream();
    let request = match is_bounded {
        true => request,
        false => request.map(|body| Body::new(Limited::new(body, limit))),
    };
    let response = next.run(request).await;
    speech.translate(response, limit).await
}

/// Lets a request in as the principal it then carries, or says why not.
async fn admit(
    rule: &Rule,
    parameters: &RawPathParams,
    request: &mut Request,
) -> Result<(), Problem> {
    if !is_canonical(request.uri().path()) {
        return Err(Problem::path_not_canonical());
    }
    if rule.app.open_door.is_some() && !comes_from_this_machine(request.headers()) {
        return Err(Problem::foreign_page());
    }
    let limit = rule.row.body_limit;
    if declared_length(request.headers()).is_some_and(|length| length > limit as u64) {
        return Err(Problem::too_large(limit));
    }
    let (Access::Needs(permission) | Access::NeedsOrTicket(permission)) = rule.row.access else {
        return Ok(());
    };
    let is_in_reserve = request.extensions().get::<InReserve>().is_some();
    if is_in_reserve && permission != Permission::Stop {
        return Err(Problem::crowded());
    }
    let known = authenticate(rule, request);
    let cookie = match &known {
        Ok(_) => None,
        Err(_) => session_of(request),
    };
    let principal = match (known, cookie) {
        (Err(problem), Some(cookie)) => crate::sign_in::person_of(&rule.app, &cookie)
            .await
            .ok_or(problem),
        (known, _) => known,
    }?;
    if principal.kind == PrincipalKind::Person
        && !super::sign_in::is_own(request.method(), request.headers())
    {
        let reason = "the request comes from a page of another origin";
        return Err(Problem::forbidden(reason.to_owned()));
    }
    let project = parameters
        .iter()
        .find_map(|(name, value)| (name == "project").then_some(value))
        .unwrap_or_else(|| principal.default_project());
    if !principal.may(permission, project) {
        return Err(Problem::forbidden(not_granted(
            &principal, permission, project,
        )));
    }
    // A stop is never told to come back later.
    if permission != Permission::Stop {
        let app = &rule.app;
        app.limits
            .admit(&principal.id, app.clock.monotonic())
            .map_err(Problem::too_often)?;
    }
    request.extensions_mut().insert(principal);
    Ok(())
}

/// Why a known caller is not let in, with what its credential is good for.
fn not_granted(principal: &Principal, permission: Permission, project: &str) -> String {
    match &principal.project {
        Some(own) if own != project => format!(
            "the token belongs to the project {own:?} and this asks for {project:?}: name the \
             token's own project, or use a token of the other"
        ),
        _ => format!("the credential does not grant {permission:?} in the project {project:?}"),
    }
}

/// The caller, if its credential, its ticket or the door it came by lets it in. Reads memory only.
fn authenticate(rule: &Rule, request: &Request) -> Result<Principal, Problem> {
    let app = &rule.app;
    if let Some(everyone) = &app.open_door {
        return Ok(everyone.clone());
    }
    if let Some(DoorPrincipal(everyone)) = request.extensions().get() {
        return Ok(everyone.clone());
    }
    let now = app.clock.now_us();
    let book = app.access.load();
    let outcome = match (credential_of(request.headers()), rule.row.access) {
        (Some(credential), _) => book.authenticate(credential, now),
        (None, Access::NeedsOrTicket(_)) => match ticket_of(request) {
            Some(ticket) => book.redeem(ticket, now),
            None => return Err(Problem::unauthenticated()),
        },
        (None, _) => return Err(Problem::unauthenticated()),
    };
    outcome.map_err(|refusal| {
        tracing::debug!(%refusal, "a credential was refused");
        Problem::unauthenticated()
    })
}

/// The cookie of a person's session, where no other credential was sent.
fn session_of(request: &Request) -> Option<String> {
    let headers = request.headers();
    if headers.contains_key(AUTHORIZATION) || headers.contains_key("x-api-key") {
        return None;
    }
    super::sign_in::cookie_of(headers).map(str::to_owned)
}

/// `?ticket=`; a ticket has no character that an address would encode.
fn ticket_of(request: &Request) -> Option<&str> {
    let pairs = request.uri().query()?.split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == "ticket").then_some(value))
}

/// `Authorization: Bearer`, or `X-API-Key` where there is none.
pub(crate) fn credential_of(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(credential.trim());
    }
    headers.get("x-api-key")?.to_str().ok()
}

/// Whether a request to a door without sign-in was made by a program of this machine or a page of
/// this machine. A page from elsewhere, or a name that was made to point here, is neither.
fn comes_from_this_machine(headers: &HeaderMap) -> bool {
    let is_local = |authority: &str| {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        is_loopback || host.eq_ignore_ascii_case("localhost")
    };
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host_is_local = text(axum::http::header::HOST).is_none_or(is_local);
    let origin_is_local = text(axum::http::header::ORIGIN).is_none_or(|origin| {
        origin
            .split_once("://")
            .is_some_and(|(_, authority)| is_local(authority))
    });
    host_is_local && origin_is_local
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// One spelling per path, so that no two components can disagree about what is addressed.
/// An encoded slash is allowed, because flag keys may contain one; it never separates segments.
fn is_canonical(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let encoded = lower.contains("%5c") || lower.contains("%00");
    let mut segments = path.split('/').skip(1).peekable();
    let mut plain = path.starts_with('/') && !path.contains('\\');
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let is_empty_inside = segment.is_empty() && !is_last;
        plain &= !(is_empty_inside || segment == "." || segment == "..");
    }
    plain && !encoded
}

#[cfg(test)]
mod tests {
    use super::{comes_from_this_machine, is_canonical};
    use axum::http::HeaderMap;

    #[test]
    fn only_pages_of_this_machine_get_through_an_open_door() {
        let cases = [
            (None, None, true),
            (Some("127.0.0.1:8800"), None, true),
            (Some("localhost"), Some("http://localhost:5173"), true),
            (Some("[::1]:8800"), Some("http://[::1]:8800"), true),
            (Some("evil.example"), None, false),
            (Some("127.0.0.1:8800"), Some("https://evil.example"), false),
            (Some("127.0.0.1:8800"), Some("null"), false),
            (Some("127.0.0.1.evil.example"), None, false),
        ];
        for (host, origin, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in [("host", host), ("origin", origin)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            assert_eq!(
                comes_from_this_machine(&headers),
                expected,
                "{host:?} {origin:?}"
            );
        }
    }

    #[test]
    fn only_one_spelling_of_a_path_is_accepted() {
        let cases = [
            ("/", true),
            ("/api/v1/flags", true),
            ("/api/v1/flags/", true),
            ("//api/v1/flags", false),
            ("/api//v1/flags", false),
            ("/api/../v1", false),
            ("/api/./v1", false),
            ("/api/%2e/v1", true),
            ("/api/%2F/v1", true),
            ("/api/%5c/v1", false),
            ("/api/%00/v1", false),
            ("/api\\v1", false),
        ];
        for (path, canonical) in cases {
            assert_eq!(is_canonical(path), canonical, "{path}");
        }
    }
}
