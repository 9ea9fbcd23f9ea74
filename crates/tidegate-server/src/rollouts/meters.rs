//! What planning costs and how long evidence waits for it, counted for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the classes of waiting, in words and microseconds; what is longer is `more`.
const CLASSES: [(&str, i64); 6] = [
    ("10ms", 10_000),
    ("50ms", 50_000),
    ("100ms", 100_000),
    ("250ms", 250_000),
    ("500ms", 500_000),
    ("1s", 1_000_000),
];

/// Counters over every rollout since the start.
#[derive(Debug, Default)]
pub(crate) struct PlanMeters {
    looks: AtomicU64,
    planning_us: AtomicU64,
    kept: AtomicU64,
    waits: [AtomicU64; CLASSES.len() + 1],
}

impl PlanMeters {
    /// A look was taken, and observing and planning took so long.
    pub(super) fn looked(&self, took: Duration) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.planning_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// The first evidence a plan had not seen waited so long for it.
    pub(super) fn waited(&self, wait_us: i64) {
        let class = CLASSES.iter().position(|(_, most_us)| wait_us <= *most_us);
        if let Some(count) = self.waits.get(class.unwrap_or(CLASSES.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A plan was kept.
    pub(super) fn kept(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    /// Plans made.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Plans kept with all they were made from.
    pub(crate) fn plans_kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Seconds spent observing and planning.
    pub(crate) fn planning_seconds(&self) -> f64 {
        Duration::from_micros(self.planning_us.load(Ordering::Relaxed)).as_secs_f64()
    }

    /// How often evidence waited up to each class, not counting the shorter ones.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let names = CLASSES.iter().map(|(name, _)| *name).chain(["more"]);
        let counts = self.waits.iter().map(|count| count.load(Ordering::Relaxed));
        names.zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_counted_in_the_shortest_class_that_holds_it() {
        let meters = PlanMeters::default();
        for wait_us in [-5, 10_000, 10_001, 500_000, 500_001, 1_000_001] {
            meters.waited(wait_us);
        }
        let counted: Vec<(&str, u64)> = meters.waits().filter(|(_, count)| *count > 0).collect();
        assert_eq!(
            counted,
            [
                ("10ms", 2),
                ("50ms", 1),
                ("500ms", 1),
                ("1s", 1),
                ("more", 1)
            ]
        );
    }
}
