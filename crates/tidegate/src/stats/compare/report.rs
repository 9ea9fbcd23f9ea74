//! The printed comparison: JSON rows of a stable shape, and a table.

use serde::Serialize;
use tidegate_stats::comparison::{Note, Relative, RelativeSet};
use tidegate_stats::figures::Figures;

use super::super::Table;
use super::super::table::{figure, figure_or};

/// Everything printed.
#[derive(Serialize)]
pub(super) struct CompareReport {
    pub(super) rows: Vec<Row>,
    /// Metrics that allow no answer, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unanswered: Vec<Unanswered>,
}

/// One metric of one treatment.
#[derive(Serialize)]
pub(super) struct Row {
    metric: String,
    arm: String,
    #[serde(flatten)]
    answered: Figures,
}

/// A metric without an answer.
#[derive(Serialize)]
pub(super) struct Unanswered {
    metric: String,
    arm: String,
    reason: String,
}

impl CompareReport {
    /// Adds an answer or the reason why there is none.
    pub(super) fn add(&mut self, answered: Result<Figures, String>, metric: &str, arm: &str) {
        let (metric, arm) = (metric.to_owned(), arm.to_owned());
        match answered {
            Ok(answered) => self.rows.push(Row {
                metric,
                arm,
                answered,
            }),
            Err(reason) => self.unanswered.push(Unanswered {
                metric,
                arm,
                reason,
            }),
        }
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let mut table = Table::new(&[
            "metric",
            "arm",
            "n control",
            "n",
            "control",
            "treatment",
            "difference",
            "interval",
            "relative",
            "set",
            "p",
            "method",
        ]);
        for Row {
            metric,
            arm,
            answered,
        } in &self.rows
        {
            table.row(vec![
                metric.clone(),
                arm.clone(),
                answered.n_control.to_string(),
                answered.n_treatment.to_string(),
                figure(answered.mean_control),
                figure(answered.mean_treatment),
                figure(answered.absolute.estimate),
                interval(answered.absolute.lower, answered.absolute.upper),
                answered
                    .relative
                    .estimate
                    .map_or_else(|| "-".to_owned(), percent),
                relative_set(&answered.relative),
                figure_or(answered.p_value, "-"),
                answered.method.to_owned(),
            ]);
        }
        let mut text = if self.rows.is_empty() {
            String::new()
        } else {
            table.render()
        };
        for row in &self.rows {
            text.push_str(&details(row));
        }
        for Unanswered {
            metric,
            arm,
            reason,
        } in &self.unanswered
        {
            text.push_str(&format!("\n{metric}, {arm}: no answer: {reason}"));
        }
        text
    }
}

fn details(
    Row {
        metric,
        arm,
        answered,
    }: &Row,
) -> String {
    let mut lines = Vec::new();
    if let Some(posterior) = &answered.bayesian {
        lines.push(format!(
            "chance to win {}, expected loss if shipped {}, if kept {}",
            figure(posterior.chance_to_win),
            figure(posterior.loss_if_shipped),
            figure(posterior.loss_if_kept)
        ));
    }
    if let Some(look) = &answered.group {
        let limit = figure_or(look.critical_z, "none at this look");
        lines.push(format!("z {} against the boundary {limit}", figure(look.z)));
        if let Some(stop) = &look.at_stop {
            lines.push(format!(
                "at the stop: median-unbiased {} {}, p {}",
                figure(stop.absolute.estimate),
                interval(stop.absolute.lower, stop.absolute.upper),
                figure(stop.p_value)
            ));
        }
    }
    if let Some(reduction) = answered.variance_reduction {
        lines.push(format!(
            "covariates removed {} of the variance",
            percent(reduction)
        ));
    }
    for name in &answered.dropped_covariates {
        lines.push(format!(
            "covariate {name} is constant or follows from those before it, and was dropped"
        ));
    }
    // The share of variance removed has a line of its own.
    let notes = answered.notes.iter();
    let notes = notes.filter(|note| !matches!(note, Note::VarianceReduction { .. }));
    lines.extend(notes.map(ToString::to_string));
    lines.push(format!(
        "alpha {:?}: {}",
        answered.method_detail.alpha, answered.method_detail.promise
    ));
    lines
        .iter()
        .map(|line| format!("\n{metric}, {arm}: {line}"))
        .collect()
}

fn percent(share: f64) -> String {
    format!("{:+.3} %", 100.0 * share)
}

fn interval(lower: Option<f64>, upper: Option<f64>) -> String {
    let end = |value: Option<f64>| figure_or(value, "unbounded");
    format!("({}, {})", end(lower), end(upper))
}

fn relative_set(relative: &Relative) -> String {
    let end = |value: Option<f64>| value.map_or_else(|| "unbounded".to_owned(), percent);
    match relative.set {
        RelativeSet::Interval => format!("({}, {})", end(relative.lower), end(relative.upper)),
        RelativeSet::Complement => {
            format!("outside ({}, {})", end(relative.lower), end(relative.upper))
        }
        RelativeSet::Line => "anything".to_owned(),
    }
}
