//! From plain targeting to a program.
//!
//! Lowering resolves what does not depend on the context: operators to instructions,
//! variant names to positions, paths to slots, strings to atoms, `$flagd.flagKey` to the
//! key, constant splits to boundaries. What it cannot express refuses the flag: an unknown
//! operator, a reference left over, more nodes or levels than the limits allow.

use super::coerce;
use super::operators;
use super::program::{
    Arithmetic, HashInput, Iteration, Node, NodeId, Order, Program, Run, SlotId, SplitId,
    SplitTable, Step, StepId, TARGETING_KEY,
};
use super::splits::{implicit_prefix, weight_of};
use super::value::{Atom, Val};
use crate::bucketing::{Boundaries, Bucketing, murmur3::Murmur3};
use crate::problem::pointer_to;
use crate::semantic_version::{SemanticVersion, VersionTest};
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
) -> Result<(StepId, Reads), LowerError> {
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

    // Steps.

    fn step(&mut self, value: &Value, place: &Place<'_>) -> Lowered<StepId> {
        self.enter(place, 1)?;
        let step = match (value, operation(value)) {
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
                let first_place = inside.argument(0);
                let arguments = operation(first).map(|(_, arguments)| arguments);
                let split_place = first_place.child(Token::Key("fractional"));
                self.split_step(arguments.unwrap_or_default(), &split_place, Some(otherwise))?
            }
            _ => Step::Computed(self.node(value, place)?),
        };
        Ok(self.builder.step(step))
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

    // Nodes.

    fn node(&mut self, value: &Value, place: &Place<'_>) -> Lowered<NodeId> {
        self.enter(place, 1)?;
        let node = match value {
            Value::Null => Node::Null,
            Value::Bool(flag) => Node::Bool(*flag),
            Value::Number(number) => match Val::of_number(number) {
                Val::Int(value) => Node::Int(value),
                Val::Uint(value) => Node::Uint(value),
                other => Node::Float(coerce::to_number(&other)),
            },
            Value::String(text) => Node::Str(self.builder.atom(text)),
            Value::Array(items) if is_constant(value) => {
                self.enter(place, items.len())?;
                Node::Json(Box::new(value.clone()))
            }
            Value::Array(items) => Node::Array(self.all(items, place)?),
            Value::Object(_) => match operation(value) {
                Some((operator, arguments)) => {
                    self.operator(operator, arguments, &place.child(Token::Key(operator)))?
                }
                None => Node::Json(Box::new(value.clone())),
            },
        };
        Ok(self.builder.node(node))
    }

    fn all(&mut self, values: &[Value], place: &Place<'_>) -> Lowered<Run> {
        let operands: Vec<NodeId> = values
            .iter()
            .enumerate()
            .map(|(index, value)| self.node(value, &place.argument(index)))
            .collect::<Lowered<_>>()?;
        Ok(self.builder.operands(&operands))
    }

    fn operator(
        &mut self,
        operator: &str,
        arguments: &[Value],
        place: &Place<'_>,
    ) -> Lowered<Node> {
        let argument = |lowering: &mut Self, index: usize| match arguments.get(index) {
            Some(value) => lowering.node(value, &place.argument(index)),
            None => Ok(lowering.builder.node(Node::Null)),
        };
        let node = match operator {
            "var" => return self.var(arguments, place),
            "if" => return self.if_node(arguments, place),
            "in" => return self.membership(arguments, place),
            "==" | "===" => return self.equality(arguments, operator == "===", place),
            "!=" | "!==" => {
                let equal = self.equality(arguments, operator == "!==", place)?;
                Node::Not(self.builder.node(equal))
            }
            "<" => return self.comparison(Order::Less, arguments, place),
            "<=" => return self.comparison(Order::LessOrEqual, arguments, place),
            ">" => return self.comparison(Order::Greater, arguments, place),
            ">=" => return self.comparison(Order::GreaterOrEqual, arguments, place),
            "fractional" => return self.fractional_node(arguments, place),
            "sem_ver" => return self.sem_ver(arguments, place),
            "starts_with" | "ends_with" if arguments.len() != 2 => Node::Null,
            "starts_with" => Node::StartsWith(argument(self, 0)?, argument(self, 1)?),
            "ends_with" => Node::EndsWith(argument(self, 0)?, argument(self, 1)?),
            "missing" => {
                self.reads.everything |= !place.in_scope;
                Node::Missing {
                    names: self.all(arguments, place)?,
                    in_scope: place.in_scope,
                }
            }
            "missing_some" => {
                self.reads.everything |= !place.in_scope;
                let (need, names) = (argument(self, 0)?, argument(self, 1)?);
                Node::MissingSome {
                    need,
                    names,
                    in_scope: place.in_scope,
                }
            }
            "!" => Node::Not(argument(self, 0)?),
            "!!" => Node::Truthy(argument(self, 0)?),
            "and" => Node::And(self.all(arguments, place)?),
            "or" => Node::Or(self.all(arguments, place)?),
            "+" => Node::Arithmetic(Arithmetic::Add, self.all(arguments, place)?),
            "-" => Node::Arithmetic(Arithmetic::Subtract, self.all(arguments, place)?),
            "*" => Node::Arithmetic(Arithmetic::Multiply, self.all(arguments, place)?),
            "/" => Node::Arithmetic(Arithmetic::Divide, self.all(arguments, place)?),
            "%" => Node::Arithmetic(Arithmetic::Remainder, self.all(arguments, place)?),
            "min" => Node::Arithmetic(Arithmetic::Min, self.all(arguments, place)?),
            "max" => Node::Arithmetic(Arithmetic::Max, self.all(arguments, place)?),
            "merge" => Node::Merge(self.all(arguments, place)?),
            "cat" => Node::Cat(self.all(arguments, place)?),
            "substr" => {
                let length = match arguments.get(2) {
                    Some(_) => Some(argument(self, 2)?),
                    None => None,
                };
                Node::Substr {
                    text: argument(self, 0)?,
                    start: argument(self, 1)?,
                    length,
                }
            }
            "map" => return self.iteration(Iteration::Map, arguments, place),
            "filter" => return self.iteration(Iteration::Filter, arguments, place),
            "all" => return self.iteration(Iteration::All, arguments, place),
            "some" => return self.iteration(Iteration::Some, arguments, place),
            "none" => return self.iteration(Iteration::None, arguments, place),
            "reduce" => return self.reduction(arguments, place),
            "$ref" => {
                let name = arguments
                    .first()
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                return Err(LowerError::UnknownReference {
                    name,
                    pointer: place.pointer(),
                });
            }
            _ => {
                let operator = operator.to_owned();
                return Err(LowerError::UnknownOperator {
                    operator,
                    pointer: place.pointer(),
                });
            }
        };
        Ok(node)
    }

    fn var(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let default = match arguments.get(1) {
            Some(value) => Some(self.node(value, &place.argument(1))?),
            None => None,
        };
        let name = arguments.first().unwrap_or(&Value::Null);
        if !is_constant(name) {
            self.reads.everything |= !place.in_scope;
            let name = self.node(name, &place.argument(0))?;
            return Ok(Node::Var {
                name,
                default,
                in_scope: place.in_scope,
            });
        }
        let name = Val::of(name);
        let path = coerce::to_joined_text(&name);
        if place.in_scope {
            let path = if path.is_empty() {
                Box::default()
            } else {
                path.split('.').map(Box::from).collect()
            };
            return Ok(Node::Element { path, default });
        }
        Ok(self.attribute(&path, default))
    }

    fn attribute(&mut self, path: &str, default: Option<NodeId>) -> Node {
        match path {
            "" => {
                self.reads.everything = true;
                Node::Context
            }
            "$flagd" => {
                self.reads.time = true;
                Node::FlagdObject
            }
            "$flagd.flagKey" => Node::Str(self.builder.atom(self.target.key)),
            "$flagd.timestamp" => {
                self.reads.time = true;
                Node::Timestamp
            }
            _ if path.starts_with("$flagd.") => {
                let constant = default.and_then(|id| self.builder.program.nodes.get(id.index()));
                constant.cloned().unwrap_or(Node::Null)
            }
            _ => {
                let slot = self.builder.slot(path);
                self.reads.targeting_key |= slot == TARGETING_KEY;
                if !self.reads.attributes.iter().any(|known| known == path) {
                    self.reads.attributes.push(path.to_owned());
                }
                default.map_or(Node::Slot(slot), |default| Node::SlotOr(slot, default))
            }
        }
    }

    fn if_node(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let (pairs, rest) = arguments.as_chunks::<2>();
        let paired = self.all(pairs.as_flattened(), place)?;
        let otherwise = self.node(
            rest.first().unwrap_or(&Value::Null),
            &place.argument(2 * pairs.len()),
        )?;
        Ok(Node::If {
            arms: paired,
            otherwise,
        })
    }

    fn pair(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<(NodeId, NodeId)> {
        let mut both = [Node::Null, Node::Null].map(|null| self.builder.node(null));
        for (index, (id, value)) in both.iter_mut().zip(arguments).enumerate() {
            *id = self.node(value, &place.argument(index))?;
        }
        Ok((both[0], both[1]))
    }

    fn slot_of(&self, node: NodeId) -> Option<SlotId> {
        match self.builder.program.nodes.get(node.index()) {
            Some(Node::Slot(slot)) => Some(*slot),
            _ => None,
        }
    }

    fn text_of(&self, node: NodeId) -> Option<Atom> {
        match self.builder.program.nodes.get(node.index()) {
            Some(Node::Str(atom)) => Some(*atom),
            _ => None,
        }
    }

    fn equality(
        &mut self,
        arguments: &[Value],
        is_strict: bool,
        place: &Place<'_>,
    ) -> Lowered<Node> {
        let (a, b) = self.pair(arguments, place)?;
        let slot_and_text = |a, b| self.slot_of(a).zip(self.text_of(b));
        Ok(match slot_and_text(a, b).or_else(|| slot_and_text(b, a)) {
            Some((slot, text)) => Node::SlotIs {
                slot,
                text,
                is_strict,
            },
            None => Node::Equal { a, b, is_strict },
        })
    }

    fn comparison(
        &mut self,
        order: Order,
        arguments: &[Value],
        place: &Place<'_>,
    ) -> Lowered<Node> {
        let (a, b) = self.pair(arguments, place)?;
        let is_between = matches!(order, Order::Less | Order::LessOrEqual);
        let c = match arguments.get(2) {
            Some(value) if is_between => Some(self.node(value, &place.argument(2))?),
            _ => None,
        };
        Ok(Node::Compare { order, a, b, c })
    }

    fn membership(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        if let [needle, Value::Array(stack)] = arguments
            && !stack.is_empty()
            && stack.iter().all(Value::is_string)
        {
            self.enter(place, stack.len())?;
            let node = self.node(needle, &place.argument(0))?;
            if let Some(slot) = self.slot_of(node) {
                let texts = stack.iter().filter_map(Value::as_str);
                let atoms = texts.map(|text| self.builder.atom(text)).collect();
                let set = self.builder.set(atoms);
                return Ok(Node::SlotIn { slot, set });
            }
        }
        let (needle, stack) = self.pair(arguments, place)?;
        Ok(Node::In { needle, stack })
    }

    fn iteration(
        &mut self,
        iteration: Iteration,
        arguments: &[Value],
        place: &Place<'_>,
    ) -> Lowered<Node> {
        let list = self.node(
            arguments.first().unwrap_or(&Value::Null),
            &place.argument(0),
        )?;
        let body = self.node(arguments.get(1).unwrap_or(&Value::Null), &place.scoped(1))?;
        Ok(Node::Iterate {
            iteration,
            list,
            body,
        })
    }

    fn reduction(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let list = self.node(
            arguments.first().unwrap_or(&Value::Null),
            &place.argument(0),
        )?;
        let body = self.node(arguments.get(1).unwrap_or(&Value::Null), &place.scoped(1))?;
        let initial = match arguments.get(2) {
            Some(value) => Some(self.node(value, &place.argument(2))?),
            None => None,
        };
        Ok(Node::Reduce {
            list,
            body,
            initial,
        })
    }

    fn sem_ver(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let [value, test, target] = arguments else {
            return Ok(Node::Null);
        };
        let value = self.node(value, &place.argument(0))?;
        if is_constant(test) && is_constant(target) {
            let target = Val::of(target);
            let text = operators::version_text(&target);
            let text = text
                .as_deref()
                .filter(|text| SemanticVersion::parse(text).is_some());
            let test = test.as_str().and_then(VersionTest::from_operator);
            return Ok(match (test, text) {
                (Some(test), Some(text)) => {
                    let target = self.builder.atom(text);
                    Node::SemVerConstant {
                        value,
                        test,
                        target,
                    }
                }
                _ => Node::Null,
            });
        }
        let test = self.node(test, &place.argument(1))?;
        let target = self.node(target, &place.argument(2))?;
        Ok(Node::SemVer {
            value,
            test,
            target,
        })
    }

    fn fractional(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<NodeId> {
        let node = self.fractional_node(arguments, place)?;
        Ok(self.builder.node(node))
    }

    fn fractional_node(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let (by, entries) = bucket_by_and_entries(arguments);
        self.reads.targeting_key |= !place.in_scope;
        let bucket_by = match by {
            Some(by) => Some(self.node(by, &place.argument(0))?),
            None => None,
        };
        let entries = self.all(entries, place)?;
        Ok(Node::Fractional {
            bucket_by,
            entries,
            in_scope: place.in_scope,
        })
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
