//! When a message that did not arrive is tried again: a function of its age, its number and a seed.
//!
//! The pause doubles from five seconds to half an hour, give or take a fifth, so that many messages
//! that failed together do not come back together. A receiver that was down for hours therefore hears
//! of it within half an hour of its recovery. After a day a message is given up and kept among the
//! dead letters; the attempt at the end of that day is made.

const SECOND_US: i64 = 1_000_000;
/// The first pause.
const FIRST_US: i64 = 5 * SECOND_US;
/// The longest pause, before jitter.
const LONGEST_US: i64 = 30 * 60 * SECOND_US;
/// How long a message is tried for.
pub const PATIENCE_US: i64 = 24 * 60 * 60 * SECOND_US;
/// Doublings after which the pause no longer grows.
const MOST_DOUBLINGS: u32 = 16;

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt at this time, Unix microseconds.
    At(i64),
    /// None: its day is over.
    GiveUp,
}

/// What follows the `failed`-th failed attempt (from 1) of a message written at `created_us`.
#[must_use]
pub fn next(failed: u32, created_us: i64, now_us: i64, seed: u64) -> Next {
    let end_us = created_us.saturating_add(PATIENCE_US);
    if now_us >= end_us {
        return Next::GiveUp;
    }
    let doublings = failed.saturating_sub(1).min(MOST_DOUBLINGS);
    let pause_us = FIRST_US.saturating_mul(1 << doublings).min(LONGEST_US);
    let at_us = now_us.saturating_add(jittered(pause_us, seed ^ u64::from(failed)));
    Next::At(at_us.min(end_us))
}

/// `pause_us` times something in [0.8, 1.2), drawn from `seed`.
fn jittered(pause_us: i64, seed: u64) -> i64 {
    let thousandths = i64::try_from(mixed(seed) % 400).unwrap_or(200);
    pause_us / 1000 * (800 + thousandths)
}

/// SplitMix64 (Steele, Lea, Flood 2014): neighbouring seeds give unrelated numbers.
const fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_half_an_hour_within_its_jitter() {
        for (failed, seconds) in [(1, 5), (2, 10), (3, 20), (9, 1280), (10, 1800), (50, 1800)] {
            for seed in 0..200 {
                let Next::At(at_us) = next(failed, 0, 1000, seed) else {
                    panic!("it is young");
                };
                let pause = (at_us - 1000) / SECOND_US;
                let allowed = seconds * 8 / 10 - 1..seconds * 12 / 10 + 1;
                assert!(allowed.contains(&pause), "{failed}: {pause} s");
            }
        }
    }

    #[test]
    fn the_same_message_has_the_same_schedule_and_neighbours_have_others() {
        let draw = |seed| next(5, 0, 0, seed);
        assert_eq!(draw(7), draw(7));
        let distinct: std::collections::BTreeSet<i64> = (0..100)
            .filter_map(|seed| match draw(seed) {
                Next::At(at_us) => Some(at_us),
                Next::GiveUp => None,
            })
            .collect();
        assert!(distinct.len() > 80, "{}", distinct.len());
    }

    #[test]
    fn a_message_is_tried_for_a_day_and_once_at_its_end() {
        let (mut now_us, mut attempts) = (0, 0_u32);
        loop {
            attempts += 1;
            match next(attempts, 0, now_us, 42) {
                Next::At(at_us) => now_us = at_us,
                Next::GiveUp => break,
            }
        }
        assert_eq!(now_us, PATIENCE_US);
        assert!((45..75).contains(&attempts), "{attempts} attempts");
        assert_eq!(next(1, 0, PATIENCE_US + 1, 0), Next::GiveUp);
    }
}
