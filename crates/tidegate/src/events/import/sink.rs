//! Where imported events go: into a stopped server's data folder, to a running server, or nowhere.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidegate_lake::Lake;
use tidegate_metrics::Event;

use crate::client::Connection;
use crate::stopped::StoppedServer;

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
}

/// Takes batches, which are durable when it answers.
pub(super) trait Sink {
    /// Takes a batch: its lines as `POST /api/v1/events` wants them, and its events.
    fn take(&mut self, lines: &[u8], events: Vec<Event>) -> Result<Taken>;

    /// After the last batch.
    fn finish(&mut self) -> Result<()>;
}

/// For trying a file out.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn take(&mut self, _lines: &[u8], _events: Vec<Event>) -> Result<Taken> {
        Ok(Taken::default())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Events after which the log is moved into files. The log remembers more ids than that, so that
/// a repeated import is recognised at the door.
const EVENTS_PER_FLUSH: u64 = 2_000_000;

/// A stopped server's events.
pub(super) struct IntoLake {
    // Dropped before the folder is given back.
    lake: Lake,
    _server: StoppedServer,
    since_flush: u64,
}

impl IntoLake {
    pub(super) fn new(server: StoppedServer, project: &str) -> Result<Self> {
        Ok(Self {
            lake: server.lake(project)?,
            _server: server,
            since_flush: 0,
        })
    }
}

impl Sink for IntoLake {
    fn take(&mut self, _lines: &[u8], events: Vec<Event>) -> Result<Taken> {
        let appended = self
            .lake
            .append(events)
            .context("the events before these are imported; import again to go on")?;
        let accepted = appended.accepted as u64;
        self.since_flush += accepted;
        if self.since_flush >= EVENTS_PER_FLUSH {
            self.lake.keep_house()?;
            self.since_flush = 0;
        }
        Ok(Taken {
            accepted,
            duplicates: appended.duplicates as u64,
        })
    }

    fn finish(&mut self) -> Result<()> {
        self.lake
            .flush()
            .context("the events are durable; their files are not made yet")?;
        Ok(())
    }
}

/// Tries while a server says that it has no room at the moment.
const TRIES: u32 = 120;

/// A running server.
pub(super) struct ToServer<'c> {
    pub(super) connection: &'c Connection,
}

impl Sink for ToServer<'_> {
    fn take(&mut self, lines: &[u8], _events: Vec<Event>) -> Result<Taken> {
        for _ in 0..TRIES {
            let answer = self.connection.post_ndjson("/api/v1/events", lines)?;
            match answer.status {
                429 | 503 => std::thread::sleep(Duration::from_secs(1)),
                status if status < 300 => {
                    if let Some(first) = answer.body["rejected"].get(0) {
                        bail!("the server refused an event this command had found right: {first}");
                    }
                    let count = |name: &str| answer.body[name].as_u64().unwrap_or(0);
                    return Ok(Taken {
                        accepted: count("accepted"),
                        duplicates: count("duplicates"),
                    });
                }
                _ => bail!("{}", self.connection.explained(&answer)),
            }
        }
        bail!(
            "the server has had no room for {TRIES} s; what was imported stays, and importing again \
             goes on where this stopped"
        )
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
