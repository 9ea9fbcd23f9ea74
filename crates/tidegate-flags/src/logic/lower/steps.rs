//! Lowering what decides: names, `if`, and splits over constants.

use super::{Lowered, Lowering, Place, Token, is_constant, operation, position};
use crate::bucketing::murmur3::Murmur3;
use crate::bucketing::{Boundaries, Bucketing};
use crate::logic::coerce;
use crate::logic::program::{
    HashInput, Node, NodeId, Run, SlotId, SplitId, SplitTable, Step, StepId,
};
use crate::logic::splits::{implicit_prefix, weight_of};
use crate::logic::value::Val;
use serde_json::Value;

impl Lowering<'_, '_> {
    pub(super) fn step(&mut self, value: &Value, place: &Place<'_>) -> Lowered<Step> {
        self.enter(place, 1)?;
        Ok(match (value, operation(value)) {
            (Value::Null, _) => Step::Default,
            (Value::String(_) | Value::Bool(_) | Value::Number(_), _) => self.named_step(value),
            (_, Some(("if", arguments))) => {
                self.if_step(arguments, &place.child(Token::Key("if")))?
            }
            (_, Some(("fractional", arguments))) if self.is_constant_split(arguments) => {
                self.split_step(arguments, &place.child(Token::Key("fractional")), None)?
            }
            (_, Some(("or", [first, second]))) if self.is_split_of_names(first) => {
                let inside = place.child(Token::Key("or"));
                let otherwise = self.step(second, &inside.argument(1))?;
                let otherwise = self.builder.step(otherwise);
                let first_place = inside.argument(0);
                let arguments = operation(first).map(|(_, arguments)| arguments);
                let split_place = first_place.child(Token::Key("fractional"));
                self.split_step(arguments.unwrap_or_default(), &split_place, Some(otherwise))?
            }
            _ => Step::Computed(self.node(value, place)?),
        })
    }

    fn named_step(&mut self, value: &Value) -> Step {
        let value = Val::of(value);
        let name = coerce::to_text(&value);
        match self
            .target
            .variants
            .iter()
            .position(|(variant, _)| **variant == *name)
        {
            Some(index) => Step::Serve(position(index)),
            None => Step::Unknown(self.builder.atom(&name)),
        }
    }

    fn if_step(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Step> {
        let mut arms = Vec::new();
        let (pairs, rest) = arguments.as_chunks::<2>();
        for (index, [condition, outcome]) in pairs.iter().enumerate() {
            let condition = self.node(condition, &place.argument(2 * index))?;
            arms.push((
                condition,
                self.step(outcome, &place.argument(2 * index + 1))?,
            ));
        }
        let otherwise = self.step(
            rest.first().unwrap_or(&Value::Null),
            &place.argument(2 * pairs.len()),
        )?;
        let otherwise = self.builder.step(otherwise);
        let from = position(self.builder.program.arms.len());
        self.builder.program.arms.extend_from_slice(&arms);
        Ok(Step::If {
            arms: Run {
                from,
                len: position(arms.len()),
            },
            otherwise,
        })
    }

    /// Entries `[scalar]` or `[scalar, weight]` with usable weights, all constant.
    fn is_constant_split(&self, arguments: &[Value]) -> bool {
        let (_, entries) = bucket_by_and_entries(arguments);
        entries.iter().all(|entry| constant_entry(entry).is_some()) && weights(entries).is_some()
    }

    fn is_split_of_names(&self, value: &Value) -> bool {
        let Some(("fractional", arguments)) = operation(value) else {
            return false;
        };
        let (_, entries) = bucket_by_and_entries(arguments);
        let is_name = |entry: &Value| {
            constant_entry(entry)
                .and_then(|(name, _)| name.as_str())
                .is_some_and(|s| !s.is_empty())
        };
        self.is_constant_split(arguments) && entries.iter().all(is_name)
    }

    fn split_step(
        &mut self,
        arguments: &[Value],
        place: &Place<'_>,
        otherwise: Option<StepId>,
    ) -> Lowered<Step> {
        let (bucket_by, entries) = bucket_by_and_entries(arguments);
        let Some(boundaries) = weights(entries) else {
            return Ok(Step::Default);
        };
        let input = self.hash_input(bucket_by, &place.argument(0))?;
        let general = match input {
            HashInput::Computed(_) => Some(self.fractional(arguments, place)?),
            HashInput::Implicit { .. } | HashInput::Joined { .. } => None,
        };
        let mut outcomes = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let name = constant_entry(entry).map_or(&Value::Null, |(name, _)| name);
            outcomes.push(self.step(name, &place.argument(index))?);
        }
        let split = SplitId(position(self.builder.program.splits.len()));
        let outcomes = outcomes.into_boxed_slice();
        self.builder.program.splits.push(SplitTable {
            input,
            boundaries,
            outcomes,
            general,
        });
        Ok(Step::Split { split, otherwise })
    }

    fn hash_input(&mut self, by: Option<&Value>, place: &Place<'_>) -> Lowered<HashInput> {
        let Some(by) = by else {
            self.reads.targeting_key = true;
            let prefix = implicit_prefix(self.target.key, self.target.dialect);
            return Ok(HashInput::Implicit { prefix });
        };
        let node = self.node(by, place)?;
        if self.target.dialect != Bucketing::V3
            && let Some((text, slot)) = self.joined(node)
        {
            let prefix = Murmur3::default().with(text.as_bytes());
            return Ok(HashInput::Joined {
                text: text.into(),
                prefix,
                slot,
            });
        }
        // Null stands for the implicit input in v1 and v2.
        self.reads.targeting_key = true;
        Ok(HashInput::Computed(node))
    }

    /// The parts of a `cat` of constants and then one attribute.
    fn joined(&self, node: NodeId) -> Option<(String, SlotId)> {
        let program = &self.builder.program;
        let Some(Node::Cat(run)) = program.nodes.get(node.index()) else {
            return None;
        };
        let (last, first) = program.operands(*run).split_last()?;
        let Some(Node::Slot(slot)) = program.nodes.get(last.index()) else {
            return None;
        };
        let mut text = String::new();
        for operand in first {
            let Some(Node::Str(atom)) = program.nodes.get(operand.index()) else {
                return None;
            };
            text.push_str(program.text(*atom));
        }
        Some((text, *slot))
    }
}

/// Splits the arguments of `fractional`: a first one that is no array says what to hash.
pub(crate) fn bucket_by_and_entries(arguments: &[Value]) -> (Option<&Value>, &[Value]) {
    match arguments.split_first() {
        Some((first, rest)) if !first.is_array() => (Some(first), rest),
        _ => (None, arguments),
    }
}

/// Name and weight of an entry that holds no logic.
pub(crate) fn constant_entry(entry: &Value) -> Option<(&Value, u32)> {
    let items = entry.as_array().filter(|_| is_constant(entry))?;
    let name = items
        .first()
        .filter(|name| !name.is_array() && !name.is_object())?;
    match items.as_slice() {
        [_] => Some((name, 1)),
        [_, weight] => Some((name, weight_of(&Val::of(weight))?)),
        _ => None,
    }
}

fn weights(entries: &[Value]) -> Option<Boundaries> {
    let weights: Option<Vec<u32>> = entries
        .iter()
        .map(|entry| constant_entry(entry).map(|(_, weight)| weight))
        .collect();
    Boundaries::cumulate(weights?)
}
