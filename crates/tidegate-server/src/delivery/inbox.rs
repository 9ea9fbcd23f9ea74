//! The inbox: webhooks on disk before they are answered, read afterwards.
//!
//! One thread writes. It takes whatever waits, writes it with one sync and only then answers, so that a burst costs
//! as many syncs as the disk can make and each sender waits for one or two of them. A second thread
//! ([`super::reader`]) parses and appends to the logs.
//! The file is emptied when all of it has been read. A server that starts finds what was not, and reads it again:
//! the log holds each delivery once, so reading twice changes nothing.
//!
//! Bounds: what waits in memory is bounded by [`super::Delivery::room`]; beyond [`MAX_FILE_BYTES`] the writer waits
//! for the reader, and senders are told to come again meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::frame::{Received, decode_all};
use super::reader::Reader;
use super::{Room, Shared};

/// The file may grow to this size before it must be read to its end.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Webhooks that may wait for the writer.
const MAX_QUEUED: usize = 4096;
/// Webhooks written with one sync.
const MAX_TOGETHER: usize = 512;
/// How long the writer waits for work before it looks whether the file can be emptied.
const IDLE: Duration = Duration::from_millis(500);
/// How often it looks whether the reader has caught up.
const CATCH_UP: Duration = Duration::from_millis(5);
/// How often, before those who wait are told to come again.
const MAX_CATCH_UPS: u32 = 200;

/// Why a webhook is not stored.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Too many are waiting.
    #[error("too many webhooks are waiting")]
    Busy,
    /// The disk refuses, or the server stops.
    #[error("the inbox cannot be written: {0}")]
    Disk(String),
}

/// A webhook with its room, on its way through the inbox.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) received: Received,
    /// Given back when the rows are in the log; webhooks of an earlier run have none.
    pub(super) room: Option<Room>,
}

struct Letter {
    waiting: Waiting,
    stored: oneshot::Sender<Result<(), ReceiveError>>,
}

/// The way in.
#[derive(Debug)]
pub(super) struct Inbox {
    letters: Mutex<SyncSender<Letter>>,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letter(..)")
    }
}

impl Inbox {
    /// Opens the file, starts both threads, and has what is in it read.
    pub(super) fn open(path: &Path, shared: Arc<Shared>) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let left: Vec<Waiting> = decode_all(&bytes)
            .into_iter()
            .map(|received| Waiting {
                received,
                room: None,
            })
            .collect();
        let length = bytes.len() as u64;
        drop(bytes);
        let (to_reader, from_writer) = sync_channel(MAX_QUEUED);
        let done = Arc::new(AtomicU64::new(0));
        let reader = Reader::new(shared, Arc::clone(&done));
        std::thread::Builder::new()
            .name("delivery-reader".to_owned())
            .spawn(move || reader.run(&from_writer))?;
        let (letters, inbox) = sync_channel(MAX_QUEUED);
        let mut writer = Writer {
            file,
            length,
            handed: 0,
            done,
            to_reader,
        };
        writer.hand_over(left);
        std::thread::Builder::new()
            .name("delivery-inbox".to_owned())
            .spawn(move || writer.run(&inbox))?;
        Ok(Self {
            letters: Mutex::new(letters),
        })
    }

    pub(super) async fn receive(&self, received: Received, room: Room) -> Result<(), ReceiveError> {
        let (stored, answer) = oneshot::channel();
        let letter = Letter {
            waiting: Waiting {
                received,
                room: Some(room),
            },
            stored,
        };
        let sent = self
            .letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_send(letter);
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(ReceiveError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(stopped()),
        }
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> ReceiveError {
    ReceiveError::Disk("the server is stopping".to_owned())
}

/// The thread that writes.
struct Writer {
    file: File,
    /// Bytes of the file that hold whole frames.
    length: u64,
    /// Webhooks given to the reader.
    handed: u64,
    /// Webhooks that the reader is done with.
    done: Arc<AtomicU64>,
    to_reader: SyncSender<Vec<Waiting>>,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Letter>) {
        loop {
            match inbox.recv_timeout(IDLE) {
                Ok(first) => {
                    let mut letters = vec![first];
                    letters.extend(inbox.try_iter().take(MAX_TOGETHER - 1));
                    self.store(letters);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.length > 0 && self.is_read() {
                        self.empty();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // The server stops: nothing new comes, and what is read already need not be kept.
        if self.length > 0 && self.is_read() {
            self.empty();
        }
    }

    fn store(&mut self, letters: Vec<Letter>) {
        if self.length > MAX_FILE_BYTES && !self.caught_up() {
            for letter in letters {
                let _ = letter.stored.send(Err(ReceiveError::Busy));
            }
            return;
        }
        let outcome = self.write(&letters);
        if let Err(error) = &outcome {
            tracing::error!(%error, "webhooks could not be stored");
        }
        let mut stored = Vec::with_capacity(letters.len());
        for letter in letters {
            let told = match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(ReceiveError::Disk(error.to_string())),
            };
            // Whoever hung up meanwhile sends it again; what is stored counts all the same.
            let _ = letter.stored.send(told);
            if outcome.is_ok() {
                stored.push(letter.waiting);
            }
        }
        self.hand_over(stored);
    }

    /// Empties a file that is full as soon as it is read, unless that takes too long for those who wait.
    fn caught_up(&mut self) -> bool {
        for _ in 0..MAX_CATCH_UPS {
            if self.is_read() {
                self.empty();
                return true;
            }
            std::thread::sleep(CATCH_UP);
        }
        false
    }

    fn write(&mut self, letters: &[Letter]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for letter in letters {
            letter.waiting.received.encode(&mut bytes)?;
        }
        // From the end of the whole frames on, which overwrites what an earlier failure left torn.
        self.file.seek(io::SeekFrom::Start(self.length))?;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn hand_over(&mut self, waiting: Vec<Waiting>) {
        let count = waiting.len() as u64;
        if count > 0 && self.to_reader.send(waiting).is_ok() {
            self.handed += count;
        }
    }

    fn is_read(&self) -> bool {
        self.done.load(Ordering::Acquire) == self.handed
    }

    fn empty(&mut self) {
        match self.file.set_len(0) {
            Ok(()) => self.length = 0,
            // The frames stay and are read again by the next server, which changes nothing.
            Err(error) => tracing::warn!(%error, "the inbox could not be emptied"),
        }
    }
}
