//! How long a change takes to its users: to the first exposed unit, to everyone, to a decision.
//!
//! Only changes that name their flag (commit trailer `Tidegate-Flag`) can be followed beyond deployment.
//! A change behind several flags is exposed when the first of them exposes it.

use super::{Contribution, Measured, MetricRow, Subject};
use crate::commit_graph::Node;
use crate::moment::{Moment, span_millis};
use crate::statistic::Statistic;
use crate::timeline::FlagHistory;

type Reached = fn(&FlagHistory, Moment) -> Option<Moment>;

const STEPS: [(&str, &str, Reached); 3] = [
    (
        "lead_time_to_first_exposure",
        "first exposed unit",
        FlagHistory::first_exposed,
    ),
    (
        "lead_time_to_full_exposure",
        "everyone exposed",
        FlagHistory::fully_exposed,
    ),
    (
        "lead_time_to_decision",
        "decision",
        FlagHistory::decided_after,
    ),
];

impl Subject<'_, '_> {
    /// Rows for the steps beyond deployment, if any commit of the service names a flag.
    pub(super) fn push_exposure_rows(&self, rows: &mut Vec<MetricRow>) {
        let Some(repository) = self.history.repository() else {
            return;
        };
        let mut flagged: Vec<(usize, Node)> = Vec::new();
        for place in 0..self.history.deployments.len() {
            let commits = self.history.commits(place);
            flagged.extend(
                commits
                    .filter(|&n| !repository.flags(n).is_empty())
                    .map(|n| (place, n)),
            );
        }
        if flagged.is_empty() {
            return;
        }
        for (metric, step, reached) in STEPS {
            let measured = self.exposure(metric, step, reached, &flagged);
            rows.push(self.row(metric, "hours", measured));
        }
    }

    fn exposure(
        &self,
        metric: &str,
        step: &str,
        reached: Reached,
        flagged: &[(usize, Node)],
    ) -> Measured {
        let mut samples = Vec::new();
        let mut pending = 0;
        for &(place, node) in flagged {
            let deployed = self.history.deployments[place].finished_at;
            match (
                self.first_reached(node, deployed, reached),
                self.history.authored_at(self.timeline, node),
            ) {
                (Some(at), Some(authored)) if self.query.window.contains(at) => {
                    samples.push((place, node, at, span_millis(authored, at)));
                }
                (None, _) if deployed < self.query.window.to() => pending += 1,
                _ => {}
            }
        }
        let hours = |millis: i64| millis as f64 / 3_600_000.0;
        let values: Vec<f64> = samples.iter().map(|&(.., millis)| hours(millis)).collect();
        let mut measured = self.statistic(metric, Statistic::Median, &values);
        measured.formula = format!(
            "median over commits behind a flag of {step} minus author date, by when that was reached"
        );
        measured.note_count(pending, "deployed commits behind a flag have not got there");
        measured.contributing = self.explained(|| {
            samples
                .iter()
                .filter_map(|&(place, node, at, millis)| {
                    Some(Contribution {
                        id: self.history.repository()?.graph().id(node).to_hex(),
                        at,
                        value: Some(hours(millis)),
                        deployment: Some(self.history.deployments[place].id.clone()),
                        reasons: self.history.repository()?.flags(node).to_vec(),
                    })
                })
                .collect()
        });
        measured
    }

    fn first_reached(&self, node: Node, deployed: Moment, reached: Reached) -> Option<Moment> {
        let flags = self.history.repository()?.flags(node);
        flags
            .iter()
            .filter_map(|flag| reached(self.timeline.flag(flag)?, deployed))
            .min()
    }
}
