//! Files in, all of it or nothing, and every mistake named with its file and place.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use support::{Server, plan_flag, tidegate};

const FLAGS: &str = "/api/v1/projects/default/flags";

fn start() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(&folder.path().join("data"));
    (folder, server)
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn run(server: &Server, command: &str, path: &Path) -> Output {
    server.run(&[command, "-f", path.to_str().unwrap()])
}

fn flags(server: &Server) -> usize {
    let rows = server.admin("GET", FLAGS, &[], &Value::Null).json();
    rows["rows"].as_array().unwrap().len()
}

#[test]
fn plan_names_all_that_apply_refuses_and_neither_does_anything() {
    let (folder, server) = start();
    let files = folder.path().join("flags");
    fs::create_dir(&files).unwrap();
    fs::write(
        files.join("one.yaml"),
        "kind: flag\nkey: good\nspec: {state: ENABLED, variants: {a: 1, b: 2}, defaultVariant: a}\n---\n\
         kind: flag\nkey: bad\nspec: {state: MAYBE, variants: {}, defaultVariant: a}\n",
    )
    .unwrap();
    fs::write(
        files.join("two.yaml"),
        "kind: rollout\nkey: r\nspec: {flag: nowhere, treatment: a, control: b, stages: []}\n---\n\
         kind: flag\nkey: needy\nspec:\n  state: ENABLED\n  variants: {a: 1, b: 2}\n  \
         defaultVariant: a\n  rules: [{id: x, segments: [nowhere], variant: b}]\n",
    )
    .unwrap();
    let planned = run(&server, "plan", &files);
    let applied = run(&server, "apply", &files);
    for output in [&planned, &applied] {
        assert_eq!(output.status.code(), Some(1), "{}", said(output));
        let text = said(output);
        for expected in [
            "one.yaml: flag bad at /spec/state",
            "one.yaml: flag bad at /spec/variants",
            "two.yaml: rollout r at /spec",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }
    assert_eq!(flags(&server), 0, "nothing of it");

    // What depends on what arrives with it is no mistake; what would break the set is.
    fs::remove_file(files.join("one.yaml")).unwrap();
    fs::write(
        files.join("two.yaml"),
        "kind: rollout\nkey: r\nspec:\n  flag: f\n  treatment: \"on\"\n  control: \"off\"\n  blind: true\n  \
         reason: a test\n  stages: [{share_bp: 100, min_seconds: 1}]\n---\n\
         kind: flag\nkey: f\nspec:\n  state: ENABLED\n  variants: {\"on\": true, \"off\": false}\n  \
         defaultVariant: \"off\"\n  targeting: {if: [{\"==\": [{var: plan}, pro]}, \"on\"]}\n  \
         rules: [{id: x, segments: [team], prerequisites: [{flag: g, variants: [\"on\"]}], variant: \"on\"}]\n---\n\
         kind: segment\nkey: team\nspec: {units: [ada]}\n",
    )
    .unwrap();
    let others = fs::read_to_string(files.join("two.yaml")).unwrap();
    let with_g = |rules: &str| {
        let g = "kind: flag\nkey: g\nspec: {state: ENABLED, variants: {\"on\": true, \"off\": false}, \
                 defaultVariant: \"off\"";
        fs::write(
            files.join("two.yaml"),
            format!("{others}---\n{g}{rules}}}\n"),
        )
        .unwrap();
    };
    with_g(", rules: [{id: y, prerequisites: [{flag: f, variants: [\"on\"]}], variant: \"on\"}]");
    let in_a_circle = run(&server, "plan", &files);
    assert_eq!(in_a_circle.status.code(), Some(1), "{}", said(&in_a_circle));
    assert!(
        said(&in_a_circle).contains("two.yaml: flag f at /spec"),
        "{}",
        said(&in_a_circle)
    );
    with_g("");
    let planned = run(&server, "plan", &files);
    assert!(planned.status.success(), "{}", said(&planned));
    assert!(
        said(&planned).contains("4 of 4 objects would change"),
        "{}",
        said(&planned)
    );
    assert_eq!(flags(&server), 0);
    let applied = run(&server, "apply", &files);
    assert!(applied.status.success(), "{}", said(&applied));
    assert_eq!(flags(&server), 2);
    let again = run(&server, "plan", &files);
    assert!(
        said(&again).contains("nothing to change"),
        "{}",
        said(&again)
    );
    let warned = said(&again);
    assert!(
        warned.contains("rollout r at /spec/flag") && warned.contains("never reached"),
        "targeting behind the rollout's rule decides nothing: {warned}"
    );
    let started = said(&server.run(&["rollout", "start", "r"]));
    assert!(
        started.contains("/targeting") && started.contains("never reached"),
        "{started}"
    );
}

#[test]
fn a_plan_that_is_overtaken_is_not_applied() {
    let (folder, server) = start();
    assert_eq!(server.create_flag("f", &plan_flag()).status, 201);
    let file = folder.path().join("f.yaml");
    fs::write(
        &file,
        "kind: flag\nkey: f\nspec: {state: DISABLED, variants: {a: 1}, defaultVariant: a}\n---\n\
         kind: flag\nkey: new\nspec: {state: DISABLED, variants: {a: 1}, defaultVariant: a}\n",
    )
    .unwrap();
    let planned = server.run(&["plan", "-f", file.to_str().unwrap(), "-o", "json"]);
    assert!(planned.status.success(), "{}", said(&planned));
    let plan = folder.path().join("plan.json");
    fs::write(&plan, &planned.stdout).unwrap();
    let mut other = plan_flag();
    other["description"] = json!("somebody was faster");
    assert_eq!(server.change_flag("f", 1, &other).status, 200);
    let apply = || {
        server.run(&[
            "apply",
            "-f",
            file.to_str().unwrap(),
            "--plan",
            plan.to_str().unwrap(),
        ])
    };
    let overtaken = apply();
    assert_eq!(overtaken.status.code(), Some(1), "{}", said(&overtaken));
    let text = said(&overtaken);
    assert!(
        text.contains("flag f") && text.contains("revision 2"),
        "{text}"
    );
    assert_eq!(flags(&server), 1, "neither of the two");
    let read = server
        .admin("GET", &format!("{FLAGS}/f"), &[], &Value::Null)
        .json();
    assert_eq!(read["spec"]["description"], "somebody was faster");
    let planned = server.run(&["plan", "-f", file.to_str().unwrap(), "-o", "json"]);
    fs::write(&plan, &planned.stdout).unwrap();
    let applied = apply();
    assert!(applied.status.success(), "{}", said(&applied));
    assert_eq!(flags(&server), 2);
}

#[test]
fn a_kill_goes_with_an_export_to_another_server_and_is_lifted_by_no_file() {
    let (folder, server) = start();
    let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "on", "offVariant": "off"});
    assert_eq!(server.create_flag("f", &flag).status, 201);
    let (open, killed) = (folder.path().join("open"), folder.path().join("killed"));
    assert!(run(&server, "export", &open).status.success());
    let kill = server.run(&["flag", "kill", "f", "--reason", "it hurts"]);
    assert!(kill.status.success(), "{}", said(&kill));
    assert!(run(&server, "export", &killed).status.success());

    let elsewhere = tempfile::tempdir().unwrap();
    let other = Server::serve(elsewhere.path());
    let applied = run(&other, "apply", &killed);
    assert!(applied.status.success(), "{}", said(&applied));
    assert_eq!(other.value_of("f", &json!({})), false);
    assert!(run(&server, "apply", &open).status.success());
    assert_eq!(
        server.value_of("f", &json!({})),
        false,
        "no file lifts a kill"
    );

    let revived = server.run(&["flag", "revive", "f", "--reason", "it is mended"]);
    assert!(revived.status.success(), "{}", said(&revived));
    assert!(run(&server, "apply", &killed).status.success());
    assert_eq!(
        server.value_of("f", &json!({})),
        true,
        "no file sets a kill"
    );
}

