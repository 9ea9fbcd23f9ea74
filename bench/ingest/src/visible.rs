//! How soon what was accepted is seen: an event of a flag of its own, then the question for it,
//! again and again, until the answer counts it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Connection;
use crate::native::{head, today};
use crate::server::TOKEN;

/// Who is asked.
#[derive(Clone, Copy)]
pub enum Reader {
    /// The live aggregates that guards read.
    Live,
    /// The usage report over files and log.
    Report,
}

impl Reader {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "probe-live",
            Self::Report => "probe-report",
        }
    }

    /// Who that is, for people.
    pub fn what(self) -> &'static str {
        match self {
            Self::Live => "live counts",
            Self::Report => "a report",
        }
    }

    fn question(self) -> String {
        let name = self.name();
        let path = match self {
            Self::Live => format!("/api/v1/projects/default/flags/{name}/live"),
            Self::Report => {
                format!("/api/v1/projects/default/reports/usage?events={name}&period=day")
            }
        };
        get(&path)
    }

    /// Events of the probe that an answer counts: those of the flag's arms, or the units of the
    /// report's rows, of which each sent one.
    fn counted(self, answer: &Value) -> u64 {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let sum = |rows: &[Value], name| rows.iter().filter_map(|row| row[name].as_u64()).sum();
        match self {
            Self::Live => {
                let arms = list(&answer["phases"]).into_iter();
                let arms: Vec<Value> = arms.flat_map(|phase| list(&phase["arms"])).collect();
                sum(&arms, "events")
            }
            Self::Report => sum(&list(&answer["rows"]), "value"),
        }
    }

    /// How long it waits between two probes where nothing else is said.
    pub const fn usual_pause(self) -> Duration {
        match self {
            Self::Live => Duration::from_millis(200),
            Self::Report => Duration::from_millis(1000),
        }
    }

    /// How long it waits before it asks again.
    const fn again(self) -> Duration {
        match self {
            Self::Live => Duration::from_millis(5),
            Self::Report => Duration::from_millis(20),
        }
    }
}

/// A question by its path.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\r\n")
}

/// Probes every so often until `is_over`; returns each time from the acknowledgement to the answer
/// that counts it.
pub async fn probe(
    address: SocketAddr,
    reader: Reader,
    between: Duration,
    is_over: Rc<Cell<bool>>,
) -> Vec<Duration> {
    let mut connection = Connection::open(address).await;
    let mut times = Vec::new();
    let name = reader.name();
    let question = reader.question();
    while !is_over.get() {
        let number = times.len() as u64;
        let time = format!("{}T00:00:00Z", today());
        let body = format!(
            r#"{{"id":"01991f7e-7c01-7000-8000-{:012x}","time":"{time}","unit":"prober-{number}","kind":"track","name":"{name}","flags":{{"{name}":"on"}}}}"#,
            number << 1 | matches!(reader, Reader::Live) as u64
        );
        let request = head("/api/v1/events", "application/json", "", body.len()) + &body;
        let (status, _) = connection.ask(request.as_bytes()).await;
        assert_eq!(status, 202);
        let acknowledged = Instant::now();
        loop {
            let (status, from) = connection.ask(question.as_bytes()).await;
            let body = connection.body(from);
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
            let answer: Value = serde_json::from_slice(body).unwrap();
            if reader.counted(&answer) > number {
                break;
            }
            tokio::time::sleep(reader.again()).await;
        }
        times.push(acknowledged.elapsed());
        tokio::time::sleep(between).await;
    }
    times
}
