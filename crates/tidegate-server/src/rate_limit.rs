//! A token bucket per credential: one noisy caller is slowed, the others do not notice.
//!
//! Keyed by credential, never by address: behind a balancer every caller has the same address.
//! Memory is bounded by the number of credentials that exist, because only authenticated callers
//! reach it. Pure but for its own state: time is an argument.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// How many requests a credential may send.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    /// Sustained requests per second.
    pub per_second: f64,
    /// How many may come at once after a pause.
    pub burst: f64,
}

/// The buckets of all credentials.
#[derive(Debug)]
pub struct RateLimits {
    limit: Option<RateLimit>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl RateLimits {
    /// Buckets under `limit`; `None` admits everything and keeps no state.
    #[must_use]
    pub fn new(limit: Option<RateLimit>) -> Self {
        Self {
            limit,
            buckets: Mutex::default(),
        }
    }

    /// Admits one request of `credential` at monotonic time `now`.
    ///
    /// # Errors
    /// The whole seconds after which the next request will be admitted.
    pub fn admit(&self, credential: &str, now: Duration) -> Result<(), u32> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let mut buckets = self
            .buckets
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let full = Bucket {
            tokens: limit.burst,
            at: now,
        };
        let bucket = match buckets.get_mut(credential) {
            Some(bucket) => bucket,
            None => buckets.entry(credential.to_owned()).or_insert(full),
        };
        let elapsed = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * limit.per_second).min(limit.burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(whole_seconds((1.0 - bucket.tokens) / limit.per_second))
    }
}

/// Rounds a wait up to whole seconds, at least one, at most an hour.
fn whole_seconds(wait: f64) -> u32 {
    let capped = wait.ceil().clamp(1.0, 3600.0);
    (1..=3600)
        .find(|seconds| f64::from(*seconds) >= capped)
        .unwrap_or(3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_admitted_then_the_rate_holds_per_credential() {
        let limits = RateLimits::new(Some(RateLimit {
            per_second: 2.0,
            burst: 3.0,
        }));
        let at = |millis| Duration::from_millis(millis);
        let admitted = (0..5).filter(|_| limits.admit("a", at(0)).is_ok()).count();
        assert_eq!(admitted, 3);
        assert_eq!(limits.admit("a", at(0)), Err(1));
        assert_eq!(
            limits.admit("b", at(0)),
            Ok(()),
            "another credential does not notice"
        );
        assert_eq!(
            limits.admit("a", at(500)),
            Ok(()),
            "half a second gives one back"
        );
        assert_eq!(limits.admit("a", at(500)), Err(1));
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let limits = RateLimits::new(Some(RateLimit {
            per_second: 1.0,
            burst: 1.0,
        }));
        assert_eq!(limits.admit("a", Duration::from_secs(10)), Ok(()));
        assert_eq!(limits.admit("a", Duration::from_secs(5)), Err(1));
    }
}
