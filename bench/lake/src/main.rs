//! Loads the generated workload into a lake and times the fixed questions.
//!
//! Usage: `bench-lake load DATA LAKE`, then `bench-lake ask DATA LAKE [QUESTION...]`, each of which
//! prints one JSON object: what loading took; per question the answer, the first time (which
//! decodes) and the best, of the wall and of the processors. Two processes, so that the memory of
//! the second is that of questions alone. `bench-lake refresh DATA LAKE` asks for a metric that is
//! kept up, after 100,000 new events each time; it adds them to the lake.

mod ask;
mod clock;
mod load;
mod questions;

use clock::Stopwatch;
use load::Failure;
use std::path::Path;
use std::sync::Arc;
use tidegate_lake::{ColumnOptions, Lake, LakeOptions, LogOptions, RealDisk};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 2026-06-01 in days since 1970.
const FIRST_DAY: i64 = 20_605;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, data, dir, only @ ..] = args.as_slice() else {
        return Err("usage: bench-lake load|ask|refresh DATA LAKE [QUESTION...]".into());
    };
    let options = LakeOptions {
        log: LogOptions {
            recent_ids: 1_000_000,
            ..LogOptions::default()
        },
        columns: ColumnOptions::default(),
        ..LakeOptions::default()
    };
    let opening = Stopwatch::start();
    let lake = Lake::open(Arc::new(RealDisk), Path::new(dir), options)?;
    let mut out = serde_json::Map::new();
    out.insert("open_s".to_owned(), opening.stop().wall_s.into());
    match what.as_str() {
        "load" => load::load(&lake, Path::new(data), &mut out)?,
        "ask" => ask::ask(&lake, only, &mut out)?,
        "refresh" => ask::refresh(&lake, Path::new(data), &mut out)?,
        other => return Err(format!("{other:?} is none of load, ask and refresh").into()),
    }
    let state = lake.columns().state();
    let bytes: u64 = state.files.values().map(|file| file.bytes).sum();
    out.insert("event_bytes".to_owned(), bytes.into());
    out.insert("rows".to_owned(), state.rows().into());
    println!("{}", serde_json::Value::Object(out));
    Ok(())
}
