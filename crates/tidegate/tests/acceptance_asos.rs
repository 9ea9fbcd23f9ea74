//! The ASOS digital experiments, replayed through time: how often does each method speak?
//!
//! With `TIDEGATE_DATA_DIR` set to a folder that holds `asos_digital_experiments.csv` (Liu, Cardoso,
//! Couturier and McCoy 2021, CC BY 4.0) the counts of the whole data set are asserted.
//! Without it the same replay runs on a small file written here, whose answers are known.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper of a test fails by panicking, and the data's place comes from the environment"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use tidegate_stats::ArmSummary;
use tidegate_stats::fixed::{self, FixedOptions, Reference};
use tidegate_stats::sequential::{self, SequentialOptions, Tuning};

/// Sizes for which the always-valid interval is tuned.
const TUNED_AT: [f64; 4] = [5e3, 1e5, 1e6, 1e7];

/// How one comparison went over all its checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Verdicts {
    naive_ever: bool,
    naive_last: bool,
    valid_ever: [bool; 4],
}

/// Comparisons by experiment, variant and metric, in order of time.
type Replay = BTreeMap<(String, String, u32), Verdicts>;

struct Checkpoint {
    key: (String, String, u32),
    time: f64,
    control: ArmSummary,
    treatment: ArmSummary,
}

fn checkpoint(record: &csv::StringRecord) -> Option<Checkpoint> {
    let number = |place: usize| record.get(place)?.parse::<f64>().ok();
    let arm = |count: usize, mean: usize, variance: usize| {
        let units = format!("{}", number(count)?).parse().ok()?;
        ArmSummary::new(units, number(mean)?, number(variance)?).ok()
    };
    let key = (
        record.get(0)?.to_owned(),
        record.get(1)?.to_owned(),
        record.get(2)?.parse().ok()?,
    );
    Some(Checkpoint {
        key,
        time: number(3)?,
        control: arm(4, 6, 8)?,
        treatment: arm(5, 7, 9)?,
    })
}

/// Checkpoints with missing variances, or where neither arm varies yet, say nothing.
fn replay(file: impl std::io::Read) -> Replay {
    let mut checkpoints: Vec<Checkpoint> = csv::Reader::from_reader(file)
        .records()
        .filter_map(|record| checkpoint(&record.unwrap()))
        .collect();
    checkpoints.sort_by(|a, b| a.time.total_cmp(&b.time));
    let mut replay = Replay::new();
    for Checkpoint {
        key,
        control,
        treatment,
        ..
    } in checkpoints
    {
        let options = FixedOptions {
            reference: Reference::Normal,
            ..FixedOptions::default()
        };
        let Ok(naive) = fixed::compare(&control, &treatment, &options) else {
            continue;
        };
        let verdicts = replay.entry(key).or_default();
        verdicts.naive_last = naive.p_value < 0.05;
        verdicts.naive_ever |= verdicts.naive_last;
        for (ever, tune_at) in verdicts.valid_ever.iter_mut().zip(TUNED_AT) {
            let options = SequentialOptions {
                tune_at,
                tuning: Tuning::Common,
                burn_in_events: 0,
                ..SequentialOptions::default()
            };
            let found = sequential::compare(&control, &treatment, &options).unwrap();
            *ever |= !found.absolute.contains(0.0);
        }
    }
    replay
}

fn share(replay: &Replay, holds: impl Fn(&Verdicts) -> bool) -> String {
    let count = replay.values().filter(|verdicts| holds(verdicts)).count();
    format!("{:.1}", 100.0 * count as f64 / replay.len() as f64)
}

fn assert_published_counts(replay: &Replay) {
    assert_eq!(replay.len(), 381);
    assert_eq!(share(replay, |verdicts| verdicts.naive_ever), "59.1");
    assert_eq!(share(replay, |verdicts| verdicts.naive_last), "27.6");
    let by_metric: Vec<String> = (1..=4)
        .map(|metric| {
            let of_metric: Vec<&Verdicts> = replay
                .iter()
                .filter(|((.., found), _)| *found == metric)
                .map(|(_, verdicts)| verdicts)
                .collect();
            let last = of_metric
                .iter()
                .filter(|verdicts| verdicts.naive_last)
                .count();
            format!("{last}/{}", of_metric.len())
        })
        .collect();
    assert_eq!(by_metric, ["26/99", "27/94", "25/94", "27/94"]);
    let valid: Vec<String> = (0..4)
        .map(|tuning| share(replay, |verdicts| verdicts.valid_ever[tuning]))
        .collect();
    assert_eq!(valid, ["18.6", "22.8", "26.2", "25.5"]);
}

/// Three comparisons: one that naive peeking alone calls, one that every method calls, one that none does;
/// and a row without variances, which counts for nothing.
const SYNTHETIC: &str = "\
experiment_id,variant_id,metric_id,time_since_start,count_c,count_t,mean_c,mean_t,variance_c,variance_t
a,1,1,2.0,20000,20000,0.100,0.1005,0.09,0.09
a,1,1,1.0,10000,10000,0.100,0.1090,0.09,0.09
b,1,1,1.0,10000,10000,0.100,0.1500,0.09,0.09
b,1,1,2.0,20000,20000,0.100,0.1500,0.09,0.09
c,1,1,1.0,10000,10000,0.100,0.1001,0.09,0.09
d,1,1,1.0,10000,10000,0.100,0.2000,,
";

#[test]
fn asos_experiments_replayed_through_time() {
    let synthetic = replay(SYNTHETIC.as_bytes());
    let verdict = |experiment: &str| synthetic[&(experiment.to_owned(), "1".to_owned(), 1)];
    assert_eq!(synthetic.len(), 3);
    let peeked = Verdicts {
        naive_ever: true,
        ..Verdicts::default()
    };
    assert_eq!(verdict("a"), peeked);
    let clear = Verdicts {
        naive_ever: true,
        naive_last: true,
        valid_ever: [true; 4],
    };
    assert_eq!(verdict("b"), clear);
    assert_eq!(verdict("c"), Verdicts::default());

    let folder = std::env::var_os("TIDEGATE_DATA_DIR").map(PathBuf::from);
    if let Some(folder) = folder {
        let file = folder.join("asos_digital_experiments.csv");
        let file = std::fs::File::open(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert_published_counts(&replay(file));
    }
}
