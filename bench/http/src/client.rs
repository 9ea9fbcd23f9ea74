//! Keep-alive connections that send one request at a time and read its answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::server::TOKEN;

/// Whom to ask, over how many connections, and which status is right.
pub struct Load {
    pub address: SocketAddr,
    pub connections: usize,
    pub status: u16,
}

/// Requests per second when every connection sends the next request as soon as it has an answer.
pub fn closed_loop(load: &Load, request: &(dyn Fn(u64) -> Vec<u8> + Sync), time: Duration) -> f64 {
    let started = Instant::now();
    let count: u64 = std::thread::scope(|scope| {
        let one = |index: u64| {
            scope.spawn(move || {
                let mut connection = Connection::open(load.address);
                let mut sent = 0;
                while started.elapsed() < time {
                    let (status, _) = connection.ask(&request(index << 32 | sent));
                    assert_eq!(status, load.status);
                    sent += 1;
                }
                sent
            })
        };
        let all: Vec<_> = (0..load.connections as u64).map(one).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    count as f64 / started.elapsed().as_secs_f64()
}

/// Latencies at `rate` requests per second, each counted from when it was due and not from when it
/// could be sent: a stall is paid by every request it delays.
pub fn paced(
    load: &Load,
    request: &(dyn Fn(u64) -> Vec<u8> + Sync),
    rate: f64,
    time: Duration,
) -> Vec<Duration> {
    let gap = Duration::from_secs_f64(load.connections as f64 / rate);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let one = |index: u64| {
            scope.spawn(move || {
                let mut connection = Connection::open(load.address);
                let mut due = started + gap.mul_f64(index as f64 / load.connections as f64);
                let mut latencies = Vec::new();
                while due < started + time {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let (status, _) =
                        connection.ask(&request(index << 32 | latencies.len() as u64));
                    assert_eq!(status, load.status);
                    latencies.push(due.elapsed());
                    due += gap;
                }
                latencies
            })
        };
        let all: Vec<_> = (0..load.connections as u64).map(one).collect();
        all.into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// One connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("the server accepts")
    }

    pub fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            line: String::new(),
            body: Vec::new(),
        })
    }

    /// Sends a request; returns the status and the entity tag.
    pub fn ask(&mut self, request: &[u8]) -> (u16, Option<String>) {
        self.stream.get_mut().write_all(request).unwrap();
        let (mut status, mut length, mut tag) = (0, 0, None);
        loop {
            self.line.clear();
            self.stream.read_line(&mut self.line).unwrap();
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if let Some(value) = line.strip_prefix("etag: ") {
                tag = Some(value.to_owned());
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).unwrap();
        (status, tag)
    }
}

/// A request without a body.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes()
}

/// One flag with a list test and a split, for a unit that differs each time.
pub fn evaluate_one(unit: u64) -> Vec<u8> {
    let body = format!(r#"{{"context":{{"targetingKey":"user-{unit}","plan":"pro"}}}}"#);
    post("/ofrep/v1/evaluate/flags/flag-500", "", &body)
}

/// All flags, with the entity tag of an earlier answer.
pub fn evaluate_all(tag: Option<&str>) -> Vec<u8> {
    let condition = tag.map_or_else(String::new, |tag| format!("if-none-match: {tag}\r\n"));
    let body = r#"{"context":{"targetingKey":"user-1","plan":"pro"}}"#;
    post("/ofrep/v1/evaluate/flags", &condition, body)
}

const FLAG: &str = "/api/v1/projects/default/flags/flag-500";

/// Flag 500, whose entity tag is its revision.
pub fn get_flag() -> Vec<u8> {
    send("GET", FLAG, "", "")
}

/// A change of flag 500 that every client must be told of.
pub fn put_flag(revision: &str, change: usize) -> Vec<u8> {
    let default = if change.is_multiple_of(2) {
        "on"
    } else {
        "off"
    };
    let body = crate::server::flag().replace(
        r#""defaultVariant":"off""#,
        &format!(r#""defaultVariant":"{default}""#),
    );
    send("PUT", FLAG, &format!("if-match: {revision}\r\n"), &body)
}

fn post(path: &str, condition: &str, body: &str) -> Vec<u8> {
    send("POST", path, condition, body)
}

fn send(method: &str, path: &str, condition: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\n{condition}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
