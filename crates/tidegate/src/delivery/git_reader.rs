//! Reads commits and tags of a git repository, tolerant of what is not there.
//!
//! * Every commit is read once, from all branches and tags, in no particular order.
//! * A missing object (shallow boundary, partial clone, damage) ends that path and is counted.
//! * Blobs are never read. Trees are read only where path rules ask which service a commit touches; a missing tree
//!   leaves that unanswered for the commit, which then counts for every service, and is counted.
//! * Names and addresses of people are skipped over, never kept.
//!
//! Must not know: the log, services' deployments, metrics.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use gix::objs::{CommitRef, Find, Kind, TreeRefIter};
use gix::{ObjectId, Repository};
use rustc_hash::{FxHashMap, FxHashSet};
use tidegate_delivery::Moment;
use tidegate_delivery::commit_graph::{CommitFacts, CommitId};
use tidegate_delivery::commit_message::{MessageFacts, read_message};

/// Fingerprints of trees remembered before the memory is given back.
const MAX_CACHED_TREES: usize = 50_000;

/// A repository on disk.
pub(super) struct GitReader {
    repository: Repository,
}

/// One commit as read.
pub(super) struct ReadCommit<'r> {
    pub(super) facts: CommitFacts,
    pub(super) parents: &'r [CommitId],
    pub(super) message: MessageFacts,
    /// Indices of the path rules it touches; `None` where there are no rules or the trees are missing.
    pub(super) touches: Option<Vec<usize>>,
}

/// A tag and the commit it names.
pub(super) struct ReadTag {
    pub(super) name: String,
    pub(super) commit: CommitId,
    pub(super) committed_at: Moment,
}

/// What a walk met.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct WalkExtent {
    /// Commits read.
    pub(super) commits: u64,
    /// Commits named but not there.
    pub(super) missing_commits: u64,
    /// Commits whose trees are not there.
    pub(super) missing_trees: u64,
    /// Objects that do not parse as commits.
    pub(super) unreadable: u64,
    /// Commits before `since`, where the walk ended.
    pub(super) before_since: u64,
}

/// Author dates of commits, by which possible copies of one change are found: a rebased or cherry-picked commit
/// keeps its author date.
#[derive(Debug, Default)]
pub(super) struct AuthorDates {
    seconds: FxHashMap<CommitId, u32>,
    /// Met and not read: missing, unreadable, or before `since`.
    not_read: FxHashSet<CommitId>,
}

/// What stands for "no commit with one parent".
const NO_DATE: u32 = 0;
/// More commits of one second than this are a script's, not copies.
const MAX_COPIES: usize = 16;

impl AuthorDates {
    /// Notes a commit that was read.
    pub(super) fn know(&mut self, id: CommitId, date: u32) {
        self.seconds.insert(id, date);
    }

    /// Commits that were read, with their dates as [`date_of`] gives them.
    pub(super) fn read(&self) -> impl Iterator<Item = (CommitId, u32)> + '_ {
        self.seconds
            .iter()
            .map(|(&id, &date)| (id, date))
            .filter(|(id, _)| !self.not_read.contains(id))
    }

    /// Commits that were met and not read, where a later run may go on.
    pub(super) fn not_read(&self) -> &FxHashSet<CommitId> {
        &self.not_read
    }

    /// Groups of commits with one author date of which at least one is new.
    pub(super) fn possible_copies(&self, is_new: impl Fn(CommitId) -> bool) -> Vec<Vec<CommitId>> {
        let mut dates: Vec<u32> = self.seconds.values().copied().collect();
        dates.sort_unstable();
        let twice: FxHashSet<u32> = dates
            .windows(2)
            .filter(|pair| pair[0] == pair[1] && pair[0] != NO_DATE)
            .map(|pair| pair[0])
            .collect();
        let mut groups: BTreeMap<u32, Vec<CommitId>> = BTreeMap::new();
        for (&id, date) in self.seconds.iter().filter(|(_, date)| twice.contains(date)) {
            groups.entry(*date).or_default().push(id);
        }
        groups
            .into_values()
            .filter(|group| group.len() <= MAX_COPIES && group.iter().any(|&id| is_new(id)))
            .collect()
    }
}

