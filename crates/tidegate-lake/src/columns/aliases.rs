//! Which units are one person: the aliases of a lake at one moment.
//!
//! A unit may be merged into another: all it ever did and will do is then the other's, at read.
//! Nothing stored changes, so a merge can be taken back. Aliases form trees: a unit is merged into
//! at most one other, chains are followed to their end, and the unit there, the *root*, is the
//! person. Units are known by place (bucket and ordinal), never by name.
//!
//! [`AliasLog`] makes changes durable. What is held here is a value: questions keep the one they
//! began with. Maps are kept by bucket behind [`Arc`], so that a change copies one bucket's.

mod change;
mod log;

pub use change::AliasReport;
pub(super) use log::{AliasLog, Change, check};

use super::erasure::Place;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Units of one person. More are no person but a placeholder that many devices send as their id.
pub(super) const MAX_UNITS: usize = 10_000;

/// Why two units cannot become one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AliasRefusal {
    /// A unit into itself.
    SameUnit,
    /// The other is merged into this one already.
    Cycle,
    /// It is merged into a third.
    MergedElsewhere,
    /// The person would have too many units.
    TooManyUnits,
}

impl AliasRefusal {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::SameUnit => "same-unit",
            Self::Cycle => "cycle",
            Self::MergedElsewhere => "merged-elsewhere",
            Self::TooManyUnits => "too-many-units",
        }
    }

    /// What is wrong, and the cure.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::SameUnit => "is the unit itself; name another to merge it into",
            Self::Cycle => {
                "is merged into this unit already, directly or by others; unmerge one of them first"
            }
            Self::MergedElsewhere => {
                "is merged into another unit; merge that one, or unmerge this one first"
            }
            Self::TooManyUnits => {
                "would be a person of more than 10000 units; an id that so many share names nobody"
            }
        }
    }
}

type InBucket<T> = BTreeMap<u16, Arc<BTreeMap<u32, T>>>;

/// Who is whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases {
    version: u64,
    /// By unit: what it was merged into.
    into: InBucket<Place>,
    /// By root: the other units of the person.
    others: InBucket<Vec<Place>>,
}

fn get<T>(map: &InBucket<T>, place: Place) -> Option<&T> {
    map.get(&place.0)?.get(&place.1)
}

fn put<T: Clone>(map: &mut InBucket<T>, place: Place, value: T) {
    let bucket = map.entry(place.0).or_default();
    Arc::make_mut(bucket).insert(place.1, value);
}

fn take<T: Clone>(map: &mut InBucket<T>, place: Place) -> Option<T> {
    let bucket = map.get_mut(&place.0)?;
    let taken = Arc::make_mut(bucket).remove(&place.1);
    if bucket.is_empty() {
        map.remove(&place.0);
    }
    taken
}

impl Aliases {
    /// How many changes there were, those taken back included.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Units merged into another.
    #[must_use]
    pub fn merged_units(&self) -> u64 {
        self.into.values().map(|bucket| bucket.len() as u64).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.into.is_empty()
    }

    /// The person a unit is.
    pub(crate) fn root(&self, place: Place) -> Place {
        let mut at = place;
        while let Some(next) = get(&self.into, at) {
            at = *next;
        }
        at
    }

    /// Every unit of a unit's person, its root first.
    pub(crate) fn person(&self, place: Place) -> Vec<Place> {
        let root = self.root(place);
        let others = get(&self.others, root).into_iter().flatten();
        std::iter::once(root).chain(others.copied()).collect()
    }

    /// Every person of several units: its root, and all of its units with the root among them.
    pub(crate) fn persons(&self) -> impl Iterator<Item = (Place, impl Iterator<Item = Place>)> {
        let buckets = self.others.iter();
        buckets.flat_map(|(bucket, roots)| {
            roots.iter().map(move |(ordinal, others)| {
                let root = (*bucket, *ordinal);
                (root, std::iter::once(root).chain(others.iter().copied()))
            })
        })
    }

