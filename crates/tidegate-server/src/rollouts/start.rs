//! Starting a rollout: the policy is read, the flag gets its rule at share zero, the log begins.

use serde_json::{Value, json};
use tidegate_flags::FlagSpec;
use tidegate_rollout::RolloutSpec;
use tidegate_rollout::command::Command;
use tidegate_store::{Expected, ObjectChange, ObjectKind, Write};

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
            let message = format!(
                "metric {:?} is not measured; guards can be `errors`, `latency` (each also of one \
                 request name, as in `errors/checkout`) and `conversions/NAME`",
                guard.metric
            );
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

/// Starts a rollout. Nobody is exposed by this: the planner takes the first step.
///
/// # Errors
/// A policy or flag that does not fit; a rollout that has been started before; storage.
pub async fn start(
    app: &App,
    principal: &Principal,
    project: &str,
    key: &str,
) -> Result<Standing, AppError> {
    let place = Place::parse(project, ObjectKind::Rollout, key)?;
    let policy = read(&objects::read(app, &place).await?.spec)?;
    give_rule(app, principal, project, key, &policy).await?;
    let by = (actor_of(principal).to_string(), String::new());
    app.rollouts.ask((project, key), Command::Start, by).await
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
    project: &str,
    key: &str,
    policy: &RolloutSpec,
) -> Result<(), AppError> {
    let place = Place::parse(project, ObjectKind::Flag, &policy.flag)?;
    let stored = objects::read(app, &place).await?;
    let mut definition = stored.spec.clone();
    let id = rule_id(key);
    let rules = definition
        .as_object_mut()
        .map(|object| object.entry("rules").or_insert_with(|| json!([])))
        .and_then(Value::as_array_mut)
        .ok_or_else(|| AppError::Internal("a stored flag is no object with rules".to_owned()))?;
    if rules.iter().any(|rule| rule["id"] == json!(id)) {
        return Ok(());
    }
    rules.push(rule_at_zero(&id, policy));
    let spec = FlagSpec::from_json(&policy.flag, &definition)?.to_json();
    let mut change = ObjectChange::new(
        (place.project.clone(), place.kind, place.key.clone()),
        Expected::Revision(stored.revision),
        Write::Put(spec.clone()),
        actor_of(principal),
        app.clock.now_us(),
    )
    .with_reason(format!("rollout {key} is started"));
    change.changes = crate::app::difference(Some(&stored.spec), Some(&spec));
    objects::commit(app, &place, change).await.map(|_| ())
}
