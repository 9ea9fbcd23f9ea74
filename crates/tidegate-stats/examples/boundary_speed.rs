//! Prints how long exact group sequential boundaries take to solve.
//!
//! Run with `cargo run --release -p tidegate-stats --example boundary_speed`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement prints its time and needs a clock"
)]

use std::time::Instant;

use tidegate_stats::group_sequential::{Design, Sides, Spending, boundaries};

fn main() {
    for looks in [5, 14, 28, 60, 100, 120] {
        let design = Design::equally_spaced(0.05, Sides::Two, Spending::ObrienFleming, looks);
        let fastest = (0..20)
            .map(|_| {
                let start = Instant::now();
                let rows = boundaries(&design);
                assert!(rows.is_ok_and(|rows| rows.len() == usize::from(looks)));
                start.elapsed()
            })
            .min()
            .unwrap_or_default();
        println!("{looks:>4} looks: {:.3} ms", fastest.as_secs_f64() * 1e3);
    }
}
