//! The shares in which a flag has served its variants, as far as its definitions say so.
//!
//! A split is checked against the shares units were served in. The flag says them where its first
//! rule is a split or a rollout for everyone: rules for listed units, segments or conditions, and
//! flagd `targeting`, hold for audiences whose size no definition knows. Shares that changed
//! within the days asked about say nothing: a unit that was served one variant first and another
//! later is in no arm, so what is left of the earlier share is no fair sample.

use tidegate_flags::{FlagSpec, Serve, State};
use tidegate_store::StoredObject;

/// Revisions of a flag looked at; of one with more, the shares are not known.
pub const REVISIONS: u32 = 1000;

/// What is known of the shares a flag has served.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Served {
    /// No definition says so.
    #[default]
    Unknown,
    /// These, all the time that matters.
    Always(Vec<(String, f64)>),
    /// More than one set of shares.
    Changed,
}

impl Served {
    /// The shares a flag served from a moment on, or ever; `history` is every revision there is.
    #[must_use]
    pub fn since(from_us: Option<i64>, flag: &str, history: &[StoredObject]) -> Self {
        if history.len() >= usize::try_from(REVISIONS).unwrap_or(usize::MAX) {
            return Self::Unknown;
        }
        let mut history: Vec<&StoredObject> = history.iter().collect();
        history.sort_by_key(|object| object.revision);
        let is_past =
            |object: &&&StoredObject| from_us.is_some_and(|from| object.updated_at <= from);
        let first = history
            .iter()
            .rposition(|object| is_past(&object))
            .unwrap_or(0);
        let mut found = history
            .iter()
            .skip(first)
            .map(|object| shares_of(flag, object));
        let Some(Some(shares)) = found.next() else {
            return match found.next_back() {
                // Whatever it was, it is something that can be said now.
                Some(Some(_)) => Self::Changed,
                _ => Self::Unknown,
            };
        };
        match found.all(|later| later.as_ref() == Some(&shares)) {
            false => Self::Changed,
            true if shares.iter().filter(|(_, share)| *share > 0.0).count() < 2 => Self::Unknown,
            true => Self::Always(shares),
        }
    }
}

fn shares_of(flag: &str, object: &StoredObject) -> Option<Vec<(String, f64)>> {
    let spec = FlagSpec::from_json(flag, &object.spec).ok()?;
    if object.deleted || spec.killed.is_some() || spec.state == State::Disabled {
        return Some(Vec::new());
    }
    let everyone = |variant: &str| vec![(variant.to_owned(), 1.0)];
    let Some(rule) = spec.rules.first() else {
        let default = spec
            .default_variant
            .name()
            .filter(|_| spec.targeting.is_none());
        return default.map(everyone);
    };
    if !rule.applies_to_everyone() {
        return None;
    }
    let mut shares: Vec<(String, f64)> = Vec::new();
    let mut add = |variant: &str, share_bp: u16| {
        let known = shares.iter_mut().find(|(name, _)| name == variant);
        match known {
            Some((_, share)) => *share += f64::from(share_bp),
            None => shares.push((variant.to_owned(), f64::from(share_bp))),
        }
    };
    match &rule.serve {
        Serve::Variant(variant) => return Some(everyone(variant)),
        Serve::Split(split) => {
            for part in &split.weights {
                add(&part.variant, part.share_bp);
            }
        }
        Serve::Rollout(rollout) => {
            let allocation = rollout.allocation();
            for (variant, share_bp) in &allocation.treatments {
                add(variant, *share_bp);
            }
            add(&rollout.control, allocation.control_bp);
        }
    }
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tidegate_store::{Actor, ObjectKey, ObjectKind, ProjectKey};

    fn revision(number: u64, rules: Value) -> StoredObject {
        let at = i64::try_from(number).unwrap() * 100;
        StoredObject {
            project: ProjectKey::parse("default").unwrap(),
            kind: ObjectKind::Flag,
            key: ObjectKey::parse(ObjectKind::Flag, "f").unwrap(),
            revision: number,
            spec: json!({"state": "ENABLED", "variants": {"on": true, "off": false},
                         "defaultVariant": "off", "offVariant": "off", "rules": rules}),
            created_at: 100,
            updated_at: at,
            updated_by: Actor::system("test"),
            deleted: false,
        }
    }

    fn rollout(share: u16) -> Value {
        json!([{"id": "r", "rollout": {"treatment": "on", "control": "off", "share_bp": share}}])
    }

    #[test]
    fn shares_are_known_while_they_stayed_the_same() {
        let tenth = || {
            let shares = [("on", 1000.0), ("off", 9000.0)];
            Served::Always(
                shares
                    .map(|(name, share)| (name.to_owned(), share))
                    .to_vec(),
            )
        };
        let history = [
            revision(1, json!([])),
            revision(2, rollout(1000)),
            revision(3, rollout(1000)),
        ];
        assert_eq!(Served::since(None, "f", &history), Served::Changed);
        assert_eq!(Served::since(Some(150), "f", &history), Served::Changed);
        assert_eq!(Served::since(Some(200), "f", &history), tenth());
        assert_eq!(Served::since(None, "f", &history[1..]), tenth());
        assert_eq!(Served::since(None, "f", &history[..1]), Served::Unknown);
        assert_eq!(Served::since(None, "f", &[]), Served::Unknown);
        let mut audience = rollout(1000);
        audience[0]["if"] = json!({"==": [{"var": "plan"}, "pro"]});
        assert_eq!(
            Served::since(None, "f", &[revision(1, audience)]),
            Served::Unknown
        );
        let mut killed = revision(4, rollout(1000));
        killed.spec["killed"] = json!({"reason": "harm", "by": "ann", "at": 1});
        let killed = [history[2].clone(), killed];
        assert_eq!(Served::since(None, "f", &killed), Served::Changed);
    }
}
