//! What Tidegate itself does to exposure, written to the delivery log exactly once.
//!
//! A reconciler: it takes no input, looks every second whether the audit chain or a rollout's log has grown, and
//! writes what it reads there.
//! * A change of a flag's share (a raise, a kill, a rollback, an edit, a deletion) is in the audit chain; its row is
//!   named by the entry, so a chain that is read twice gives the same rows once.
//! * Stages, rollbacks and decisions are in the rollouts' own logs ([`super::own_rollouts`]).
//!
//! **Exactly once.** Rows are made of immutable records alone, their ids are the records', and the delivery log holds
//! each id once. Where reading goes on is remembered after the append; losing that costs reading again, nothing else.
//! The ids carry the epoch of the store, because a restored store counts its entries again from an earlier one.
//!
//! **Share.** Of a flag's units, how many get other than its off variant, as far as the definition says so by itself:
//! rollouts, splits and variants for everyone. Rules for listed units or segments, conditions and flagd `targeting`
//! hold for audiences whose size the definition does not know; they count as no share.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_delivery::event::{EventBody, ExposureSeen};
use tidegate_delivery::{DeliveryEvent, problems_of};
use tidegate_flags::{FlagSpec, Serve, State};
use tidegate_store::{
    AuditEntry, AuditQuery, ObjectKey, ObjectKind, ProjectKey, Store, StoreError, StoredObject,
};
use tokio_util::sync::CancellationToken;

use super::own_rollouts::Followed;
use super::settings::moment;
use crate::app::{App, AppError};

/// Source of the rows that Tidegate writes itself.
pub const SOURCE: &str = "tidegate";

/// How often is looked whether there is something to write.
const EVERY: Duration = Duration::from_secs(1);
/// Audit entries read at a time.
const PAGE: u32 = 500;
/// Revisions of a flag read at a time; an entry about an older one is passed over with a warning.
const REVISIONS: u32 = 1000;
/// Where in the audit chain reading goes on.
const POSITION: &str = "delivery/audit-position";
/// Everyone, in basis points.
const EVERYONE_BP: u16 = 10_000;

