//! The one place that reads time. Everything else receives `now` as a value.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time for records, monotonic time for intervals.
pub trait Clock: Send + Sync {
    /// Unix time in microseconds. May jump when the machine's clock is set.
    fn now_us(&self) -> i64;

    /// Time since an arbitrary start. Never goes back.
    fn monotonic(&self) -> Duration;

    /// Unix time in whole seconds, as `$flagd.timestamp` wants it.
    fn now_seconds(&self) -> i64 {
        self.now_us().div_euclid(1_000_000)
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    fn now_us(&self) -> i64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
