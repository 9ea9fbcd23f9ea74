//! The question put to hooks before a share is raised, and how their answers are read.
//!
//! The question is a document like any notice, of type `rollout.ask`. An endpoint answers 2xx with
//! `{"decision": "allow"}` or `{"decision": "hold", "reason": "..."}`; a program ends with 0 to allow,
//! or with anything else and a line that says why. Whatever cannot be read as one of these holds.

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_store::ObjectKind;

use crate::app::App;
use crate::egress::Purpose;
use crate::notices::endpoint::Endpoint;
use crate::notices::event::link;
use crate::notices::log::{self, Attempt};
use crate::notices::{Post, event_id, post};
use crate::time_text::rfc3339;

/// Longest reason that is kept, in bytes.
const MAX_REASON: usize = 500;

/// A raise that somebody may have something against.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Project and key of the rollout.
    pub rollout: (String, String),
    /// Its flag.
    pub flag: String,
    /// Which step this would be.
    pub step: u64,
    /// The stage to be entered; absent for completion.
    pub stage: Option<usize>,
    /// Share in force.
    pub from_bp: u16,
    /// Share asked about.
    pub to_bp: u16,
    /// The verdict so far.
    pub verdict: String,
    /// The plan's sentence.
    pub sentence: String,
}

impl Question {
    /// Whether the other asks about the same step to the same share; the sentence may have moved on.
    #[must_use]
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        let about = |q: &Self| (q.rollout.clone(), q.step, q.stage, q.from_bp, q.to_bp);
        about(self) == about(other)
    }

    fn document(&self, app: &App) -> Value {
        let (project, key) = &self.rollout;
        json!({
            "type": "rollout.ask",
            "timestamp": rfc3339(app.clock.now_us()),
            "data": {
                "id": event_id(),
                "scope": { "project": project, "kind": "rollout", "key": key },
                "before": { "share_bp": self.from_bp },
                "after": { "share_bp": self.to_bp, "stage": self.stage },
                "flag": self.flag,
                "actor": "system:rollout",
                "verdict": self.verdict,
                "reason": self.sentence,
                "link": format!(
                    "{}/report",
                    link(app.operations.notices.base(), project, ObjectKind::Rollout, key)
                ),
            },
        })
    }
}

/// An answer as an endpoint gives it.
#[derive(Debug, Deserialize)]
struct Decision {
    decision: String,
    reason: Option<String>,
}

/// Whether there is anybody to ask. Until it is known which endpoints there are, there may be.
pub(super) fn anybody(app: &App, question: &Question) -> bool {
    let project = question.rollout.0.as_str();
    let mut commands = app.operations.hooks.commands.iter();
    let endpoints = app.operations.notices.asked(project);
    commands.any(|command| command.asks && command.is_for(project))
        || endpoints.is_none_or(|endpoints| !endpoints.is_empty())
}

/// Asks everybody; an error names the first hook, in their order, that does not allow it, and why.
pub(super) async fn everybody(app: &App, question: &Question) -> Result<(), String> {
    let document = question.document(app);
    let project = question.rollout.0.as_str();
    let endpoints = crate::notices::endpoints_asked(app, project).await;
    let endpoints =
        endpoints.map_err(|error| format!("storage, which knows the hooks: {error}"))?;
    for command in &app.operations.hooks.commands {
        if command.asks && command.is_for(project) {
            let ran = command.run(&document).await;
            let named = |reason: String| format!("command {}: {}", command.name, clipped(&reason));
            let ran = ran.map_err(named)?;
            if ran.code != Some(0) {
                return Err(named(ran.in_words()));
            }
        }
    }
    for (key, endpoint) in &endpoints {
        let outcome = ask_endpoint(app, (project, key), endpoint, &document).await;
        note(app, (project, key), &document, &outcome).await;
        outcome.map_err(|reason| format!("webhook {key}: {}", clipped(&reason)))?;
    }
    Ok(())
}

async fn ask_endpoint(
    app: &App,
    (project, key): (&str, &str),
    endpoint: &Endpoint,
    document: &Value,
) -> Result<(), String> {
    let to = Post {
        project,
        key,
        endpoint,
        purpose: Purpose::Ask,
        limits: app.operations.notices.limits(),
    };
    let answer = post(app, to, document)
        .await
        .map_err(|error| error.to_string())?;
    if !(200..300).contains(&answer.status) {
        return Err(format!("it answered {}", answer.status));
    }
    read_decision(&answer.body)
}

/// Reads an endpoint's answer.
fn read_decision(body: &[u8]) -> Result<(), String> {
    let unreadable = |_| "its answer is not {\"decision\": \"allow\" or \"hold\"}".to_owned();
    let answer: Decision = serde_json::from_slice(body).map_err(unreadable)?;
    match answer.decision.as_str() {
        "allow" => Ok(()),
        "hold" => Err(answer
            .reason
            .unwrap_or_else(|| "it gives no reason".to_owned())),
        other => Err(format!(
            "it decided {other:?}, which is neither allow nor hold"
        )),
    }
}

async fn note(
    app: &App,
    (project, key): (&str, &str),
    document: &Value,
    outcome: &Result<(), String>,
) {
    let attempt = Attempt {
        id: document["data"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        event: "rollout.ask".to_owned(),
        at_us: app.clock.now_us(),
        number: 1,
        outcome: if outcome.is_ok() { "allowed" } else { "held" }.to_owned(),
        reason: outcome.as_ref().err().cloned(),
        next_us: None,
    };
    log::add(app, project, key, attempt).await;
}

fn clipped(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_allow_allows() {
        assert_eq!(read_decision(br#"{"decision":"allow"}"#), Ok(()));
        assert_eq!(read_decision(br#"{"decision":"allow","note":"x"}"#), Ok(()));
        for (body, says) in [
            (&br#"{"decision":"hold","reason":"freeze"}"#[..], "freeze"),
            (br#"{"decision":"hold"}"#, "no reason"),
            (br#"{"decision":"Allow"}"#, "neither"),
            (br#"{"allow":true}"#, "is not"),
            (b"true", "is not"),
            (b"", "is not"),
            (b"\xff", "is not"),
        ] {
            let reason = read_decision(body).unwrap_err();
            assert!(reason.contains(says), "{reason}");
        }
    }
}
