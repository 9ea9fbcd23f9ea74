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
        let mut command = match client.program {
            "python" => Command::new(root().join("target/clients/python/bin/python")),
            _ => Command::new("node"),
        };
        command.arg(match client.program {
            "python" => clients.join("python_client.py"),
            _ => clients.join("node_client.mjs"),
        });
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
        let is_zero =
            !client.can_say_nothing && is_disabled && same(&answer["value"], &zero(question.kind));
        if !same(&answer["value"], value) && !is_zero {
            wrong.push(format!("{question:?}: {answer} and not {value}"));
        }
    }
    wrong
}

fn agrees(client: &Client) -> Server {
    install();
    let mut random = Random::new(SEED);
    let mut flags = questions::flags(&mut random, FLAGS);
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

    flags["watched"]["defaultVariant"] = json!("on");
    std::fs::write(&file, json!({ "flags": flags }).to_string()).unwrap();
    assert_eq!(
        asking.line(),
        json!({"saw": true}),
        "the change reaches the client"
    );
    if client.dialect.is_some() {
        server_says_who_disagrees(&server, client);
    }
    asking.end();
    server
}

/// The server names the dialect it takes the client to be on, and the flags that differ there.
fn server_says_who_disagrees(server: &Server, client: &Client) {
    let log = until("the log names the dialect", || {
        let log = server.log();
        log.lines()
            .find(|line| line.contains("bucketing dialect"))
            .map(str::to_owned)
    });
    assert!(log.contains(client.dialect.unwrap()), "{log}");
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
