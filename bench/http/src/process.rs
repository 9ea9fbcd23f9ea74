//! The release binary as a process; shared with the measurements of ingestion.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The bootstrap token.
pub const TOKEN: &str = "a-token-for-measuring-0123456789abcdef";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `TIDEGATE_BENCH_BINARY`, to measure one that was built elsewhere, or our own.
pub fn binary() -> PathBuf {
    std::env::var_os("TIDEGATE_BENCH_BINARY")
        .map_or_else(|| root().join("target/release/tidegate"), PathBuf::from)
}

/// Builds our own, unless another is to be measured.
pub fn build() {
    if std::env::var_os("TIDEGATE_BENCH_BINARY").is_some() {
        return;
    }
    let built = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--package",
            "tidegate",
        ])
        .current_dir(root())
        .status()
        .unwrap();
    assert!(built.success());
}

/// Starts it over the data in a folder; where it answers.
pub fn spawn(folder: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.join("data"))
        .env("TIDEGATE_BOOTSTRAP_TOKEN", TOKEN)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .trim()
        .strip_prefix("listening on http://")
        .expect("it listens");
    (child, address.parse().unwrap())
}

/// Applies a file to a server.
pub fn apply(address: SocketAddr, file: &Path) {
    let applied = Command::new(binary())
        .args(["apply", "--file"])
        .arg(file)
        .env("TIDEGATE_SERVER", format!("http://{address}"))
        .env("TIDEGATE_TOKEN", TOKEN)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(applied.success());
}
