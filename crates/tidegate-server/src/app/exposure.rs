//! Whether an edit of a flag may expose anybody to something new: a pure comparison.
//!
//! Raising exposure is a right of its own, so an edit must not be a way around it. The comparison
//! looks at the two definitions and at nobody's traffic, and answers on the safe side: an edit
//! *cannot raise* if every unit gets what it got before, or the off variant, or falls from a
//! rollout's treatment to its control. Whatever cannot be seen to be so, may raise.
//!
//! What cannot raise:
//!
//! | edit | because |
//! |---|---|
//! | text for people: description, tags, metadata | nothing is decided by it |
//! | a new variant that nothing names yet | nobody gets it |
//! | a new rule that gives the off variant alone | whoever it takes gets off |
//! | a rule that now gives the off variant alone | the same |
//! | a lower share of a rollout | last in, first out: they get control |
//! | a rule taken away in front of nothing but off | whoever it took gets off |
//! | off as the default variant; targeting taken away in front of it | the same |
//! | anything at all, if the flag then gives the off variant alone | everybody gets off |
//!
//! What off is must not change with the edit. `DISABLED` is no lowering: it gives each caller its
//! own default, which nobody here knows.

use tidegate_flags::{FlagSpec, Rule, Serve, State};

/// The places of an edit that may raise exposure, as JSON pointers; none if it cannot.
///
/// A flag that was not there before gave each caller its own default; a new one may be dark.
#[must_use]
pub(crate) fn may_raise(before: Option<&FlagSpec>, after: &FlagSpec) -> Vec<String> {
    let Some(before) = before else {
        let is_dark = gives_only_off(after, 0);
        return (!is_dark).then(String::new).into_iter().collect();
    };
    let keeps_off = off_of(before).is_some() && off_of(before) == off_of(after);
    if keeps_off && gives_only_off(after, 0) {
        return Vec::new();
    }
    let mut places = whole_places(before, after, keeps_off);
    if !keeps_the_order(before, after) {
        places.push("/rules".to_owned());
        return places;
    }
    places.extend(added_or_changed(before, after));
    places.extend(removed(before, after));
    places
}

/// What is no rule.
fn whole_places(before: &FlagSpec, after: &FlagSpec, keeps_off: bool) -> Vec<String> {
    let mut places = Vec::new();
    let mut note = |is_safe: bool, place: &str| {
        if !is_safe {
            places.push(place.to_owned());
        }
    };
    note(before.state == after.state, "/state");
    note(keeps_off || off_of(before) == off_of(after), "/offVariant");
    for (name, value) in &before.variants {
        note(
            after.variants.get(name) == Some(value),
            &format!("/variants/{}", name.replace('~', "~0").replace('/', "~1")),
        );
    }
    let default_is_off = is_off(after, after.default_variant.name());
    note(
        before.default_variant == after.default_variant || default_is_off,
        "/defaultVariant",
    );
    let lost_targeting = after.targeting.is_none() && default_is_off;
    note(
        before.targeting == after.targeting || lost_targeting,
        "/targeting",
    );
    note(before.evaluators == after.evaluators, "/evaluators");
    note(before.bucketing == after.bucketing, "/bucketing");
    places
}

/// Whether the rules that stay are still asked in the order they were.
fn keeps_the_order(before: &FlagSpec, after: &FlagSpec) -> bool {
    let stays =
        |rule: &&Rule| rule_of(before, &rule.id).is_some() && rule_of(after, &rule.id).is_some();
    let ids = |spec: &FlagSpec| -> Vec<String> {
        let staying = spec.rules.iter().filter(stays);
        staying.map(|rule| rule.id.clone()).collect()
    };
    ids(before) == ids(after)
}

fn added_or_changed(before: &FlagSpec, after: &FlagSpec) -> Vec<String> {
    let may = |(_, rule): &(usize, &Rule)| match rule_of(before, &rule.id) {
        None => !serves_only_off(after, &rule.serve),
        Some(was) => !is_lower(after, was, rule),
    };
    let found = after.rules.iter().enumerate().filter(may);
    found.map(|(index, _)| format!("/rules/{index}")).collect()
}

