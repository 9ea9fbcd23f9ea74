//! What the process has used: seconds of the wall, seconds of processors, memory.

use std::fs;
use std::time::Instant;

/// Clock ticks in a second, as Linux counts processor time.
const TICKS: f64 = 100.0;

/// Seconds of processors this process has used, all threads together.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// A span being measured.
pub struct Stopwatch {
    wall: Instant,
    cpu: f64,
}

/// Seconds of the wall and of processors.
#[derive(Clone, Copy)]
pub struct Spent {
    pub wall_s: f64,
    pub cpu_s: f64,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self {
            wall: Instant::now(),
            cpu: cpu_seconds(),
        }
    }

    pub fn stop(&self) -> Spent {
        Spent {
            wall_s: self.wall.elapsed().as_secs_f64(),
            cpu_s: cpu_seconds() - self.cpu,
        }
    }
}

/// Memory in MB: the highest so far, or what is held now.
pub fn resident_mb(line: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|other| other.starts_with(line))?;
    let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024.0)
}
