//! One service in one environment: its deployments, and the changes each brought.
//!
//! Deployments of one pipeline run are one deployment, dated at the last finish.
//! The first deployment whose commit is known opens the horizon: what it brought is older than the log
//! and has no lead time. Unknown is not zero.
//! A deployment whose commit is unknown (no tag, missing from the clone) brings nothing; what it really
//! brought is found with the next known one, and the number of such deployments is reported.
//!
//! Copies of one change (cherry-picks) count once, with the deployment that brought the first copy.
//!
//! Must not know: windows, definitions.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::attribution::{Attribution, attribute};
use crate::commit_graph::{CommitId, Node};
use crate::moment::{Moment, span_millis};
use crate::timeline::{CopyKey, Deployment, PullRequest, Repository, Series, Timeline};

const MILLIS_PER_DAY: i64 = 86_400_000;

/// A service's deployments with what they brought.
#[derive(Debug)]
pub struct History<'t> {
    /// The series.
    pub series: &'t Series,
    /// Successful deployments, one per pipeline run, in time order.
    pub deployments: Vec<&'t Deployment>,
    code: Option<Code<'t>>,
}

#[derive(Debug)]
struct Code<'t> {
    name: &'t str,
    repository: &'t Repository,
    /// For each deployment, its place in the attribution if its commit is known.
    places: Vec<Option<usize>>,
    attribution: Attribution,
    copies: FxHashSet<Node>,
    by_merge: FxHashMap<Node, &'t PullRequest>,
}

/// A pull request that a deployment brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveredPullRequest {
    /// Its number.
    pub number: u32,
    /// Commit that brought it to the main line.
    pub merge: Node,
    /// Earliest author date.
    pub first_commit_at: Moment,
    /// Opened, if known.
    pub opened_at: Option<Moment>,
    /// Merged.
    pub merged_at: Moment,
}

impl<'t> History<'t> {
    /// The history of one series.
    #[must_use]
    pub fn new(timeline: &'t Timeline, series: &'t Series) -> Self {
        let deployments = one_per_pipeline(series.succeeded());
        let code = timeline
            .repository_of(series.service())
            .map(|(name, repository)| Code::new(timeline, name, repository, &deployments));
        Self {
            series,
            deployments,
            code,
        }
    }

    /// The service's repository, if known.
    #[must_use]
    pub fn repository(&self) -> Option<&'t Repository> {
        self.code.as_ref().map(|code| code.repository)
    }

    /// Whether the deployment's commit is known.
    #[must_use]
    pub fn is_resolved(&self, deployment: usize) -> bool {
        self.place(deployment).is_some()
    }

    /// Whether changes brought by this deployment have a lead time: its commit is known, it is not the first
    /// such, and it does not follow a gap longer than `gap_days`.
    #[must_use]
    pub fn has_lead_times(&self, deployment: usize, gap_days: Option<u32>) -> bool {
        let Some(place) = self.place(deployment) else {
            return false;
        };
        let Some(previous) = deployment.checked_sub(1) else {
            return false;
        };
        let gap = span_millis(
            self.deployments[previous].finished_at,
            self.deployments[deployment].finished_at,
        );
        place > 0 && gap_days.is_none_or(|days| gap <= i64::from(days) * MILLIS_PER_DAY)
    }

    /// Non-merge commits first brought by the deployment that touch the service, copies left out.
    pub fn commits(&self, deployment: usize) -> impl Iterator<Item = Node> {
        self.code.iter().flat_map(move |code| {
            code.brought(deployment)
                .iter()
                .copied()
                .filter(move |&node| {
                    !code.repository.graph().is_merge(node)
                        && !code.copies.contains(&node)
                        && code.repository.touches(node, self.series.service())
                })
        })
    }

    /// Every commit first brought by the deployment, merges included.
    #[must_use]
    pub fn all_commits(&self, deployment: usize) -> &[Node] {
        self.code
            .as_ref()
            .map_or(&[], |code| code.brought(deployment))
    }

    /// Author date of a change; for a squashed pull request its earliest known commit.
    #[must_use]
    pub fn authored_at(&self, timeline: &Timeline, node: Node) -> Option<Moment> {
        let code = self.code.as_ref()?;
        let authored = code.repository.graph().authored_at(node);
        let squashed = code
            .repository
            .graph()
            .pull_request(node)
            .and_then(|number| timeline.pull_request(code.name, number))
            .and_then(|pull_request| pull_request.first_commit_at);
        Some(squashed.map_or(authored, |first| first.min(authored)))
    }

    /// Pull requests that the deployment brought.
    #[must_use]
    pub fn pull_requests(
        &self,
        timeline: &Timeline,
        deployment: usize,
    ) -> Vec<DeliveredPullRequest> {
        let Some((code, place)) = self.code.as_ref().zip(self.place(deployment)) else {
            return Vec::new();
        };
        let graph = code.repository.graph();
        let mut delivered = Vec::new();
        let mut merged: FxHashSet<Node> = FxHashSet::default();
        let (merges, singles): (Vec<Node>, Vec<Node>) = code
            .brought(deployment)
            .iter()
            .partition(|&&node| graph.is_merge(node));
        for merge in merges {
            let Some(number) = code.number_of(merge) else {
                continue;
            };
            let commits = code.attribution.merged_by(graph, place, merge);
            merged.extend(&commits);
            delivered.extend(code.pull_request(
                timeline,
                self.series.service(),
                number,
                merge,
                &commits,
            ));
        }
        // A single commit that names a number is a squashed pull request if that one is known, or if the service
        // squashes; otherwise the number may be an issue's. One inside another pull request is neither.
        let squashes = timeline.squashes(self.series.service());
        for single in singles
            .into_iter()
            .filter(|single| !merged.contains(single))
        {
            let Some(number) = code.number_of(single) else {
                continue;
            };
            if squashes || timeline.pull_request(code.name, number).is_some() {
                let commits = [single];
                delivered.extend(code.pull_request(
                    timeline,
                    self.series.service(),
                    number,
                    single,
                    &commits,
                ));
            }
        }
        delivered
    }

    /// The latest deployment finished strictly before the moment.
    #[must_use]
    pub fn latest_before(&self, moment: Moment) -> Option<usize> {
        self.deployments
            .partition_point(|d| d.finished_at < moment)
            .checked_sub(1)
    }

    /// The deployment that an incident's text names: by deployment id, version, or commit.
    #[must_use]
    pub fn named(&self, text: &str, before: Option<Moment>) -> Option<usize> {
        let commit = CommitId::parse(text);
        let is_named = |d: &Deployment| {
            d.id == text
                || d.id.rsplit_once(':').is_some_and(|(_, name)| name == text)
                || d.version.as_deref() == Some(text)
        };
        let in_time = |d: &Deployment| before.is_none_or(|limit| d.finished_at < limit);
        let by_name = self
            .deployments
            .iter()
            .rposition(|d| is_named(d) && in_time(d));
        by_name.or_else(|| {
            let code = self.code.as_ref()?;
            let node = code.repository.graph().find_seen(commit?)?;
            self.brought_by(node)
        })
    }

    /// The deployment that first brought the commit.
    #[must_use]
    pub fn brought_by(&self, node: Node) -> Option<usize> {
        let code = self.code.as_ref()?;
        let place = code.attribution.deployment_of(node)?;
        code.places.iter().position(|&p| p == Some(place))
    }

    fn place(&self, deployment: usize) -> Option<usize> {
        self.code
            .as_ref()
            .and_then(|code| code.places.get(deployment).copied().flatten())
    }
}

