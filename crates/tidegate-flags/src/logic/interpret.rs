//! Walking a program for one flag and one context.
//!
//! Evaluation has no error of its own: operators give null on bad input, and a budget
//! bounds what iterations may cost. When it is spent, everything further is null and the
//! flag answers ERROR / GENERAL. Outside iterations nothing is charged, because each node
//! is visited at most once there and a program has a bounded number of nodes. Steps and
//! nodes refer only to earlier ones, so walking ends.

use super::coerce;
use super::operators;
use super::program::{FlagFacts, Node, NodeId, Program, Run, SlotId, Step};
use super::value::{Atom, Val};
use crate::bucketing::Bucketing;
use crate::semantic_version::{SemanticVersion, VersionTest};
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::sync::Arc;

/// What is told about an evaluation while it runs; [`Silent`] costs nothing.
pub(crate) trait Trace {
    /// Whether anybody listens; if not, nothing is prepared for telling.
    const IS_ON: bool;
    /// The `if` step of these arms took this one, or none.
    fn branch(&self, arms: Run, arm: Option<usize>);
    /// A `fractional` hashed these bytes.
    fn split(&self, placed: &Placed<'_>);
}

/// A hash and where it fell.
pub(crate) struct Placed<'a> {
    pub(crate) dialect: Bucketing,
    pub(crate) bytes: &'a [u8],
    pub(crate) hash: u32,
    pub(crate) point: f64,
    pub(crate) total: u32,
    pub(crate) range: (u32, u32),
    pub(crate) entry: usize,
}

impl Placed<'_> {
    /// The bytes as text, where the dialect hashes text.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes)
            .ok()
            .filter(|_| self.dialect != Bucketing::V3)
    }
}

/// Tells nothing.
pub(crate) struct Silent;

impl Trace for Silent {
    const IS_ON: bool = false;
    #[inline]
    fn branch(&self, _: Run, _: Option<usize>) {}
    #[inline]
    fn split(&self, _: &Placed<'_>) {}
}

/// What evaluation came to. Copied freely: the common answers own nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decision {
    /// This variant, by position.
    Serve(u32),
    /// The default variant.
    Default,
    /// A name that is no variant.
    UnknownName(Atom),
    /// A computed value that names no variant.
    UnknownValue(NodeId),
    /// The budget is spent.
    Exhausted,
}

/// What `var` reads from.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a, 'e> {
    /// The context.
    Context,
    /// The element of an iteration.
    Element(&'a Val<'e>),
    /// The pair of a `reduce`.
    Pair {
        current: &'a Val<'e>,
        accumulator: &'a Val<'e>,
    },
}

/// Where a split over constants leads.
pub(crate) enum Entry {
    /// What the entry decides that the unit falls into.
    Outcome(Step),
    /// No unit, or no entry.
    Nothing,
    /// What to hash turned out to be an array and so an entry: compute this node.
    Listed(NodeId),
}

/// The inputs of one evaluation.
#[derive(Clone, Debug)]
pub(crate) struct Inputs<'c> {
    pub(crate) slots: Vec<Option<Val<'c>>>,
    pub(crate) root: &'c Map<String, Value>,
    pub(crate) now: i64,
}

pub(crate) struct Interpreter<'e, T> {
    pub(crate) program: &'e Program,
    pub(crate) flag: &'e FlagFacts,
    pub(crate) inputs: &'e Inputs<'e>,
    pub(crate) budget: Cell<u32>,
    pub(crate) is_exhausted: Cell<bool>,
    pub(crate) trace: T,
}

impl<'e, T: Trace> Interpreter<'e, T> {
    /// Decides, starting at `step`.
    #[inline(always)]
    pub(crate) fn decide(&self, mut step: Step) -> Decision {
        let decision = loop {
            match step {
                Step::Serve(variant) => break Decision::Serve(variant),
                Step::Default => break Decision::Default,
                Step::If { arms, otherwise } => {
                    let taken = self.first_arm(arms);
                    self.trace.branch(arms, taken.map(|(arm, _)| arm));
                    step = taken.map_or_else(|| self.program.step(otherwise), |(_, next)| next);
                }
                Step::Split { split, otherwise } => match self.entry_of(split) {
                    // Nearly always: answered here, an unpredictable jump is spared.
                    Entry::Outcome(Step::Serve(variant)) => break Decision::Serve(variant),
                    Entry::Outcome(next) => step = next,
                    Entry::Nothing => match otherwise {
                        Some(next) => step = self.program.step(next),
                        None => break Decision::Default,
                    },
                    Entry::Listed(general) => {
                        let value = self.eval(general, Scope::Context);
                        match otherwise {
                            Some(next) if !value.is_truthy() => step = self.program.step(next),
                            _ => break self.name_variant(general, &value),
                        }
                    }
                },
                Step::Unknown(name) => break Decision::UnknownName(name),
                Step::Computed(node) => {
                    break self.name_variant(node, &self.eval(node, Scope::Context));
                }
            }
        };
        if self.is_exhausted.get() {
            Decision::Exhausted
        } else {
            decision
        }
    }

