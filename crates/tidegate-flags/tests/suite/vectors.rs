//! The language-neutral vectors of `spec/flags`.

use crate::support::{NOW, answer, compiled, flagd_json, object, vectors};
use serde_json::{Map, Value, json};

/// A string flag whose variants are `names`, under `key`.
fn probe(key: &str, names: &[&str], targeting: &Value, bucketing: &str) -> Value {
    let variants: Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), json!(name)))
        .collect();
    json!({"flags": {key: {
        "state": "ENABLED", "variants": variants, "targeting": targeting, "bucketing": bucketing,
    }}})
}

#[test]
fn operators_name_what_the_vectors_say() {
    let file = vectors("operators.json");
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        // A variant cannot have an empty name, so an empty result names nothing.
        let name = case["names"].as_str();
        let usable = name.filter(|name| !name.is_empty());
        let names = [usable.unwrap_or("unused"), "another"];
        let (rules, _) = compiled(&probe("probe", &names, &case["targeting"], "v2"));
        let got = answer(&rules, "probe", &file["context"], NOW);
        let wanted = match name {
            None => "- DEFAULT".to_owned(),
            Some("") => "- ERROR GENERAL".to_owned(),
            Some(name) => format!("{name} TARGETING_MATCH"),
        };
        assert_eq!(got, wanted, "{}", case["targeting"]);
    }
    assert!(cases.len() > 150, "{}", cases.len());
}

#[test]
fn buckets_are_what_the_vectors_say() {
    let file = vectors("bucketing.json");
    for case in file["cases"].as_array().unwrap() {
        let entries = case["targeting"]["fractional"].as_array().unwrap();
        let names: Vec<&str> = entries
            .iter()
            .filter_map(|entry| entry[0].as_str())
            .collect();
        let (key, dialect) = (
            case["flag"].as_str().unwrap(),
            case["bucketing"].as_str().unwrap(),
        );
        // Once as a decision, once as a value inside another operator.
        let nested = json!({"cat": [case["targeting"]]});
        for targeting in [&case["targeting"], &nested] {
            let (rules, warnings) = compiled(&probe(key, &names, targeting, dialect));
            assert!(warnings.is_empty(), "{warnings:?}");
            let context = rules.bind(object(&case["context"]), NOW);
            let handle = rules.handle(key).unwrap();
            let explanation = rules.explain(handle, &context).unwrap();
            assert_eq!(
                explanation.variant.as_deref(),
                case["variant"].as_str(),
                "{case}"
            );
            assert_eq!(
                rules.evaluate(handle, &context).variant,
                case["variant"].as_str()
            );
            let split = &explanation.splits[0];
            assert_eq!(json!(split.hash), case["hash"], "{case}");
            assert_eq!(json!(split.hashed_hex), case["hashedHex"], "{case}");
            let bucket = case["bucket"].as_f64().unwrap();
            assert!((split.bucket - bucket).abs() < 1e-6, "{case}");
        }
    }
}

#[test]
fn rules_compile_to_the_plain_targeting_of_the_vectors() {
    let file = vectors("rules.json");
    for case in file["cases"].as_array().unwrap() {
        let mut flag = json!({
            "state": "ENABLED", "variants": {"on": true, "off": false, "maybe": true},
            "defaultVariant": "off",
        });
        for (name, value) in object(&case["flag"]) {
            flag[name] = value.clone();
        }
        let mut document = json!({"flags": {"flag": flag}, "$evaluators": file["$evaluators"]});
        for (key, other) in object(&file["others"]) {
            document["flags"][key] = other.clone();
        }
        let segments = serde_json::from_value(file["segments"].clone()).unwrap();
        let options = tidegate_flags::CompileOptions::default();
        let (rules, _) = crate::support::compiled_with(&document, &segments, &options);
        let plain = flagd_json(&rules);
        assert_eq!(
            plain["flags"]["flag"]["targeting"], case["plain"],
            "{}",
            case["name"]
        );
        // What a third party makes of the plain document is what we make of the rules.
        let (again, _) = compiled(&plain);
        for unit in 0..200 {
            let plan = ["free", "pro"][unit % 2];
            let context = json!({
                "targetingKey": format!("unit-{unit}"), "plan": plan,
                "company": format!("company-{}", unit % 7),
            });
            for now in [0, 1_788_220_799, 1_788_220_800] {
                assert_eq!(
                    answer(&rules, "flag", &context, now),
                    answer(&again, "flag", &context, now),
                );
            }
        }
    }
}
