//! The studies of the calibration protocol: what is simulated, how often, and under which bar.
//!
//! Repetitions are set here, before anything is run. `quick` keeps one configuration of each kind at
//! fewer repetitions; `full` runs all of them.

use super::Level;
use super::derived::Derived;
use super::every_unit::Watch;
use super::exact::{bets_ever_err, count_ever_misses};
use super::families::{e_bh_false_discovery, ever_ships, holm_ever_errs};
use super::monitor::{Model, Monitor};
use super::splits::{Stretch, first_alarm};
use super::study::{RowPlan, Schedule, Study, hits};
use crate::sequential::SequentialOptions;

mod plans;

const ALPHA: f64 = 0.05;
const SKEWED_DIFFERENCE: &str = "a true lift makes the arms unequal, so the skewness of a heavy tail no longer cancels in the \
     difference of means: cap the metric, or read the relative set, where it does";
const SPENDS_ALL: &str = "the evidence is an exact martingale, whose true rate is at most the bar; by this size it has spent \
     nearly all of its error, and these repetitions cannot tell its rate from the bar";
const SPENDS_MOST: &str = "watched at every unit, the boundary spends 3.5 % of its 5 % by ten times the size it is tuned for, and \
     2,000 repetitions put the limit under the bar only up to a measured rate of 3.75 %; whether the true rate is under it they do not tell";
const DAILY: (u32, u32) = (28, 1_000);
const HOURLY: (u32, u32) = (672, 100);

/// Every study of a level.
pub(super) fn studies(level: Level) -> Vec<Study> {
    let mut all = monitored_means(level);
    all.extend(derived_metrics(level));
    all.extend(derived_at_every_unit(level));
    all.extend(exact_methods(level));
    all.extend(splits(level));
    all.extend(plans::planned_looks(level));
    all.extend(plans::watched_power(level));
    all.push(plans::wins(level));
    all.extend(families(level));
    all
}

fn repetitions(level: Level, full: u32, quick: u32) -> u32 {
    match level {
        Level::Full => full,
        Level::Quick => quick,
    }
}

fn row(section: &'static str, configuration: &str, metric: &str, bar: f64) -> RowPlan {
    RowPlan {
        section,
        configuration: configuration.to_owned(),
        metric: metric.to_owned(),
        scale: "-",
        schedule: "-".to_owned(),
        bar,
        in_protocol: true,
        reason: None,
    }
}

fn both_scales(
    lift: f64,
    metric: &str,
    schedule: Schedule,
    options: &SequentialOptions,
) -> Vec<RowPlan> {
    let (section, what) = if lift == 0.0 {
        ("A", "any-time type I error")
    } else {
        ("B", "any-time miscoverage")
    };
    ["absolute", "relative"]
        .into_iter()
        .map(|scale| RowPlan {
            section,
            configuration: format!(
                "{what}, lift {:+.0} %, tuned at {}",
                100.0 * lift,
                options.tune_at
            ),
            metric: metric.to_owned(),
            scale,
            schedule: schedule.to_string(),
            bar: ALPHA,
            in_protocol: lift == 0.0 || scale == "relative",
            reason: None,
        })
        .collect()
}

fn monitor(name: &str, model: Model, lift: f64, schedule: Schedule, repetitions: u32) -> Study {
    let tune_at = match schedule {
        Schedule::EveryUnit { units } => f64::from(units) / 10.0,
        Schedule::Looks { .. } => crate::sequential::DEFAULT_TUNE_AT,
    };
    let options = SequentialOptions {
        alpha: ALPHA,
        tune_at,
        ..SequentialOptions::default()
    };
    let mut rows = both_scales(lift, name, schedule, &options);
    if let (Model::Revenue { .. }, true) = (model, lift != 0.0) {
        rows[0].reason = Some(SKEWED_DIFFERENCE);
    }
    let study = Monitor::new(model, lift, schedule, options);
    Study {
        name: format!("monitor {name} {lift} {schedule}"),
        repetitions,
        rows,
        simulate: Box::new(move |stream| hits(&study.repetition(stream))),
    }
}

const MODELS: [(&str, Model); 6] = [
    ("conversion 50 %", Model::Conversion { rate: 0.5 }),
    ("conversion 10 %", Model::Conversion { rate: 0.1 }),
    ("conversion 1 %", Model::Conversion { rate: 0.01 }),
    ("conversion 0.1 %", Model::Conversion { rate: 0.001 }),
    ("count, mean 2", Model::Count { mean: 2.0 }),
    (
        "revenue, 2 % buyers, sigma 1.5",
        Model::Revenue { sigma: 1.5 },
    ),
];

