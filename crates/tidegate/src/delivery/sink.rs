//! Where imported rows go: into the log of a stopped server, or to a running one.
//!
//! In files an import is one atomic append. To a server rows travel packed, and what fits one request is one atomic
//! append there; an import that does not fit goes in several, and says so. Sending again completes what broke off,
//! because every delivery counts once.

use std::io::Write;

use anyhow::{Context, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use tidegate_delivery::DeliveryEvent;
use tidegate_server::delivery::log_file::{Appended, HeldRow, LogWriter, Note};

use super::place::{LogArgs, Place};
use crate::client::Connection;

/// Packed bytes of one request, with room below what the server takes.
const MAX_PACKED_BYTES: usize = 12 * 1024 * 1024;
/// Rows between two looks at how large the request has become.
const LOOK_EVERY: u64 = 1000;

/// What became of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// New in the log.
    pub(super) recorded: u64,
    /// Held already.
    pub(super) known: u64,
    /// Held already with other content; the first stays.
    pub(super) conflicts: u64,
    /// Requests that a server needed; 0 for files.
    pub(super) requests: u64,
}

/// Takes rows.
pub(super) enum Sink {
    /// The files of a stopped server.
    Files(Box<LogWriter>, Counts),
    /// A running server.
    Server(Box<Upload>),
}

impl Sink {
    /// Opens the log where it is; `each` sees what a log in files holds.
    pub(super) fn open(log: &LogArgs, each: impl FnMut(&HeldRow<'_>)) -> anyhow::Result<Self> {
        Ok(match log.place()? {
            Place::Files(log) => Self::Files(Box::new(log.begin(each)?), Counts::default()),
            Place::Server(connection) => Self::Server(Box::new(Upload::new(connection))),
        })
    }

    /// Adds a row.
    pub(super) fn take(&mut self, event: &DeliveryEvent) -> anyhow::Result<()> {
        match self {
            Self::Files(writer, counts) => {
                match writer.append(event)? {
                    Appended::New => counts.recorded += 1,
                    Appended::Known => counts.known += 1,
                    Appended::Conflict => counts.conflicts += 1,
                }
                Ok(())
            }
            Self::Server(upload) => upload.take(event),
        }
    }

    /// What was noted beside a log in files when it was last indexed.
    pub(super) fn note(&self, name: &str) -> Option<&[u8]> {
        match self {
            Self::Files(writer, _) => writer.note(name),
            Self::Server(_) => None,
        }
    }

    /// Makes the rows durable, says what became of them, and keeps the note with the index where there is one.
    pub(super) fn commit_with(self, note: &Note<'_>) -> anyhow::Result<Counts> {
        match self {
            Self::Files(mut writer, counts) => {
                writer.commit()?;
                if let Err(error) = writer.keep_index(note) {
                    tracing::warn!(%error, "the log's index cannot be written; the next import takes longer");
                }
                Ok(counts)
            }
            Self::Server(_) => self.commit(),
        }
    }

    /// Makes the rows durable and says what became of them.
    pub(super) fn commit(self) -> anyhow::Result<Counts> {
        match self {
            Self::Files(mut writer, counts) => {
                writer.commit()?;
                Ok(counts)
            }
            Self::Server(mut upload) => {
                upload.send()?;
                Ok(upload.counts)
            }
        }
    }

    /// Leaves the log as it was, as far as nothing has been sent yet.
    pub(super) fn abandon(self) -> anyhow::Result<()> {
        match self {
            Self::Files(writer, _) => Ok(writer.abandon()?),
            Self::Server(_) => Ok(()),
        }
    }
}

/// Rows on their way to a server.
pub(super) struct Upload {
    connection: Connection,
    packed: GzEncoder<Vec<u8>>,
    rows: u64,
    counts: Counts,
}

impl Upload {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            packed: empty(),
            rows: 0,
            counts: Counts::default(),
        }
    }

    fn take(&mut self, event: &DeliveryEvent) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.packed, event)?;
        self.packed.write_all(b"\n")?;
        self.rows += 1;
        if self.rows.is_multiple_of(LOOK_EVERY) && self.packed.get_ref().len() > MAX_PACKED_BYTES {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> anyhow::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        self.rows = 0;
        let packed = std::mem::replace(&mut self.packed, empty()).finish()?;
        let path = self.connection.path("delivery/rows?strict=true");
        let answer = self.connection.post_packed(&path, packed)?;
        if answer.status != 200 {
            let problem = &answer.body["problems"][0];
            match problem["cause"].as_str() {
                Some(cause) => bail!("the server refused a row: {cause}"),
                None => bail!("{}", self.connection.explained(&answer)),
            }
        }
        let count = |name: &str| {
            answer.body[name]
                .as_u64()
                .with_context(|| format!("the server's answer has no {name:?}"))
        };
        self.counts.recorded += count("recorded")?;
        self.counts.known += count("known")?;
        self.counts.conflicts += count("conflicts")?;
        self.counts.requests += 1;
        Ok(())
    }
}

fn empty() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}
