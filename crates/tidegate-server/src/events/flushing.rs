//! Moving what is acknowledged into files, in the background.
//!
//! Flushing takes a while, in which requests come first; unless it lags behind, since then it
//! would do so more and more, and a report would wait for it.

use std::sync::Arc;

use tidegate_lake::background::{self, GivesWay};
use tidegate_lake::{ColumnError, Covered, Lake};

/// From so many events on a flush has a thread of its own, which gives way.
const MUCH: u64 = 10_000;
/// With so many a flush does not give way.
const LAGGING: u64 = 400_000;

/// Moves what is acknowledged into files, of which so many events are not in any yet; says what is
/// in them then. Blocks.
///
/// # Errors
/// [`ColumnError`]; the log still holds what was not moved.
pub(crate) fn flush(lake: &Arc<Lake>, unflushed: u64) -> Result<Covered, ColumnError> {
    if !(MUCH..LAGGING).contains(&unflushed) {
        return lake.flush_acknowledged();
    }
    let flushing = Arc::clone(lake);
    let begun = background::spawn("tidegate-flush", GivesWay::Somewhat, move || {
        flushing.flush_acknowledged()
    });
    let flushed = begun.ok().and_then(|thread| thread.join().ok());
    flushed.unwrap_or_else(|| lake.flush_acknowledged())
}
