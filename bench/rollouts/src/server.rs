//! The release binary over an empty folder.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;

use serde_json::Value;

use crate::process;
use crate::wire::Connection;

/// Ticks of the kernel's clock in a second of processor time.
const TICKS: f64 = 100.0;

/// A running server; its folder goes away with it.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Server {
    pub fn start(name: &str) -> Self {
        let folder = format!("tidegate-bench-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (child, address) = process::spawn(&folder);
        Self {
            address,
            child,
            folder,
        }
    }

    /// Asks something that must succeed.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = Connection::open(self.address).ask(method, path, body);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    /// Applies a file of flags in one transaction.
    pub fn apply(&self, flags: &Value) {
        let file = self.folder.join("flags.json");
        std::fs::write(&file, flags.to_string()).unwrap();
        process::apply(self.address, &file);
    }

    /// Seconds of processor time it has used.
    pub fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the command's name, which is in parentheses, the twelfth and thirteenth field.
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let ticks: f64 = fields
            .skip(11)
            .take(2)
            .map(|field| field.parse::<f64>().unwrap())
            .sum();
        ticks / TICKS
    }

    /// The sum of a metric's samples whose line begins with `series`.
    pub fn metric(&self, series: &str) -> f64 {
        let text = Connection::open(self.address).text("/metrics");
        text.lines()
            .filter_map(|line| line.strip_prefix(series))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
