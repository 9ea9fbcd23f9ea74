//! Reading one flag definition, strictly (an API body) or leniently (a flagd file, where
//! unknown fields are warned about and dropped, as flagd itself does).

use super::fields::Fields;
use super::rule::Rule;
use super::{DefaultVariant, FlagSpec, Kill, State};
use crate::bucketing::Bucketing;
use crate::document::kind_of;
use crate::limits::Limits;
use crate::problem::{Violation, pointer_to};
use serde_json::{Map, Value};

/// Reads a definition, refusing unknown fields.
pub(super) fn strict(
    key: &str,
    value: &Value,
    limits: &Limits,
) -> Result<FlagSpec, Vec<Violation>> {
    let mut report = Vec::new();
    check_key(key, limits, &mut report);
    match read(value, limits, &mut report) {
        Some(spec) if report.is_empty() => Ok(spec),
        _ => Err(report),
    }
}

/// Reads a definition of a flagd document: unknown fields of the flag itself come back as
/// the second value.
pub(crate) fn lenient(
    key: &str,
    value: &Value,
    limits: &Limits,
) -> Result<(FlagSpec, Vec<Violation>), Vec<Violation>> {
    let mut report = Vec::new();
    check_key(key, limits, &mut report);
    let spec = read(value, limits, &mut report);
    let is_extra = |v: &Violation| v.code == "unknown_field" && v.pointer.matches('/').count() == 1;
    let (extra, wrong): (Vec<_>, Vec<_>) = report.into_iter().partition(is_extra);
    match spec {
        Some(spec) if wrong.is_empty() => Ok((spec, extra)),
        _ => Err(wrong),
    }
}

fn check_key(key: &str, limits: &Limits, report: &mut Vec<Violation>) {
    if key.len() > limits.key_bytes {
        let message = format!(
            "the flag key has {} bytes, at most {}",
            key.len(),
            limits.key_bytes
        );
        report.push(Violation::new("", "too_long", message));
    }
}

fn read(value: &Value, limits: &Limits, report: &mut Vec<Violation>) -> Option<FlagSpec> {
    let mut fields = Fields::of(value, "", report)?;
    let description = fields.string("description").map(str::to_owned);
    let tags = fields.strings("tags");
    let state = read_state(&mut fields);
    let variants = read_variants(&mut fields, limits);
    let default_variant = match fields.take("defaultVariant") {
        None => DefaultVariant::Absent,
        Some(Value::Null) => DefaultVariant::Null,
        Some(_) => match fields.string("defaultVariant") {
            Some(name) => DefaultVariant::Named(name.to_owned()),
            None => DefaultVariant::Absent,
        },
    };
    let off_variant = fields.string("offVariant").map(str::to_owned);
    let killed = read_kill(&mut fields);
    let bucketing = read_bucketing(&mut fields);
    let rules = read_rules(&mut fields, limits);
    let targeting = read_targeting(&mut fields);
    let evaluators = fields.object("evaluators").cloned();
    let metadata = read_metadata(&mut fields);
    fields.finish();
    let variants = variants?;
    let mut names = Names { variants, report };
    if let Some(name) = default_variant.name() {
        names.check(name, "/defaultVariant");
    }
    if let Some(name) = &off_variant {
        names.check(name, "/offVariant");
    }
    for (index, rule) in &rules {
        for (place, name) in rule.named_variants() {
            names.check(name, &format!("/rules/{index}{place}"));
        }
    }
    if killed.is_some() && off_variant.is_none() {
        let message = "a killed flag names the variant that it serves in \"offVariant\"";
        report.push(Violation::new("/killed", "no_off_variant", message));
    }
    Some(FlagSpec {
        state: state?,
        variants: variants.clone(),
        default_variant,
        targeting,
        metadata,
        rules: rules.into_iter().map(|(_, rule)| rule).collect(),
        off_variant,
        killed,
        bucketing,
        description,
        tags,
        evaluators,
    })
}

fn read_state(fields: &mut Fields<'_, '_>) -> Option<State> {
    fields.require("state");
    match fields.string("state")? {
        "ENABLED" => Some(State::Enabled),
        "DISABLED" => Some(State::Disabled),
        other => {
            let message = format!("expected \"ENABLED\" or \"DISABLED\", this is {other:?}");
            fields.refuse("state", "unknown_state", message);
            None
        }
    }
}

