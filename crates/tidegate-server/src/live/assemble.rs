//! From stored definitions to a set that can be served: a pure function.
//!
//! One bad flag harms no other: a definition that cannot be read keeps its own last good version
//! and is reported; one that never was good answers with an error of its own. Stop records lie
//! over what storage says until storage says the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_flags::{
    CompileOptions, FlagSetSource, FlagSpec, Limits, Segment, Segments, Warning, compile,
};

use super::{FlagChange, LiveSet};
use crate::app::Violation;
use crate::schedules;
use crate::stops::Overlay;

/// What a set is assembled from, however it was stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Monotonic version in the store.
    pub config_version: u64,
    /// Restore generation of the store.
    pub epoch: u64,
    /// Flag definitions as stored, by key.
    pub flags: BTreeMap<String, Value>,
    /// Segment definitions as stored, by key.
    pub segments: BTreeMap<String, Value>,
    /// Shared rules of the whole set, by name; a file can have them, stored flags carry their own.
    #[serde(default)]
    pub evaluators: Map<String, Value>,
    /// Metadata of the whole set, as a file can have it; ours is added where it says nothing.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Flags whose author left, with the Unix second they left at: their schedules are held.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, i64>,
    /// Objects that storage could not decode, as `kind key`, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set_aside: BTreeMap<String, String>,
}

/// A flag that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlagProblem {
    /// Its key.
    pub flag: String,
    /// Everything wrong with it.
    pub violations: Vec<Violation>,
    /// Whether its last good version is served meanwhile.
    pub serves_previous: bool,
}

/// Assembles what `project` serves from `source`, with `overlay` on top.
#[must_use]
pub fn assemble(
    project: &str,
    source: &Source,
    overlay: &Overlay,
    previous: Option<&LiveSet>,
) -> LiveSet {
    let mut flags = read_flags(project, source);
    let mut problems = problems_of(&flags, previous);
    problems.extend(source.set_aside.iter().map(|aside| damaged(source, aside)));
    let mut specs: BTreeMap<String, FlagSpec> = flags
        .flags
        .iter()
        .filter_map(|(key, spec)| Some((key.clone(), spec.clone().ok()?)))
        .collect();
    let held = hold_schedules(source, &mut specs);
    overlay.apply(project, &mut specs);
    for (key, spec) in &mut flags.flags {
        if let (Ok(spec), Some(overlaid)) = (spec, specs.get(key))
            && spec != overlaid
        {
            spec.clone_from(overlaid);
        }
    }
    let (segments, segment_problems) = read_segments(&source.segments);
    problems.extend(segment_problems);
    let options = CompileOptions {
        previous: previous.map(|set| &set.ruleset),
        ..CompileOptions::default()
    };
    let (ruleset, mut warnings) = compile(&flags, &segments, &options);
    warnings.extend(held);
    LiveSet {
        project: project.to_owned(),
        config_tag: ruleset.digest().to_owned(),
        depends_on_time: ruleset.handles().any(|flag| ruleset.depends_on_time(flag)),
        ruleset,
        specs,
        source: source.clone(),
        config_version: source.config_version,
        epoch: source.epoch,
        warnings,
        problems,
        storage_behind: None,
        stale_since_us: None,
    }
}

/// Holds what would raise exposure in the flags whose author left.
fn hold_schedules(source: &Source, specs: &mut BTreeMap<String, FlagSpec>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (key, left) in &source.held {
        if let Some(spec) = specs.get_mut(key) {
            let (held, why) = schedules::as_left(key, spec, *left);
            *spec = held;
            warnings.extend(why);
        }
    }
    warnings
}

/// An object that storage set aside; a flag's last good version is served where there is one.
fn damaged(source: &Source, (name, reason): (&String, &String)) -> FlagProblem {
    let flag = name.strip_prefix("flag ").unwrap_or(name);
    let message = format!("it is damaged in the database ({reason}); write it again to mend it");
    FlagProblem {
        flag: flag.to_owned(),
        violations: vec![Violation::at("", "damaged", message)],
        serves_previous: source.flags.contains_key(flag),
    }
}

/// The set, read flag by flag.
fn read_flags(project: &str, source: &Source) -> FlagSetSource {
    let definitions = source.flags.iter().map(|(key, flag)| (key.as_str(), flag));
    let mut flags = FlagSetSource::from_flags(definitions, &Limits::default());
    flags.evaluators.clone_from(&source.evaluators);
    flags.metadata = set_metadata(project, source);
    flags
}

fn problems_of(flags: &FlagSetSource, previous: Option<&LiveSet>) -> Vec<FlagProblem> {
    let broken = |(key, spec): &(String, Result<FlagSpec, Vec<tidegate_flags::Violation>>)| {
        let violations = spec.as_ref().err()?;
        Some(FlagProblem {
            flag: key.clone(),
            violations: violations.iter().cloned().map(Violation::from).collect(),
            serves_previous: previous.is_some_and(|set| set.specs.contains_key(key)),
        })
    };
    flags.flags.iter().filter_map(broken).collect()
}

/// The metadata every evaluation of the set carries, so that telemetry names our revision.
fn set_metadata(project: &str, source: &Source) -> Map<String, Value> {
    let mut metadata = source.metadata.clone();
    let own = [
        ("flagSetId", Value::from(project)),
        ("version", Value::from(source.config_version.to_string())),
    ];
    for (name, value) in own {
        metadata.entry(name).or_insert(value);
    }
    metadata
}

fn read_segments(stored: &BTreeMap<String, Value>) -> (Segments, Vec<FlagProblem>) {
    let mut segments = Segments::default();
    let mut problems = Vec::new();
    for (key, definition) in stored {
        match Segment::from_json(definition, &Limits::default()) {
            Ok(segment) => {
                segments.0.insert(key.clone(), segment);
            }
            Err(violations) => problems.push(FlagProblem {
                flag: format!("segment {key}"),
                violations: violations.into_iter().map(Violation::from).collect(),
                serves_previous: false,
            }),
        }
    }
    (segments, problems)
}

/// The flags that differ between two sets, by what they do and not by version number.
pub(super) fn difference(before: &LiveSet, after: &LiveSet) -> Vec<(String, FlagChange)> {
    let mut changed = Vec::new();
    for key in after.ruleset.keys() {
        if before.ruleset.handle(key).is_none() {
            changed.push((key.to_owned(), FlagChange::Create));
        } else if !before.ruleset.means_the_same(&after.ruleset, key) {
            changed.push((key.to_owned(), FlagChange::Update));
        }
    }
    for key in before
        .ruleset
        .keys()
        .filter(|key| after.ruleset.handle(key).is_none())
    {
        changed.push((key.to_owned(), FlagChange::Delete));
    }
    changed
}
