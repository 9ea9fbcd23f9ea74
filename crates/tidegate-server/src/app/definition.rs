//! What a definition must satisfy before it is stored, alone and in the set it would be part of.
//!
//! A definition is refused with *all* that is wrong with it. Then the set is compiled as it would
//! be: a flag that could not be served is refused, also one that somebody else wrote and that this
//! change would break; what compiles and cannot be meant is a warning.

use std::collections::BTreeSet;

use serde_json::Value;
use tidegate_flags::{FlagSetSource, FlagSpec, Segment, Warning};
use tidegate_metrics::{JourneyDefinition, MetricDefinition};
use tidegate_store::{Expected, ObjectChange, ObjectKind, StoredObject, Write};

use super::exposure;
use super::objects::Place;
use super::owned::keep_owned;
use super::{App, AppError, Violation, actor_of, difference};
use crate::access::{Permission, Principal};
use crate::live::{LiveSet, assemble};
use crate::reports::refused;
use crate::stops::Overlay;

/// The one key of the kind [`ObjectKind::Set`].
const SET_KEY: &str = "main";

/// A definition on its way into storage.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) place: Place,
    pub(super) expected: Expected,
    /// In the form that is stored.
    pub(super) spec: Value,
    /// What it replaces.
    pub(super) before: Option<StoredObject>,
}

impl Draft {
    /// Whether storage would say something else afterwards.
    pub(super) fn changes(&self) -> bool {
        self.before
            .as_ref()
            .is_none_or(|before| before.spec != self.spec)
    }

    pub(super) fn difference(&self) -> Vec<tidegate_store::FieldChange> {
        difference(
            self.before.as_ref().map(|object| &object.spec),
            Some(&self.spec),
        )
    }

    /// The change to commit.
    pub(super) fn into_change(
        self,
        app: &App,
        principal: &Principal,
        reason: Option<String>,
    ) -> ObjectChange {
        let changes = self.difference();
        let place = self.place;
        let mut change = ObjectChange::new(
            (place.project, place.kind, place.key),
            self.expected,
            Write::Put(self.spec),
            actor_of(principal),
            app.clock.now_us(),
        );
        change.reason = reason;
        change.changes = changes;
        change
    }
}

/// The definition in the form that is stored, or everything that is wrong with it. `arriving` are
/// flags that the same transaction makes.
pub(super) fn canonical(
    app: &App,
    place: &Place,
    spec: Value,
    before: Option<&StoredObject>,
    arriving: &BTreeSet<String>,
) -> Result<Value, AppError> {
    match place.kind {
        ObjectKind::Flag => {
            let key = place.key.as_str();
            let wanted = FlagSpec::from_json(key, &spec)?;
            let current = read_flag(key, before);
            let project = place.project.as_str();
            Ok(keep_owned(app, project, key, current.as_ref(), wanted)?.to_json())
        }
        ObjectKind::Segment => Ok(Segment::from_json(&spec, &app.flag_limits)?.to_json()),
        ObjectKind::Rollout => {
            let named = spec.get("flag").and_then(Value::as_str).unwrap_or_default();
            let known = arriving.contains(named) || is_served(app, place, named);
            crate::rollouts::validate(&spec, known)?;
            Ok(spec)
        }
        ObjectKind::Set => flag_set(app, place, spec),
        ObjectKind::Source => {
            crate::rollouts::sources::validate(app, &spec)?;
            Ok(spec)
        }
        ObjectKind::Metric => MetricDefinition::canonical(&spec).map_err(refused),
        ObjectKind::Journey => JourneyDefinition::canonical(&spec).map_err(refused),
        _ if spec.is_object() => Ok(spec),
        _ => Err(AppError::invalid(
            "",
            "not-an-object",
            "a definition is a JSON object",
        )),
    }
}

fn is_served(app: &App, place: &Place, flag: &str) -> bool {
    app.live
        .project(place.project.as_str())
        .is_some_and(|project| project.peek().specs.contains_key(flag))
}

/// What a project's flags have in common: `{"metadata": {...}}`, under the one key there is.
fn flag_set(app: &App, place: &Place, spec: Value) -> Result<Value, AppError> {
    let mut violations = Vec::new();
    if place.key.as_str() != SET_KEY {
        let message = format!("a project has one set, and its key is {SET_KEY:?}");
        violations.push(Violation::at("/key", "unknown-set", message));
    }
    let fields = spec.as_object();
    if fields.is_none_or(|fields| fields.keys().any(|name| name != "metadata")) {
        let message = "a set is an object with `metadata` and nothing else";
        violations.push(Violation::at("", "unknown-field", message));
    }
    let mut document = serde_json::json!({ "flags": {} });
    if let Some(metadata) = spec.get("metadata") {
        document["metadata"] = metadata.clone();
    }
    if let Err(found) = FlagSetSource::from_json(&document, &app.flag_limits) {
        violations.extend(found.into_iter().map(Violation::from));
    }
    if violations.is_empty() {
        Ok(spec)
    } else {
        Err(AppError::Invalid(violations))
    }
}

