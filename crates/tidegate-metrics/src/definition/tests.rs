//! Definitions read in every spelling, and everything that is wrong with them named.

use super::*;
use proptest::prelude::*;

fn metric(spec: &Value) -> Result<Value, Vec<String>> {
    MetricDefinition::canonical(spec).map_err(pointers)
}

fn journey(spec: &Value) -> Result<Value, Vec<String>> {
    JourneyDefinition::canonical(spec).map_err(pointers)
}

fn pointers(problems: Vec<DefinitionProblem>) -> Vec<String> {
    problems
        .into_iter()
        .map(|problem| problem.pointer)
        .collect()
}

#[test]
fn a_metric_reads_in_every_spelling_and_back_from_its_canonical_form() {
    let canonical = json!({"measure": {"sum": {"event": {
        "kind": "track", "name": "purchase",
        "properties": [{"property": "country", "is": {"one_of": ["DE", "AT"]}}]}}},
        "winsorise": {"percentile": 0.99}, "covariate_seconds": 604_800});
    let flat = json!({"measure": "sum", "covariate_seconds": 604_800,
        "event": {"name": "purchase", "properties": {"country": ["DE", "AT"]}},
        "winsorise": {"percentile": 0.99}});
    assert_eq!(metric(&flat).unwrap(), canonical);
    assert_eq!(metric(&canonical).unwrap(), canonical);
    for measure in [
        json!({"count": {"event": "a"}}),
        json!({"mean": {"event": "a"}}),
        json!({"conversion": {"event": "a", "within_seconds": 60}}),
        json!({"ratio": {"numerator": {"event": "a", "of": "sum"},
                         "denominator": {"event": "b", "of": "count"}}}),
        json!({"quantile": {"event": {"kind": "request", "name": "GET /"}, "q": 0.95}}),
        json!({"retention": {"event": "a", "from_seconds": 1, "to_seconds": 2}}),
        json!({"time_between": {"from": "a", "to": "b"}}),
    ] {
        let spec = json!({"description": "what it is for", "measure": measure});
        let once = metric(&spec).unwrap();
        assert_eq!(metric(&once).unwrap(), once);
        assert_eq!(once["description"], "what it is for");
        let typed: MetricDefinition =
            serde_json::from_value(json!({"measure": once["measure"]})).unwrap();
        assert_eq!(typed, MetricDefinition::from_json(&spec).unwrap());
    }
}

#[test]
fn everything_wrong_with_a_metric_is_named_at_once() {
    let spec = json!({"measure": {"conversion": {
            "event": {"nmae": "x", "properties": [{"property": "", "is": {"equals": [1]}}]},
            "within_seconds": -5}},
        "winsorise": {"above": 1, "percentile": 0.9}, "colour": 1});
    assert_eq!(
        metric(&spec).unwrap_err(),
        [
            "/winsorise",
            "/measure/conversion/event/name",
            "/measure/conversion/event/properties/0/property",
            "/measure/conversion/event/properties/0/is",
            "/measure/conversion/event/nmae",
            "/measure/conversion/within_seconds",
            "/colour"
        ]
    );
    for (spec, pointer) in [
        (json!([]), ""),
        (json!({}), "/measure"),
        (json!({"measure": "median", "event": "a"}), "/measure"),
        (json!({"measure": {"median": {}}}), "/measure/median"),
        (
            json!({"measure": {"sum": {"event": "a"}, "count": {}}}),
            "/measure",
        ),
        (
            json!({"measure": {"quantile": {"event": "a"}}}),
            "/measure/quantile/q",
        ),
        (
            json!({"measure": {"quantile": {"event": "a", "q": 1.5}}}),
            "/measure/quantile/q",
        ),
        (
            json!({"measure": {"retention": {"event": "a"}}}),
            "/measure/retention/to_seconds",
        ),
        (
            json!({"measure": {"ratio": {"numerator": {"event": "a", "of": "sum"}}}}),
            "/measure/ratio/denominator",
        ),
        (
            json!({"measure": "count", "event": "a", "winsorise": {"above": -1}}),
            "/winsorise/above",
        ),
    ] {
        let found = metric(&spec).unwrap_err();
        assert!(found.contains(&pointer.to_owned()), "{spec}: {found:?}");
    }
}

