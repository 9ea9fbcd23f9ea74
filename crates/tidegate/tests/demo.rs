//! The loop, as a newcomer sees it: the demo's verdicts agree with its truth.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_demo_opens_what_is_healthy_and_shuts_what_is_not() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args([
            "demo",
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
}
