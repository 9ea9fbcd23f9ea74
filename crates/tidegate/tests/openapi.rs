//! The OpenAPI document is a contract: a change to it is a change to `spec/openapi.json`.
//!
//! `TIDEGATE_UPDATE_SNAPSHOTS=1` writes the document as it is now.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use support::Server;

const CURE: &str =
    "if the change is meant: TIDEGATE_UPDATE_SNAPSHOTS=1 cargo test -p tidegate --test openapi";

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let answer = support::request(server.address, "GET", "/api/v1/openapi.json", &[], b"");
    assert_eq!(answer.status, 200, "{answer}");
    let document = serde_json::to_string_pretty(&answer.json()).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/openapi.json");
    if support::configured("TIDEGATE_UPDATE_SNAPSHOTS", 0) == 1 {
        std::fs::write(&path, &document).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap();
    let operations = |text: &str| -> BTreeSet<String> {
        let document: Value = serde_json::from_str(text).unwrap();
        let paths = document["paths"].as_object().unwrap();
        paths
            .iter()
            .map(|(path, said)| format!("{path} {said}"))
            .collect()
    };
    let (now, then) = (operations(&document), operations(&reviewed));
    let differing: Vec<&String> = now.symmetric_difference(&then).collect();
    assert!(document == reviewed, "{differing:#?}\n{CURE}");
}

#[test]
fn every_operation_names_its_parameters_and_how_it_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::serve(folder.path());
    let answer = support::request(server.address, "GET", "/api/v1/openapi.json", &[], b"");
    let document: Value = answer.json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{name}");
            let parameters = operation["parameters"].as_array().unwrap().len();
            assert_eq!(parameters, path.matches('{').count(), "{name}");
            assert!(operation["responses"]["default"].is_object(), "{name}");
            let is_guarded = operation["security"].is_array();
            assert_eq!(is_guarded, operation["x-permission"].is_string(), "{name}");
        }
    }
}
