//! What the server owns inside a flag's definition, whoever edits the rest.
//!
//! A kill is set by `kill` and lifted by `revive`, and the share of a rollout's rule is moved by
//! its rollout: an edit of the definition, from a form, a file or a stale copy, changes neither.
//! Otherwise applying last week's files would lift a kill or open a change that was rolled back.

use tidegate_flags::{FlagSpec, Rule};

use super::{App, AppError, Violation};

/// The definition that is stored when `wanted` replaces `current`.
///
/// # Errors
/// A kill that is set or changed by an edit.
pub(crate) fn keep_owned(
    app: &App,
    project: &str,
    key: &str,
    current: Option<&FlagSpec>,
    mut wanted: FlagSpec,
) -> Result<FlagSpec, AppError> {
    let Some(current) = current else {
        return Ok(wanted);
    };
    if wanted.killed.is_some() && wanted.killed != current.killed {
        return Err(AppError::Invalid(vec![Violation::at(
            "/killed",
            "not-an-edit",
            "a kill is set by `flag kill` and lifted by `flag revive`; leave the field out",
        )]));
    }
    wanted.killed.clone_from(&current.killed);
    if wanted.killed.is_some() {
        keep_off_variant(&mut wanted, current);
    }
    let steering = app.rollouts.steering(project, key);
    let has_ended = |rule: &str| {
        steering
            .iter()
            .any(|held| held.rule == rule && !held.is_active)
    };
    for rule in current.rules.iter().filter(|rule| is_owned(&rule.id)) {
        keep_rule(&mut wanted, current, &rule.id, !has_ended(&rule.id));
    }
    // A rollout's rule that is new here exposes nobody: only its rollout raises it.
    let foreign: Vec<String> = wanted
        .rules
        .iter()
        .filter(|rule| is_owned(&rule.id) && current.rules.iter().all(|known| known.id != rule.id))
        .map(|rule| rule.id.clone())
        .collect();
    for id in foreign {
        if let Ok(shut) = wanted.with_rollout_share(&id, 0) {
            wanted = shut;
        }
    }
    Ok(wanted)
}

/// Whether a rule belongs to a rollout, by its id.
fn is_owned(rule: &str) -> bool {
    rule.starts_with(crate::rollouts::RULE_PREFIX)
}

/// What a killed flag serves stays what it serves, name and value.
fn keep_off_variant(wanted: &mut FlagSpec, current: &FlagSpec) {
    wanted.off_variant.clone_from(&current.off_variant);
    let off = current.off_variant.as_ref();
    if let Some((name, value)) = off.and_then(|name| Some((name, current.variants.get(name)?))) {
        wanted.variants.insert(name.clone(), value.clone());
    }
}

/// Puts a rollout's rule as it stands into `wanted`. An ended rollout's rule may be removed.
fn keep_rule(wanted: &mut FlagSpec, current: &FlagSpec, id: &str, is_active: bool) {
    let Some(at) = current.rules.iter().position(|rule| rule.id == id) else {
        return;
    };
    let own: Rule = current.rules[at].clone();
    match wanted.rules.iter().position(|rule| rule.id == id) {
        Some(place) => wanted.rules[place] = own,
        None if is_active => wanted.rules.insert(at.min(wanted.rules.len()), own),
        None => {}
    }
}