fn monitored_means(level: Level) -> Vec<Study> {
    let looks = |(looks, units_per_look): (u32, u32)| Schedule::Looks {
        looks,
        units_per_look,
    };
    if level == Level::Quick {
        let [_, tenth, percent, _, _, revenue] = MODELS;
        let every = Schedule::EveryUnit { units: 100_000 };
        return vec![
            monitor(percent.0, percent.1, 0.0, looks(DAILY), 3_000),
            monitor(revenue.0, revenue.1, 0.0, looks(DAILY), 3_000),
            monitor(tenth.0, tenth.1, 0.2, looks(DAILY), 3_000),
            monitor(revenue.0, revenue.1, 1.0, looks(DAILY), 3_000),
            monitor(tenth.0, tenth.1, 0.0, every, 3_000),
        ];
    }
    let mut all = Vec::new();
    for (name, model) in MODELS {
        let is_sparse = model == Model::Conversion { rate: 0.001 };
        let daily = if is_sparse { (28, 5_000) } else { DAILY };
        let hourly = if is_sparse { (672, 250) } else { HOURLY };
        for lift in [0.0, -0.2, 0.2, 1.0] {
            let fits = model != Model::Conversion { rate: 0.5 } || lift < 1.0;
            if fits {
                let repetitions = if lift == 0.0 { 20_000 } else { 10_000 };
                all.push(monitor(name, model, lift, looks(daily), repetitions));
            }
        }
        all.push(monitor(name, model, 0.0, looks(hourly), 10_000));
        all.push(monitor(
            name,
            model,
            0.0,
            Schedule::EveryUnit { units: 1_000_000 },
            4_000,
        ));
    }
    all
}

const DERIVED: [(&str, Derived); 4] = [
    ("ratio, clicks per session", Derived::Ratio),
    ("CUPED, correlation .7", Derived::Cuped),
    ("post-stratified conversion", Derived::PostStratified),
    ("clustered 90 % quantile", Derived::Quantile),
];

/// Every answer on a quantile sorts all observations, so its experiments are smaller and fewer.
fn derived_metrics(level: Level) -> Vec<Study> {
    let mut all = Vec::new();
    for (name, kind) in DERIVED {
        let is_quantile = kind == Derived::Quantile;
        let units_a_day = if is_quantile { 60 } else { 300 };
        if level == Level::Quick {
            let repetitions = if is_quantile { 600 } else { 2_000 };
            all.push(derived(name, kind, 0.0, (28, units_a_day), repetitions));
            continue;
        }
        all.push(derived(name, kind, 0.0, (28, units_a_day), 20_000));
        for lift in [-0.2, 0.2, 1.0] {
            let repetitions = if is_quantile { 4_000 } else { 10_000 };
            all.push(derived(name, kind, lift, (28, units_a_day), repetitions));
        }
        if !is_quantile {
            all.push(derived(name, kind, 0.0, (672, 30), 4_000));
        }
    }
    all
}

fn derived(name: &str, kind: Derived, lift: f64, looks: (u32, u32), repetitions: u32) -> Study {
    let options = SequentialOptions {
        alpha: ALPHA,
        tune_at: 5_000.0,
        ..SequentialOptions::default()
    };
    let schedule = Schedule::Looks {
        looks: looks.0,
        units_per_look: looks.1,
    };
    Study {
        name: format!("derived {name} {lift} {schedule}"),
        repetitions,
        rows: both_scales(lift, name, schedule, &options),
        simulate: Box::new(move |stream| hits(&kind.repetition(stream, lift, looks, &options))),
    }
}

fn derived_at_every_unit(level: Level) -> Vec<Study> {
    let units = repetitions(level, 1_000_000, 20_000);
    let watched: &[(&str, Derived)] = match level {
        Level::Quick => &DERIVED[3..],
        Level::Full => &DERIVED,
    };
    watched
        .iter()
        .map(|&(name, kind)| {
            let options = SequentialOptions {
                alpha: ALPHA,
                tune_at: f64::from(units) / 10.0,
                ..SequentialOptions::default()
            };
            let schedule = Schedule::EveryUnit { units };
            let mut rows = both_scales(0.0, name, schedule, &options);
            rows.truncate(1);
            for row in &mut rows {
                row.scale = "both";
                row.reason = Some(SPENDS_MOST).filter(|_| level == Level::Full);
            }
            let watch = Watch::new(kind, units, options);
            Study {
                name: format!("derived {name} {schedule}"),
                repetitions: repetitions(level, 2_000, 500),
                rows,
                simulate: Box::new(move |stream| hits(&[watch.ever_errs(stream)])),
            }
        })
        .collect()
}

