//! Pull requests and pieces of work: each row adds to what is known.

use std::collections::BTreeMap;

use super::{earliest, replace};
use crate::event::{ItemSeen, PullRequestSeen};
use crate::moment::Moment;

/// One pull request, as far as the rows tell.
pub type PullRequest = PullRequestSeen;

/// One piece of work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// `source:name`.
    pub id: String,
    /// Everything known.
    pub facts: ItemSeen,
    /// Changes between waiting (`true`) and worked on (`false`), in time order.
    pub waits: Vec<(Moment, bool)>,
}

#[derive(Default)]
pub(super) struct WorkFold {
    pull_requests: BTreeMap<(String, u32), PullRequest>,
    items: BTreeMap<(String, String), Item>,
}

impl WorkFold {
    pub(super) fn pull_request(&mut self, seen: PullRequestSeen) {
        let held = self
            .pull_requests
            .entry((seen.repository.clone(), seen.number))
            .or_insert_with(|| PullRequest {
                repository: seen.repository.clone(),
                number: seen.number,
                ..PullRequest::default()
            });
        earliest(&mut held.first_commit_at, seen.first_commit_at);
        earliest(&mut held.opened_at, seen.opened_at);
        earliest(&mut held.first_review_at, seen.first_review_at);
        earliest(&mut held.merged_at, seen.merged_at);
        replace(&mut held.ready_at, seen.ready_at);
        replace(&mut held.closed_at, seen.closed_at);
        replace(&mut held.merge_commit, seen.merge_commit);
        replace(&mut held.changed_lines, seen.changed_lines);
        replace(&mut held.reverts, seen.reverts);
    }

    pub(super) fn item(&mut self, at: Moment, source: String, seen: ItemSeen) {
        let id = format!("{source}:{}", seen.item);
        let held = self
            .items
            .entry((source, seen.item.clone()))
            .or_insert_with(|| Item {
                id,
                facts: ItemSeen {
                    item: seen.item.clone(),
                    ..ItemSeen::default()
                },
                waits: Vec::new(),
            });
        earliest(&mut held.facts.created_at, seen.created_at);
        earliest(&mut held.facts.started_at, seen.started_at);
        replace(&mut held.facts.finished_at, seen.finished_at);
        replace(&mut held.facts.service, seen.service);
        replace(&mut held.facts.kind, seen.kind);
        if let Some(waiting) = seen.waiting {
            held.waits.push((at, waiting));
        }
    }

    pub(super) fn finish(self) -> (BTreeMap<(String, u32), PullRequest>, Vec<Item>) {
        (self.pull_requests, self.items.into_values().collect())
    }
}
