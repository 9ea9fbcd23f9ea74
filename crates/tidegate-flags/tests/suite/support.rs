//! Building rule sets in tests.

use serde_json::{Map, Value, json};
use tidegate_flags::{
    CompileOptions, FlagSetSource, Limits, Ruleset, Segments, Warning, compile, parse_flag_set,
};

/// A moment for tests that do not care: 2023-11-14T22:13:20Z.
pub(crate) const NOW: i64 = 1_700_000_000;

pub(crate) fn source(document: &Value) -> FlagSetSource {
    parse_flag_set(&document.to_string(), &Limits::default()).unwrap()
}

pub(crate) fn compiled(document: &Value) -> (Ruleset, Vec<Warning>) {
    compiled_with(document, &Segments::default(), &CompileOptions::default())
}

pub(crate) fn compiled_with(
    document: &Value,
    segments: &Segments,
    options: &CompileOptions<'_>,
) -> (Ruleset, Vec<Warning>) {
    compile(&source(document), segments, options)
}

/// A set of one boolean flag `flag`, `off` by default, extended by `fields`.
pub(crate) fn one_flag(fields: &Value) -> Value {
    let mut flag = json!({
        "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
    });
    for (name, value) in fields.as_object().unwrap() {
        flag[name] = value.clone();
    }
    json!({"flags": {"flag": flag}})
}

pub(crate) fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

/// Variant (or `-`), reason and error code of flag `key`, as text.
pub(crate) fn answer(rules: &Ruleset, key: &str, context: &Value, now: i64) -> String {
    let bound = rules.bind(object(context), now);
    let resolution = rules.evaluate_key(key, &bound);
    let code = resolution
        .error
        .as_ref()
        .map(|error| format!(" {}", error.code.as_str()));
    format!(
        "{} {}{}",
        resolution.variant.unwrap_or("-"),
        resolution.reason.as_str(),
        code.unwrap_or_default()
    )
}

/// A file below `spec/flags`.
pub(crate) fn vectors(name: &str) -> Value {
    let path = format!("{}/../../spec/flags/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// The whole set as plain flagd JSON.
pub(crate) fn flagd_json(rules: &Ruleset) -> Value {
    serde_json::from_str(&rules.to_flagd_json(|_| true)).unwrap()
}
