//! The ordered rules a person edits: who (audience), when (schedule), what (serve).
//!
//! A rule applies when everything it states holds: the unit is listed in `units`, it is in
//! one of `segments`, `if` is truthy, each prerequisite flag serves one of the variants
//! named, and the time is within `from` (included) and `until` (excluded). The first rule
//! that applies decides. Rules compile into plain flagd JSON (see the `plain` module), so
//! this module knows their shape only, not their meaning.

use super::fields::{Fields, WHOLE, basis_points};
use super::moment::Moment;
use super::rollout::{Range, Rollout};
use crate::limits::Limits;
use crate::problem::{Violation, pointer_to};
use serde_json::{Map, Value, json};

/// One rule of a flag.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Stable name of the rule within its flag.
    pub id: String,
    /// For people.
    pub description: Option<String>,
    /// Targeting keys listed one by one; empty means no such condition.
    pub units: Vec<String>,
    /// Segment keys, any of which suffices; empty means no such condition.
    pub segments: Vec<String>,
    /// A JsonLogic condition (`if` in JSON).
    pub condition: Option<Value>,
    /// Flags that must serve certain variants, all of them.
    pub prerequisites: Vec<Prerequisite>,
    /// The rule applies from this moment on.
    pub from: Option<Moment>,
    /// The rule applies before this moment.
    pub until: Option<Moment>,
    /// What a unit gets for which the rule applies.
    pub serve: Serve,
}

/// Another flag that must serve one of some variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prerequisite {
    /// Key of the other flag.
    pub flag: String,
    /// Variants of the other flag, any of which suffices.
    pub variants: Vec<String>,
}

/// What a rule gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Serve {
    /// One variant for all.
    Variant(String),
    /// Variants by weight.
    Split(Split),
    /// Treatment for a share, control for the rest.
    Rollout(Rollout),
}

/// Variants by weight in basis points that sum to 10,000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Variant and weight, in order of the hash space.
    pub weights: Vec<Range>,
    /// What is hashed.
    pub hashing: Hashing,
}

/// What a split or rollout hashes besides the flag key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashing {
    /// Context attribute that identifies the unit; `None` is the targeting key.
    pub by: Option<String>,
    /// Text hashed in place of the flag key: flags with the same seed give the same unit
    /// the same place.
    pub seed: Option<String>,
}

impl Hashing {
    pub(crate) fn read(fields: &mut Fields<'_, '_>) -> Hashing {
        let mut text = |name| {
            let text = fields.string(name).map(str::to_owned);
            if text.as_deref() == Some("") {
                fields.refuse(name, "empty", "must not be empty");
            }
            text
        };
        Hashing {
            by: text("by"),
            seed: text("seed"),
        }
    }

    pub(crate) fn write(&self, object: &mut Map<String, Value>) {
        for (name, text) in [("by", &self.by), ("seed", &self.seed)] {
            if let Some(text) = text {
                object.insert(name.to_owned(), json!(text));
            }
        }
    }
}

impl Rule {
    /// The variants that the rule can serve.
    pub fn variants(&self) -> Vec<&str> {
        match &self.serve {
            Serve::Variant(variant) => vec![variant],
            Serve::Split(split) => split.weights.iter().map(|w| w.variant.as_str()).collect(),
            Serve::Rollout(rollout) => rollout.variants(),
        }
    }

    /// Every variant that the rule names, with its place within the rule as a JSON pointer.
    pub(crate) fn named_variants(&self) -> Vec<(String, &str)> {
        match &self.serve {
            Serve::Variant(variant) => vec![("/variant".to_owned(), variant)],
            Serve::Split(split) => named_by(&split.weights, "/split/weights").collect(),
            Serve::Rollout(rollout) => rollout.named_variants(),
        }
    }

    /// Whether the rule states no condition and so applies to everyone, always.
    pub fn applies_to_everyone(&self) -> bool {
        self.units.is_empty()
            && self.segments.is_empty()
            && self.condition.is_none()
            && self.prerequisites.is_empty()
            && self.from.is_none()
            && self.until.is_none()
    }

    pub(crate) fn read(
        value: &Value,
        pointer: &str,
        limits: &Limits,
        report: &mut Vec<Violation>,
    ) -> Option<Rule> {
        let before = report.len();
        let mut fields = Fields::of(value, pointer, report)?;
        let id = fields.required_string("id").map(str::to_owned);
        if id.as_ref().is_some_and(|id| id.len() > limits.key_bytes) {
            fields.refuse(
                "id",
                "too_long",
                format!("at most {} bytes", limits.key_bytes),
            );
        }
        let description = fields.string("description").map(str::to_owned);
        let units = fields.strings("units");
        if units.len() > limits.units {
            fields.refuse(
                "units",
                "too_many",
                format!("at most {} units", limits.units),
            );
        }
        let segments = fields.strings("segments");
        let condition = fields.take("if").cloned();
        let prerequisites = read_prerequisites(&mut fields);
        let (from, until) = (
            read_moment(&mut fields, "from"),
            read_moment(&mut fields, "until"),
        );
        if let (Some(from), Some(until)) = (&from, &until)
            && from.seconds() >= until.seconds()
        {
            fields.refuse("until", "empty_schedule", "must lie after \"from\"");
        }
        let serve = read_serve(&mut fields);
        fields.finish();
        let rule = Rule {
            id: id?,
            description,
            units,
            segments,
            condition,
            prerequisites,
            from,
            until,
            serve: serve?,
        };
        (report.len() == before).then_some(rule)
    }

