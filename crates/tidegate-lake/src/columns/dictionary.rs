//! Names of one bucket's units in memory, and the ordinal of each.
//!
//! Names stand in one text one after the other, without an allocation each; a table of slots finds
//! them. A slot has a part of the name's hash beside the place of the name, so that looking a name
//! up reads one slot and one name. About 45 bytes a unit with names of twenty.
//!
//! A name is added for good, but the last ones can be taken back, and any can be forgotten: its
//! letters are then overwritten and its slot leads nowhere.

/// No ordinal: the name at this place is forgotten.
const FORGOTTEN: u32 = u32::MAX;

/// Part of a hash, and the place of a name plus one; 0 is an empty slot.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    tag: u32,
    place: u32,
}

/// The names of a bucket's units.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    letters: Vec<u8>,
    /// Where each name ends; it begins where the one before ends.
    ends: Vec<usize>,
    ordinals: Vec<u32>,
    /// A power of two of them, at most seven eighths in use.
    slots: Vec<Slot>,
}

fn parts_of(hash: u64) -> (u32, usize) {
    let tag = u32::try_from((hash >> 8) & u64::from(u32::MAX)).unwrap_or(0);
    let start = usize::try_from(hash >> 32).unwrap_or(0);
    (tag, start)
}

impl Dictionary {
    fn name(&self, place: usize) -> &[u8] {
        let before = place.checked_sub(1).and_then(|at| self.ends.get(at));
        let start = before.copied().unwrap_or(0);
        let end = self.ends.get(place).copied().unwrap_or(start);
        self.letters.get(start..end).unwrap_or(&[])
    }

    /// The slots that a hash leads to, in order, until an empty one.
    fn chain(&self, start: usize) -> impl Iterator<Item = (usize, Slot)> {
        let mask = self.slots.len().wrapping_sub(1);
        let places = (0..self.slots.len()).map(move |step| start.wrapping_add(step) & mask);
        let slots = places.filter_map(|at| Some((at, *self.slots.get(at)?)));
        slots.take_while(|(_, slot)| slot.place != 0)
    }

    fn place_of(&self, hash: u64, name: &str) -> Option<usize> {
        let (tag, start) = parts_of(hash);
        let same = self.chain(start).filter(|(_, slot)| slot.tag == tag);
        let mut places = same.filter_map(|(_, slot)| usize::try_from(slot.place - 1).ok());
        places.find(|place| {
            let is_there = self.ordinals.get(*place).is_some_and(|o| *o != FORGOTTEN);
            is_there && self.name(*place) == name.as_bytes()
        })
    }

    /// The ordinal of a name, if it is known. A name always comes with the same hash.
    pub(super) fn find(&self, hash: u64, name: &str) -> Option<u32> {
        self.ordinals.get(self.place_of(hash, name)?).copied()
    }

    /// Adds a name that is not known.
    pub(super) fn insert(&mut self, hash: u64, name: &str, ordinal: u32, hash_of: fn(&str) -> u64) {
        if (self.ends.len() + 1) * 8 > self.slots.len() * 7 {
            self.grow(hash_of);
        }
        self.letters.extend_from_slice(name.as_bytes());
        self.ends.push(self.letters.len());
        self.ordinals.push(ordinal);
        self.occupy(hash, self.ends.len());
    }

    /// Makes room in an empty dictionary for so many names.
    pub(super) fn reserve(&mut self, names: usize) {
        if self.ends.is_empty() && names > 0 {
            let slots = (names * 8).div_ceil(7) + 1;
            self.slots = vec![Slot::default(); slots.next_power_of_two().max(16)];
            self.ends.reserve(names);
            self.ordinals.reserve(names);
        }
    }

    /// Lets the first free slot of a hash lead to a place, which is counted from 1.
    fn occupy(&mut self, hash: u64, place: usize) {
        let (tag, start) = parts_of(hash);
        let taken = self.chain(start).count();
        let at = start.wrapping_add(taken) & self.slots.len().wrapping_sub(1);
        if let Some(slot) = self.slots.get_mut(at) {
            let place = u32::try_from(place).unwrap_or(0);
            *slot = Slot { tag, place };
        }
    }

