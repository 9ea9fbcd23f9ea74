//! How far the clocks of senders are off, estimated per source and never applied.
//!
//! A batch that says when it was sent shows `received - sent`: the sender's clock is behind ours by
//! that much, less what the network took. Delay only ever adds, so the **smallest** difference
//! of a while is the estimate; correcting each request by its own difference would add its delay
//! to its times and put events in a wrong order. The smallest is taken over the current and the
//! last period of [`PERIOD_US`], so that a clock that was set is believed within two periods.
//! A batch that does not say when it was sent is judged by its newest event, which can only be
//! older than the sending: the estimate is then an upper bound, and says so.
//!
//! It is shown, to those who look why a source's events are quarantined or late. Nothing is
//! corrected by it: events are processed in the order of receipt, and their own times stand as
//! they were sent.
//!
//! Pure: times are arguments. Memory is bounded by [`MOST_SOURCES`]; the one unheard of for
//! longest goes.

use std::collections::HashMap;

use serde::Serialize;

/// How long a period of observation is.
pub const PERIOD_US: i64 = 10 * 60 * 1_000_000;
/// Sources that are remembered.
pub const MOST_SOURCES: usize = 1000;

/// What is known of all sources.
#[derive(Debug, Default)]
pub struct ClockSkew {
    sources: HashMap<String, Source>,
}

/// Smallest differences of one source.
#[derive(Debug, Clone, Copy)]
struct Source {
    period_began_us: i64,
    current_us: i64,
    last_us: Option<i64>,
    batches: u64,
    heard_us: i64,
    says_when_sent: bool,
}

/// One source's clock, as `/status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkewReport {
    /// The source.
    pub source: String,
    /// By how much its clock is behind ours; negative if it is ahead.
    pub behind_ms: i64,
    /// `sent`, or `newest_event` if the source does not say when it sends: then an upper bound.
    pub by: &'static str,
    /// Batches it rests on.
    pub batches: u64,
}

impl ClockSkew {
    /// Notes a batch of `source`: when it was received, when it says it was sent, and the newest
    /// time in it. A batch that tells no time tells nothing.
    pub fn note(
        &mut self,
        source: &str,
        received_us: i64,
        sent_us: Option<i64>,
        newest_event_us: Option<i64>,
    ) {
        let Some(theirs_us) = sent_us.or(newest_event_us) else {
            return;
        };
        let behind_us = received_us.saturating_sub(theirs_us);
        let says_when_sent = sent_us.is_some();
        if let Some(known) = self.sources.get_mut(source) {
            known.note(received_us, behind_us, says_when_sent);
            return;
        }
        if self.sources.len() >= MOST_SOURCES {
            let quietest = self
                .sources
                .iter()
                .min_by_key(|(_, source)| source.heard_us);
            let quietest = quietest.map(|(name, _)| name.clone());
            if let Some(name) = quietest {
                self.sources.remove(&name);
            }
        }
        self.sources.insert(
            source.to_owned(),
            Source::new(received_us, behind_us, says_when_sent),
        );
    }

    /// Every source, by name.
    #[must_use]
    pub fn report(&self) -> Vec<SkewReport> {
        let mut reports: Vec<SkewReport> = self
            .sources
            .iter()
            .map(|(name, source)| SkewReport {
                source: name.clone(),
                behind_ms: source.behind_us() / 1000,
                by: if source.says_when_sent {
                    "sent"
                } else {
                    "newest_event"
                },
                batches: source.batches,
            })
            .collect();
        reports.sort_by(|one, other| one.source.cmp(&other.source));
        reports
    }
}

impl Source {
    fn new(now_us: i64, behind_us: i64, says_when_sent: bool) -> Self {
        Self {
            period_began_us: now_us,
            current_us: behind_us,
            last_us: None,
            batches: 1,
            heard_us: now_us,
            says_when_sent,
        }
    }

    fn note(&mut self, now_us: i64, behind_us: i64, says_when_sent: bool) {
        if says_when_sent && !self.says_when_sent {
            // What was bounded so far is known from now on.
            *self = Self::new(now_us, behind_us, true);
            return;
        }
        if says_when_sent != self.says_when_sent {
            return;
        }
        self.batches += 1;
        self.heard_us = now_us;
        let age_us = now_us.saturating_sub(self.period_began_us);
        if (0..PERIOD_US).contains(&age_us) {
            self.current_us = self.current_us.min(behind_us);
        } else {
            let is_next = (PERIOD_US..2 * PERIOD_US).contains(&age_us);
            self.last_us = is_next.then_some(self.current_us);
            self.current_us = behind_us;
            self.period_began_us = now_us;
        }
    }

    fn behind_us(&self) -> i64 {
        self.last_us
            .map_or(self.current_us, |last| last.min(self.current_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn behind_ms(skew: &ClockSkew) -> i64 {
        skew.report()[0].behind_ms
    }

    proptest! {
        /// However long the network takes, the estimate is the skew plus the shortest delay.
        #[test]
        fn delay_only_adds(skew_ms in -100_000i64..100_000, delays_ms in prop::collection::vec(0i64..5000, 1..50)) {
            let mut known = ClockSkew::default();
            for (at, delay) in delays_ms.iter().enumerate() {
                let sent_us = i64::try_from(at).unwrap() * 1_000_000;
                let received_us = sent_us + (skew_ms + delay) * 1000;
                known.note("a", 1_000_000_000_000 + received_us, Some(1_000_000_000_000 + sent_us), None);
            }
            // A clock that is set back more than the whole run begins a new period.
            prop_assert!(behind_ms(&known) >= skew_ms);
            prop_assert!(behind_ms(&known) <= skew_ms + delays_ms.iter().max().unwrap());
        }
    }

    #[test]
    fn a_clock_that_was_set_is_believed_within_two_periods() {
        let mut skew = ClockSkew::default();
        skew.note("a", 0, Some(0), None);
        let late_us = 3_600_000_000;
        skew.note("a", PERIOD_US, Some(PERIOD_US - late_us), None);
        assert_eq!(behind_ms(&skew), 0);
        skew.note("a", 2 * PERIOD_US, Some(2 * PERIOD_US - late_us), None);
        assert_eq!(behind_ms(&skew), 3_600_000);
    }

    #[test]
    fn a_source_that_says_when_it_sends_is_judged_by_that() {
        let mut skew = ClockSkew::default();
        skew.note("a", 10_000_000, None, Some(3_000_000));
        assert_eq!(
            (behind_ms(&skew), skew.report()[0].by),
            (7000, "newest_event")
        );
        skew.note("a", 11_000_000, Some(10_000_000), Some(0));
        skew.note("a", 12_000_000, None, Some(12_000_000));
        assert_eq!((behind_ms(&skew), skew.report()[0].by), (1000, "sent"));
        skew.note("b", 1, None, None);
        assert_eq!(skew.report().len(), 1);
    }

    #[test]
    fn the_source_unheard_of_for_longest_goes_first() {
        let mut skew = ClockSkew::default();
        for number in 0..=MOST_SOURCES {
            let now_us = i64::try_from(number).unwrap();
            skew.note(&format!("s{number}"), now_us, Some(now_us), None);
        }
        let names: Vec<String> = skew
            .report()
            .into_iter()
            .map(|report| report.source)
            .collect();
        assert_eq!(names.len(), MOST_SOURCES);
        assert!(!names.contains(&"s0".to_owned()));
    }
}
