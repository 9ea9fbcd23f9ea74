//! Boundary crossing of Brownian motion: the density recursion under every sequential design.
//!
//! **What it answers.** A score process observed at information times `t_1 < t_2 < ...` behaves
//! like `B(t) = z sqrt(t)`, a Brownian motion whose drift is the effect in units of its standard
//! error at `t = 1`. This module carries the sub-density of the paths that have not yet left a
//! corridor, and from it reads the chance of leaving at each time.
//!
//! **How.** Armitage, McPherson and Rowe (1969): the density at a look is the density at the
//! look before, cut to the corridor and convolved with `N(0, dt)`. The cut density is analytic
//! inside the corridor, so composite Gauss-Legendre quadrature (16 points a panel, panels no
//! wider than five standard deviations of the finest neighbouring increment) converges
//! geometrically; halving the panels moves a boundary by less than 1e-9.
//!
//! **Between looks.** With [`Monitoring::Continuous`] each step also removes the paths that
//! touched the straight line between the corridor's ends and came back, by the Brownian-bridge
//! probability `exp(-2 (a - x)(b - y) / dt)`. What is left of the error is the corridor's own
//! curvature over one step.
//!
//! **Drift.** Densities are kept at zero drift. Under drift `d` a path at `(t, x)` weighs
//! `exp(d x - d^2 t / 2)` times as much, so one recursion serves every drift: power curves,
//! median-unbiased estimates and their intervals cost one pass over the stored nodes each.
//!
//! It knows nothing of spending functions, metrics or units.

use crate::special::{normal_pdf, normal_sf};

const POINTS_PER_PANEL: usize = 16;
const PANEL_WIDTH_IN_DEVIATIONS: f64 = 5.0;
/// Beyond this many deviations `exp(-u^2/2)` is zero in double precision.
const KERNEL_REACH_IN_DEVIATIONS: f64 = 38.7;
/// A corridor open on one side is cut here: what lies outside is below 1e-32.
const OPEN_SIDE_IN_DEVIATIONS: f64 = 12.0;
/// Exponent beyond which the chance of touching the corridor inside a step is nothing.
const BRIDGE_REACH: f64 = 45.0;

/// Whether paths may leave the corridor only at the stated times or at every moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monitoring {
    /// The process is looked at at the stated times only.
    AtLooks,
    /// The process is watched throughout; the corridor is linear between the stated times.
    Continuous,
}

/// An open interval of `B(t)` in which the process goes on. Either end may be infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Corridor {
    pub(crate) lower: f64,
    pub(crate) upper: f64,
}

/// The paths still inside at one time: quadrature nodes and the zero-drift mass at each.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    time: f64,
    corridor: Corridor,
    nodes: Vec<f64>,
    masses: Vec<f64>,
}

impl Slice {
    /// Every path at zero at time zero, inside `corridor`.
    pub(crate) fn origin(corridor: Corridor) -> Self {
        Self {
            time: 0.0,
            corridor,
            nodes: vec![0.0],
            masses: vec![1.0],
        }
    }

    pub(crate) fn time(&self) -> f64 {
        self.time
    }

    /// The chance, under `drift`, of being inside the corridor up to this time.
    pub(crate) fn survival(&self, drift: f64) -> f64 {
        self.tilted(drift).map(|(_, mass)| mass).sum()
    }

    /// The chance of having stayed inside up to here and of being at or above `barrier` at the
    /// later `time`.
    pub(crate) fn chance_above(&self, time: f64, barrier: f64, drift: f64) -> f64 {
        let step = time - self.time;
        let deviation = step.sqrt();
        self.tilted(drift)
            .map(|(node, mass)| mass * normal_sf((barrier - node - drift * step) / deviation))
            .sum()
    }

    /// The mirror image of [`Slice::chance_above`].
    pub(crate) fn chance_below(&self, time: f64, barrier: f64, drift: f64) -> f64 {
        let step = time - self.time;
        let deviation = step.sqrt();
        self.tilted(drift)
            .map(|(node, mass)| mass * normal_sf((node + drift * step - barrier) / deviation))
            .sum()
    }

