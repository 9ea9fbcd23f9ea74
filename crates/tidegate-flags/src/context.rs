//! An evaluation context bound to a rule set: attributes in slots, strings interned.
//!
//! Binding walks the context once, so that evaluating many flags looks nothing up by
//! name. A bound context remembers which rule set it was bound to; evaluating it on
//! another binds it again, which is slower but never wrong.

use crate::logic::program::{Program, SlotId};
use crate::logic::value::{Atom, Val};
use serde_json::{Map, Value};

/// A context ready for evaluation. The map it was bound from stays borrowed.
#[derive(Clone, Debug)]
pub struct Context<'c> {
    pub(crate) root: &'c Map<String, Value>,
    pub(crate) now: i64,
    pub(crate) layout: u64,
    pub(crate) slots: Vec<Option<Val<'c>>>,
}

impl<'c> Context<'c> {
    pub(crate) fn bind(
        program: &Program,
        layout: u64,
        root: &'c Map<String, Value>,
        now: i64,
    ) -> Context<'c> {
        let mut slots = vec![None; program.slots.len()];
        if root.len() <= program.roots.len() {
            for (name, value) in root {
                if let Some(below) = program.roots.get(name.as_str()) {
                    fill(program, below, value, &mut slots);
                }
            }
        } else {
            for (name, below) in &program.roots {
                if let Some(value) = root.get(&**name) {
                    fill(program, below, value, &mut slots);
                }
            }
        }
        Context {
            root,
            now,
            layout,
            slots,
        }
    }

    /// The targeting key: a text that is not empty.
    pub fn targeting_key(&self) -> Option<&'c str> {
        self.root
            .get("targetingKey")
            .and_then(Value::as_str)
            .filter(|key| !key.is_empty())
    }

    /// The attributes the context was bound from.
    pub fn attributes(&self) -> &'c Map<String, Value> {
        self.root
    }

    /// `$flagd.timestamp`: Unix seconds.
    pub fn now(&self) -> i64 {
        self.now
    }
}

fn fill<'c>(program: &Program, below: &[SlotId], value: &'c Value, slots: &mut [Option<Val<'c>>]) {
    for slot in below {
        let Some(path) = program.slots.get(slot.index()) else {
            continue;
        };
        let start = interned(program, value);
        let end = path
            .iter()
            .skip(1)
            .try_fold(start, |value, token| value.member(token));
        if let Some(place) = slots.get_mut(slot.index()) {
            *place = end.map(|value| match value {
                Val::Str(text, Atom::UNKNOWN) => Val::Str(text, atom_of(program, text)),
                other => other,
            });
        }
    }
}

fn interned<'c>(program: &Program, value: &'c Value) -> Val<'c> {
    match value {
        Value::String(text) => Val::Str(text, atom_of(program, text)),
        other => Val::of(other),
    }
}

fn atom_of(program: &Program, text: &str) -> Atom {
    program.atoms.get(text).copied().unwrap_or(Atom::FOREIGN)
}
