//! What is legal but unwise in a policy, said before it starts.
//!
//! Needs nothing but the policy itself; what depends on the living system is in `start`.

use serde_json::Value;

use super::{EndPolicy, Finding, RolloutSpec, Severity};
use crate::basis_points::BasisPoints;

impl RolloutSpec {
    /// Warnings about this policy, in document order; empty when there is nothing to say.
    #[must_use]
    pub fn lint(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut warn = |pointer: String, reason: String| {
            findings.push(Finding {
                severity: Severity::Warn,
                pointer,
                reason,
            });
        };
        if self.audience.as_ref().is_some_and(matches_nobody) {
            warn(
                "/audience".to_owned(),
                "matches nobody: no unit will ever be exposed".to_owned(),
            );
        }
        if self.alpha > 0.05 {
            warn(
                "/alpha".to_owned(),
                format!(
                    "{} rolls back that share of harmless changes; 0.01 is usual",
                    self.alpha
                ),
            );
        }
        if let Some(first) = self.stages.first().filter(|_| self.stages.len() > 1)
            && first.share_bp.get() > 2_500
        {
            warn(
                "/stages/0/share_bp".to_owned(),
                format!("exposes {} at once; start smaller", first.share_bp),
            );
        }
        self.lint_waits(&mut warn);
        self.lint_last_stage(&mut warn);
        findings
    }

    fn lint_waits(&self, warn: &mut impl FnMut(String, String)) {
        let unguarded = |i: usize| format!("/stages/{i}");
        for (i, stage) in self.stages.iter().enumerate() {
            if self.min_seconds(i) == 0 && stage.min_units == 0 && stage.min_events == 0 {
                warn(
                    unguarded(i),
                    "waits for nothing: give min_seconds, min_units or min_events".to_owned(),
                );
            }
            if self.blind && (stage.min_units > 0 || stage.min_events > 0) {
                warn(
                    unguarded(i),
                    "counts nothing when blind: only min_seconds holds".to_owned(),
                );
            }
        }
    }

    fn lint_last_stage(&self, warn: &mut impl FnMut(String, String)) {
        let everyone = self.final_bp() == BasisPoints::ALL && self.holdback_bp == BasisPoints::ZERO;
        if everyone && !self.blind && self.stages.last().is_some_and(|s| s.min_seconds > 0) {
            warn(
                "/holdback_bp".to_owned(),
                "is 0: at 100 % there is no control left, so the last bake cannot see a late \
                 regression; 100 to 500 keeps 1-5 % for comparison, and \
                 bake: {holdback_bp: 200, seconds: 86400} also looks for harm that begins late"
                    .to_owned(),
            );
        }
        if self.at_end == EndPolicy::Extend && self.deadline_seconds.is_none() && !self.blind {
            warn(
                "/deadline_seconds".to_owned(),
                "is absent: an undecided rollout would stay at its last stage for ever".to_owned(),
            );
        }
    }
}

/// Whether a condition is false for every context, as far as its literals alone can tell.
fn matches_nobody(audience: &Value) -> bool {
    match audience {
        Value::Bool(matches) => !matches,
        Value::Object(fields) => fields
            .iter()
            .any(|(operator, body)| match operator.as_str() {
                "in" => body
                    .as_array()
                    .and_then(|a| a.get(1))
                    .is_some_and(is_empty_list),
                "or" => body
                    .as_array()
                    .is_some_and(|parts| parts.iter().all(matches_nobody)),
                "and" => body
                    .as_array()
                    .is_some_and(|parts| parts.iter().any(matches_nobody)),
                _ => false,
            }),
        _ => false,
    }
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}
