//! The binary as an operator has it: started, asked over HTTP, told to stop.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part, and all of it is for tests"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use serde_json::{Value, json};

/// The bootstrap token of every test server.
pub const TOKEN: &str = "a-bootstrap-token-of-enough-characters";

/// A running `tidegate serve`, or `dev`.
pub struct Server {
    child: Child,
    _out: BufReader<ChildStdout>,
    pub url: String,
}

/// An answer, whatever its status.
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default()
    }
}

/// The binary without anything the test's own environment says.
pub fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub fn run(arguments: &[&str]) -> Output {
    tidegate(arguments).output().unwrap()
}

/// What a command printed, as JSON.
pub fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", complaint(output)))
}

/// Everything a command said.
pub fn complaint(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

impl Server {
    /// Serves `data_dir` on a free port, with the bootstrap token.
    pub fn start(data_dir: &Path, more: &[&str]) -> Self {
        let folder = data_dir.to_str().unwrap();
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--data-dir", folder];
        arguments.extend_from_slice(more);
        let mut command = tidegate(&arguments);
        command.env("TIDEGATE_BOOTSTRAP_TOKEN", TOKEN);
        Self::of(command)
    }

    /// Runs a command that serves, up to the line that says where.
    pub fn of(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let Some(url) = line.trim().strip_prefix("listening on ") else {
            let mut said = String::new();
            let errors = child.stderr.as_mut().unwrap();
            errors.read_to_string(&mut said).unwrap();
            panic!("it does not listen: {line}{said}");
        };
        let url = url.to_owned();
        Self {
            child,
            _out: out,
            url,
        }
    }

    /// Sends a request to the main port.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        send(&format!("{}{path}", self.url), method, headers, body)
    }

    /// Sends a request as the bootstrap administrator.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let bearer = format!("Bearer {TOKEN}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        self.send(method, path, &headers, &body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &Value::Null)
    }

    /// Makes a boolean flag that serves `variant`.
    pub fn make_flag(&self, key: &str, variant: &str) {
        let document = json!({ "key": key, "spec": definition(variant) });
        let answer = self.ask("POST", "/api/v1/projects/default/flags", &document);
        assert_eq!(answer.status, 201, "{}", answer.text);
    }

    /// The value OFREP answers with.
    pub fn value_of(&self, key: &str) -> Value {
        let path = format!("/ofrep/v1/evaluate/flags/{key}");
        self.ask("POST", &path, &json!({ "context": {} })).json()["value"].clone()
    }

    /// Asks the process to stop, and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").arg(&id).status().unwrap();
        assert!(asked.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A boolean flag that serves `variant` to everybody.
pub fn definition(variant: &str) -> Value {
    json!({
        "state": "ENABLED",
        "variants": { "on": true, "off": false },
        "defaultVariant": variant,
        "offVariant": "off",
    })
}

/// Sends a request anywhere.
pub fn send(url: &str, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(std::time::Duration::from_secs(30)))
        .allow_non_standard_methods(true)
        .build()
        .into();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.body_mut().read_to_string().unwrap(),
    }
}
