//! How long a change takes to production.

use super::{Contribution, Measured, Subject};
use crate::commit_graph::Node;
use crate::definition::{LeadTimeFrom, LeadTimeOver, LeadTimeRule, NotPositive, Rounding};
use crate::history::DeliveredPullRequest;
use crate::moment::{Moment, span_millis};
use crate::statistic::Statistic;

const MILLIS_PER_MINUTE: i64 = 60_000;
const MILLIS_PER_HOUR: i64 = 3_600_000;

/// One change and the span it took.
struct Sample {
    place: usize,
    what: What,
    /// As the definition counts it.
    millis: i64,
    /// From start to end on the clock.
    exact_millis: i64,
}

#[derive(Clone, Copy)]
enum What {
    Commit(Node),
    PullRequest(u32),
    Deployment,
}

impl Subject<'_, '_> {
    pub(super) fn lead_time(&self, rule: LeadTimeRule) -> Measured {
        let formula = formula_of(rule);
        if self.history.repository().is_none() {
            let notes = vec!["the service's commits are unknown; import its repository".to_owned()];
            return Measured {
                formula,
                notes,
                ..Measured::default()
            };
        }
        let mut samples = Vec::new();
        let (mut unresolved, mut beyond) = (0, 0);
        for place in self.in_window() {
            if !self.history.is_resolved(place) {
                unresolved += 1;
            } else if self.history.has_lead_times(place, rule.gap_days) {
                self.sample(rule, place, &mut samples);
            } else {
                beyond += self.history.commits(place).count();
            }
        }
        let negative = samples.iter().filter(|s| s.millis < 0).count();
        if rule.not_positive == NotPositive::Drop {
            samples.retain(|sample| sample.millis > 0);
        }
        let hours: Vec<f64> = samples.iter().map(|s| hours(s.millis)).collect();
        let mut measured = self.statistic("change_lead_time", rule.statistic, &hours);
        measured.formula = formula;
        measured.notes.extend(without_rounding(rule, &samples));
        measured.note_count(
            unresolved,
            "deployments whose commit is unknown: their changes count with the next known one",
        );
        measured.note_count(
            beyond,
            "commits left out: they came with the first known deployment or after a gap",
        );
        measured.note_count(
            negative,
            "negative spans (clock skew, or a change dated after its deployment)",
        );
        measured.contributing = self.explained(|| {
            samples
                .iter()
                .map(|sample| self.contribution(sample))
                .collect()
        });
        measured
    }

    fn sample(&self, rule: LeadTimeRule, place: usize, samples: &mut Vec<Sample>) {
        let deployed = self.history.deployments[place].finished_at;
        match rule.over {
            LeadTimeOver::Commits => {
                samples.extend(self.history.commits(place).filter_map(|node| {
                    let start = self.start_of(rule.from, node)?;
                    let exact_millis = span_millis(start, deployed);
                    Some(Sample {
                        place,
                        what: What::Commit(node),
                        millis: round(rule.rounding, exact_millis),
                        exact_millis,
                    })
                }));
            }
            LeadTimeOver::PullRequests => {
                for pull_request in self.history.pull_requests(self.timeline, place) {
                    let start = match rule.from {
                        LeadTimeFrom::Merge => pull_request.merged_at,
                        _ => pull_request.first_commit_at,
                    };
                    samples.push(Sample {
                        place,
                        what: What::PullRequest(pull_request.number),
                        millis: cycle(rule, &pull_request, deployed),
                        exact_millis: span_millis(start, deployed),
                    });
                }
            }
            LeadTimeOver::Deployments => {
                let starts = self.history.commits(place);
                let oldest = starts
                    .filter_map(|node| self.start_of(rule.from, node))
                    .min();
                if let Some(oldest) = oldest {
                    let exact_millis = span_millis(oldest, deployed);
                    samples.push(Sample {
                        place,
                        what: What::Deployment,
                        millis: round(rule.rounding, exact_millis),
                        exact_millis,
                    });
                }
            }
        }
    }

