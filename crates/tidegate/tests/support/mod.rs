//! The real binary on a free loopback port, and a client that can also misbehave.
//!
//! Nothing here knows the program's inside: a server is a process with a data folder, a request is
//! bytes on a socket, and an answer is what came back.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "each test file uses its part; waiting for another process needs a clock"
)]

pub mod locked;
pub mod person;
pub mod strange;
pub mod wire;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
pub use wire::{Answer, request};

/// The bootstrap token: everything in the default project.
pub const ADMIN: &str = "an-administrator-with-a-long-token-0123456789";

/// How long a test waits for something that must happen, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server process; killed when it is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// `tidegate serve` over `data_dir`.
    pub fn serve(data_dir: &Path) -> Self {
        let mut command = tidegate();
        command.arg("serve").arg("--data-dir").arg(data_dir);
        Self::start(&mut command)
    }

    /// `tidegate dev` over one file.
    pub fn dev(flags: &Path) -> Self {
        let mut command = tidegate();
        command.arg("dev").arg("--flags").arg(flags);
        Self::start(&mut command)
    }

    /// Starts a command that listens, and returns when it does.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while errors.read_line(&mut line).is_ok_and(|length| length > 0) {
                kept.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        output.read_line(&mut first).unwrap();
        let Some(address) = first.trim().strip_prefix("listening on http://") else {
            let _ = child.wait();
            panic!("it does not listen: {first:?}\n{}", log.lock().unwrap());
        };
        let address = address.parse().unwrap();
        // What else it prints is read, so that it never waits for this test.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Self {
            child,
            address,
            log,
        }
    }

    /// Sends as the administrator.
    pub fn admin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let bearer = format!("Bearer {ADMIN}");
        let mut all = vec![
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        all.extend_from_slice(headers);
        request(self.address, method, path, &all, &text_of(body))
    }

    /// Sends as whoever holds `token`.
    pub fn with_token(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        request(self.address, method, path, &headers, &text_of(body))
    }

    /// Creates a flag of the default project.
    pub fn create_flag(&self, key: &str, definition: &Value) -> Answer {
        let path = format!("/api/v1/projects/default/flags/{key}");
        self.admin("PUT", &path, &[("if-none-match", "*")], definition)
    }

    /// Replaces a flag's definition as of `revision`.
    pub fn change_flag(&self, key: &str, revision: u64, definition: &Value) -> Answer {
        let path = format!("/api/v1/projects/default/flags/{key}");
        let tag = format!("\"{revision}\"");
        self.admin("PUT", &path, &[("if-match", &tag)], definition)
    }

    /// Evaluates one flag over OFREP.
    pub fn evaluate(&self, key: &str, context: &Value) -> Answer {
        let path = format!("/ofrep/v1/evaluate/flags/{key}");
        self.admin(
            "POST",
            &path,
            &[],
            &serde_json::json!({ "context": context }),
        )
    }

    /// The value of one flag, or why there is none.
    pub fn value_of(&self, key: &str, context: &Value) -> Value {
        let answer = self.evaluate(key, context).json();
        answer.get("value").cloned().unwrap_or(answer)
    }

    /// Mints a token of the default project.
    pub fn mint(&self, kind: &str) -> String {
        let request = serde_json::json!({ "name": kind, "kind": kind });
        let answer = self.admin("POST", "/api/v1/projects/default/tokens", &[], &request);
        assert_eq!(answer.status, 201, "{answer}");
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// A series of `/metrics`, 0 if it is not there.
    pub fn counter(&self, series: &str) -> u64 {
        let answer = self.admin("GET", "/metrics", &[], &Value::Null);
        let text = String::from_utf8(answer.body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// Runs a client command against this server, as the administrator.
    pub fn run(&self, arguments: &[&str]) -> Output {
        tidegate()
            .args(arguments)
            .env("TIDEGATE_SERVER", format!("http://{}", self.address))
            .env("TIDEGATE_TOKEN", ADMIN)
            .output()
            .unwrap()
    }

    /// Everything it wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The id of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB, as the kernel says.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Whether it answers and is ready.
    pub fn is_ready(&self) -> bool {
        request(self.address, "GET", "/readyz", &[], b"").status == 200
    }

    /// kill -9.
    pub fn kill_nine(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits until it is gone.
    pub fn terminate(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        let status = until("the server drains and exits", || {
            self.child.try_wait().unwrap()
        });
        assert!(status.success(), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, without whatever this shell has configured.
pub fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for name in ["TIDEGATE_CONFIG", "TIDEGATE_SERVER", "TIDEGATE_PROJECT"] {
        command.env_remove(name);
    }
    command.env("TIDEGATE_BOOTSTRAP_TOKEN", ADMIN);
    command
}

/// Asks until there is an answer; fails with `what` when patience ends.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "it did not happen: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whole text of a stream.
pub fn read_all(mut source: impl std::io::Read) -> String {
    let mut text = String::new();
    source.read_to_string(&mut text).unwrap();
    text
}

fn text_of(body: &Value) -> Vec<u8> {
    match body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    }
}

/// Unix seconds, as the server sees them.
pub fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}

/// A number from the environment, for long runs.
pub fn configured(name: &str, ordinary: u32) -> u32 {
    std::env::var(name).map_or(ordinary, |text| text.parse().unwrap())
}

/// A boolean flag that is on for one plan.
pub fn plan_flag() -> Value {
    serde_json::json!({
        "state": "ENABLED",
        "variants": {"on": true, "off": false},
        "defaultVariant": "off",
        "offVariant": "off",
        "targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}
    })
}
