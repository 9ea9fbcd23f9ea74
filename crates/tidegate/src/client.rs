//! Talking to a server: where it is, who asks, and what its refusals mean for a person.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

/// The largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;

/// Which server, as whom, about which project.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// The server's address
    #[arg(long, env = "TIDEGATE_SERVER", default_value = "http://127.0.0.1:8800")]
    pub(crate) server: String,
    /// The token to act with
    #[arg(long, env = "TIDEGATE_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// The project that is meant
    #[arg(long, env = "TIDEGATE_PROJECT", default_value = "default")]
    pub(crate) project: String,
    /// Whether to wait for as long as a report may take.
    #[arg(skip)]
    pub(crate) is_patient: bool,
}

/// An answer that was not a refusal.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body, `null` if there was none.
    pub(crate) body: Value,
}

/// A request's conditions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conditions {
    /// `If-Match` with this revision.
    pub(crate) revision: Option<u64>,
    /// `If-None-Match: *`.
    pub(crate) must_be_new: bool,
}

impl Connection {
    /// The token to act with: given, or in the file that `TIDEGATE_TOKEN_FILE` names.
    fn token(&self) -> Result<Option<String>> {
        match &self.token {
            Some(token) => Ok(Some(token.clone())),
            None => crate::config::secret("TIDEGATE_TOKEN"),
        }
    }

    /// The server's address with its scheme, which may be left out.
    pub(crate) fn base(&self) -> String {
        let address = self.server.trim_end_matches('/');
        match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}"),
        }
    }

    /// The path of something in the connection's project.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/projects/{}/{rest}", encode(&self.project))
    }

    /// Reads.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, None, Conditions::default())
    }

    /// Reads what may take long to compute.
    pub(crate) fn get_patiently(&self, path: &str) -> Result<Answer> {
        self.patiently().get(path)
    }

    /// Acts, where that may take long.
    pub(crate) fn post_patiently(&self, path: &str, body: &Value) -> Result<Answer> {
        self.patiently().post(path, body)
    }

    fn patiently(&self) -> Self {
        Self {
            is_patient: true,
            ..self.clone()
        }
    }

    /// Acts or creates.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send("POST", path, Some(body), Conditions::default())
    }

    /// Creates or replaces.
    pub(crate) fn put(&self, path: &str, body: &Value, conditions: Conditions) -> Result<Answer> {
        self.send("PUT", path, Some(body), conditions)
    }

    /// Removes.
    pub(crate) fn delete(&self, path: &str, conditions: Conditions) -> Result<Answer> {
        self.send("DELETE", path, None, conditions)
    }

    /// Reads an answer as it is written, in the media type wanted.
    pub(crate) fn get_text(&self, path: &str, accept: &str) -> Result<String> {
        let request = self
            .request("GET", path)?
            .header("accept", accept)
            .body(Vec::new())?;
        let (status, text) = self.exchange(request)?;
        if status < 400 {
            return Ok(text);
        }
        Err(self.refusal(&Answer::of(status, text)))
    }

    /// Sends events, one JSON object per line, and answers whatever came back.
    pub(crate) fn post_ndjson(&self, path: &str, lines: &[u8]) -> Result<Answer> {
        let request = self
            .request("POST", path)?
            .header("content-type", "application/x-ndjson")
            .body(lines.to_vec())?;
        let (status, text) = self.exchange(request)?;
        Ok(Answer::of(status, text))
    }

    /// Sends gzipped lines.
    pub(crate) fn post_packed(&self, path: &str, packed: Vec<u8>) -> Result<Answer> {
        let request = self
            .request("POST", path)?
            .header("content-type", "application/x-ndjson")
            .header("content-encoding", "gzip")
            .body(packed)?;
        let (status, text) = self.exchange(request)?;
        Ok(Answer::of(status, text))
    }

    /// What a refusal means, in words.
    pub(crate) fn explained(&self, answer: &Answer) -> String {
        explain(answer, self)
    }

    /// Sends, and turns a refusal into an error that says what to do.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        conditions: Conditions,
    ) -> Result<Answer> {
        let answer = self.send_raw(method, path, body, conditions)?;
        if answer.status < 400 {
            return Ok(answer);
        }
        let refusal = self.refusal(&answer);
        match answer.status {
            404 => Err(self.with_suggestion(refusal, path)),
            _ => Err(refusal),
        }
    }

    /// Names the key that was most likely meant, where there is no object of the key in `path`.
    fn with_suggestion(&self, refusal: anyhow::Error, path: &str) -> anyhow::Error {
        let Some((collection, meant)) = self.key_in(path) else {
            return refusal;
        };
        let kind = collection.trim_end_matches('s');
        let list = format!("`tidegate {kind} list` shows what there is");
        let rows = crate::flag::all(self, collection).unwrap_or_default();
        let keys = rows.iter().filter_map(|row| row["key"].as_str());
        match crate::nearest::nearest(&meant, keys) {
            Some(near) => anyhow::anyhow!("{refusal}; did you mean {near}? {list}"),
            None => anyhow::anyhow!("{refusal}; {list}"),
        }
    }

    /// The collection and the key that a path of a flag, a rollout or a token names.
    fn key_in(&self, path: &str) -> Option<(&'static str, String)> {
        let below = path.strip_prefix(&self.path(""))?;
        let mut segments = below.split(['/', '?']);
        let named = segments.next()?;
        let collection = ["flags", "rollouts", "tokens"]
            .into_iter()
            .find(|known| *known == named)?;
        Some((collection, decode(segments.next()?)))
    }

    /// A refusal as an error that says what to do.
    pub(crate) fn refusal(&self, answer: &Answer) -> anyhow::Error {
        anyhow::anyhow!("{}", explain(answer, self))
    }

    /// Sends, and answers whatever came back.
    pub(crate) fn send_raw(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        conditions: Conditions,
    ) -> Result<Answer> {
        let mut request = self.request(method, path)?;
        if let Some(revision) = conditions.revision {
            request = request.header("if-match", format!("\"{revision}\""));
        }
        if conditions.must_be_new {
            request = request.header("if-none-match", "*");
        }
        // `null` stands for no body: some doors take none.
        let text = body
            .filter(|body| !body.is_null())
            .map(serde_json::to_vec)
            .transpose()?
            .unwrap_or_default();
        let request = request
            .header("content-type", "application/json")
            .body(text)?;
        let (status, text) = self.exchange(request)?;
        Ok(Answer::of(status, text))
    }

    /// A request as this caller.
    fn request(&self, method: &str, path: &str) -> Result<ureq::http::request::Builder> {
        // An empty name would address the list it is in, or nothing at all.
        let (names, _) = path.split_once('?').unwrap_or((path, ""));
        ensure!(
            names.split('/').skip(1).all(|name| !name.is_empty()),
            "a name is empty: give a key (and a --project) of at least one character"
        );
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base()));
        Ok(match self.token()? {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        })
    }

    fn exchange(&self, request: ureq::http::Request<Vec<u8>>) -> Result<(u16, String)> {
        let mut response = agent(self.is_patient).run(request).with_context(|| {
            format!(
                "no answer from {}; is `tidegate serve` running there?",
                self.server
            )
        })?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_string()
            .context("the answer broke off")?;
        Ok((status, text))
    }
}

