//! Treatment for a share of the audience, control for the rest.
//!
//! The hash space of 10,000 basis points is given out from the low end: treatment first,
//! control last. So raising a share only turns control into treatment, lowering takes
//! back the units that came last, and a rollout restarted at a share it had before holds
//! the same units.
//!
//! With several treatments the space is a list of ranges. Each range a treatment was ever
//! given is a *slab* with a capacity: the range itself plus the control right behind it,
//! which is what the treatment gave back. Raising first refills slabs in order, then
//! appends new ones; lowering empties a treatment's slabs from its last. No unit ever
//! changes from one treatment to another, and a treatment that is lowered and raised again
//! gets its former units back. Shares are levelled: a raise goes to the smallest treatment
//! first, a cut to the largest.

use super::fields::{Fields, WHOLE};
use super::rule::{Hashing, named_by, ranges_to_json, read_ranges, sum_of};
use crate::problem::Violation;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A variant and its share of the hash space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Name of the variant.
    pub variant: String,
    /// Share in basis points.
    pub share_bp: u16,
}

/// A percentage rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Who gets what of the treatment.
    pub exposure: Exposure,
    /// The variant of those in the audience that the split leaves out.
    pub control: String,
    /// What is hashed.
    pub hashing: Hashing,
}

/// The treated part of the hash space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// One treatment with the first `share_bp` of the space.
    Single {
        /// The treatment.
        treatment: String,
        /// Its share in basis points.
        share_bp: u16,
    },
    /// Ranges in order; ranges of the control are room that a treatment gave back.
    Ranges(Vec<Range>),
}

/// How a rollout divides its audience, in basis points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Allocation {
    /// Share of all treatments together.
    pub treatment_bp: u16,
    /// Share that the same split leaves out.
    pub control_bp: u16,
    /// Share of each treatment, in order of first appearance.
    pub treatments: Vec<(String, u16)>,
}

impl Rollout {
    /// The shares in force.
    pub fn allocation(&self) -> Allocation {
        let mut treatments: Vec<(String, u16)> = Vec::new();
        for Range { variant, share_bp } in self.treated() {
            match treatments.iter_mut().find(|(name, _)| *name == variant) {
                Some((_, share)) => *share += share_bp,
                None => treatments.push((variant, share_bp)),
            }
        }
        let treatment_bp = treatments.iter().map(|(_, share)| share).sum();
        Allocation {
            treatment_bp,
            control_bp: WHOLE - treatment_bp,
            treatments,
        }
    }

    /// All ranges of the hash space, control included, summing to 10,000.
    pub fn ranges(&self) -> Vec<Range> {
        let mut ranges = match &self.exposure {
            Exposure::Single {
                treatment,
                share_bp,
            } => {
                vec![Range {
                    variant: treatment.clone(),
                    share_bp: *share_bp,
                }]
            }
            Exposure::Ranges(ranges) => ranges.clone(),
        };
        let given: u16 = ranges.iter().map(|range| range.share_bp).sum();
        if given < WHOLE {
            ranges.push(Range {
                variant: self.control.clone(),
                share_bp: WHOLE - given,
            });
        }
        ranges
    }

    pub(crate) fn variants(&self) -> Vec<&str> {
        let mut names: Vec<&str> = match &self.exposure {
            Exposure::Single { treatment, .. } => vec![treatment],
            Exposure::Ranges(ranges) => ranges.iter().map(|r| r.variant.as_str()).collect(),
        };
        names.push(&self.control);
        names
    }

    /// Every variant it names, with its place within the rule.
    pub(crate) fn named_variants(&self) -> Vec<(String, &str)> {
        let mut named: Vec<(String, &str)> = match &self.exposure {
            Exposure::Single { treatment, .. } => {
                vec![("/rollout/treatment".to_owned(), treatment)]
            }
            Exposure::Ranges(ranges) => named_by(ranges, "/rollout/ranges").collect(),
        };
        named.push(("/rollout/control".to_owned(), &self.control));
        named
    }

