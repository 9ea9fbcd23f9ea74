//! Real clients, unmodified, as their registries publish them.
//!
//! The providers are installed once into the build folder. Each is asked the same questions, and
//! what it says is compared with what the server says over OFREP: a provider that evaluates by
//! itself must agree on every flag of its own bucketing dialect.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Server, flags, json as call};

/// Where clients are installed, and found again by the next run.
fn workshop(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("clients")
        .join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn run(command: &mut Command) {
    let outcome = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{command:?}: {said}");
}

/// Runs `install` unless what it installs is what `list` asks for already.
fn installed(folder: &Path, list: &str, install: impl FnOnce()) {
    let wanted = std::fs::read_to_string(sources().join(list)).unwrap();
    let mark = folder.join("installed");
    if std::fs::read_to_string(&mark).is_ok_and(|has| has == wanted) {
        return;
    }
    install();
    std::fs::write(mark, wanted).unwrap();
}

fn python() -> Command {
    let folder = workshop("python");
    installed(&folder, "requirements.txt", || {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let pip = folder.join("bin/pip");
        let list = sources().join("requirements.txt");
        run(Command::new(pip)
            .args(["install", "--quiet", "-r"])
            .arg(list));
    });
    let mut command = Command::new(folder.join("bin/python"));
    command.arg(sources().join("ask.py"));
    command
}

fn node() -> Command {
    let folder = workshop("node");
    installed(&folder, "package.json", || {
        std::fs::copy(sources().join("package.json"), folder.join("package.json")).unwrap();
        run(Command::new("npm")
            .args(["install", "--silent"])
            .current_dir(&folder));
    });
    // Modules are looked for beside the script.
    std::fs::copy(sources().join("ask.mjs"), folder.join("ask.mjs")).unwrap();
    let mut command = Command::new("node");
    command.arg("ask.mjs").current_dir(&folder);
    command
}

/// What each client said: its name and its answers, in the order of the questions.
async fn ask(
    mut client: Command,
    server: &Server,
    questions: &[Value],
) -> Vec<(String, Vec<Value>)> {
    let task = json!({ "address": server.address.to_string(), "questions": questions });
    let output = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let mut child = client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(task.to_string().as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{failed}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| {
            let name = line["client"].as_str().unwrap().to_owned();
            (name, line["answers"].as_array().unwrap().clone())
        })
        .collect()
}

/// Flags of every kind, and splits of both dialects that clients use.
fn served() -> Value {
    let mut served = flags();
    let split = json!({"fractional": [["a", 10], ["b", 20], ["c", 70]]});
    for (key, dialect) in [("split2", "v2"), ("split3", "v3")] {
        served[key] = json!({
            "state": "ENABLED", "bucketing": dialect, "defaultVariant": "c", "targeting": split,
            "variants": {"a": "1", "b": "2", "c": "3"}
        });
    }
    served
}

fn questions() -> Vec<Value> {
    let ask = |flag: &str, kind: &str, default: Value, context: Value| json!({"flag": flag, "type": kind, "default": default, "context": context});
    let someone = json!({"targetingKey": "user-42", "plan": "pro"});
    let mut questions = vec![
        ask("on", "boolean", json!(false), someone.clone()),
        ask("plan", "string", json!("d"), someone.clone()),
        ask(
            "plan",
            "string",
            json!("d"),
            json!({"targetingKey": "user-43"}),
        ),
        ask("whole", "integer", json!(0), someone.clone()),
        ask("part", "float", json!(0.1), someone.clone()),
        ask("thing", "object", json!({}), someone.clone()),
        ask("disabled", "boolean", json!(true), someone.clone()),
        ask("undecided", "boolean", json!(true), someone.clone()),
        ask("missing", "boolean", json!(true), someone),
    ];
    for number in 0..1000 {
        let context = json!({ "targetingKey": format!("unit-{}", number * 7919) });
        for flag in ["split2", "split3"] {
            questions.push(ask(flag, "string", json!("none"), context.clone()));
        }
    }
    questions
}

/// What the server itself says to each question: the value, or the caller's default.
async fn expected(server: &Server, questions: &[Value]) -> Vec<Value> {
    let mut expected = Vec::with_capacity(questions.len());
    for question in questions {
        let path = format!(
            "/ofrep/v1/evaluate/flags/{}",
            question["flag"].as_str().unwrap()
        );
        let body = json!({ "context": question["context"] });
        let (_, answer) = call(server.address, "POST", &path, &[], &body).await;
        expected.push(answer.get("value").unwrap_or(&question["default"]).clone());
    }
    expected
}

/// Whether two values are the same; `1` and `1.0` are one number.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, value): (&String, &Value)| {
                other.get(key).is_some_and(|found| alike(value, found))
            };
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}

/// Compares values, leaving out the flags that `client` allots by another dialect.
fn compare(
    client: &str,
    other_dialect: &str,
    questions: &[Value],
    said: &[Value],
    expected: &[Value],
) {
    assert_eq!(said.len(), questions.len(), "{client}");
    for ((question, said), expected) in questions.iter().zip(said).zip(expected) {
        if question["flag"] == other_dialect {
            continue;
        }
        let same = alike(&said["value"], expected);
        assert!(
            same,
            "{client}: {question} gave {said}, and the server says {expected}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_providers_agree_with_the_server() {
    let server = Server::start(served()).await;
    let questions = questions();
    let expected = expected(&server, &questions).await;
    let answers = ask(python(), &server, &questions).await;
    let names: Vec<&str> = answers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "python-ofrep",
            "python-flagd-rpc",
            "python-flagd-in-process"
        ]
    );
    for (name, said) in &answers {
        let other = if name.ends_with("in-process") {
            "split2"
        } else {
            ""
        };
        compare(name, other, &questions, said, &expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_providers_agree_with_the_server() {
    let server = Server::start(served()).await;
    let questions = questions();
    let expected = expected(&server, &questions).await;
    let answers = ask(node(), &server, &questions).await;
    let names: Vec<&str> = answers.iter().map(|(name, _)| name.as_str()).collect();
    let all = [
        "node-ofrep",
        "node-flagd-rpc",
        "node-flagd-in-process",
        "web-ofrep",
        "web-flagd",
    ];
    assert_eq!(names, all);
    for (name, said) in &answers {
        let other = if name.ends_with("in-process") {
            "split3"
        } else {
            ""
        };
        compare(name, other, &questions, said, &expected);
    }
}
