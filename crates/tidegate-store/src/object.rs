//! Objects: what a project consists of, under optimistic revisions.
//!
//! An object is a JSON document under (project, kind, key).
//! Its revision starts at 1 and grows by one with every write, deletion included; every
//! revision is kept.
//! A deletion leaves a tombstone: the key cannot be created again by accident, because code
//! that still asks for it would suddenly get another meaning; it takes [`Write::Revive`].
//!
//! This module knows the shapes and their limits, not what a specification means.
//!
//! What a change does, by the state it finds:
//!
//! | write | never there | live, revision r | tombstone, revision r |
//! |---|---|---|---|
//! | `Put`, expected `Absent` | created at 1 | `Exists` | `Tombstoned` |
//! | `Put`, expected `Revision(n)` | `NotFound` | r + 1 if n = r, else `Stale` | `Tombstoned` |
//! | `Put`, expected `Any` | `NotFound` | r + 1 | `Tombstoned` |
//! | `Delete`, expected `Revision(n)` or `Any` | `NotFound` | tombstone at r + 1, or `Stale` | `Tombstoned` |
//! | `Revive`, expected `Revision(n)` or `Any` | `NotFound` | `Exists` | r + 1 if n = r, else `Stale` |
//! | `Delete` or `Revive`, expected `Absent` | `Invalid` | `Invalid` | `Invalid` |

use serde_json::Value;

use crate::{
    actor::Actor,
    error::{StoreError, StoreResult},
    key::{ObjectKey, ProjectKey},
    outbox::OutboxMessage,
};

/// Largest specification, in bytes of its JSON text.
pub const SPEC_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of a specification; what is deeper could be written but not parsed again.
pub const SPEC_DEPTH_MAX: usize = 96;
/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 4096;
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 200;
/// Most changes in one transaction.
pub const CHANGES_PER_COMMIT_MAX: usize = 10_000;
/// Most entries in the difference kept with an audit entry; the server summarises beyond.
pub const FIELD_CHANGES_MAX: usize = 1000;
/// Largest difference kept with an audit entry, in bytes of its JSON text.
pub const FIELD_CHANGES_BYTES_MAX: usize = 1024 * 1024;

macro_rules! text_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in storage and on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::UnknownWord { expected: stringify!($name) }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use text_enum;

text_enum! {
    /// Kind of an object; the kinds are separate name spaces.
    ObjectKind {
        /// A flag and its rules.
        Flag => "flag",
        /// A named group of units.
        Segment => "segment",
        /// What the flags of a project have in common.
        Set => "set",
        /// A metric definition.
        Metric => "metric",
        /// A journey definition.
        Journey => "journey",
        /// A progressive or guarded rollout.
        Rollout => "rollout",
        /// An experiment.
        Experiment => "experiment",
        /// A destination of notifications.
        Webhook => "webhook",
        /// A source of delivery events.
        DeliverySource => "delivery-source",
        /// A source of metrics that somebody else keeps.
        Source => "source",
    }
}

/// One revision of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredObject {
    /// Project it belongs to.
    pub project: ProjectKey,
    /// Its kind.
    pub kind: ObjectKind,
    /// Its key.
    pub key: ObjectKey,
    /// Its revision, from 1.
    pub revision: u64,
    /// Its specification; of a tombstone, the last one.
    pub spec: Value,
    /// When the key was first written, microseconds since the Unix epoch.
    pub created_at: i64,
    /// When this revision was written, microseconds since the Unix epoch.
    pub updated_at: i64,
    /// Who wrote this revision.
    pub updated_by: Actor,
    /// Whether this revision is a tombstone.
    pub deleted: bool,
}

/// A row that cannot be decoded, kept out of the answer instead of failing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Its key, as found.
    pub key: String,
    /// Its revision.
    pub revision: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// A page of objects in byte order of their keys.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectPage {
    /// The live objects.
    pub objects: Vec<StoredObject>,
    /// Rows that are there and cannot be decoded.
    pub quarantined: Vec<Quarantined>,
    /// Where the next page starts, if there is one.
    pub next_after: Option<ObjectKey>,
}

/// What the writer believes about the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It was never there.
    Absent,
    /// It is at this revision.
    Revision(u64),
    /// Whatever its revision: for a kill, which must not lose to an editor.
    Any,
}

/// What is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Create or replace.
    Put(Value),
    /// Leave a tombstone.
    Delete,
    /// Put on top of a tombstone, knowingly.
    Revive(Value),
}

/// One line of the difference between two specifications, for people to read in the audit.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldChange {
    /// JSON pointer to the place.
    pub pointer: String,
    /// Value before; absent if it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Value after; absent if it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// A change of one object, with everything that must become true together with it.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectChange {
    /// Project.
    pub project: ProjectKey,
    /// Kind.
    pub kind: ObjectKind,
    /// Key.
    pub key: ObjectKey,
    /// What the writer believes.
    pub expected: Expected,
    /// What is written.
    pub write: Write,
    /// Who writes.
    pub actor: Actor,
    /// Action named in the audit, such as `flag.kill`; by default kind and verb
    /// (`flag.create`, `flag.update`, `flag.delete`, `flag.revive`).
    pub action: Option<String>,
    /// Why, in the writer's words.
    pub reason: Option<String>,
    /// Now, microseconds since the Unix epoch.
    pub now_us: i64,
    /// The difference, for the audit.
    pub changes: Vec<FieldChange>,
    /// Messages that leave if, and only if, the change is committed.
    pub outbox: Vec<OutboxMessage>,
    /// Makes the change happen once: a second commit of the same change under the same key in
    /// the project returns the first result.
    pub idempotency_key: Option<String>,
}