/// Rules that are gone in front of something that exposes.
fn removed(before: &FlagSpec, after: &FlagSpec) -> Vec<String> {
    let mut places = Vec::new();
    // How many rules of `after` stand before the place of the rule at hand.
    let mut passed = 0;
    for rule in &before.rules {
        match after.rules.iter().position(|known| known.id == rule.id) {
            Some(at) => passed = at + 1,
            None if gives_only_off(after, passed) => {}
            None => places.push(format!("/rules/{}", rule.id)),
        }
    }
    places
}

/// Whether a rule that stays takes the same units and gives them no more than before.
fn is_lower(after: &FlagSpec, was: &Rule, now: &Rule) -> bool {
    let takes_the_same = Rule {
        description: now.description.clone(),
        serve: now.serve.clone(),
        ..was.clone()
    } == *now;
    takes_the_same && (serves_only_off(after, &now.serve) || gives_no_more(&was.serve, &now.serve))
}

fn gives_no_more(was: &Serve, now: &Serve) -> bool {
    match (was, now) {
        (Serve::Rollout(was), Serve::Rollout(now)) => {
            let share = now.allocation().treatment_bp;
            share <= was.allocation().treatment_bp && was.with_share(share) == *now
        }
        (was, now) => was == now,
    }
}

/// Whether a flag gives its off variant and nothing else from rule number `from` on.
fn gives_only_off(spec: &FlagSpec, from: usize) -> bool {
    spec.state == State::Enabled
        && is_off(spec, spec.default_variant.name())
        && spec.targeting.is_none()
        && spec
            .rules
            .iter()
            .skip(from)
            .all(|rule| serves_only_off(spec, &rule.serve))
}

/// Whether whoever a rule takes gets the off variant, whatever their bucket.
pub(crate) fn serves_only_off(spec: &FlagSpec, serve: &Serve) -> bool {
    match serve {
        Serve::Variant(variant) => is_off(spec, Some(variant)),
        Serve::Split(split) => split
            .weights
            .iter()
            .all(|range| range.share_bp == 0 || is_off(spec, Some(&range.variant))),
        Serve::Rollout(rollout) => rollout
            .ranges()
            .iter()
            .all(|range| range.share_bp == 0 || is_off(spec, Some(&range.variant))),
    }
}

fn is_off(spec: &FlagSpec, variant: Option<&str>) -> bool {
    variant.is_some_and(|variant| off_of(spec).is_some_and(|(off, _)| off == variant))
}

/// What a kill would serve: the variant's name and value.
fn off_of(spec: &FlagSpec) -> Option<(String, serde_json::Value)> {
    let killed = spec.kill("what is off?", "nobody", 0).ok()?;
    let name = killed.off_variant?;
    let value = spec.variants.get(&name)?.clone();
    Some((name, value))
}