    /// The same rollout with `share_bp` of the space treated in all (see the module doc);
    /// a share above 10,000 counts as 10,000.
    #[must_use]
    pub fn with_share(&self, share_bp: u16) -> Rollout {
        let share_bp = share_bp.min(WHOLE);
        let exposure = match &self.exposure {
            Exposure::Single { treatment, .. } => Exposure::Single {
                treatment: treatment.clone(),
                share_bp,
            },
            Exposure::Ranges(ranges) => {
                let mut slabs = Slabs::of(ranges, &self.control);
                slabs.level(share_bp);
                Exposure::Ranges(slabs.into_ranges())
            }
        };
        Rollout {
            exposure,
            ..self.clone()
        }
    }

    fn treated(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges()
            .into_iter()
            .filter(|range| range.variant != self.control)
    }

    pub(crate) fn read(
        value: &Value,
        pointer: &str,
        report: &mut Vec<Violation>,
    ) -> Option<Rollout> {
        let mut fields = Fields::of(value, pointer, report)?;
        let control = fields.required_string("control").map(str::to_owned);
        let exposure = read_exposure(&mut fields);
        let hashing = Hashing::read(&mut fields);
        fields.finish();
        let rollout = Rollout {
            exposure: exposure?,
            control: control?,
            hashing,
        };
        if rollout
            .variants()
            .iter()
            .all(|name| *name == rollout.control)
        {
            let message = "a treatment that is not the control is needed";
            report.push(Violation::new(pointer, "no_treatment", message));
            return None;
        }
        Some(rollout)
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        match &self.exposure {
            Exposure::Single {
                treatment,
                share_bp,
            } => {
                object.insert("treatment".to_owned(), json!(treatment));
                object.insert("control".to_owned(), json!(self.control));
                object.insert("share_bp".to_owned(), json!(share_bp));
            }
            Exposure::Ranges(ranges) => {
                object.insert("control".to_owned(), json!(self.control));
                object.insert("ranges".to_owned(), ranges_to_json(ranges));
            }
        }
        self.hashing.write(&mut object);
        Value::Object(object)
    }
}

fn read_exposure(fields: &mut Fields<'_, '_>) -> Option<Exposure> {
    let has_ranges = fields.take("ranges").is_some();
    let treatment = fields.take("treatment").is_some();
    let share = fields.take("share_bp").is_some();
    if has_ranges {
        if treatment || share {
            let message = "\"ranges\" names the treatments: leave out treatment and share_bp";
            fields.refuse("ranges", "one_exposure", message);
        }
        let ranges = read_ranges(fields, "ranges")?;
        if sum_of(&ranges) > u32::from(WHOLE) {
            let message = format!("ranges sum to {}, more than 10000", sum_of(&ranges));
            fields.refuse("ranges", "weights_do_not_sum", message);
            return None;
        }
        return Some(Exposure::Ranges(ranges));
    }
    fields.require("share_bp");
    let treatment = fields.required_string("treatment").map(str::to_owned);
    let share_bp = fields.basis_points("share_bp");
    Some(Exposure::Single {
        treatment: treatment?,
        share_bp: share_bp?,
    })
}

/// A range that a treatment was given: how much of it is in use, how much there is.
/// A slab of the control itself is room that belongs to nobody.
struct Slab {
    variant: String,
    used: u16,
    capacity: u16,
}

struct Slabs<'c> {
    control: &'c str,
    slabs: Vec<Slab>,
    /// Control behind the last slab, given out when a treatment outgrows its slabs.
    tail: u16,
}

