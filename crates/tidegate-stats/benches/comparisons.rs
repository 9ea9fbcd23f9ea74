//! Time per answer from sufficient statistics, one line per method.
//!
//! `cargo bench -p tidegate-stats --bench comparisons`; the ceiling is 2 microseconds for the methods that
//! a dashboard recomputes (fixed and sequential, absolute and relative with their p-value).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench reads the clock and prints"
)]

use std::hint::black_box;
use std::time::Instant;

use tidegate_stats::count_eprocess::{self, CountOptions, Phase};
use tidegate_stats::cuped;
use tidegate_stats::fixed::{self, FixedOptions};
use tidegate_stats::proportions::{self, Count, ProportionOptions};
use tidegate_stats::ratio::{self, RatioColumns};
use tidegate_stats::sequential::{self, SequentialOptions};
use tidegate_stats::{ArmSummary, JointMoments, Moments, Side};

/// Rounds of which the fastest counts, so that a busy machine does not.
const ROUNDS: u32 = 20;

fn time(name: &str, calls: u32, mut call: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(calls));
    }
    println!("{name:<48} {:>9.3} us", best * 1e6);
}

fn rows(seed: u32, units: u32) -> JointMoments {
    let mut moments = JointMoments::new(3).unwrap();
    for k in 0..units {
        let x = f64::from((k * 7919 + seed) % 1009) / 100.0;
        let noise = f64::from((k * 104_729 + seed) % 997) / 100.0;
        moments.push(&[2.0 * x + noise, 1.0 + x, x]).unwrap();
    }
    moments
}

fn main() {
    let control = ArmSummary::new(34_070, 0.41, 15.2).unwrap();
    let treatment = ArmSummary::new(34_610, 0.70, 38.4).unwrap();
    let once = FixedOptions::default();
    let always = SequentialOptions::default();
    time("fixed (Welch, Fieller) from summaries", 20_000, || {
        black_box(fixed::compare(
            black_box(&control),
            black_box(&treatment),
            &once,
        ))
        .unwrap();
    });
    time("sequential from summaries", 20_000, || {
        black_box(sequential::compare(
            black_box(&control),
            black_box(&treatment),
            &always,
        ))
        .unwrap();
    });
    let column = |seed: u32| {
        Moments::from_values((0..5000).map(|k: u32| f64::from((k * 7919 + seed) % 1009) * 0.37))
            .unwrap()
    };
    let (first, second) = (column(1), column(5));
    time("sequential from exact moments", 20_000, || {
        let arm = |moments: &Moments, side| ArmSummary::from_moments(moments, side).unwrap();
        let (left, right) = (
            arm(black_box(&first), Side::Control),
            arm(black_box(&second), Side::Treatment),
        );
        black_box(sequential::compare(&left, &right, &always)).unwrap();
    });
    let (left, right) = (rows(1, 4000), rows(3, 4100));
    let columns = RatioColumns {
        numerator: 0,
        denominator: 1,
    };
    time("sequential ratio from exact moments", 2000, || {
        let contrast = ratio::contrast(black_box(&left), black_box(&right), columns).unwrap();
        black_box(sequential::compare_contrast(&contrast, &always)).unwrap();
    });
    time("sequential CUPED from exact moments", 2000, || {
        let adjusted = cuped::means(black_box(&left), black_box(&right), 0, &[2]).unwrap();
        black_box(sequential::compare_contrast(&adjusted.contrast, &always)).unwrap();
    });
    let phase = Phase {
        treatment_share: 0.1,
        events_control: 410,
        events_treatment: 61,
    };
    time("count e-process with its set", 500, || {
        black_box(count_eprocess::compare(
            black_box(&[phase]),
            &CountOptions::default(),
        ))
        .unwrap();
    });
    let (few, more) = (
        Count {
            successes: 87,
            units: 1529,
        },
        Count {
            successes: 62,
            units: 1471,
        },
    );
    time("score test with both intervals", 50, || {
        let options = ProportionOptions::default();
        black_box(proportions::compare(
            black_box(few),
            black_box(more),
            &options,
        ))
        .unwrap();
    });
    let mut moments = Moments::new();
    let mut value = 0.1;
    time("one unit into exact moments", 100_000, || {
        value = if value > 1e3 { 0.1 } else { value * 1.37 };
        moments.push(black_box(value)).unwrap();
    });
}
