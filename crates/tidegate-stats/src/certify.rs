//! The certificate: are the promises of this engine kept, measured on simulated experiments?
//!
//! **Protocol.** Each study repeats a whole experiment, looks included, with a known truth, and
//! counts how often a promise is broken. **A bar is met when the upper 99 % Clopper-Pearson limit
//! of the rate is at or below it**, so a bar cannot be met by luck of few repetitions. Repetitions are
//! fixed beforehand ([`Level`]); a bar that is not met is reported as such and never moved.
//!
//! Sections as in the protocol: A type I error, B coverage, C sample ratio, F planner,
//! G families and decisions, H bias. D (numerics) and E (figures) are exact tests of this crate and
//! need no repetitions.
//!
//! **Beyond the protocol.** Section B bounds the coverage of *relative* sets. Absolute intervals under a
//! true lift are measured beside them and marked as beyond the protocol: they show where the
//! normal approximation ends, and do not decide whether the certificate is met.
//!
//! **What is asked.** The product's own functions: the comparison at each look, the split check,
//! the boundaries, the planner, the decision. Only where every unit of a million is watched does
//! a running copy of the statistic screen the looks; whenever it is within 3 % of its limit
//! (1 % for splits) the product is asked and its answer counts.
//!
//! **Reproducible.** Draws depend on the seed, the study's name and the repetition only, so any
//! [`Executor`] gives the same certificate.
//!
//! **Not covered.** Hourly schedules of quantiles (daily ones and every unit are); durations against
//! recorded traffic (a seasonal model stands in for it).

mod catalogue;
mod derived;
mod every_unit;
mod exact;
mod families;
mod looks;
mod monitor;
mod programme;
mod random;
mod splits;
mod study;
mod watched_power;

use serde::Serialize;

use crate::special::beta_inc_inv;
use random::Stream;
use study::Study;

/// The limit is the upper end of the two-sided 99 % interval.
const CONFIDENCE: f64 = 0.995;
/// Repetitions one job does.
const CHUNK: u32 = 25;

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// One configuration of each kind; within a minute on two cores.
    Quick,
    /// Every configuration at its stated repetitions.
    Full,
}

/// One measured promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Section of the protocol.
    pub section: &'static str,
    /// What is counted.
    pub configuration: String,
    /// Of which metric.
    pub metric: String,
    /// On which scale, where there are two.
    pub scale: &'static str,
    /// Looked at when.
    pub schedule: String,
    /// Experiments simulated.
    pub repetitions: u32,
    /// Share in which the promise was broken.
    pub rate: f64,
    /// Upper 99 % Clopper-Pearson limit of that share.
    pub upper_99: f64,
    /// The bar.
    pub bar: f64,
    /// `upper_99 <= bar`.
    pub met: bool,
    /// Asked for by the protocol; other rows show limits beyond it.
    pub in_protocol: bool,
    /// Why a bar is not met, where that is understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// All measured promises.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Certificate {
    /// How much was run.
    pub level: Level,
    /// The seed.
    pub seed: u64,
    /// Whether every bar of the protocol is met.
    pub met: bool,
    /// Row by row.
    pub rows: Vec<Row>,
}

/// Hits per row of a chunk of repetitions.
pub type Counts = Vec<u64>;

/// Runs independent jobs, in any order, on any number of threads.
pub trait Executor {
    /// The results of `job(0)` to `job(jobs - 1)`, in any order.
    fn run(&self, jobs: u32, job: &(dyn Fn(u32) -> Counts + Sync)) -> Vec<Counts>;
}

/// One job after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct InSequence;

impl Executor for InSequence {
    fn run(&self, jobs: u32, job: &(dyn Fn(u32) -> Counts + Sync)) -> Vec<Counts> {
        (0..jobs).map(job).collect()
    }
}

/// Measures every promise of `level` whose study's name contains `only` (all of them, if empty); `on_row` hears
/// of each as it is done.
///
/// Rows do not depend on which others are measured.
pub fn certify(
    level: Level,
    seed: u64,
    only: &str,
    executor: &dyn Executor,
    on_row: &mut dyn FnMut(&Row),
) -> Certificate {
    let mut rows = Vec::new();
    let studies = catalogue::studies(level);
    for study in studies.iter().filter(|study| study.name.contains(only)) {
        for row in measure(study, seed, executor) {
            on_row(&row);
            rows.push(row);
        }
    }
    let met = rows.iter().all(|row| row.met || !row.in_protocol);
    Certificate {
        level,
        seed,
        met,
        rows,
    }
}

fn measure(study: &Study, seed: u64, executor: &dyn Executor) -> Vec<Row> {
    let jobs = study.repetitions.div_ceil(CHUNK);
    let job = |chunk: u32| -> Counts {
        let mut counts = vec![0; study.rows.len()];
        let first = chunk * CHUNK;
        for repetition in first..(first + CHUNK).min(study.repetitions) {
            let hit = (study.simulate)(&mut Stream::new(seed, &study.name, repetition));
            for (row, count) in counts.iter_mut().enumerate() {
                *count += hit >> row & 1;
            }
        }
        counts
    };
    let chunks = executor.run(jobs, &job);
    let total = |row: usize| {
        chunks
            .iter()
            .filter_map(|counts| counts.get(row))
            .sum::<u64>()
    };
    study
        .rows
        .iter()
        .enumerate()
        .map(|(index, plan)| {
            let count = total(index) as f64;
            let repetitions = f64::from(study.repetitions);
            let upper_99 = upper_limit(count, repetitions);
            Row {
                section: plan.section,
                configuration: plan.configuration.clone(),
                metric: plan.metric.clone(),
                scale: plan.scale,
                schedule: plan.schedule.clone(),
                repetitions: study.repetitions,
                rate: count / repetitions,
                upper_99,
                bar: plan.bar,
                met: upper_99 <= plan.bar,
                in_protocol: plan.in_protocol,
                reason: plan.reason.filter(|_| upper_99 > plan.bar),
            }
        })
        .collect()
}

/// The upper end of the two-sided 99 % Clopper-Pearson interval: the rate under which `count` or
/// fewer have chance 1/2 %.
fn upper_limit(count: f64, repetitions: f64) -> f64 {
    if count >= repetitions {
        return 1.0;
    }
    beta_inc_inv(count + 1.0, repetitions - count, CONFIDENCE)
}

#[cfg(test)]
mod tests;
