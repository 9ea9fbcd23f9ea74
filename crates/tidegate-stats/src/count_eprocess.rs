//! Exact always-valid comparison of event counts: errors, rare conversions, crashes.
//!
//! # Promise
//! Exact at any number of events, from the first on, whenever one looks: under the null, `p` is ever below
//! `alpha` with probability at most `alpha`, and the confidence sets for the ratio of the two rates cover it
//! at all times at once with probability at least `1 - alpha`.
//!
//! # Assumptions
//! Every unit is assigned at random with the share that the flag's own history gives for its phase, events
//! are rare enough per unit that each is a draw of its own, and both rates may change over time as long as
//! their ratio does not.
//! Only the share and the counts are needed, not the number of exposures.
//!
//! # Formula
//! Given that an event happens, it comes from treatment with probability `pi(rho) = rho w / (rho w + 1 -
//! w)`, where `w` is treatment's share of units and `rho` the ratio of the rates (Lindon and Malek, NeurIPS
//! 2022, arXiv 2011.03567).
//! A Beta(a, b) mixture over that probability against its null value is an e-process:
//! `E = B(a + k_T, b + k_C) / (B(a, b) pi^k_T (1 - pi)^k_C)`.
//! It is evaluated as the difference of two saddle-point prefactors, which does not cancel for counts in the
//! billions.
//! Where the share changes, each phase has its own mixture and the evidence of the phases multiplies.
//! One-sided, the mixture is restricted to the side of the alternative, which makes E valid for every ratio
//! up to the null one.
//! The confidence set is every `rho` whose E is below `1 / alpha`; `-ln E` is concave in `ln rho`, so it is
//! an interval.
//! Where phases contradict each other so much that every ratio is refuted, the set would be empty; the
//! answer then says that the ratio varies and gives no set.
//!
//! The concentration `a + b = K / x` makes the process most powerful at `K` events, `x` being the optimal
//! information of the normal mixture in `sequential`.
//!
//! # When it fails
//! Units with very many events each (heavy users) break the independence of events: count units with an
//! event instead.

use serde::Serialize;

use crate::bisection::bisect;
use crate::comparison::{Method, Parameters, Relative, RelativeSet, Tail};
use crate::error::{StatsError, open_unit, positive};
use crate::special::{lambert_root, ln_beta_inc, ln_beta_prefactor};

/// Counts while the share of treatment was constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// Probability that a unit of either arm is assigned to treatment, strictly between 0 and 1.
    pub treatment_share: f64,
    /// Events in control.
    pub events_control: u64,
    /// Events in treatment.
    pub events_treatment: u64,
}

/// How to monitor counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CountOptions {
    /// Level, strictly between 0 and 1.
    pub alpha: f64,
    /// Which departures count.
    pub tail: Tail,
    /// Ratio of the rates tested against: 1 for no effect, 1.1 for a margin of 10 %.
    pub null_ratio: f64,
    /// Events of both arms at which the process is most powerful.
    pub tune_at_events: f64,
}

impl Default for CountOptions {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            tail: Tail::TwoSided,
            null_ratio: 1.0,
            tune_at_events: 100.0,
        }
    }
}

/// What the counts say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CountComparison {
    /// Events in control.
    pub events_control: u64,
    /// Events in treatment.
    pub events_treatment: u64,
    /// The change of the rate as a share of the baseline rate, that is the ratio minus one.
    pub relative: Relative,
    /// Whether the phases contradict each other: no constant ratio explains them all, so no set is
    /// given (it is shown as the whole line) and the p-value speaks about the phases together.
    pub ratio_varies: bool,
    /// The always-valid p-value.
    pub p_value: f64,
    /// Its natural logarithm.
    pub ln_p: f64,
    /// Ratio tested against.
    pub null_ratio: f64,
    /// How it was computed.
    pub method: Method,
}

/// Furthest logarithm of a ratio that is searched; beyond, an end counts as unbounded.
const FURTHEST: f64 = 600.0;

/// Compares the event rates of two arms over the phases of an allocation.
///
/// # Errors
/// If a share or an option is out of range, or there is no phase.
pub fn compare(phases: &[Phase], options: &CountOptions) -> Result<CountComparison, StatsError> {
    let process = Process::new(phases, options)?;
    let alpha = options.alpha;
    let ln_e = process.ln_e(options.null_ratio.ln());
    let ln_p = (-ln_e).clamp(f64::MIN, 0.0);
    Ok(CountComparison {
        events_control: process.total(|phase| phase.events_control),
        events_treatment: process.total(|phase| phase.events_treatment),
        relative: process.confidence_set(alpha),
        ratio_varies: !process.is_plausible(process.anchor(), alpha),
        p_value: ln_p.exp(),
        ln_p,
        null_ratio: options.null_ratio,
        method: Method {
            name: "count e-process",
            alpha,
            tail: options.tail,
            multiplier: None,
            parameters: Parameters::Count {
                tune_at_events: options.tune_at_events,
                ln_e,
            },
            promise: "exact at any count: all sets ever shown cover the true ratio of the rates at once \
                      with probability 1 - alpha",
            assumptions: &[
                "units are assigned at random with the stated share",
                "events are independent of each other",
                "the ratio of the rates is constant",
            ],
        },
    })
}

