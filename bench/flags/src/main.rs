//! tidegate-flags beside `unleash-yggdrasil` and `datalogic-rs` on one rule, in one run.
//!
//! The rule: "plan in [pro, team, enterprise], then 50/50", as flag 500 of 1,000 alike.
//! Each contender evaluates it for the same 64 users in turn; a figure is the fastest of 30
//! batches of 64 x 400 evaluations, on one thread. Contenders are set up as their
//! documentation advises: compiled once, contexts prepared once where they offer it.
//! Every contender's answers are counted and must be a sensible split, so that nothing is
//! measured that does not decide.

mod peers;
mod tidegate;

use std::hint::black_box;
use std::time::Instant;

pub const FLAGS: usize = 1_000;
pub const USERS: usize = 64;
const ROUNDS: usize = 400;
const BATCHES: usize = 30;

/// The flag that is evaluated, out of all.
pub fn flag_key(index: usize) -> String {
    format!("checkout-step-{index:04}")
}

pub fn user_key(index: usize) -> String {
    format!("user-{index:05}")
}

/// Nanoseconds per call of `decide`, which is given the user's position and says whether
/// that user is treated.
pub fn nanoseconds(name: &str, mut decide: impl FnMut(usize) -> bool) -> f64 {
    let treated = (0..USERS).filter(|user| decide(*user)).count();
    assert!(
        (8..=USERS - 8).contains(&treated),
        "{name} treats {treated} of {USERS}"
    );
    let mut best = f64::INFINITY;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            for user in 0..USERS {
                black_box(decide(black_box(user)));
            }
        }
        let calls = (ROUNDS * USERS) as f64;
        best = best.min(start.elapsed().as_nanos() as f64 / calls);
    }
    println!("{name:<58} {best:>9.1} ns");
    best
}

/// Microseconds per call of `all`, the fastest of many.
pub fn microseconds(name: &str, mut all: impl FnMut(usize) -> usize) -> f64 {
    assert!(all(0) > 0, "{name} decides nothing");
    let mut best = f64::INFINITY;
    for turn in 0..400 {
        let start = Instant::now();
        black_box(all(black_box(turn % USERS)));
        best = best.min(start.elapsed().as_nanos() as f64 / 1_000.0);
    }
    println!("{name:<58} {best:>9.1} us");
    best
}

fn main() {
    println!("one rule of {FLAGS}: plan in a list, then 50/50; {USERS} users in turn\n");
    let ours = tidegate::measure();
    let yggdrasil = peers::yggdrasil();
    let (prepared, unprepared) = peers::datalogic();
    println!();
    for (name, theirs, ours) in [
        (
            "yggdrasil / tidegate, by key, context bound each time",
            yggdrasil,
            ours.binding,
        ),
        (
            "datalogic / tidegate, contexts as JSON each time",
            unprepared,
            ours.binding,
        ),
    ] {
        println!("{name:<58} {:>9.1} x", theirs / ours);
    }
    println!("\n{:<58} {:>12} {:>12}", "what", "asked", "measured");
    at_most("by handle, context bound", ours.by_handle, 25.0, "ns");
    at_most("by key, context bound", ours.by_key, 100.0, "ns");
    at_most("all 1,000 flags", ours.all_microseconds, 50.0, "us");
    at_least(
        "faster than yggdrasil, by key",
        yggdrasil / ours.by_key,
        3.5,
    );
    at_least(
        "faster than datalogic-rs, contexts prepared",
        prepared / ours.by_handle,
        3.5,
    );
}

fn at_most(what: &str, measured: f64, asked: f64, unit: &str) {
    let missed = if measured <= asked { "" } else { "   MISSED" };
    let (asked, measured) = (
        format!("<= {asked} {unit}"),
        format!("{measured:.1} {unit}"),
    );
    println!("{what:<58} {asked:>12} {measured:>12}{missed}");
}

fn at_least(what: &str, measured: f64, asked: f64) {
    let missed = if measured >= asked { "" } else { "   MISSED" };
    let (asked, measured) = (format!(">= {asked} x"), format!("{measured:.1} x"));
    println!("{what:<58} {asked:>12} {measured:>12}{missed}");
}
