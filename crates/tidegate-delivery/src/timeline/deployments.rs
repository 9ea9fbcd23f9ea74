//! Deployments, in series by service and environment.
//!
//! Rows that name one `deployment` of one source, service and environment are one deployment:
//! it starts at the earliest start, and finishes at the last row that says how it ended.
//! A version maps to a commit by an explicit commit, else by the artefact of that exact name,
//! else (only where the service asks for it) by reading the version as a commit id.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{Repository, earliest, replace};
use crate::commit_graph::{CommitId, Node};
use crate::event::{DeploymentSeen, Intent, Outcome};
use crate::moment::Moment;

/// Names a series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// What is deployed.
    pub service: String,
    /// Where to.
    pub environment: String,
}

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// `source:name`, as `--explain` prints it and corrections name it.
    pub id: String,
    /// Version as recorded.
    pub version: Option<String>,
    /// Commit that runs, where the repository is known and holds it.
    pub node: Option<Node>,
    /// Pipeline run it was part of.
    pub pipeline: Option<String>,
    /// When it began; the finish where unknown.
    pub started_at: Moment,
    /// When it ended; the latest row's time while under way.
    pub finished_at: Moment,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was made, if the sender says.
    pub intent: Option<Intent>,
    commit: Option<CommitId>,
}

/// The deployments of one service in one environment, by finish, then id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    key: SeriesKey,
    deployments: Vec<Deployment>,
}

impl Series {
    /// What is deployed.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.key.service
    }

    /// Where to.
    #[must_use]
    pub fn environment(&self) -> &str {
        &self.key.environment
    }

    /// All attempts, failed ones included.
    #[must_use]
    pub fn attempts(&self) -> &[Deployment] {
        &self.deployments
    }

    /// Deployments that succeeded.
    pub fn succeeded(&self) -> impl DoubleEndedIterator<Item = &Deployment> {
        self.deployments
            .iter()
            .filter(|d| d.outcome == Outcome::Succeeded)
    }

    pub(super) fn resolve(&mut self, repository: &Repository, resolve_commit_ids: bool) {
        for deployment in &mut self.deployments {
            deployment.node = deployment
                .commit
                .or_else(|| {
                    let version = deployment.version.as_deref()?;
                    repository.artifact(version).or_else(|| {
                        resolve_commit_ids
                            .then(|| CommitId::parse(version))
                            .flatten()
                    })
                })
                .and_then(|id| repository.graph().find_seen(id));
        }
    }
}

#[derive(Default)]
pub(super) struct DeploymentFold {
    series: FxHashMap<String, FxHashMap<String, Vec<Deployment>>>,
    named: FxHashMap<(String, String, String, String), usize>,
}

impl DeploymentFold {
    pub(super) fn apply(&mut self, at: Moment, source: String, id: &str, seen: DeploymentSeen) {
        let series = series_mut(&mut self.series, &seen.service, &seen.environment);
        let Some(name) = seen.deployment.clone() else {
            series.push(opened(at, format!("{source}:{id}"), seen));
            return;
        };
        let key = (source, name, seen.service.clone(), seen.environment.clone());
        if let Some(deployment) = self
            .named
            .get(&key)
            .and_then(|&place| series.get_mut(place))
        {
            advance(deployment, at, seen);
            return;
        }
        series.push(opened(at, format!("{}:{}", key.0, key.1), seen));
        self.named.insert(key, series.len() - 1);
    }

    pub(super) fn finish(self) -> BTreeMap<SeriesKey, Series> {
        let mut all = BTreeMap::new();
        for (service, environments) in self.series {
            for (environment, mut deployments) in environments {
                deployments.sort_by(|a, b| (a.finished_at, &a.id).cmp(&(b.finished_at, &b.id)));
                let key = SeriesKey {
                    service: service.clone(),
                    environment,
                };
                all.insert(key.clone(), Series { key, deployments });
            }
        }
        all
    }
}

fn series_mut<'f>(
    all: &'f mut FxHashMap<String, FxHashMap<String, Vec<Deployment>>>,
    service: &str,
    environment: &str,
) -> &'f mut Vec<Deployment> {
    all.entry(service.to_owned())
        .or_default()
        .entry(environment.to_owned())
        .or_default()
}

fn opened(at: Moment, id: String, seen: DeploymentSeen) -> Deployment {
    Deployment {
        id,
        node: None,
        commit: seen.commit.as_deref().and_then(CommitId::parse),
        version: seen.version,
        pipeline: seen.pipeline,
        started_at: seen.started_at.unwrap_or(at),
        finished_at: at,
        outcome: seen.outcome,
        intent: seen.intent,
    }
}

/// A later row of a deployment under way. A success is not undone: a sender that reports the same
/// deployment inactive or superseded afterwards does not make it a failed one.
fn advance(deployment: &mut Deployment, at: Moment, seen: DeploymentSeen) {
    let mut started = Some(deployment.started_at);
    earliest(&mut started, seen.started_at);
    deployment.started_at = started.unwrap_or(at);
    replace(&mut deployment.version, seen.version);
    replace(&mut deployment.pipeline, seen.pipeline);
    replace(&mut deployment.intent, seen.intent);
    replace(
        &mut deployment.commit,
        seen.commit.as_deref().and_then(CommitId::parse),
    );
    if deployment.outcome != Outcome::Succeeded {
        deployment.outcome = deployment.outcome.max(seen.outcome);
        deployment.finished_at = at;
    }
}
