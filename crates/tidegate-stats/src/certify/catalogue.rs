//! The studies of the calibration protocol: what is simulated, how often, and under which bar.
//!
//! Repetitions are set here, before anything is run. `quick` keeps one configuration of each kind at
//! fewer repetitions; `full` runs all of them.

use super::Level;
use super::derived::Derived;
use super::exact::{bets_ever_err, count_ever_misses};
use super::families::{e_bh_false_discovery, ever_ships, holm_ever_errs};
use super::looks::{bias, walk};
use super::monitor::{Model, Monitor};
use super::splits::{Stretch, first_alarm};
use super::study::{RowPlan, Schedule, Study, hits};
use crate::group_sequential::{Boundary, Design, Sides, Spending, boundaries};
use crate::planner::{Baseline, PlanMethod, Question, Target, plan};
use crate::sequential::SequentialOptions;

const ALPHA: f64 = 0.05;
/// Tolerance of methods built to spend all of alpha.
const SPEND_TOLERANCE: f64 = 0.005;
/// Tolerance of predicted power.
const POWER_TOLERANCE: f64 = 0.01;
/// Tolerance of the median bias, in standard errors.
const BIAS_TOLERANCE: f64 = 0.02;
const SKEWED_DIFFERENCE: &str = "a true lift makes the arms unequal, so the skewness of a heavy tail no longer cancels in the \
     difference of means: cap the metric, or read the relative set, where it does";
const DAILY: (u32, u32) = (28, 1_000);
const HOURLY: (u32, u32) = (672, 100);

