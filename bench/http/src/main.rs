//! What a request over HTTP costs: the real release binary, driven over keep-alive connections.
//!
//! One server with 1,000 flags answers three kinds of requests in turn: a constant (`/healthz`, the
//! shortest way through the same listener, router and guard), one flag over OFREP, and a bulk
//! request whose entity tag still matches. The kinds take turns several times and the medians are
//! compared, so that a busy machine slows all of them. Client and server share the machine: read
//! the ratios first.

mod client;
mod server;

use std::time::Duration;

use client::{Load, closed_loop, paced};
use server::{FLAGS, Server};

const CONNECTIONS: usize = 8;
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const STARTS: usize = 5;

fn main() {
    let mut server = Server::with_flags();
    report_starts(&mut server);

    let constant = |_| client::get("/healthz");
    let single = client::evaluate_one;
    let tag = server.entity_tag();
    let unchanged = move |_| client::evaluate_all(Some(&tag));
    let mut kinds: [(&str, u16, &(dyn Fn(u64) -> Vec<u8> + Sync), Vec<f64>); 3] = [
        ("constant", 200, &constant, Vec::new()),
        ("OFREP single", 200, &single, Vec::new()),
        ("OFREP bulk, 304", 304, &unchanged, Vec::new()),
    ];
    for (_, status, request, _) in &kinds {
        let warm = Load {
            address: server.address,
            connections: CONNECTIONS,
            status: *status,
        };
        closed_loop(&warm, request, ROUND / 3);
    }
    for _ in 0..ROUNDS {
        for (_, status, request, rates) in &mut kinds {
            let load = Load {
                address: server.address,
                connections: CONNECTIONS,
                status: *status,
            };
            rates.push(closed_loop(&load, request, ROUND));
        }
    }
    let base = median(&mut kinds[0].3);
    println!("requests per second, {CONNECTIONS} connections, median of {ROUNDS} rounds:");
    let mut single_rate = 0.0;
    for (name, _, _, rates) in &mut kinds {
        let rate = median(rates);
        println!(
            "  {name:<16} {rate:>9.0}   {:>5.1} % of constant",
            100.0 * rate / base
        );
        if *name == "OFREP single" {
            single_rate = rate;
        }
    }
    let load = Load {
        address: server.address,
        connections: CONNECTIONS,
        status: 200,
    };
    let mut latencies = paced(&load, &single, single_rate / 2.0, 2 * ROUND);
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() * share / 1000).min(latencies.len() - 1)];
    println!(
        "OFREP single at half that load ({:.0}/s): p50 {:?}, p99 {:?}, p99.9 {:?}",
        single_rate / 2.0,
        at(500),
        at(990),
        at(999)
    );
    println!(
        "resident memory after the load: {:.1} MiB",
        server.resident_mib()
    );
}

fn report_starts(server: &mut Server) {
    let mut starts: Vec<Duration> = (0..STARTS).map(|_| server.restart()).collect();
    starts.sort_unstable();
    println!(
        "start to first answer with {FLAGS} flags: median {:?}, slowest {:?} of {STARTS}",
        starts[STARTS / 2],
        starts[STARTS - 1]
    );
    println!(
        "resident memory after the start: {:.1} MiB",
        server.resident_mib()
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
