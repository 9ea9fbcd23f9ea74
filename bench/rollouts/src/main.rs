//! How soon a harmful change is gone from every open stream, and what a thousand guarded rollouts
//! cost: the real release binary, driven over its own port. Client and server share the machine.
//!
//! `delay` or `thousand` measures one half alone.

mod delay;
#[path = "../../http/src/process.rs"]
mod process;
#[path = "../../http/src/report.rs"]
mod report;
mod server;
mod streams;
mod thousand;
mod traffic;
mod wire;

use report::Report;

fn main() {
    process::build();
    let mut report = Report::default();
    let only = std::env::args().nth(1);
    let wanted = |half: &str| only.as_deref().is_none_or(|only| only == half);
    if wanted("delay") {
        delay::report(&mut report);
    }
    if wanted("thousand") {
        thousand::report(&mut report);
    }
    report.print();
}

/// Now, in microseconds since 1970: the server's records are in the same clock, on the same machine.
fn now_us() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

/// The value that `per_mille` of a thousand do not exceed, by nearest rank.
fn quantile(values: &mut [f64], per_mille: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * per_mille).div_ceil(1000).max(1);
    values[rank - 1]
}

/// A number between 0 and 1 that depends on `text` alone, the same on every run.
fn chance(text: &str) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
