//! The generated events, appended in the order of their time as a server would get them, while a
//! keeper flushes, merges and trims beside.

use crate::FIRST_DAY;
use crate::clock::Stopwatch;
use crate::questions::name_of;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tidegate_lake::Lake;
use tidegate_metrics::{Event, EventId, EventKind, unit_hash};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const DAY_US: i64 = 86_400_000_000;
const DAYS: usize = 30;
const BATCH: usize = 5_000;
/// Bits of a row's number beside its time within a day, which takes 37.
const ROW_BITS: u32 = 27;

/// A column of numbers as the generator wrote it.
pub struct Numbers<const N: usize>(Vec<u8>);

impl<const N: usize> Numbers<N> {
    pub fn read(data: &Path, name: &str) -> Result<Self, Failure> {
        Ok(Self(fs::read(data.join(format!("{name}.bin")))?))
    }

    pub fn all(&self) -> &[[u8; N]] {
        self.0.as_chunks::<N>().0
    }
}

pub fn event(number: u64, unit: i64, time: i64, kind: EventKind, name: &str) -> Event {
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

struct Workload {
    unit: Numbers<8>,
    time: Numbers<8>,
    name: Numbers<2>,
    value: Numbers<8>,
    exposed: Numbers<8>,
    treated: Vec<u8>,
    exposure_time: Numbers<8>,
    texts: Vec<String>,
}

impl Workload {
    fn read(data: &Path) -> Result<Self, Failure> {
        Ok(Self {
            unit: Numbers::read(data, "unit")?,
            time: Numbers::read(data, "time")?,
            name: Numbers::read(data, "name")?,
            value: Numbers::read(data, "value")?,
            exposed: Numbers::read(data, "exposed")?,
            treated: fs::read(data.join("treated.bin"))?,
            exposure_time: Numbers::read(data, "exposure_time")?,
            texts: (0..200).map(name_of).collect(),
        })
    }

    /// Rows by day, each day in the order of time: time within the day and number in one word.
    fn by_day(&self) -> Vec<Vec<u64>> {
        let mut days = vec![Vec::new(); DAYS];
        let times = self.time.all().iter().chain(self.exposure_time.all());
        for (row, time) in (0u64..).zip(times) {
            let time = i64::from_le_bytes(*time);
            let day = usize::try_from(time / DAY_US).unwrap_or(0);
            let within = u64::try_from(time % DAY_US).unwrap_or(0);
            days[day].push(within << ROW_BITS | row);
        }
        for day in &mut days {
            day.sort_unstable();
        }
        days
    }

    fn event(&self, key: u64, day: i64) -> Event {
        let row = key & ((1 << ROW_BITS) - 1);
        let at = usize::try_from(row).unwrap_or(0);
        let time = day * DAY_US + i64::try_from(key >> ROW_BITS).unwrap_or(0);
        if let Some(unit) = self.unit.all().get(at) {
            let name = usize::from(u16::from_le_bytes(self.name.all()[at]));
            let value = f64::from_le_bytes(self.value.all()[at]);
            let unit = i64::from_le_bytes(*unit);
            let mut made = event(row, unit, time, EventKind::Track, &self.texts[name]);
            made.value = (value != 0.0).then_some(value);
            return made;
        }
        let at = (at - self.unit.all().len()) / 3;
        let unit = i64::from_le_bytes(self.exposed.all()[at]);
        let mut made = event(row, unit, time, EventKind::Exposure, "flag");
        let variant = if self.treated[at] == 1 {
            "treatment"
        } else {
            "control"
        };
        made.flags = vec![("flag".into(), variant.into())];
        made
    }
}

/// Flushes and merges until there is no more to come, as the server's keeper does.
fn keep(lake: &Lake, day: &AtomicI64) -> Result<(), Failure> {
    loop {
        let today = day.load(Ordering::Relaxed);
        lake.keep_house()?;
        lake.tidy(today.min(FIRST_DAY + 30))?;
        if today == i64::MAX {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// How much of the workload is loaded, and when events arrive; the environment may say otherwise.
struct Variation {
    /// `BENCH_EVERY=5` loads every fifth day alone, in which as much happens as at full scale.
    every: usize,
    /// `BENCH_ARRIVAL=late` has each event arrive by itself up to two seconds after its time.
    is_late: bool,
}

impl Variation {
    fn asked_for() -> Self {
        let every = std::env::var("BENCH_EVERY").ok();
        let arrival = std::env::var("BENCH_ARRIVAL").ok();
        Self {
            every: every.and_then(|text| text.parse().ok()).unwrap_or(1).max(1),
            is_late: arrival.as_deref() == Some("late"),
        }
    }

    fn apply(&self, made: &mut Event) {
        if self.is_late {
            let low = u64::try_from(made.id.0 >> 64).unwrap_or(0);
            made.received_us += 20_000 + i64::try_from(low % 2_000_000).unwrap_or(0);
        }
    }
}

/// Loads everything; what it took goes into `out`.
pub fn load(lake: &Lake, data: &Path, out: &mut Map<String, Value>) -> Result<(), Failure> {
    let workload = Workload::read(data)?;
    let mut days = workload.by_day();
    let variation = Variation::asked_for();
    for (day, keys) in days.iter_mut().enumerate() {
        if day % variation.every != variation.every / 2 {
            keys.clear();
        }
    }
    let days = days;
    let rows: usize = days.iter().map(Vec::len).sum();

    // What making the events costs is the generator's, not the lake's.
    let making = Stopwatch::start();
    let sample: Vec<Event> = days
        .iter()
        .flat_map(|day| day.iter().take(50_000))
        .map(|key| workload.event(*key, 0))
        .collect();
    let made_s = making.stop().cpu_s / sample.len() as f64 * rows as f64;
    drop(sample);

    let today = AtomicI64::new(FIRST_DAY);
    let total = Stopwatch::start();
    let appended = std::thread::scope(|scope| -> Result<f64, Failure> {
        let keeper = scope.spawn(|| keep(lake, &today));
        let (sender, batches) = sync_channel::<(i64, Vec<Event>)>(4);
        let workload = &workload;
        let days = &days;
        let variation = &variation;
        scope.spawn(move || {
            for (day, keys) in (0i64..).zip(days) {
                for part in keys.chunks(BATCH) {
                    let make = |key: &u64| {
                        let mut made = workload.event(*key, day);
                        variation.apply(&mut made);
                        made
                    };
                    let events = part.iter().map(make).collect();
                    if sender.send((FIRST_DAY + day, events)).is_err() {
                        return;
                    }
                }
            }
        });
        for (day, events) in batches {
            today.store(day, Ordering::Relaxed);
            lake.append(events)?;
        }
        let appended = total.stop().wall_s;
        today.store(i64::MAX, Ordering::Relaxed);
        keeper.join().map_err(|_| "the keeper panicked")??;
        Ok(appended)
    })?;
    let spent = total.stop();
    out.insert("loaded_events".to_owned(), rows.into());
    out.insert("appended_s".to_owned(), appended.into());
    out.insert("load_s".to_owned(), spent.wall_s.into());
    out.insert("load_cpu_s".to_owned(), (spent.cpu_s - made_s).into());
    out.insert("generator_cpu_s".to_owned(), made_s.into());
    let compacting = Stopwatch::start();
    lake.columns().compact()?;
    let spent = compacting.stop();
    out.insert("compact_s".to_owned(), spent.wall_s.into());
    out.insert("compact_cpu_s".to_owned(), spent.cpu_s.into());
    Ok(())
}
