//! From the acknowledgement of the event that decides to the last of a thousand streams that serves
//! control, over many rollbacks, each term of the way reported.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::Report;
use crate::server::Server;
use crate::streams::Clients;
use crate::traffic::Traffic;
use crate::{now_us, quantile};

const CLIENTS: usize = 1_000;
const PER_SECOND: u64 = 2_000;
const GOAL_MS: f64 = 1_000.0;
const OBJECTS: &str = "/api/v1/projects/default";

/// One rollback, in milliseconds.
struct Rollback {
    /// The batch with the deciding event: from sending to acknowledgement.
    ingest: f64,
    /// From when the event was durable to when it was looked at.
    detect: f64,
    /// From there to the plan.
    decide: f64,
    /// The sync of the stop record.
    record: f64,
    /// Swapping what is served.
    swap: f64,
    /// From there to the last client that was told, and to the last that was served control.
    told: f64,
    deliver: f64,
    /// From the acknowledgement to the last client that was served control.
    whole: f64,
    /// From the first harmful traffic to the decision: what evidence needs.
    evidence: f64,
}

pub fn report(report: &mut Report) {
    let rollbacks: usize =
        std::env::var("TIDEGATE_BENCH_ROLLBACKS").map_or(40, |number| number.parse().unwrap());
    let server = Server::start("delay");
    flag(&server, "calm");
    let mut clients = Clients::listen(server.address, CLIENTS);
    let traffic = Traffic::come(server.address, "calm", PER_SECOND);
    let began = (Instant::now(), traffic.asked());
    let seen: Vec<Rollback> = (0..rollbacks)
        .map(|number| one(&server, &mut clients, &traffic, &format!("change-{number}")))
        .collect();
    let rate = (traffic.asked() - began.1) as f64 / began.0.elapsed().as_secs_f64();
    traffic.stop();
    print(&seen, rate);
    let mut whole: Vec<f64> = seen.iter().map(|one| one.whole).collect();
    let what =
        format!("rollback on {CLIENTS} streams at {PER_SECOND}/s, p99 since the acknowledgement");
    report.at_most(what, quantile(&mut whole, 990), GOAL_MS, "ms");
    report.at_least(
        "requests per second meanwhile",
        rate,
        0.95 * PER_SECOND as f64,
        "/s",
    );
}

fn flag(server: &Server, key: &str) {
    let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"});
    server.ask("PUT", &format!("{OBJECTS}/flags/{key}"), &flag);
}

fn one(server: &Server, clients: &mut Clients, traffic: &Traffic, key: &str) -> Rollback {
    flag(server, key);
    let policy = json!({"flag": key, "treatment": "on", "control": "off", "alpha": 0.01,
        "guards": [{"metric": "errors/checkout"}], "reason": "a benchmark",
        "stages": [{"share_bp": 5000, "min_seconds": 3600}]});
    let rollout = format!("{OBJECTS}/rollouts/{key}");
    server.ask("PUT", &rollout, &policy);
    let why = json!({"unproven": true, "reason": "a benchmark"});
    server.ask("POST", &format!("{rollout}/start"), &why);
    let standing = || server.ask("GET", &format!("{rollout}/report"), &Value::Null);
    while standing()["share_bp"] != 5000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    clients.take(key);
    let harmful_us = now_us();
    traffic.turn_to(key);
    let control = clients.until_control();
    let times = loop {
        let standing = standing();
        if standing["lifecycle"] == "rolled back" {
            break standing["rollback"].clone();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    traffic.turn_to("calm");
    let at = |name: &str| {
        times[name]
            .as_i64()
            .unwrap_or_else(|| panic!("{name}: {times}"))
    };
    let ms = |from: i64, to: i64| (to - from) as f64 / 1e3;
    let (sent, acknowledged) = traffic
        .batch_at(at("counted_us"))
        .expect("the deciding batch");
    let last_told = control.iter().map(|(told, _)| *told).max().unwrap();
    let last_served = control.iter().map(|(_, served)| *served).max().unwrap();
    Rollback {
        ingest: ms(sent, acknowledged),
        detect: ms(at("counted_us"), at("seen_us")),
        decide: ms(at("seen_us"), at("decided_us")),
        record: ms(at("decided_us"), at("recorded_us")),
        swap: ms(at("recorded_us"), at("served_us")),
        told: ms(at("served_us"), last_told),
        deliver: ms(at("served_us"), last_served),
        whole: ms(acknowledged, last_served),
        evidence: ms(harmful_us, at("decided_us")),
    }
}

fn print(seen: &[Rollback], rate: f64) {
    println!(
        "{} rollbacks of a change that fails ten times as often, {CLIENTS} OFREP event streams, \
         {rate:.0} requests per second:",
        seen.len()
    );
    println!("| term | p50 ms | p99 ms | longest ms |\n|---|---:|---:|---:|");
    let row = |name: &str, term: fn(&Rollback) -> f64| {
        let mut values: Vec<f64> = seen.iter().map(term).collect();
        let [middle, high, longest] = [500, 990, 1000].map(|at| quantile(&mut values, at));
        println!("| {name} | {middle:.1} | {high:.1} | {longest:.1} |");
    };
    row("ingest: batch sent to acknowledged", |one| one.ingest);
    row("detect: durable to looked at", |one| one.detect);
    row("decide: looked at to decided", |one| one.decide);
    row("record: decided to stop record synced", |one| one.record);
    row("swap: synced to served", |one| one.swap);
    row("deliver: served to the last stream told", |one| one.told);
    row("deliver: served to the last client served control", |one| {
        one.deliver
    });
    row(
        "whole: acknowledged to the last client served control",
        |one| one.whole,
    );
    row("(evidence: first harmful user to decided)", |one| {
        one.evidence
    });
}
