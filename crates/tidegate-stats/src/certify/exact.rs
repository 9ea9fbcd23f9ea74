//! The methods that are exact at any size: counts of rare events, and bets on bounded outcomes.
//!
//! Only units with an event move the count process, so a million units at one in a thousand
//! are a thousand events; its evidence against the true ratio is taken after each, and where that comes within
//! 3 % of its limit the whole comparison is asked, whose set counts.

use super::monitor::SCREEN;
use super::random::Stream;
use crate::Side;
use crate::betting::ContrastBet;
use crate::count_eprocess::{CountOptions, Phase, compare, ln_e};

/// Whether the count comparison ever excludes the true `lift` over `events` events, half of the
/// units in either arm.
pub(super) fn count_ever_misses(stream: &mut Stream, lift: f64, events: u32) -> bool {
    let options = CountOptions {
        null_ratio: 1.0 + lift,
        ..CountOptions::default()
    };
    let limit = -SCREEN * options.alpha.ln();
    let treated = (1.0 + lift) / (2.0 + lift);
    let mut phase = Phase {
        treatment_share: 0.5,
        events_control: 0,
        events_treatment: 0,
    };
    for _ in 0..events {
        if stream.coin(treated) {
            phase.events_treatment += 1;
        } else {
            phase.events_control += 1;
        }
        let is_near = ln_e(&[phase], &options).is_ok_and(|evidence| evidence >= limit);
        if is_near && compare(&[phase], &options).is_ok_and(|found| !found.relative.contains(lift))
        {
            return true;
        }
    }
    false
}

/// Whether bets on revenue capped at `cap` ever refute the true null of no effect.
pub(super) fn bets_ever_err(stream: &mut Stream, cap: f64, units: u32) -> bool {
    let Ok(mut bets) = ContrastBet::new(cap, 0.5, 0.0) else {
        return true;
    };
    for _ in 0..units {
        let side = if stream.coin(0.5) {
            Side::Treatment
        } else {
            Side::Control
        };
        let outcome = if stream.coin(0.02) {
            (1.5 * stream.normal()).exp().min(cap)
        } else {
            0.0
        };
        if bets.push(side, outcome).is_err() || bets.p_value() <= 0.05 {
            return true;
        }
    }
    false
}