/// Refuses an edit that may raise exposure by somebody who may not.
pub(super) fn refuse_raise(
    app: &App,
    principal: &Principal,
    draft: &Draft,
) -> Result<(), AppError> {
    let place = &draft.place;
    if principal.may(Permission::Raise, place.project.as_str()) || !draft.changes() {
        return Ok(());
    }
    let key = place.key.as_str();
    let places = match place.kind {
        ObjectKind::Flag => match FlagSpec::from_json(key, &draft.spec) {
            Ok(after) => {
                exposure::may_raise(read_flag(key, draft.before.as_ref()).as_ref(), &after)
            }
            Err(_) => vec![String::new()],
        },
        ObjectKind::Segment if is_in_use(app, place) => vec![String::new()],
        _ => Vec::new(),
    };
    if places.is_empty() {
        return Ok(());
    }
    let named: Vec<&str> = places
        .iter()
        .map(|place| match place.as_str() {
            "" => "the whole",
            place => place,
        })
        .collect();
    Err(AppError::Forbidden(format!(
        "this may raise exposure ({}), which takes the right to raise it",
        named.join(", ")
    )))
}

fn read_flag(key: &str, stored: Option<&StoredObject>) -> Option<FlagSpec> {
    FlagSpec::from_json(key, &stored?.spec).ok()
}

fn is_in_use(app: &App, segment: &Place) -> bool {
    app.live
        .project(segment.project.as_str())
        .is_some_and(|project| {
            let set = project.peek();
            set.specs.values().any(|spec| uses_segment(spec, segment))
        })
}

/// Compiles the set as it would be after all of `drafts`: for each the warnings, or for some what
/// could not be served.
pub(super) fn check(
    app: &App,
    project: &str,
    drafts: &[Draft],
) -> Result<Vec<Vec<Violation>>, Vec<(usize, Violation)>> {
    let none = || drafts.iter().map(|_| Vec::new()).collect();
    let concerns_flags =
        |draft: &Draft| matches!(draft.place.kind, ObjectKind::Flag | ObjectKind::Segment);
    let Some(place) = app.live.project(project) else {
        return Ok(none());
    };
    let current = place.load();
    if !drafts.iter().any(concerns_flags) {
        return Ok(drafts
            .iter()
            .map(|draft| warnings_of(&current, draft))
            .collect());
    }
    let candidate = with_drafts(&current, project, drafts);
    let broken = broken(&candidate);
    let mut refused = own_faults(&candidate, &broken, drafts);
    if refused.is_empty() {
        refused = faults_of_others(&current, &candidate, &broken, drafts);
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    Ok(drafts
        .iter()
        .map(|draft| warnings_of(&candidate, draft))
        .collect())
}

fn with_drafts(current: &LiveSet, project: &str, drafts: &[Draft]) -> LiveSet {
    let mut source = current.source.clone();
    for draft in drafts {
        let (kind, key) = (draft.place.kind, draft.place.key.as_str());
        let definitions = match kind {
            ObjectKind::Flag => &mut source.flags,
            ObjectKind::Segment => &mut source.segments,
            _ => continue,
        };
        definitions.insert(key.to_owned(), draft.spec.clone());
        // Who writes a definition stands for its schedule, and mends what was damaged.
        source.set_aside.remove(&format!("{kind} {key}"));
        if kind == ObjectKind::Flag {
            source.held.remove(key);
        }
    }
    assemble(project, &source, &Overlay::default(), None)
}

fn broken(set: &LiveSet) -> BTreeSet<String> {
    set.ruleset
        .keys()
        .filter(|key| {
            set.ruleset
                .handle(key)
                .is_some_and(|flag| set.ruleset.is_broken(flag))
        })
        .map(str::to_owned)
        .collect()
}

/// What is wrong with the flags that are written.
fn own_faults(
    candidate: &LiveSet,
    broken: &BTreeSet<String>,
    drafts: &[Draft],
) -> Vec<(usize, Violation)> {
    let mut faults = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        if draft.place.kind == ObjectKind::Flag && broken.contains(draft.place.key.as_str()) {
            let mut own = warnings_of(candidate, draft);
            if own.is_empty() {
                let message = "it compiles to nothing that can be served";
                own.push(Violation::at("", "broken", message));
            }
            faults.extend(own.into_iter().map(|violation| (index, violation)));
        }
    }
    faults
}

