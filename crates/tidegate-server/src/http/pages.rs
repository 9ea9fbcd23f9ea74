//! The page at `/`: what is rolling out, on one screen, without a script.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use tidegate_rollout::Report;

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
            format!("{}, {}", standing.lifecycle, standing.plan.verdict),
        ];
        page.push_str("<tr>");
        for cell in cells {
            let _ = write!(page, "<td>{}</td>", escape(&cell));
        }
        let _ = write!(
            page,
            "<td>{}{}</td></tr>",
            escape(&report.sentence),
            evidence(report)
        );
    }
    page.push_str("</tbody></table>");
    page
}

/// What a report rests on, folded away: each guard with its counts, and what is waited for.
fn evidence(report: &Report) -> String {
    if report.guards.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<details><summary>evidence</summary><table><thead><tr><th>Guard</th><th>Verdict</th>\
         <th>With the change</th><th>Without</th><th>Evidence of harm</th></tr></thead><tbody>",
    );
    for guard in &report.guards {
        let cells = [
            guard.metric.clone(),
            guard.verdict.to_string(),
            format!("{} of {}", guard.events.treatment, guard.units.treatment),
            format!("{} of {}", guard.events.control, guard.units.control),
            format!(
                "{:.0} % of what rolls back",
                100.0 * (guard.ln_e / guard.ln_threshold).clamp(0.0, 1.0)
            ),
        ];
        text.push_str("<tr>");
        for cell in cells {
            // Writing to a String cannot fail.
            let _ = write!(text, "<td>{}</td>", escape(&cell));
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table>");
    for wait in &report.waiting_for {
        let _ = write!(text, "<p>waits for {}</p>", escape(&wait.words()));
    }
    text.push_str("</details>");
    text
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_evidence_of_a_report_is_shown_and_no_name_becomes_markup() {
        let verdict = json!("no_data");
        let arms =
            |treatment: u64, control: u64| json!({"treatment": treatment, "control": control});
        let report: Report = serde_json::from_value(json!({
            "sentence": "holding", "stage": 0, "share_bp": 500, "notes": [], "watermark": 7,
            "as_of_us": 1, "evidence": {"combination": "union", "ln_e": 2.3, "ln_threshold": 4.6},
            "sample_ratio": {"verdict": verdict, "ln_e": 0.0, "ln_threshold": 6.9,
                "units": arms(100, 1900), "expected_treatment": 100.0},
            "guards": [{"metric": "errors/<b>", "verdict": verdict, "is_guilty": false,
                "effect": {"estimate": null, "lower": null, "upper": null, "level": 0.95},
                "ln_e": 2.3, "ln_threshold": 4.6, "ln_e_safe": 0.0, "events": arms(3, 20),
                "units": arms(100, 1900), "age_us": 0, "basis": "exact", "remark": null}],
            "waiting_for": [{"wait": "bake", "baked_seconds": 20, "min_seconds": 120}],
        }))
        .unwrap();
        let shown = evidence(&report);
        for part in [
            "<td>errors/&lt;b&gt;</td><td>no data</td><td>3 of 100</td><td>20 of 1900</td>",
            "<td>50 % of what rolls back</td>",
            "<p>waits for 20 of 120 s under observation</p>",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
