//! Which commits each deployment brought: linear in commits, without pairwise diffs.
//!
//! Deployments of one service and environment are taken in time order.
//! From each deployed commit the walk goes to all parents and skips what an earlier deployment has seen;
//! what is left is new with this deployment.
//! Every commit is visited once, so a history of a million commits costs a million steps however many
//! deployments cut it.
//! A rollback and a re-deployment bring nothing new; an older version that arrives late brings what only it holds.
//!
//! Within one deployment the new commits lie parents first, which lets pull requests be cut out of merges:
//! the commits of a merge are those its second parent reaches and its first does not.
//!
//! Must not know: services, versions, windows. Attribution never depends on the period asked about.

use std::collections::BinaryHeap;
use std::ops::Range;

use crate::commit_graph::{CommitGraph, Node};

/// What each deployment brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    commits: Vec<Node>,
    spans: Vec<Range<usize>>,
    positions: Vec<u32>,
    boundary: usize,
}

const UNPLACED: u32 = u32::MAX;

/// Attributes commits to deployments, given the deployed commits in time order.
#[must_use]
pub fn attribute(graph: &CommitGraph, deployed: &[Node]) -> Attribution {
    let mut attribution = Attribution {
        commits: Vec::new(),
        spans: Vec::with_capacity(deployed.len()),
        positions: vec![UNPLACED; graph.len()],
        boundary: 0,
    };
    let mut visited = vec![false; graph.len()];
    let mut stack: Vec<(Node, usize)> = Vec::new();
    for &tip in deployed {
        let start = attribution.commits.len();
        attribution.enter(graph, tip, &mut visited, &mut stack);
        while let Some((node, next)) = stack.pop() {
            if let Some(&parent) = graph.parents(node).get(next) {
                stack.push((node, next + 1));
                attribution.enter(graph, parent, &mut visited, &mut stack);
            } else {
                attribution.place(node);
            }
        }
        attribution.spans.push(start..attribution.commits.len());
    }
    attribution
}

impl Attribution {
    fn enter(
        &mut self,
        graph: &CommitGraph,
        node: Node,
        visited: &mut [bool],
        stack: &mut Vec<(Node, usize)>,
    ) {
        if std::mem::replace(&mut visited[node.index()], true) {
            return;
        }
        if graph.is_seen(node) {
            stack.push((node, 0));
        } else {
            self.boundary += 1;
        }
    }

    fn place(&mut self, node: Node) {
        self.positions[node.index()] = u32::try_from(self.commits.len()).unwrap_or(UNPLACED);
        self.commits.push(node);
    }

    /// Number of deployments attributed.
    #[must_use]
    pub fn deployments(&self) -> usize {
        self.spans.len()
    }

    /// Commits first deployed by the given deployment, parents before children.
    #[must_use]
    pub fn commits_of(&self, deployment: usize) -> &[Node] {
        self.spans
            .get(deployment)
            .map_or(&[], |span| &self.commits[span.clone()])
    }

    /// The deployment that first brought the commit.
    #[must_use]
    pub fn deployment_of(&self, node: Node) -> Option<usize> {
        let position = *self.positions.get(node.index())?;
        if position == UNPLACED {
            return None;
        }
        // Spans are consecutive, so the one that holds a position is the last to start at or before it
        // among those that are not empty.
        let after = self
            .spans
            .partition_point(|span| span.end <= position as usize);
        (after < self.spans.len()).then_some(after)
    }

    /// Commits that are named but not readable: shallow boundaries and missing objects met on the way.
    #[must_use]
    pub const fn boundary(&self) -> usize {
        self.boundary
    }

    /// Commits that the merge's second parent reaches and its first does not, among those new with the
    /// same deployment. Empty when the branch was deployed before, or the node is no merge of two.
    ///
    /// Both sides are walked children first and meet where they share history, so the cost is the distance
    /// to the fork, not the size of the deployment.
    #[must_use]
    pub fn merged_by(&self, graph: &CommitGraph, deployment: usize, merge: Node) -> Vec<Node> {
        let (Some(span), &[mainline, branch]) = (self.spans.get(deployment), graph.parents(merge))
        else {
            return Vec::new();
        };
        let mut fork = Fork {
            heap: BinaryHeap::new(),
            open_branch: 0,
        };
        fork.offer(self.position_in(span, mainline), true);
        fork.offer(self.position_in(span, branch), false);
        let mut merged = Vec::new();
        while fork.open_branch > 0 {
            let Some((position, is_mainline)) = fork.take() else {
                break;
            };
            let node = self.commits[position];
            if !is_mainline {
                merged.push(node);
            }
            for &parent in graph.parents(node) {
                fork.offer(self.position_in(span, parent), is_mainline);
            }
        }
        merged
    }

    fn position_in(&self, span: &Range<usize>, node: Node) -> Option<usize> {
        let position = self.positions[node.index()];
        (position != UNPLACED)
            .then_some(position as usize)
            .filter(|position| span.contains(position))
    }
}

/// The two sides of a merge, walked children first.
struct Fork {
    heap: BinaryHeap<(usize, bool)>,
    open_branch: usize,
}

impl Fork {
    fn offer(&mut self, position: Option<usize>, is_mainline: bool) {
        if let Some(position) = position {
            self.heap.push((position, is_mainline));
            self.open_branch += usize::from(!is_mainline);
        }
    }

