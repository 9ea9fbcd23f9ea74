//! The commonest targeting in one piece: an attribute in a short list, then a split of two.
//!
//! "plan in [pro, team], then 50/50" is what most flags in use say, and walking it as steps and
//! nodes costs as much as the hash. Where a program has that form, in the dialect `v2`, it is
//! written out once more as a [`Gate`]: the slot, the texts, the hash of the flag key, and one
//! threshold on the hash in place of bucket and boundaries. A gate never answers differently from
//! the steps: whatever it was not made for, it leaves to them, and explanations always walk them.
//!
//! The threshold: a bucket is `(hash * total) >> 32`, so it lies below `first` exactly if `hash`
//! lies below `first * 2^32 / total`, rounded up.

use super::interpret::{Decision, Inputs};
use super::program::{HashInput, Node, Program, SlotId, Step, TARGETING_KEY};
use super::value::{Atom, Val};
use crate::bucketing::Bucketing;
use crate::bucketing::murmur3::Murmur3;

/// The longest list of texts that a gate holds.
const MOST_TEXTS: usize = 4;

/// A short condition and a split of two, ready to be decided.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    condition: Option<Condition>,
    /// The hash of the flag key.
    prefix: Murmur3,
    /// Hashes below it fall to the first entry.
    threshold: u64,
    /// Variants of the two entries, by position.
    served: [u32; 2],
    without_unit: Decision,
    otherwise: Decision,
}

#[derive(Clone, Copy, Debug)]
struct Condition {
    slot: SlotId,
    /// Any of these; a shorter list repeats its last text.
    texts: [Atom; MOST_TEXTS],
    /// Whether a value that is no text could be equal to one all the same.
    is_loose: bool,
}

impl Gate {
    /// The gate that decides as `step` does; `None` if it has another form.
    pub(crate) fn of(program: &Program, step: Step, dialect: Bucketing) -> Option<Gate> {
        if dialect != Bucketing::V2 {
            return None;
        }
        let Step::If { arms, otherwise } = step else {
            return Gate::of_split(program, step, None, Decision::Default);
        };
        let [(condition, next)] = program.arms.get(arms.range())? else {
            return None;
        };
        let condition = Condition::of(program, program.nodes.get(condition.index())?)?;
        let otherwise = constant(program.step(otherwise))?;
        Gate::of_split(program, *next, Some(condition), otherwise)
    }

    fn of_split(
        program: &Program,
        step: Step,
        condition: Option<Condition>,
        otherwise: Decision,
    ) -> Option<Gate> {
        let Step::Split {
            split,
            otherwise: without_unit,
        } = step
        else {
            return None;
        };
        let table = program.splits.get(split.index())?;
        let HashInput::Implicit { prefix } = table.input else {
            return None;
        };
        let [Step::Serve(first), Step::Serve(second)] = *table.outcomes else {
            return None;
        };
        let without_unit =
            without_unit.map_or(Some(Decision::Default), |id| constant(program.step(id)))?;
        let (_, first_ends) = table.boundaries.range(0);
        let total = u64::from(table.boundaries.total());
        Some(Gate {
            condition,
            prefix,
            threshold: (u64::from(first_ends) << 32).div_ceil(total.max(1)),
            served: [first, second],
            without_unit,
            otherwise,
        })
    }

    /// What the steps would come to; `None` where they must be asked.
    #[inline]
    pub(crate) fn decide(&self, inputs: &Inputs<'_>) -> Option<Decision> {
        if let Some(condition) = &self.condition
            && !condition.holds(inputs)?
        {
            return Some(self.otherwise);
        }
        match text_of(inputs, TARGETING_KEY) {
            Some((unit, _)) if !unit.is_empty() => {
                let hash = u64::from(self.prefix.with(unit.as_bytes()).finish());
                // Which one is a coin toss: chosen by position, not by a branch.
                let entry = usize::from(hash >= self.threshold);
                Some(Decision::Serve(self.served[entry]))
            }
            _ => Some(self.without_unit),
        }
    }
}

impl Condition {
    fn of(program: &Program, node: &Node) -> Option<Condition> {
        let (slot, texts, is_loose) = match node {
            Node::SlotIn { slot, set } => (*slot, program.set(*set), false),
            Node::SlotIs {
                slot,
                text,
                is_strict,
            } => (*slot, std::slice::from_ref(text), !is_strict),
            _ => return None,
        };
        let last = *texts.last()?;
        let mut padded = [last; MOST_TEXTS];
        padded.get_mut(..texts.len())?.copy_from_slice(texts);
        Some(Condition {
            slot,
            texts: padded,
            is_loose,
        })
    }

    /// `None` where only the steps can tell.
    #[inline]
    fn holds(&self, inputs: &Inputs<'_>) -> Option<bool> {
        match text_of(inputs, self.slot) {
            Some((_, atom)) => Some(self.texts.contains(&atom)),
            None if self.is_loose => None,
            None => Some(false),
        }
    }
}

/// The text in `slot`; `None` if there is none or something else.
#[inline]
fn text_of<'c>(inputs: &Inputs<'c>, slot: SlotId) -> Option<(&'c str, Atom)> {
    match inputs.slots.get(slot.index()) {
        Some(Some(Val::Str(text, atom))) => Some((text, *atom)),
        _ => None,
    }
}

fn constant(step: Step) -> Option<Decision> {
    match step {
        Step::Serve(variant) => Some(Decision::Serve(variant)),
        Step::Default => Some(Decision::Default),
        _ => None,
    }
}
