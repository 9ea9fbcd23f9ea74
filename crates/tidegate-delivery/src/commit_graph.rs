//! The commits of one repository, compact enough for a million of them.
//!
//! A node is a number; its columns hold the two dates, the parents and a few facts.
//! Nodes may be mentioned (as a parent, as a deployed version) before or without being seen:
//! shallow clones and missing objects leave such nodes *unseen*, and walks stop there and count them.
//!
//! Must not know: where commits come from, and any deployment.

use rustc_hash::FxHashMap;

use crate::moment::Moment;

/// A full commit id (SHA-1, 20 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId([u8; 20]);

impl CommitId {
    /// From its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// From 40 hexadecimal digits; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 40 {
            return None;
        }
        let mut bytes = [0_u8; 20];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 20] {
        self.0
    }

    /// As 40 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(40);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Number of a commit within its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(u32);

impl Node {
    /// As an index into a per-node column.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is recorded of one commit.
#[derive(Debug, Clone, Copy)]
pub struct CommitFacts {
    /// Its id.
    pub id: CommitId,
    /// Author date.
    pub authored_at: Moment,
    /// Committer date.
    pub committed_at: Moment,
    /// Pull request its subject names, or 0.
    pub pull_request: u32,
}

const UNSEEN: u32 = u32::MAX;

/// The commits of one repository and who their parents are.
#[derive(Debug, Default, Clone)]
pub struct CommitGraph {
    nodes: FxHashMap<CommitId, Node>,
    ids: Vec<CommitId>,
    authored: Vec<Moment>,
    committed: Vec<Moment>,
    pull_requests: Vec<u32>,
    parent_start: Vec<u32>,
    parent_count: Vec<u16>,
    parents: Vec<Node>,
}

/// The graph holds as many commits or parent links as its numbers can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the repository has more than four billion commits or parent links, or a commit has more than 65,535 parents"
)]
pub struct GraphFull;

impl CommitGraph {
    /// An empty graph with room for the given number of commits.
    #[must_use]
    pub fn with_capacity(commits: usize) -> Self {
        let mut graph = Self::default();
        graph.nodes.reserve(commits);
        graph.ids.reserve(commits);
        graph.authored.reserve(commits);
        graph.committed.reserve(commits);
        graph.pull_requests.reserve(commits);
        graph.parent_start.reserve(commits);
        graph.parent_count.reserve(commits);
        graph.parents.reserve(commits);
        graph
    }

    /// The node of a commit, made if new; it stays unseen until [`Self::insert`].
    ///
    /// # Errors
    /// [`GraphFull`].
    pub fn mention(&mut self, id: CommitId) -> Result<Node, GraphFull> {
        if let Some(&node) = self.nodes.get(&id) {
            return Ok(node);
        }
        let node = Node(u32::try_from(self.ids.len()).map_err(|_| GraphFull)?);
        self.nodes.insert(id, node);
        self.ids.push(id);
        self.authored.push(Moment::from_millis(0));
        self.committed.push(Moment::from_millis(0));
        self.pull_requests.push(0);
        self.parent_start.push(UNSEEN);
        self.parent_count.push(0);
        Ok(node)
    }

    /// Records a commit. A commit seen before keeps what was recorded first: ids are content.
    ///
    /// # Errors
    /// [`GraphFull`].
    pub fn insert(
        &mut self,
        facts: CommitFacts,
        parents: impl IntoIterator<Item = CommitId>,
    ) -> Result<Node, GraphFull> {
        let node = self.mention(facts.id)?;
        let at = node.index();
        if self.is_seen(node) {
            return Ok(node);
        }
        let start = u32::try_from(self.parents.len()).map_err(|_| GraphFull)?;
        if start == UNSEEN {
            return Err(GraphFull);
        }
        for parent in parents {
            let parent = self.mention(parent)?;
            self.parents.push(parent);
        }
        let count = self.parents.len() - start as usize;
        self.parent_start[at] = start;
        self.parent_count[at] = u16::try_from(count).map_err(|_| GraphFull)?;
        self.authored[at] = facts.authored_at;
        self.committed[at] = facts.committed_at;
        self.pull_requests[at] = facts.pull_request;
        Ok(node)
    }

    /// Number of nodes, unseen ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nothing was recorded or mentioned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// All nodes, unseen ones included.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).map(Node)
    }

    /// The node of a commit that was seen or mentioned.
    #[must_use]
    pub fn find(&self, id: CommitId) -> Option<Node> {
        self.nodes.get(&id).copied()
    }

    /// The node of a commit that was seen.
    #[must_use]
    pub fn find_seen(&self, id: CommitId) -> Option<Node> {
        self.find(id).filter(|&node| self.is_seen(node))
    }

    /// Whether the commit itself was read, not merely mentioned.
    #[must_use]
    pub fn is_seen(&self, node: Node) -> bool {
        self.parent_start[node.index()] != UNSEEN
    }

    /// Its id.
    #[must_use]
    pub fn id(&self, node: Node) -> CommitId {
        self.ids[node.index()]
    }

    /// Author date.
    #[must_use]
    pub fn authored_at(&self, node: Node) -> Moment {
        self.authored[node.index()]
    }

    /// Committer date.
    #[must_use]
    pub fn committed_at(&self, node: Node) -> Moment {
        self.committed[node.index()]
    }

    /// Pull request that the commit's subject names.
    #[must_use]
    pub fn pull_request(&self, node: Node) -> Option<u32> {
        match self.pull_requests[node.index()] {
            0 => None,
            number => Some(number),
        }
    }

    /// Parents, first parent first; none for roots and unseen nodes.
    #[must_use]
    pub fn parents(&self, node: Node) -> &[Node] {
        let at = node.index();
        let start = self.parent_start[at];
        if start == UNSEEN {
            return &[];
        }
        let start = start as usize;
        &self.parents[start..start + usize::from(self.parent_count[at])]
    }

    /// Whether the commit joins histories.
    #[must_use]
    pub fn is_merge(&self, node: Node) -> bool {
        self.parents(node).len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_ids_read_back_as_written() {
        let text = "06ae02d80606711000e54c7e8d54356fcc650106";
        assert_eq!(
            CommitId::parse(text).map(CommitId::to_hex).as_deref(),
            Some(text)
        );
        assert_eq!(CommitId::parse(&text.to_uppercase()), CommitId::parse(text));
        for broken in [
            "",
            "06ae",
            &text[..39],
            "zzae02d80606711000e54c7e8d54356fcc650106",
        ] {
            assert_eq!(CommitId::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_mentioned_commit_is_known_but_not_seen() {
        let mut graph = CommitGraph::default();
        let facts = CommitFacts {
            id: CommitId::new([1; 20]),
            authored_at: Moment::from_seconds(1),
            committed_at: Moment::from_seconds(2),
            pull_request: 0,
        };
        let node = graph.insert(facts, [CommitId::new([2; 20])]).unwrap();
        let parent = graph.parents(node)[0];
        assert!(graph.is_seen(node) && !graph.is_seen(parent));
        assert_eq!(graph.parents(parent), &[]);
        assert_eq!(graph.find_seen(CommitId::new([2; 20])), None);
    }
}