    /// The rule as JSON, fields in a fixed order, absent ones left out.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("id", json!(self.id));
        if let Some(description) = &self.description {
            put("description", json!(description));
        }
        if !self.units.is_empty() {
            put("units", json!(self.units));
        }
        if !self.segments.is_empty() {
            put("segments", json!(self.segments));
        }
        if let Some(condition) = &self.condition {
            put("if", condition.clone());
        }
        if !self.prerequisites.is_empty() {
            let list = self.prerequisites.iter();
            put("prerequisites", list.map(Prerequisite::to_json).collect());
        }
        for (name, moment) in [("from", &self.from), ("until", &self.until)] {
            if let Some(moment) = moment {
                put(name, moment.to_json());
            }
        }
        match &self.serve {
            Serve::Variant(variant) => put("variant", json!(variant)),
            Serve::Split(split) => put("split", split.to_json()),
            Serve::Rollout(rollout) => put("rollout", rollout.to_json()),
        };
        Value::Object(object)
    }
}

impl Prerequisite {
    fn to_json(&self) -> Value {
        json!({"flag": self.flag, "variants": self.variants})
    }
}

impl Split {
    fn read(value: &Value, pointer: &str, report: &mut Vec<Violation>) -> Option<Split> {
        let mut fields = Fields::of(value, pointer, report)?;
        fields.require("weights");
        let weights = read_ranges(&mut fields, "weights");
        let hashing = Hashing::read(&mut fields);
        if let Some(weights) = &weights
            && sum_of(weights) != u32::from(WHOLE)
        {
            let message = format!("weights sum to {}, not to 10000", sum_of(weights));
            fields.refuse("weights", "weights_do_not_sum", message);
        }
        fields.finish();
        Some(Split {
            weights: weights?,
            hashing,
        })
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("weights".to_owned(), ranges_to_json(&self.weights));
        self.hashing.write(&mut object);
        Value::Object(object)
    }
}

pub(crate) fn sum_of(ranges: &[Range]) -> u32 {
    ranges.iter().map(|range| u32::from(range.share_bp)).sum()
}

/// The variant of each of `ranges`, which stand at `pointer`, with its place.
pub(crate) fn named_by<'r>(
    ranges: &'r [Range],
    pointer: &str,
) -> impl Iterator<Item = (String, &'r str)> {
    let places = ranges.iter().enumerate();
    places.map(move |(index, range)| (format!("{pointer}/{index}/0"), range.variant.as_str()))
}

pub(crate) fn ranges_to_json(ranges: &[Range]) -> Value {
    ranges
        .iter()
        .map(|range| json!([range.variant, range.share_bp]))
        .collect()
}

/// Reads `[[variant, basis points], ...]`.
pub(crate) fn read_ranges(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<Vec<Range>> {
    let list = fields.list(name);
    let pointer = fields.pointer_to(name);
    let mut ranges = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let pair = item.as_array().map(Vec::as_slice);
        if let Some([Value::String(variant), share]) = pair
            && let Some(share_bp) = basis_points(share)
        {
            ranges.push(Range {
                variant: variant.clone(),
                share_bp,
            });
        } else {
            let message = "expected [variant, whole number from 0 to 10000 (basis points)]";
            let place = pointer_to(&pointer, &index.to_string());
            fields
                .report()
                .push(Violation::new(place, "wrong_type", message));
        }
    }
    (ranges.len() == list.len()).then_some(ranges)
}

fn read_prerequisites(fields: &mut Fields<'_, '_>) -> Vec<Prerequisite> {
    let list = fields.list("prerequisites");
    let pointer = fields.pointer_to("prerequisites");
    let mut prerequisites = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let place = pointer_to(&pointer, &index.to_string());
        let Some(mut inner) = Fields::of(item, &place, fields.report()) else {
            continue;
        };
        let flag = inner.required_string("flag").map(str::to_owned);
        inner.require("variants");
        let variants = inner.strings("variants");
        if item.get("variants").is_some() && variants.is_empty() {
            inner.refuse("variants", "empty", "name at least one variant");
        }
        inner.finish();
        if let Some(flag) = flag {
            prerequisites.push(Prerequisite { flag, variants });
        }
    }
    prerequisites
}

fn read_moment(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<Moment> {
    let value = fields.take(name)?;
    let moment = Moment::from_json(value);
    if moment.is_none() {
        let message = "expected Unix seconds or \"YYYY-MM-DDTHH:MM:SSZ\"";
        fields.refuse(name, "wrong_type", message);
    }
    moment
}

fn read_serve(fields: &mut Fields<'_, '_>) -> Option<Serve> {
    let variant = fields
        .string("variant")
        .map(|name| Serve::Variant(name.to_owned()));
    let (split_at, rollout_at) = (fields.pointer_to("split"), fields.pointer_to("rollout"));
    let split = fields.take("split");
    let rollout = fields.take("rollout");
    let asked = [variant.is_some(), split.is_some(), rollout.is_some()];
    if asked.iter().filter(|is_there| **is_there).count() != 1 {
        let message = "a rule serves exactly one of \"variant\", \"split\", \"rollout\"";
        fields.refuse("variant", "one_outcome", message);
        return None;
    }
    match (split, rollout) {
        (Some(split), _) => Split::read(split, &split_at, fields.report()).map(Serve::Split),
        (_, Some(rollout)) => {
            Rollout::read(rollout, &rollout_at, fields.report()).map(Serve::Rollout)
        }
        _ => variant,
    }
}