/// The logarithm of the e-value against the null ratio alone, without a set; what a loop over events needs.
///
/// # Errors
/// As for [`compare`].
pub fn ln_e(phases: &[Phase], options: &CountOptions) -> Result<f64, StatsError> {
    Ok(Process::new(phases, options)?.ln_e(options.null_ratio.ln()))
}

struct Process<'a> {
    phases: &'a [Phase],
    concentration: f64,
    tail: Tail,
}

impl<'a> Process<'a> {
    fn new(phases: &'a [Phase], options: &CountOptions) -> Result<Self, StatsError> {
        let alpha = open_unit("alpha", options.alpha)?;
        positive("null_ratio", options.null_ratio)?;
        positive("tune_at_events", options.tune_at_events)?;
        if phases.is_empty() {
            return Err(StatsError::Mismatch {
                what: "phases",
                left: 0,
                right: 1,
            });
        }
        for phase in phases {
            open_unit("treatment_share", phase.treatment_share)?;
        }
        let information = lambert_root(1.0 - 2.0 * alpha.ln()) - 1.0;
        Ok(Self {
            phases,
            concentration: options.tune_at_events / information,
            tail: options.tail,
        })
    }

    fn total(&self, count: fn(&Phase) -> u64) -> u64 {
        self.phases.iter().map(count).fold(0, u64::saturating_add)
    }

    /// `ln E` against the ratio `exp(ln_ratio)`.
    fn ln_e(&self, ln_ratio: f64) -> f64 {
        let total: f64 = self
            .phases
            .iter()
            .map(|phase| self.phase_ln_e(phase, ln_ratio))
            .sum();
        total.clamp(f64::MIN, f64::MAX)
    }

    fn phase_ln_e(&self, phase: &Phase, ln_ratio: f64) -> f64 {
        let (treatment, control) = (phase.events_treatment as f64, phase.events_control as f64);
        if treatment + control == 0.0 {
            return 0.0;
        }
        let share = phase.treatment_share;
        let (a, b) = (
            self.concentration * share,
            self.concentration * (1.0 - share),
        );
        let (x, y) = event_shares(share, ln_ratio);
        let two_sided =
            ln_beta_prefactor(a, b, x, y) - ln_beta_prefactor(a + treatment, b + control, x, y);
        two_sided
            + match self.tail {
                Tail::TwoSided => 0.0,
                Tail::Greater => {
                    ln_beta_inc(b + control, a + treatment, y, x) - ln_beta_inc(b, a, y, x)
                }
                Tail::Less => {
                    ln_beta_inc(a + treatment, b + control, x, y) - ln_beta_inc(a, b, x, y)
                }
            }
    }

    /// The logarithm of the most likely ratio; infinite where one arm has no event.
    fn most_likely(&self) -> f64 {
        if self.total(|phase| phase.events_treatment) == 0 {
            return f64::NEG_INFINITY;
        }
        if self.total(|phase| phase.events_control) == 0 {
            return f64::INFINITY;
        }
        let is_below = |ln_ratio: f64| {
            let score: f64 = self
                .phases
                .iter()
                .map(|phase| {
                    let (x, y) = event_shares(phase.treatment_share, ln_ratio);
                    phase.events_treatment as f64 * y - phase.events_control as f64 * x
                })
                .sum();
            score > 0.0
        };
        bisect(-FURTHEST, FURTHEST, 0.0, is_below).middle()
    }

    /// The most likely logarithm of the ratio within what is searched.
    fn anchor(&self) -> f64 {
        self.most_likely().clamp(-FURTHEST, FURTHEST)
    }

    fn is_plausible(&self, ln_ratio: f64, alpha: f64) -> bool {
        self.ln_e(ln_ratio) < -alpha.ln()
    }

    fn confidence_set(&self, alpha: f64) -> Relative {
        let best = self.most_likely();
        let estimate = Some(best.exp_m1()).filter(|_| best < FURTHEST && !best.is_nan());
        let anchor = self.anchor();
        let is_inside = |ln_ratio: f64| self.is_plausible(ln_ratio, alpha);
        let end = |furthest: f64| {
            (!is_inside(furthest) && is_inside(anchor))
                .then(|| bisect(anchor, furthest, 0.0, is_inside).inside.exp_m1())
        };
        let lower = if self.tail == Tail::Less {
            None
        } else {
            end(-FURTHEST)
        };
        let upper = if self.tail == Tail::Greater {
            None
        } else {
            end(FURTHEST)
        };
        if lower.is_none() && upper.is_none() {
            return Relative::line(estimate);
        }
        Relative {
            estimate,
            lower,
            upper,
            set: RelativeSet::Interval,
        }
    }
}

/// The probabilities that an event comes from treatment and from control.
fn event_shares(treatment_share: f64, ln_ratio: f64) -> (f64, f64) {
    let logit = ln_ratio + treatment_share.ln() - (-treatment_share).ln_1p();
    let odds = (-logit.abs()).exp();
    let (near_one, near_zero) = (1.0 / (1.0 + odds), odds / (1.0 + odds));
    if logit > 0.0 {
        (near_one, near_zero)
    } else {
        (near_zero, near_one)
    }
}