fn exact_methods(level: Level) -> Vec<Study> {
    let line = |section, what: &str, metric: &str, scale, schedule: &str| {
        let mut plan = row(section, what, metric, ALPHA);
        plan.scale = scale;
        plan.schedule = schedule.to_owned();
        vec![plan]
    };
    let lifts: &[f64] = match level {
        Level::Quick => &[0.0],
        Level::Full => &[0.0, -0.2, 0.2, 1.0],
    };
    let events = repetitions(level, 1_000, 200);
    let units = repetitions(level, 100_000, 20_000);
    let mut all: Vec<Study> = lifts
        .iter()
        .map(|&lift| {
            let section = if lift == 0.0 { "A" } else { "B" };
            let what = format!(
                "count e-process, any-time miss, lift {:+.0} %",
                100.0 * lift
            );
            let schedule = format!("every event to {events}");
            Study {
                name: format!("count {lift}"),
                repetitions: repetitions(level, 4_000, 2_000),
                rows: line(section, &what, "conversion 0.1 %", "relative", &schedule),
                simulate: Box::new(move |stream| hits(&[count_ever_misses(stream, lift, events)])),
            }
        })
        .collect();
    let (what, metric) = ("betting, any-time type I error", "revenue capped at 20");
    all.push(Study {
        name: "bets".to_owned(),
        repetitions: repetitions(level, 10_000, 2_000),
        rows: line("A", what, metric, "both", &format!("every unit to {units}")),
        simulate: Box::new(move |stream| hits(&[bets_ever_err(stream, 20.0, units)])),
    });
    all
}

fn splits(level: Level) -> Vec<Study> {
    let healthy = |served, units| Stretch {
        served,
        actual: served,
        units,
    };
    let horizon = repetitions(level, 1_000_000, 100_000);
    let false_alarm = |name: &str, stretches: Vec<Stretch>, alpha: f64, repetitions: u32| {
        let mut plan = row(
            "C",
            &format!("false alarm at {alpha}, {name}"),
            "split",
            alpha,
        );
        plan.schedule = "every unit".to_owned();
        plan.reason = Some(SPENDS_ALL);
        Study {
            name: format!("split {name} {alpha}"),
            repetitions,
            rows: vec![plan],
            simulate: Box::new(move |stream| {
                hits(&[first_alarm(stream, &stretches, alpha).is_some()])
            }),
        }
    };
    let ramp_unit = repetitions(level, 10_000, 2_000);
    let ramp = |unit: u32| {
        vec![
            healthy(0.01, 2 * unit),
            healthy(0.1, 3 * unit),
            healthy(0.5, 5 * unit),
        ]
    };
    let mut late = row(
        "C",
        "51/49 not found by 45,000 units at 0.001",
        "split",
        0.5,
    );
    late.schedule = "every unit".to_owned();
    let skewed = [Stretch {
        served: 0.5,
        actual: 0.51,
        units: 45_000,
    }];
    let mut all = vec![
        false_alarm(
            &format!("50/50 to {horizon}"),
            vec![healthy(0.5, horizon)],
            0.05,
            repetitions(level, 20_000, 6_000),
        ),
        false_alarm(
            &format!("ramp 1 to 10 to 50 %, {} units", 10 * ramp_unit),
            ramp(ramp_unit),
            0.05,
            // The product of three e-processes spends nearly all of its error, so only many
            // repetitions can tell it from its bar.
            repetitions(level, 60_000, 20_000),
        ),
        Study {
            name: "split 51/49".to_owned(),
            repetitions: repetitions(level, 10_000, 4_000),
            rows: vec![late],
            simulate: Box::new(move |stream| {
                hits(&[first_alarm(stream, &skewed, 0.001).is_none()])
            }),
        },
    ];
    if level == Level::Full {
        let name = "ramp 1 to 10 to 50 %, 50000 units";
        all.push(false_alarm(name, ramp(5_000), 0.001, 100_000));
    }
    all
}

fn families(level: Level) -> Vec<Study> {
    let plan = |what: &str, metric: &str, bar: f64| {
        let mut plan = row("G", what, metric, bar);
        plan.schedule = "28 looks, any stop".to_owned();
        vec![plan]
    };
    let count = repetitions(level, 20_000, 2_000);
    let study = |name: &str, rows, simulate| Study {
        name: format!("family {name}"),
        repetitions: count,
        rows,
        simulate,
    };
    vec![
        study(
            "holm",
            plan(
                "any false finding by Holm",
                "5 correlated metrics, 2 with an effect",
                ALPHA,
            ),
            Box::new(|stream| hits(&[holm_ever_errs(stream, 5, 2)])),
        ),
        study(
            "e-bh",
            plan(
                "false discovery rate of e-BH",
                "10 correlated metrics, 3 with an effect",
                ALPHA,
            ),
            Box::new(|stream| hits(&[e_bh_false_discovery(stream, 10, 3)])),
        ),
        study(
            "false ship",
            plan(
                "ships without an effect",
                "2 success metrics, 2 guardrails",
                ALPHA,
            ),
            Box::new(|stream| hits(&[ever_ships(stream, 0.0, 0.0)])),
        ),
        study(
            "guardrail",
            plan(
                "ships beyond a guardrail's margin",
                "2 success metrics, 2 guardrails",
                ALPHA,
            ),
            Box::new(|stream| hits(&[ever_ships(stream, 0.1, -0.2)])),
        ),
        study(
            "true ship",
            plan(
                "does not ship a true effect (power 80 %)",
                "2 success metrics, 2 guardrails",
                0.2,
            ),
            Box::new(|stream| hits(&[!ever_ships(stream, 0.06, 0.0)])),
        ),
    ]
}