    /// Minus the derivative of the zero-drift [`Slice::chance_above`] by the barrier.
    pub(crate) fn density_at(&self, time: f64, barrier: f64) -> f64 {
        let deviation = (time - self.time).sqrt();
        self.nodes
            .iter()
            .zip(&self.masses)
            .map(|(node, mass)| mass * normal_pdf((barrier - node) / deviation) / deviation)
            .sum()
    }

    /// The paths that are still inside at `time`, where the corridor is `corridor`.
    ///
    /// `next_time` is the time of the step after (itself when there is none): the mesh must
    /// resolve both increments.
    pub(crate) fn advance(
        &self,
        time: f64,
        next_time: f64,
        corridor: Corridor,
        monitoring: Monitoring,
    ) -> Self {
        let step = time - self.time;
        let deviation = step.sqrt();
        let after = next_time - time;
        let finest = if after > 0.0 {
            deviation.min(after.sqrt())
        } else {
            deviation
        };
        let reach = OPEN_SIDE_IN_DEVIATIONS * time.sqrt();
        let lower = if corridor.lower.is_finite() {
            corridor.lower
        } else {
            -reach
        };
        let upper = if corridor.upper.is_finite() {
            corridor.upper
        } else {
            reach
        };
        let (nodes, weights) = composite_nodes(lower, upper, finest);
        let masses = nodes
            .iter()
            .zip(&weights)
            .map(|(&node, weight)| {
                let density = match monitoring {
                    Monitoring::AtLooks => self.arrival(node, deviation),
                    Monitoring::Continuous => self.unbroken_arrival(node, deviation, corridor),
                };
                density * weight
            })
            .collect();
        Self {
            time,
            corridor,
            nodes,
            masses,
        }
    }

    fn tilted(&self, drift: f64) -> impl Iterator<Item = (f64, f64)> + '_ {
        let centre = 0.5 * drift * drift * self.time;
        self.nodes
            .iter()
            .zip(&self.masses)
            .map(move |(&node, &mass)| (node, mass * (drift * node - centre).exp()))
    }

    /// The range of nodes from which `target` can be reached at all.
    fn reachable(&self, target: f64, deviation: f64) -> (usize, usize) {
        let reach = KERNEL_REACH_IN_DEVIATIONS * deviation;
        let first = self.nodes.partition_point(|&node| node < target - reach);
        let last = self.nodes.partition_point(|&node| node <= target + reach);
        (first, last)
    }

    fn arrival(&self, target: f64, deviation: f64) -> f64 {
        let (first, last) = self.reachable(target, deviation);
        let exponent = -0.5 / (deviation * deviation);
        let sum: f64 = self.nodes[first..last]
            .iter()
            .zip(&self.masses[first..last])
            .map(|(node, mass)| {
                let gap = target - node;
                mass * (exponent * gap * gap).exp()
            })
            .sum();
        sum * normal_pdf(0.0) / deviation
    }

    fn unbroken_arrival(&self, target: f64, deviation: f64, next: Corridor) -> f64 {
        let (first, last) = self.reachable(target, deviation);
        let variance = deviation * deviation;
        let to_upper = 2.0 * (next.upper - target) / variance;
        let to_lower = 2.0 * (target - next.lower) / variance;
        let sum: f64 = self.nodes[first..last]
            .iter()
            .zip(&self.masses[first..last])
            .map(|(node, mass)| {
                let gap = target - node;
                let kept = unbroken((self.corridor.upper - node) * to_upper)
                    * unbroken((node - self.corridor.lower) * to_lower);
                mass * kept * (-0.5 * gap * gap / variance).exp()
            })
            .sum();
        sum * normal_pdf(0.0) / deviation
    }
}

/// The chance that a bridge with this exponent does not touch the line.
fn unbroken(exponent: f64) -> f64 {
    if exponent > BRIDGE_REACH {
        1.0
    } else {
        -(-exponent).exp_m1()
    }
}

