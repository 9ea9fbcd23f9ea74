//! What the door of events takes: the real release binary over an empty folder, driven over its
//! own port with flushing and compaction running, and read again in full at the end.
//!
//! `tidegate-bench-ingest [SECONDS] [KIND...]`: seconds of each load (20), and which of `json`,
//! `otlp`, `lines` and `single` (all). Each kind has a server of its own. It is first sent as much
//! as it takes, and then, when that is in files, the goal at an even pace, which is what the
//! latencies are of; meanwhile probes ask how soon an event is seen, first by guards, then by
//! reports. A twentieth of the native requests is sent twice. In the end every event that was
//! acknowledged must be there, once.
//!
//! `sustained` is the goal's pace alone, for as long as is asked, with both kinds of probe at once.
//!
//! Client and server share the machine, so the CPU seconds of both are printed, and those of
//! everybody else, without which a rate means nothing.

mod client;
mod native;
mod otlp;
#[path = "../../http/src/process.rs"]
#[expect(
    dead_code,
    reason = "declarative files are for those who measure flags"
)]
mod process;
#[path = "../../http/src/report.rs"]
mod report;
mod server;
mod sustained;
mod visible;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use client::{Connection, Outcome, Pace, Requests, load};
use native::{Batches, Ids};
use otlp::{Logs, Records};
use report::Report;
use serde_json::Value;
use server::{Server, cpu_of, cpu_of_all};
use sustained::{Watched, watch};
use visible::{Reader, get, probe};

const BATCH: usize = 1_000;
const BATCH_CONNECTIONS: u64 = 12;
const SINGLE_CONNECTIONS: u64 = 128;
/// How often a report is made beside a load that goes on.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What is measured, and what was asked for.
struct Kind {
    name: &'static str,
    what: &'static str,
    goal: f64,
    p99_ms: Option<f64>,
    events_per_request: f64,
}

/// What is measured only when it is asked for.
const SUSTAINED: &str = "sustained";

const KINDS: [Kind; 5] = [
    Kind {
        name: "json",
        what: "JSON, 1,000 events a request",
        goal: 200_000.0,
        p99_ms: Some(25.0),
        events_per_request: BATCH as f64,
    },
    Kind {
        name: "otlp",
        what: "OTLP/HTTP protobuf gzip, 1,000 records",
        goal: 200_000.0,
        p99_ms: None,
        events_per_request: BATCH as f64,
    },
    Kind {
        name: "lines",
        what: "OTLP decoded and not stored",
        goal: 200_000.0,
        p99_ms: None,
        events_per_request: BATCH as f64,
    },
    Kind {
        name: "single",
        what: "JSON, one event a request",
        goal: 20_000.0,
        p99_ms: Some(25.0),
        events_per_request: 1.0,
    },
    Kind {
        name: SUSTAINED,
        what: "JSON, 1,000 events a request, sustained",
        goal: 200_000.0,
        p99_ms: Some(25.0),
        events_per_request: BATCH as f64,
    },
];

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    let seconds = arguments.next_if(|first| first.parse::<u64>().is_ok());
    let time = Duration::from_secs(seconds.map_or(20, |text| text.parse().unwrap()));
    let wanted: Vec<String> = arguments.collect();
    let mut report = Report::default();
    for kind in &KINDS {
        let is_usual = wanted.is_empty() && kind.name != SUSTAINED;
        if is_usual || wanted.iter().any(|name| name == kind.name) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, measure(kind, time, &mut report));
        }
    }
    report.print();
}