fn rule_of<'s>(spec: &'s FlagSpec, id: &str) -> Option<&'s Rule> {
    spec.rules.iter().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn flag(change: impl FnOnce(&mut Value)) -> FlagSpec {
        let mut definition = json!({
            "state": "ENABLED",
            "variants": {"on": true, "off": false},
            "defaultVariant": "off",
            "offVariant": "off",
            "targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]},
            "rules": [
                {"id": "staff", "units": ["ada"], "variant": "on"},
                {"id": "ramp", "rollout": {"treatment": "on", "control": "off", "share_bp": 500}},
                {"id": "rest", "if": {"==": [{"var": "beta"}, true]}, "variant": "on"},
            ],
        });
        change(&mut definition);
        FlagSpec::from_json("f", &definition).unwrap()
    }

    fn rules(definition: &mut Value) -> &mut Vec<Value> {
        definition["rules"].as_array_mut().unwrap()
    }

    /// Each edit with the places that may raise exposure.
    #[test]
    fn an_edit_raises_unless_everybody_gets_what_they_got_or_off() {
        type Edit = fn(&mut Value);
        let table: [(&str, Edit, &[&str]); 26] = [
            ("nothing", |_| {}, &[]),
            ("a description", |d| d["description"] = json!("x"), &[]),
            ("tags", |d| d["tags"] = json!(["x"]), &[]),
            ("metadata", |d| d["metadata"] = json!({"a": 1}), &[]),
            (
                "a variant nobody gets",
                |d| d["variants"]["new"] = json!(true),
                &[],
            ),
            (
                "another value",
                |d| d["variants"]["on"] = json!(false),
                &["/variants/on"],
            ),
            (
                "another off",
                |d| d["offVariant"] = json!("on"),
                &["/offVariant"],
            ),
            (
                "the value of off",
                |d| d["variants"]["off"] = json!(true),
                &["/offVariant", "/variants/off"],
            ),
            (
                "another default",
                |d| d["defaultVariant"] = json!("on"),
                &["/defaultVariant"],
            ),
            (
                "no default",
                |d| d["defaultVariant"] = Value::Null,
                &["/defaultVariant"],
            ),
            ("disabled", |d| d["state"] = json!("DISABLED"), &["/state"]),
            (
                "wider targeting",
                |d| d["targeting"] = json!({"if": [{"==": [1, 1]}, "on"]}),
                &["/targeting"],
            ),
            (
                "no targeting before an off default",
                |d| {
                    d.as_object_mut().unwrap().shift_remove("targeting");
                },
                &[],
            ),
            (
                "a higher share",
                |d| d["rules"][1]["rollout"]["share_bp"] = json!(501),
                &["/rules/1"],
            ),
            (
                "a lower share",
                |d| d["rules"][1]["rollout"]["share_bp"] = json!(499),
                &[],
            ),
            (
                "another treatment at a lower share",
                |d| {
                    d["rules"][1]["rollout"] =
                        json!({"treatment": "off", "control": "on", "share_bp": 400});
                },
                &["/rules/1"],
            ),
            (
                "other units of the same share",
                |d| d["rules"][1]["rollout"]["seed"] = json!("another"),
                &["/rules/1"],
            ),
            (
                "more units",
                |d| d["rules"][0]["units"] = json!(["ada", "bob"]),
                &["/rules/0"],
            ),
            (
                "fewer units",
                |d| d["rules"][0]["units"] = json!(["bob"]),
                &["/rules/0"],
            ),
            (
                "a rule turned off",
                |d| d["rules"][0]["variant"] = json!("off"),
                &[],
            ),
            (
                "a rule that gives off, in front",
                |d| rules(d).insert(0, json!({"id": "no", "units": ["bob"], "variant": "off"})),
                &[],
            ),
            (
                "a rule that exposes, at the end",
                |d| rules(d).push(json!({"id": "more", "units": ["bob"], "variant": "on"})),
                &["/rules/3"],
            ),
            ("another order", |d| rules(d).swap(0, 1), &["/rules"]),
            (
                "a rule taken away in front of others",
                |d| {
                    rules(d).remove(0);
                },
                &["/rules/staff"],
            ),
            (
                "a rule taken away in front of nothing",
                |d| {
                    d.as_object_mut().unwrap().shift_remove("targeting");
                    rules(d).remove(2);
                },
                &[],
            ),
            (
                "dark for everybody",
                |d| {
                    let fields = d.as_object_mut().unwrap();
                    fields.shift_remove("targeting");
                    fields.shift_remove("rules");
                },
                &[],
            ),
        ];
        let before = flag(|_| {});
        for (name, edit, places) in table {
            assert_eq!(may_raise(Some(&before), &flag(edit)), places, "{name}");
        }
    }

    #[test]
    fn a_new_flag_may_be_dark_and_an_off_rule_may_not_be_lifted() {
        let dark = |d: &mut Value| {
            let fields = d.as_object_mut().unwrap();
            fields.shift_remove("targeting");
            fields.shift_remove("rules");
        };
        assert!(may_raise(None, &flag(dark)).is_empty());
        assert_eq!(may_raise(None, &flag(|_| {})), [""]);
        let held = |d: &mut Value| {
            rules(d).insert(0, json!({"id": "held", "units": ["bob"], "variant": "off"}));
        };
        assert_eq!(may_raise(Some(&flag(held)), &flag(|_| {})), ["/rules/held"]);
    }
}