    #[inline]
    fn first_arm(&self, arms: Run) -> Option<(usize, Step)> {
        let arms = self.program.arms.get(arms.range()).unwrap_or_default();
        let taken = |(arm, (condition, next)): (usize, &(NodeId, Step))| {
            self.condition(*condition).then_some((arm, *next))
        };
        arms.iter().enumerate().find_map(taken)
    }

    /// The variant that the value of `node` names.
    fn name_variant(&self, node: NodeId, value: &Val<'e>) -> Decision {
        let name = match value {
            Val::Null => return Decision::Default,
            Val::Json(_) | Val::List(_) | Val::Object(_) => return Decision::UnknownValue(node),
            scalar => coerce::to_text(scalar),
        };
        let position = self
            .flag
            .variants
            .iter()
            .position(|(variant, _)| **variant == *name);
        let position = position.and_then(|position| u32::try_from(position).ok());
        position.map_or(Decision::UnknownValue(node), Decision::Serve)
    }

    /// What a decision named that is no variant, as text.
    pub(crate) fn unknown_name(&self, decision: Decision) -> String {
        match decision {
            Decision::UnknownName(name) => self.program.text(name).to_owned(),
            Decision::UnknownValue(node) => match self.eval(node, Scope::Context) {
                value @ (Val::Json(_) | Val::List(_) | Val::Object(_)) => {
                    value.to_json().to_string()
                }
                scalar => coerce::to_text(&scalar).into_owned(),
            },
            Decision::Serve(_) | Decision::Default | Decision::Exhausted => String::new(),
        }
    }

    /// Takes `units` from the budget; false when it is spent.
    pub(crate) fn charge(&self, units: usize) -> bool {
        let left = u32::try_from(units)
            .ok()
            .and_then(|units| self.budget.get().checked_sub(units));
        match left {
            Some(left) if !self.is_exhausted.get() => {
                self.budget.set(left);
                true
            }
            _ => {
                self.is_exhausted.set(true);
                false
            }
        }
    }

    /// What comparing or converting `value` costs inside an iteration.
    fn charge_for(&self, scope: Scope<'_, 'e>, value: &Val<'e>) {
        if !matches!(scope, Scope::Context) {
            self.charge(operators::size_of(value));
        }
    }

    #[inline]
    fn slot(&self, slot: SlotId) -> Option<&'e Val<'e>> {
        self.inputs.slots.get(slot.index()).and_then(Option::as_ref)
    }

    /// The value of `slot`, null if the context lacks it.
    #[inline]
    pub(crate) fn slot_value(&self, slot: SlotId) -> &'e Val<'e> {
        self.slot(slot).unwrap_or(&Val::Null)
    }

    /// Whether a condition of an `if` step holds; the commonest are answered in place.
    #[inline]
    fn condition(&self, node: NodeId) -> bool {
        match self.program.nodes.get(node.index()) {
            Some(Node::SlotIn { slot, set }) => self.slot_in(*slot, *set),
            Some(Node::Bool(flag)) => *flag,
            _ => self.truth(node, Scope::Context),
        }
    }

    /// Whether the node's value is truthy; conditions make no values.
    pub(crate) fn truth(&self, node: NodeId, scope: Scope<'_, 'e>) -> bool {
        match self.program.nodes.get(node.index()) {
            Some(Node::SlotIn { slot, set }) => self.slot_in(*slot, *set),
            Some(Node::SlotIs {
                slot,
                text,
                is_strict,
            }) => self.slot_is(*slot, *text, *is_strict),
            Some(Node::Bool(flag)) => *flag,
            Some(Node::Slot(slot)) => self.slot_value(*slot).is_truthy(),
            Some(Node::And(run)) => {
                let operands = self.program.operands(*run);
                !operands.is_empty() && operands.iter().all(|operand| self.truth(*operand, scope))
            }
            Some(Node::Or(run)) => self
                .program
                .operands(*run)
                .iter()
                .any(|operand| self.truth(*operand, scope)),
            Some(Node::Not(operand)) => !self.truth(*operand, scope),
            Some(Node::Truthy(operand)) => self.truth(*operand, scope),
            _ => self.eval(node, scope).is_truthy(),
        }
    }

