//! Named definitions: how one tool or survey turns the same log into its numbers.
//!
//! A definition is data: a file under `spec/delivery/definitions/`, with an edition and its own words about
//! its choices.
//! The vocabulary below is small and closed; [`crate::metrics`] folds a timeline by it.
//! A new tool is a new file unless it computes something that no one else does.
//!
//! The files that end in `-like` restate documented behaviour of other products; they are not those products.

use serde::{Deserialize, Serialize};

use crate::statistic::Statistic;

/// A named definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Name on the command line.
    pub id: String,
    /// One line.
    pub title: String,
    /// Year of the rules followed.
    pub edition: String,
    /// Where the rules are written.
    pub follows: String,
    /// How often.
    pub deployment_frequency: FrequencyRule,
    /// How long from change to production.
    pub change_lead_time: LeadTimeRule,
    /// How often it goes wrong.
    pub change_fail_rate: FailRateRule,
    /// How long until it is right again.
    pub failed_deployment_recovery_time: RecoveryRule,
    /// How much is repair; absent where the tool has no such metric.
    #[serde(default)]
    pub deployment_rework_rate: Option<ReworkRule>,
    /// Choices in plain words, shown with `--explain`.
    pub choices: Vec<String>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Successful deployments.
    Deployments,
    /// Deployments, failed attempts included.
    Attempts,
    /// Days with at least one successful deployment.
    DeploymentDays,
}

/// Per what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Calendar day, UTC.
    Day,
    /// ISO week.
    WeekFromMonday,
    /// Week from Sunday.
    WeekFromSunday,
}

/// How deployment frequency is computed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrequencyRule {
    /// What is counted.
    pub count: Counted,
    /// Per what; periods without a deployment count as zero.
    pub per: Period,
    /// Over the periods.
    pub statistic: Statistic,
}

/// What has a lead time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeadTimeOver {
    /// Each non-merge commit.
    Commits,
    /// Each merged pull request.
    PullRequests,
    /// Each deployment that brought a commit.
    Deployments,
}

/// Where the clock starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeadTimeFrom {
    /// Author date of the commit.
    AuthorDate,
    /// Committer date of the commit.
    CommitterDate,
    /// Earliest author date of the pull request.
    FirstCommit,
    /// Merge of the pull request.
    Merge,
    /// Earliest author date in the deployment.
    OldestCommit,
}

/// What becomes of fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Nothing: milliseconds are kept.
    None,
    /// Whole minutes, towards zero.
    MinutesDown,
    /// Whole hours, towards zero.
    HoursDown,
    /// Each part of a pull request's cycle up to whole minutes, then summed.
    MinutesUpPerPart,
}

/// What becomes of spans that are not positive: clock skew, and changes older on paper than in fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotPositive {
    /// Counted as they are, and their number is shown.
    Keep,
    /// The sample is dropped.
    Drop,
    /// The negative part drops out of the sum.
    DropPart,
}

/// How change lead time is computed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeadTimeRule {
    /// What has a lead time.
    pub over: LeadTimeOver,
    /// Where the clock starts; it ends at the deployment's finish.
    pub from: LeadTimeFrom,
    /// What becomes of fractions.
    pub rounding: Rounding,
    /// What becomes of spans that are not positive.
    pub not_positive: NotPositive,
    /// Over the samples.
    pub statistic: Statistic,
    /// After this many days without a deployment the next one opens a new series, as the first known one does.
    #[serde(default)]
    pub gap_days: Option<u32>,
}

/// How an incident finds its deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentLink {
    /// The latest deployment finished strictly before the incident, however old.
    LatestBefore,
    /// The deployment whose interval up to the next one holds the incident.
    UntilNextDeployment,
    /// The deployment, version or commit that the incident names.
    ExplicitCause,
    /// None: incidents opened in the window are counted beside the deployments.
    OpenedInWindow,
}

