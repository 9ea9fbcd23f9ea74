//! The delivery log's row: one observation about one change on its way.
//!
//! Shaped after CDEvents: a context (source, id, time) and a subject.
//! What Tidegate alone knows (exposure, rollout stages, rollbacks, decisions) are further subjects.
//! Rows are observations, not states: a deployment that starts, finishes and is dated again is three rows
//! with one `deployment` name, and [`crate::Timeline`] folds them.
//! These types are the persisted contract of log format 1: fields are added as optional, never renamed.
//!
//! Must not know: who did something. No row has a field for a person, so no number can rank one.
//! The one person-shaped field, the author of a correction, is an audit entry and enters no metric.
//!
//! Values order totally (integers, texts, no floats), because the fold resolves every conflict by order alone.

use serde::{Deserialize, Serialize};

use crate::moment::{Moment, MomentError};

/// Longest text a row may carry in one field, bytes.
pub const MAX_TEXT_BYTES: usize = 1024;
/// Most names a list field may carry (parents, services, flags).
pub const MAX_LIST_ITEMS: usize = 256;

/// One row of the delivery log.
///
/// `(source, id)` names the delivery: a second row with the same pair is the same delivery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryEvent {
    /// When it happened, by the sender's clock.
    pub at: Moment,
    /// Who told us: `github`, `csv:govuk`, `git:whitehall`, `tidegate`.
    pub source: String,
    /// The sender's name for this delivery.
    pub id: String,
    /// What happened.
    pub body: EventBody,
}

/// The subject of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// A version was put, or tried to be put, somewhere.
    Deployment(DeploymentSeen),
    /// A commit exists.
    Commit(CommitSeen),
    /// A version names a commit: a tag, an image, a package.
    Artifact(ArtifactSeen),
    /// A service is built from a repository.
    Service(ServiceSeen),
    /// A pull or merge request moved.
    PullRequest(PullRequestSeen),
    /// An incident was reported, or moved.
    Incident(IncidentSeen),
    /// A piece of work was created, started, finished.
    Item(ItemSeen),
    /// The share of units a flag exposes changed.
    Exposure(ExposureSeen),
    /// A rollout entered a stage.
    Stage(StageSeen),
    /// A rollout was rolled back, by itself or by hand.
    Rollback(RollbackSeen),
    /// An experiment or rollout was decided.
    Decision(DecisionSeen),
    /// A person corrected an attribution.
    Correction(Correction),
    /// What a commit changes, by identity: copies of one change (rebased, cherry-picked) share it.
    Patch(PatchSeen),
}

/// How a deployment attempt ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Under way.
    Started,
    /// The version did not get there.
    Failed,
    /// The version runs.
    #[default]
    Succeeded,
}

/// Why a deployment was made, where the sender says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Ordinary work.
    Planned,
    /// An unplanned repair of something in production.
    Hotfix,
    /// A return to an earlier version.
    Rollback,
}

/// `dev.cdevents.service.deployed` and its kin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentSeen {
    /// What was deployed.
    pub service: String,
    /// Where to.
    pub environment: String,
    /// The version as written in the deployment record; absent when the record is blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The commit, where the sender names it apart from the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Name of the deployment within the source; rows of one name are one deployment. Absent: the row's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The pipeline run it was a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "is_success")]
    pub outcome: Outcome,
    /// When it began, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
    /// Why it was made, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde calls"
)]
fn is_success(outcome: &Outcome) -> bool {
    *outcome == Outcome::Succeeded
}

/// A commit and what its message says; the row's `at` is the committer date.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitSeen {
    /// Repository name.
    pub repository: String,
    /// Full hexadecimal id.
    pub commit: String,
    /// Parents, first parent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// Author date; absent when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authored_at: Option<Moment>,
    /// Pull request that the subject names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<u32>,
    /// Services whose paths it touches; absent means all services of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
    /// Commits it reverts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reverts: Vec<String>,
    /// Commit it was cherry-picked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picked_from: Option<String>,
    /// Identity of the patch, where the sender computes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_id: Option<String>,
    /// Flags the change is dark behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// The identity of what a commit changes, told apart from the commit because it is worked out only where two
/// commits may be copies of each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchSeen {
    /// Repository name.
    pub repository: String,
    /// Full hexadecimal commit id.
    pub commit: String,
    /// The identity; only equality means anything.
    pub patch_id: String,
}

/// A version that names a commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactSeen {
    /// Repository name.
    pub repository: String,
    /// The version, as deployment records write it.
    pub version: String,
    /// Full hexadecimal commit id.
    pub commit: String,
}

/// A service and where its code lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSeen {
    /// Service name, as deployment records write it.
    pub service: String,
    /// Repository name.
    pub repository: String,
    /// Whether a version that is a bare commit id is looked up as a commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resolve_commit_ids: bool,
    /// Whether a single commit whose subject ends in `(#7)` is a squashed pull request.
    /// Unless the pull request itself is in the log, such a subject may as well mention an issue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub squash_merges: bool,
    /// Team that owns the service, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