#[test]
fn a_flagd_set_keeps_its_metadata_and_evaluators_there_and_back() {
    let (folder, server) = start();
    let file = folder.path().join("set.json");
    let set = json!({
        "metadata": {"team": "shop", "tier": 1},
        "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@us.example"]}},
        "flags": {"f": {"state": "ENABLED", "variants": {"on": true, "off": false},
            "defaultVariant": "off", "metadata": {"owner": "ada"},
            "targeting": {"if": [{"$ref": "staff"}, "on"]}}}
    });
    fs::write(&file, set.to_string()).unwrap();
    let applied = run(&server, "apply", &file);
    assert!(applied.status.success(), "{}", said(&applied));
    let answer = server
        .evaluate("f", &json!({"email": "ada@us.example"}))
        .json();
    assert_eq!(answer["value"], true, "{answer}");
    let metadata = &answer["metadata"];
    assert_eq!(
        (&metadata["team"], &metadata["owner"]),
        (&json!("shop"), &json!("ada")),
        "{answer}"
    );
    assert!(
        metadata["flagSetId"].is_string() && metadata["version"].is_string(),
        "{answer}"
    );

    let first = folder.path().join("first");
    assert!(run(&server, "export", &first).status.success());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Server::serve(elsewhere.path());
    let applied = run(&other, "apply", &first);
    assert!(applied.status.success(), "{}", said(&applied));
    let answer = other
        .evaluate("f", &json!({"email": "ada@us.example"}))
        .json();
    assert_eq!(
        (&answer["value"], &answer["metadata"]["team"]),
        (&json!(true), &json!("shop"))
    );
    let second = folder.path().join("second");
    assert!(run(&other, "export", &second).status.success());
    let read = |folder: &Path| {
        let mut files: Vec<(String, String)> = fs::read_dir(folder)
            .unwrap()
            .flatten()
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    assert_eq!(read(&first), read(&second));
    assert_eq!(read(&first).len(), 2, "the flag and the set");
}

