//! `tidegate dev`: a file that people edit, badly, while clients are connected.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{Server, tidegate, until};

fn flag(default: &str) -> Value {
    json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": default})
}

fn write(file: &Path, text: &str) {
    let whole = file.with_extension("new");
    std::fs::write(&whole, text).unwrap();
    std::fs::rename(&whole, file).unwrap();
}

fn dev(flags: &Value) -> (tempfile::TempDir, PathBuf, Server) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flags.json");
    write(&file, &flags.to_string());
    let server = Server::dev(&file);
    (folder, file, server)
}

fn until_value(server: &Server, key: &str, value: &Value) {
    until("the value is served", || {
        (server.value_of(key, &json!({})) == *value).then_some(())
    });
}

fn until_log(server: &Server, what: &str) -> String {
    until("the log says it", || {
        let log = server.log();
        log.lines()
            .find(|line| line.contains(what))
            .map(str::to_owned)
    })
}

#[test]
fn an_edit_is_served_without_a_restart_and_without_a_token() {
    let (_folder, file, server) = dev(&json!({"flags": {"a": flag("off")}}));
    let anonymous = support::request(
        server.address,
        "POST",
        "/ofrep/v1/evaluate/flags/a",
        &[],
        b"{}",
    );
    assert_eq!(anonymous.json()["value"], false, "{anonymous}");
    write(
        &file,
        &json!({"flags": {"a": flag("on"), "b": flag("on")}}).to_string(),
    );
    until_value(&server, "a", &json!(true));
    assert_eq!(server.value_of("b", &json!({})), json!(true));
    write(&file, &json!({"flags": {"b": flag("off")}}).to_string());
    until_value(&server, "b", &json!(false));
    assert_eq!(
        server.evaluate("a", &json!({})).status,
        404,
        "a flag taken out is gone"
    );
}

#[test]
fn a_file_that_cannot_be_read_keeps_the_whole_set_and_is_named_by_line_and_column() {
    let (_folder, file, server) = dev(&json!({"flags": {"a": flag("on"), "b": flag("off")}}));
    write(&file, "{\n  \"flags\": {\n    \"a\": {]\n}");
    let line = until_log(&server, "flags.json:3:11");
    assert!(line.contains("error") || line.contains("still"), "{line}");
    assert_eq!(server.value_of("a", &json!({})), json!(true));
    assert_eq!(server.value_of("b", &json!({})), json!(false));
    for broken in [
        "",
        "[]",
        "{\"flags\": 3}",
        "{\"flags\": {\"a\": {}, \"a\": {}}}",
        "\u{0}",
    ] {
        let before = server.log().len();
        write(&file, broken);
        until("the refusal is told", || {
            server.log()[before..].contains("still is").then_some(())
        });
        assert_eq!(server.value_of("a", &json!({})), json!(true), "{broken:?}");
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        server.value_of("a", &json!({})),
        json!(true),
        "without a file, too"
    );
    write(&file, &json!({"flags": {"a": flag("off")}}).to_string());
    until_value(&server, "a", &json!(false));
}

#[test]
fn a_bad_flag_keeps_its_own_last_good_version_and_harms_no_other() {
    let (_folder, file, server) = dev(&json!({"flags": {"bad": flag("on"), "good": flag("off")}}));
    for broken in [
        json!({"state": "ENABLED", "variants": {}}),
        json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "absent"}),
        json!({"state": "ENABLED", "variants": {"off": false}, "defaultVariant": "off", "targeting": {"nope": []}}),
        json!(17),
    ] {
        write(
            &file,
            &json!({"flags": {"bad": flag("on"), "good": flag("off")}}).to_string(),
        );
        until_value(&server, "good", &json!(false));
        let told = server.log().len();
        write(
            &file,
            &json!({"flags": {"bad": broken, "good": flag("on")}}).to_string(),
        );
        until_value(&server, "good", &json!(true));
        assert_eq!(
            server.value_of("bad", &json!({})),
            json!(true),
            "{broken}: {}",
            server.log()
        );
        until("the flag is named", || {
            let log = &server.log()[told..];
            let is_named = log.contains("flag \"bad\"") || log.contains("/flags/bad");
            is_named.then_some(())
        });
    }
}

#[test]
fn a_chain_of_a_thousand_prerequisites_answers_with_an_error_and_harms_no_other() {
    let mut flags = serde_json::Map::new();
    flags.insert("good".to_owned(), flag("on"));
    for depth in 0..1_000 {
        let mut link = flag("off");
        if depth > 0 {
            let needed = format!("link{}", depth - 1);
            link["rules"] = json!([{"id": "r", "prerequisites": [{"flag": needed, "variants": ["on"]}], "variant": "on"}]);
        }
        flags.insert(format!("link{depth}"), link);
    }
    let (_folder, _file, server) = dev(&json!({"flags": flags}));
    assert_eq!(server.value_of("good", &json!({})), json!(true));
    assert_eq!(server.value_of("link8", &json!({})), json!(false));
    let deep = server.evaluate("link999", &json!({}));
    assert_eq!(
        (deep.status, &deep.json()["errorCode"]),
        (400, &json!("PARSE_ERROR")),
        "{deep}"
    );
}

#[test]
fn dev_listens_on_loopback_only_and_refuses_a_bad_file_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flags.json");
    write(&file, "{\n  oops");
    let run = |listen: &str| {
        let output = tidegate()
            .args(["dev", "--listen", listen, "--flags"])
            .arg(&file)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = run("127.0.0.1:0");
    assert_eq!(code, Some(1));
    assert!(text.contains("flags.json:2:3"), "{text}");
    write(&file, r#"{"flags":{}}"#);
    let (code, text) = run("0.0.0.0:0");
    assert_eq!(code, Some(1));
    assert!(text.contains("loopback"), "{text}");
}

#[test]
fn a_files_own_metadata_is_served_and_ours_fills_what_it_leaves_out() {
    let set =
        json!({"metadata": {"flagSetId": "mine", "team": "shop"}, "flags": {"a": flag("off")}});
    let (_folder, _file, server) = dev(&set);
    let answer = server.evaluate("a", &json!({"targetingKey": "u"})).json();
    let metadata = &answer["metadata"];
    assert_eq!(metadata["flagSetId"], "mine", "{answer}");
    assert_eq!(metadata["team"], "shop", "{answer}");
    assert_eq!(metadata["contextId"], "u", "{answer}");
    assert!(metadata["version"].is_string(), "{answer}");
}