/// The author date in seconds, by which copies are found; merges and root commits have none, because they change
/// nothing by themselves that could be copied.
pub(super) fn date_of(authored_at: Moment, parents: usize) -> u32 {
    if parents != 1 {
        return NO_DATE;
    }
    u32::try_from(authored_at.millis().div_euclid(1000)).unwrap_or(NO_DATE)
}

/// What to walk.
pub(super) struct Walk<'w> {
    /// Further starting points beside branches and tags.
    pub(super) also: &'w [CommitId],
    /// Commits that need not be read again.
    pub(super) is_known: &'w dyn Fn(CommitId) -> bool,
    /// Where to stop.
    pub(super) since: Option<Moment>,
    /// Paths whose changes are told apart.
    pub(super) paths: &'w [String],
}

impl GitReader {
    /// Opens a repository, bare or not, with its own settings ignored.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let repository = gix::open_opts(path, gix::open::Options::isolated())
            .with_context(|| format!("{} is no git repository that can be read", path.display()))?;
        Ok(Self { repository })
    }

    /// Tags that name commits.
    pub(super) fn tags(&self) -> anyhow::Result<Vec<ReadTag>> {
        let mut tags = Vec::new();
        let mut buffer = Vec::new();
        for reference in self.repository.references()?.tags()?.filter_map(Result::ok) {
            let mut reference = reference;
            let name = reference.name().shorten().to_string();
            let Ok(id) = reference.peel_to_id() else {
                continue;
            };
            let Some(commit) = self.commit(id.detach(), &mut buffer) else {
                continue;
            };
            if let Some(committed_at) = seconds_of(commit.committer) {
                tags.push(ReadTag {
                    name,
                    commit: commit_id(&id.detach()),
                    committed_at,
                });
            }
        }
        Ok(tags)
    }

    /// Hands every commit reachable from branches, tags and HEAD to `each`, once.
    pub(super) fn walk(
        &self,
        walk: &Walk<'_>,
        dates: &mut AuthorDates,
        mut each: impl FnMut(ReadCommit<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<WalkExtent> {
        let mut extent = WalkExtent::default();
        let mut touching = Touching::new(self, walk.paths);
        let mut stack = self.tips()?;
        stack.extend(walk.also.iter().map(|id| object_id(*id)));
        let (mut buffer, mut parents) = (Vec::new(), Vec::new());
        while let Some(object) = stack.pop() {
            let id = commit_id(&object);
            // The dates hold every commit met, so they also say which were met before.
            if (walk.is_known)(id) || dates.seconds.contains_key(&id) {
                continue;
            }
            dates.seconds.insert(id, NO_DATE);
            dates.not_read.insert(id);
            let Some(data) = self
                .repository
                .objects
                .try_find(&object, &mut buffer)
                .ok()
                .flatten()
            else {
                extent.missing_commits += 1;
                continue;
            };
            if data.kind != Kind::Commit {
                continue;
            }
            let Ok(commit) = CommitRef::from_bytes(data.data, object.kind()) else {
                extent.unreadable += 1;
                continue;
            };
            let Some(committed_at) = seconds_of(commit.committer) else {
                extent.unreadable += 1;
                continue;
            };
            if walk.since.is_some_and(|since| committed_at < since) {
                extent.before_since += 1;
                continue;
            }
            parents.clear();
            parents.extend(commit.parents().map(|parent| commit_id(&parent)));
            stack.extend(commit.parents());
            let text = String::from_utf8_lossy(commit.message);
            let message = read_message(&text, parents.len() > 1);
            let facts = CommitFacts {
                id,
                authored_at: seconds_of(commit.author).unwrap_or(committed_at),
                committed_at,
                pull_request: message.pull_request.unwrap_or(0),
            };
            dates.know(id, date_of(facts.authored_at, parents.len()));
            dates.not_read.remove(&id);
            let touches = touching.of(commit.tree(), commit.parents().next(), &mut extent);
            extent.commits += 1;
            each(ReadCommit {
                facts,
                parents: &parents,
                message,
                touches,
            })?;
        }
        Ok(extent)
    }

    /// The objects of the repository, for reading what commits change.
    pub(super) fn objects(&self) -> &Repository {
        &self.repository
    }

    fn tips(&self) -> anyhow::Result<Vec<ObjectId>> {
        let mut tips: Vec<ObjectId> = Vec::new();
        for reference in self.repository.references()?.all()?.filter_map(Result::ok) {
            let mut reference = reference;
            if let Ok(id) = reference.peel_to_id() {
                tips.push(id.detach());
            }
        }
        tips.extend(self.repository.head_id().ok().map(gix::Id::detach));
        Ok(tips)
    }

    fn commit<'b>(&self, id: ObjectId, buffer: &'b mut Vec<u8>) -> Option<CommitRef<'b>> {
        let data = self.repository.objects.try_find(&id, buffer).ok()??;
        (data.kind == Kind::Commit)
            .then(|| CommitRef::from_bytes(data.data, id.kind()).ok())
            .flatten()
    }
}

