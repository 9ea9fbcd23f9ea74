//! How much a deployment brings: commits per deployment, the lever behind lead time and risk.
//!
//! Over deployments that brought at least one change; deployments without one (the same version again, a change of
//! configuration) and those behind a horizon are counted in the notes.

use super::{Measured, MetricRow, Subject};
use crate::statistic::Statistic;

impl Subject<'_, '_> {
    /// The row, if the service's code is known.
    pub(super) fn push_batch_size(&self, rows: &mut Vec<MetricRow>) {
        if self.history.repository().is_none() {
            return;
        }
        let (mut sized, mut empty, mut unknown) = (Vec::new(), 0, 0);
        for place in self.in_window() {
            let commits = self.history.commits(place).count();
            if !self.history.has_lead_times(place, Some(GAP_DAYS)) {
                unknown += 1;
            } else if commits == 0 {
                empty += 1;
            } else {
                sized.push((place, commits as f64));
            }
        }
        let samples: Vec<f64> = sized.iter().map(|&(_, commits)| commits).collect();
        let mut measured: Measured = self.statistic("batch_size", Statistic::Median, &samples);
        measured.formula =
            "median over deployments of the non-merge commits that they first brought".to_owned();
        measured.note_count(empty, "deployments brought no change");
        measured.note_count(
            unknown,
            "deployments opened a horizon, or their commit is not known",
        );
        measured.contributing = self.explained(|| {
            sized
                .iter()
                .map(|&(place, commits)| {
                    let mut deployment = self.deployment(place);
                    deployment.value = Some(commits);
                    deployment
                })
                .collect()
        });
        rows.push(self.row("batch_size", "commits", measured));
    }
}

/// A deployment after a longer gap opens a horizon, as it does for lead times.
const GAP_DAYS: u32 = 90;
