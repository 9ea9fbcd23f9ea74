//! What is counted of OTLP, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Signal;
use super::join::Joined;
use super::map::Tally;
use crate::meters::add;

/// Counts since the process started.
#[derive(Debug, Default)]
pub struct OtlpMeters {
    records: [[AtomicU64; 4]; 3],
    joined: [AtomicU64; 4],
    attributes_left_out: AtomicU64,
    refused: AtomicU64,
}

const OUTCOMES: [&str; 4] = ["taken", "rejected", "unattributed", "not_stored"];
const JOINED: [&str; 4] = ["served", "alone", "ambiguous", "unattributed"];

impl OtlpMeters {
    /// A request was taken.
    pub(crate) fn taken(&self, signal: Signal, tally: &Tally) {
        let rest = tally.rejected + tally.unattributed + tally.not_stored;
        let taken = tally.records.saturating_sub(rest);
        let row = &self.records[signal as usize];
        let counts = [taken, tally.rejected, tally.unattributed, tally.not_stored];
        for (counter, count) in row.iter().zip(counts) {
            add(counter, count);
        }
        add(&self.attributes_left_out, tally.attributes_left_out);
    }

    /// A request was refused whole.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// An event got what its trace was served, or did not.
    pub(crate) fn joined(&self, joined: Joined, is_attributed: bool) {
        let place = match (is_attributed, joined) {
            (false, _) => 3,
            (true, Joined::Served) => 0,
            (true, Joined::Alone) => 1,
            (true, Joined::Ambiguous) => 2,
        };
        self.joined[place].fetch_add(1, Ordering::Relaxed);
    }

    /// Records by signal and outcome.
    pub(crate) fn records(&self) -> impl Iterator<Item = ([&'static str; 2], u64)> {
        Signal::ALL
            .into_iter()
            .zip(&self.records)
            .flat_map(|(signal, row)| {
                let outcomes = OUTCOMES.into_iter().zip(row);
                outcomes.map(move |(outcome, count)| ([signal.as_str(), outcome], read(count)))
            })
    }

    /// Events that waited for their trace, by outcome.
    pub(crate) fn joins(&self) -> impl Iterator<Item = ([&'static str; 1], u64)> {
        let outcomes = JOINED.into_iter().zip(&self.joined);
        outcomes.map(|(outcome, count)| ([outcome], read(count)))
    }

    /// Attributes that became no property for their size.
    pub(crate) fn attributes_left_out(&self) -> u64 {
        read(&self.attributes_left_out)
    }

    /// Requests refused whole.
    pub(crate) fn requests_refused(&self) -> u64 {
        read(&self.refused)
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