    fn grow(&mut self, hash_of: fn(&str) -> u64) {
        self.slots = vec![Slot::default(); (self.slots.len() * 2).max(16)];
        for place in 0..self.ends.len() {
            let is_there = self.ordinals.get(place).is_some_and(|o| *o != FORGOTTEN);
            let hash = std::str::from_utf8(self.name(place)).map(hash_of);
            if let (true, Ok(hash)) = (is_there, hash) {
                self.occupy(hash, place + 1);
            }
        }
    }

    /// Gives back memory that was set aside for more names.
    pub(super) fn shrink(&mut self) {
        self.letters.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.ordinals.shrink_to_fit();
    }

    /// Takes the name back that was added last; it was not forgotten since.
    pub(super) fn undo(&mut self, hash: u64) {
        let last = self.ends.len();
        let (_, start) = parts_of(hash);
        let mut chain = self.chain(start);
        let found = chain.find(|(_, slot)| usize::try_from(slot.place) == Ok(last));
        let found = found.map(|(at, _)| at);
        drop(chain);
        if let Some(slot) = found.and_then(|at| self.slots.get_mut(at)) {
            // Nothing was added behind it, so no chain goes on through this slot.
            *slot = Slot::default();
        }
        self.ends.pop();
        self.ordinals.pop();
        self.letters
            .truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Forgets a name; says which ordinal it had.
    pub(super) fn forget(&mut self, hash: u64, name: &str) -> Option<u32> {
        let place = self.place_of(hash, name)?;
        let start = place.checked_sub(1).and_then(|at| self.ends.get(at));
        let start = start.copied().unwrap_or(0);
        let end = self.ends.get(place).copied().unwrap_or(start);
        if let Some(letters) = self.letters.get_mut(start..end) {
            letters.fill(0);
        }
        let ordinal = self.ordinals.get_mut(place)?;
        Some(std::mem::replace(ordinal, FORGOTTEN))
    }

    /// Every name with its ordinal.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let known = self.ordinals.iter().enumerate();
        let known = known.filter(|(_, ordinal)| **ordinal != FORGOTTEN);
        known.filter_map(|(place, ordinal)| {
            let name = std::str::from_utf8(self.name(place)).ok()?;
            Some((name, *ordinal))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use tidegate_metrics::unit_hash;

    /// Few different hashes, so that chains are long and tags agree.
    fn poor_hash(name: &str) -> u64 {
        (unit_hash(name) % 5) << 32
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(u16),
        Undo(u8),
        Forget(u16),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u16..300).prop_map(Step::Add),
            1 => (0u8..5).prop_map(Step::Undo),
            1 => (0u16..300).prop_map(Step::Forget),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_dictionary_is_a_map(steps in prop::collection::vec(any_step(), 0..400), is_poor: bool) {
            let hash_of = if is_poor { poor_hash } else { unit_hash };
            let (mut dictionary, mut map) = (Dictionary::default(), BTreeMap::new());
            let mut added: Vec<String> = Vec::new();
            for (ordinal, step) in (0u32..).zip(steps) {
                match step {
                    Step::Add(name) => {
                        let name = format!("unit-{name}");
                        if !map.contains_key(&name) {
                            dictionary.insert(hash_of(&name), &name, ordinal, hash_of);
                            map.insert(name.clone(), ordinal);
                            added.push(name);
                        }
                    }
                    Step::Undo(count) => {
                        for _ in 0..count {
                            if let Some(name) = added.pop() {
                                dictionary.undo(hash_of(&name));
                                map.remove(&name);
                            }
                        }
                    }
                    Step::Forget(name) => {
                        let name = format!("unit-{name}");
                        let known = map.remove(&name);
                        prop_assert_eq!(dictionary.forget(hash_of(&name), &name), known);
                        // What was added before can no longer be taken back.
                        added.clear();
                        dictionary.shrink();
                    }
                }
            }
            for name in (0..300).map(|name| format!("unit-{name}")) {
                let known = map.get(&name).copied();
                prop_assert_eq!(dictionary.find(hash_of(&name), &name), known);
            }
            let found: BTreeMap<String, u32> =
                dictionary.iter().map(|(name, ordinal)| (name.to_owned(), ordinal)).collect();
            prop_assert_eq!(found, map);
        }
    }
}