impl<'t> Code<'t> {
    fn new(
        timeline: &'t Timeline,
        name: &'t str,
        repository: &'t Repository,
        deployments: &[&Deployment],
    ) -> Self {
        let mut tips = Vec::new();
        let places = deployments
            .iter()
            .map(|deployment| {
                let tip = deployment.node?;
                tips.push(tip);
                Some(tips.len() - 1)
            })
            .collect();
        let attribution = attribute(repository.graph(), &tips);
        let copies = later_copies(repository, &attribution);
        let by_merge = timeline
            .pull_requests_of(name)
            .filter_map(|pull_request| {
                let commit = CommitId::parse(pull_request.merge_commit.as_deref()?)?;
                Some((repository.graph().find_seen(commit)?, pull_request))
            })
            .collect();
        Self {
            name,
            repository,
            places,
            attribution,
            copies,
            by_merge,
        }
    }

    fn brought(&self, deployment: usize) -> &[Node] {
        match self.places.get(deployment) {
            Some(&Some(place)) => self.attribution.commits_of(place),
            _ => &[],
        }
    }

    fn number_of(&self, node: Node) -> Option<u32> {
        let told = self
            .by_merge
            .get(&node)
            .map(|pull_request| pull_request.number);
        told.or_else(|| self.repository.graph().pull_request(node))
    }

    fn pull_request(
        &self,
        timeline: &Timeline,
        service: &str,
        number: u32,
        merge: Node,
        commits: &[Node],
    ) -> Option<DeliveredPullRequest> {
        let graph = self.repository.graph();
        let told = timeline.pull_request(self.name, number);
        if !commits
            .iter()
            .any(|&commit| self.repository.touches(commit, service))
        {
            return None;
        }
        let earliest = commits
            .iter()
            .map(|&commit| graph.authored_at(commit))
            .min()?;
        Some(DeliveredPullRequest {
            number,
            merge,
            first_commit_at: told
                .and_then(|pr| pr.first_commit_at)
                .map_or(earliest, |first| first.min(earliest)),
            opened_at: told.and_then(|pr| pr.opened_at),
            merged_at: told
                .and_then(|pr| pr.merged_at)
                .unwrap_or_else(|| graph.committed_at(merge)),
        })
    }
}

/// Of the copies of one change, all but the first delivered.
fn later_copies(repository: &Repository, attribution: &Attribution) -> FxHashSet<Node> {
    let mut delivered: FxHashSet<CopyKey<'_>> = FxHashSet::default();
    let mut later = FxHashSet::default();
    if !repository.has_copies() {
        return later;
    }
    for deployment in 0..attribution.deployments() {
        for &node in attribution.commits_of(deployment) {
            let own = CopyKey::Commit(repository.graph().id(node));
            let shared = repository.copies(node);
            let is_first = match shared {
                Some(key) => delivered.insert(key) && delivered.insert(own),
                None => delivered.insert(own),
            };
            if !is_first {
                later.insert(node);
            }
        }
    }
    later
}

fn one_per_pipeline<'t>(succeeded: impl Iterator<Item = &'t Deployment>) -> Vec<&'t Deployment> {
    let mut kept: Vec<&Deployment> = Vec::new();
    let mut places: FxHashMap<&str, usize> = FxHashMap::default();
    let mut replaced = FxHashSet::default();
    for deployment in succeeded {
        if let Some(run) = deployment.pipeline.as_deref()
            && let Some(earlier) = places.insert(run, kept.len())
        {
            replaced.insert(earlier);
        }
        kept.push(deployment);
    }
    let mut place = 0;
    kept.retain(|_| {
        place += 1;
        !replaced.contains(&(place - 1))
    });
    kept
}
