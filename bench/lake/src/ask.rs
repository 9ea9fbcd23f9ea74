//! The questions, timed.

use crate::clock::{Spent, Stopwatch, resident_mb};
use crate::load::{Failure, Numbers, event};
use crate::questions::{questions, rows};
use serde_json::{Map, Value, json};
use std::path::Path;
use tidegate_lake::Lake;
use tidegate_metrics::{Event, EventKind, Query};

const DAY_US: i64 = 86_400_000_000;
/// Times each question is asked after the first, which decodes; `BENCH_ROUNDS` changes it, for
/// profiles.
const ROUNDS: usize = 5;
/// Cores of the machine that the goals are for.
const THREADS: usize = 2;

/// Asks everything; answers and times go into `out`. A list of names asks those alone.
pub fn ask(lake: &Lake, only: &[String], out: &mut Map<String, Value>) -> Result<(), Failure> {
    let rounds = std::env::var("BENCH_ROUNDS").ok();
    let rounds = rounds.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for (name, query) in questions() {
        if !only.is_empty() && !only.iter().any(|other| other == name) {
            continue;
        }
        let mut first: Option<Spent> = None;
        let mut best: Option<Spent> = None;
        let mut answer = Vec::new();
        for _ in 0..=rounds {
            let watch = Stopwatch::start();
            answer = rows(name, &lake.answer_in_full(&query, THREADS)?);
            let spent = watch.stop();
            if first.is_none() {
                first = Some(spent);
            } else if best.is_none_or(|best| spent.wall_s < best.wall_s) {
                best = Some(spent);
            }
        }
        let (first, best) = first.zip(best).ok_or("no round was made")?;
        let entry = json!({
            "wall_s": best.wall_s,
            "cpu_s": best.cpu_s,
            "first_s": first.wall_s,
            "first_cpu_s": first.cpu_s,
            "answer": answer,
        });
        out.insert(name.to_owned(), entry);
    }
    out.insert("resident_mb".to_owned(), resident_mb("VmRSS").into());
    out.insert("peak_resident_mb".to_owned(), resident_mb("VmHWM").into());
    Ok(())
}

/// Asks for the metric that is kept up: made once, then after 100,000 new events each time. The
/// events are of units that are there already and later than all of theirs.
pub fn refresh(lake: &Lake, data: &Path, out: &mut Map<String, Value>) -> Result<(), Failure> {
    let (_, query) = questions().into_iter().next().ok_or("no question")?;
    let making = Stopwatch::start();
    lake.answer(&query, THREADS)?;
    out.insert("q1_kept_s".to_owned(), making.stop().wall_s.into());
    let exposed = Numbers::<8>::read(data, "exposed")?;
    let mut refreshed = Vec::new();
    for round in 0..4 {
        append(lake, &exposed, round)?;
        lake.flush()?;
        refreshed.push(timed(lake, &query)?);
    }
    refreshed.sort_by(f64::total_cmp);
    out.insert(
        "q1_after_100k_s".to_owned(),
        refreshed.first().copied().into(),
    );
    out.insert("kept_resident_mb".to_owned(), resident_mb("VmHWM").into());
    Ok(())
}

fn timed(lake: &Lake, query: &Query) -> Result<f64, Failure> {
    let watch = Stopwatch::start();
    lake.answer(query, THREADS)?;
    Ok(watch.stop().wall_s)
}

fn append(lake: &Lake, exposed: &Numbers<8>, round: u64) -> Result<(), Failure> {
    // Ids of an earlier run of this benchmark over the same lake would be taken for copies.
    let begun = lake.columns().state().flushed_sequence;
    let events = (0u64..100_000).map(|index| {
        let unit = exposed.all()[usize::try_from(index).unwrap_or(0) % exposed.all().len()];
        let later = i64::try_from(round * 100_000 + index).unwrap_or(0);
        let time = 30 * DAY_US - 60_000_000 + later;
        let unit = i64::from_le_bytes(unit);
        let mut made = event(
            (1 << 40) + begun + index,
            unit,
            time,
            EventKind::Track,
            "purchase",
        );
        made.value = Some(1.0);
        made
    });
    let events: Vec<Event> = events.collect();
    for part in events.chunks(5_000) {
        lake.append(part.to_vec())?;
    }
    Ok(())
}
