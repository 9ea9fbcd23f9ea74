//! Post-stratification: compare like with like, then weigh by how common each stratum is.
//!
//! # Promise
//! The effect on the whole population, without the noise that comes from arms that happen to differ in
//! their mix of strata (country, platform, allocation phase).
//!
//! # Assumptions
//! The stratum of a unit is fixed before exposure.
//! The strata's shares are those of both arms pooled, `nu_s = n_s / N`, so unequal allocation over time
//! does not confound the effect when the phase is the stratum.
//!
//! # Formula
//! `m_T = sum nu_s m_Ts`, likewise control.
//! Variance within strata: `sum nu_s^2 s_as^2 / n_as`.
//! The shares are themselves estimated, which adds the multinomial term `m' (diag(nu) - nu nu') m / N`,
//! with its covariance between the two arms.
//! Degrees of freedom by Satterthwaite's rule over all parts.
//!
//! # When it fails
//! Many strata with a handful of units: strata with fewer than two units in an arm are pooled into one and
//! a note says so; if the pooled one is still too thin, the comparison is refused.

use crate::comparison::Note;
use crate::effect::{Contrast, enough_units};
use crate::error::{Side, StatsError, in_range};
use crate::moments::Moments;

/// Both arms within one stratum.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stratum {
    /// Units of control.
    pub control: Moments,
    /// Units of treatment.
    pub treatment: Moments,
}

/// The post-stratified contrast.
///
/// # Errors
/// If there are too few units even when thin strata are pooled, or a moment leaves the range.
pub fn contrast(strata: &[Stratum]) -> Result<Contrast, StatsError> {
    let (thick, pooled) = pool_thin(strata);
    let total: f64 = thick.iter().map(cell_units).sum();
    let mut sums = Sums::default();
    for stratum in &thick {
        sums.add(&Cell::of(stratum)?, total);
    }
    let covariance = (sums.crossed - sums.difference * sums.control) / total;
    let between_difference =
        ((sums.difference_squares - sums.difference * sums.difference) / total).max(0.0);
    let between_control = ((sums.control_squares - sums.control * sums.control) / total).max(0.0);
    let variance = sums.within_control + sums.within_treatment + between_difference;
    sums.degrees_terms += between_difference * between_difference / (total - 1.0);
    let count = |of: fn(&Stratum) -> u64| thick.iter().map(of).sum::<u64>();
    let remarks = if pooled > 0 {
        vec![Note::PooledStrata { strata: pooled }]
    } else {
        Vec::new()
    };
    Ok(Contrast {
        control: in_range("the stratified mean", sums.control)?,
        treatment: in_range("the stratified mean", sums.control + sums.difference)?,
        difference: in_range("the stratified difference", sums.difference)?,
        variance_difference: in_range("the stratified variance", variance)?,
        variance_control: in_range(
            "the stratified variance",
            sums.within_control + between_control,
        )?,
        covariance_difference_control: covariance - sums.within_control,
        degrees: if sums.degrees_terms > 0.0 {
            variance * variance / sums.degrees_terms
        } else {
            f64::INFINITY
        },
        units: [count(|s| s.control.units()), count(|s| s.treatment.units())],
        events: [
            count(|s| s.control.events()),
            count(|s| s.treatment.events()),
        ],
        constant: [sums.within_control == 0.0, sums.within_treatment == 0.0],
        remarks,
    })
}

/// Merges strata with fewer than two units in an arm into one; also says how many.
fn pool_thin(strata: &[Stratum]) -> (Vec<Stratum>, usize) {
    let is_thin = |s: &&Stratum| s.control.units() < 2 || s.treatment.units() < 2;
    let mut thick: Vec<Stratum> = strata.iter().filter(|s| !is_thin(s)).cloned().collect();
    let mut rest = Stratum::default();
    let mut pooled = 0;
    for stratum in strata.iter().filter(is_thin) {
        rest.control.merge(&stratum.control);
        rest.treatment.merge(&stratum.treatment);
        pooled += 1;
    }
    if pooled > 0 {
        // A remainder that is still thin joins the last stratum rather than dropping its units.
        match thick.last_mut() {
            Some(last) if is_thin(&&rest) => {
                last.control.merge(&rest.control);
                last.treatment.merge(&rest.treatment);
            }
            _ => thick.push(rest),
        }
    }
    if thick.is_empty() {
        thick.push(Stratum::default());
    }
    (thick, pooled)
}

fn cell_units(stratum: &Stratum) -> f64 {
    stratum.control.units() as f64 + stratum.treatment.units() as f64
}

/// Means and variances of one stratum.
struct Cell {
    units: [f64; 2],
    control: f64,
    difference: f64,
    variances: [f64; 2],
}

impl Cell {
    fn of(stratum: &Stratum) -> Result<Self, StatsError> {
        let arm = |moments: &Moments, side| {
            enough_units(side, moments.units(), 2)?;
            let mean = in_range("the mean of a stratum", moments.mean().unwrap_or(0.0))?;
            let variance = in_range(
                "the variance of a stratum",
                moments.variance().unwrap_or(0.0),
            )?;
            Ok((moments.units() as f64, mean, variance))
        };
        let (n_control, control, variance_control) = arm(&stratum.control, Side::Control)?;
        let (n_treatment, treatment, variance_treatment) =
            arm(&stratum.treatment, Side::Treatment)?;
        Ok(Self {
            units: [n_control, n_treatment],
            control,
            difference: treatment - control,
            variances: [variance_control, variance_treatment],
        })
    }
}

/// Weighted sums over strata.
#[derive(Default)]
struct Sums {
    control: f64,
    difference: f64,
    control_squares: f64,
    difference_squares: f64,
    crossed: f64,
    within_control: f64,
    within_treatment: f64,
    degrees_terms: f64,
}

impl Sums {
    fn add(&mut self, cell: &Cell, total: f64) {
        let share = (cell.units[0] + cell.units[1]) / total;
        self.control += share * cell.control;
        self.difference += share * cell.difference;
        self.control_squares += share * cell.control * cell.control;
        self.difference_squares += share * cell.difference * cell.difference;
        self.crossed += share * cell.control * cell.difference;
        let within = [0, 1].map(|arm| share * share * cell.variances[arm] / cell.units[arm]);
        self.within_control += within[0];
        self.within_treatment += within[1];
        for (variance, units) in within.iter().zip(cell.units) {
            self.degrees_terms += variance * variance / (units - 1.0);
        }
    }
}