    /// Whether merging would change something.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn may_merge(
        &self,
        unit: Option<Place>,
        into: Option<Place>,
    ) -> Result<bool, AliasRefusal> {
        let size = |place: Option<Place>| place.map_or(1, |place| self.person(place).len());
        if let (Some(unit), Some(into)) = (unit, into) {
            if unit == into {
                return Err(AliasRefusal::SameUnit);
            }
            if self.root(unit) == self.root(into) {
                return match get(&self.into, unit) {
                    Some(_) => Ok(false),
                    None => Err(AliasRefusal::Cycle),
                };
            }
        }
        if unit.is_some_and(|unit| get(&self.into, unit).is_some()) {
            return Err(AliasRefusal::MergedElsewhere);
        }
        if size(unit) + size(into) > MAX_UNITS {
            return Err(AliasRefusal::TooManyUnits);
        }
        Ok(true)
    }

    /// Applies a change that was found possible; answers whether it was.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        self.version += 1;
        match change {
            Change::Merged(unit, into) => {
                let is_possible = self.may_merge(Some(*unit), Some(*into)) == Ok(true);
                if is_possible {
                    self.merge(*unit, *into);
                }
                is_possible
            }
            Change::Unmerged(unit) => self.unmerge(*unit),
        }
    }

    fn merge(&mut self, unit: Place, into: Place) {
        let root = self.root(into);
        let mut others = take(&mut self.others, root).unwrap_or_default();
        others.push(unit);
        others.extend(take(&mut self.others, unit).unwrap_or_default());
        put(&mut self.others, root, others);
        put(&mut self.into, unit, into);
    }

    /// Whether a unit is merged into another.
    pub(super) fn is_merged(&self, unit: Place) -> bool {
        get(&self.into, unit).is_some()
    }

    fn unmerge(&mut self, unit: Place) -> bool {
        let root = self.root(unit);
        if take(&mut self.into, unit).is_none() {
            return false;
        }
        let others = take(&mut self.others, root).unwrap_or_default();
        let (gone, left): (Vec<Place>, Vec<Place>) = others
            .into_iter()
            .partition(|other| self.root(*other) != root);
        let gone: Vec<Place> = gone.into_iter().filter(|other| *other != unit).collect();
        for (root, others) in [(root, left), (unit, gone)] {
            if !others.is_empty() {
                put(&mut self.others, root, others);
            }
        }
        true
    }

    /// Leaves out persons that were erased; all of their units are.
    pub(super) fn without(&self, erased: &BTreeSet<Place>) -> Self {
        let gone: Vec<Place> = self
            .persons()
            .map(|(root, _)| root)
            .filter(|root| erased.contains(root))
            .collect();
        let mut left = self.clone();
        for root in gone {
            for other in take(&mut left.others, root).unwrap_or_default() {
                take(&mut left.into, other);
            }
        }
        left
    }

    /// The units whose person is other than it was at another moment.
    pub(crate) fn changed_since(&self, before: &Self) -> BTreeSet<Place> {
        let mut changed = BTreeSet::new();
        let buckets: BTreeSet<u16> = self
            .others
            .keys()
            .chain(before.others.keys())
            .copied()
            .collect();
        for bucket in buckets {
            let (old, new) = (before.others.get(&bucket), self.others.get(&bucket));
            if old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(old, new)) {
                continue;
            }
            let both = [(old, new), (new, old)];
            for (these, those) in both {
                for (ordinal, others) in these.into_iter().flat_map(|roots| roots.iter()) {
                    if those.and_then(|roots| roots.get(ordinal)) != Some(others) {
                        changed.insert((bucket, *ordinal));
                        changed.extend(others);
                    }
                }
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Place> {
        (0u16..3, 0u32..3)
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            3 => (place(), place()).prop_map(|(unit, into)| Change::Merged(unit, into)),
            1 => place().prop_map(Change::Unmerged),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is asked, every chain ends, persons are the ends of chains, and what changed
        /// between two moments is named.
        #[test]
        fn persons_are_the_ends_of_chains(changes in prop::collection::vec(change(), 0..40)) {
            let (mut aliases, mut direct) = (Aliases::default(), BTreeMap::new());
            let all = || (0u16..3).flat_map(|bucket| (0u32..3).map(move |unit| (bucket, unit)));
            for change in changes {
                let before = aliases.clone();
                if aliases.apply(&change) {
                    match change {
                        Change::Merged(unit, into) => direct.insert(unit, into),
                        Change::Unmerged(unit) => direct.remove(&unit),
                    };
                }
                let end = |start: Place| {
                    let next = |at: &Place| direct.get(at).copied();
                    let chain = std::iter::successors(Some(start), next);
                    let chain: Vec<Place> = chain.take(10).collect();
                    assert!(chain.len() < 10, "a cycle");
                    *chain.last().unwrap()
                };
                let changed = aliases.changed_since(&before);
                for unit in all() {
                    prop_assert_eq!(aliases.root(unit), end(unit));
                    let mut person = aliases.person(unit);
                    let mut was = before.person(unit);
                    person.sort_unstable();
                    was.sort_unstable();
                    let same: Vec<Place> = all().filter(|other| end(*other) == end(unit)).collect();
                    prop_assert_eq!(&person, &same);
                    let is_other = person != was || aliases.root(unit) != before.root(unit);
                    prop_assert_eq!(changed.contains(&unit), is_other);
                }
                prop_assert_eq!(aliases.merged_units(), direct.len() as u64);
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_and_what_is_already_changes_nothing() {
        let [a, b, c] = [(0, 0), (0, 1), (1, 0)];
        let mut aliases = Aliases::default();
        assert!(aliases.apply(&Change::Merged(a, b)));
        assert!(aliases.apply(&Change::Merged(b, c)));
        let may = |unit, into| aliases.may_merge(Some(unit), Some(into));
        assert_eq!(may(a, a), Err(AliasRefusal::SameUnit));
        assert_eq!(may(c, a), Err(AliasRefusal::Cycle));
        assert_eq!(may(a, (1, 9)), Err(AliasRefusal::MergedElsewhere));
        assert_eq!(
            aliases.may_merge(Some(a), None),
            Err(AliasRefusal::MergedElsewhere)
        );
        assert_eq!((may(a, b), may(a, c)), (Ok(false), Ok(false)));
        assert_eq!(aliases.may_merge(None, None), Ok(true));
        let mut crowd = Aliases::default();
        for unit in 1..10_000 {
            assert!(crowd.apply(&Change::Merged((0, unit), (0, 0))));
        }
        let one_more = crowd.may_merge(Some((1, 1)), Some((0, 5)));
        assert_eq!(one_more, Err(AliasRefusal::TooManyUnits));
    }
}
