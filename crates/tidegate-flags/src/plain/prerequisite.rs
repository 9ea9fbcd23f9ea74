//! A prerequisite as a condition: the other flag's targeting, inlined.
//!
//! In another flag's targeting, some things mean something else, so they are written out:
//! `$flagd.flagKey` becomes the prerequisite's key, and an implicit `fractional` hashes
//! `{"cat": [key, {"var": "targetingKey"}]}` explicitly, which v1 and v2 hash alike. v3
//! hashes a pair for the implicit form, which no explicit form can express; that is
//! refused. So is another dialect, a rule that reads the whole context or a computed name
//! (it might read the flag key), and what grows beyond the limits.
//!
//! A prerequisite that is missing, disabled or broken is not met; that is a warning, so
//! that one flag cannot take others down.

use super::{Refusal, Translation};
use crate::bucketing::Bucketing;
use crate::logic::lower::{bucket_by_and_entries, is_constant, operation};
use crate::spec::rule::Prerequisite;
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;

/// What other flags may know of a translated flag.
pub(crate) enum Expression {
    /// Serves one variant, always.
    Fixed(Option<String>),
    /// Serves nothing: disabled or broken.
    Nothing(&'static str),
    /// Serves what its targeting says.
    Targeted(Targeted),
}

/// A targeted flag, as far as its dependants need it.
pub(crate) struct Targeted {
    pub(crate) targeting: Value,
    pub(crate) default: Option<String>,
    pub(crate) variants: Vec<String>,
    pub(crate) dialect: Bucketing,
}

/// Translated flags by key, and the bytes that may still be inlined in this set.
pub(crate) struct Expressions {
    pub(crate) known: BTreeMap<String, Expression>,
    pub(crate) bytes_left: Cell<usize>,
}

impl Translation<'_> {
    /// The condition that `prerequisite` stands for.
    pub(super) fn prerequisite(
        &mut self,
        prerequisite: &Prerequisite,
        pointer: &str,
    ) -> Result<Value, Refusal> {
        let Prerequisite { flag, variants } = prerequisite;
        let is_named = |name: &String| variants.contains(name);
        match self.around.expressions.known.get(flag) {
            None => {
                let message = format!("no flag {flag:?}: the prerequisite is never met");
                self.warn(pointer, "unknown_prerequisite", message);
                Ok(Value::Bool(false))
            }
            Some(Expression::Nothing(why)) => {
                let message = format!("flag {flag:?} is {why}: the prerequisite is not met");
                self.warn(pointer, "idle_prerequisite", message);
                Ok(Value::Bool(false))
            }
            Some(Expression::Fixed(variant)) => {
                Ok(Value::Bool(variant.as_ref().is_some_and(is_named)))
            }
            Some(Expression::Targeted(targeted)) => {
                for name in variants
                    .iter()
                    .filter(|name| !targeted.variants.contains(*name))
                {
                    let message = format!("flag {flag:?} has no variant {name:?}");
                    self.warn(pointer, "unknown_variant", message);
                }
                self.inlined(flag, targeted, variants, pointer)
            }
        }
    }

    fn inlined(
        &mut self,
        flag: &str,
        targeted: &Targeted,
        wanted: &[String],
        pointer: &str,
    ) -> Result<Value, Refusal> {
        let refuse = |code, message: String| Refusal {
            code,
            pointer: pointer.to_owned(),
            message,
        };
        let rewriting = Rewriting {
            key: flag,
            targeted,
            into: self.spec.dialect(),
        };
        let targeting = rewriting
            .rewrite(&targeted.targeting)
            .map_err(|(code, why)| refuse(code, format!("flag {flag:?} {why}")))?;
        let condition = membership(targeting, targeted, wanted);
        let bytes = condition.to_string().len();
        self.inlined_bytes += bytes;
        let limit = self.around.limits.inlined_bytes;
        let left = self.around.expressions.bytes_left.get();
        if self.inlined_bytes > limit || bytes > left {
            let message = format!(
                "prerequisites add {} bytes; at most {limit} per flag and {} per set are inlined",
                self.inlined_bytes, self.around.limits.inlined_bytes_total
            );
            return Err(refuse("prerequisite_size", message));
        }
        self.around.expressions.bytes_left.set(left - bytes);
        Ok(condition)
    }
}

/// Whether the variant that `targeting` names, or the default where it names none, is one
/// of `wanted`.
fn membership(targeting: Value, targeted: &Targeted, wanted: &[String]) -> Value {
    let mut names: Vec<Value> = wanted.iter().map(|name| json!(name)).collect();
    let wants = |name: &str| wanted.iter().any(|wanted| wanted == name);
    if wants("true") {
        names.push(Value::Bool(true));
    }
    let default = targeted.default.as_deref().filter(|default| wants(default));
    let Some(default) = default else {
        if wants("false") {
            names.push(Value::Bool(false));
        }
        return json!({"in": [targeting, names]});
    };
    let has_false = targeted.variants.iter().any(|name| name == "false");
    let is_false = json!({"===": [targeting, false]});
    let or_default = json!({"in": [{"or": [targeting, default]}, names]});
    if has_false {
        json!({"if": [is_false, wants("false"), or_default]})
    } else {
        or_default
    }
}

