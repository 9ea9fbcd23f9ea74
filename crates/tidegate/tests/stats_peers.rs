//! Side by side with peers, where Python is there: `TIDEGATE_STATS_PEERS_PYTHON` names a Python with
//! scipy, statsmodels, gbstats and spotify-confidence. Elsewhere the script is checked to be there and to name its figures.
#![expect(
    clippy::disallowed_methods,
    reason = "the one switch of this test is its environment"
)]

use std::path::Path;
use std::process::Command;

#[test]
fn figures_agree_with_peers_where_peers_are_right() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/stats/peers.py");
    let text = std::fs::read_to_string(&script).unwrap();
    for peer in ["gbstats", "statsmodels", "spotify-confidence", "scipy"] {
        assert!(
            text.contains(&format!("\"{peer} ")),
            "{peer} is not compared"
        );
    }
    if let Some(python) = std::env::var_os("TIDEGATE_STATS_PEERS_PYTHON") {
        let output = Command::new(python)
            .arg(&script)
            .arg(env!("CARGO_BIN_EXE_tidegate"))
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