impl Slabs<'_> {
    /// Control behind a slab is that slab's room, except the very last entry of the list,
    /// which is the tail.
    fn of<'c>(ranges: &[Range], control: &'c str) -> Slabs<'c> {
        let given = u16::try_from(sum_of(ranges)).unwrap_or(WHOLE);
        let mut slabs = Slabs {
            control,
            slabs: Vec::new(),
            tail: WHOLE - given,
        };
        let (listed, last) = match ranges.split_last() {
            Some((last, before)) if last.variant == control => (before, last.share_bp),
            _ => (ranges, 0),
        };
        slabs.tail += last;
        for Range { variant, share_bp } in listed {
            match slabs.slabs.last_mut() {
                Some(slab) if variant == control => slab.capacity += share_bp,
                _ => {
                    let used = if variant == control { 0 } else { *share_bp };
                    let variant = variant.clone();
                    slabs.slabs.push(Slab {
                        variant,
                        used,
                        capacity: *share_bp,
                    });
                }
            }
        }
        slabs
    }

    fn into_ranges(self) -> Vec<Range> {
        let mut ranges = Vec::new();
        let control = |share_bp| Range {
            variant: self.control.to_owned(),
            share_bp,
        };
        for slab in self.slabs {
            if slab.variant != self.control {
                ranges.push(Range {
                    variant: slab.variant,
                    share_bp: slab.used,
                });
            }
            if slab.capacity > slab.used {
                ranges.push(control(slab.capacity - slab.used));
            }
        }
        if self.tail > 0
            || ranges
                .last()
                .is_some_and(|last| last.variant == self.control)
        {
            ranges.push(control(self.tail));
        }
        ranges
    }

    /// Treatments in order of first appearance, with the share each holds.
    fn shares(&self) -> Vec<(String, u16)> {
        let mut shares: Vec<(String, u16)> = Vec::new();
        for slab in self
            .slabs
            .iter()
            .filter(|slab| slab.variant != self.control)
        {
            match shares.iter_mut().find(|(name, _)| *name == slab.variant) {
                Some((_, share)) => *share += slab.used,
                None => shares.push((slab.variant.clone(), slab.used)),
            }
        }
        shares
    }

    /// Brings the sum of all treatments to `share_bp`.
    fn level(&mut self, share_bp: u16) {
        for (variant, target) in levelled(self.shares(), share_bp) {
            let held: u16 = self.of_variant(&variant).map(|slab| slab.used).sum();
            self.take_back(&variant, held.saturating_sub(target));
            let missing = target.saturating_sub(held);
            let missing = self.refill(&variant, missing);
            let missing = self.append(&variant, missing);
            self.settle_in_foreign_room(&variant, missing);
        }
    }

    fn of_variant(&mut self, variant: &str) -> impl DoubleEndedIterator<Item = &mut Slab> {
        self.slabs
            .iter_mut()
            .filter(move |slab| slab.variant == variant)
    }

    fn take_back(&mut self, variant: &str, mut excess: u16) {
        for slab in self.of_variant(variant).rev() {
            let taken = excess.min(slab.used);
            slab.used -= taken;
            excess -= taken;
        }
    }

    fn refill(&mut self, variant: &str, mut missing: u16) -> u16 {
        for slab in self.of_variant(variant) {
            let given = missing.min(slab.capacity - slab.used);
            slab.used += given;
            missing -= given;
        }
        missing
    }

    fn append(&mut self, variant: &str, missing: u16) -> u16 {
        let given = missing.min(self.tail);
        self.tail -= given;
        match self.slabs.last_mut() {
            _ if given == 0 => {}
            Some(last) if last.variant == variant => {
                last.capacity += given;
                last.used += given;
            }
            _ => {
                let variant = variant.to_owned();
                self.slabs.push(Slab {
                    variant,
                    used: given,
                    capacity: given,
                });
            }
        }
        missing - given
    }

    /// The tail is spent: takes room that other treatments gave back, far end first.
    fn settle_in_foreign_room(&mut self, variant: &str, mut missing: u16) {
        let mut index = self.slabs.len();
        while missing > 0 && index > 0 {
            index -= 1;
            let slab = &mut self.slabs[index];
            let given = missing.min(slab.capacity - slab.used);
            if given > 0 {
                slab.capacity -= given;
                missing -= given;
                let variant = variant.to_owned();
                self.slabs.insert(
                    index + 1,
                    Slab {
                        variant,
                        used: given,
                        capacity: given,
                    },
                );
            }
        }
    }
}

