//! Unmodified OpenFeature clients from PyPI and npm, pointed at the real server.
//!
//! A thousand random (flag, context) pairs, drawn from a seed, must get the value that our own
//! evaluation gives: on the dialect each flag is pinned to where the server evaluates (OFREP, rpc),
//! on the client's own dialect where the client evaluates in process. Then the file changes, and
//! each client must see it. `scripts/test-clients` installs the clients, pinned.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod questions;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use questions::{Question, Random};
use serde_json::{Map, Value, json};
use support::{Server, until};
use tidegate_flags::{CompileOptions, Limits, Segments, compile, parse_flag_set};

const SEED: u64 = 20_261_120;
const FLAGS: usize = 25;
const CONTEXTS: usize = 40;

/// A client under test.
struct Client {
    program: &'static str,
    provider: &'static str,
    /// The dialect it evaluates on itself; the server evaluates for the others.
    dialect: Option<&'static str>,
    /// Whether its protocol can say "no value"; `evaluation.v1` answers zero for a disabled flag.
    can_say_nothing: bool,
}

impl Client {
    /// The engine of the Rust provider refuses a whole set for one flag whose default variant is
    /// null or absent, which flagd allows.
    fn demands_defaults(&self) -> bool {
        (self.program, self.provider) == ("rust", "in-process")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn install() {
    let status = Command::new(root().join("scripts/test-clients"))
        .status()
        .unwrap();
    assert!(status.success(), "the clients cannot be installed");
}

/// A client process that was sent its job.
struct Asking {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Asking {
    fn start(client: &Client, server: &Server, questions: &[Question], watch: &Value) -> Self {
        let clients = root().join("tests/clients");
        let installed = root().join("target/clients");
        let mut command = match client.program {
            "python" => Command::new(installed.join("python/bin/python")),
            "rust" => Command::new(root().join("target/rust-clients/debug/tidegate-rust-clients")),
            program => Command::new(program),
        };
        match client.program {
            "python" => command.arg(clients.join("python_client.py")),
            "node" => command.arg(clients.join("node_client.mjs")),
            _ => &mut command,
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions: Vec<Value> = questions.iter().map(Question::to_json).collect();
        let job = json!({
            "provider": client.provider,
            "host": "127.0.0.1",
            "port": server.address.port(),
            "questions": questions,
            "watch": watch,
        });
        writeln!(child.stdin.as_mut().unwrap(), "{job}").unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our own evaluation: value and variant of each question, absent where the caller's default holds.
fn ours(flags: &Map<String, Value>, dialect: Option<&str>, questions: &[Question]) -> Vec<Value> {
    let mut flags = flags.clone();
    if let Some(dialect) = dialect {
        for flag in flags.values_mut() {
            flag["bucketing"] = json!(dialect);
        }
    }
    let text = json!({ "flags": flags }).to_string();
    let source = parse_flag_set(&text, &Limits::default()).unwrap();
    let (ruleset, warnings) = compile(&source, &Segments::default(), &CompileOptions::default());
    assert!(warnings.is_empty(), "{warnings:?}");
    let answer = |question: &Question| {
        let context = question.context.as_object().unwrap();
        let bound = ruleset.bind(context, 1_800_000_000);
        let resolution = ruleset.evaluate(ruleset.handle(&question.flag).unwrap(), &bound);
        assert!(resolution.error.is_none(), "{question:?}");
        match resolution.value {
            Some(value) => value.clone(),
            None => question.default.clone(),
        }
    };
    questions.iter().map(answer).collect()
}

/// Equal as values: protocols do not tell `1` from `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// What a protocol without absence says of a disabled flag.
fn zero(kind: &str) -> Value {
    match kind {
        "boolean" => json!(false),
        "string" => json!(""),
        "object" => json!({}),
        _ => json!(0),
    }
}

fn disagreements(
    client: &Client,
    flags: &Map<String, Value>,
    questions: &[Question],
    answers: &Value,
) -> Vec<String> {
    let answers = answers["answers"].as_array().unwrap();
    assert_eq!(answers.len(), questions.len());
    let expected = ours(flags, client.dialect, questions);
    let mut wrong = Vec::new();
    for ((question, answer), value) in questions.iter().zip(answers).zip(&expected) {
        let is_disabled = flags[&question.flag]["state"] == "DISABLED";
        // The Rust flagd provider gives nested values as text, so the variant it
        // names is compared.
        let given = match (client.program, client.provider, question.kind) {
            ("rust", "rpc" | "in-process", "object") if !is_disabled => {
                let variant = answer["variant"].as_str();
                variant.map_or(&answer["value"], |name| {
                    &flags[&question.flag]["variants"][name]
                })
            }
            _ => &answer["value"],
        };
        let is_zero = !client.can_say_nothing && is_disabled && same(given, &zero(question.kind));
        if !same(given, value) && !is_zero {
            wrong.push(format!("{question:?}: {answer} and not {value}"));
        }
    }
    wrong
}

fn agrees(client: &Client) -> Server {
    install();
    let mut random = Random::new(SEED);
    let mut flags = questions::flags(&mut random, FLAGS);
    if client.demands_defaults() {
        for flag in flags.values_mut() {
            flag["defaultVariant"] = json!("c");
        }
    }
    let questions = questions::questions(&mut random, &flags, CONTEXTS);
    assert_eq!(questions.len(), FLAGS * CONTEXTS);
    let watched = json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"});
    flags.insert("watched".to_owned(), watched);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flags.json");
    std::fs::write(&file, json!({ "flags": flags }).to_string()).unwrap();
    let server = Server::dev(&file);

    let context = &questions.last().unwrap().context;
    let watch = json!({"flag": "watched", "type": "boolean", "default": false, "context": context, "until": true});
    let mut asking = Asking::start(client, &server, &questions, &watch);
    let answers = asking.line();
    let wrong = disagreements(client, &flags, &questions, &answers);
    let shown: Vec<&String> = wrong.iter().take(5).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} differ: {shown:#?}",
        wrong.len(),
        questions.len()
    );

    if let Some(dialect) = client.dialect {
        server_says_who_disagrees(&server, dialect);
    }
    flags["watched"]["defaultVariant"] = json!("on");
    std::fs::write(&file, json!({ "flags": flags }).to_string()).unwrap();
    assert_eq!(
        asking.line(),
        json!({"saw": true}),
        "the change reaches the client"
    );
    asking.end();
    server
}

/// The log and the status name the dialect the client is taken to be on, and the flags concerned.
fn server_says_who_disagrees(server: &Server, dialect: &str) {
    let line = until("the log names the dialect", || {
        let log = server.log();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("bucketing dialect"))?;
        Some(line.to_owned())
    });
    assert!(line.contains(dialect), "{line}");
    let status = server.admin("GET", "/status", &[], &Value::Null).json();
    let clients = status["projects"][0]["clients"].as_array().unwrap().clone();
    let [known] = clients.as_slice() else {
        panic!("one client is connected: {status}");
    };
    assert_eq!(known["bucketing_guess"], dialect, "{known}");
    assert!(
        known["leakage"]["other_dialect"].as_u64() > Some(0),
        "{known}"
    );
}

#[test]
fn python_over_ofrep() {
    agrees(&Client {
        program: "python",
        provider: "ofrep",
        dialect: None,
        can_say_nothing: true,
    });
}

#[test]
fn python_flagd_rpc() {
    agrees(&Client {
        program: "python",
        provider: "rpc",
        dialect: None,
        can_say_nothing: true,
    });
}

#[test]
fn python_flagd_in_process() {
    agrees(&Client {
        program: "python",
        provider: "in-process",
        dialect: Some("v3"),
        can_say_nothing: true,
    });
}

#[test]
fn node_over_ofrep() {
    agrees(&Client {
        program: "node",
        provider: "ofrep",
        dialect: None,
        can_say_nothing: true,
    });
}

#[test]
fn node_flagd_rpc() {
    agrees(&Client {
        program: "node",
        provider: "rpc",
        dialect: None,
        can_say_nothing: true,
    });
}

#[test]
fn node_flagd_in_process() {
    agrees(&Client {
        program: "node",
        provider: "in-process",
        dialect: Some("v2"),
        can_say_nothing: true,
    });
}

#[test]
fn browser_over_ofrep() {
    agrees(&Client {
        program: "node",
        provider: "ofrep-web",
        dialect: None,
        can_say_nothing: true,
    });
}

#[test]
fn browser_over_flagd_connect() {
    agrees(&Client {
        program: "node",
        provider: "flagd-web",
        dialect: None,
        can_say_nothing: false,
    });
}

#[cfg(feature = "rust-clients")]
mod rust {
    use super::{Client, agrees};

    fn rust(provider: &'static str, dialect: Option<&'static str>, can_say_nothing: bool) {
        agrees(&Client {
            program: "rust",
            provider,
            dialect,
            can_say_nothing,
        });
    }

    #[test]
    fn rust_over_ofrep() {
        rust("ofrep", None, true);
    }

    #[test]
    fn rust_flagd_rest() {
        rust("rest", None, true);
    }

    #[test]
    fn rust_flagd_rpc() {
        rust("rpc", None, false);
    }

    #[test]
    fn rust_flagd_in_process() {
        rust("in-process", Some("v3"), true);
    }
}

#[test]
fn the_questions_cover_every_type_and_both_outcomes() {
    let mut random = Random::new(SEED);
    let flags = questions::flags(&mut random, FLAGS);
    let questions = questions::questions(&mut random, &flags, CONTEXTS);
    let values = ours(&flags, None, &questions);
    let mut by_flag: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for (question, value) in questions.iter().zip(&values) {
        by_flag.entry(&question.flag).or_default().push(value);
    }
    let varied = by_flag
        .values()
        .filter(|values| values.iter().any(|value| *value != values[0]));
    assert!(
        varied.count() * 2 > FLAGS,
        "most flags give different values to different contexts"
    );
    for kind in questions::KINDS {
        assert!(
            questions.iter().any(|question| question.kind == kind),
            "{kind}"
        );
    }
    let elsewhere = ours(&flags, Some("v3"), &questions);
    assert_ne!(values, elsewhere, "the dialects differ somewhere");
}
