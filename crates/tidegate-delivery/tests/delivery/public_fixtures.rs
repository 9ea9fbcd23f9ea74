//! Public examples of others' webhooks, where they are at hand: every one parses.
//!
//! `TIDEGATE_OCTOKIT_EXAMPLES` names the unpacked npm package `@octokit/webhooks-examples`, which `make test` installs
//! with the clients;
//! `TIDEGATE_CDEVENTS_CONFORMANCE` the folder `conformance` of `cdevents/spec`.
//! Without them the same reading is done on this project's own files.

use std::path::PathBuf;

use serde_json::Value;
use tidegate_delivery::Moment;
use tidegate_delivery::webhook::{Parsed, Request, WebhookSource, parse};

#[expect(
    clippy::disallowed_methods,
    reason = "acceptance data is named by the environment"
)]
fn at_hand(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.exists())
}

fn own(file: &str) -> Value {
    let path = format!(
        "{}/../../spec/delivery/webhooks/{file}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON")
}

fn read(source: WebhookSource, event: &str, body: &Value) -> Parsed {
    let headers = [("X-GitHub-Event", event), ("X-GitHub-Delivery", "d")];
    let body = body.to_string();
    let received_at = Moment::parse("2025-01-01").expect("a time");
    parse(
        source,
        &Request {
            headers: &headers,
            body: body.as_bytes(),
            received_at,
        },
    )
    .unwrap_or_else(|error| panic!("{event}: {error}\n{body}"))
}

/// The package, where a variable says or where `scripts/test-clients` installs it.
fn octokit() -> Option<PathBuf> {
    let installed = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/clients/node_modules/@octokit/webhooks-examples"
    );
    at_hand("TIDEGATE_OCTOKIT_EXAMPLES")
        .or_else(|| Some(PathBuf::from(installed)).filter(|path| path.exists()))
}

/// Event names and bodies.
fn github_examples() -> Vec<(String, Value)> {
    let Some(package) = octokit() else {
        let requests = own("github")["requests"]
            .as_array()
            .expect("requests")
            .clone();
        return requests
            .into_iter()
            .map(|r| {
                (
                    r["headers"]["X-GitHub-Event"]
                        .as_str()
                        .expect("a name")
                        .to_owned(),
                    r["body"].clone(),
                )
            })
            .collect();
    };
    let mut examples = Vec::new();
    for edition in [
        "api.github.com",
        "ghes-31",
        "ghes-32",
        "ghes-33",
        "ghes-34",
        "ghes-35",
    ] {
        let index = std::fs::read(package.join(edition).join("index.json")).expect("an index");
        let kinds: Vec<Value> = serde_json::from_slice(&index).expect("JSON");
        for kind in &kinds {
            let name = kind["name"].as_str().expect("a name").to_owned();
            examples.extend(
                kind["examples"]
                    .as_array()
                    .expect("examples")
                    .iter()
                    .map(|e| (name.clone(), e.clone())),
            );
        }
    }
    assert_eq!(examples.len(), 726);
    examples
}

#[test]
fn every_github_example_is_read_and_yields_rows_or_a_note() {
    let mut with_rows = std::collections::BTreeSet::new();
    for (name, body) in github_examples() {
        let parsed = read(WebhookSource::GitHub, &name, &body);
        assert!(
            !parsed.events.is_empty() || !parsed.notes.is_empty(),
            "{name}"
        );
        assert!(
            !parsed.notes.iter().any(|note| note.contains("left out")),
            "{name}: {:?}",
            parsed.notes
        );
        if !parsed.events.is_empty() {
            with_rows.insert(name);
        }
    }
    // The published reviews are all by the author of the pull request, and so start no review clock.
    for name in ["deployment", "deployment_status", "issues", "pull_request"] {
        assert!(with_rows.contains(name), "{name} yields nothing");
    }
}

#[test]
fn every_cdevents_conformance_file_is_read() {
    let bodies: Vec<Value> = match at_hand("TIDEGATE_CDEVENTS_CONFORMANCE") {
        Some(folder) => {
            let files = std::fs::read_dir(folder)
                .expect("a folder")
                .map(|file| file.expect("a file").path());
            let json = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
            let bodies: Vec<Value> = json
                .map(|path| {
                    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
                })
                .collect();
            assert!(bodies.len() >= 45, "{} files", bodies.len());
            bodies
        }
        None => vec![own("cdevents")["requests"][0]["body"].clone()],
    };
    let mut rows = 0;
    for body in &bodies {
        let parsed = read(WebhookSource::CdEvents, "", body);
        assert_eq!(parsed.events.len() + parsed.notes.len(), 1, "{body}");
        rows += parsed.events.len();
    }
    assert!(rows > 0);
}
