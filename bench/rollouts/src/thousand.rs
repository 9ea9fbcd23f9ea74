//! A thousand rollouts with five guards each, all open, all with traffic: how soon new evidence is
//! planned for, and what that costs the server.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chance;
use crate::report::Report;
use crate::server::Server;
use crate::wire::Connection;

const ROLLOUTS: usize = 1_000;
/// Users a second; each meets this many changes.
const PER_SECOND: usize = 2_000;
const CHANGES: usize = 10;
const BATCH: usize = 40;
const WINDOW: Duration = Duration::from_secs(20);
const OBJECTS: &str = "/api/v1/projects/default";
/// Control requests before latency thresholds are frozen, and the changes one event can carry.
const BASELINE: usize = 2_000;
const MOST_CHANGES: usize = 50;

pub fn report(report: &mut Report) {
    let server = Server::start("thousand");
    prepare(&server);
    let mut users = Users {
        connection: Connection::open(server.address),
        next: 0,
    };
    println!("measuring without rollouts");
    let (alone, _) = users.come(&server, WINDOW);
    start(&server, &mut users);
    println!("measuring with {ROLLOUTS} rollouts");
    let before = Meters::read(&server);
    let (busy, seconds) = users.come(&server, WINDOW);
    let after = Meters::read(&server);
    let planning = 100.0 * (after.planning - before.planning) / seconds;
    let looks = (after.looks - before.looks) / seconds;
    let kept = (after.kept - before.kept) / seconds;
    let late = after.late - before.late;
    let evidence = after.evidence - before.evidence;
    println!(
        "{ROLLOUTS} rollouts, 5 guards each, {PER_SECOND} users per second who meet {CHANGES} changes each: \
         {looks:.0} plans per second, {kept:.1} of them kept, {:.0} us each; {evidence:.0} pieces of new \
         evidence, {late:.0} of them not planned for within 500 ms; the process used {:.1} % of a core \
         without rollouts and {:.1} % with them",
        1e6 * (after.planning - before.planning) / (after.looks - before.looks),
        100.0 * alone,
        100.0 * busy,
    );
    let what = format!("{ROLLOUTS} rollouts: planning, of one core");
    report.at_most(what, planning, 10.0, "%");
    let what = format!("{ROLLOUTS} rollouts: evidence planned for after more than 500 ms");
    report.at_most(what, late, 0.0, "");
}

/// Dark flags in one file, and a rollout for each.
fn prepare(server: &Server) {
    let definition = json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"});
    let flags: serde_json::Map<String, Value> = (0..ROLLOUTS)
        .map(|number| (format!("c{number}"), definition.clone()))
        .collect();
    server.apply(&json!({"flags": flags}));
    for number in 0..ROLLOUTS {
        let policy = json!({"flag": format!("c{number}"), "treatment": "on", "control": "off",
            "reason": "a benchmark", "stages": [{"share_bp": 5000, "min_seconds": 36000}],
            "guards": [{"metric": "errors"}, {"metric": "errors/checkout"},
                {"metric": "latency/checkout"}, {"metric": "errors/search"},
                {"metric": "conversions/paid", "direction": "decrease"}]});
        server.ask("PUT", &format!("{OBJECTS}/rollouts/c{number}"), &policy);
    }
}

/// Starts them all, lets them learn what latency is usual, and waits until all are open.
fn start(server: &Server, users: &mut Users) {
    let why = json!({"unproven": true, "reason": "a benchmark"});
    for number in 0..ROLLOUTS {
        server.ask("POST", &format!("{OBJECTS}/rollouts/c{number}/start"), &why);
    }
    users.connection = Connection::open(server.address);
    for first in (0..ROLLOUTS).step_by(MOST_CHANGES) {
        for _ in 0..BASELINE.div_ceil(500) + 1 {
            let changes: Vec<usize> = (first..(first + MOST_CHANGES).min(ROLLOUTS)).collect();
            let batch = (0..500).map(|_| users.event(&changes, false)).collect();
            users.send(batch);
        }
    }
    for number in 0..ROLLOUTS {
        let path = format!("{OBJECTS}/rollouts/c{number}/report");
        let began = Instant::now();
        while server.ask("GET", &path, &Value::Null)["share_bp"] != 5000 {
            assert!(
                began.elapsed() < Duration::from_secs(300),
                "c{number} does not open"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// What the server says of its planning.
struct Meters {
    looks: f64,
    planning: f64,
    kept: f64,
    evidence: f64,
    late: f64,
}

impl Meters {
    fn read(server: &Server) -> Self {
        let waits = "tidegate_rollout_evidence_waits_total{within=";
        let late = ["\"1s\"", "\"more\""].map(|within| server.metric(&format!("{waits}{within}")));
        Self {
            looks: server.metric("tidegate_rollout_looks_total"),
            planning: server.metric("tidegate_rollout_planning_seconds_total"),
            kept: server.metric("tidegate_rollout_plans_kept_total"),
            evidence: server.metric(waits),
            late: late.iter().sum(),
        }
    }
}

struct Users {
    connection: Connection,
    next: usize,
}

impl Users {
    /// Lets users come for a while; the part of a core the server used, and the time it was.
    fn come(&mut self, server: &Server, time: Duration) -> (f64, f64) {
        // The server closes connections that idle, as while rollouts are started.
        self.connection = Connection::open(server.address);
        let gap = Duration::from_secs_f64(BATCH as f64 / PER_SECOND as f64);
        let (began, used) = (Instant::now(), server.processor_seconds());
        let mut due = began;
        while began.elapsed() < time {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += gap;
            let batch = (0..BATCH)
                .map(|_| {
                    let first = self.next * CHANGES;
                    let changes: Vec<usize> =
                        (first..first + CHANGES).map(|at| at % ROLLOUTS).collect();
                    self.event(&changes, true)
                })
                .collect();
            self.send(batch);
        }
        let seconds = began.elapsed().as_secs_f64();
        ((server.processor_seconds() - used) / seconds, seconds)
    }

    /// One user's request, or in one case of fifty a payment, under some changes.
    fn event(&mut self, changes: &[usize], are_open: bool) -> Value {
        let number = self.next;
        self.next += 1;
        let unit = format!("user-{number}");
        let luck = |what: &str| chance(&format!("{what} {unit}"));
        // Whom a change is served is decided by the server's own hash, which is not known here: half
        // of those who are said to have it do, and count; the others are seen to differ.
        let flags: serde_json::Map<String, Value> = changes
            .iter()
            .map(|change| {
                let has = are_open && luck(&format!("c{change}")) < 0.5;
                (format!("c{change}"), json!(if has { "on" } else { "off" }))
            })
            .collect();
        let time = "2026-01-01T00:00:00Z";
        if luck("pays") < 0.02 {
            return json!({"time": time, "unit": unit, "kind": "track", "name": "paid", "flags": flags});
        }
        let latency = 10.0 / (1.0 - luck("latency")).max(1e-4).sqrt();
        json!({"time": time, "unit": unit, "kind": "request", "name": "checkout", "value": latency,
            "properties": {"error": luck("fails") < 0.005}, "flags": flags})
    }

    fn send(&mut self, batch: Vec<Value>) {
        let (status, answer) = self
            .connection
            .ask("POST", "/api/v1/events", &Value::Array(batch));
        assert_eq!(status, 202, "{answer}");
    }
}