/// Every study of a level.
pub(super) fn studies(level: Level) -> Vec<Study> {
    let mut all = monitored_means(level);
    all.extend(derived_metrics(level));
    all.extend(exact_methods(level));
    all.extend(splits(level));
    all.extend(planned_looks(level));
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
                all.push(monitor(name, model, lift, looks(daily), 20_000));
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

fn derived_metrics(level: Level) -> Vec<Study> {
    let kinds = [
        ("ratio, clicks per session", Derived::Ratio, 300),
        ("CUPED, correlation .7", Derived::Cuped, 300),
        ("post-stratified conversion", Derived::PostStratified, 300),
        ("clustered 90 % quantile", Derived::Quantile, 60),
    ];
    let lifts: &[f64] = match level {
        Level::Quick => &[0.0],
        Level::Full => &[0.0, -0.2, 0.2, 1.0],
    };
    let mut all = Vec::new();
    for (name, kind, units_per_look) in kinds {
        for &lift in lifts {
            let options = SequentialOptions {
                alpha: ALPHA,
                tune_at: 5_000.0,
                ..SequentialOptions::default()
            };
            let schedule = Schedule::Looks {
                looks: 28,
                units_per_look,
            };
            let mut rows = both_scales(lift, name, schedule, &options);
            if kind == Derived::Quantile && lift != 0.0 {
                // The absolute truth has no closed form; the relative one is the lift itself.
                rows.remove(0);
            }
            let only_relative = rows.len() == 1;
            all.push(Study {
                name: format!("derived {name} {lift}"),
                repetitions: repetitions(
                    level,
                    20_000,
                    if units_per_look < 100 { 600 } else { 2_000 },
                ),
                rows,
                simulate: Box::new(move |stream| {
                    let missed = kind.repetition(stream, lift, (28, units_per_look), &options);
                    if only_relative {
                        hits(&missed[1..])
                    } else {
                        hits(&missed)
                    }
                }),
            });
        }
    }
    all
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

fn planned_looks(level: Level) -> Vec<Study> {
    let mut all = Vec::new();
    for (spending, looks) in [(Spending::ObrienFleming, 14_u16), (Spending::Pocock, 5)] {
        let design = Design::equally_spaced(ALPHA, Sides::Two, spending, looks);
        let Ok(rows) = boundaries(&design) else {
            continue;
        };
        let name = format!("{spending}, {looks} looks");
        all.push(spends_alpha(level, &name, design.clone(), rows.clone()));
        all.push(stop_is_unbiased(level, &name, &design, &rows));
        let method = PlanMethod::Group { spending, looks };
        all.extend(power_as_predicted(level, &name, method, design, rows));
    }
    all
}

fn spends_alpha(level: Level, name: &str, design: Design, rows: Vec<Boundary>) -> Study {
    let mut plan = row(
        "A",
        "type I error, tolerance half a point",
        "normal score",
        ALPHA + SPEND_TOLERANCE,
    );
    plan.schedule = name.to_owned();
    Study {
        name: format!("spend {name}"),
        repetitions: repetitions(level, 100_000, 50_000),
        rows: vec![plan],
        simulate: Box::new(move |stream| hits(&[walk(stream, &design, &rows, 0.0).is_crossing])),
    }
}

/// The drift at which a fixed test has power .8.
const PLANNED_DRIFT: f64 = 2.801_585;

fn stop_is_unbiased(level: Level, name: &str, design: &Design, rows: &[Boundary]) -> Study {
    let plan = |what: &str, bar: f64| {
        let mut plan = row("H", what, "normal score", bar);
        plan.schedule = name.to_owned();
        plan
    };
    let (design, rows) = (design.clone(), rows.to_vec());
    Study {
        name: format!("bias {name}"),
        repetitions: repetitions(level, 60_000, 2_000),
        rows: match level {
            Level::Full => vec![
                plan(
                    "median bias at the stop above +2 % of the standard error",
                    0.5,
                ),
                plan(
                    "median bias at the stop below -2 % of the standard error",
                    0.5,
                ),
                plan(
                    "stage-wise interval misses, tolerance half a point",
                    ALPHA + SPEND_TOLERANCE,
                ),
            ],
            // A bias of 2 % needs tens of thousands of repetitions to rule out.
            Level::Quick => vec![
                plan(
                    "median bias at the stop above +20 % of the standard error",
                    0.5,
                ),
                plan(
                    "median bias at the stop below -20 % of the standard error",
                    0.5,
                ),
            ],
        },
        simulate: Box::new(move |stream| {
            let stop = walk(stream, &design, &rows, PLANNED_DRIFT);
            let slack = if level == Level::Full {
                BIAS_TOLERANCE
            } else {
                0.2
            };
            match bias(&design, stop, PLANNED_DRIFT) {
                Some((error, misses)) if level == Level::Full => {
                    hits(&[error > slack, error < -slack, misses])
                }
                Some((error, _)) => hits(&[error > slack, error < -slack]),
                None => u64::MAX,
            }
        }),
    }
}

fn power_as_predicted(
    level: Level,
    name: &str,
    method: PlanMethod,
    design: Design,
    rows: Vec<Boundary>,
) -> Option<Study> {
    let planned = plan(
        &Question {
            baseline: Baseline::Mean { mean: 1.0, sd: 1.0 },
            target: Target::Absolute(0.05),
            alpha: ALPHA,
            power: 0.8,
            sides: Sides::Two,
            treatment_share: 0.5,
            method,
        },
        None,
    )
    .ok()?;
    let drift = PLANNED_DRIFT * planned.inflation.sqrt();
    let line = |what: &str, bar: f64| {
        let mut plan = row("F", what, "normal score", bar);
        plan.schedule = name.to_owned();
        plan
    };
    Some(Study {
        name: format!("power {name}"),
        repetitions: repetitions(level, 100_000, 60_000),
        rows: vec![
            line(
                "finds the effect, at most one point above the predicted power",
                0.8 + POWER_TOLERANCE,
            ),
            line(
                "does not find it, at most one point above the prediction",
                0.2 + POWER_TOLERANCE,
            ),
        ],
        simulate: Box::new(move |stream| {
            let found = walk(stream, &design, &rows, drift).is_crossing;
            hits(&[found, !found])
        }),
    })
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