/// Shares that sum to `share_bp`: a raise lifts the smallest first, a cut lowers the
/// largest first, so every share moves in one direction only.
fn levelled(mut shares: Vec<(String, u16)>, share_bp: u16) -> Vec<(String, u16)> {
    let mut total: u16 = shares.iter().map(|(_, share)| share).sum();
    while total < share_bp {
        let Some((_, share)) = shares.iter_mut().min_by_key(|(_, share)| *share) else {
            break;
        };
        *share += 1;
        total += 1;
    }
    while total > share_bp {
        let largest = shares.iter_mut().max_by_key(|(_, share)| *share);
        let Some((_, share)) = largest else { break };
        *share -= 1;
        total -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rollout(ranges: &[(&str, u16)]) -> Rollout {
        let ranges = ranges.iter().map(|(variant, share_bp)| Range {
            variant: (*variant).to_owned(),
            share_bp: *share_bp,
        });
        Rollout {
            exposure: Exposure::Ranges(ranges.collect()),
            control: "control".to_owned(),
            hashing: Hashing::default(),
        }
    }

    fn listed(rollout: &Rollout) -> Vec<(&str, u16)> {
        let Exposure::Ranges(ranges) = &rollout.exposure else {
            return Vec::new();
        };
        ranges
            .iter()
            .map(|range| (range.variant.as_str(), range.share_bp))
            .collect()
    }

    /// The variant of each of the 10,000 basis points.
    fn map_of(rollout: &Rollout) -> Vec<String> {
        let ranges = rollout.ranges().into_iter();
        ranges
            .flat_map(|r| std::iter::repeat_n(r.variant, usize::from(r.share_bp)))
            .collect()
    }

    #[test]
    fn several_treatments_are_raised_by_appending_ranges() {
        let start = rollout(&[("A", 500), ("B", 500)]);
        let raised = start.with_share(5000);
        assert_eq!(
            listed(&raised),
            [
                ("A", 500),
                ("B", 500),
                ("A", 2000),
                ("B", 2000),
                ("control", 5000)
            ]
        );
        let lowered = raised.with_share(3000);
        assert_eq!(
            listed(&lowered),
            [
                ("A", 500),
                ("B", 500),
                ("A", 1000),
                ("control", 1000),
                ("B", 1000),
                ("control", 1000),
                ("control", 5000),
            ]
        );
        assert_eq!(map_of(&lowered.with_share(5000)), map_of(&raised));
        let all = lowered.with_share(10_000).allocation();
        assert_eq!((all.treatment_bp, all.control_bp), (10_000, 0));
    }

    proptest! {
        #[test]
        fn no_walk_of_shares_moves_a_unit_between_treatments(
            shares in proptest::collection::vec(0u16..=10_000, 1..12),
            names in prop_oneof![Just(vec!["A"]), Just(vec!["A", "B"]), Just(vec!["A", "B", "C"])],
        ) {
            let ranges: Vec<(&str, u16)> = names.iter().map(|name| (*name, 0)).collect();
            let mut current = rollout(&ranges);
            let mut total = 0;
            for share in shares {
                let next = current.with_share(share);
                prop_assert_eq!(next.allocation().treatment_bp, share);
                let (before, after) = (map_of(&current), map_of(&next));
                prop_assert_eq!(after.len(), 10_000);
                for (was, is) in before.iter().zip(&after) {
                    let stays = was == is;
                    let joins = share > total && was == "control";
                    let leaves = share < total && is == "control";
                    prop_assert!(stays || joins || leaves, "{} -> {}: {} -> {}", total, share, was, is);
                }
                if share < total {
                    prop_assert_eq!(map_of(&next.with_share(total)), before);
                }
                (current, total) = (next, share);
            }
        }
    }
}