    /// The highest position once, with both sides' claims on it joined: the mainline's wins.
    fn take(&mut self) -> Option<(usize, bool)> {
        let (position, is_mainline) = self.heap.pop()?;
        self.open_branch -= usize::from(!is_mainline);
        while self.heap.peek().is_some_and(|&(next, _)| next == position) {
            if let Some((_, false)) = self.heap.pop() {
                self.open_branch -= 1;
            }
        }
        Some((position, is_mainline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit_graph::{CommitFacts, CommitId};
    use crate::moment::Moment;
    use proptest::prelude::*;

    fn id(n: u8) -> CommitId {
        CommitId::new([n; 20])
    }

    fn graph(edges: &[(u8, &[u8])]) -> CommitGraph {
        let mut graph = CommitGraph::default();
        for &(n, parents) in edges {
            let facts = CommitFacts {
                id: id(n),
                authored_at: Moment::from_seconds(i64::from(n)),
                committed_at: Moment::from_seconds(i64::from(n)),
                pull_request: 0,
            };
            graph.insert(facts, parents.iter().map(|&p| id(p))).unwrap();
        }
        graph
    }

    fn names(graph: &CommitGraph, nodes: &[Node]) -> Vec<u8> {
        let mut names: Vec<u8> = nodes
            .iter()
            .map(|&n| u8::from_str_radix(&graph.id(n).to_hex()[..2], 16).unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    fn nodes(graph: &CommitGraph, names: &[u8]) -> Vec<Node> {
        names.iter().map(|&n| graph.find(id(n)).unwrap()).collect()
    }

    #[test]
    fn rollback_and_redeployment_bring_nothing() {
        let graph = graph(&[(1, &[]), (2, &[1]), (3, &[2])]);
        let got = attribute(&graph, &nodes(&graph, &[2, 3, 2, 3]));
        let brought: Vec<_> = (0..4).map(|d| names(&graph, got.commits_of(d))).collect();
        assert_eq!(brought, vec![vec![1, 2], vec![3], vec![], vec![]]);
    }

    #[test]
    fn a_shallow_boundary_ends_the_walk_and_is_counted() {
        let graph = graph(&[(3, &[2]), (4, &[3])]);
        let got = attribute(&graph, &nodes(&graph, &[4]));
        assert_eq!(names(&graph, got.commits_of(0)), vec![3, 4]);
        assert_eq!(got.boundary(), 1);
    }

    #[test]
    fn a_merge_owns_what_its_branch_added() {
        // 1 - 2 ----- 5(merge 2,4) - 8(merge 5,7)
        //      \ 3 - 4 /   \ 6 - 7 /
        let graph = graph(&[
            (1, &[]),
            (2, &[1]),
            (3, &[2]),
            (4, &[3]),
            (5, &[2, 4]),
            (6, &[5]),
            (7, &[6]),
            (8, &[5, 7]),
        ]);
        let got = attribute(&graph, &nodes(&graph, &[1, 8]));
        let merge = |n: u8| names(&graph, &got.merged_by(&graph, 1, nodes(&graph, &[n])[0]));
        assert_eq!(merge(5), vec![3, 4]);
        assert_eq!(merge(8), vec![6, 7]);
        assert_eq!(merge(7), Vec::<u8>::new());
    }

    /// Reachability by definition: the set `tip` reaches, minus what earlier tips reach.
    fn brute(graph: &CommitGraph, tips: &[Node]) -> Vec<Vec<u8>> {
        let mut seen = std::collections::BTreeSet::new();
        tips.iter()
            .map(|&tip| {
                let mut new = Vec::new();
                let mut stack = vec![tip];
                while let Some(node) = stack.pop() {
                    if seen.insert(node) {
                        new.push(node);
                        stack.extend(graph.parents(node));
                    }
                }
                names(graph, &new)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_commit_is_brought_once_and_parents_come_first(
            shape in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..3), 1..40),
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut edges: Vec<(u8, Vec<u8>)> = vec![(1, vec![])];
            for (n, parents) in shape.iter().enumerate() {
                let mut parents: Vec<u8> = parents.iter().map(|p| edges[p.index(edges.len())].0).collect();
                parents.dedup();
                edges.push((u8::try_from(n + 2).unwrap(), parents));
            }
            let borrowed: Vec<(u8, &[u8])> = edges.iter().map(|(n, p)| (*n, p.as_slice())).collect();
            let graph = graph(&borrowed);
            let tips: Vec<Node> = picks.iter().map(|p| nodes(&graph, &[edges[p.index(edges.len())].0])[0]).collect();
            let got = attribute(&graph, &tips);
            let brought: Vec<Vec<u8>> = (0..tips.len()).map(|d| names(&graph, got.commits_of(d))).collect();
            prop_assert_eq!(brought, brute(&graph, &tips));
            for d in 0..tips.len() {
                let commits = got.commits_of(d);
                for (place, &node) in commits.iter().enumerate() {
                    for parent in graph.parents(node) {
                        prop_assert!(commits.iter().position(|n| n == parent).is_none_or(|p| p < place));
                    }
                    let &[first, second] = graph.parents(node) else { continue };
                    let expected: Vec<Node> = {
                        let inside = |from: Node| {
                            let mut reach = std::collections::BTreeSet::new();
                            let mut stack = vec![from];
                            while let Some(n) = stack.pop() {
                                if commits.contains(&n) && reach.insert(n) { stack.extend(graph.parents(n)); }
                            }
                            reach
                        };
                        inside(second).difference(&inside(first)).copied().collect()
                    };
                    prop_assert_eq!(names(&graph, &got.merged_by(&graph, d, node)), names(&graph, &expected));
                }
            }
        }
    }
}
