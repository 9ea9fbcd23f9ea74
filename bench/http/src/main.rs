//! What a request over HTTP costs, and how soon listeners learn of a change: the real release
//! binary, driven over its own port.
//!
//! One server with 1,000 flags answers three kinds of requests in turn: a constant (`/healthz`, the
//! shortest way through the same listener, router and guard), one flag over OFREP, and a bulk
//! request whose entity tag still matches. The kinds take turns several times and the medians are
//! compared round by round, so that a busy machine slows all of them. Client and server share the machine: read
//! the ratios first.

mod client;
mod process;
mod report;
mod server;
mod streams;

use std::time::Duration;

use client::{Load, closed_loop, paced};
use report::Report;
use server::{FLAGS, Server};

const CONNECTIONS: usize = 8;
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const STARTS: usize = 5;

/// A request, the status it is to be answered with, and its rates.
struct Contender<'a> {
    name: &'static str,
    status: u16,
    request: &'a (dyn Fn(u64) -> Vec<u8> + Sync),
    rates: Vec<f64>,
}

impl Contender<'_> {
    fn load(&self, server: &Server) -> Load {
        Load {
            address: server.address,
            connections: CONNECTIONS,
            status: self.status,
        }
    }
}

fn main() {
    let mut report = Report::default();
    let mut server = Server::with_flags();
    // `streams` or `requests` measures one half alone.
    let only = std::env::args().nth(1);
    let wanted = |half: &str| only.as_deref().is_none_or(|only| only == half);
    if wanted("requests") {
        starts(&mut server, &mut report);
        requests(&server, &mut report);
    }
    if wanted("streams") {
        streams::report(&mut server, &mut report);
    }
    report.print();
}

fn requests(server: &Server, report: &mut Report) {
    let tag = server.entity_tag();
    let constant = |_| client::get("/healthz");
    let unchanged = move |_| client::evaluate_all(Some(&tag));
    let contender = |name, status, request| Contender {
        name,
        status,
        request,
        rates: Vec::new(),
    };
    let mut all = [
        contender(
            "constant",
            200,
            &constant as &(dyn Fn(u64) -> Vec<u8> + Sync),
        ),
        contender("OFREP single", 200, &client::evaluate_one),
        contender("OFREP bulk, 304", 304, &unchanged),
    ];
    for contender in &all {
        closed_loop(&contender.load(server), contender.request, ROUND / 3);
    }
    for _ in 0..ROUNDS {
        for contender in &mut all {
            let rate = closed_loop(&contender.load(server), contender.request, ROUND);
            contender.rates.push(rate);
        }
    }
    println!("requests per second, {CONNECTIONS} connections, median of {ROUNDS} rounds:");
    let [constant, single, unchanged] = &mut all;
    let base = constant.rates.clone();
    for contender in [&mut *constant, &mut *single, &mut *unchanged] {
        let share = share_of(&contender.rates, &base);
        let rate = median(&mut contender.rates);
        println!(
            "  {:<16} {rate:>9.0}   {share:>5.1} % of constant",
            contender.name
        );
    }
    report.at_least(
        "OFREP single, of constant",
        share_of(&single.rates, &base),
        70.0,
        "%",
    );
    report.at_least(
        "OFREP 304, of constant",
        share_of(&unchanged.rates, &base),
        85.0,
        "%",
    );
    let rate = median(&mut single.rates) / 2.0;
    let mut latencies = paced(&single.load(server), single.request, rate, 2 * ROUND);
    latencies.sort_unstable();
    let at = |per_mille| streams::quantile(&latencies, per_mille);
    println!(
        "OFREP single at half that load ({rate:.0}/s): p50 {:?}, p99 {:?}, p99.9 {:?}",
        at(500),
        at(990),
        at(999)
    );
    let p99_ms = at(990).as_secs_f64() * 1000.0;
    report.at_most("OFREP single at half that load, p99", p99_ms, 2.0, "ms");
    report.at_most(
        "resident memory after the load",
        server.resident_mib(),
        60.0,
        "MiB",
    );
}

/// The median of what each round gave of the constant in the same round, in per cent: what
/// slows the machine for a while slows both.
fn share_of(rates: &[f64], base: &[f64]) -> f64 {
    let mut shares: Vec<f64> = rates
        .iter()
        .zip(base)
        .map(|(rate, base)| 100.0 * rate / base)
        .collect();
    median(&mut shares)
}

fn starts(server: &mut Server, report: &mut Report) {
    let mut starts: Vec<Duration> = (0..STARTS).map(|_| server.restart()).collect();
    starts.sort_unstable();
    let (middle, slowest) = (starts[STARTS / 2], starts[STARTS - 1]);
    println!(
        "start to first answer with {FLAGS} flags: median {middle:?}, slowest {slowest:?} of {STARTS}"
    );
    let ms = slowest.as_secs_f64() * 1000.0;
    report.at_most("start to first answer, slowest", ms, 300.0, "ms");
    report.at_most(
        "resident memory after the start",
        server.resident_mib(),
        60.0,
        "MiB",
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