#[test]
fn a_journey_reads_in_every_spelling_and_back_from_its_canonical_form() {
    let spec = json!({
        "steps": ["view", {"event": "start", "within_seconds": 60}, {"name": "done", "kind": "track"}],
        "within_seconds": 3600,
        "exclusions": [{"event": "cancel", "after_step": 1}],
        "reentry": "every_completion"});
    let canonical = journey(&spec).unwrap();
    assert_eq!(canonical["steps"][1]["within_seconds"], 60);
    assert_eq!(canonical["steps"][2]["event"]["name"], "done");
    assert_eq!(canonical["order"], "ordered");
    assert_eq!(journey(&canonical).unwrap(), canonical);
    let typed: JourneyDefinition = serde_json::from_value(canonical.clone()).unwrap();
    assert_eq!(typed, JourneyDefinition::from_json(&canonical).unwrap());
}

#[test]
fn everything_wrong_with_a_journey_is_named() {
    let spec =
        json!({"steps": ["", {"event": 3}], "order": "sideways", "exclusions": [{"event": "x"}]});
    assert_eq!(
        journey(&spec).unwrap_err(),
        [
            "/steps/0",
            "/steps/1/event",
            "/order",
            "/exclusions/0/after_step"
        ]
    );
    for (spec, pointer) in [
        (json!({}), "/steps"),
        (json!({"steps": []}), "/steps"),
        (json!({"steps": vec!["a"; 17]}), "/steps"),
        (
            json!({"steps": ["a", "b"], "exclusions": [{"event": "x", "after_step": 2}]}),
            "/exclusions/0/after_step",
        ),
        (
            json!({"steps": ["a"], "order": "strict", "exclusions": [{"event": "x", "after_step": 1}]}),
            "/exclusions",
        ),
    ] {
        let found = journey(&spec).unwrap_err();
        assert!(found.contains(&pointer.to_owned()), "{spec}: {found:?}");
    }
}

/// Documents made of the words that definitions use, in places where they do not belong.
fn any_document() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "description",
        "measure",
        "sum",
        "count",
        "ratio",
        "quantile",
        "conversion",
        "retention",
        "time_between",
        "event",
        "events",
        "name",
        "kind",
        "track",
        "properties",
        "property",
        "is",
        "equals",
        "one_of",
        "at_least",
        "present",
        "numerator",
        "denominator",
        "of",
        "q",
        "from",
        "to",
        "within_seconds",
        "from_seconds",
        "to_seconds",
        "winsorise",
        "above",
        "percentile",
        "covariate_seconds",
        "steps",
        "order",
        "any",
        "strict",
        "exclusions",
        "after_step",
        "reentry",
        "timed_from",
        "first_entry",
        "",
    ]);
    let word = words.clone().prop_map(Value::from);
    let number = prop_oneof![
        Just(json!(0)),
        Just(json!(1)),
        Just(json!(0.5)),
        Just(json!(-3))
    ];
    let leaf = prop_oneof![word, number, Just(Value::Null), Just(Value::from(true))];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        let member = (words.clone(), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            prop::collection::vec(member, 0..6).prop_map(|members| {
                let named = members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value));
                Value::Object(named.collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn any_document_is_refused_with_places_or_has_one_canonical_form(spec in any_document()) {
        match MetricDefinition::canonical(&spec) {
            Ok(once) => prop_assert_eq!(MetricDefinition::canonical(&once).unwrap(), once),
            Err(problems) => prop_assert!(!problems.is_empty()),
        }
        match JourneyDefinition::canonical(&spec) {
            Ok(once) => prop_assert_eq!(JourneyDefinition::canonical(&once).unwrap(), once),
            Err(problems) => prop_assert!(!problems.is_empty()),
        }
    }
}
