//! Repositories: their commits, what commit messages say, and which version names which commit.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::commit_graph::{CommitFacts, CommitGraph, CommitId, Node};
use crate::event::{ArtifactSeen, CommitSeen, PatchSeen, ServiceSeen};
use crate::moment::Moment;

/// Where a service's code lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceBinding {
    /// Repository name.
    pub repository: String,
    /// Whether a version that is a bare commit id is looked up as a commit.
    pub resolve_commit_ids: bool,
    /// Whether a single commit whose subject ends in `(#7)` is a squashed pull request.
    pub squash_merges: bool,
    /// Team that owns it, if known.
    pub team: Option<String>,
}

/// One repository.
#[derive(Debug, Clone, Default)]
pub struct Repository {
    graph: CommitGraph,
    artifacts: FxHashMap<String, CommitId>,
    messages: FxHashMap<Node, Message>,
}

/// What few commits have: kept apart from the graph's columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    services: Option<Vec<String>>,
    reverts: Vec<CommitId>,
    picked_from: Option<CommitId>,
    patch_id: Option<String>,
    flags: Vec<String>,
}

impl PartialEq for Repository {
    /// Same commits, same links, same facts. Nodes are numbered in id order, so equal content is equal numbering.
    fn eq(&self, other: &Self) -> bool {
        self.artifacts == other.artifacts
            && self.messages == other.messages
            && self.graph.len() == other.graph.len()
            && self.graph.nodes().all(|node| {
                self.graph.id(node) == other.graph.id(node)
                    && self.graph.parents(node) == other.graph.parents(node)
                    && self.graph.authored_at(node) == other.graph.authored_at(node)
            })
    }
}

impl Repository {
    /// From a graph read directly, without rows.
    #[must_use]
    pub fn from_graph(
        graph: CommitGraph,
        artifacts: impl IntoIterator<Item = (String, CommitId)>,
    ) -> Self {
        Self {
            graph,
            artifacts: artifacts.into_iter().collect(),
            messages: FxHashMap::default(),
        }
    }

    /// Its commits.
    #[must_use]
    pub const fn graph(&self) -> &CommitGraph {
        &self.graph
    }

    /// Commit that a version names.
    #[must_use]
    pub fn artifact(&self, version: &str) -> Option<CommitId> {
        self.artifacts.get(version).copied()
    }

    /// Whether the commit touches the service: path rules decide in a repository of many services.
    #[must_use]
    pub fn touches(&self, node: Node, service: &str) -> bool {
        self.messages
            .get(&node)
            .and_then(|message| message.services.as_ref())
            .is_none_or(|services| services.iter().any(|name| name == service))
    }

    /// Commits that this one reverts.
    #[must_use]
    pub fn reverts(&self, node: Node) -> &[CommitId] {
        self.messages
            .get(&node)
            .map_or(&[], |message| &message.reverts)
    }

    /// Flags that the change is dark behind.
    #[must_use]
    pub fn flags(&self, node: Node) -> &[String] {
        self.messages
            .get(&node)
            .map_or(&[], |message| &message.flags)
    }

    /// Commits that name the flag.
    pub fn behind_flag<'r>(&'r self, flag: &'r str) -> impl Iterator<Item = Node> + 'r {
        self.messages
            .iter()
            .filter(move |(_, message)| message.flags.iter().any(|name| name == flag))
            .map(|(&node, _)| node)
    }

    /// Whether any commit may be a copy of another.
    #[must_use]
    pub fn has_copies(&self) -> bool {
        self.messages
            .values()
            .any(|m| m.patch_id.is_some() || m.picked_from.is_some())
    }

    /// The identity that cherry-picks of one change share; `None` for the many commits that have no copy.
    #[must_use]
    pub fn copies(&self, node: Node) -> Option<CopyKey<'_>> {
        let message = self.messages.get(&node)?;
        if let Some(patch_id) = &message.patch_id {
            return Some(CopyKey::Patch(patch_id));
        }
        message.picked_from.map(CopyKey::Commit)
    }
}

/// What two copies of one change have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CopyKey<'r> {
    /// The same patch.
    Patch(&'r str),
    /// The commit they were picked from.
    Commit(CommitId),
}

/// One commit row, compact: the order is the fold's order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CommitRow {
    id: CommitId,
    at: Moment,
    authored_at: Moment,
    pull_request: u32,
    parents: Parents,
    message: Option<Box<Message>>,
}

/// Nearly every commit has one or two parents.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Parents {
    None,
    One(CommitId),
    Two([CommitId; 2]),
    Many(Box<[CommitId]>),
}

impl Parents {
    fn as_slice(&self) -> &[CommitId] {
        match self {
            Self::None => &[],
            Self::One(parent) => std::slice::from_ref(parent),
            Self::Two(parents) => parents,
            Self::Many(parents) => parents,
        }
    }
}

