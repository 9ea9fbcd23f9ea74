//! A real process, killed by a real SIGKILL while it ingests: what it was told is durable, is.
//!
//! The test starts its own executable again as the victim, reads the acknowledgements from a
//! pipe, kills it at some moment, and opens the log it left behind.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tidegate_lake::{EventLog, LogOptions, NoSink, RealDisk};
use tidegate_metrics::{Arrival, Event, Limits, parse_events};

const VICTIM: &str = "TIDEGATE_TEST_KILL_NINE_DIR";
const RUNS: u64 = 25;

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        reserve_bytes: 0,
        ..LogOptions::default()
    }
}

fn open(dir: &Path) -> EventLog {
    EventLog::open(Arc::new(RealDisk), dir, options(), Box::new(NoSink)).unwrap()
}

fn events(numbers: std::ops::Range<u64>) -> Vec<Event> {
    let lines: String = numbers
        .map(|number| {
            format!(
                "{{\"id\":\"{:032x}\",\"time\":\"2026-06-01T00:00:00Z\",\"unit\":\"u\",\
                 \"kind\":\"track\",\"name\":\"n\"}}\n",
                number + 1
            )
        })
        .collect();
    let parsed = parse_events(lines.as_bytes(), &Limits::default(), Arrival::at(0)).unwrap();
    assert!(parsed.rejected.is_empty());
    parsed.accepted
}

/// Appends without end, each batch overlapping the one before by one event, and says so.
fn be_the_victim(dir: &Path) -> ! {
    let log = open(dir);
    let mut out = std::io::stdout();
    let mut next = log.next_sequence();
    loop {
        let size = 1 + next % 7;
        log.append(events(next.saturating_sub(1)..next + size))
            .unwrap();
        next += size;
        writeln!(out, "acknowledged {next}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the victim is this same executable and learns its role from the environment"
)]
fn a_killed_process_loses_nothing_it_acknowledged() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        be_the_victim(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for run in 0..RUNS {
        acknowledged = acknowledged.max(run_and_kill(dir.path(), 1 + run * 3 % 40));
        let log = open(dir.path());
        assert!(log.next_sequence() >= acknowledged, "run {run}");
        let mut ids = Vec::new();
        log.read_from(0, &mut |stretch| {
            ids.extend(stretch.events.iter().map(|event| event.id));
            true
        })
        .unwrap();
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(
            distinct.len(),
            ids.len(),
            "run {run}: an event counts twice"
        );
        assert_eq!(ids.len() as u64, log.next_sequence(), "run {run}");
    }
    assert!(acknowledged > RUNS);
}

/// Lets a victim acknowledge a number of batches, kills it, and returns the last number it said.
fn run_and_kill(dir: &Path, batches: u64) -> u64 {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_killed_process_loses_nothing_it_acknowledged",
            "--nocapture",
        ])
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(victim.stdout.take().unwrap()).lines();
    let number = |line: String| {
        let (_, number) = line.rsplit_once("acknowledged ")?;
        number.parse::<u64>().ok()
    };
    let mut last = 0;
    let mut seen = 0;
    while seen < batches {
        if let Some(next) = number(said.next().unwrap().unwrap()) {
            last = next;
            seen += 1;
        }
    }
    victim.kill().unwrap();
    // What it said between our decision and its death counts as well.
    for line in said.map_while(Result::ok) {
        last = number(line).unwrap_or(last);
    }
    victim.wait().unwrap();
    last
}
