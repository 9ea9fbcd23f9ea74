//! Fuzz targets for definitions and contexts; run briefly on the stable toolchain, at
//! length with `cargo bolero test`.

use crate::support::{NOW, compiled, object};
use serde_json::{Value, json};
use std::sync::OnceLock;
use tidegate_flags::{
    CompileOptions, FlagSpec, Limits, Ruleset, Segments, compile, parse_context, parse_flag_set,
};

/// Pieces that random bytes are spelt with, so that most inputs get past the parser.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"if\"",
    "\"fractional\"",
    "\"var\"",
    "\"on\"",
    "\"off\"",
    "\"targetingKey\"",
    "1",
    "-0.5",
    "null",
    "true",
    "\"cat\"",
    "\"reduce\"",
    "\"accumulator\"",
    "\"$ref\"",
    "\"$flagd.timestamp\"",
    "\"sem_ver\"",
    "\"in\"",
    "\"map\"",
    "\"\"",
    "1e308",
    "\"merge\"",
    "\"substr\"",
    "\"missing_some\"",
    "18446744073709551615",
    "\"<\"",
    "\"==\"",
];

fn spelt(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| PIECES[usize::from(*byte) % PIECES.len()])
        .collect()
}

/// A JSON value grown from bytes, always well formed.
fn grown(bytes: &mut impl Iterator<Item = u8>, depth: usize) -> Value {
    let Some(byte) = bytes.next() else {
        return Value::Null;
    };
    let names: Vec<&str> = PIECES
        .iter()
        .filter(|p| p.starts_with('"'))
        .copied()
        .collect();
    let name = names[usize::from(byte) % names.len()].trim_matches('"');
    match byte % 6 {
        _ if depth == 0 => json!(name),
        0 => json!(f64::from(byte) - 100.5),
        1 => json!(name),
        2 => json!(byte % 4 == 0),
        3 => (0..byte % 5).map(|_| grown(bytes, depth - 1)).collect(),
        _ => {
            let arguments: Value = (0..byte % 4).map(|_| grown(bytes, depth - 1)).collect();
            json!({ name: arguments })
        }
    }
}

#[test]
fn any_text_is_read_or_refused() {
    bolero::check!()
        .with_iterations(3_000)
        .for_each(|bytes: &[u8]| {
            let limits = Limits::default();
            let text = String::from_utf8_lossy(bytes);
            let _ = parse_flag_set(&text, &limits);
            let _ = parse_context(bytes, &limits);
            let _ = parse_flag_set(&spelt(bytes), &limits);
        });
}

#[test]
fn any_definition_compiles_or_is_set_aside_and_answers_within_its_variants() {
    bolero::check!()
        .with_iterations(3_000)
        .for_each(|bytes: &[u8]| {
            let mut bytes = bytes.iter().copied();
            let dialect = ["v1", "v2", "v3"][usize::from(bytes.next().unwrap_or(0)) % 3];
            let targeting = grown(&mut bytes, 6);
            let document = json!({"flags": {"f": {
                "state": "ENABLED", "variants": {"on": 1, "off": 2}, "defaultVariant": "off",
                "targeting": targeting, "bucketing": dialect,
            }}});
            let source = parse_flag_set(&document.to_string(), &Limits::default()).unwrap();
            let options = CompileOptions::default();
            let (rules, _) = compile(&source, &Segments::default(), &options);
            let context = json!({"targetingKey": "u", "on": [1, 2], "off": {"if": 3}});
            let bound = rules.bind(object(&context), NOW);
            let resolution = rules.evaluate_key("f", &bound);
            assert_eq!(resolution.error.is_some(), resolution.variant.is_none());
            let handle = rules.handle("f").unwrap();
            let explained = rules.explain(handle, &bound).unwrap();
            assert_eq!(explained.variant.as_deref(), resolution.variant);
        });
}

#[test]
fn any_flag_body_is_refused_or_round_trips() {
    bolero::check!()
        .with_iterations(3_000)
        .for_each(|bytes: &[u8]| {
            let mut bytes = bytes.iter().copied();
            let mut flag = json!({"state": "ENABLED", "variants": {"on": 1, "off": 2}});
            let fields = [
                "rules",
                "killed",
                "metadata",
                "defaultVariant",
                "bucketing",
                "tags",
            ];
            let field = fields[usize::from(bytes.next().unwrap_or(0)) % fields.len()];
            flag[field] = grown(&mut bytes, 5);
            if let Ok(spec) = FlagSpec::from_json("f", &flag) {
                assert_eq!(FlagSpec::from_json("f", &spec.to_json()), Ok(spec));
            }
        });
}

#[test]
fn any_context_is_answered() {
    static RULES: OnceLock<Ruleset> = OnceLock::new();
    let rules = RULES.get_or_init(|| {
        let targeting = json!({"if": [
            {"some": [{"var": "on"}, {"==": [{"var": "off"}, 1]}]}, "on",
            {"<": [{"var": "in"}, {"+": [{"var": "if"}, 1]}]}, {"fractional": [{"var": "cat"}, ["on", 1], ["off", 1]]},
            {"sem_ver": [{"var": "map"}, ">", "1.0.0"]}, {"substr": [{"var": "var"}, -2]},
            "off",
        ]});
        compiled(&json!({"flags": {"f": {
            "state": "ENABLED", "variants": {"on": 1, "off": 2}, "targeting": targeting,
        }}})).0
    });
    bolero::check!()
        .with_iterations(3_000)
        .for_each(|bytes: &[u8]| {
            let mut bytes = bytes.iter().copied();
            let names = ["on", "off", "in", "if", "cat", "map", "var"];
            let context: Value = names
                .iter()
                .map(|name| ((*name).to_owned(), grown(&mut bytes, 4)))
                .collect();
            let bound = rules.bind(object(&context), NOW);
            let resolution = rules.evaluate_key("f", &bound);
            assert_eq!(
                resolution.error.is_some(),
                resolution.reason.as_str() == "ERROR"
            );
        });
}
