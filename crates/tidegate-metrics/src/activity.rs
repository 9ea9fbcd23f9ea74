//! Usage, adoption and retention: who was there when.
//!
//! Usage counts events and distinct units per UTC day and event filter. Retention takes the first
//! period of a unit's activity and counts in which later periods it was active again. Periods are
//! spans of whole UTC days from a given start. Adoption is usage per period instead of per day, of
//! everyone or by arm: a unit's arm is that of its first exposure, and its events count from
//! there. All are sums over buckets.
//!
//! # Form
//! A day of a bucket is what readers hold, and within it neither usage nor retention asks for the
//! time or the order of events: usage takes the units of each filter ([`UsageTally`]), retention
//! the units that were active ([`RetentionFold`]). Adoption by arm asks whether an event came
//! after the exposure, and is given events one by one ([`Adoption::of`]).

mod adoption;
mod retention;
mod usage;

#[cfg(test)]
mod tests;

pub use adoption::{Adoption, AdoptionKey};
pub use retention::{Retention, RetentionFold};
pub use usage::{DistinctUnits, Usage, UsageCell, UsageTally};

const DAY_US: i64 = 86_400_000_000;
