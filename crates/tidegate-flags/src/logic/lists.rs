//! Iterations, `var` inside them, and `missing`: the part of the interpreter that works on
//! lists and computed paths.

use super::coerce;
use super::interpret::{Interpreter, Scope, Trace};
use super::program::{Iteration, NodeId, Run};
use super::value::Val;
use serde_json::Value;
use std::sync::Arc;

impl<'e, T: Trace> Interpreter<'e, T> {
    pub(super) fn iterate(
        &self,
        iteration: Iteration,
        list: NodeId,
        body: NodeId,
        scope: Scope<'_, 'e>,
    ) -> Val<'e> {
        let list = self.eval(list, scope);
        let Some(items) = list.items() else {
            return match iteration {
                Iteration::Map | Iteration::Filter => Val::List(Arc::new([])),
                Iteration::All | Iteration::Some => Val::Bool(false),
                Iteration::None => Val::Bool(true),
            };
        };
        let holds = |item: &Val<'e>| self.truth_in_budget(body, item);
        match iteration {
            Iteration::Map => {
                let mapped = items
                    .iter()
                    .map(|item| self.eval(body, Scope::Element(&item)));
                Val::List(mapped.collect())
            }
            Iteration::Filter => Val::List(items.iter().filter(|item| holds(item)).collect()),
            Iteration::All => Val::Bool(items.len() > 0 && items.iter().all(|item| holds(&item))),
            Iteration::Some => Val::Bool(items.iter().any(|item| holds(&item))),
            Iteration::None => Val::Bool(!items.iter().any(|item| holds(&item))),
        }
    }

    /// Conditions on constants charge nothing by themselves; each turn of an iteration does.
    fn truth_in_budget(&self, body: NodeId, item: &Val<'e>) -> bool {
        self.charge(1) && self.truth(body, Scope::Element(item))
    }

    pub(super) fn reduce(
        &self,
        list: NodeId,
        body: NodeId,
        initial: Option<NodeId>,
        scope: Scope<'_, 'e>,
    ) -> Val<'e> {
        let list = self.eval(list, scope);
        let mut accumulator = initial.map_or(Val::Null, |initial| self.eval(initial, scope));
        let Some(items) = list.items() else {
            return accumulator;
        };
        for current in items.iter() {
            let pair = Scope::Pair {
                current: &current,
                accumulator: &accumulator,
            };
            let next = self.eval(body, pair);
            accumulator = next;
        }
        accumulator
    }

    pub(super) fn merge(&self, run: Run, scope: Scope<'_, 'e>) -> Val<'e> {
        let mut merged = Vec::new();
        for operand in self.program.operands(run) {
            let value = self.eval(*operand, scope);
            match value.items() {
                Some(items) if self.charge(items.len()) => merged.extend(items.iter()),
                Some(_) => return Val::Null,
                None => merged.push(value),
            }
        }
        Val::List(merged.into())
    }

    /// `var` with a constant path, inside an iteration.
    pub(super) fn element(
        &self,
        path: &[Box<str>],
        default: Option<NodeId>,
        scope: Scope<'_, 'e>,
    ) -> Val<'e> {
        let tokens = path.iter().map(|token| &**token);
        self.look_up(tokens, scope)
            .or_else(|| default.map(|default| self.eval(default, scope)))
            .unwrap_or(Val::Null)
    }

    /// `var` with a computed path.
    pub(super) fn computed_var(
        &self,
        name: NodeId,
        default: Option<NodeId>,
        in_scope: bool,
        scope: Scope<'_, 'e>,
    ) -> Val<'e> {
        let name = self.eval(name, scope);
        self.named(&name, in_scope, scope)
            .or_else(|| default.map(|default| self.eval(default, scope)))
            .unwrap_or(Val::Null)
    }

    /// What `{"var": name}` finds; an empty or null name is the whole of the data.
    fn named(&self, name: &Val<'e>, in_scope: bool, scope: Scope<'_, 'e>) -> Option<Val<'e>> {
        let scope = if in_scope { scope } else { Scope::Context };
        let text = coerce::to_text(name);
        if matches!(name, Val::Null) || text.is_empty() {
            return self.look_up(std::iter::empty(), scope);
        }
        self.look_up(text.split('.'), scope)
    }

    fn look_up<'t>(
        &self,
        mut tokens: impl Iterator<Item = &'t str>,
        scope: Scope<'_, 'e>,
    ) -> Option<Val<'e>> {
        let first = tokens.next();
        let start = match (scope, first) {
            (Scope::Element(element), None) => element.clone(),
            (Scope::Element(element), Some(token)) => element.member(token)?,
            (Scope::Pair { current, .. }, Some("current")) => current.clone(),
            (Scope::Pair { accumulator, .. }, Some("accumulator")) => accumulator.clone(),
            (Scope::Pair { .. }, Some(_)) => return None,
            (
                Scope::Pair {
                    current,
                    accumulator,
                },
                None,
            ) => {
                self.charge(super::operators::size_of(current));
                self.charge(super::operators::size_of(accumulator));
                let pair = [("current", current), ("accumulator", accumulator)];
                let pair = pair.map(|(name, value)| (name.to_owned(), value.to_json()));
                Val::Object(Arc::new(pair.into_iter().collect()))
            }
            (Scope::Context, None) => Val::Object(Arc::new(self.whole_context())),
            (Scope::Context, Some("$flagd")) => {
                Val::owned(self.whole_context().get("$flagd").unwrap_or(&Value::Null))
            }
            (Scope::Context, Some(token)) => Val::of(self.inputs.root.get(token)?),
        };
        tokens.try_fold(start, |value, token| value.member(token))
    }

    pub(super) fn missing(&self, names: Run, in_scope: bool, scope: Scope<'_, 'e>) -> Val<'e> {
        let names = self.eval_all(names, scope);
        let listed = names.first().and_then(Val::items);
        Val::List(match listed {
            Some(items) => self.missing_of(items.iter(), in_scope, scope),
            None => self.missing_of(names.iter().cloned(), in_scope, scope),
        })
    }

    pub(super) fn missing_some(
        &self,
        need: NodeId,
        names: NodeId,
        in_scope: bool,
        scope: Scope<'_, 'e>,
    ) -> Val<'e> {
        let need = coerce::to_number(&self.eval(need, scope));
        let names = self.eval(names, scope);
        let Some(items) = names.items() else {
            return Val::List(Arc::new([]));
        };
        let missing = self.missing_of(items.iter(), in_scope, scope);
        let present = u32::try_from(items.len() - missing.len()).unwrap_or(u32::MAX);
        Val::List(if f64::from(present) >= need {
            Arc::new([])
        } else {
            missing
        })
    }

    /// The names whose value is absent, null or an empty text.
    fn missing_of(
        &self,
        names: impl Iterator<Item = Val<'e>>,
        in_scope: bool,
        scope: Scope<'_, 'e>,
    ) -> Arc<[Val<'e>]> {
        let is_missing = |name: &Val<'e>| {
            self.charge(1);
            match self.named(name, in_scope, scope) {
                None | Some(Val::Null) => true,
                Some(value) => value.as_str() == Some(""),
            }
        };
        names.filter(is_missing).collect()
    }
}
