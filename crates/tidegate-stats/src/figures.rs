//! The figures of a comparison in one form, whatever the method: what reports and the command line
//! print of it.
//!
//! Nothing is computed here. The names are those of the JSON that both answer with, so they stay.

use serde::Serialize;

use crate::bayes::BayesComparison;
use crate::comparison::{Comparison, Effect, Method, Note, Relative};
use crate::group_sequential::{AtStop, GroupComparison};
use crate::order_statistics::QuantileComparison;

/// The figures of one treatment against the control.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Units of the control.
    pub n_control: u64,
    /// Units of the treatment.
    pub n_treatment: u64,
    /// The control's value.
    pub mean_control: f64,
    /// The treatment's value.
    pub mean_treatment: f64,
    /// Treatment minus control.
    pub absolute: Effect,
    /// The same as a share of the control's value.
    pub relative: Relative,
    /// The standard error of the difference, where the method has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// None under a Bayesian method.
    pub p_value: Option<f64>,
    /// Its logarithm, for evidence beyond `1e-308`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ln_p: Option<f64>,
    /// The method's name.
    pub method: &'static str,
    /// The method with its parameters, promise and assumptions.
    pub method_detail: Method,
    /// What a reader must know.
    pub notes: Vec<Note>,
    /// The share of variance that covariates removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variance_reduction: Option<f64>,
    /// Covariates that are constant or linear in those before them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped_covariates: Vec<String>,
    /// Of a Bayesian method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bayesian: Option<Posterior>,
    /// Of a look planned in advance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupLook>,
}

/// What a posterior says.
#[derive(Debug, Clone, Serialize)]
pub struct Posterior {
    /// Standard deviation of the difference.
    pub posterior_sd: f64,
    /// The probability that the treatment is better.
    pub chance_to_win: f64,
    /// What shipping is expected to lose.
    pub loss_if_shipped: f64,
    /// What keeping the control is expected to lose.
    pub loss_if_kept: f64,
}

/// A look against its boundary.
#[derive(Debug, Clone, Serialize)]
pub struct GroupLook {
    /// The statistic.
    pub z: f64,
    /// The boundary; none if nothing may be spent at this look.
    pub critical_z: Option<f64>,
    /// Whether it crosses.
    pub is_crossing: bool,
    /// Corrected figures, at the stop.
    pub at_stop: Option<AtStop>,
}

impl From<Comparison> for Figures {
    fn from(found: Comparison) -> Self {
        Self {
            n_control: found.units_control,
            n_treatment: found.units_treatment,
            mean_control: found.value_control,
            mean_treatment: found.value_treatment,
            absolute: found.absolute,
            relative: found.relative,
            standard_error: Some(found.standard_error),
            p_value: Some(found.p_value),
            ln_p: Some(found.ln_p),
            method: found.method.name,
            method_detail: found.method,
            notes: found.notes,
            variance_reduction: None,
            dropped_covariates: Vec::new(),
            bayesian: None,
            group: None,
        }
    }
}

impl From<GroupComparison> for Figures {
    fn from(found: GroupComparison) -> Self {
        let group = GroupLook {
            z: found.z,
            critical_z: found.critical_z,
            is_crossing: found.is_crossing,
            at_stop: found.at_stop,
        };
        Self {
            group: Some(group),
            ..Self::from(found.comparison)
        }
    }
}

impl From<QuantileComparison> for Figures {
    fn from(found: QuantileComparison) -> Self {
        let [n_control, n_treatment] = found.units;
        Self {
            n_control,
            n_treatment,
            mean_control: found.value_control,
            mean_treatment: found.value_treatment,
            absolute: found.absolute,
            relative: found.relative,
            standard_error: None,
            p_value: Some(found.p_value),
            ln_p: Some(found.ln_p),
            method: found.method.name,
            method_detail: found.method,
            notes: found.notes,
            variance_reduction: None,
            dropped_covariates: Vec::new(),
            bayesian: None,
            group: None,
        }
    }
}

impl From<BayesComparison> for Figures {
    fn from(found: BayesComparison) -> Self {
        Self {
            n_control: found.units_control,
            n_treatment: found.units_treatment,
            mean_control: found.value_control,
            mean_treatment: found.value_treatment,
            absolute: found.absolute,
            relative: found.relative,
            standard_error: None,
            p_value: None,
            ln_p: None,
            method: found.method.name,
            method_detail: found.method,
            notes: found.notes,
            variance_reduction: None,
            dropped_covariates: Vec::new(),
            bayesian: Some(Posterior {
                posterior_sd: found.posterior_sd,
                chance_to_win: found.chance_to_win,
                loss_if_shipped: found.loss_if_shipped,
                loss_if_kept: found.loss_if_kept,
            }),
            group: None,
        }
    }
}
