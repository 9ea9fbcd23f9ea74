//! The loop, as a newcomer sees it: the demo's verdicts agree with its truth.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn the_demo_opens_what_is_healthy_and_shuts_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("demo")
        .arg("--data-dir")
        .arg(folder.path())
        .args([
            "--listen",
            "127.0.0.1:0",
            "--exit-when-done",
            "--seed",
            "7",
            "-o",
            "json",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(
        first.starts_with("listening on http://127.0.0.1:"),
        "{first}"
    );
    let report: Value = serde_json::from_str(rest).unwrap();
    let scenario = |name: &str| {
        let rows = report["scenarios"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap().clone()
    };
    let bad = scenario("new-checkout");
    assert_eq!(bad["verdict"], "harmed", "{bad}");
    assert_eq!(bad["final_share_bp"], 0, "{bad}");
    assert!(
        bad["reason"]
            .as_str()
            .unwrap()
            .starts_with("rolled back: errors"),
        "{bad}"
    );
    let slow = scenario("richer-receipts");
    assert_eq!(
        (&slow["verdict"], &slow["final_share_bp"]),
        (&"harmed".into(), &0.into()),
        "{slow}"
    );
    assert_eq!(slow["reported_over"], "OTLP spans", "{slow}");
    assert!(
        slow["seconds"].as_f64().unwrap() < 110.0,
        "spans reach their guard ten seconds late, and still in time: {slow}"
    );
    let good = scenario("faster-search");
    assert_eq!(
        (&good["lifecycle"], &good["final_share_bp"]),
        (&"completed".into(), &10_000.into())
    );
    let silent = scenario("gift-wrapping");
    assert_eq!(
        (&silent["verdict"], &silent["final_share_bp"]),
        (&"no_data".into(), &100.into())
    );
    assert!(output.status.success(), "{report:#}");
    each_automatic_rollback_has_an_incident_with_its_timeline(folder.path());
}

/// What the delivery log of the demo says afterwards, with its server stopped.
fn each_automatic_rollback_has_an_incident_with_its_timeline(data_dir: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args([
            "delivery",
            "incidents",
            "--explain",
            "-o",
            "json",
            "--data-dir",
        ])
        .arg(data_dir)
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = answer["rows"].as_array().unwrap();
    assert_eq!(
        rows.len(),
        2,
        "one for each change that did harm: {answer:#}"
    );
    for row in rows {
        let flag = row["flag"].as_str().unwrap();
        assert!(
            ["new-checkout", "richer-receipts"].contains(&flag),
            "{row:#}"
        );
        assert!(
            row["resolved_at"].is_string(),
            "exposure is back at zero: {row:#}"
        );
        assert!(row["hours"].as_f64().unwrap() < 0.1, "{row:#}");
        assert!(
            row["evidence"].as_str().unwrap().starts_with("rolled back"),
            "{row:#}"
        );
        let told: Vec<&str> = row["timeline"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["what"].as_str().unwrap())
            .collect();
        let exposed = told
            .iter()
            .position(|what| what.contains("exposed to 1.00 %"));
        let rolled_back = told
            .iter()
            .position(|what| what.contains("automatically on guard"));
        let closed = told
            .iter()
            .rposition(|what| what.contains("exposed to 0.00 %"));
        assert!(exposed < rolled_back && rolled_back < closed, "{told:#?}");
        assert!(exposed.is_some(), "{told:#?}");
    }
}
