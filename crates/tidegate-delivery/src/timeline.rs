//! The fold from rows to what happened: deployments, commits, pull requests, incidents, work, exposures.
//!
//! The result does not depend on the order of the rows, nor on how often a row is delivered.
//! That holds by construction: rows are sorted by their total order (time first), of rows with one
//! `(source, id)` the first in that order counts, and every entity is folded in that order.
//! Late rows are therefore no special case; recomputation is the same fold.
//!
//! Must not know: definitions, windows, metrics.

mod deployments;
mod flags;
mod incidents;
mod repository;
mod work;

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use crate::event::{Correction, DeliveryEvent, EventBody, Ruling};
use crate::moment::Moment;

pub use deployments::{Deployment, Series, SeriesKey};
pub use flags::{FlagHistory, RolloutRollback};
pub use incidents::Incident;
pub use repository::{CopyKey, Repository, ServiceBinding};
pub use work::{Item, PullRequest};

/// Everything that the log says happened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    series: BTreeMap<SeriesKey, Series>,
    repositories: BTreeMap<String, Repository>,
    services: BTreeMap<String, ServiceBinding>,
    pull_requests: BTreeMap<(String, u32), PullRequest>,
    incidents: Vec<Incident>,
    items: Vec<Item>,
    flags: BTreeMap<String, FlagHistory>,
    rulings: BTreeMap<String, Vec<(Moment, Correction)>>,
    conflicts: usize,
    events: usize,
}

impl Timeline {
    /// Folds rows in any order, with any repetitions.
    #[must_use]
    pub fn from_events(events: impl IntoIterator<Item = DeliveryEvent>) -> Self {
        let mut builder = TimelineBuilder::default();
        for event in events {
            builder.push(event);
        }
        builder.finish()
    }

    /// Deployments by service and environment, each series in time order.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        self.series.values()
    }

    /// The deployments of one service in one environment.
    #[must_use]
    pub fn series_of(&self, service: &str, environment: &str) -> Option<&Series> {
        self.series.get(&SeriesKey {
            service: service.to_owned(),
            environment: environment.to_owned(),
        })
    }

    /// Services with at least one deployment in the environment, in name order.
    pub fn services_in<'t>(&'t self, environment: &'t str) -> impl Iterator<Item = &'t str> {
        self.series
            .keys()
            .filter(move |key| key.environment == environment)
            .map(|key| key.service.as_str())
    }

    /// Where a service's code lives, if that is known.
    #[must_use]
    pub fn repository_of(&self, service: &str) -> Option<(&str, &Repository)> {
        let name = &self.services.get(service)?.repository;
        Some((name.as_str(), self.repositories.get(name)?))
    }

    /// Services with a commit that names the flag, in name order.
    #[must_use]
    pub fn services_behind(&self, flag: &str) -> Vec<&str> {
        let mut services: Vec<&str> = self
            .services
            .iter()
            .filter(|(service, binding)| {
                self.repositories
                    .get(&binding.repository)
                    .is_some_and(|repository| {
                        repository
                            .behind_flag(flag)
                            .any(|node| repository.touches(node, service))
                    })
            })
            .map(|(service, _)| service.as_str())
            .collect();
        services.sort_unstable();
        services
    }

    /// Whether the service's pull requests are known to be squashed.
    #[must_use]
    pub fn squashes(&self, service: &str) -> bool {
        self.services
            .get(service)
            .is_some_and(|binding| binding.squash_merges)
    }

    /// Team that owns the service, if known.
    #[must_use]
    pub fn team_of(&self, service: &str) -> Option<&str> {
        self.services.get(service)?.team.as_deref()
    }

    /// A repository by name.
    #[must_use]
    pub fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.get(name)
    }

    /// A pull request by repository and number.
    #[must_use]
    pub fn pull_request(&self, repository: &str, number: u32) -> Option<&PullRequest> {
        self.pull_requests.get(&(repository.to_owned(), number))
    }

    /// Pull requests of a repository, by number.
    pub fn pull_requests_of<'t>(
        &'t self,
        repository: &str,
    ) -> impl Iterator<Item = &'t PullRequest> + use<'t> {
        let from = (repository.to_owned(), 0);
        let to = (repository.to_owned(), u32::MAX);
        self.pull_requests
            .range(from..=to)
            .map(|(_, pull_request)| pull_request)
    }

    /// Incidents in order of detection.
    #[must_use]
    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// Pieces of work, by source and name.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What is known of a flag's exposure.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<&FlagHistory> {
        self.flags.get(key)
    }

    /// All flags with a history, by key.
    pub fn flags(&self) -> impl Iterator<Item = (&str, &FlagHistory)> {
        self.flags
            .iter()
            .map(|(key, history)| (key.as_str(), history))
    }

    /// Rulings by persons about a deployment, oldest first.
    #[must_use]
    pub fn rulings_on(&self, deployment: &str) -> &[(Moment, Correction)] {
        self.rulings.get(deployment).map_or(&[], Vec::as_slice)
    }

    /// The latest ruling among the given kinds.
    #[must_use]
    pub fn ruling_among(&self, deployment: &str, kinds: &[Ruling]) -> Option<&Correction> {
        self.rulings_on(deployment)
            .iter()
            .rev()
            .map(|(_, correction)| correction)
            .find(|correction| kinds.contains(&correction.ruling))
    }

    /// Deliveries that came with two different contents; the one first in order was kept.
    #[must_use]
    pub const fn conflicts(&self) -> usize {
        self.conflicts
    }

    /// Distinct deliveries folded, commits apart.
    #[must_use]
    pub const fn events(&self) -> usize {
        self.events
    }
}

