//! The quality gate: may these numbers be believed yet?
//!
//! **Order.** The gate comes before any verdict. What fails it withholds verdicts; the numbers stay
//! visible and are marked untrusted. *Too early* is an answer of its own, not a failure.
//!
//! | check | fails when | why it matters |
//! |---|---|---|
//! | split | the sequential SRM check alarms | lost or doubled exposures bias everything |
//! | multiple exposure | units seen in more than one arm pass 10 % (warns at 1 %) | effects are diluted and arms correlated |
//! | missing data | missing units are not spread like the units (e-process past 1/alpha) | the arms lose different people |
//! | pre-period | arms differed before the change (always-valid p at or below alpha) | randomisation or logging is broken |
//! | too early | an arm has fewer than the minimal units *or events* | asymptotic intervals do not hold yet |
//!
//! Minima count units and events per arm, never a metric total: a total of 150 in money is a
//! handful of orders.
//!
//! All evidence used here is valid at any time, so the gate may be asked after every unit.

use serde::Serialize;

use crate::srm::{SrmReport, log_e};

/// When a check warns or fails.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QualityLimits {
    /// Chance of a false alarm of the missing-data and pre-period checks, ever.
    pub alpha: f64,
    /// Share of units in more than one arm from which the check warns.
    pub multiple_exposure_warn: f64,
    /// Share from which it fails.
    pub multiple_exposure_fail: f64,
    /// Units each arm needs.
    pub units_min: u64,
    /// Events (units with a non-zero value) each arm needs, for every metric.
    pub events_min: u64,
}

impl Default for QualityLimits {
    fn default() -> Self {
        Self {
            alpha: 0.001,
            multiple_exposure_warn: 0.01,
            multiple_exposure_fail: 0.10,
            units_min: 100,
            events_min: 25,
        }
    }
}

/// Counts of one arm.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmQuality {
    /// Name of the arm.
    pub arm: String,
    /// Units counted in the arm.
    pub units: u64,
    /// Of these, units without a value where one is due.
    pub missing: u64,
    /// Events of the rarest metric.
    pub events: u64,
}

/// A metric measured before the change.
#[derive(Clone, Debug, PartialEq)]
pub struct PrePeriod {
    /// Name of the metric.
    pub metric: String,
    /// Always-valid p-value of the difference between the arms.
    pub p_value: f64,
}

/// Everything the gate looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityInput<'a> {
    /// The split check, if the allocation is known.
    pub srm: Option<&'a SrmReport>,
    /// Arms, control first.
    pub arms: &'a [ArmQuality],
    /// Units seen in more than one arm.
    pub units_in_several_arms: u64,
    /// Pre-period metrics; empty when there was none.
    pub pre_period: &'a [PrePeriod],
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStatus {
    /// Nothing against the data.
    Pass,
    /// Nothing to check with.
    NotChecked,
    /// Look at it.
    Warn,
    /// Not enough data yet.
    TooEarly,
    /// The data is not to be trusted.
    Fail,
}

/// One check with the number it rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Stable name.
    pub name: &'static str,
    /// How it ended.
    pub status: CheckStatus,
    /// The measured number, where there is one.
    pub value: Option<f64>,
    /// The limit it was held against.
    pub limit: Option<f64>,
    /// One sentence, with the cure where there is something to cure.
    pub sentence: String,
}

/// Whether results may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Verdicts may be given.
    Trusted,
    /// Too early for a verdict.
    TooEarly,
    /// A check failed; verdicts are withheld.
    Untrusted,
}

/// What the gate found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityReport {
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// The gate's answer: that of its worst check.
    pub trust: Trust,
}

/// Asks every check.
#[must_use]
pub fn gate(input: &QualityInput<'_>, limits: &QualityLimits) -> QualityReport {
    let mut checks = vec![
        split_check(input.srm),
        exposure_check(input, limits),
        missing_check(input.arms, limits),
    ];
    checks.push(pre_period_check(input.pre_period, limits));
    checks.push(early_check(
        "minimum units",
        "units",
        input.arms.iter().map(|arm| (arm.arm.as_str(), arm.units)),
        limits.units_min,
    ));
    checks.push(early_check(
        "minimum events",
        "events",
        input.arms.iter().map(|arm| (arm.arm.as_str(), arm.events)),
        limits.events_min,
    ));
    let worst = checks.iter().map(|check| check.status).max();
    let trust = match worst {
        Some(CheckStatus::Fail) => Trust::Untrusted,
        Some(CheckStatus::TooEarly) | None => Trust::TooEarly,
        Some(CheckStatus::Pass | CheckStatus::NotChecked | CheckStatus::Warn) => Trust::Trusted,
    };
    QualityReport { checks, trust }
}