#[test]
fn a_refusal_says_what_to_do_next() {
    let (_folder, server) = start();
    server.create_flag("new-checkout", &plan_flag());
    let address = format!("http://{}", server.address);
    let as_nobody = |token: Option<&str>, at: &str| {
        let mut command = tidegate();
        command
            .args(["flag", "list"])
            .env("TIDEGATE_SERVER", at)
            .env_remove("TIDEGATE_TOKEN");
        if let Some(token) = token {
            command.env("TIDEGATE_TOKEN", token);
        }
        command.output().unwrap()
    };
    let cases = [
        (
            server.run(&["flag", "get", "new-chekout"]),
            "did you mean new-checkout?",
        ),
        (
            server.run(&["flag", "kill", "zzz", "--reason", "x"]),
            "`tidegate flag list`",
        ),
        (server.run(&["flag", "create", ""]), "a name is empty"),
        (as_nobody(None, &address), "TIDEGATE_BOOTSTRAP_TOKEN"),
        (
            as_nobody(Some("wrong"), &address),
            "is not known at http://127.0.0.1",
        ),
        (
            as_nobody(None, "http://127.0.0.1:9"),
            "is `tidegate serve` running there?",
        ),
        (
            as_nobody(None, "127.0.0.1:9"),
            "is `tidegate serve` running there?",
        ),
    ];
    for (output, expected) in cases {
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains(expected),
            "{expected} in {}",
            said(&output)
        );
        assert!(output.stdout.is_empty(), "complaints are no answers");
    }
    let misspelt = tidegate().args(["flag", "lsit"]).output().unwrap();
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(said(&misspelt).contains("'list'"), "{}", said(&misspelt));
}

#[test]
fn flags_whose_names_differ_in_case_only_export_to_files_that_differ_in_more() {
    let (_folder, server) = start();
    for key in ["checkout", "Checkout", "CHECKOUT"] {
        server.create_flag(key, &plan_flag());
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&server, "export", folder.path()).status.success());
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("flag-"))
        .map(|name| name.to_lowercase())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
    let plan = run(&server, "plan", folder.path());
    assert!(said(&plan).contains("nothing"), "{}", said(&plan));
}

#[test]
fn a_token_tells_when_it_was_used_last_and_whose_it_is_where_it_is_refused() {
    let (_folder, server) = start();
    let listed = |server: &Server| -> Value {
        let output = server.run(&["token", "list", "-o", "json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["rows"][0].clone()
    };
    let made = server.run(&["token", "create", "shop", "--kind", "server", "-o", "json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let token = made["token"].as_str().unwrap().to_owned();
    assert!(
        listed(&server)["last_used_at"].is_null(),
        "{}",
        listed(&server)
    );
    let elsewhere = tidegate()
        .args(["flag", "list", "--project", "elsewhere"])
        .env("TIDEGATE_SERVER", format!("http://{}", server.address))
        .env("TIDEGATE_TOKEN", &token)
        .output()
        .unwrap();
    assert!(
        said(&elsewhere).contains("belongs to the project \"default\""),
        "{}",
        said(&elsewhere)
    );
    assert!(
        listed(&server)["last_used_at"].is_string(),
        "{}",
        listed(&server)
    );
}
