//! Targets per service and when to speak up.
//!
//! A target is missed only when the whole interval lies on the wrong side; while the interval still holds the
//! target, the answer is *undecided*, and without data it is *no data*. Alerts are for misses alone.
//!
//! To start with: daily deployments, less than a day to production, at most 15 % failing, less than an hour to
//! recover. They are starting points for a conversation, not grades.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metrics::{MetricReport, MetricRow};

/// What a service aims at. Absent parts are not aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// At least so many deployments per day.
    pub deployments_per_day: Option<f64>,
    /// At most so many hours to production.
    pub change_lead_time_hours: Option<f64>,
    /// At most this share of deployments fails.
    pub change_fail_rate: Option<f64>,
    /// At most so many hours to recover.
    pub recovery_time_hours: Option<f64>,
    /// At most so many items in progress.
    pub wip_limit: Option<usize>,
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            deployments_per_day: Some(1.0),
            change_lead_time_hours: Some(24.0),
            change_fail_rate: Some(0.15),
            recovery_time_hours: Some(1.0),
            wip_limit: None,
        }
    }
}

/// Targets of a project: what every service aims at, and what some aim at instead.
///
/// Written as `{"default": {...}, "services": {"shop": {...}}}`, or as one [`Targets`] that holds for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceTargets {
    /// For services without targets of their own.
    pub default: Targets,
    /// By service.
    pub services: BTreeMap<String, Targets>,
}

impl ServiceTargets {
    /// Reads either form; parts left out keep their starting values.
    ///
    /// # Errors
    /// Where the JSON is broken, and fields that there are none of.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        // A list of values in field order would read as targets, and be taken for something else by people.
        let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
        let is_by_service = value.contains_key("default") || value.contains_key("services");
        let value = serde_json::Value::Object(value);
        if is_by_service {
            return serde_json::from_value(value);
        }
        Ok(Self {
            default: serde_json::from_value(value)?,
            services: BTreeMap::new(),
        })
    }

    /// What a service aims at.
    #[must_use]
    pub fn of(&self, service: &str) -> Targets {
        self.services.get(service).copied().unwrap_or(self.default)
    }

    /// Services with a limit on work in progress of their own.
    pub fn wip_limits(&self) -> impl Iterator<Item = (&str, usize)> {
        self.services
            .iter()
            .filter_map(|(service, targets)| Some((service.as_str(), targets.wip_limit?)))
    }
}

/// How a number stands to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Certainly met.
    Met,
    /// Certainly missed.
    Missed,
    /// The interval holds the target.
    Undecided,
    /// Nothing was measured.
    NoData,
}

/// One target and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetRow {
    /// Service.
    pub service: String,
    /// Metric.
    pub metric: &'static str,
    /// Aim, in the metric's unit.
    pub target: f64,
    /// Measured.
    pub value: Option<f64>,
    /// How it stands.
    pub standing: Standing,
    /// A sentence when it is missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
}

/// Compares a report with one service's targets.
#[must_use]
pub fn compare(report: &MetricReport, service: &str, targets: Targets) -> Vec<TargetRow> {
    let aims = [
        ("deployment_frequency", targets.deployments_per_day, true),
        ("change_lead_time", targets.change_lead_time_hours, false),
        ("change_fail_rate", targets.change_fail_rate, false),
        (
            "failed_deployment_recovery_time",
            targets.recovery_time_hours,
            false,
        ),
    ];
    aims.into_iter()
        .filter_map(|(metric, target, more_is_better)| {
            let target = target?;
            let row = report
                .rows
                .iter()
                .find(|row| row.metric == metric && row.service == service)?;
            let standing = standing(row, target, more_is_better);
            let alert = (standing == Standing::Missed).then(|| {
                let side = if more_is_better { "below" } else { "above" };
                format!(
                    "{service}: {metric} is {:.2} {}, {side} the target of {target}",
                    row.value.unwrap_or(0.0),
                    row.unit
                )
            });
            Some(TargetRow {
                service: service.to_owned(),
                metric: row.metric,
                target,
                value: row.value,
                standing,
                alert,
            })
        })
        .collect()
}

fn standing(row: &MetricRow, target: f64, more_is_better: bool) -> Standing {
    let Some(value) = row.value else {
        return Standing::NoData;
    };
    let (low, high) = row
        .interval
        .map_or((value, value), |interval| (interval.low, interval.high));
    let (worst, best) = if more_is_better {
        (low, high)
    } else {
        (-high, -low)
    };
    let target = if more_is_better { target } else { -target };
    if worst >= target {
        Standing::Met
    } else if best < target {
        Standing::Missed
    } else {
        Standing::Undecided
    }
}
