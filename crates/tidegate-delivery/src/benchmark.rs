//! Where others stand: editions of DORA's survey and of tools' bands, as data with their year.
//!
//! Files under `spec/delivery/benchmarks/`. Survey scores are 0 to 10 with 10 best; the published files store fail
//! and rework rates low-is-good, and are inverted here once, by the file's own `inverted` mark.
//! Bands of different metrics are never combined into one grade: the survey's clusters are not thresholds.

use serde::{Deserialize, Serialize};

/// One edition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edition {
    /// Name.
    pub id: String,
    /// Year.
    pub year: u16,
    /// Where it is published.
    pub source: String,
    /// What to know before comparing.
    pub cautions: Vec<String>,
    /// Survey groups with mean and standard deviation per metric, scores of 0 to 10.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Upper limits per metric, best band first.
    #[serde(default)]
    pub bands: Vec<Band>,
}

/// A survey group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Industry, size, or `all`.
    pub name: String,
    /// Scores.
    pub scores: Vec<Score>,
}

/// One metric of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Metric name.
    pub metric: String,
    /// Mean as published.
    pub mean: f64,
    /// Standard deviation, where published.
    #[serde(default)]
    pub deviation: Option<f64>,
    /// Whether low is good in the published file.
    #[serde(default)]
    pub inverted: bool,
}

impl Score {
    /// Mean with 10 best.
    #[must_use]
    pub fn mean_high_is_good(&self) -> f64 {
        if self.inverted {
            10.0 - self.mean
        } else {
            self.mean
        }
    }
}

/// Limits of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// Metric name.
    pub metric: String,
    /// Unit of the limits.
    pub unit: String,
    /// Names and limits, best first; the last has none.
    pub limits: Vec<(String, Option<f64>)>,
}

const BUILT_IN: [&str; 3] = [
    include_str!("../../../spec/delivery/benchmarks/dora-2025.json"),
    include_str!("../../../spec/delivery/benchmarks/dora-2024-clusters.json"),
    include_str!("../../../spec/delivery/benchmarks/devlake-2023.json"),
];

/// All editions built in.
#[must_use]
pub fn editions() -> Vec<Edition> {
    BUILT_IN
        .iter()
        .filter_map(|text| serde_json::from_str(text).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edition_reads_and_inversion_yields_the_comparable_mean() {
        let editions: Vec<Edition> = BUILT_IN
            .iter()
            .map(|text| serde_json::from_str(text).expect("an edition"))
            .collect();
        let all = &editions[0].groups[0];
        assert_eq!(all.name, "all");
        let mean =
            all.scores.iter().map(Score::mean_high_is_good).sum::<f64>() / all.scores.len() as f64;
        // The published average of 4.3 mixes directions; after inversion it is 6.72.
        assert!((mean - 6.72).abs() < 0.005, "{mean}");
    }
}
