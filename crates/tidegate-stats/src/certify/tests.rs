//! What `certify` promises, held against published values, properties and bad input.

use super::study::RowPlan;
use super::*;

/// Reversed order, as threads might deliver.
struct Backwards;

impl Executor for Backwards {
    fn run(&self, jobs: u32, job: &(dyn Fn(u32) -> Counts + Sync)) -> Vec<Counts> {
        (0..jobs).rev().map(job).collect()
    }
}

fn coin_study(bar: f64) -> Study {
    let plan = RowPlan {
        section: "A",
        configuration: "coin".to_owned(),
        metric: "-".to_owned(),
        scale: "-",
        schedule: "-".to_owned(),
        bar,
        in_protocol: true,
        reason: None,
    };
    Study {
        name: "coin".to_owned(),
        repetitions: 4_010,
        rows: vec![plan],
        simulate: Box::new(|stream| u64::from(stream.coin(0.04))),
    }
}

#[test]
fn a_true_rate_of_four_percent_at_twenty_thousand_has_its_limit_at_4_37_percent() {
    assert_eq!(format!("{:.4}", upper_limit(800.0, 20_000.0)), "0.0437");
    assert_eq!(upper_limit(5.0, 5.0), 1.0);
    // Nothing seen in n: 1 - 0.005^(1/n).
    assert!((upper_limit(0.0, 100.0) - (1.0 - 0.005_f64.powf(0.01))).abs() < 1e-12);
}

#[test]
fn the_same_seed_gives_the_same_rows_in_any_order() {
    let forward = measure(&coin_study(0.05), 7, &InSequence);
    assert_eq!(forward, measure(&coin_study(0.05), 7, &Backwards));
    assert_ne!(forward, measure(&coin_study(0.05), 8, &InSequence));
}

#[test]
fn a_broken_promise_is_reported_as_not_met() {
    assert!(measure(&coin_study(0.06), 7, &InSequence)[0].met);
    assert!(!measure(&coin_study(0.03), 7, &InSequence)[0].met);
}

/// The check that the instrument can find a fault: an untuned promise, watched like a fixed test.
#[test]
fn naive_peeking_would_not_pass() {
    use crate::group_sequential::crossing_chance;
    let fractions: Vec<f64> = (1..=28).map(|look| f64::from(look) / 28.0).collect();
    assert!(crossing_chance(&fractions, &vec![1.96; 28]) > 0.25);
}
