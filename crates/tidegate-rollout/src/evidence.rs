//! The evidence engine: how strongly counts speak against "no harm", at any moment somebody looks.
//!
//! # What it gives
//! An *e-value*: a number that is at most 1 on average when there is no harm, at every stopping time.
//! By Ville's inequality it reaches 1/alpha with probability at most alpha over the whole rollout, however
//! often it is looked at and however the share was moved meanwhile. Everything here is kept as `ln e`.
//!
//! # How it decides, for events
//! Given that an event happened, it came from the treatment with probability
//! `q(r) = w r / (w r + c)` when treatment units fail `r` times as often; `w` and `c` are the arms' shares in
//! force at assignment. The unknown base rate and every traffic wave cancel. Each event multiplies, for
//! each ratio of a prior grid, by `q(r)/q(r0)` in the treatment or `(1-q(r))/(1-q(r0))` in control, `r0`
//! being the largest harmless ratio; the grid is averaged ([`RatioPrior`]).
//! The product needs only counts per phase, so a snapshot gives the same value as a fold event by event.
//!
//! # What it must not know
//! No clock, no policy, no metric names: counts, shares and ratios in, numbers out.
//!
//! Sources: Ville (1939); Howard, Ramdas, McAuliffe, Sekhon (2021) for mixtures; Shafer, Vovk (2019) for
//! betting; Lindon and Malek (2022) for sample ratios.

pub mod blocks;
pub mod change;
pub mod combine;
pub mod event_factor;
pub mod first_events;
pub mod interval;
pub mod late;
pub mod log_domain;
pub mod moments;
pub mod odds;
pub mod prior;
pub mod sample_ratio;
pub mod self_test;
pub mod values;

pub use event_factor::Shares;
pub use first_events::FirstEventProcess;
pub use interval::{Interval, IntervalMemo};
pub use late::{BAKE_PERIODS, LateProcess};
pub use prior::RatioPrior;
pub use values::{NumericEvidence, NumericFrame, NumericProcess};
