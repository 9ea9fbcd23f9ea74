//! Studies of plans and of what follows a stop: error spent, power as predicted, bias, the programme's wins.

use super::{ALPHA, repetitions, row};
use crate::certify::Level;
use crate::certify::looks::{bias, walk};
use crate::certify::programme::wins_off;
use crate::certify::study::{Study, hits};
use crate::certify::watched_power::Watched;
use crate::group_sequential::{Boundary, Design, Sides, Spending, boundaries};
use crate::planner::{Baseline, PlanMethod, Question, Target, plan};

/// Tolerance of methods built to spend all of alpha.
const SPEND_TOLERANCE: f64 = 0.005;
/// Tolerance of predicted power.
const POWER_TOLERANCE: f64 = 0.01;
const UNBIASED: &str = "an estimate without any bias is beyond either side of 2 % in 49.2 % of experiments; these \
     repetitions cannot always tell that from the bar";
/// Tolerance of the median bias, in standard errors.
const BIAS_TOLERANCE: f64 = 0.02;

pub(super) fn planned_looks(level: Level) -> Vec<Study> {
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
        plan.reason = Some(UNBIASED).filter(|_| level == Level::Full && bar == 0.5);
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

/// Power and stop of the always-valid method, looked at daily for four weeks, or at every unit.
pub(super) fn watched_power(level: Level) -> Vec<Study> {
    let line = |what: &str, bar: f64, schedule: &str| {
        let mut plan = row("F", what, "normal score", bar);
        plan.schedule = schedule.to_owned();
        plan
    };
    let mut plans = vec![("always valid, 28 looks", Some(28), (100_000, 60_000))];
    if level == Level::Full {
        plans.push(("always valid, every unit", None, (20_000, 0)));
    }
    plans
        .into_iter()
        .filter_map(|(name, looks, (full, quick))| {
            let watched = Watched::new(looks)?;
            let mut rows = vec![
                line(
                    "finds the effect, at most one point above the predicted power",
                    0.8 + POWER_TOLERANCE,
                    name,
                ),
                line(
                    "does not find it, at most one point above the prediction",
                    0.2 + POWER_TOLERANCE,
                    name,
                ),
            ];
            if looks.is_none() {
                // Daily looks stop on a few days only; a median between them says nothing.
                let late = "stops over a day after the predicted median, seasonal traffic";
                let early = "stops over a day before the predicted median, seasonal traffic";
                rows.extend([line(late, 0.5, name), line(early, 0.5, name)]);
            }
            let count = rows.len();
            Some(Study {
                name: format!("power {name}"),
                repetitions: repetitions(level, full, quick),
                rows,
                simulate: Box::new(move |stream| hits(&watched.walk(stream)[..count])),
            })
        })
        .collect()
}

pub(super) fn wins(level: Level) -> Study {
    let line = |what: &str| {
        let mut plan = row("H", what, "300 experiments, all effects normal", 0.5);
        plan.schedule = "one programme".to_owned();
        plan
    };
    let mut naive = line("naive sum of wins over 5 % above the truth, for comparison");
    naive.in_protocol = false;
    naive.reason = Some(
        "experiments picked for looking good look better than they are; the shrunken sum beside it does not",
    );
    Study {
        name: "wins".to_owned(),
        repetitions: repetitions(level, 20_000, 1_000),
        rows: vec![
            line("shrunken sum of wins over 5 % above the truth"),
            line("shrunken sum of wins over 5 % below the truth"),
            naive,
        ],
        simulate: Box::new(|stream| hits(&wins_off(stream))),
    }
}
