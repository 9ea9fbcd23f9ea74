//! The release binary over a folder of its own, what it has used of the machine, and what it
//! has stored.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

pub use crate::process::TOKEN;
use crate::process::{binary, build, spawn};

/// A running server; its folder goes away with it.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts the binary over an empty folder.
    pub fn start() -> Self {
        build();
        let parent = std::env::var_os("TIDEGATE_BENCH_FOLDER")
            .map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = parent.join(format!("tidegate-bench-ingest-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (child, address) = spawn(&folder);
        Self {
            address,
            child,
            folder,
        }
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The most it has held, in MiB.
    pub fn peak_mib(&self) -> f64 {
        self.memory_mib("VmHWM:")
    }

    /// What it holds, in MiB.
    pub fn resident_mib(&self) -> f64 {
        self.memory_mib("VmRSS:")
    }

    fn memory_mib(&self, what: &str) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(what))
            .unwrap();
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib / 1024.0
    }

    /// Ends it gently and reads everything again that it has stored.
    pub fn stop_and_verify(mut self) -> Stored {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        let verified = Command::new(binary())
            .args(["events", "verify", "-o", "json", "--data-dir"])
            .arg(self.folder.join("data"))
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
        let problems = report["problems"].as_array().unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        Stored {
            events: report["events"].as_u64().unwrap(),
            bytes: bytes_under(&self.folder.join("data/events")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What is left on disk.
pub struct Stored {
    /// Distinct events.
    pub events: u64,
    /// Bytes of files and log.
    pub bytes: u64,
}

fn bytes_under(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_under(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds a process has used.
pub fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    used(&stat)
}

/// CPU seconds of its threads that live, by their names.
pub fn cpu_of_threads(process: u32) -> BTreeMap<String, Duration> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut all: BTreeMap<String, Duration> = BTreeMap::new();
    for thread in threads.flatten() {
        // A thread may have ended since.
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else {
            continue;
        };
        let name = stat.split(['(', ')']).nth(1).unwrap_or_default();
        *all.entry(name.to_owned()).or_default() += used(&stat);
    }
    all
}

fn used(stat: &str) -> Duration {
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().unwrap())
        .sum();
    Duration::from_secs_f64(ticks / TICKS_PER_SECOND)
}

/// CPU seconds that all processes of the machine have used.
pub fn cpu_of_all() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let fields = stat.lines().next().unwrap().split_whitespace().skip(1);
    // User, nice, system; then idle and waiting, which are none; then interrupts and theft.
    let ticks: Vec<f64> = fields.map(|field| field.parse().unwrap()).collect();
    let busy: f64 = ticks[..3].iter().chain(&ticks[5..8]).sum();
    Duration::from_secs_f64(busy / TICKS_PER_SECOND)
}
