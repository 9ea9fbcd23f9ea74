//! A project's events from the first on, wherever they are by now.
//!
//! While the log reaches back to the first event it is enough, and it opens at once. Later the
//! beginning is only in files, which open behind the start and are waited for.

use std::sync::Arc;
use std::time::Duration;

use tidegate_lake::{Committed, Intake, Lake};

use super::slot::{Slot, in_full};

/// How often it is looked whether the files are open.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where the events are read from.
pub(crate) enum History {
    /// The log has them all.
    Log(Arc<Intake>),
    /// Files and log together.
    Lake(Arc<Lake>),
}

impl History {
    /// The history of a slot, when it can be read.
    pub(super) async fn of(slot: &Slot) -> Result<Self, String> {
        loop {
            if let Some(lake) = slot.open_lake() {
                return Ok(Self::Lake(lake));
            }
            let first = slot.intake.log().first_sequence();
            if first.map_err(|error| in_full(&error))? == 0 {
                return Ok(Self::Log(Arc::clone(&slot.intake)));
            }
            if let Some(problem) = slot.problem() {
                return Err(problem);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads the events from an ingest sequence on, in order. What was erased, expired or dropped
    /// as a copy is missing from the sequence.
    pub(crate) fn read_from(
        &self,
        sequence: u64,
        each: &mut dyn FnMut(Committed) -> bool,
    ) -> Result<(), String> {
        match self {
            Self::Log(intake) => intake
                .log()
                .read_from(sequence, each)
                .map_err(|error| in_full(&error)),
            Self::Lake(lake) => lake
                .read_from(sequence, each)
                .map_err(|error| in_full(&error)),
        }
    }
}
