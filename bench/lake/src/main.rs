//! Loads the generated workload into a lake and times the fixed questions.
//!
//! Usage: `bench-lake DATA LAKE`. The lake is made if it is not there. One JSON object on
//! standard output: per question the answer, the first (decoding) and the best time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tidegate_lake::{ColumnOptions, Lake, LakeOptions, LogOptions, RealDisk};
use tidegate_metrics::{
    Answer, Days, Event, EventFilter, EventId, EventKind, Findings, Grouping, JourneyDefinition,
    Measure, MetricDefinition, Query, Reentry, Step, StepOrder, unit_hash,
};

const DAY_US: i64 = 86_400_000_000;
/// 2026-06-01 in days since 1970.
const FIRST_DAY: i64 = 20_605;

type Failure = Box<dyn std::error::Error>;

fn words<const N: usize>(data: &Path, name: &str) -> Result<Vec<[u8; N]>, Failure> {
    let bytes = fs::read(data.join(format!("{name}.bin")))?;
    Ok(bytes.as_chunks::<N>().0.to_vec())
}

fn name_of(number: u16) -> String {
    match number {
        0 => "step_view".to_owned(),
        1 => "step_start".to_owned(),
        2 => "step_done".to_owned(),
        3 => "purchase".to_owned(),
        other => format!("event_{other}"),
    }
}

fn event(number: u64, unit: i64, time: i64, kind: EventKind, name: &str) -> Event {
    let id = u128::from(unit_hash(&number.to_string())) << 64 | u128::from(number);
    let time_us = FIRST_DAY * DAY_US + time;
    Event {
        id: EventId(id),
        time_us,
        received_us: time_us,
        sent_us: None,
        unit: unit.to_string().into(),
        kind,
        name: name.into(),
        value: None,
        properties: Vec::new(),
        flags: Vec::new(),
        trace_id: None,
        is_quarantined: false,
    }
}

fn load(lake: &Lake, data: &Path) -> Result<u64, Failure> {
    let units = words::<8>(data, "unit")?;
    let times = words::<8>(data, "time")?;
    let names = words::<2>(data, "name")?;
    let values = words::<8>(data, "value")?;
    let texts: Vec<String> = (0..200).map(name_of).collect();
    let mut number = 0u64;
    let mut batch = Vec::new();
    let mut receivers = Vec::new();
    let mut give = |batch: &mut Vec<Event>| -> Result<(), Failure> {
        lake.append(std::mem::take(batch))?;
        receivers.push(());
        if receivers.len() % 100 == 0 {
            lake.keep_house()?;
        }
        Ok(())
    };
    for (((unit, time), name), value) in units.iter().zip(&times).zip(&names).zip(&values) {
        let text = &texts[usize::from(u16::from_le_bytes(*name))];
        let (unit, time) = (i64::from_le_bytes(*unit), i64::from_le_bytes(*time));
        let mut made = event(number, unit, time, EventKind::Track, text);
        let value = f64::from_le_bytes(*value);
        made.value = (value != 0.0).then_some(value);
        batch.push(made);
        number += 1;
        if batch.len() == 5_000 {
            give(&mut batch)?;
        }
    }
    let exposed = words::<8>(data, "exposed")?;
    let treated = fs::read(data.join("treated.bin"))?;
    let times = words::<24>(data, "exposure_time")?;
    for ((unit, treated), times) in exposed.iter().zip(treated).zip(&times) {
        for time in times.as_chunks::<8>().0 {
            let (unit, time) = (i64::from_le_bytes(*unit), i64::from_le_bytes(*time));
            let mut made = event(number, unit, time, EventKind::Exposure, "flag");
            let variant = if treated == 1 { "treatment" } else { "control" };
            made.flags = vec![("flag".into(), variant.into())];
            batch.push(made);
            number += 1;
        }
        if batch.len() >= 5_000 {
            give(&mut batch)?;
        }
    }
    give(&mut batch)?;
    lake.keep_house()?;
    Ok(number)
}

