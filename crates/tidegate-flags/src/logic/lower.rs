//! From plain targeting to a program.
//!
//! Lowering resolves what does not depend on the context: operators to instructions,
//! variant names to positions, paths to slots, strings to atoms, `$flagd.flagKey` to the
//! key, constant splits to boundaries. What it cannot express refuses the flag: an unknown
//! operator, a reference left over, more nodes or levels than the limits allow.

mod nodes;
mod steps;

pub(crate) use steps::{bucket_by_and_entries, constant_entry};

use super::program::{Node, NodeId, Program, Run, SlotId, Step, StepId};
use super::value::Atom;
use crate::bucketing::Bucketing;
use crate::problem::pointer_to;
use rustc_hash::FxHashMap;
use serde_json::Value;

/// Levels of JSON in one flag's targeting. Clients built on `serde_json` refuse documents
/// of more than 128 levels, of which the document around the rule takes four.
pub(crate) const MAX_LEVELS: usize = 120;

/// Why a flag's targeting cannot become a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LowerError {
    #[error("unknown operator {operator:?}")]
    UnknownOperator { operator: String, pointer: String },
    #[error("no shared rule {name:?} in $evaluators")]
    UnknownReference { name: String, pointer: String },
    #[error("more than {MAX_LEVELS} levels of nesting")]
    TooDeep { pointer: String },
    #[error("more than {limit} nodes")]
    TooLarge { limit: usize, pointer: String },
}

impl LowerError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            LowerError::UnknownOperator { .. } => "unknown_operator",
            LowerError::UnknownReference { .. } => "unknown_reference",
            LowerError::TooDeep { .. } => "too_deep",
            LowerError::TooLarge { .. } => "too_large",
        }
    }

    pub(crate) fn pointer(&self) -> &str {
        match self {
            LowerError::UnknownOperator { pointer, .. }
            | LowerError::UnknownReference { pointer, .. }
            | LowerError::TooDeep { pointer }
            | LowerError::TooLarge { pointer, .. } => pointer,
        }
    }
}

type Lowered<T> = Result<T, LowerError>;

/// What a flag's targeting reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) time: bool,
    pub(crate) targeting_key: bool,
    /// The context as a whole, or by computed names.
    pub(crate) everything: bool,
    /// Attributes by path.
    pub(crate) attributes: Vec<String>,
}

/// A program under construction, with the indexes that only construction needs.
#[derive(Debug)]
pub(crate) struct Builder {
    pub(crate) program: Program,
    slot_ids: FxHashMap<Box<str>, SlotId>,
    set_runs: FxHashMap<Box<[Atom]>, Run>,
    nodes_left: usize,
}

impl Builder {
    pub(crate) fn new(max_nodes: usize) -> Builder {
        let mut builder = Builder {
            program: Program::default(),
            slot_ids: FxHashMap::default(),
            set_runs: FxHashMap::default(),
            nodes_left: max_nodes,
        };
        builder.slot("targetingKey");
        builder
    }

    pub(crate) fn atom(&mut self, text: &str) -> Atom {
        if let Some(atom) = self.program.atoms.get(text) {
            return *atom;
        }
        let atom = Atom(position(self.program.strings.len()));
        self.program.strings.push(text.into());
        self.program.atoms.insert(text.into(), atom);
        atom
    }

    fn slot(&mut self, path: &str) -> SlotId {
        if let Some(slot) = self.slot_ids.get(path) {
            return *slot;
        }
        let slot = SlotId(position(self.program.slots.len()));
        let tokens: Box<[Box<str>]> = path.split('.').map(Box::from).collect();
        let root = tokens.first().cloned().unwrap_or_default();
        self.program.roots.entry(root).or_default().push(slot);
        self.program.slots.push(tokens);
        self.slot_ids.insert(path.into(), slot);
        slot
    }

    fn set(&mut self, mut atoms: Vec<Atom>) -> Run {
        atoms.sort_unstable();
        atoms.dedup();
        let atoms = atoms.into_boxed_slice();
        if let Some(run) = self.set_runs.get(&atoms) {
            return *run;
        }
        let run = Run {
            from: position(self.program.sets.len()),
            len: position(atoms.len()),
        };
        self.program.sets.extend_from_slice(&atoms);
        self.set_runs.insert(atoms, run);
        run
    }