impl FromIterator<CommitId> for Parents {
    fn from_iter<I: IntoIterator<Item = CommitId>>(parents: I) -> Self {
        let mut rest = parents.into_iter();
        match (rest.next(), rest.next(), rest.next()) {
            (None, ..) => Self::None,
            (Some(one), None, _) => Self::One(one),
            (Some(one), Some(two), None) => Self::Two([one, two]),
            (Some(one), Some(two), Some(three)) => {
                Self::Many([one, two, three].into_iter().chain(rest).collect())
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct RepositoryFold {
    commits: BTreeMap<String, Vec<CommitRow>>,
    artifacts: Vec<ArtifactSeen>,
    patches: Vec<PatchSeen>,
    services: BTreeMap<String, ServiceBinding>,
}

impl RepositoryFold {
    /// Takes a commit row in any order; a row whose commit id is none is nothing.
    pub(super) fn commit(&mut self, at: Moment, seen: CommitSeen) {
        let Some(id) = CommitId::parse(&seen.commit) else {
            return;
        };
        let ids = |texts: &[String]| -> Vec<CommitId> {
            texts
                .iter()
                .filter_map(|text| CommitId::parse(text))
                .collect()
        };
        let row = CommitRow {
            id,
            at,
            authored_at: seen.authored_at.unwrap_or(at),
            pull_request: seen.pull_request.unwrap_or(0),
            parents: seen
                .parents
                .iter()
                .filter_map(|text| CommitId::parse(text))
                .collect(),
            message: Some(Message {
                reverts: ids(&seen.reverts),
                services: seen.services,
                picked_from: seen.picked_from.as_deref().and_then(CommitId::parse),
                patch_id: seen.patch_id,
                flags: seen.flags,
            })
            .filter(|message| *message != Message::default())
            .map(Box::new),
        };
        match self.commits.get_mut(&seen.repository) {
            Some(rows) => rows.push(row),
            None => self.commits.entry(seen.repository).or_default().push(row),
        }
    }

    pub(super) fn artifact(&mut self, seen: ArtifactSeen) {
        self.artifacts.push(seen);
    }

    pub(super) fn patch(&mut self, seen: PatchSeen) {
        self.patches.push(seen);
    }

    pub(super) fn service(&mut self, seen: ServiceSeen) {
        let binding = ServiceBinding {
            repository: seen.repository,
            resolve_commit_ids: seen.resolve_commit_ids,
            squash_merges: seen.squash_merges,
            team: seen.team,
        };
        self.services.insert(seen.service, binding);
    }

    /// Repositories, bindings, and how many commits came with more than one content.
    pub(super) fn finish(
        self,
    ) -> (
        BTreeMap<String, Repository>,
        BTreeMap<String, ServiceBinding>,
        usize,
    ) {
        let mut repositories: BTreeMap<String, Repository> = BTreeMap::new();
        let mut conflicts = 0;
        for (name, mut rows) in self.commits {
            rows.sort_unstable();
            rows.dedup();
            let distinct = rows.chunk_by(|a, b| a.id == b.id).count();
            conflicts += rows.len() - distinct;
            let mut repository = Repository {
                graph: CommitGraph::with_capacity(distinct),
                ..Repository::default()
            };
            for row in rows {
                repository.record(row);
            }
            repositories.insert(name, repository);
        }
        for artifact in self.artifacts {
            if let (Some(repository), Some(commit)) = (
                repositories.get_mut(&artifact.repository),
                CommitId::parse(&artifact.commit),
            ) {
                repository.artifacts.insert(artifact.version, commit);
            }
        }
        for patch in self.patches {
            if let (Some(repository), Some(commit)) = (
                repositories.get_mut(&patch.repository),
                CommitId::parse(&patch.commit),
            ) && let Some(node) = repository.graph.find_seen(commit)
            {
                let message = repository.messages.entry(node).or_default();
                message.patch_id.get_or_insert(patch.patch_id);
            }
        }
        (repositories, self.services, conflicts)
    }
}

impl Repository {
    /// Of rows with one id the first in order counts.
    fn record(&mut self, row: CommitRow) {
        if self.graph.find_seen(row.id).is_some() {
            return;
        }
        let facts = CommitFacts {
            id: row.id,
            authored_at: row.authored_at,
            committed_at: row.at,
            pull_request: row.pull_request,
        };
        // A graph beyond four billion commits keeps what fits; no log can hold the rest.
        let Ok(node) = self
            .graph
            .insert(facts, row.parents.as_slice().iter().copied())
        else {
            return;
        };
        if let Some(message) = row.message {
            self.messages.insert(node, *message);
        }
    }
}
