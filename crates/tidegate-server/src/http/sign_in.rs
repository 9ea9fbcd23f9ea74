//! The pages of sign-in: forms without a script, and the cookie of a session.
//!
//! A cookie is sent by the browser whoever made the request, so whatever is unsafe must also name
//! an origin that is the server's own. Looking at a link's page does not use the link up, since
//! mail and chat programs look at links too.

use axum::extract::{Form, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tidegate_store::Secret;

use super::pages::escape;
use super::query::{Parameters, Query, Sent};
use crate::app::{App, AppError};
use crate::sign_in::{self, FIRST_ADDRESS, SESSION_SECONDS};

const COOKIE_NAME: &str = "tidegate_session";
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'";

/// The session's cookie value, if one was sent.
pub(crate) fn cookie_of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE_NAME).then_some(value))
}

/// Whether a request that a cookie vouches for was made by a page of this server, or changes
/// nothing.
pub(crate) fn is_own(method: &Method, headers: &HeaderMap) -> bool {
    method.is_safe() || has_own_origin(headers)
}

fn has_own_origin(headers: &HeaderMap) -> bool {
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let named = origin.and_then(|origin| origin.split_once("://"));
    matches!((named, host), (Some((_, named)), Some(host)) if named.eq_ignore_ascii_case(host))
}

#[derive(Debug)]
pub(crate) struct Followed {
    link: Option<String>,
}

impl Parameters for Followed {
    fn read(sent: &mut Sent) -> Self {
        Self {
            link: sent.text("link"),
        }
    }
}

/// `GET /sign-in`
pub(crate) async fn page(Query(followed): Query<Followed>) -> Response {
    match followed.link {
        Some(link) => shown(StatusCode::OK, &password_form(&link, "")),
        None => shown(StatusCode::OK, &sign_in_form("")),
    }
}

#[derive(Deserialize)]
pub(crate) struct SignIn {
    address: String,
    password: String,
}

/// `POST /sign-in`
pub(crate) async fn sign_in(
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<SignIn>,
) -> Response {
    if !has_own_origin(&headers) {
        return foreign();
    }
    match sign_in::sign_in(&app, &form.address, Secret::new(form.password)).await {
        Ok(session) => entered(&headers, &session),
        Err(error) => refused(error, sign_in_form),
    }
}

#[derive(Deserialize)]
pub(crate) struct FirstPassword {
    link: String,
    password: String,
}

/// `POST /sign-in/link`
pub(crate) async fn follow_link(
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<FirstPassword>,
) -> Response {
    if !has_own_origin(&headers) {
        return foreign();
    }
    match sign_in::follow_link(&app, &form.link, Secret::new(form.password)).await {
        Ok(session) => entered(&headers, &session),
        Err(error) => refused(error, |complaint| password_form(&form.link, complaint)),
    }
}

/// `GET /sign-in/password`
pub(crate) async fn password_page() -> Response {
    shown(StatusCode::OK, &change_form(""))
}

#[derive(Deserialize)]
pub(crate) struct NextPassword {
    address: String,
    password: String,
    new_password: String,
}

/// `POST /sign-in/password`
pub(crate) async fn change_password(
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<NextPassword>,
) -> Response {
    if !has_own_origin(&headers) {
        return foreign();
    }
    let (password, next) = (Secret::new(form.password), Secret::new(form.new_password));
    match sign_in::change_password(&app, &form.address, password, next).await {
        Ok(session) => entered(&headers, &session),
        Err(error) => refused(error, change_form),
    }
}

/// `POST /sign-out`
pub(crate) async fn sign_out(State(app): State<App>, headers: HeaderMap) -> Response {
    if !has_own_origin(&headers) {
        return foreign();
    }
    if let Some(cookie) = cookie_of(&headers)
        && let Err(error) = sign_in::sign_out(&app, cookie).await
    {
        return error.into_response();
    }
    gone_to("/sign-in", &cookie_text(&headers, "", 0))
}

fn foreign() -> Response {
    AppError::Forbidden("the request comes from a page of another origin".to_owned())
        .into_response()
}

fn entered(headers: &HeaderMap, session: &Secret) -> Response {
    gone_to(
        "/",
        &cookie_text(headers, session.expose(), SESSION_SECONDS),
    )
}

fn gone_to(place: &str, cookie: &str) -> Response {
    (
        StatusCode::SEE_OTHER,
        [(LOCATION, place), (SET_COOKIE, cookie)],
    )
        .into_response()
}

/// `Secure` where a proxy says that the browser speaks TLS; a lie about it only locks out its
/// teller.
fn cookie_text(headers: &HeaderMap, value: &str, seconds: i64) -> String {
    let is_tls = headers
        .get("x-forwarded-proto")
        .is_some_and(|scheme| scheme.as_bytes() == b"https");
    let secure = if is_tls { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

/// The form again with what was wrong; anything but the caller's mistake is a problem document.
fn refused(error: AppError, form: impl FnOnce(&str) -> String) -> Response {
    match error {
        AppError::Forbidden(reason) => shown(StatusCode::FORBIDDEN, &form(&reason)),
        AppError::Invalid(violations) => {
            let reasons: Vec<&str> = violations
                .iter()
                .map(|violation| violation.message.as_str())
                .collect();
            shown(StatusCode::BAD_REQUEST, &form(&reasons.join("; ")))
        }
        other => other.into_response(),
    }
}

fn sign_in_form(complaint: &str) -> String {
    format!(
        "<h1>Sign in</h1><p>{}</p><form method=\"post\" action=\"/sign-in\">\
         <p><label>Address <input name=\"address\" autocomplete=\"username\" required></label></p>\
         <p><label>Password <input name=\"password\" type=\"password\" \
         autocomplete=\"current-password\" required></label></p>\
         <p><button>Sign in</button></p></form>",
        escape(complaint)
    )
}

fn change_form(complaint: &str) -> String {
    format!(
        "<h1>Change your password</h1><p>{}</p><p>Every other sign-in of yours ends.</p>\
         <form method=\"post\" action=\"/sign-in/password\">\
         <p><label>Address <input name=\"address\" autocomplete=\"username\" required></label></p>\
         <p><label>Password <input name=\"password\" type=\"password\" \
         autocomplete=\"current-password\" required></label></p>\
         <p><label>New password, at least 12 characters <input name=\"new_password\" \
         type=\"password\" minlength=\"12\" autocomplete=\"new-password\" required></label></p>\
         <p><button>Change password</button></p></form>",
        escape(complaint)
    )
}

fn password_form(link: &str, complaint: &str) -> String {
    format!(
        "<h1>Set your password</h1><p>{}</p><p>You sign in with the address that you were \
         invited under; the first administrator's is {FIRST_ADDRESS}.</p>\
         <form method=\"post\" action=\"/sign-in/link\">\
         <input type=\"hidden\" name=\"link\" value=\"{}\">\
         <p><label>Password, at least 12 characters <input name=\"password\" type=\"password\" \
         minlength=\"12\" autocomplete=\"new-password\" required></label></p>\
         <p><button>Set password and sign in</button></p></form>",
        escape(complaint),
        escape(link)
    )
}

fn shown(status: StatusCode, body: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Tidegate</title></head><body>{body}</body></html>"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ];
    (status, headers, page).into_response()
}