/// Nodes and weights on `[lower, upper]`, fine enough for kernels of deviation `finest`.
fn composite_nodes(lower: f64, upper: f64, finest: f64) -> (Vec<f64>, Vec<f64>) {
    let width = (upper - lower).max(0.0);
    let wanted = (width / (PANEL_WIDTH_IN_DEVIATIONS * finest))
        .ceil()
        .max(1.0);
    let panel = width / wanted;
    let rule = gauss_legendre();
    let mut nodes = Vec::new();
    let mut weights = Vec::new();
    let mut index = 0.0;
    while index < wanted {
        let centre = lower + panel * (index + 0.5);
        for (position, weight) in &rule {
            nodes.push(centre + 0.5 * panel * position);
            weights.push(0.5 * panel * weight);
        }
        index += 1.0;
    }
    (nodes, weights)
}

/// The 16-point Gauss-Legendre rule on `[-1, 1]`, ascending, by Newton on the Legendre
/// recurrence from the Chebyshev-like guess.
fn gauss_legendre() -> [(f64, f64); POINTS_PER_PANEL] {
    let mut rule = [(0.0, 0.0); POINTS_PER_PANEL];
    let count = POINTS_PER_PANEL as f64;
    for (index, entry) in rule.iter_mut().rev().enumerate() {
        let mut position = (std::f64::consts::PI * (index as f64 + 0.75) / (count + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..8 {
            let (value, derivative) = legendre(position);
            slope = derivative;
            position -= value / derivative;
        }
        *entry = (
            position,
            2.0 / ((1.0 - position * position) * slope * slope),
        );
    }
    rule
}

/// The Legendre polynomial of degree [`POINTS_PER_PANEL`] and its derivative.
fn legendre(position: f64) -> (f64, f64) {
    let (mut before, mut here) = (1.0, position);
    for degree in 2..=POINTS_PER_PANEL {
        let degree = degree as f64;
        let next = ((2.0 * degree - 1.0) * position * here - (degree - 1.0) * before) / degree;
        before = here;
        here = next;
    }
    let count = POINTS_PER_PANEL as f64;
    (
        here,
        count * (position * here - before) / (position * position - 1.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::special::normal_cdf;

    #[test]
    fn quadrature_integrates_a_gaussian_to_machine_precision() {
        let (nodes, weights) = composite_nodes(-2.0, 3.0, 0.5);
        let sum: f64 = nodes
            .iter()
            .zip(&weights)
            .map(|(x, w)| w * normal_pdf(*x))
            .sum();
        assert!((sum - (normal_cdf(3.0) - normal_cdf(-2.0))).abs() < 1e-14);
    }

    /// A straight line has a closed form: P(max of B over [0, T] >= b) under drift d.
    #[test]
    fn continuous_monitoring_of_a_line_matches_the_reflection_principle() {
        let barrier = 1.5;
        let corridor = Corridor {
            lower: f64::NEG_INFINITY,
            upper: barrier,
        };
        let mut slice = Slice::origin(corridor);
        let steps = 20;
        for look in 1..=steps {
            let time = f64::from(look) / f64::from(steps);
            let next = f64::from((look + 1).min(steps)) / f64::from(steps);
            slice = slice.advance(time, next, corridor, Monitoring::Continuous);
        }
        for drift in [-0.5, 0.0, 1.0, 2.5] {
            let expected = normal_cdf(barrier - drift)
                - (2.0 * drift * barrier).exp() * normal_cdf(-barrier - drift);
            let found = slice.survival(drift);
            assert!(
                (found - expected).abs() < 1e-9,
                "drift {drift}: {found} {expected}"
            );
        }
    }

    #[test]
    fn tilting_equals_a_drifted_marginal() {
        let open = Corridor {
            lower: f64::NEG_INFINITY,
            upper: f64::INFINITY,
        };
        let slice = Slice::origin(open).advance(0.4, 1.0, open, Monitoring::AtLooks);
        let found = slice.chance_above(1.0, 1.2, 0.7);
        assert!(
            (found - normal_sf(0.5)).abs() < 1e-13,
            "{:e}",
            found - normal_sf(0.5)
        );
        assert!((slice.chance_below(1.0, 1.2, 0.7) - normal_cdf(0.5)).abs() < 1e-13);
    }
}