impl ObjectChange {
    /// A change without reason, difference, messages or idempotency key.
    pub fn new(
        (project, kind, key): (ProjectKey, ObjectKind, ObjectKey),
        expected: Expected,
        write: Write,
        actor: Actor,
        now_us: i64,
    ) -> Self {
        Self {
            project,
            kind,
            key,
            expected,
            write,
            actor,
            action: None,
            reason: None,
            now_us,
            changes: Vec::new(),
            outbox: Vec::new(),
            idempotency_key: None,
        }
    }

    /// The same change with a reason.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The same change, happening once under `key`.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Name of the object in messages: kind and key.
    pub(crate) fn what(&self) -> String {
        format!("{} {}", self.kind, self.key)
    }

    /// Checks everything that does not depend on stored state.
    pub(crate) fn validate(&self) -> StoreResult<()> {
        if let Write::Put(spec) | Write::Revive(spec) = &self.write {
            validate_json("spec", spec, SPEC_BYTES_MAX)?;
        }
        let absent_is_meant_for_put = matches!(self.write, Write::Put(_));
        if self.expected == Expected::Absent && !absent_is_meant_for_put {
            return Err(StoreError::invalid(
                "expected",
                "absent is only expected by a put",
            ));
        }
        self.actor.validate()?;
        within("reason", self.reason.as_deref(), REASON_BYTES_MAX)?;
        within(
            "idempotency_key",
            self.idempotency_key.as_deref(),
            IDEMPOTENCY_KEY_MAX,
        )?;
        within("action", self.action.as_deref(), 100)?;
        validate_field_changes(&self.changes)?;
        self.outbox.iter().try_for_each(OutboxMessage::validate)
    }
}

/// Result of a committed change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Revision of the object after the change.
    pub revision: u64,
    /// Configuration version of the project after the change.
    pub config_version: u64,
    /// Epoch of the store.
    pub epoch: u64,
    /// Sequence of the audit entry.
    pub audit_sequence: u64,
}

impl Committed {
    /// Version of the configuration that contains the change.
    pub fn version(&self) -> ConfigVersion {
        ConfigVersion {
            epoch: self.epoch,
            version: self.config_version,
        }
    }
}

/// Version of a project's configuration.
///
/// A restored backup has an older version number in a newer epoch, so versions compare by
/// epoch first: clients accept a restored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigVersion {
    /// Raised by one at each restore.
    pub epoch: u64,
    /// Raised by one at each committed change of the project.
    pub version: u64,
}

/// Everything that evaluation needs of a project, read in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Configuration version.
    pub config_version: u64,
    /// Epoch of the store.
    pub epoch: u64,
    /// Live flags in byte order of their keys.
    pub flags: Vec<StoredObject>,
    /// Live segments in byte order of their keys.
    pub segments: Vec<StoredObject>,
    /// What the flags have in common; at most one is made by the server.
    pub sets: Vec<StoredObject>,
    /// Flags, segments and sets that cannot be decoded; the others are unharmed.
    pub quarantined: Vec<Quarantined>,
}

impl Snapshot {
    /// Version of the configuration.
    pub fn version(&self) -> ConfigVersion {
        ConfigVersion {
            epoch: self.epoch,
            version: self.config_version,
        }
    }
}

/// Refuses text that is empty or longer than `max` bytes.
pub(crate) fn within(field: &'static str, text: Option<&str>, max: usize) -> StoreResult<()> {
    match text {
        Some("") => Err(StoreError::invalid(field, "it is empty")),
        Some(text) if text.len() > max => Err(StoreError::invalid(
            field,
            format!("it has {} bytes, {max} are allowed", text.len()),
        )),
        _ => Ok(()),
    }
}

/// Refuses a difference that is too long to be kept.
pub(crate) fn validate_field_changes(changes: &[FieldChange]) -> StoreResult<()> {
    if changes.len() > FIELD_CHANGES_MAX {
        return Err(StoreError::invalid(
            "changes",
            format!("{} entries, {FIELD_CHANGES_MAX} are allowed", changes.len()),
        ));
    }
    let len = serde_json::to_string(changes).map_or(usize::MAX, |text| text.len());
    if len > FIELD_CHANGES_BYTES_MAX {
        return Err(StoreError::invalid(
            "changes",
            format!("{len} bytes as JSON, {FIELD_CHANGES_BYTES_MAX} are allowed"),
        ));
    }
    Ok(())
}

/// Refuses JSON that is too large or too deep to be stored and read again.
pub(crate) fn validate_json(
    field: &'static str,
    value: &Value,
    bytes_max: usize,
) -> StoreResult<()> {
    if !is_shallower_than(value, SPEC_DEPTH_MAX) {
        return Err(StoreError::invalid(
            field,
            format!("it is nested deeper than {SPEC_DEPTH_MAX} levels"),
        ));
    }
    let len = json_text(value).len();
    if len > bytes_max {
        return Err(StoreError::invalid(
            field,
            format!("it has {len} bytes as JSON, {bytes_max} are allowed"),
        ));
    }
    Ok(())
}

/// The JSON text that is stored and digested for a value.
pub(crate) fn json_text(value: &Value) -> String {
    value.to_string()
}

/// Walks with an explicit stack, since recursion over hostile depth would overflow.
fn is_shallower_than(value: &Value, max: usize) -> bool {
    let mut pending = vec![(value, 1_usize)];
    while let Some((value, depth)) = pending.pop() {
        if depth > max {
            return false;
        }
        match value {
            Value::Array(items) => pending.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => pending.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    true
}
