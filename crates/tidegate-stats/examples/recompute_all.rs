//! Recomputes every result of a large installation and prints how long it took.
//!
//! 1,000 experiments x 50 metrics x 5 treatments x 20 segments: five million always-valid comparisons
//! with absolute interval, relative set and p-value, on two threads.
//! Run with `cargo run --release -p tidegate-stats --example recompute_all`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement prints its time and needs a clock"
)]

use std::time::Instant;

use tidegate_stats::ArmSummary;
use tidegate_stats::sequential::{SequentialOptions, compare};

const EXPERIMENTS: u32 = 1_000;
const RESULTS_PER_EXPERIMENT: u32 = 50 * 5 * 20;
const THREADS: u32 = 2;

/// Deterministic summaries of many shapes: conversion-like rates, some effects, uneven arms.
fn arms(index: u32) -> Option<(ArmSummary, ArmSummary)> {
    let rate = 0.01 + f64::from(index % 97) / 200.0;
    let lift = 1.0 + f64::from(index % 13) / 100.0 - 0.06;
    let units = 1_000 + u64::from(index % 1_009) * 50;
    let arm = |units: u64, rate: f64| ArmSummary::new(units, rate, rate * (1.0 - rate)).ok();
    Some((
        arm(units, rate)?,
        arm(units + u64::from(index % 7), rate * lift)?,
    ))
}

/// Results, and how many of them are significant so that nothing can be optimised away.
fn recompute(first: u32, last: u32) -> (u32, u32) {
    let options = SequentialOptions::default();
    let (mut results, mut significant) = (0, 0);
    for index in first * RESULTS_PER_EXPERIMENT..last * RESULTS_PER_EXPERIMENT {
        let found = arms(index).and_then(|(c, t)| compare(&c, &t, &options).ok());
        if let Some(found) = found {
            results += 1;
            significant += u32::from(!found.relative.contains(0.0));
        }
    }
    (results, significant)
}

fn main() {
    let start = Instant::now();
    let share = EXPERIMENTS / THREADS;
    let totals = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || recompute(thread * share, (thread + 1) * share)))
            .collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .fold((0, 0), |(results, significant), (more, found)| {
                (results + more, significant + found)
            })
    });
    let seconds = start.elapsed().as_secs_f64();
    let (results, significant) = totals;
    println!(
        "{results} results ({significant} significant) in {seconds:.2} s on {THREADS} threads: \
         {:.2} us each and thread",
        seconds * 1e6 * f64::from(THREADS) / f64::from(results)
    );
}