/// Takes rows one by one: commits go into compact columns at once, so a million of them fit in memory.
///
/// A commit is its content, so commits are told apart by repository and commit id alone.
#[derive(Debug, Default)]
pub struct TimelineBuilder {
    events: Vec<DeliveryEvent>,
    repositories: repository::RepositoryFold,
}

impl TimelineBuilder {
    /// Takes a row.
    pub fn push(&mut self, event: DeliveryEvent) {
        match event.body {
            EventBody::Commit(seen) => self.repositories.commit(event.at, seen),
            _ => self.events.push(event),
        }
    }

    /// Folds all rows taken.
    #[must_use]
    pub fn finish(mut self) -> Timeline {
        self.events.sort_unstable();
        self.events.dedup();
        let (keep, conflicts) = first_of_each_delivery(&self.events);
        let mut fold = Fold {
            repositories: self.repositories,
            ..Fold::default()
        };
        for (event, keep) in self.events.into_iter().zip(keep) {
            if keep {
                fold.apply(event);
            }
        }
        fold.finish(conflicts)
    }
}

/// For sorted, distinct rows: which to keep, and how many deliveries had more than one content.
fn first_of_each_delivery(events: &[DeliveryEvent]) -> (Vec<bool>, usize) {
    let mut seen = FxHashSet::with_capacity_and_hasher(events.len(), Default::default());
    let mut conflicting = FxHashSet::default();
    let keep = events
        .iter()
        .map(|event| {
            let key = (event.source.as_str(), event.id.as_str());
            let is_first = seen.insert(key);
            if !is_first {
                conflicting.insert(key);
            }
            is_first
        })
        .collect();
    (keep, conflicting.len())
}

#[derive(Default)]
struct Fold {
    deployments: deployments::DeploymentFold,
    repositories: repository::RepositoryFold,
    incidents: incidents::IncidentFold,
    work: work::WorkFold,
    flags: flags::FlagFold,
    rulings: BTreeMap<String, Vec<(Moment, Correction)>>,
    events: usize,
}

impl Fold {
    fn apply(&mut self, event: DeliveryEvent) {
        self.events += 1;
        let DeliveryEvent {
            at,
            source,
            id,
            body,
        } = event;
        match body {
            EventBody::Deployment(seen) => self.deployments.apply(at, source, &id, seen),
            EventBody::Commit(seen) => self.repositories.commit(at, seen),
            EventBody::Artifact(seen) => self.repositories.artifact(seen),
            EventBody::Patch(seen) => self.repositories.patch(seen),
            EventBody::Service(seen) => self.repositories.service(seen),
            EventBody::PullRequest(seen) => self.work.pull_request(seen),
            EventBody::Incident(seen) => self.incidents.apply(at, source, seen),
            EventBody::Item(seen) => self.work.item(at, source, seen),
            EventBody::Exposure(seen) => self.flags.exposure(at, seen),
            EventBody::Stage(seen) => self.flags.stage(at, seen),
            EventBody::Rollback(seen) => self.flags.rollback(at, seen),
            EventBody::Decision(seen) => self.flags.decision(at, seen),
            EventBody::Correction(correction) => self
                .rulings
                .entry(correction.deployment.clone())
                .or_default()
                .push((at, correction)),
        }
    }

    fn finish(self, conflicts: usize) -> Timeline {
        let (repositories, services, commit_conflicts) = self.repositories.finish();
        let (pull_requests, items) = self.work.finish();
        let mut series = self.deployments.finish();
        for one in series.values_mut() {
            if let Some(binding) = services.get(one.service())
                && let Some(repository) = repositories.get(&binding.repository)
            {
                one.resolve(repository, binding.resolve_commit_ids);
            }
        }
        Timeline {
            series,
            repositories,
            services,
            pull_requests,
            incidents: self.incidents.finish(),
            items,
            flags: self.flags.finish(),
            rulings: self.rulings,
            conflicts: conflicts + commit_conflicts,
            events: self.events,
        }
    }
}

/// Keeps the earlier of two moments.
fn earliest(slot: &mut Option<Moment>, seen: Option<Moment>) {
    *slot = match (*slot, seen) {
        (Some(held), Some(new)) => Some(held.min(new)),
        (held, new) => held.or(new),
    };
}

/// A later row's value replaces an earlier one's; silence changes nothing.
fn replace<T>(slot: &mut Option<T>, seen: Option<T>) {
    if seen.is_some() {
        *slot = seen;
    }
}
