//! Keep-alive connections that send one request at a time and read its answer, all on one
//! thread, so that the client takes as little as it can of the machine it shares.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Requests, each made in place of the one before.
pub trait Requests {
    /// The next request, from head to end.
    fn next(&mut self) -> &[u8];

    /// Notes how the request was answered; returns how many events it brought in.
    fn answered(&mut self, answer: &Answer<'_>) -> u64;
}

/// An answer.
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Since the request was due.
    pub latency: Duration,
}

/// How requests follow each other.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Each connection sends the next as soon as it has an answer.
    Closed,
    /// So many requests per second over all connections; latency counts from when one was due, so
    /// a stall is paid by every request it delays.
    PerSecond(f64),
}

/// What came of a load.
#[derive(Default)]
pub struct Outcome {
    pub events: u64,
    pub requests: u64,
    /// Requests that were told to come back, and did.
    pub refused: u64,
    pub latencies: Vec<Duration>,
    pub time: Duration,
}

impl Outcome {
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.time.as_secs_f64()
    }

    pub fn quantile_ms(&mut self, share: f64) -> f64 {
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies
            .get(at)
            .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    }
}

/// Sends what `sources` make, one connection each, for so long.
pub async fn load<R: Requests + 'static>(
    address: SocketAddr,
    sources: Vec<R>,
    pace: Pace,
    time: Duration,
) -> Outcome {
    let connections = sources.len() as f64;
    let started = Instant::now();
    let mut all = JoinSet::new();
    for (index, source) in sources.into_iter().enumerate() {
        let schedule = match pace {
            Pace::Closed => None,
            Pace::PerSecond(rate) => {
                let gap = Duration::from_secs_f64(connections / rate);
                Some((started + gap.mul_f64(index as f64 / connections), gap))
            }
        };
        all.spawn_local(one(address, source, schedule, started + time));
    }
    let mut outcome = Outcome::default();
    while let Some(part) = all.join_next().await {
        let part = part.unwrap();
        outcome.events += part.events;
        outcome.requests += part.requests;
        outcome.refused += part.refused;
        outcome.latencies.extend(part.latencies);
    }
    outcome.time = started.elapsed();
    outcome
}

async fn one<R: Requests>(
    address: SocketAddr,
    mut source: R,
    schedule: Option<(Instant, Duration)>,
    end: Instant,
) -> Outcome {
    const TRY_AGAIN: Duration = Duration::from_millis(20);
    let mut connection = Connection::open(address).await;
    let mut outcome = Outcome::default();
    let mut due = schedule.map(|(first, _)| first);
    loop {
        let begun = match due {
            Some(due) => {
                tokio::time::sleep_until(due.into()).await;
                due
            }
            None => Instant::now(),
        };
        if begun >= end {
            return outcome;
        }
        let request = source.next();
        let answer = loop {
            let answer = connection.ask(request).await;
            if !matches!(answer.0, 429 | 503) {
                break answer;
            }
            outcome.refused += 1;
            tokio::time::sleep(TRY_AGAIN).await;
        };
        let latency = begun.elapsed();
        outcome.latencies.push(latency);
        outcome.requests += 1;
        outcome.events += source.answered(&Answer {
            latency,
            status: answer.0,
            body: connection.body(answer.1),
        });
        due = due.zip(schedule).map(|(due, (_, gap))| due + gap);
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
        }
    }

    /// Sends a request; returns the status, and where in the buffer the body begins.
    pub async fn ask(&mut self, request: &[u8]) -> (u16, usize) {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(read > 0, "the server closed a connection");
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&self.buffer[..end]).unwrap();
            let status = head[9..12].parse().unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse::<usize>().unwrap());
            while self.buffer.len() < end + 4 + length {
                let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
                assert!(read > 0, "the server closed a connection");
            }
            return (status, end + 4);
        }
    }

    pub fn body(&self, from: usize) -> &[u8] {
        &self.buffer[from..]
    }
}
