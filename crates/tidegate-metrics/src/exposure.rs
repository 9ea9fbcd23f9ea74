//! Which arm a unit belongs to, and from when its events count.
//!
//! A unit's arm is the variant of its first exposure; its events at or after that moment count.
//! A unit exposed to two variants is mixed: it is excluded from every arm and shown, because its
//! behaviour answers to both.

/// One exposure of a unit, in no particular order. Units, variants and segments are numbers given
/// by whoever reads the store; a segment is the value of some property of the exposure, 0 if it
/// has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExposureEvent {
    /// Dense number of the unit.
    pub unit: u32,
    /// When, microseconds since 1970.
    pub time_us: i64,
    /// Which variant.
    pub variant: u32,
    /// Which segment.
    pub segment: u32,
}

/// Where a unit belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// Its first exposure, microseconds since 1970; `None` if it was never exposed.
    pub since_us: Option<i64>,
    /// The variant of its first exposure.
    pub variant: u32,
    /// The segment of its first exposure.
    pub segment: u32,
    /// Whether it was exposed to more than one variant.
    pub is_mixed: bool,
}

impl Assignment {
    /// A unit that counts from the beginning of time, for questions without a flag.
    pub const EVERYONE: Self = Self {
        since_us: Some(i64::MIN),
        variant: 0,
        segment: 0,
        is_mixed: false,
    };

    pub(crate) const NEVER: Self = Self {
        since_us: None,
        variant: 0,
        segment: 0,
        is_mixed: false,
    };

    /// Takes an exposure of the unit into account.
    pub(crate) fn expose(&mut self, exposure: &ExposureEvent) {
        let is_known = self.since_us.is_some();
        self.is_mixed |= is_known && self.variant != exposure.variant;
        let is_first = self.since_us.is_none_or(|since| exposure.time_us < since);
        if is_first {
            self.since_us = Some(exposure.time_us);
            self.variant = exposure.variant;
            self.segment = exposure.segment;
        }
    }

    /// From when the unit's events count; `None` if they do not.
    #[must_use]
    pub fn counts_since_us(&self) -> Option<i64> {
        self.since_us.filter(|_| !self.is_mixed)
    }
}

/// The units of a bucket by ordinal, and from when each counts.
#[derive(Debug, Clone, Copy)]
pub enum Arms<'a> {
    /// So many units, all of one group, that count from the beginning of time.
    Everyone(usize),
    /// Units by their exposures.
    Exposed(&'a [Assignment]),
}

impl Arms<'_> {
    /// How many units there are.
    #[must_use]
    pub fn units(&self) -> usize {
        match self {
            Self::Everyone(units) => *units,
            Self::Exposed(assignments) => assignments.len(),
        }
    }

    /// Where a unit belongs; `None` beyond the last.
    #[must_use]
    pub fn of(&self, unit: usize) -> Option<Assignment> {
        match self {
            Self::Everyone(units) => (unit < *units).then_some(Assignment::EVERYONE),
            Self::Exposed(assignments) => assignments.get(unit).copied(),
        }
    }

    /// From when a unit's events count; `None` if they do not.
    #[must_use]
    pub fn since_us(&self, unit: usize) -> Option<i64> {
        match self {
            Self::Everyone(units) => (unit < *units).then_some(i64::MIN),
            Self::Exposed(assignments) => assignments.get(unit)?.counts_since_us(),
        }
    }
}

impl<'a> From<&'a [Assignment]> for Arms<'a> {
    fn from(assignments: &'a [Assignment]) -> Self {
        Self::Exposed(assignments)
    }
}

impl<'a> From<&'a Vec<Assignment>> for Arms<'a> {
    fn from(assignments: &'a Vec<Assignment>) -> Self {
        Self::Exposed(assignments)
    }
}

impl<'a, const N: usize> From<&'a [Assignment; N]> for Arms<'a> {
    fn from(assignments: &'a [Assignment; N]) -> Self {
        Self::Exposed(assignments)
    }
}

/// Assigns every unit below `units`.
#[must_use]
pub fn assign_units(
    units: usize,
    exposures: impl IntoIterator<Item = ExposureEvent>,
) -> Vec<Assignment> {
    let mut assignments = vec![Assignment::NEVER; units];
    for exposure in exposures {
        let at = usize::try_from(exposure.unit).unwrap_or(usize::MAX);
        let Some(assignment) = assignments.get_mut(at) else {
            continue;
        };
        assignment.expose(&exposure);
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_exposure_decides_in_any_order_of_arrival() {
        let exposure = |unit, time_us, variant, segment| ExposureEvent {
            unit,
            time_us,
            variant,
            segment,
        };
        let mut exposures = [
            exposure(0, 9, 1, 5),
            exposure(0, 3, 1, 6),
            exposure(1, 4, 1, 0),
            exposure(1, 5, 2, 0),
            exposure(7, 1, 1, 0),
        ];
        for _ in 0..2 {
            let found = assign_units(3, exposures.iter().copied());
            assert_eq!(found[0].counts_since_us(), Some(3));
            assert_eq!((found[0].variant, found[0].segment), (1, 6));
            assert!(found[1].is_mixed);
            assert_eq!(found[1].counts_since_us(), None);
            assert_eq!(found[2].since_us, None);
            exposures.reverse();
        }
    }
}
