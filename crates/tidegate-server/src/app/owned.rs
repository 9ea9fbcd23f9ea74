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
        wanted.off_variant.clone_from(&current.off_variant);
    }
    for steering in app.rollouts.steering(project, key) {
        keep_rule(&mut wanted, current, &steering.rule, steering.is_active);
    }
    Ok(wanted)
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
