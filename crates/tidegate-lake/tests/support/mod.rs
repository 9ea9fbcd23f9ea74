//! What tests of answers share: a small lake on a simulated disk, and what few units do.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::path::Path;
use std::sync::Arc;
use tidegate_lake::{ColumnOptions, Lake, LakeOptions, LogOptions, SimulatedDisk};
use tidegate_metrics::{Event, EventId, EventKind};

pub(crate) const DAY_US: i64 = 86_400_000_000;
pub(crate) const FIRST_DAY: i64 = 20_000;
pub(crate) const DIR: &str = "/lake";

/// Little of everything, so that few events reach every branch, and a door that forgets at once,
/// so that copies reach the files.
pub(crate) fn options(columns: ColumnOptions) -> LakeOptions {
    LakeOptions {
        log: LogOptions {
            segment_bytes: 1 << 16,
            reserve_bytes: 0,
            recent_ids: 2,
            ..LogOptions::default()
        },
        columns: ColumnOptions {
            group_rows: 8,
            growing_group_rows: 4,
            ..columns
        },
        ..LakeOptions::default()
    }
}

pub(crate) fn open(disk: &SimulatedDisk, columns: ColumnOptions) -> Lake {
    Lake::open(Arc::new(disk.clone()), Path::new(DIR), options(columns)).unwrap()
}

/// What a unit does: it meets a variant of the flag `flag`, or does something of the name `nX`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    Met(&'static str),
    Did(u8),
}

impl Deed {
    /// Number 0 is meeting the variant, any other one of so many names.
    pub(crate) fn of(number: u8, names: u8, variant: &'static str) -> Self {
        match number {
            0 => Self::Met(variant),
            number => Self::Did(number % names),
        }
    }
}

/// A deed as an event without value and properties.
pub(crate) fn event(id: u64, unit: u8, time_us: i64, deed: Deed) -> Event {
    let (kind, name, flags) = match deed {
        Deed::Met(variant) => (
            EventKind::Exposure,
            "flag".into(),
            vec![("flag".into(), variant.into())],
        ),
        Deed::Did(name) => (EventKind::Track, format!("n{name}").into(), Vec::new()),
    };
    Event {
        id: EventId(u128::from(id)),
        time_us,
        received_us: time_us,
        sent_us: None,
        unit: format!("u{unit}").into(),
        kind,
        name,
        value: None,
        properties: Vec::new(),
        flags,
        trace_id: None,
        is_quarantined: false,
    }
}