async fn measure(kind: &Kind, time: Duration, report: &mut Report) {
    let server = Server::start();
    let run = Run {
        kind,
        server,
        time,
        ids: Ids::default(),
        stored: Rc::default(),
        bodies: Cell::default(),
    };
    println!("\n{} for {} s", kind.what, time.as_secs());
    let probed = Cell::new(0);
    if kind.name == SUSTAINED {
        run.sustain(&probed, report).await;
        let sent = run.ids.get();
        return run.verify(sent + probed.get());
    }
    let most = run.load(Pace::Closed, None, &probed, report).await;
    report.at_least(
        format!("{}: events per second", kind.what),
        most.events_per_second(),
        kind.goal,
        "/s",
    );
    run.settled().await;
    let pace = Pace::PerSecond(kind.goal / kind.events_per_request);
    let live = Some(Reader::Live);
    let mut paced = run.load(pace, live, &probed, report).await;
    if let Some(p99_ms) = kind.p99_ms {
        let what = format!("{}: p99 at {} events/s", kind.what, kind.goal);
        report.at_most(what, paced.quantile_ms(0.99), p99_ms, "ms");
    }
    run.settled().await;
    let reader = Some(Reader::Report);
    run.load(pace, reader, &probed, report).await;
    let sent = match kind.name {
        "json" | "single" => run.ids.get(),
        _ => run.stored.get(),
    };
    run.verify(sent + probed.get());
}

/// How requests were answered, for people.
fn answered(outcome: &mut Outcome) -> String {
    format!(
        "{:.0} events/s; latency p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms; {} told to come back",
        outcome.events_per_second(),
        outcome.quantile_ms(0.5),
        outcome.quantile_ms(0.99),
        outcome.quantile_ms(1.0),
        outcome.refused,
    )
}

struct Run<'a> {
    kind: &'a Kind,
    server: Server,
    time: Duration,
    /// Native ids given out, or batches of OTLP.
    ids: Ids,
    /// Events that OTLP records became.
    stored: Rc<Cell<u64>>,
    /// Bodies of OTLP made so far.
    bodies: Cell<u64>,
}