struct Rewriting<'r> {
    key: &'r str,
    targeted: &'r Targeted,
    into: Bucketing,
}

type Rewritten = Result<Value, (&'static str, String)>;

impl Rewriting<'_> {
    /// `value` so that it means in another flag what it means in its own. Translated
    /// targeting has a bounded depth, so recursion is bounded too.
    fn rewrite(&self, value: &Value) -> Rewritten {
        match (operation(value), value) {
            (Some(("var", arguments)), _) => self.variable(value, arguments),
            (Some(("fractional", arguments)), _) => self.fractional(arguments),
            (
                Some((
                    operator @ ("map" | "filter" | "all" | "some" | "none" | "reduce"),
                    arguments,
                )),
                _,
            ) => {
                // The body reads the element, which has no flag key.
                let outside = |(index, argument): (usize, &Value)| {
                    if index == 1 {
                        Ok(argument.clone())
                    } else {
                        self.rewrite(argument)
                    }
                };
                let arguments: Result<Vec<Value>, _> =
                    arguments.iter().enumerate().map(outside).collect();
                Ok(json!({ operator: arguments? }))
            }
            (Some((operator, arguments)), _) => Ok(json!({ operator: self.all(arguments)? })),
            (None, Value::Array(items)) => self.all(items),
            (None, other) => Ok(other.clone()),
        }
    }

    fn all(&self, values: &[Value]) -> Rewritten {
        values.iter().map(|value| self.rewrite(value)).collect()
    }

    fn variable(&self, value: &Value, arguments: &[Value]) -> Rewritten {
        let name = arguments.first().unwrap_or(&Value::Null);
        let whole = "reads the whole context, which names the flag, and cannot be inlined";
        match name {
            Value::String(path) if path == "$flagd.flagKey" => Ok(json!(self.key)),
            Value::Null => Err(("prerequisite_context", whole.to_owned())),
            Value::String(path) if path.is_empty() || path == "$flagd" => {
                Err(("prerequisite_context", whole.to_owned()))
            }
            name if !is_constant(name) => {
                let why = "reads an attribute of a computed name and cannot be inlined";
                Err(("prerequisite_context", why.to_owned()))
            }
            _ => match arguments {
                [name, default] => Ok(json!({"var": [name, self.rewrite(default)?]})),
                _ => Ok(value.clone()),
            },
        }
    }

    fn fractional(&self, arguments: &[Value]) -> Rewritten {
        let dialect = self.targeted.dialect;
        if dialect != self.into {
            let (theirs, ours) = (dialect.as_str(), self.into.as_str());
            let why = format!("splits in dialect {theirs}, this flag in {ours}");
            return Err(("prerequisite_dialect", why));
        }
        let (bucket_by, entries) = bucket_by_and_entries(arguments);
        let bucket_by = match (bucket_by, dialect) {
            (None, Bucketing::V3) => {
                let why = "splits by the implicit unit, which v3 cannot express in another flag: \
                           write the attribute to split by";
                return Err(("prerequisite_implicit_v3", why.to_owned()));
            }
            (Some(by), Bucketing::V3) => self.rewrite(by)?,
            (None, _) => self.implicit(),
            (Some(by @ Value::String(_)), _) => by.clone(),
            // Null stands for the implicit unit, of the prerequisite and not of this flag.
            (Some(by), _) => {
                let by = self.rewrite(by)?;
                json!({"if": [{"!=": [by, null]}, by, self.implicit()]})
            }
        };
        let mut arguments = vec![bucket_by];
        if let Value::Array(entries) = self.all(entries)? {
            arguments.extend(entries);
        }
        Ok(json!({ "fractional": arguments }))
    }

    /// The text that v1 and v2 hash for the implicit unit; null unless the targeting key is
    /// a text with something in it.
    fn implicit(&self) -> Value {
        let unit = json!({"var": "targetingKey"});
        let is_text = json!({"===": [unit, {"cat": [unit]}]});
        let is_unit = json!({"and": [{"!!": [unit]}, is_text]});
        json!({"if": [is_unit, {"cat": [self.key, unit]}, null]})
    }
}

/// The object that `variants` lists, for [`Targeted::variants`].
pub(crate) fn names_of(variants: &Map<String, Value>) -> Vec<String> {
    variants.keys().cloned().collect()
}
