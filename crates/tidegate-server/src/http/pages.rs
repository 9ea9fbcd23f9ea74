//! The page at `/`: what is rolling out, on one screen, without a script.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::app::App;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// `GET /`: shows nothing of any project to a stranger, and everything where the door is open.
pub(crate) async fn front(State(app): State<App>) -> Response {
    let mut body = String::new();
    if app.open_door.is_some() {
        body.push_str(&rollouts(&app));
    } else {
        body.push_str("<p>Tidegate is running. <a href=\"/sign-in\">Sign in</a>, or use the API with a token.</p>");
    }
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tidegate</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body><h1>Tidegate</h1>{body}</body></html>"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, page).into_response()
}

const STYLE: &str = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}\
                     table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem;\
                     border-bottom:1px solid #ccc}";

fn rollouts(app: &App) -> String {
    let mut page = String::from(
        "<h2>Rollouts</h2><table><thead><tr><th>Rollout</th><th>Flag</th><th>Share</th>\
         <th>Verdict</th><th>Why</th></tr></thead><tbody>",
    );
    for standing in app.rollouts.standings(crate::DEFAULT_PROJECT) {
        let report = &standing.plan.report;
        let cells = [
            standing.key,
            standing.flag,
            format!("{:.2} %", f64::from(standing.share_bp) / 100.0),
            format!("{:?}", standing.plan.verdict).to_lowercase(),
            report.sentence.clone(),
        ];
        page.push_str("<tr>");
        for cell in cells {
            let _ = write!(page, "<td>{}</td>", escape(&cell));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table>");
    page
}

/// Text as HTML shows it, whatever it contains.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