    #[inline]
    fn slot_in(&self, slot: SlotId, set: Run) -> bool {
        let Val::Str(_, atom) = self.slot_value(slot) else {
            return false;
        };
        let set = self.program.set(set);
        if set.len() <= 8 {
            set.contains(atom)
        } else {
            set.binary_search(atom).is_ok()
        }
    }

    fn slot_is(&self, slot: SlotId, text: Atom, is_strict: bool) -> bool {
        match self.slot_value(slot) {
            Val::Str(_, atom) => *atom == text,
            _ if is_strict => false,
            other => coerce::loosely_equal(other, &Val::Str(self.program.text(text), text)),
        }
    }

    /// The node's value.
    pub(crate) fn eval(&self, id: NodeId, scope: Scope<'_, 'e>) -> Val<'e> {
        if !matches!(scope, Scope::Context) && !self.charge(1) {
            return Val::Null;
        }
        let Some(node) = self.program.nodes.get(id.index()) else {
            return Val::Null;
        };
        match node {
            Node::Null => Val::Null,
            Node::Bool(flag) => Val::Bool(*flag),
            Node::Int(value) => Val::Int(*value),
            Node::Uint(value) => Val::Uint(*value),
            Node::Float(value) => Val::Float(*value),
            Node::Str(atom) => Val::Str(self.program.text(*atom), *atom),
            Node::Json(value) => Val::of(value),
            Node::Array(run) => Val::List(self.eval_all(*run, scope).into()),
            Node::Slot(slot) => self.slot_value(*slot).clone(),
            Node::SlotOr(slot, default) => match self.slot(*slot) {
                Some(value) => value.clone(),
                None => self.eval(*default, scope),
            },
            Node::Timestamp => Val::Int(self.inputs.now),
            Node::Context => Val::Object(Arc::new(self.whole_context())),
            Node::FlagdObject => Val::owned(&self.flagd_object()),
            Node::Element { path, default } => self.element(path, *default, scope),
            Node::Var {
                name,
                default,
                in_scope,
            } => self.computed_var(*name, *default, *in_scope, scope),
            Node::Missing { names, in_scope } => self.missing(*names, *in_scope, scope),
            Node::MissingSome {
                need,
                names,
                in_scope,
            } => self.missing_some(*need, *names, *in_scope, scope),
            Node::If { arms, otherwise } => self.eval_if(*arms, *otherwise, scope),
            Node::And(run) => self.eval_and_or(*run, scope, false),
            Node::Or(run) => self.eval_and_or(*run, scope, true),
            Node::Not(operand) => Val::Bool(!self.truth(*operand, scope)),
            Node::Truthy(operand) => Val::Bool(self.truth(*operand, scope)),
            Node::SlotIs { .. } | Node::SlotIn { .. } => Val::Bool(self.truth(id, scope)),
            Node::Equal { a, b, is_strict } => self.equal(*a, *b, *is_strict, scope),
            Node::Compare { order, a, b, c } => {
                let c = c.map(|c| self.weighed(c, scope));
                let (a, b) = (self.weighed(*a, scope), self.weighed(*b, scope));
                let holds = operators::in_order(*order, &a, &b)
                    && c.is_none_or(|c| operators::in_order(*order, &b, &c));
                Val::Bool(holds)
            }
            Node::In { needle, stack } => {
                let (needle, stack) = (self.weighed(*needle, scope), self.weighed(*stack, scope));
                Val::Bool(operators::contains(&stack, &needle))
            }
            Node::Arithmetic(arithmetic, run) => {
                let operands = self.eval_all(*run, scope);
                operands
                    .iter()
                    .for_each(|operand| self.charge_for(scope, operand));
                operators::arithmetic(*arithmetic, &operands)
            }
            Node::Cat(run) => self.cat(*run, scope),
            Node::Substr {
                text,
                start,
                length,
            } => {
                let text = self.eval(*text, scope);
                let start = self.eval(*start, scope);
                let length = length.map(|length| self.eval(length, scope));
                let cut = operators::substr(&text, &start, length.as_ref());
                if self.charge(cut.len()) {
                    Val::Text(cut.into())
                } else {
                    Val::Null
                }
            }
            Node::Merge(run) => self.merge(*run, scope),
            Node::Iterate {
                iteration,
                list,
                body,
            } => self.iterate(*iteration, *list, *body, scope),
            Node::Reduce {
                list,
                body,
                initial,
            } => self.reduce(*list, *body, *initial, scope),
            Node::StartsWith(text, affix) => {
                let (text, affix) = (self.weighed(*text, scope), self.weighed(*affix, scope));
                operators::with_affix(&text, &affix, |text, affix| text.starts_with(affix))
            }
            Node::EndsWith(text, affix) => {
                let (text, affix) = (self.weighed(*text, scope), self.weighed(*affix, scope));
                operators::with_affix(&text, &affix, |text, affix| text.ends_with(affix))
            }
            Node::SemVer {
                value,
                test,
                target,
            } => {
                let test = self.eval(*test, scope);
                let test = test.as_str().and_then(VersionTest::from_operator);
                let target = self.weighed(*target, scope);
                self.sem_ver(&self.weighed(*value, scope), test, &target)
            }
            Node::SemVerConstant {
                value,
                test,
                target,
            } => {
                let target = Val::Str(self.program.text(*target), *target);
                self.sem_ver(&self.weighed(*value, scope), Some(*test), &target)
            }
            Node::Fractional {
                bucket_by,
                entries,
                in_scope,
            } => self.fractional(*bucket_by, *entries, *in_scope, scope),
        }
    }

    /// As [`Interpreter::eval`], charging for the size of the value inside an iteration.
    fn weighed(&self, node: NodeId, scope: Scope<'_, 'e>) -> Val<'e> {
        let value = self.eval(node, scope);
        self.charge_for(scope, &value);
        value
    }

    pub(crate) fn eval_all(&self, run: Run, scope: Scope<'_, 'e>) -> Vec<Val<'e>> {
        self.program
            .operands(run)
            .iter()
            .map(|operand| self.eval(*operand, scope))
            .collect()
    }

    fn eval_if(&self, arms: Run, otherwise: NodeId, scope: Scope<'_, 'e>) -> Val<'e> {
        let taken = self
            .program
            .operands(arms)
            .chunks_exact(2)
            .find(|arm| self.truth(arm[0], scope))
            .map_or(otherwise, |arm| arm[1]);
        self.eval(taken, scope)
    }

    /// The first operand whose truth is `stop`, else the last.
    fn eval_and_or(&self, run: Run, scope: Scope<'_, 'e>, stop: bool) -> Val<'e> {
        let mut last = Val::Null;
        for operand in self.program.operands(run) {
            last = self.eval(*operand, scope);
            if last.is_truthy() == stop {
                break;
            }
        }
        last
    }

    fn equal(&self, a: NodeId, b: NodeId, is_strict: bool, scope: Scope<'_, 'e>) -> Val<'e> {
        let (a, b) = (self.weighed(a, scope), self.weighed(b, scope));
        Val::Bool(if is_strict {
            coerce::strictly_equal(&a, &b)
        } else {
            coerce::loosely_equal(&a, &b)
        })
    }

    fn cat(&self, run: Run, scope: Scope<'_, 'e>) -> Val<'e> {
        let mut text = String::new();
        for operand in self.program.operands(run) {
            let value = self.eval(*operand, scope);
            let piece = coerce::to_joined_text(&value);
            if !self.charge(piece.len()) {
                return Val::Null;
            }
            text.push_str(&piece);
        }
        Val::Text(text.into())
    }

    /// `sem_ver`: null unless both sides are versions and the test is known.
    fn sem_ver(&self, value: &Val<'e>, test: Option<VersionTest>, target: &Val<'e>) -> Val<'e> {
        let (value, target) = (
            operators::version_text(value),
            operators::version_text(target),
        );
        let (Some(value), Some(test), Some(target)) = (&value, test, &target) else {
            return Val::Null;
        };
        match (
            SemanticVersion::parse(value),
            SemanticVersion::parse(target),
        ) {
            (Some(value), Some(target)) => Val::Bool(test.holds(value, target)),
            _ => Val::Null,
        }
    }

    /// The context as operators see it whole.
    pub(crate) fn whole_context(&self) -> Map<String, Value> {
        self.charge(self.inputs.root.len());
        let mut whole = self.inputs.root.clone();
        whole.insert("$flagd".to_owned(), self.flagd_object());
        whole
    }

    fn flagd_object(&self) -> Value {
        json!({"flagKey": self.flag.key, "timestamp": self.inputs.now})
    }
}
