//! Feature files in the form of flagd's test kit, run against this crate.
//!
//! `TIDEGATE_FLAGD_TESTBED` names a directory with `evaluator/gherkin` and
//! `evaluator/flags` (and, beside `evaluator`, the provider suites' `gherkin/targeting.feature`
//! with `flags`, which hold the v3 rows). Without it, our own scenarios in the same format
//! are run, so the harness itself never goes untested.

use crate::gherkin::{self, Scenario, Step};
use crate::support::NOW;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tidegate_flags::{
    Bucketing, CompileOptions, ErrorCode, Limits, Resolution, Ruleset, Segments, compile,
    parse_flag_set,
};

/// Rule sets of the same files, one per dialect.
struct Kit(BTreeMap<&'static str, Ruleset>);

impl Kit {
    fn load(paths: &[PathBuf]) -> Kit {
        let mut merged = json!({"flags": {}, "$evaluators": {}});
        for path in paths {
            let text = std::fs::read_to_string(path).unwrap();
            let document: Value = serde_json::from_str(&text).unwrap();
            for part in ["flags", "$evaluators"] {
                for (name, value) in document[part].as_object().into_iter().flatten() {
                    merged[part][name] = value.clone();
                }
            }
        }
        let rules = [Bucketing::V1, Bucketing::V2, Bucketing::V3].map(|dialect| {
            let mut source = parse_flag_set(&merged.to_string(), &Limits::default()).unwrap();
            for (_, spec) in &mut source.flags {
                if let Ok(spec) = spec {
                    spec.bucketing = Some(dialect);
                }
            }
            let options = CompileOptions::default();
            (
                dialect.as_str(),
                compile(&source, &Segments::default(), &options).0,
            )
        });
        Kit(rules.into())
    }
}

/// The dialects in which a scenario must hold.
fn dialects_of(scenario: &Scenario) -> Vec<&'static str> {
    let tagged: Vec<&str> = ["v1", "v2", "v3"]
        .into_iter()
        .filter(|dialect| scenario.tags.contains(&format!("fractional-{dialect}")))
        .collect();
    let is_fractional = scenario
        .tags
        .iter()
        .any(|tag| tag.starts_with("fractional"));
    match (tagged.is_empty(), is_fractional) {
        (false, _) => tagged,
        // Untagged rows of the fractional suites are computed for v2.
        (true, true) => vec!["v2"],
        (true, false) => vec!["v1", "v2", "v3"],
    }
}

#[derive(Default)]
struct World {
    key: String,
    flag_type: String,
    fallback: String,
    context: Map<String, Value>,
}

/// The quoted parts of a step.
fn quoted(text: &str) -> Vec<String> {
    let unescaped = text.replace("\\\"", "\u{1}");
    unescaped
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|part| part.replace('\u{1}', "\""))
        .collect()
}

fn typed(kind: &str, text: &str) -> Option<Value> {
    Some(match kind {
        "Boolean" => json!(text.parse::<bool>().ok()?),
        "Integer" => json!(text.parse::<i64>().ok()?),
        "Float" => json!(text.parse::<f64>().ok()?),
        "Object" => serde_json::from_str(text).ok()?,
        _ => json!(text),
    })
}

/// The value in the type asked for, or the fallback with an error code.
fn details(world: &World, resolution: &Resolution<'_>) -> (Value, Option<ErrorCode>) {
    let fallback = typed(&world.flag_type, &world.fallback).unwrap();
    let read = match world.flag_type.as_str() {
        "Boolean" => resolution.boolean().map(|value| value.map(Value::from)),
        "String" => resolution.string().map(|value| value.map(Value::from)),
        "Integer" => resolution.integer().map(|value| value.map(Value::from)),
        "Float" => resolution.float().map(|value| value.map(Value::from)),
        _ => resolution
            .object()
            .map(|value| value.cloned().map(Value::Object)),
    };
    match read {
        Ok(value) => (value.unwrap_or(fallback), None),
        Err(code) => (fallback, Some(code)),
    }
}

fn given(world: &mut World, step: &Step) {
    let text = step.text.as_str();
    let parts = quoted(text);
    if let Some((before, _)) = text.split_once("-flag with key") {
        world.flag_type = before.rsplit(' ').next().unwrap().to_owned();
        world.key.clone_from(&parts[0]);
        world.fallback.clone_from(&parts[1]);
    } else if text.starts_with("a context containing a targeting key") {
        world
            .context
            .insert("targetingKey".to_owned(), json!(parts[0]));
    } else if text.starts_with("a context containing a nested property") {
        world
            .context
            .insert(parts[0].clone(), json!({ parts[1].clone(): parts[2] }));
    } else if text.starts_with("a context containing a key") {
        // The value stands last and may hold quotes of its own.
        let (_, value) = text.split_once("with value \"").unwrap();
        let value = value.strip_suffix('"').unwrap().replace("\\\"", "\"");
        let value = typed(&parts[1], &value).unwrap_or_else(|| panic!("{text}"));
        world.context.insert(parts[0].clone(), value);
    } else {
        let is_preparation = text.starts_with("an evaluator")
            || text.ends_with("provider")
            || text.starts_with("an option");
        assert!(is_preparation, "unknown step: {text}");
    }
}

