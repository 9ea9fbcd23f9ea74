//! A load that goes on: the goal's pace for as long as is asked, with guards reading all the time
//! and a report every few seconds, and what the server holds and uses from one stretch to the next.
//!
//! What a load of seconds hides shows here: files that pile up, memory that grows, merges of ever
//! larger files, and what housekeeping does once a minute.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::client::{Answer, Requests};
use crate::server::{Server, cpu_of_threads};

const STRETCH: Duration = Duration::from_secs(10);

/// Requests whose latencies are also kept by stretch of time.
pub struct Watched<R> {
    pub inner: R,
    pub latencies: Rc<RefCell<Vec<Duration>>>,
}

impl<R: Requests> Requests for Watched<R> {
    fn next(&mut self) -> &[u8] {
        self.inner.next()
    }

    fn answered(&mut self, answer: &Answer<'_>) -> u64 {
        self.latencies.borrow_mut().push(answer.latency);
        self.inner.answered(answer)
    }
}

/// Prints a line for every stretch until `is_over`.
pub async fn watch<F: Future<Output = u64>>(
    server: &Server,
    latencies: Rc<RefCell<Vec<Duration>>>,
    is_over: Rc<Cell<bool>>,
    unflushed: impl Fn() -> F,
) {
    let started = Instant::now();
    let mut before = cpu_of_threads(server.process());
    println!(
        "    seconds  requests   p50 ms   p99 ms  most ms   not in files   resident MiB   \
         cores used by threads"
    );
    while !is_over.get() {
        let begun = Instant::now();
        tokio::time::sleep(STRETCH).await;
        let mut taken = latencies.take();
        taken.sort_unstable();
        let at = |share: f64| {
            let last = taken.len().saturating_sub(1) as f64;
            let found = taken.get((last * share).round() as usize);
            found.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
        };
        let after = cpu_of_threads(server.process());
        println!(
            "    {:7.0} {:9} {:8.1} {:8.1} {:8.1} {:14} {:14.0}   {}",
            started.elapsed().as_secs_f64(),
            taken.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            unflushed().await,
            server.resident_mib(),
            cores(&before, &after, begun.elapsed()),
        );
        before = after;
    }
}

fn cores(
    before: &BTreeMap<String, Duration>,
    after: &BTreeMap<String, Duration>,
    time: Duration,
) -> String {
    let mut parts = Vec::new();
    for (name, used) in after {
        let earlier = before.get(name).copied().unwrap_or_default();
        let share = used.saturating_sub(earlier).as_secs_f64() / time.as_secs_f64();
        if share >= 0.01 {
            parts.push(format!("{name} {share:.2}"));
        }
    }
    parts.join(", ")
}
