//! Policies at the door: what may start, and that no document can do worse than be refused.

use serde_json::{Value, json};
use tidegate_rollout::{
    MetricFacts, RolloutSpec, RolloutState, Severity, StartFacts, check_start, plan,
};

const DAY_US: i64 = 86_400 * 1_000_000;

fn policy() -> RolloutSpec {
    RolloutSpec::from_json(&json!({
        "flag": "new-checkout", "treatment": "on", "control": "off", "deadline_seconds": 3600,
        "stages": [{"share_bp": 100, "min_seconds": 60}, {"share_bp": 5000, "min_seconds": 60}],
        "guards": [{"metric": "checkout_errors"}, {"metric": "latency", "margin": 0.1}],
    }))
    .unwrap()
}

fn metric(name: &str, last_moved_us: Option<i64>) -> MetricFacts {
    MetricFacts {
        metric: name.to_owned(),
        last_moved_us,
        moved_under_synthetic_load: false,
        fired_on_injected_fault: None,
    }
}

fn healthy_facts() -> StartFacts {
    StartFacts {
        metrics: vec![
            metric("checkout_errors", Some(DAY_US)),
            metric("latency", Some(DAY_US)),
        ],
        variants: vec!["on".to_owned(), "off".to_owned()],
        audience_units_last_day: Some(10_000),
    }
}

fn refusals(facts: &StartFacts, now_us: i64) -> Vec<(String, String)> {
    check_start(&policy(), facts, now_us)
        .into_iter()
        .filter(|finding| finding.severity == Severity::Refuse)
        .map(|finding| (finding.pointer, finding.reason))
        .collect()
}

#[test]
fn a_start_is_refused_for_every_guard_that_cannot_fire() {
    assert_eq!(refusals(&healthy_facts(), DAY_US), []);

    let mut misspelt = healthy_facts();
    misspelt.metrics[0].metric = "checkout_error".to_owned();
    let found = refusals(&misspelt, DAY_US);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "/guards/0/metric");
    assert!(
        found[0].1.contains("did you mean \"checkout_error\"?"),
        "{found:?}"
    );

    let mut silent = healthy_facts();
    silent.metrics[1].last_moved_us = None;
    assert!(
        refusals(&silent, DAY_US)[0]
            .1
            .contains("has not moved ever")
    );
    silent.metrics[1].moved_under_synthetic_load = true;
    assert_eq!(refusals(&silent, DAY_US), []);

    let stale = refusals(&healthy_facts(), 3 * DAY_US);
    assert_eq!(stale.len(), 2, "{stale:?}");

    let mut deaf = healthy_facts();
    deaf.metrics[0].fired_on_injected_fault = Some(false);
    assert!(refusals(&deaf, DAY_US)[0].1.contains("did not fire"));

    let mut renamed = healthy_facts();
    renamed.variants = vec!["onn".to_owned(), "off".to_owned()];
    let found = refusals(&renamed, DAY_US);
    assert_eq!(found[0].0, "/treatment");
    assert!(found[0].1.contains("did you mean \"onn\"?"));
}

#[test]
fn an_audience_that_matched_nobody_is_warned_about() {
    let facts = StartFacts {
        audience_units_last_day: Some(0),
        ..healthy_facts()
    };
    let findings = check_start(&policy(), &facts, DAY_US);
    let audience: Vec<_> = findings
        .iter()
        .filter(|f| f.pointer == "/audience")
        .collect();
    assert_eq!(audience.len(), 1);
    assert_eq!(audience[0].severity, Severity::Warn);
}

#[test]
fn a_near_miss_of_a_field_name_is_named() {
    let document = json!({
        "flag": "f", "treatment": "on", "control": "off",
        "stages": [{"share_bp": 100, "min_secnds": 60}],
        "guards": [{"metric": "errors"}],
    });
    let error = RolloutSpec::from_json(&document).unwrap_err();
    assert_eq!(error.violations.len(), 1);
    assert_eq!(error.violations[0].pointer, "/stages/0/min_secnds");
    assert!(
        error.violations[0]
            .reason
            .contains("did you mean \"min_seconds\"?")
    );
}

#[test]
fn no_document_does_worse_than_be_refused() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        check_reading(&value);
    });
}

#[test]
fn no_mutation_of_a_policy_does_worse_than_be_refused() {
    let names = [
        "flag",
        "alpha",
        "stages",
        "guards",
        "no_data",
        "blind",
        "freezes",
        "harm_budget",
    ];
    bolero::check!().with_type::<(u8, i64, bool)>().for_each(|(which, number, nested)| {
        let mut document = json!({
            "flag": "f", "treatment": "on", "control": "off",
            "stages": [{"share_bp": 100}, {"share_bp": 10000}], "guards": [{"metric": "errors"}],
        });
        let name = names[usize::from(*which) % names.len()];
        let odd = if *nested { json!([{"share_bp": number, "metric": number}]) } else { json!(number) };
        document[name] = odd;
        check_reading(&document);
    });
}

/// Whatever is read can be planned with; whatever is refused says where and why.
fn check_reading(value: &Value) {
    match RolloutSpec::from_json(value) {
        Ok(spec) => {
            let made = plan(&spec, &RolloutState::new(), &Default::default(), 0);
            assert!(!made.actions.is_empty());
        }
        Err(error) => {
            assert!(!error.violations.is_empty());
            assert!(error.violations.iter().all(|v| !v.reason.is_empty()));
        }
    }
}