fn check(world: &World, step: &Step, rules: &Ruleset) -> Result<(), String> {
    let bound = rules.bind(&world.context, NOW);
    let resolution = rules.evaluate_key(&world.key, &bound);
    let (value, code) = details(world, &resolution);
    let parts = quoted(&step.text);
    let wanted = parts.first().map(String::as_str).unwrap_or_default();
    let (got, wanted) = if step.text.starts_with("the resolved details value") {
        (value, typed(&world.flag_type, wanted).unwrap())
    } else if step.text.starts_with("the reason") {
        (
            json!(if code.is_some() {
                "ERROR"
            } else {
                resolution.reason.as_str()
            }),
            json!(wanted),
        )
    } else if step.text.starts_with("the error-code") {
        (json!(code.map_or("", ErrorCode::as_str)), json!(wanted))
    } else if step.text.starts_with("the resolved metadata is empty") {
        (json!(resolution.metadata), json!({}))
    } else if step
        .text
        .starts_with("the resolved metadata should contain")
    {
        let rows = step.table.iter().skip(1);
        let wanted = rows.map(|row| (row[0].clone(), typed(&row[1], &row[2]).unwrap()));
        (json!(resolution.metadata), Value::Object(wanted.collect()))
    } else {
        panic!("unknown step: {}", step.text);
    };
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{}: got {got}", step.text))
    }
}

fn run(scenario: &Scenario, rules: &Ruleset) -> Result<(), String> {
    let mut world = World::default();
    let evaluated = scenario
        .steps
        .iter()
        .position(|step| step.text.contains("was evaluated with details"))
        .ok_or("nothing is evaluated")?;
    for step in &scenario.steps[..evaluated] {
        given(&mut world, step);
    }
    scenario.steps[evaluated + 1..]
        .iter()
        .try_for_each(|step| check(&world, step, rules))
}

/// Runs every scenario of `features` in its dialects; returns the number per dialect.
fn run_all(features: &[PathBuf], kit: &Kit) -> BTreeMap<&'static str, usize> {
    let mut passed = BTreeMap::new();
    let mut failures = Vec::new();
    for path in features {
        let text = std::fs::read_to_string(path).unwrap();
        for scenario in gherkin::parse(&text) {
            for dialect in dialects_of(&scenario) {
                match run(&scenario, &kit.0[dialect]) {
                    Ok(()) => *passed.entry(dialect).or_default() += 1,
                    Err(why) => {
                        let Scenario {
                            feature,
                            name,
                            steps,
                            ..
                        } = &scenario;
                        failures.push(format!("{feature} / {name} ({dialect}): {why} {steps:?}"));
                    }
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    passed
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    paths.sort();
    paths
}

#[test]
fn our_own_scenarios_hold() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/flags");
    let kit = Kit::load(&[directory.join("scenarios.json")]);
    let passed = run_all(&[directory.join("scenarios.feature")], &kit);
    assert_eq!(passed, BTreeMap::from([("v1", 11), ("v2", 12), ("v3", 11)]));
}

#[test]
fn a_wrong_scenario_is_noticed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/flags");
    let kit = Kit::load(&[directory.join("scenarios.json")]);
    let text = std::fs::read_to_string(directory.join("scenarios.feature")).unwrap();
    let wrong = text.replace("TARGETING_MATCH", "STATIC");
    let failed = gherkin::parse(&wrong)
        .iter()
        .filter(|scenario| run(scenario, &kit.0["v2"]).is_err())
        .count();
    assert!(failed > 0);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the kit is not ours to commit: its place is told"
)]
fn the_public_test_kit_holds() {
    let Ok(root) = std::env::var("TIDEGATE_FLAGD_TESTBED") else {
        return;
    };
    let root = PathBuf::from(root);
    let evaluator = root.join("evaluator");
    let kit = Kit::load(&files(&evaluator.join("flags"), "json"));
    let mut passed = run_all(&files(&evaluator.join("gherkin"), "feature"), &kit);
    println!("evaluator suite: {passed:?}");
    let providers = root.join("gherkin/targeting.feature");
    if providers.exists() {
        let flags = [
            "custom-ops",
            "edge-case-flags",
            "evaluator-refs",
            "testing-flags",
            "zero-flags",
        ];
        let flags = flags.map(|name| root.join(format!("flags/{name}.json")));
        let kit = Kit::load(&flags);
        let also = run_all(&[providers], &kit);
        println!("provider suite, targeting: {also:?}");
        for (dialect, count) in also {
            *passed.entry(dialect).or_default() += count;
        }
    }
    assert!(passed.values().all(|count| *count > 0), "{passed:?}");
}
