//! Warnings about a flag that compiles but cannot be meant.
//!
//! Each warning names one thing an author most likely did not intend; none changes what is
//! served. They look at the definition and at the plain targeting that came of it.

use crate::logic::lower::{bucket_by_and_entries, constant_entry, is_constant, operation};
use crate::problem::{Warning, pointer_to};
use crate::resolution::FlagType;
use crate::spec::FlagSpec;
use crate::spec::rule::{Rule, Serve};
use serde_json::Value;

/// A timestamp above this many seconds (year 5138) was meant in milliseconds.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// Looks over one flag.
pub(crate) fn flag(key: &str, spec: &FlagSpec, warnings: &mut Vec<Warning>) {
    let mut lint = Lint {
        key,
        spec,
        warnings,
    };
    lint.variants();
    lint.rules();
    if let Some(targeting) = &spec.targeting {
        lint.targeting(targeting);
    }
}

struct Lint<'l> {
    key: &'l str,
    spec: &'l FlagSpec,
    warnings: &'l mut Vec<Warning>,
}

impl Lint<'_> {
    fn warn(&mut self, pointer: &str, code: &'static str, message: impl Into<String>) {
        self.warnings.push(Warning {
            flag: Some(self.key.to_owned()),
            pointer: pointer.to_owned(),
            code,
            message: message.into(),
        });
    }

    fn variants(&mut self) {
        if FlagType::of(self.spec.variants.values()).is_none() {
            let message = "the variants are not all of one type: a client that asks for one \
                           type gets TYPE_MISMATCH for the others";
            self.warn("/variants", "mixed_types", message);
        }
        for (name, value) in &self.spec.variants {
            let is_lossy = value
                .as_i64()
                .is_some_and(|whole| whole.unsigned_abs() >= 1 << 53)
                || value.as_i64().is_none() && value.as_u64().is_some();
            if is_lossy {
                let message = "an integer beyond 2^53 - 1 cannot be held by every client";
                self.warn(&pointer_to("/variants", name), "unsafe_integer", message);
            }
        }
    }

    fn rules(&mut self) {
        let mut decided_by: Option<String> = None;
        for (index, rule) in self.spec.rules.iter().enumerate() {
            let pointer = format!("/rules/{index}");
            if let Some(earlier) = &decided_by {
                let message = format!("never reached: rule {earlier:?} applies to everyone");
                self.warn(&pointer, "unreachable_rule", message);
            } else if is_never(rule.condition.as_ref()) {
                self.warn(&pointer, "unreachable_rule", "its condition never holds");
            } else if always_decides(rule) {
                decided_by = Some(rule.id.clone());
            }
            if let Some(condition) = &rule.condition {
                self.logic(condition, &format!("{pointer}/if"));
            }
            self.outcome(rule, &pointer);
            for moment in [&rule.from, &rule.until].into_iter().flatten() {
                if moment.seconds() >= MILLISECONDS_FROM {
                    let message = "the schedule is in seconds; this looks like milliseconds";
                    self.warn(&pointer, "milliseconds", message);
                }
            }
        }
        if let (Some(earlier), Some(_)) = (decided_by, &self.spec.targeting) {
            let message = format!("never reached: rule {earlier:?} applies to everyone");
            self.warn("/targeting", "unreachable_targeting", message);
        }
    }

    fn outcome(&mut self, rule: &Rule, pointer: &str) {
        match &rule.serve {
            Serve::Variant(_) => {}
            Serve::Split(split) => {
                let idle = split
                    .weights
                    .iter()
                    .filter(|weight| weight.share_bp == 0)
                    .count();
                if idle > 0 {
                    let message = format!("{idle} of the variants have weight 0");
                    self.warn(&format!("{pointer}/split"), "empty_share", message);
                }
            }
            Serve::Rollout(rollout) => {
                let allocation = rollout.allocation();
                let place = format!("{pointer}/rollout");
                if allocation.treatment_bp == 0 {
                    self.warn(
                        &place,
                        "empty_share",
                        "the treatment has a share of 0: nobody gets it",
                    );
                }
                if allocation.control_bp == 0 {
                    let message = "the control has a share of 0: nothing is left to compare with";
                    self.warn(&place, "full_share", message);
                }
            }
        }
    }

    fn targeting(&mut self, targeting: &Value) {
        let is_none = targeting.as_object().is_some_and(serde_json::Map::is_empty);
        if !is_none && !mentions_context(targeting) {
            let message = "the targeting reads nothing: everyone gets the same";
            self.warn("/targeting", "constant_targeting", message);
        }
        self.names(targeting, "/targeting");
        self.logic(targeting, "/targeting");
    }

    /// Constants in deciding positions must be variants.
    fn names(&mut self, value: &Value, pointer: &str) {
        match (value, operation(value)) {
            (Value::String(name), _) => self.name(name, pointer),
            (_, Some(("if", arguments))) => {
                let is_outcome = |index: usize| index % 2 == 1 || index + 1 == arguments.len();
                for (index, outcome) in arguments.iter().enumerate().filter(|(i, _)| is_outcome(*i))
                {
                    self.names(outcome, &format!("{pointer}/if/{index}"));
                }
            }
            (_, Some(("fractional", arguments))) => {
                let (by, entries) = bucket_by_and_entries(arguments);
                for (index, entry) in entries.iter().enumerate() {
                    let place = index + usize::from(by.is_some());
                    if let Some((Value::String(name), _)) = constant_entry(entry) {
                        self.name(name, &format!("{pointer}/fractional/{place}"));
                    }
                }
            }
            _ => {}
        }
    }

    fn name(&mut self, name: &str, pointer: &str) {
        if !self.spec.variants.contains_key(name) {
            let message = format!("{name:?} is no variant: whoever gets it gets an error");
            self.warn(pointer, "unknown_variant", message);
        }
    }

    /// Oddities of operators, wherever they stand. Definitions have a bounded depth.
    fn logic(&mut self, value: &Value, pointer: &str) {
        if let Some((operator, arguments)) = operation(value) {
            let place = pointer_to(pointer, operator);
            match operator {
                "fractional" => self.fractional(arguments, &place),
                "var" => self.attribute(arguments, &place),
                "sem_ver" if arguments.len() != 3 => {
                    self.warn(
                        &place,
                        "wrong_arity",
                        "sem_ver takes 3 arguments; this is null",
                    );
                }
                "starts_with" | "ends_with" if arguments.len() != 2 => {
                    let message = format!("{operator} takes 2 arguments; this is null");
                    self.warn(&place, "wrong_arity", message);
                }
                _ => {}
            }
        }
        let inside: Vec<(String, &Value)> = match value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (index.to_string(), item))
                .collect(),
            Value::Object(map) => map
                .iter()
                .map(|(name, item)| (name.clone(), item))
                .collect(),
            _ => Vec::new(),
        };
        for (token, item) in inside {
            self.logic(item, &pointer_to(pointer, &token));
        }
    }

    fn fractional(&mut self, arguments: &[Value], pointer: &str) {
        let (_, entries) = bucket_by_and_entries(arguments);
        if entries.len() == 1 {
            self.warn(
                pointer,
                "single_entry",
                "a split of one entry gives everyone that entry",
            );
        }
        let mut total = 0u64;
        for entry in entries {
            match constant_entry(entry) {
                Some((_, weight)) => total += u64::from(weight),
                None if is_constant(entry) => {
                    let message = format!("{entry} is no [variant, weight]: the split gives null");
                    self.warn(pointer, "malformed_entry", message);
                    return;
                }
                // Computed: known only when it is evaluated.
                None => return,
            }
        }
        if total == 0 {
            self.warn(
                pointer,
                "empty_split",
                "no entry has weight: the split gives null",
            );
        }
        if total > u64::from(crate::bucketing::MAX_WEIGHT) {
            self.warn(
                pointer,
                "excess_weight",
                "weights sum to more than 2^31 - 1: null",
            );
        }
    }

    fn attribute(&mut self, arguments: &[Value], pointer: &str) {
        let Some(path) = arguments.first().and_then(Value::as_str) else {
            return;
        };
        let known = ["targetingKey", "$flagd.flagKey", "$flagd.timestamp"];
        let meant = known
            .iter()
            .find(|known| known.eq_ignore_ascii_case(path) && **known != path);
        if let Some(meant) = meant {
            let message = format!("attributes are case-sensitive: did you mean {meant:?}?");
            self.warn(pointer, "misspelt_attribute", message);
        } else if path.starts_with("$flagd.") && !known.contains(&path) {
            let message = format!("{path:?} does not exist and is null");
            self.warn(pointer, "misspelt_attribute", message);
        }
    }
}

/// Whether nobody passes the rule on to the next one.
fn always_decides(rule: &Rule) -> bool {
    rule.applies_to_everyone()
        || rule.condition == Some(Value::Bool(true))
            && Rule {
                condition: None,
                ..rule.clone()
            }
            .applies_to_everyone()
}

fn is_never(condition: Option<&Value>) -> bool {
    matches!(condition, Some(Value::Bool(false) | Value::Null))
}

/// Whether `value` reads the context, directly or by the implicit unit of a split.
fn mentions_context(value: &Value) -> bool {
    let is_reading = |operator: &str| {
        ["var", "missing", "missing_some", "fractional", "$ref"].contains(&operator)
    };
    match (operation(value), value) {
        (Some((operator, arguments)), _) => {
            is_reading(operator) || arguments.iter().any(mentions_context)
        }
        (None, Value::Array(items)) => items.iter().any(mentions_context),
        _ => false,
    }
}