/// Why a look was not finished; the next one begins where this one did.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error("storage: {0}")]
    Store(#[from] StoreError),
    #[error("the delivery log: {0}")]
    Log(#[from] AppError),
}

/// Runs until `shutdown`, and looks once more then.
pub async fn run(app: App, shutdown: CancellationToken) {
    let mut timer = tokio::time::interval(EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut position = None;
    let mut followed = Followed::default();
    loop {
        let is_last = tokio::select! {
            () = shutdown.cancelled() => true,
            _ = timer.tick() => false,
        };
        if app.storage.get().is_some()
            && let Err(error) = look(&app, &mut position, &mut followed).await
        {
            tracing::warn!(%error, "exposures and rollbacks wait to be written to the delivery log");
        }
        if is_last {
            return;
        }
    }
}

async fn look(
    app: &App,
    position: &mut Option<u64>,
    followed: &mut Followed,
) -> Result<(), LookError> {
    let store = app.store()?;
    let from = match *position {
        Some(position) => position,
        None => kept_position(store).await?,
    };
    *position = Some(from);
    let head = store.audit_head().await?.sequence;
    // A restored store may end before the kept position: its entries are new.
    let mut after = if from > head { 0 } else { from };
    let has_grown = after < head;
    while after < head {
        after = exposures(app, store, after).await?;
        store.kv_put(POSITION, after.to_string().as_bytes()).await?;
        *position = Some(after);
    }
    followed.look(app, store, has_grown).await
}

async fn kept_position(store: &dyn Store) -> Result<u64, StoreError> {
    let kept = store.kv_get(POSITION).await?;
    let text = kept.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Writes one page of the audit chain and says how far it went.
async fn exposures(app: &App, store: &dyn Store, after: u64) -> Result<u64, LookError> {
    let query = AuditQuery {
        after,
        limit: PAGE,
        ..AuditQuery::default()
    };
    let entries = store.audit_list(&query).await?;
    let Some(last) = entries.last().map(|entry| entry.sequence) else {
        return Ok(after + 1);
    };
    let mut histories: BTreeMap<(String, String), Vec<StoredObject>> = BTreeMap::new();
    let mut rows: BTreeMap<String, Vec<DeliveryEvent>> = BTreeMap::new();
    for entry in &entries {
        let Some((project, flag, revision)) = flag_change(entry) else {
            continue;
        };
        let name = (project.as_str().to_owned(), flag.as_str().to_owned());
        if !histories.contains_key(&name) {
            let history = store
                .object_history(&project, ObjectKind::Flag, &flag, REVISIONS)
                .await?;
            histories.insert(name.clone(), history);
        }
        let history = histories.get(&name).map_or(&[][..], Vec::as_slice);
        if let Some(row) = exposure(entry, &name.1, revision, history) {
            rows.entry(name.0).or_default().push(row);
        }
    }
    for (project, rows) in rows {
        append(app, &project, rows).await?;
    }
    Ok(last)
}

/// Appends rows that may enter a log; one that may not (a key longer than a row may carry) is told of and left out.
pub(super) async fn append(
    app: &App,
    project: &str,
    rows: Vec<DeliveryEvent>,
) -> Result<(), AppError> {
    let (fit, unfit): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|row| problems_of(row).is_empty());
    for row in unfit {
        tracing::error!(id = row.id, "an own event does not fit the delivery log");
    }
    if fit.is_empty() {
        return Ok(());
    }
    app.delivery.append(project, fit).await.map(|_| ())
}

fn flag_change(entry: &AuditEntry) -> Option<(ProjectKey, ObjectKey, u64)> {
    let object = entry.object.as_ref()?;
    if object.kind != ObjectKind::Flag.as_str() {
        return None;
    }
    let project = ProjectKey::parse(entry.project.as_deref()?).ok()?;
    let flag = ObjectKey::parse(ObjectKind::Flag, &object.key).ok()?;
    Some((project, flag, entry.revision?))
}

/// The row of an entry, if the share at its revision is another than before.
fn exposure(
    entry: &AuditEntry,
    flag: &str,
    revision: u64,
    history: &[StoredObject],
) -> Option<DeliveryEvent> {
    let at = |wanted: u64| history.iter().find(|object| object.revision == wanted);
    let Some(now) = at(revision) else {
        tracing::warn!(
            flag.key = flag,
            revision,
            "a revision is not kept; its exposure is not written"
        );
        return None;
    };
    let before = match revision.checked_sub(1).and_then(at) {
        Some(before) => share_of_object(flag, before),
        None => 0,
    };
    let share_bp = share_of_object(flag, now);
    (share_bp != before).then(|| DeliveryEvent {
        at: moment(entry.at_us),
        source: SOURCE.to_owned(),
        id: format!("audit/{}/{}", entry.epoch, entry.sequence),
        body: EventBody::Exposure(ExposureSeen {
            flag: flag.to_owned(),
            share_bp,
        }),
    })
}

fn share_of_object(flag: &str, object: &StoredObject) -> u16 {
    if object.deleted {
        return 0;
    }
    FlagSpec::from_json(flag, &object.spec).map_or(0, |spec| share_of(&spec))
}

/// Share of units that get other than the off variant, basis points.
fn share_of(spec: &FlagSpec) -> u16 {
    if spec.killed.is_some() || spec.state == State::Disabled {
        return 0;
    }
    let off = off_variant(spec);
    let is_new = |variant: &str| off.is_some_and(|off| off != variant);
    let mut share = 0;
    for rule in &spec.rules {
        let (part, holds_for_all) = match &rule.serve {
            Serve::Rollout(rollout) => (
                rollout.allocation().treatment_bp,
                rule.applies_to_everyone(),
            ),
            Serve::Variant(variant) if rule.applies_to_everyone() => {
                (if is_new(variant) { EVERYONE_BP } else { 0 }, true)
            }
            Serve::Split(split) if rule.applies_to_everyone() => {
                let new = split.weights.iter().filter(|part| is_new(&part.variant));
                (new.map(|part| part.share_bp).sum(), true)
            }
            Serve::Variant(_) | Serve::Split(_) => continue,
        };
        share = share.max(part);
        if holds_for_all {
            return share;
        }
    }
    let by_default = spec.targeting.is_none() && spec.default_variant.name().is_some_and(is_new);
    if by_default { EVERYONE_BP } else { share }
}

/// The variant that means "nothing new": the one a kill serves, else the only one that is `false`.
fn off_variant(spec: &FlagSpec) -> Option<&str> {
    if let Some(off) = &spec.off_variant {
        return Some(off);
    }
    let mut off = spec
        .variants
        .iter()
        .filter(|(_, value)| value.as_bool() == Some(false));
    match (off.next(), off.next()) {
        (Some((name, _)), None) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn share(change: Value) -> u16 {
        let mut flag = json!({
            "state": "ENABLED",
            "variants": {"on": true, "off": false},
            "defaultVariant": "off",
            "offVariant": "off",
        });
        for (name, value) in change.as_object().unwrap() {
            flag[name] = value.clone();
        }
        share_of(&FlagSpec::from_json("f", &flag).unwrap())
    }

    #[test]
    fn a_share_is_what_the_definition_itself_says() {
        let rollout = |bp: u16| json!({"id": "r", "rollout": {"treatment": "on", "control": "off", "share_bp": bp}});
        let mut for_some = rollout(700);
        for_some["if"] = json!({"==": [{"var": "plan"}, "pro"]});
        let cases = [
            (json!({}), 0),
            (json!({"defaultVariant": "on"}), 10_000),
            (json!({"defaultVariant": "on", "offVariant": null}), 10_000),
            (json!({"defaultVariant": "on", "state": "DISABLED"}), 0),
            (json!({"rules": [rollout(250)]}), 250),
            (json!({"rules": [rollout(0)], "defaultVariant": "on"}), 0),
            (json!({"rules": [for_some]}), 700),
            (
                json!({"rules": [{"id": "team", "units": ["ann"], "variant": "on"}]}),
                0,
            ),
            (json!({"rules": [{"id": "all", "variant": "on"}]}), 10_000),
            (
                json!({"defaultVariant": "on",
                       "killed": {"reason": "harm", "by": "ann", "at": 1}}),
                0,
            ),
        ];
        for (change, expected) in cases {
            let mut change = change;
            if change["offVariant"] == Value::Null {
                change.as_object_mut().unwrap().remove("offVariant");
            }
            assert_eq!(share(change.clone()), expected, "{change}");
        }
    }
}
