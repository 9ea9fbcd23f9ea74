//! Starting a rollout: the policy is read, the flag gets its rule at share zero, the log begins.

use serde_json::{Value, json};
use tidegate_flags::FlagSpec;
use tidegate_rollout::RolloutSpec;
use tidegate_rollout::command::Command;
use tidegate_store::{Expected, ObjectChange, ObjectKind, StoredObject, Write};

use super::check::{self, StartCheck};
use super::{GuardSource, Standing};
use crate::access::Principal;
use crate::app::objects::{self, Place};
use crate::app::{App, AppError, Violation, actor_of};

/// What the id of a rollout's rule begins with.
pub(crate) const RULE_PREFIX: &str = "rollout-";

/// The id of the rule a rollout owns in its flag.
pub(crate) fn rule_id(rollout: &str) -> String {
    format!("{RULE_PREFIX}{rollout}")
}

/// Refuses a policy with everything that is wrong with it.
///
/// # Errors
/// All violations at once.
pub fn validate(spec: &Value, flag_is_known: bool) -> Result<(), AppError> {
    let policy = read(spec)?;
    let mut violations = Vec::new();
    if !flag_is_known {
        let message = format!("there is no flag {:?}; create it first, dark", policy.flag);
        violations.push(Violation::at("/flag", "unknown-flag", message));
    }
    for (index, guard) in policy.guards.iter().enumerate() {
        if GuardSource::of(&guard.metric).is_none() {
            let names = GuardSource::NAMES;
            let message = format!("metric {:?} is not measured; {names}", guard.metric);
            let pointer = format!("/guards/{index}/metric");
            violations.push(Violation::at(pointer, "unknown-metric", message));
        }
    }
    if violations.is_empty() {
        Ok(())
    } else {
        Err(AppError::Invalid(violations))
    }
}

pub(crate) fn read(spec: &Value) -> Result<RolloutSpec, AppError> {
    RolloutSpec::from_json(spec).map_err(|error| {
        let violation = |violation: tidegate_rollout::Violation| {
            Violation::at(violation.pointer, "bad-policy", violation.reason)
        };
        AppError::Invalid(error.violations.into_iter().map(violation).collect())
    })
}

/// What would be found if the rollout were started now; changes nothing.
///
/// # Errors
/// A policy or flag that does not fit; storage.
pub async fn check(app: &App, project: &str, key: &str) -> Result<StartCheck, AppError> {
    let (policy, flag) = prepare(app, project, key).await?;
    let sources = super::sources::prove(app, project, &policy).await?;
    let what = (&policy, &flag.with_rule);
    Ok(check::prove(app, (project, key), what, &sources))
}

/// Starts a rollout. Nobody is exposed by this: the planner takes the first step. Guards that are
/// not proven refuse the start, unless somebody says why it shall be started all the same.
///
/// # Errors
/// A policy or flag that does not fit; guards that are not proven; a rollout that has been started
/// before; storage.
pub async fn start(
    app: &App,
    principal: &Principal,
    (project, key): (&str, &str),
    unproven: Option<&str>,
) -> Result<(Standing, StartCheck), AppError> {
    let (policy, flag) = prepare(app, project, key).await?;
    let sources = super::sources::prove(app, project, &policy).await?;
    super::sources::insist(&sources)?;
    let what = (&policy, &flag.with_rule);
    let check = check::prove(app, (project, key), what, &sources);
    if unproven.is_none() {
        check::insist(&check)?;
    }
    let why = match unproven {
        Some(why) if !check.may_start => {
            format!("rollout {key} is started with guards that are not proven: {why}")
        }
        _ => format!("rollout {key} is started"),
    };
    give_rule(app, principal, flag, why).await?;
    let by = (actor_of(principal).to_string(), String::new());
    let standing = app.rollouts.ask((project, key), Command::Start, by).await?;
    Ok((standing, check))
}

/// A rollout's flag, as it is stored and as it is with the rollout's rule.
struct Prepared {
    place: Place,
    stored: StoredObject,
    with_rule: FlagSpec,
    had_rule: bool,
}

async fn prepare(app: &App, project: &str, key: &str) -> Result<(RolloutSpec, Prepared), AppError> {
    let place = Place::parse(project, ObjectKind::Rollout, key)?;
    let policy = read(&objects::read(app, &place).await?.spec)?;
    let place = Place::parse(project, ObjectKind::Flag, &policy.flag)?;
    let stored = objects::read(app, &place).await?;
    let mut definition = stored.spec.clone();
    let id = rule_id(key);
    let rules = definition
        .as_object_mut()
        .map(|object| object.entry("rules").or_insert_with(|| json!([])))
        .and_then(Value::as_array_mut)
        .ok_or_else(|| AppError::Internal("a stored flag is no object with rules".to_owned()))?;
    let had_rule = rules.iter().any(|rule| rule["id"] == json!(id));
    if !had_rule {
        rules.push(rule_at_zero(&id, &policy));
    }
    let with_rule = FlagSpec::from_json(&policy.flag, &definition)?;
    let prepared = Prepared {
        place,
        stored,
        with_rule,
        had_rule,
    };
    Ok((policy, prepared))
}

/// The rule by which a rollout exposes, exposing nobody yet.
pub(crate) fn rule_at_zero(id: &str, policy: &RolloutSpec) -> Value {
    let mut rule = json!({
        "id": id,
        "rollout": {
            "treatment": policy.treatment,
            "control": policy.control,
            "share_bp": 0,
        },
    });
    if let (Some(audience), Some(fields)) = (&policy.audience, rule.as_object_mut()) {
        fields.insert("if".to_owned(), audience.clone());
    }
    rule
}

/// Adds the rollout's rule to its flag at share zero, unless it is there.
async fn give_rule(
    app: &App,
    principal: &Principal,
    flag: Prepared,
    why: String,
) -> Result<(), AppError> {
    if flag.had_rule {
        return Ok(());
    }
    let Prepared { place, stored, .. } = flag;
    let spec = flag.with_rule.to_json();
    let mut change = ObjectChange::new(
        (place.project.clone(), place.kind, place.key.clone()),
        Expected::Revision(stored.revision),
        Write::Put(spec.clone()),
        actor_of(principal),
        app.clock.now_us(),
    )
    .with_reason(why);
    change.changes = crate::app::difference(Some(&stored.spec), Some(&spec));
    objects::commit(app, &place, change).await.map(|_| ())
}
