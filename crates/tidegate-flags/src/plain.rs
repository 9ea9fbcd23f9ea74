//! From editable rules to plain flagd JSON, which third-party providers evaluate alike.
//!
//! A flag's rules become one `if` at the root of its targeting, arm `n` for rule `n`, and
//! the flag's own targeting becomes the tail:
//!
//! * `units`, `segments`, `if`, `prerequisites`, `from`, `until` become one condition, all
//!   of them joined by `and`; a rule without any has the condition `true`.
//! * a split becomes `fractional`; whoever has no unit gets the default variant.
//! * a rollout becomes the same `fractional`, treatment first, control last; whoever has
//!   no unit gets the control.
//! * a split or rollout that gives one variant everything is that variant's name, so 0 %
//!   and 100 % need no unit.
//!
//! Nothing here evaluates; the result is lowered like any flagd targeting, so our answer
//! is by construction that of the plain document.

pub(crate) mod definition;
pub(crate) mod graph;
pub(crate) mod prerequisite;
pub(crate) mod references;

use crate::limits::Limits;
use crate::problem::Warning;
use crate::segments::{Segment, Segments};
use crate::spec::FlagSpec;
use crate::spec::rollout::Range;
use crate::spec::rule::{Hashing, Rule, Serve};
use prerequisite::Expressions;
use references::References;
use serde_json::{Value, json};

/// Why a flag cannot be expressed as plain flagd JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) pointer: String,
    pub(crate) message: String,
}

/// What translating one flag needs to know of its surroundings.
pub(crate) struct Surroundings<'s> {
    pub(crate) segments: &'s Segments,
    pub(crate) expressions: &'s Expressions,
    pub(crate) limits: &'s Limits,
}

/// Translates one flag; oddities go to `warnings`.
pub(crate) struct Translation<'t> {
    pub(crate) key: &'t str,
    pub(crate) spec: &'t FlagSpec,
    pub(crate) around: &'t Surroundings<'t>,
    pub(crate) references: References<'t>,
    pub(crate) inlined_bytes: usize,
    pub(crate) warnings: Vec<Warning>,
}

impl Translation<'_> {
    /// The flag's targeting with rules and references inlined; none if it has neither.
    pub(crate) fn targeting(&mut self) -> Result<Option<Value>, Refusal> {
        let own = match &self.spec.targeting {
            Some(Value::Object(map)) if map.is_empty() => None,
            Some(targeting) => Some(self.references.inline(targeting, "/targeting")?),
            None => None,
        };
        if self.spec.rules.is_empty() {
            return Ok(own);
        }
        let mut arms = Vec::with_capacity(self.spec.rules.len() * 2 + 1);
        for (index, rule) in self.spec.rules.iter().enumerate() {
            let pointer = format!("/rules/{index}");
            arms.push(self.condition(rule, &pointer)?);
            arms.push(served(rule));
        }
        arms.extend(own);
        Ok(Some(json!({ "if": arms })))
    }

    fn condition(&mut self, rule: &Rule, pointer: &str) -> Result<Value, Refusal> {
        let mut all = Vec::new();
        if !rule.units.is_empty() {
            all.push(is_listed(&rule.units));
        }
        if !rule.segments.is_empty() {
            all.push(self.any_segment(&rule.segments, pointer)?);
        }
        if let Some(condition) = &rule.condition {
            all.push(
                self.references
                    .inline(condition, &format!("{pointer}/if"))?,
            );
        }
        for (index, prerequisite) in rule.prerequisites.iter().enumerate() {
            let place = format!("{pointer}/prerequisites/{index}");
            all.push(self.prerequisite(prerequisite, &place)?);
        }
        let timestamp = json!({"var": "$flagd.timestamp"});
        if let Some(from) = &rule.from {
            all.push(json!({">=": [timestamp, from.seconds()]}));
        }
        if let Some(until) = &rule.until {
            all.push(json!({"<": [timestamp, until.seconds()]}));
        }
        Ok(match all.len() {
            0 => Value::Bool(true),
            1 => all.swap_remove(0),
            _ => json!({ "and": all }),
        })
    }

    fn any_segment(&mut self, keys: &[String], pointer: &str) -> Result<Value, Refusal> {
        let mut any = Vec::new();
        for key in keys {
            let segment: Option<&Segment> = self.around.segments.0.get(key);
            let Some(segment) = segment else {
                let message = format!("no segment {key:?}: it holds nobody");
                self.warn(&format!("{pointer}/segments"), "unknown_segment", message);
                continue;
            };
            if !segment.units.is_empty() {
                any.push(is_listed(&segment.units));
            }
            if let Some(when) = &segment.when {
                any.push(
                    self.references
                        .inline(when, &format!("{pointer}/segments"))?,
                );
            }
        }
        Ok(match any.len() {
            0 => Value::Bool(false),
            1 => any.swap_remove(0),
            _ => json!({ "or": any }),
        })
    }

    pub(crate) fn warn(&mut self, pointer: &str, code: &'static str, message: String) {
        let flag = Some(self.key.to_owned());
        self.warnings.push(Warning {
            flag,
            pointer: pointer.to_owned(),
            code,
            message,
        });
    }
}

fn is_listed(units: &[String]) -> Value {
    json!({"in": [{"var": "targetingKey"}, units]})
}

fn served(rule: &Rule) -> Value {
    match &rule.serve {
        Serve::Variant(variant) => json!(variant),
        Serve::Split(split) => fractional(&split.weights, &split.hashing, None),
        Serve::Rollout(rollout) => {
            fractional(&rollout.ranges(), &rollout.hashing, Some(&rollout.control))
        }
    }
}

/// The one way weights become `fractional`, so that a rollout and a split of the same
/// shares give everybody the same.
fn fractional(ranges: &[Range], hashing: &Hashing, without_unit: Option<&str>) -> Value {
    let entries = merged(ranges);
    if let [(only, _)] = entries.as_slice() {
        return json!(only);
    }
    let entries = entries
        .iter()
        .map(|(variant, weight)| json!([variant, weight]));
    if hashing.by.is_none() && hashing.seed.is_none() {
        let split = json!({ "fractional": entries.collect::<Vec<_>>() });
        return match without_unit {
            Some(control) => json!({"or": [split, control]}),
            None => split,
        };
    }
    let unit = json!({"var": hashing.by.as_deref().unwrap_or("targetingKey")});
    let seed = match &hashing.seed {
        Some(seed) => json!(seed),
        None => json!({"var": "$flagd.flagKey"}),
    };
    let bucket_by = json!({"cat": [seed, unit]});
    let arguments: Vec<Value> = std::iter::once(bucket_by).chain(entries).collect();
    json!({"if": [{"!!": [unit]}, {"fractional": arguments}, without_unit]})
}

/// Neighbours of one variant joined, empty entries left out.
fn merged(ranges: &[Range]) -> Vec<(&str, u32)> {
    let mut entries: Vec<(&str, u32)> = Vec::new();
    for Range { variant, share_bp } in ranges.iter().filter(|range| range.share_bp > 0) {
        match entries.last_mut() {
            Some((last, weight)) if last == variant => *weight += u32::from(*share_bp),
            _ => entries.push((variant, u32::from(*share_bp))),
        }
    }
    entries
}