    fn start_of(&self, from: LeadTimeFrom, node: Node) -> Option<Moment> {
        match from {
            LeadTimeFrom::CommitterDate | LeadTimeFrom::Merge => {
                Some(self.history.repository()?.graph().committed_at(node))
            }
            LeadTimeFrom::AuthorDate | LeadTimeFrom::FirstCommit | LeadTimeFrom::OldestCommit => {
                self.history.authored_at(self.timeline, node)
            }
        }
    }

    fn contribution(&self, sample: &Sample) -> Contribution {
        let deployment = self.history.deployments[sample.place];
        let id = match sample.what {
            What::Commit(node) => self
                .history
                .repository()
                .map_or_else(String::new, |repository| {
                    repository.graph().id(node).to_hex()
                }),
            What::PullRequest(number) => format!("#{number}"),
            What::Deployment => deployment.id.clone(),
        };
        Contribution {
            id,
            at: deployment.finished_at,
            value: Some(hours(sample.millis)),
            deployment: Some(deployment.id.clone()),
            reasons: Vec::new(),
        }
    }
}

/// For definitions that round or take the lower median: what the clock alone says.
fn without_rounding(rule: LeadTimeRule, samples: &[Sample]) -> Option<String> {
    if rule.rounding == Rounding::None && rule.statistic != Statistic::LowerMedian {
        return None;
    }
    let mut exact: Vec<f64> = samples.iter().map(|s| hours(s.exact_millis)).collect();
    exact.sort_by(f64::total_cmp);
    let median = Statistic::Median.over_sorted(&exact)?;
    Some(format!(
        "without the definition's rounding the interpolated median is {median:.2} hours"
    ))
}

/// A pull request's way to production as the sum of its known parts.
fn cycle(rule: LeadTimeRule, pull_request: &DeliveredPullRequest, deployed: Moment) -> i64 {
    let merged = pull_request.merged_at;
    if rule.from == LeadTimeFrom::Merge {
        return round(rule.rounding, span_millis(merged, deployed));
    }
    let first = pull_request.first_commit_at;
    let opened = pull_request.opened_at.unwrap_or(first);
    let parts = [
        span_millis(first, opened),
        span_millis(opened, merged),
        span_millis(merged, deployed),
    ];
    parts
        .into_iter()
        .filter(|&part| part > 0 || rule.not_positive != NotPositive::DropPart)
        .map(|part| round(rule.rounding, part))
        .sum()
}

fn round(rounding: Rounding, millis: i64) -> i64 {
    match rounding {
        Rounding::None => millis,
        Rounding::MinutesDown => millis / MILLIS_PER_MINUTE * MILLIS_PER_MINUTE,
        Rounding::HoursDown => millis / MILLIS_PER_HOUR * MILLIS_PER_HOUR,
        Rounding::MinutesUpPerPart => {
            millis
                .saturating_add(MILLIS_PER_MINUTE - 1)
                .div_euclid(MILLIS_PER_MINUTE)
                * MILLIS_PER_MINUTE
        }
    }
}

pub(super) fn rounded_hours(rounding: Rounding, start: Moment, end: Moment) -> f64 {
    hours(round(rounding, span_millis(start, end)))
}

fn hours(millis: i64) -> f64 {
    millis as f64 / MILLIS_PER_HOUR as f64
}

fn formula_of(rule: LeadTimeRule) -> String {
    let over = match rule.over {
        LeadTimeOver::Commits => "non-merge commits",
        LeadTimeOver::PullRequests => "merged pull requests",
        LeadTimeOver::Deployments => "deployments that brought a commit",
    };
    let from = match rule.from {
        LeadTimeFrom::AuthorDate => "author date",
        LeadTimeFrom::CommitterDate => "committer date",
        LeadTimeFrom::FirstCommit => "first commit",
        LeadTimeFrom::Merge => "merge",
        LeadTimeFrom::OldestCommit => "oldest commit",
    };
    format!(
        "{} over {over} of deployment finish minus {from}",
        rule.statistic.name()
    )
}
