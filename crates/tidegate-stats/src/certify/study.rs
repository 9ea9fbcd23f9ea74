//! What a study is: named rows, a number of repetitions, and a repetition that marks the rows hit.

use super::random::Stream;

/// When a running experiment is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Schedule {
    /// After each unit.
    EveryUnit { units: u32 },
    /// After each batch of units.
    Looks { looks: u32, units_per_look: u32 },
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EveryUnit { units } => write!(formatter, "every unit to {units}"),
            Self::Looks {
                looks: 28,
                units_per_look,
            } => {
                write!(formatter, "daily x 28, {units_per_look} units a day")
            }
            Self::Looks {
                looks: 672,
                units_per_look,
            } => {
                write!(formatter, "hourly x 672, {units_per_look} units an hour")
            }
            Self::Looks {
                looks,
                units_per_look,
            } => {
                write!(formatter, "{looks} looks, {units_per_look} units each")
            }
        }
    }
}

/// One line of the certificate before it is filled in.
#[derive(Clone, Debug)]
pub(super) struct RowPlan {
    pub(super) section: &'static str,
    pub(super) configuration: String,
    pub(super) metric: String,
    pub(super) scale: &'static str,
    pub(super) schedule: String,
    pub(super) bar: f64,
    /// Asked for by the protocol, so that it decides whether the certificate is met.
    pub(super) in_protocol: bool,
    /// Why the bar may not be met, where that is understood.
    pub(super) reason: Option<&'static str>,
}

/// Rows hit by one repetition: bit `i` for row `i`.
pub(super) type Hits = u64;

/// Bits from flags.
pub(super) fn hits(flags: &[bool]) -> Hits {
    flags
        .iter()
        .enumerate()
        .fold(0, |bits, (row, hit)| bits | (u64::from(*hit) << row))
}

/// Rows that are measured by the same repetitions.
pub(super) struct Study {
    pub(super) name: String,
    pub(super) repetitions: u32,
    pub(super) rows: Vec<RowPlan>,
    pub(super) simulate: Box<dyn Fn(&mut Stream) -> Hits + Send + Sync>,
}