    fn step(&mut self, step: Step) -> StepId {
        let id = StepId(position(self.program.steps.len()));
        self.program.steps.push(step);
        id
    }

    fn node(&mut self, node: Node) -> NodeId {
        let id = NodeId(position(self.program.nodes.len()));
        self.program.nodes.push(node);
        id
    }

    fn operands(&mut self, operands: &[NodeId]) -> Run {
        let from = position(self.program.operands.len());
        self.program.operands.extend_from_slice(operands);
        Run {
            from,
            len: position(operands.len()),
        }
    }
}

/// Table positions stay far below 2^32: nodes are limited per set.
fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// The flag whose targeting is lowered.
pub(crate) struct Target<'f> {
    pub(crate) key: &'f str,
    pub(crate) dialect: Bucketing,
    pub(crate) variants: &'f [(Box<str>, Value)],
    pub(crate) max_nodes: usize,
}

/// Lowers `targeting` (references inlined) of one flag.
pub(crate) fn lower(
    builder: &mut Builder,
    target: &Target<'_>,
    targeting: &Value,
) -> Result<(Step, Reads), LowerError> {
    let allowance = target.max_nodes.min(builder.nodes_left);
    let mut lowering = Lowering {
        builder,
        target,
        reads: Reads::default(),
        left: allowance,
    };
    let step = lowering.step(targeting, &Place::root())?;
    let (used, reads) = (allowance - lowering.left, lowering.reads);
    builder.nodes_left -= used;
    Ok((step, reads))
}

/// Where in the targeting we are: a linked list on the stack, rendered only for errors.
struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    token: Token<'p>,
    level: usize,
    in_scope: bool,
}

enum Token<'p> {
    Root,
    Key(&'p str),
    Index(usize),
}

impl Place<'_> {
    fn root() -> Place<'static> {
        Place {
            parent: None,
            token: Token::Root,
            level: 0,
            in_scope: false,
        }
    }

    fn child<'c>(&'c self, token: Token<'c>) -> Place<'c> {
        Place {
            parent: Some(self),
            token,
            level: self.level + 1,
            in_scope: self.in_scope,
        }
    }

    fn argument<'c>(&'c self, index: usize) -> Place<'c> {
        self.child(Token::Index(index))
    }

    fn scoped<'c>(&'c self, index: usize) -> Place<'c> {
        Place {
            in_scope: true,
            ..self.argument(index)
        }
    }

    fn pointer(&self) -> String {
        let above = self
            .parent
            .map_or_else(|| "/targeting".to_owned(), Place::pointer);
        match self.token {
            Token::Root => above,
            Token::Key(key) => pointer_to(&above, key),
            Token::Index(index) => format!("{above}/{index}"),
        }
    }
}

struct Lowering<'b, 'f> {
    builder: &'b mut Builder,
    target: &'b Target<'f>,
    reads: Reads,
    left: usize,
}

/// The operator and its arguments, if `value` is logic: an object of exactly one key.
pub(crate) fn operation(value: &Value) -> Option<(&str, &[Value])> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    let (operator, arguments) = map.iter().next()?;
    let arguments = match arguments {
        Value::Array(list) => list.as_slice(),
        single => std::slice::from_ref(single),
    };
    Some((operator, arguments))
}

/// Whether `value` holds no logic, so that evaluation returns it as it is.
pub(crate) fn is_constant(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(is_constant),
        other => operation(other).is_none(),
    }
}

impl Lowering<'_, '_> {
    fn enter(&mut self, place: &Place<'_>, weight: usize) -> Lowered<()> {
        if place.level > MAX_LEVELS {
            return Err(LowerError::TooDeep {
                pointer: place.pointer(),
            });
        }
        match self.left.checked_sub(weight) {
            Some(left) => self.left = left,
            None => {
                let limit = self.target.max_nodes;
                return Err(LowerError::TooLarge {
                    limit,
                    pointer: place.pointer(),
                });
            }
        }
        Ok(())
    }
}