/// A pull or merge request; every time is optional, a later row adds to an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRequestSeen {
    /// Repository name.
    pub repository: String,
    /// Its number.
    pub number: u32,
    /// Author date of its earliest commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_commit_at: Option<Moment>,
    /// Opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Moment>,
    /// Left draft; review cannot start before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Moment>,
    /// First review by a person other than the author; reviews by programs do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_review_at: Option<Moment>,
    /// Merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_at: Option<Moment>,
    /// Closed without merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Moment>,
    /// Commit it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_commit: Option<String>,
    /// Lines added and removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_lines: Option<u64>,
    /// Number of the pull request it reverts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts: Option<u32>,
}

/// `dev.cdevents.incident.*`; a later row adds to an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentSeen {
    /// Its name within the source.
    pub incident: String,
    /// Service it hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Environment; absent means the one asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// One line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// As the sender grades it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// First noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_at: Option<Moment>,
    /// Over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Moment>,
    /// Deployment that caused it, as named by the sender (deployment name, version or commit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<String>,
    /// Deployment or version that repaired it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_by: Option<String>,
    /// Rollout or flag whose rollback opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// Where the steps to take are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// What showed the harm, in one sentence: a guard's figures, an alert's expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// A piece of work; a later row adds to an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemSeen {
    /// Its name within the source.
    pub item: String,
    /// Service or board it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Kind as the source names it (feature, bug).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The idea was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Moment>,
    /// Work began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
    /// Work ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Moment>,
    /// From the row's time on the item is waiting (`true`) or worked on (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<bool>,
}

/// `dev.cdeventsx.tidegate-flag.exposed`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExposureSeen {
    /// Flag key.
    pub flag: String,
    /// Share of units that get the new behaviour from now on, basis points (0 to 10,000).
    pub share_bp: u16,
}

/// `dev.cdeventsx.tidegate-rollout.staged`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSeen {
    /// Rollout key.
    pub rollout: String,
    /// Flag key.
    pub flag: String,
    /// Stage number, from 0.
    pub stage: u32,
    /// Share of units in this stage, basis points.
    pub share_bp: u16,
}

/// `dev.cdeventsx.tidegate-rollout.rolledback`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackSeen {
    /// Rollout key.
    pub rollout: String,
    /// Flag key.
    pub flag: String,
    /// Whether the guard did it, not a person.
    pub automatic: bool,
    /// Guard metric that showed harm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<String>,
    /// First moment at which units were exposed to the harm, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact_from: Option<Moment>,
    /// Service whose change was behind the flag, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What showed the harm, or why a person went back, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// `dev.cdeventsx.tidegate-experiment.decided`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionSeen {
    /// Flag key.
    pub flag: String,
    /// The decision in one word (`ship`, `stop`, `iterate`).
    pub decision: String,
}

/// A person's ruling about one deployment; the latest ruling holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correction {
    /// Id of the deployment as `--explain` prints it.
    pub deployment: String,
    /// What holds instead.
    pub ruling: Ruling,
    /// Why, in the person's words.
    pub reason: String,
    /// Who ruled, for the audit trail only.
    pub by: String,
}

/// What a correction says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// It failed.
    Failed,
    /// It did not fail.
    DidNotFail,
    /// It was an unplanned repair.
    Rework,
    /// It was ordinary work.
    Planned,
    /// It was a deliberate return to an earlier version.
    Rollback,
    /// It was an older version arriving late, nothing else.
    OutOfOrder,
}

impl EventProblem {
    /// JSON pointer into the row.
    #[must_use]
    pub const fn pointer(&self) -> &'static str {
        match self {
            Self::Empty { pointer }
            | Self::TooLong { pointer, .. }
            | Self::TooMany { pointer, .. }
            | Self::Share { pointer, .. }
            | Self::CommitId { pointer }
            | Self::Time { pointer, .. } => pointer,
        }
    }
}

/// What is wrong with a row, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventProblem {
    /// A required text is empty.
    #[error("{pointer} is empty; give a value")]
    Empty {
        /// JSON pointer into the row.
        pointer: &'static str,
    },
    /// A text is too long.
    #[error("{pointer} has {bytes} bytes, more than {MAX_TEXT_BYTES}")]
    TooLong {
        /// JSON pointer into the row.
        pointer: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A list is too long.
    #[error("{pointer} has {items} items, more than {MAX_LIST_ITEMS}")]
    TooMany {
        /// JSON pointer into the row.
        pointer: &'static str,
        /// Its length.
        items: usize,
    },
    /// A share outside 0 to 10,000 basis points.
    #[error("{pointer} is {share_bp}; a share is 0 to 10000 basis points")]
    Share {
        /// JSON pointer into the row.
        pointer: &'static str,
        /// What was given.
        share_bp: u16,
    },
    /// A commit id that is not one.
    #[error("{pointer} is not a full commit id of 40 hexadecimal digits")]
    CommitId {
        /// JSON pointer into the row.
        pointer: &'static str,
    },
    /// A time that no delivery can have.
    #[error("{pointer}: {error}")]
    Time {
        /// JSON pointer into the row.
        pointer: &'static str,
        /// Why.
        error: MomentError,
    },
}