fn read_variants<'v>(
    fields: &mut Fields<'v, '_>,
    limits: &Limits,
) -> Option<&'v Map<String, Value>> {
    fields.require("variants");
    let variants = fields.object("variants")?;
    let pointer = fields.pointer_to("variants");
    if variants.is_empty() {
        fields.refuse("variants", "empty", "a flag has at least one variant");
    }
    if variants.len() > limits.variants {
        fields.refuse(
            "variants",
            "too_many",
            format!("at most {} variants", limits.variants),
        );
        return None;
    }
    for (name, value) in variants {
        let mut refuse = |code, message: String| {
            fields
                .report()
                .push(Violation::new(pointer_to(&pointer, name), code, message));
        };
        if name.is_empty() {
            refuse("empty", "a variant has a name".to_owned());
        }
        if name.len() > limits.key_bytes {
            refuse(
                "too_long",
                format!("a variant name has at most {} bytes", limits.key_bytes),
            );
        }
        if matches!(value, Value::Null | Value::Array(_)) {
            let kind = kind_of(value);
            let expected = "a boolean, a string, a number or an object";
            refuse(
                "wrong_type",
                format!("a variant is {expected}, this is {kind}"),
            );
        }
    }
    Some(variants)
}

fn read_kill(fields: &mut Fields<'_, '_>) -> Option<Kill> {
    let pointer = fields.pointer_to("killed");
    let value = fields.take("killed")?;
    let mut inner = Fields::of(value, &pointer, fields.report())?;
    let reason = inner.required_string("reason").map(str::to_owned);
    let by = inner.required_string("by").map(str::to_owned);
    inner.require("at");
    let at = inner.take("at").and_then(Value::as_i64);
    if value.get("at").is_some() && at.is_none() {
        inner.refuse("at", "wrong_type", "expected Unix seconds");
    }
    inner.finish();
    Some(Kill {
        reason: reason?,
        by: by?,
        at: at?,
    })
}

fn read_bucketing(fields: &mut Fields<'_, '_>) -> Option<Bucketing> {
    let name = fields.string("bucketing")?;
    let bucketing = Bucketing::from_name(name);
    if bucketing.is_none() {
        let message = format!("expected \"v1\", \"v2\" or \"v3\", this is {name:?}");
        fields.refuse("bucketing", "unknown_bucketing", message);
    }
    bucketing
}

/// The rules that can be read, each with its place in the list.
fn read_rules(fields: &mut Fields<'_, '_>, limits: &Limits) -> Vec<(usize, Rule)> {
    let list = fields.list("rules");
    let pointer = fields.pointer_to("rules");
    if list.len() > limits.rules {
        fields.refuse(
            "rules",
            "too_many",
            format!("at most {} rules", limits.rules),
        );
        return Vec::new();
    }
    let mut rules: Vec<(usize, Rule)> = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let place = pointer_to(&pointer, &index.to_string());
        let Some(rule) = Rule::read(item, &place, limits, fields.report()) else {
            continue;
        };
        if rules.iter().any(|(_, earlier)| earlier.id == rule.id) {
            let message = format!("rule id {:?} is used twice", rule.id);
            let place = pointer_to(&place, "id");
            fields
                .report()
                .push(Violation::new(place, "duplicate_id", message));
        }
        rules.push((index, rule));
    }
    rules
}

fn read_targeting(fields: &mut Fields<'_, '_>) -> Option<Value> {
    match fields.take("targeting")? {
        Value::Null => None,
        targeting => Some(targeting.clone()),
    }
}

fn read_metadata(fields: &mut Fields<'_, '_>) -> Option<Map<String, Value>> {
    let metadata = fields.object("metadata")?;
    let pointer = fields.pointer_to("metadata");
    for (name, value) in metadata {
        if !is_metadata(value) {
            let message = format!(
                "metadata is a string, a number or a boolean, this is {}",
                kind_of(value)
            );
            let place = pointer_to(&pointer, name);
            fields
                .report()
                .push(Violation::new(place, "wrong_type", message));
        }
    }
    Some(metadata.clone())
}

/// Whether `value` may stand in flag or set metadata.
pub(crate) fn is_metadata(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
}

/// Every variant that a definition names must be one of its own.
struct Names<'n> {
    variants: &'n Map<String, Value>,
    report: &'n mut Vec<Violation>,
}

impl Names<'_> {
    fn check(&mut self, name: &str, pointer: &str) {
        if self.variants.contains_key(name) {
            return;
        }
        let known: Vec<&str> = self.variants.keys().map(String::as_str).collect();
        let message = format!("no variant {name:?}; variants: {}", known.join(", "));
        self.report
            .push(Violation::new(pointer, "unknown_variant", message));
    }
}