/// How the fail rate is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum FailRateRule {
    /// Deployments with an attributed failure, certain or probable.
    AttributedFailures {},
    /// Deployments with at least one incident.
    DeploymentsWithIncident {
        /// How an incident finds its deployment.
        link: IncidentLink,
        /// Whether a reverting pull request is an incident.
        #[serde(default)]
        reverts_are_incidents: bool,
    },
    /// Incidents over deployments.
    IncidentsPerDeployment {
        /// Which incidents count.
        link: IncidentLink,
    },
    /// Failed attempts over all attempts.
    FailedAttempts {},
}

/// Which recoveries are measured, and from when.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryRule {
    /// Which span.
    pub rule: RecoverySpan,
    /// How an incident finds its deployment, where the span needs one.
    #[serde(default)]
    pub link: Option<IncidentLink>,
    /// Whether the start, too, must lie in the window; the end always must.
    #[serde(default)]
    pub both_in_window: bool,
    /// Whether a reverting pull request is an incident.
    #[serde(default)]
    pub reverts_are_incidents: bool,
    /// What becomes of fractions.
    pub rounding: Rounding,
    /// Over the samples.
    pub statistic: Statistic,
}

/// What a recovery spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoverySpan {
    /// From the failed deployment to the end of its impact.
    AttributedRecovery,
    /// From the deployment the incident attaches to, to the incident's end.
    CauseToResolution,
    /// From the incident's start to its end.
    IncidentDuration,
    /// From the earlier of incident and cause to the incident's end.
    EarlierOfIncidentAndCause,
    /// From a failed attempt to the next success.
    NextSuccess,
}

/// How the rework rate is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum ReworkRule {
    /// Deployments made unplanned, after a failure: rollbacks, hotfixes, reverts, incident fixes.
    AttributedRework {},
}

/// The files built in, in the order they are listed.
const BUILT_IN: [&str; 9] = [
    include_str!("../../../spec/delivery/definitions/dora-2025.json"),
    include_str!("../../../spec/delivery/definitions/devlake-like.json"),
    include_str!("../../../spec/delivery/definitions/gitlab-like.json"),
    include_str!("../../../spec/delivery/definitions/fourkeys-like.json"),
    include_str!("../../../spec/delivery/definitions/middleware-like.json"),
    include_str!("../../../spec/delivery/definitions/sleuth-like.json"),
    include_str!("../../../spec/delivery/definitions/liatrio-like.json"),
    include_str!("../../../spec/delivery/definitions/median-committer-date.json"),
    include_str!("../../../spec/delivery/definitions/mean-author-date.json"),
];

/// A definition that nobody wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no definition {asked:?}; there are {known}")]
pub struct UnknownDefinition {
    /// What was asked for.
    pub asked: String,
    /// What there is.
    pub known: String,
}

/// Every built-in definition; the first is the default.
#[must_use]
pub fn built_in() -> Vec<Definition> {
    BUILT_IN
        .iter()
        .filter_map(|text| serde_json::from_str(text).ok())
        .collect()
}

/// The built-in definition of that name.
///
/// # Errors
/// [`UnknownDefinition`] lists the names there are.
pub fn named(id: &str) -> Result<Definition, UnknownDefinition> {
    let all = built_in();
    let known = all
        .iter()
        .map(|d| d.id.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    all.into_iter()
        .find(|definition| definition.id == id)
        .ok_or_else(|| UnknownDefinition {
            asked: id.to_owned(),
            known,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_file_reads_and_names_are_distinct() {
        let mut names: Vec<String> = BUILT_IN
            .iter()
            .map(|text| {
                serde_json::from_str::<Definition>(text)
                    .expect("a definition")
                    .id
            })
            .collect();
        assert_eq!(names[0], "dora-2025");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), BUILT_IN.len());
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = named("dora-1999").unwrap_err().to_string();
        assert!(
            error.contains("dora-2025") && error.contains("devlake-like"),
            "{error}"
        );
    }
}
