//! Sequentially rejective graphs (Bretz, Maurer, Brannath and Posch 2009).
//!
//! Each hypothesis owns a share of alpha. When one is rejected its share flows along its edges
//! to the others and the edges are rewired so that nothing flows twice. The result does not
//! depend on the order of rejection.

use super::{FamilyError, check_alpha, check_p_values};

/// Shares of alpha and where each goes on rejection.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Share of alpha at the start, summing to at most 1.
    pub weights: Vec<f64>,
    /// `transitions[i][j]`: share of i's alpha that goes to j; rows sum to at most 1, diagonal 0.
    pub transitions: Vec<Vec<f64>>,
}

impl Graph {
    /// Hypotheses in a fixed order: each is tested at full alpha once all before it fell.
    #[must_use]
    pub fn fixed_sequence(hypotheses: usize) -> Self {
        let mut graph = Self::empty(hypotheses);
        if let Some(first) = graph.weights.first_mut() {
            *first = 1.0;
        }
        for index in 1..hypotheses {
            graph.transitions[index - 1][index] = 1.0;
        }
        graph
    }

    /// `primaries` in a fixed order; once all fell, alpha is shared by the `secondaries`, among
    /// which it moves as in Holm's procedure.
    #[must_use]
    pub fn gatekeeper(primaries: usize, secondaries: usize) -> Self {
        let mut graph = Self::empty(primaries + secondaries);
        let sequence = Self::fixed_sequence(primaries);
        graph.weights[..primaries].copy_from_slice(&sequence.weights);
        for (row, edges) in sequence.transitions.iter().enumerate() {
            graph.transitions[row][..primaries].copy_from_slice(edges);
        }
        for secondary in primaries..primaries + secondaries {
            if let Some(last) = primaries.checked_sub(1) {
                graph.transitions[last][secondary] = 1.0 / secondaries as f64;
            } else {
                graph.weights[secondary] = 1.0 / secondaries as f64;
            }
            for other in (primaries..primaries + secondaries).filter(|other| *other != secondary) {
                graph.transitions[secondary][other] = 1.0 / (secondaries - 1) as f64;
            }
        }
        graph
    }

    fn empty(hypotheses: usize) -> Self {
        Self {
            weights: vec![0.0; hypotheses],
            transitions: vec![vec![0.0; hypotheses]; hypotheses],
        }
    }

    fn fits(&self, hypotheses: usize) -> bool {
        let is_share = |row: &[f64]| {
            row.len() == hypotheses
                && row.iter().all(|share| *share >= 0.0)
                && row.iter().sum::<f64>() <= 1.0 + 1e-9
        };
        is_share(&self.weights)
            && self.transitions.len() == hypotheses
            && self
                .transitions
                .iter()
                .enumerate()
                .all(|(at, row)| is_share(row) && row[at] == 0.0)
    }
}

/// Which hypotheses the graph rejects at `alpha`.
///
/// # Errors
/// When a p-value, alpha or the graph is out of range.
pub fn graphical(p_values: &[f64], graph: &Graph, alpha: f64) -> Result<Vec<bool>, FamilyError> {
    check_p_values(p_values)?;
    check_alpha(alpha)?;
    if !graph.fits(p_values.len()) {
        return Err(FamilyError::Graph {
            hypotheses: p_values.len(),
        });
    }
    let Graph {
        mut weights,
        mut transitions,
    } = graph.clone();
    let mut rejected = vec![false; p_values.len()];
    while let Some(fallen) = (0..p_values.len()).find(|&index| {
        !rejected[index] && p_values[index] <= weights[index] * alpha && weights[index] > 0.0
    }) {
        rejected[fallen] = true;
        hand_on(&mut weights, &mut transitions, fallen, &rejected);
    }
    Ok(rejected)
}

fn hand_on(weights: &mut [f64], transitions: &mut [Vec<f64>], fallen: usize, rejected: &[bool]) {
    let open: Vec<usize> = (0..weights.len())
        .filter(|&index| !rejected[index])
        .collect();
    for &index in &open {
        weights[index] += weights[fallen] * transitions[fallen][index];
    }
    let before = transitions.to_vec();
    for &from in &open {
        let back = before[from][fallen] * before[fallen][from];
        for &to in open.iter().filter(|to| **to != from) {
            transitions[from][to] = if back < 1.0 {
                (before[from][to] + before[from][fallen] * before[fallen][to]) / (1.0 - back)
            } else {
                0.0
            };
        }
    }
}
