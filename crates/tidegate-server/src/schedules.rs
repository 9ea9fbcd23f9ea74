//! Schedules whose author left: what would raise exposure does not happen any more.
//!
//! A rule with a moment in the future acts when nobody looks. Whoever wrote it answers for it; if
//! they may not sign in any more, nobody does. So their flag's schedule is *held*, as it stood when
//! they left: a rule that would begin later and expose somebody does not begin, and a rule that
//! gives the off variant does not end. What lowers exposure happens as written.
//!
//! The author is whoever wrote the flag's newest revision, acts of the system left out: to write a
//! definition is to stand for all of it, so saving the flag again takes a schedule over. Nothing is
//! stored: that somebody left, and when, says it all, and a restart finds the same.

use std::collections::BTreeMap;

use serde_json::Value;
use tidegate_flags::{FlagSpec, Rule, Warning};
use tidegate_store::{ActorKind, ObjectKind, StoreError, StoredObject};

use crate::app::App;
use crate::app::exposure::serves_only_off;

/// People in one page.
const PAGE: u32 = 1000;
/// Revisions looked through for a person's; beyond, only the system wrote for a long time.
const REVISIONS: u32 = 1000;

/// The flags whose author left, with the Unix second they left at.
///
/// # Errors
/// As storage says.
pub(crate) async fn held(
    app: &App,
    flags: &[StoredObject],
) -> Result<BTreeMap<String, i64>, StoreError> {
    let mut held = BTreeMap::new();
    let scheduled: Vec<&StoredObject> = flags
        .iter()
        .filter(|object| has_moment(&object.spec))
        .collect();
    if scheduled.is_empty() {
        return Ok(held);
    }
    let left = who_left(app).await?;
    if left.is_empty() {
        return Ok(held);
    }
    for object in scheduled {
        let author = author_of(app, object).await?;
        if let Some(at) = author.and_then(|author| left.get(&author)) {
            held.insert(object.key.as_str().to_owned(), *at);
        }
    }
    Ok(held)
}

fn has_moment(spec: &Value) -> bool {
    let rules = spec.get("rules").and_then(Value::as_array);
    rules.is_some_and(|rules| {
        rules
            .iter()
            .any(|rule| rule.get("from").is_some() || rule.get("until").is_some())
    })
}

/// When each person left who may not sign in any more, in Unix seconds.
async fn who_left(app: &App) -> Result<BTreeMap<String, i64>, StoreError> {
    let mut left = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = app.store()?.user_list(after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(left);
        };
        after = Some(last.id.clone());
        left.extend(page.into_iter().filter_map(|person| {
            let at_us = person.disabled_at?;
            Some((person.id, at_us.div_euclid(1_000_000)))
        }));
    }
}

/// The person who wrote the newest revision that the system did not write; `None` for a token.
async fn author_of(app: &App, object: &StoredObject) -> Result<Option<String>, StoreError> {
    let person = |object: &StoredObject| {
        (object.updated_by.kind == ActorKind::User).then(|| object.updated_by.id.clone())
    };
    if object.updated_by.kind != ActorKind::System {
        return Ok(person(object));
    }
    let store = app.store()?;
    let history = store
        .object_history(&object.project, ObjectKind::Flag, &object.key, REVISIONS)
        .await?;
    Ok(history
        .iter()
        .find(|revision| revision.updated_by.kind != ActorKind::System)
        .and_then(person))
}

/// The flag as its schedule stood at `left` (Unix seconds), and a warning for each rule that is
/// held.
#[must_use]
pub(crate) fn as_left(key: &str, spec: &FlagSpec, left: i64) -> (FlagSpec, Vec<Warning>) {
    let mut warnings = Vec::new();
    let mut next = spec.clone();
    next.rules.clear();
    for (index, rule) in spec.rules.iter().enumerate() {
        let is_off = serves_only_off(spec, &rule.serve);
        let begins_later = rule.from.as_ref().is_some_and(|from| from.seconds() > left);
        let ends_later = rule
            .until
            .as_ref()
            .is_some_and(|until| until.seconds() > left);
        let mut warn = |what: &str| {
            warnings.push(Warning {
                flag: Some(key.to_owned()),
                pointer: format!("/rules/{index}"),
                code: "held_schedule",
                message: format!(
                    "rule {:?} {what}: whoever wrote this schedule may not sign in any more; save \
                     the flag again to take it over",
                    rule.id
                ),
            });
        };
        if begins_later && !is_off {
            warn("does not begin");
            continue;
        }
        if ends_later && is_off {
            warn("does not end");
            next.rules.push(Rule {
                until: None,
                ..rule.clone()
            });
            continue;
        }
        next.rules.push(rule.clone());
    }
    (next, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_would_raise_is_held_and_what_lowers_happens() {
        let rule = |id: &str, variant: &str, from: i64, until: i64| json!({"id": id, "variant": variant, "from": from, "until": until, "units": ["ada"]});
        let spec = FlagSpec::from_json(
            "f",
            &json!({
                "state": "ENABLED", "variants": {"on": true, "off": false},
                "defaultVariant": "on", "offVariant": "off",
                "rules": [
                    rule("begins-after", "on", 2_000, 3_000),
                    rule("begun-before", "on", 500, 3_000),
                    rule("ends-after", "off", 500, 3_000),
                    rule("off-begins-after", "off", 2_000, 3_000),
                    rule("over-before", "on", 100, 900),
                ],
            }),
        )
        .unwrap();
        let (held, warnings) = as_left("f", &spec, 1_000);
        let rules: Vec<(&str, bool)> = held
            .rules
            .iter()
            .map(|rule| (rule.id.as_str(), rule.until.is_some()))
            .collect();
        assert_eq!(
            rules,
            [
                ("begun-before", true),
                ("ends-after", false),
                ("off-begins-after", false),
                ("over-before", true)
            ]
        );
        let places: Vec<&str> = warnings.iter().map(|w| w.pointer.as_str()).collect();
        assert_eq!(places, ["/rules/0", "/rules/2", "/rules/3"]);
        let (same, warnings) = as_left("f", &spec, 5_000);
        assert!(same == spec && warnings.is_empty(), "left after it all");
    }
}