impl Run<'_> {
    async fn load(
        &self,
        pace: Pace,
        reader: Option<Reader>,
        probed: &Cell<u64>,
        report: &mut Report,
    ) -> Outcome {
        let is_over = Rc::new(Cell::new(false));
        let probes = reader.map(|reader| {
            let address = self.server.address;
            tokio::task::spawn_local(probe(
                address,
                reader,
                reader.usual_pause(),
                Rc::clone(&is_over),
            ))
        });
        let used = || {
            let processes = [self.server.process(), std::process::id()];
            [cpu_of(processes[0]), cpu_of(processes[1]), cpu_of_all()]
        };
        let before = used();
        let mut outcome = self.send(pace).await;
        let after = used();
        let [server_cpu, client_cpu, all_cpu] =
            [0, 1, 2].map(|at| after[at].saturating_sub(before[at]).as_secs_f64());
        is_over.set(true);
        let label = match (pace, reader) {
            (Pace::Closed, _) => "as fast as it takes them",
            (Pace::PerSecond(_), Some(Reader::Report)) => "paced, while reports are made",
            (Pace::PerSecond(_), _) => "paced",
        };
        println!("  {label}: {}", answered(&mut outcome));
        println!(
            "    CPU: server {server_cpu:.1} s ({:.2} us an event), client {client_cpu:.1} s, \
             others {:.1} s, of {:.1} s on each core; {} events not yet in files",
            server_cpu * 1e6 / outcome.events.max(1) as f64,
            (all_cpu - server_cpu - client_cpu).max(0.0),
            outcome.time.as_secs_f64(),
            self.unflushed().await,
        );
        if let Some((reader, probes)) = reader.zip(probes) {
            self.seen(reader, probes.await.unwrap(), probed, report);
        }
        outcome
    }

    /// How soon accepted events were seen.
    fn seen(
        &self,
        reader: Reader,
        latencies: Vec<Duration>,
        probed: &Cell<u64>,
        report: &mut Report,
    ) {
        let mut seen = Outcome {
            latencies,
            ..Outcome::default()
        };
        probed.set(probed.get() + seen.latencies.len() as u64);
        let what = reader.what();
        println!(
            "    accepted to seen by {what}: p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms of {}",
            seen.quantile_ms(0.5),
            seen.quantile_ms(0.99),
            seen.quantile_ms(1.0),
            seen.latencies.len(),
        );
        let what = format!("{}: accepted to seen by {what}, p99", self.kind.name);
        report.at_most(what, seen.quantile_ms(0.99), 2000.0, "ms");
    }

    /// The goal's pace for the whole time, with guards and reports reading.
    async fn sustain(&self, probed: &Cell<u64>, report: &mut Report) {
        let is_over = Rc::new(Cell::new(false));
        let address = self.server.address;
        let probes = [
            (Reader::Live, Reader::Live.usual_pause()),
            (Reader::Report, REPORT_EVERY),
        ]
        .map(|(reader, between)| {
            let probing = probe(address, reader, between, Rc::clone(&is_over));
            (reader, tokio::task::spawn_local(probing))
        });
        let latencies = Rc::default();
        let sources: Vec<_> = (1..=BATCH_CONNECTIONS)
            .map(|seed| Watched {
                inner: Batches::new(BATCH, &self.ids, seed),
                latencies: Rc::clone(&latencies),
            })
            .collect();
        let pace = Pace::PerSecond(self.kind.goal / self.kind.events_per_request);
        let watching = watch(&self.server, latencies, Rc::clone(&is_over), || {
            self.unflushed()
        });
        let sending = async {
            let outcome = self.drive(sources, pace).await;
            is_over.set(true);
            outcome
        };
        let (mut outcome, ()) = tokio::join!(sending, watching);
        println!("  {}", answered(&mut outcome));
        report.at_most(
            format!("{}: p99", self.kind.what),
            outcome.quantile_ms(0.99),
            self.kind.p99_ms.unwrap_or(f64::NAN),
            "ms",
        );
        for (reader, probes) in probes {
            self.seen(reader, probes.await.unwrap(), probed, report);
        }
    }

    /// Stops the server and reads everything again that it has stored.
    fn verify(self, expected: u64) {
        println!("  peak memory {:.0} MiB", self.server.peak_mib());
        let started = Instant::now();
        let stored = self.server.stop_and_verify();
        assert_eq!(stored.events, expected, "events lost or counted twice");
        println!(
            "  stopped and read again in {:.1} s: {} events, none lost, none double, {:.1} bytes each",
            started.elapsed().as_secs_f64(),
            stored.events,
            stored.bytes as f64 / stored.events.max(1) as f64,
        );
    }

    /// Waits until what was sent is in files, so that the next load begins as on another day.
    async fn settled(&self) {
        while self.unflushed().await > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Acknowledged events that flushing has not reached.
    async fn unflushed(&self) -> u64 {
        let mut connection = Connection::open(self.server.address).await;
        let (_, from) = connection.ask(get("/status").as_bytes()).await;
        let status: Value = serde_json::from_slice(connection.body(from)).unwrap();
        status["lakes"][0]["unflushed_events"].as_u64().unwrap_or(0)
    }

    async fn send(&self, pace: Pace) -> Outcome {
        match self.kind.name {
            "otlp" => self.send_logs(Records::Events, pace).await,
            "lines" => self.send_logs(Records::Lines, pace).await,
            "single" => self.send_events(1, SINGLE_CONNECTIONS, pace).await,
            _ => self.send_events(BATCH, BATCH_CONNECTIONS, pace).await,
        }
    }

    async fn send_events(&self, batch: usize, connections: u64, pace: Pace) -> Outcome {
        let seeds = 1..=connections;
        let sources: Vec<_> = seeds
            .map(|seed| Batches::new(batch, &self.ids, seed))
            .collect();
        println!("    {} bytes an event", sources[0].bytes_per_event());
        self.drive(sources, pace).await
    }

    async fn send_logs(&self, records: Records, pace: Pace) -> Outcome {
        // Other bodies than in the loads before, so that their units are met for the first time.
        let first = self.bodies.replace(self.bodies.get() + BATCH_CONNECTIONS);
        let seeds = first + 1..=first + BATCH_CONNECTIONS;
        let sources: Vec<_> = seeds
            .map(|seed| Logs::new(records, BATCH as u64, &self.ids, &self.stored, seed))
            .collect();
        println!("    {} bytes a record", sources[0].bytes_per_record());
        self.drive(sources, pace).await
    }

    async fn drive<R: Requests + 'static>(&self, sources: Vec<R>, pace: Pace) -> Outcome {
        load(self.server.address, sources, pace, self.time).await
    }
}