/// What would be wrong with flags that are not written, and is not wrong now.
fn faults_of_others(
    current: &LiveSet,
    candidate: &LiveSet,
    now_broken: &BTreeSet<String>,
    drafts: &[Draft],
) -> Vec<(usize, Violation)> {
    if now_broken.is_empty() {
        return Vec::new();
    }
    let before = assemble(&current.project, &current.source, &Overlay::default(), None);
    let broken_before = broken(&before);
    let mut faults = Vec::new();
    for key in now_broken.difference(&broken_before) {
        let cause = candidate
            .specs
            .get(key)
            .and_then(|spec| drafts.iter().position(|draft| needs(spec, &draft.place)))
            .unwrap_or(0);
        let reasons: Vec<&str> = of_flag(candidate, key)
            .map(|warning| warning.message.as_str())
            .collect();
        let message = format!(
            "flag {key:?} could not be served any more: {}",
            reasons.join("; ")
        );
        faults.push((cause, Violation::at("", "breaks-another-flag", message)));
    }
    faults
}

fn warnings_of(set: &LiveSet, draft: &Draft) -> Vec<Violation> {
    let place = &draft.place;
    let as_violation = |warning: &Warning| {
        Violation::at(
            warning.pointer.clone(),
            warning.code,
            warning.message.clone(),
        )
    };
    match place.kind {
        ObjectKind::Flag => of_flag(set, place.key.as_str()).map(as_violation).collect(),
        ObjectKind::Segment => {
            let users = set
                .specs
                .iter()
                .filter(|(_, spec)| uses_segment(spec, place));
            users
                .flat_map(|(key, _)| of_flag(set, key))
                .map(as_violation)
                .collect()
        }
        ObjectKind::Rollout => shadowed(set, draft),
        _ => Vec::new(),
    }
}

/// What decides nothing any more in the flag of a rollout once it has the rollout's rule.
fn shadowed(set: &LiveSet, draft: &Draft) -> Vec<Violation> {
    let rule = crate::rollouts::rule_id(draft.place.key.as_str());
    let Ok(policy) = crate::rollouts::read_policy(&draft.spec) else {
        return Vec::new();
    };
    let Some(mut definition) = set.source.flags.get(&policy.flag).cloned() else {
        return Vec::new();
    };
    if let Some(fields) = definition.as_object_mut()
        && let Some(rules) = fields
            .entry("rules")
            .or_insert_with(|| Value::Array(Vec::new()))
            .as_array_mut()
        && rules.iter().all(|known| known["id"] != rule.as_str())
    {
        rules.push(crate::rollouts::rule_at_zero(&rule, &policy));
    }
    let Ok(started) = FlagSpec::from_json(&policy.flag, &definition) else {
        return Vec::new();
    };
    crate::rollouts::shadowed(&policy.flag, &started)
        .into_iter()
        .map(|warning| {
            let message = format!(
                "once started, {} of flag {:?}: {}",
                warning.pointer, policy.flag, warning.message
            );
            Violation::at("/flag", warning.code, message)
        })
        .collect()
}

/// What the compiler says of one flag.
fn of_flag<'s>(set: &'s LiveSet, key: &'s str) -> impl Iterator<Item = &'s Warning> {
    set.warnings
        .iter()
        .filter(move |warning| warning.flag.as_deref() == Some(key))
}

/// Whether a flag is written in terms of the object at `place`.
pub(super) fn needs(spec: &FlagSpec, place: &Place) -> bool {
    match place.kind {
        ObjectKind::Flag => needs_flag(spec, place),
        ObjectKind::Segment => uses_segment(spec, place),
        _ => false,
    }
}

fn needs_flag(spec: &FlagSpec, place: &Place) -> bool {
    let named = |rule: &tidegate_flags::Rule| {
        rule.prerequisites
            .iter()
            .any(|needed| needed.flag == place.key.as_str())
    };
    spec.rules.iter().any(named)
}

fn uses_segment(spec: &FlagSpec, place: &Place) -> bool {
    let named = |rule: &tidegate_flags::Rule| {
        rule.segments
            .iter()
            .any(|segment| segment == place.key.as_str())
    };
    spec.rules.iter().any(named)
}
