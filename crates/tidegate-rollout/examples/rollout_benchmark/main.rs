//! Measures what guarded rollouts promise, and what the documented rules of others do on the same service.
//!
//! Prints the Markdown of `docs/rollout-benchmark.md`:
//! `cargo run -p tidegate-rollout --example rollout_benchmark -- 100000 > docs/rollout-benchmark.md`.
//! The argument is the number of healthy histories per configuration; a smaller one is a smoke test.

#![expect(
    clippy::print_stdout,
    reason = "the table is the product of this program"
)]
#![expect(clippy::unwrap_used, reason = "the policies are literals of this file")]

mod plans;
mod rivals;
mod speed;

use tidegate_rollout::RolloutSpec;
use tidegate_rollout::simulate::{Shape, Workload, simulate_harmed, simulate_healthy};

/// The service of every table: 100 requests per second, 0.5 % of them failing.
const REQUESTS_PER_SECOND: f64 = 100.0;
const ERROR_RATE: f64 = 0.005;
const SEED: u64 = 20_260_731;

fn service(shape: Shape) -> Workload {
    Workload {
        requests_per_second: REQUESTS_PER_SECOND,
        error_rate: ERROR_RATE,
        shape,
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let histories: u64 = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2_000);
    println!("# Guarded rollouts, measured\n");
    println!(
        "Produced by `cargo run -p tidegate-rollout --example rollout_benchmark -- {histories}`, seed {SEED}: the seed decides everything but the last section."
    );
    println!(
        "Service: {REQUESTS_PER_SECOND} requests per second, {} % failing.",
        100.0 * ERROR_RATE
    );
    println!("Evidence is tested after every single event, which is the most anybody can peek.\n");
    healthy(histories);
    harmed(histories.min(4_000));
    rivals::table(histories.min(400));
    speed::table();
}

fn healthy(histories: u64) {
    println!("## False rollbacks of healthy changes\n");
    println!(
        "Allowed: alpha = 1 %. The limit is the upper end of the one-sided 99 % Clopper-Pearson interval.\n"
    );
    println!("| plan | service | histories | rolled back | rate | upper limit | within alpha |");
    println!("|---|---|---|---|---|---|---|");
    let jobs: Vec<(&str, RolloutSpec, Shape)> = plans::all()
        .into_iter()
        .flat_map(|(name, spec)| Shape::ALL.map(|shape| (name, spec.clone(), shape)))
        .collect();
    let rows = in_parallel(&jobs, |(name, spec, shape)| {
        let row = simulate_healthy(spec, &service(*shape), histories, SEED);
        format!(
            "| {name} | {} | {} | {} | {:.3} % | {:.3} % | {} |",
            shape.name(),
            row.histories,
            row.false_rollbacks,
            100.0 * row.rate,
            100.0 * row.rate_upper_99,
            if row.rate_upper_99 <= spec.alpha {
                "yes"
            } else {
                "not shown"
            },
        )
    });
    rows.iter().for_each(|row| println!("{row}"));
    println!();
}

fn harmed(histories: u64) {
    println!("## Delay and cost of harmful changes\n");
    println!(
        "Bound: two arms, unknown base rate, ln(k/alpha) nats for k guards; no test can be quicker on average."
    );
    println!(
        "Goals: at most 1.5 times the bound at 2x to 10x, at most 2.5 times at total breakage (100x), on the plain service.\n"
    );
    println!(
        "| plan | service | harm | caught | mean s | excess failures | s / bound | excess / bound |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let jobs: Vec<(&str, RolloutSpec, Shape, f64)> = plans::all()
        .into_iter()
        .flat_map(|(name, spec)| {
            [Shape::Plain, Shape::HeavyUsers, Shape::RetryStorms]
                .into_iter()
                .flat_map(move |shape| {
                    let spec = spec.clone();
                    [1.5, 2.0, 4.0, 10.0, 100.0].map(|ratio| (name, spec.clone(), shape, ratio))
                })
        })
        .collect();
    let rows = in_parallel(&jobs, |(name, spec, shape, ratio)| {
        let row = simulate_harmed(spec, &service(*shape), *ratio, histories, SEED + 1);
        let over = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.2}"));
        format!(
            "| {name} | {} | {ratio}x | {:.1} % | {:.1} | {:.1} | {} | {} |",
            shape.name(),
            100.0 * share(row.caught, row.histories),
            row.mean_seconds,
            row.mean_excess_failures,
            over(row.seconds_ratio),
            over(row.excess_ratio),
        )
    });
    rows.iter().for_each(|row| println!("{row}"));
    println!();
    println!(
        "Where not everything was caught, means run to the end of the plan and stand beside a bound that does not end; a dash says that the plan ends before the bound."
    );
    println!(
        "With heavy users and retry storms the bound is still that of one request per unit.\n"
    );
}

#[expect(clippy::cast_precision_loss, reason = "numbers of histories")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Runs jobs on two threads, results in order.
fn in_parallel<J: Sync, R: Send>(jobs: &[J], run: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..2)
            .map(|worker| {
                let run = &run;
                scope.spawn(move || {
                    let own = jobs.iter().enumerate().filter(|(i, _)| i % 2 == worker);
                    own.map(|(i, job)| (i, run(job))).collect::<Vec<_>>()
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap())
            .collect()
    });
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}