fn split_check(srm: Option<&SrmReport>) -> Check {
    let name = "split";
    match srm {
        None => Check {
            name,
            status: CheckStatus::NotChecked,
            value: None,
            limit: None,
            sentence: "The served split is not known, so it was not checked.".to_owned(),
        },
        Some(report) => Check {
            name,
            status: if report.alarm {
                CheckStatus::Fail
            } else {
                CheckStatus::Pass
            },
            value: Some(report.sequential.log_e),
            limit: Some(-report.sequential.alpha.ln()),
            sentence: report.summary.clone(),
        },
    }
}

fn exposure_check(input: &QualityInput<'_>, limits: &QualityLimits) -> Check {
    let units: f64 = input.arms.iter().map(|arm| arm.units as f64).sum();
    let several = input.units_in_several_arms as f64;
    let share = if units > 0.0 { several / units } else { 0.0 };
    let (status, limit) = if share >= limits.multiple_exposure_fail {
        (CheckStatus::Fail, limits.multiple_exposure_fail)
    } else if share >= limits.multiple_exposure_warn {
        (CheckStatus::Warn, limits.multiple_exposure_warn)
    } else {
        (CheckStatus::Pass, limits.multiple_exposure_warn)
    };
    let cure = match status {
        CheckStatus::Pass => "",
        _ => {
            " Find out why assignment is not sticky; exclude these units only if they are spread evenly."
        }
    };
    Check {
        name: "multiple exposure",
        status,
        value: Some(share),
        limit: Some(limit),
        sentence: format!(
            "{:.2} % of units were seen in more than one arm; the limit is {:.0} %.{cure}",
            100.0 * share,
            100.0 * limit
        ),
    }
}

fn missing_check(arms: &[ArmQuality], limits: &QualityLimits) -> Check {
    let units: f64 = arms.iter().map(|arm| arm.units as f64).sum();
    let present: Vec<&ArmQuality> = arms.iter().filter(|arm| arm.units > 0).collect();
    let shares: Vec<f64> = present.iter().map(|arm| arm.units as f64 / units).collect();
    let missing: Vec<f64> = present.iter().map(|arm| arm.missing as f64).collect();
    let strength = crate::srm::PRIOR_STRENGTH;
    let evidence = log_e(&shares, &missing, strength);
    let limit = -limits.alpha.ln();
    let failed = evidence >= limit;
    let total: f64 = missing.iter().sum();
    let sentence = if failed {
        format!(
            "{total:.0} units have no value, and not evenly by arm (E = e^{evidence:.2}): the arms lose \
             different units. Repair logging before reading results."
        )
    } else {
        format!("{total:.0} units have no value, spread over the arms like the units themselves.")
    };
    Check {
        name: "missing data",
        status: if failed {
            CheckStatus::Fail
        } else {
            CheckStatus::Pass
        },
        value: Some(evidence),
        limit: Some(limit),
        sentence,
    }
}

fn pre_period_check(metrics: &[PrePeriod], limits: &QualityLimits) -> Check {
    let name = "pre-period balance";
    let Some(worst) = metrics
        .iter()
        .min_by(|a, b| a.p_value.total_cmp(&b.p_value))
    else {
        return Check {
            name,
            status: CheckStatus::NotChecked,
            value: None,
            limit: None,
            sentence: "There is no measurement from before the change to compare.".to_owned(),
        };
    };
    let limit = limits.alpha / metrics.len() as f64;
    let failed = worst.p_value <= limit;
    let verb = if failed {
        "already differed"
    } else {
        "did not differ"
    };
    Check {
        name,
        status: if failed {
            CheckStatus::Fail
        } else {
            CheckStatus::Pass
        },
        value: Some(worst.p_value),
        limit: Some(limit),
        sentence: format!(
            "Before the change the arms {verb} detectably in {} (smallest of {} p-values: {:.3e}).",
            worst.metric,
            metrics.len(),
            worst.p_value
        ),
    }
}

fn early_check<'a>(
    name: &'static str,
    what: &str,
    arms: impl Iterator<Item = (&'a str, u64)>,
    minimum: u64,
) -> Check {
    let fewest = arms.min_by_key(|(_, count)| *count);
    let (status, value, sentence) = match fewest {
        None => (
            CheckStatus::TooEarly,
            None,
            format!("There is no arm with {what} yet."),
        ),
        Some((arm, count)) if count < minimum => (
            CheckStatus::TooEarly,
            Some(count as f64),
            format!("Too early: {arm} has {count} {what}; each arm needs {minimum}."),
        ),
        Some((arm, count)) => (
            CheckStatus::Pass,
            Some(count as f64),
            format!("Every arm has its minimum of {minimum} {what} (fewest: {arm}, {count})."),
        ),
    };
    Check {
        name,
        status,
        value,
        limit: Some(minimum as f64),
        sentence,
    }
}

#[cfg(test)]
mod tests;
