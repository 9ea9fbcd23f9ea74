//! The release binary with 1,000 flags in its store.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::client::{Connection, evaluate_all, evaluate_one};
pub use crate::process::TOKEN;
use crate::process::{apply, build, spawn};

/// Flags in the set.
pub const FLAGS: usize = 1_000;
/// A running server; its folder goes away with it.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Builds the binary if need be, starts it and fills it.
    pub fn with_flags() -> Self {
        build();
        let folder = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (child, address) = spawn(&folder);
        let server = Self {
            address,
            child,
            folder,
        };
        let file = server.folder.join("flags.json");
        std::fs::write(&file, flags()).unwrap();
        apply(server.address, &file);
        server
    }

    /// Stops it gently and starts it again; returns the time from the start of the process to its
    /// first evaluated flag.
    pub fn restart(&mut self) -> Duration {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        self.child.wait().unwrap();
        let started = Instant::now();
        (self.child, self.address) = spawn(&self.folder);
        let (status, _) = Connection::open(self.address).ask(&evaluate_one(1));
        assert_eq!(status, 200);
        started.elapsed()
    }

    /// The entity tag of the bulk answer.
    pub fn entity_tag(&self) -> String {
        let (_, tag) = Connection::open(self.address).ask(&evaluate_all(None));
        tag.expect("a bulk answer has an entity tag")
    }

    /// What the kernel says it holds, in MiB.
    pub fn resident_mib(&self) -> f64 {
        self.resident_kib() / 1024.0
    }

    /// What the kernel says it holds, in KiB.
    pub fn resident_kib(&self) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Flags with a list test, then a split: what most flags in use look like.
fn flags() -> String {
    let mut text = String::from(r#"{"flags":{"#);
    for index in 0..FLAGS {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, r#"{comma}"flag-{index}":{}"#, flag());
    }
    text.push_str("}}");
    text
}

/// One of them.
pub fn flag() -> &'static str {
    r#"{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"in":[{"var":"plan"},["pro","team"]]},{"fractional":[["on",50],["off",50]]}]}}"#
}
