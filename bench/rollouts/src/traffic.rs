//! Users: each asks for a flag over OFREP and reports one request, in small batches.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wire::{Connection, evaluation};
use crate::{chance, now_us};

/// Connections that ask for flags.
const ASKING: u64 = 4;
/// How often a batch of events is sent.
const BATCH_EVERY: Duration = Duration::from_millis(10);
/// Share of requests that fail without the change, and with it.
const ERROR_RATES: [f64; 2] = [0.005, 0.05];

/// One batch: when it was sent and when it was acknowledged.
pub type Sent = (i64, i64);

/// Users that come at a rate until they are told to stop.
pub struct Traffic {
    flag: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    batches: Arc<Mutex<Vec<Sent>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub fn come(address: SocketAddr, flag: &str, per_second: u64) -> Self {
        let traffic = Self {
            flag: Arc::new(Mutex::new(flag.to_owned())),
            stop: Arc::default(),
            asked: Arc::default(),
            batches: Arc::default(),
            threads: Vec::new(),
        };
        let (report, reports) = channel();
        let askers = (0..ASKING).map(|asker| traffic.ask(address, asker, per_second, &report));
        let mut threads: Vec<_> = askers.collect();
        threads.push(traffic.report(address, reports));
        Self { threads, ..traffic }
    }

    /// From now on users meet another flag.
    pub fn turn_to(&self, flag: &str) {
        flag.clone_into(&mut self.flag.lock().unwrap());
    }

    /// How many users asked so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// The batch in which something was counted at `counted_us`: batches follow one another.
    pub fn batch_at(&self, counted_us: i64) -> Option<Sent> {
        let batches = self.batches.lock().unwrap();
        let holds =
            |(sent, acknowledged): &&Sent| *sent <= counted_us && counted_us <= *acknowledged;
        batches.iter().rev().find(holds).copied()
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }

    fn ask(
        &self,
        address: SocketAddr,
        asker: u64,
        per_second: u64,
        report: &Sender<Value>,
    ) -> JoinHandle<()> {
        let (flag, stop, asked) = (
            Arc::clone(&self.flag),
            Arc::clone(&self.stop),
            Arc::clone(&self.asked),
        );
        let report = report.clone();
        std::thread::spawn(move || {
            let mut connection = Connection::open(address);
            let gap = Duration::from_secs_f64(ASKING as f64 / per_second as f64);
            let mut due = Instant::now();
            let mut number = asker;
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                due += gap;
                let flag = flag.lock().unwrap().clone();
                let unit = format!("user-{number}");
                number += ASKING;
                let (status, body) = connection.exchange(&evaluation(&flag, &unit));
                assert_eq!(status, 200);
                asked.fetch_add(1, Ordering::Relaxed);
                let answer: Value = serde_json::from_slice(&body).unwrap();
                let has_change = answer["value"] == true;
                let fails =
                    chance(&format!("{flag} {unit}")) < ERROR_RATES[usize::from(has_change)];
                let event = json!({
                    "time": "2026-01-01T00:00:00Z", "unit": unit, "kind": "request",
                    "name": "checkout", "value": 12.0, "properties": {"error": fails},
                    "flags": {flag: if has_change { "on" } else { "off" }},
                });
                let _ = report.send(event);
            }
        })
    }

    fn report(&self, address: SocketAddr, reports: Receiver<Value>) -> JoinHandle<()> {
        let (stop, batches) = (Arc::clone(&self.stop), Arc::clone(&self.batches));
        std::thread::spawn(move || {
            let mut connection = Connection::open(address);
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                due += BATCH_EVERY;
                let batch: Vec<Value> = reports.try_iter().collect();
                if batch.is_empty() {
                    continue;
                }
                let batch = Value::Array(batch);
                let sent = now_us();
                let (status, answer) = connection.ask("POST", "/api/v1/events", &batch);
                assert_eq!(status, 202, "{answer}");
                batches.lock().unwrap().push((sent, now_us()));
            }
        })
    }
}