impl Answer {
    fn of(status: u16, text: String) -> Self {
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        };
        Self { status, body }
    }
}

/// How long an answer is waited for.
const USUAL_WAIT: Duration = Duration::from_secs(30);
/// The same of a report: longer than any server lets one take.
const LONG_WAIT: Duration =
    tidegate_server::reports::LONGEST_LIMIT.saturating_add(Duration::from_secs(60));

/// One agent each for the process, so that connections are reused.
fn agent(is_patient: bool) -> &'static ureq::Agent {
    static USUAL: OnceLock<ureq::Agent> = OnceLock::new();
    static PATIENT: OnceLock<ureq::Agent> = OnceLock::new();
    let (agent, wait) = match is_patient {
        true => (&PATIENT, LONG_WAIT),
        false => (&USUAL, USUAL_WAIT),
    };
    agent.get_or_init(|| {
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(USUAL_WAIT))
            .timeout_global(Some(wait))
            .build()
            .into()
    })
}

/// A refusal in words, with every violation on a line of its own.
fn explain(answer: &Answer, connection: &Connection) -> String {
    let field = |name| answer.body.get(name).and_then(Value::as_str);
    let mut text = match field("detail").or_else(|| field("title")) {
        Some(detail) => detail.to_owned(),
        None => format!("the server answered {}", answer.status),
    };
    if answer.status == 401 {
        text = match connection.token().unwrap_or_default() {
            None => "a token is needed; give one with --token or TIDEGATE_TOKEN. Whoever runs the \
                     server has the first one (TIDEGATE_BOOTSTRAP_TOKEN), and makes more by \
                     `tidegate token create`"
                .to_owned(),
            Some(_) => format!(
                "the token is not known at {}, or has expired or been disabled; `tidegate token \
                 list` by an administrator shows which there are",
                connection.server
            ),
        };
    }
    if answer.status == 403 {
        text.push_str(
            "; docs/access.md says who may do what, and an administrator grants it by `tidegate \
             person role` or a token of another kind",
        );
    }
    let violations = answer.body.get("violations").and_then(Value::as_array);
    let lines: Vec<String> = violations
        .into_iter()
        .flatten()
        .map(|violation| {
            let part = |name: &str| violation[name].as_str().unwrap_or_default();
            format!("{} {}", part("pointer"), part("message"))
        })
        .collect();
    match lines.as_slice() {
        [] => text,
        // The only violation is the detail, with its place.
        [only] => only.trim_start().to_owned(),
        many => format!("{text}\n  {}", many.join("\n  ")),
    }
}

/// Percent-encodes one path segment.
pub(crate) fn encode(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// What [`encode`] made of a text.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%')
            .then(|| std::str::from_utf8(after.get(..2)?).ok())
            .flatten()
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_lists_every_violation_with_its_place() {
        let connection = Connection {
            server: "http://127.0.0.1:1".to_owned(),
            token: None,
            project: "default".to_owned(),
            is_patient: false,
        };
        let body = json!({"title": "t", "detail": "2 rules are broken", "violations": [
            {"pointer": "/state", "message": "must be ENABLED or DISABLED"},
            {"pointer": "/variants", "message": "at least one"}]});
        let text = explain(&Answer { status: 400, body }, &connection);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("/state must be") && text.contains("/variants at least"));
        let text = explain(
            &Answer {
                status: 401,
                body: json!({}),
            },
            &connection,
        );
        assert!(text.contains("--token"), "{text}");
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(encode("a/b c.ü"), "a%2Fb%20c.%C3%BC");
        assert_eq!(decode("a%2Fb%20c.%C3%BC"), "a/b c.ü");
        assert_eq!(decode("50%"), "50%");
    }
}
