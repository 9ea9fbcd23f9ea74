//! Settings explained, and which web pages may evaluate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod house;

use house::{Server, TOKEN, complaint, printed, run, tidegate};
use serde_json::Value;

#[test]
fn each_setting_is_explained_with_its_source_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    let text = "data_dir = \"/srv/tidegate\"\nlisten = \"127.0.0.1:1\"\n\
                allowed_origins = [\"https://shop.example\"]\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let output = tidegate(&[
        "config",
        "check",
        "--config",
        file,
        "--explain",
        "-o",
        "json",
    ])
    .args(["--listen", "127.0.0.1:2"])
    .env("TIDEGATE_FLAGD_PROJECT", "shop")
    .env("TIDEGATE_BOOTSTRAP_TOKEN", TOKEN)
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    assert!(!complaint(&output).contains(TOKEN));
    let report = printed(&output);
    let rows = report["settings"].as_array().unwrap();
    let explained = |name: &str| -> (Value, String) {
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        (
            row["value"].clone(),
            row["source"].as_str().unwrap().to_owned(),
        )
    };
    let from_file = format!("file {file}");
    for (name, value, source) in [
        ("data_dir", "/srv/tidegate".into(), from_file.as_str()),
        ("listen", "127.0.0.1:2".into(), "command line"),
        (
            "flagd_project",
            "shop".into(),
            "environment TIDEGATE_FLAGD_PROJECT",
        ),
        ("flagd_ports", false.into(), "default"),
        ("requests_per_second", Value::Null, "default"),
        (
            "bootstrap_token",
            "set, not shown".into(),
            "environment TIDEGATE_BOOTSTRAP_TOKEN or TIDEGATE_BOOTSTRAP_TOKEN_FILE",
        ),
    ] {
        assert_eq!(explained(name), (value, source.to_owned()), "{name}");
    }
}

#[test]
fn a_setting_that_cannot_be_used_is_named() {
    for (arguments, named) in [
        (["--allowed-origins", "*"], "allowed_origins"),
        (["--requests-per-second", "0"], "requests_per_second"),
        (["--flagd-project", "No Such Key"], "flagd_project"),
    ] {
        let output = run(&[&["config", "check"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains(named), "{}", complaint(&output));
    }
}

const LISTED: &str = "https://shop.example";

#[test]
fn only_listed_origins_may_evaluate_and_send_events_and_none_may_administer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--allowed-origins", LISTED]);
    let bulk = "/ofrep/v1/evaluate/flags";
    let connect = "/flagd.evaluation.v1.Service/ResolveBoolean";
    let preflight = |path: &str, origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
        ];
        server.send("OPTIONS", path, &headers, "")
    };
    for path in [bulk, connect, "/api/v1/events", "/v1/traces"] {
        let answer = preflight(path, LISTED);
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), LISTED);
        let allowed = answer.header("access-control-allow-headers");
        for name in [
            "authorization",
            "x-api-key",
            "content-type",
            "if-none-match",
        ] {
            assert!(allowed.contains(name), "{allowed}");
        }
        assert_eq!(answer.header("access-control-allow-credentials"), "");
    }
    let strange = preflight(bulk, "https://evil.example");
    assert_eq!(strange.header("access-control-allow-origin"), "");
    assert_ne!(strange.status, 204);
    let admin = preflight("/api/v1/projects/default/flags", LISTED);
    assert_eq!(admin.header("access-control-allow-origin"), "");

    let bearer = format!("Bearer {TOKEN}");
    let headers = [("origin", LISTED), ("authorization", &bearer)];
    let answer = server.send("POST", bulk, &headers, "{}");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), LISTED);
    assert!(
        answer
            .header("access-control-expose-headers")
            .contains("etag")
    );
    assert_eq!(answer.header("vary"), "origin");
    let unknown = server.send("POST", bulk, &[("origin", LISTED)], "{}");
    assert_eq!(
        unknown.header("access-control-allow-origin"),
        LISTED,
        "refusals are readable"
    );
}