fn questions() -> Vec<(&'static str, Query)> {
    let days = Days {
        first: FIRST_DAY,
        last: FIRST_DAY + 29,
    };
    let step = |number| Step {
        event: EventFilter::named(&name_of(number)),
        within_seconds: None,
    };
    let named = |numbers: std::ops::Range<u16>| -> Vec<EventFilter> {
        numbers
            .map(|number| EventFilter::named(&name_of(number)))
            .collect()
    };
    let recent = Days {
        first: FIRST_DAY + 28,
        last: FIRST_DAY + 28,
    };
    vec![
        (
            "q1",
            Query::UnitMetric {
                metric: MetricDefinition::of(Measure::Sum {
                    event: EventFilter::named("purchase"),
                }),
                by: Grouping {
                    flag: "flag".to_owned(),
                    segment: None,
                },
                days,
            },
        ),
        (
            "q2",
            Query::Journey {
                journey: JourneyDefinition {
                    steps: (0..4).map(step).collect(),
                    order: StepOrder::Ordered,
                    within_seconds: Some(7 * 86_400),
                    exclusions: Vec::new(),
                    reentry: Reentry::Once,
                    key: None,
                },
                by: None,
                days,
            },
        ),
        (
            "q3",
            Query::Journey {
                journey: JourneyDefinition {
                    steps: [0, 3].map(step).into(),
                    order: StepOrder::Ordered,
                    within_seconds: None,
                    exclusions: Vec::new(),
                    reentry: Reentry::Once,
                    key: None,
                },
                by: None,
                days,
            },
        ),
        ("q4a", Query::Usage { events: named(0..64), days }),
        ("q4b", Query::Usage { events: named(64..128), days }),
        ("q4c", Query::Usage { events: named(128..192), days }),
        ("q4d", Query::Usage { events: named(192..200), days }),
        (
            "q5",
            Query::Retention {
                events: named(0..0),
                days,
                period_days: 7,
            },
        ),
        ("q7", Query::Usage { events: named(0..1), days: recent }),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn rows(name: &str, answer: &Answer) -> Vec<Vec<f64>> {
    match &answer.findings {
        Findings::UnitMetric(summary) => summary
            .groups
            .iter()
            .enumerate()
            .map(|(index, group)| {
                let n = group.moments.units() as f64;
                let mean = group.moments.mean(0).unwrap_or(0.0);
                let variance = group.moments.covariance(0, 0).unwrap_or(0.0);
                vec![index as f64, n, mean * n, variance * (n - 1.0) + mean * mean * n]
            })
            .collect(),
        Findings::Journey(report) if name == "q3" => {
            let completed = report.groups.values().map(|group| group.completions);
            vec![vec![completed.sum::<u64>() as f64]]
        }
        Findings::Journey(report) => {
            let mut levels = Vec::new();
            for group in report.groups.values() {
                let mut above = group.units;
                for (level, reached) in group.reached.iter().chain([&0]).enumerate() {
                    levels.push(vec![level as f64, (above - reached) as f64]);
                    above = *reached;
                }
            }
            levels
        }
        Findings::Usage(usage) if name == "q7" => usage
            .cells
            .values()
            .map(|cell| vec![cell.events as f64, cell.units as f64])
            .collect(),
        Findings::Usage(usage) => {
            let units: u64 = usage.cells.values().map(|cell| cell.units).sum();
            vec![vec![usage.cells.len() as f64, units as f64]]
        }
        Findings::Retention(retention) => {
            let cells: BTreeMap<_, _> = retention.cells.iter().collect();
            cells
                .into_iter()
                .map(|((first, later), units)| vec![*first as f64, *later as f64, *units as f64])
                .collect()
        }
        #[allow(unreachable_patterns, reason = "questions that this workload does not ask")]
        _ => Vec::new(),
    }
}

/// Appends events of units that are there already, later than all of theirs, and asks again: the
/// time of an answer that reads only what is new.
fn refresh(lake: &Lake, data: &Path, query: &Query) -> Result<f64, Failure> {
    let exposed = words::<8>(data, "exposed")?;
    let mut best = f64::INFINITY;
    for round in 0..4u64 {
        let events = (0u64..100_000).map(|index| {
            let unit = exposed[usize::try_from(index).unwrap_or(0) % exposed.len()];
            let number = (1 << 40) + round * 100_000 + index;
            let time = 30 * DAY_US - 60_000_000 + i64::try_from(round * 100_000 + index).unwrap_or(0);
            let unit = i64::from_le_bytes(unit);
            let mut made = event(number, unit, time, EventKind::Track, "purchase");
            made.value = Some(1.0);
            made
        });
        let events: Vec<Event> = events.collect();
        for part in events.chunks(5_000) {
            lake.append(part.to_vec())?;
        }
        lake.flush()?;
        let start = Instant::now();
        lake.answer(query, 2)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn resident_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024.0)
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let (data, dir) = args.next().zip(args.next()).ok_or("usage: bench-lake DATA LAKE")?;
    let options = LakeOptions {
        log: LogOptions {
            recent_ids: 1_000_000,
            ..LogOptions::default()
        },
        columns: ColumnOptions::default(),
        ..LakeOptions::default()
    };
    let is_new = !Path::new(&dir).exists();
    let lake = Lake::open(Arc::new(RealDisk), Path::new(&dir), options)?;
    let mut out = serde_json::Map::new();
    if is_new {
        let start = Instant::now();
        let events = load(&lake, Path::new(&data))?;
        let load_s = start.elapsed().as_secs_f64();
        let start = Instant::now();
        lake.columns().compact()?;
        out.insert("loaded_events".to_owned(), events.into());
        out.insert("load_s".to_owned(), load_s.into());
        out.insert("compact_s".to_owned(), start.elapsed().as_secs_f64().into());
    }
    let state = lake.columns().state();
    let bytes: u64 = state.files.values().map(|file| file.bytes).sum();
    out.insert("event_bytes".to_owned(), bytes.into());
    out.insert("rows".to_owned(), state.rows().into());
    for (name, query) in questions() {
        let mut times = Vec::new();
        let mut answered = None;
        for _ in 0..4 {
            let start = Instant::now();
            answered = Some(lake.answer_in_full(&query, 2)?);
            times.push(start.elapsed().as_secs_f64());
        }
        let best = times.iter().copied().fold(f64::INFINITY, f64::min);
        let answer = answered.map(|answer| rows(name, &answer)).unwrap_or_default();
        let entry = serde_json::json!({
            "wall_s": best,
            "first_s": times[0],
            "answer": answer,
        });
        out.insert(name.to_owned(), entry);
    }
    out.insert("peak_resident_mb".to_owned(), resident_mb().into());
    if let Some((_, query)) = questions().into_iter().next() {
        lake.answer(&query, 2)?;
        let seconds = refresh(&lake, Path::new(&data), &query)?;
        out.insert("q1_after_100k_s".to_owned(), seconds.into());
    }
    println!("{}", serde_json::Value::Object(out));
    Ok(())
}