/// Which path rules a commit touches: those whose entry differs from the first parent's.
struct Touching<'g> {
    reader: &'g GitReader,
    paths: &'g [String],
    cache: FxHashMap<ObjectId, Vec<Option<ObjectId>>>,
}

impl<'g> Touching<'g> {
    fn new(reader: &'g GitReader, paths: &'g [String]) -> Self {
        Self {
            reader,
            paths,
            cache: FxHashMap::default(),
        }
    }

    fn of(
        &mut self,
        tree: ObjectId,
        parent: Option<ObjectId>,
        extent: &mut WalkExtent,
    ) -> Option<Vec<usize>> {
        if self.paths.is_empty() {
            return None;
        }
        let touched = self.differing(tree, parent);
        extent.missing_trees += u64::from(touched.is_none());
        touched
    }

    fn differing(&mut self, tree: ObjectId, parent: Option<ObjectId>) -> Option<Vec<usize>> {
        let mut buffer = Vec::new();
        let after = self.entries(tree)?;
        let before = match parent {
            Some(parent) => {
                let parent_tree = self.reader.commit(parent, &mut buffer)?.tree();
                self.entries(parent_tree)?
            }
            None => vec![None; self.paths.len()],
        };
        Some(
            (0..self.paths.len())
                .filter(|&rule| after[rule] != before[rule])
                .collect(),
        )
    }

    fn entries(&mut self, tree: ObjectId) -> Option<Vec<Option<ObjectId>>> {
        if let Some(entries) = self.cache.get(&tree) {
            return Some(entries.clone());
        }
        let entries: Option<Vec<_>> = self
            .paths
            .iter()
            .map(|path| self.entry(tree, path))
            .collect();
        if self.cache.len() >= MAX_CACHED_TREES {
            self.cache.clear();
        }
        let entries = entries?;
        self.cache.insert(tree, entries.clone());
        Some(entries)
    }

    /// The entry at a path: outer `None` when a tree is missing, inner `None` when there is no such path.
    fn entry(&self, root: ObjectId, path: &str) -> Option<Option<ObjectId>> {
        let mut at = root;
        let mut buffer = Vec::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let data = self
                .reader
                .repository
                .objects
                .try_find(&at, &mut buffer)
                .ok()??;
            if data.kind != Kind::Tree {
                return Some(None);
            }
            let mut entries = TreeRefIter::from_bytes(data.data, at.kind()).filter_map(Result::ok);
            match entries.find(|entry| entry.filename == name) {
                Some(entry) => at = entry.oid.to_owned(),
                None => return Some(None),
            }
        }
        Some(Some(at))
    }
}

/// The time of a raw `name <address> seconds zone` header; the name and address are not looked at.
fn seconds_of(signature: &[u8]) -> Option<Moment> {
    let after = signature.iter().rposition(|&byte| byte == b'>')? + 1;
    let text = std::str::from_utf8(&signature[after..]).ok()?;
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Moment::from_seconds(seconds))
}

fn commit_id(object: &ObjectId) -> CommitId {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&object.as_bytes()[..20]);
    CommitId::new(bytes)
}

pub(super) fn object_id(commit: CommitId) -> ObjectId {
    ObjectId::from_bytes_or_panic(&commit.to_bytes())
}
