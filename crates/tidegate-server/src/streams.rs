//! What all streams share: waking on change, on idleness, and at the end.
//!
//! A stream is told levels, not edges: "these flags differ from what you had, and here is where
//! you are now". Changes that pile up while a client is slow are folded into one, so that what
//! waits for a client is bounded by the number of flags and never by the number of changes. A
//! client that falls behind even the change history is told that everything may differ.
//! Nothing is spawned per stream: its future is polled by the connection that reads from it, so
//! a client that does not read costs its state and no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access::{Principal, Refusal};
use crate::app::App;
use crate::clients::Clients;
use crate::grpc::sync::Documents;
use crate::lease::Lease;
use crate::live::{Change, FlagChange, LiveProject, Resume};

/// How long a stream stays silent before it says that it lives.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What streams of all protocols need from the process.
#[derive(Debug, Clone)]
pub struct Streams {
    /// Who is connected.
    pub clients: Clients,
    /// Cancelled once, when the process begins to drain.
    pub closing: CancellationToken,
    /// Tells the event ids of this process from those of any other.
    pub instance: Arc<str>,
    /// Wakes the streams to look whether the token book still lets them in.
    pub(crate) book_changed: watch::Sender<()>,
    /// Rule sets as they are handed out, shared by the streams that hand them out.
    pub(crate) documents: Arc<Documents>,
    /// How long a stream stays silent; tests shorten it.
    pub keep_alive: Duration,
}

impl Streams {
    /// Streams of the process called `instance`, at most `most` at a time.
    #[must_use]
    pub fn new(instance: &str, most: usize) -> Self {
        Self {
            clients: Clients::new(most),
            closing: CancellationToken::new(),
            instance: instance.into(),
            book_changed: watch::Sender::new(()),
            documents: Arc::default(),
            keep_alive: KEEP_ALIVE,
        }
    }

    /// Ends the streams of callers that the token book does not let in any more. To be called
    /// whenever the book was swapped.
    pub fn book_changed(&self) {
        self.book_changed.send_replace(());
    }
}

/// What a stream is woken by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// What is served differs from what the stream was last told.
    Changed(Difference),
    /// Nothing happened for the keep-alive interval.
    Idle,
    /// The process drains; nothing follows.
    Closing,
    /// The deadline the client set has passed; nothing follows.
    Deadline,
    /// The caller would not be let in any more; nothing follows.
    Dismissed(Refusal),
}

/// Several changes as one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// The flags that differ, with what became of each; `None` where everything may differ.
    pub flags: Option<BTreeMap<String, FlagChange>>,
    /// The newest change included.
    pub change_id: u64,
    /// Whether the client was too slow to be told each change as it came.
    pub lagged: bool,
}

/// A stream's view of one project's changes.
#[derive(Debug)]
pub struct Watch {
    place: Arc<LiveProject>,
    receiver: Receiver<Arc<Change>>,
    told: u64,
    waiting: Option<Difference>,
    closing: CancellationToken,
    lease: Lease,
    keep_alive: Duration,
    deadline: Option<tokio::time::Instant>,
}

impl Watch {
    /// Watches `place` for `principal` from the change `seen` on; `None` means from now.
    #[must_use]
    pub fn new(
        place: Arc<LiveProject>,
        seen: Option<u64>,
        app: &App,
        principal: &Principal,
    ) -> Self {
        let streams = &app.streams;
        let told = seen.unwrap_or_else(|| place.changes.last_id());
        let (resume, receiver) = place.changes.listen(Some(told));
        let waiting = folded(resume, told, place.changes.last_id());
        Self {
            place,
            receiver,
            told,
            waiting,
            closing: streams.closing.clone(),
            lease: Lease::of(principal, app),
            keep_alive: streams.keep_alive,
            deadline: None,
        }
    }

    /// Ends the stream `after` from now.
    #[must_use]
    pub fn with_deadline(mut self, after: Option<Duration>) -> Self {
        self.deadline = after.and_then(|after| tokio::time::Instant::now().checked_add(after));
        self
    }

    /// The project that is watched.
    #[must_use]
    pub fn place(&self) -> &Arc<LiveProject> {
        &self.place
    }

    /// The newest change the stream was told of.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Waits for the next thing to say. Safe to drop while waiting: nothing is lost.
    pub async fn next(&mut self) -> Wake {
        if let Some(waiting) = self.waiting.take() {
            self.told = waiting.change_id;
            return Wake::Changed(waiting);
        }
        let idle = tokio::time::sleep(self.keep_alive);
        let deadline = sleep_until(self.deadline);
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Wake::Closing,
            refusal = self.lease.over() => Wake::Dismissed(refusal),
            () = deadline => Wake::Deadline,
            received = self.receiver.recv() => self.received(received),
            () = idle => Wake::Idle,
        }
    }

    fn received(&mut self, first: Result<Arc<Change>, RecvError>) -> Wake {
        match first {
            Ok(change) => {
                let mut difference = Difference {
                    flags: Some(BTreeMap::new()),
                    ..<_>::default()
                };
                fold(&mut difference, &change);
                let lagged = self.drain_into(&mut difference);
                let difference = if lagged { self.caught_up() } else { difference };
                self.told = difference.change_id;
                Wake::Changed(difference)
            }
            Err(RecvError::Lagged(_)) => {
                let difference = self.caught_up();
                self.told = difference.change_id;
                Wake::Changed(difference)
            }
            // The project is gone from memory, which happens only at the end of the process.
            Err(RecvError::Closed) => Wake::Closing,
        }
    }

    /// Takes what else has arrived. Returns whether some of it was lost.
    fn drain_into(&mut self, difference: &mut Difference) -> bool {
        loop {
            match self.receiver.try_recv() {
                Ok(change) => fold(difference, &change),
                Err(TryRecvError::Lagged(_)) => return true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return false,
            }
        }
    }

    /// Starts again from the history after losing changes.
    fn caught_up(&mut self) -> Difference {
        let (resume, receiver) = self.place.changes.listen(Some(self.told));
        self.receiver = receiver;
        let newest = self.place.changes.last_id();
        let mut difference = folded(resume, self.told, newest).unwrap_or_default();
        difference.lagged = true;
        difference
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn folded(resume: Resume, told: u64, newest: u64) -> Option<Difference> {
    match resume {
        Resume::Missed(changes) if changes.is_empty() => None,
        Resume::Missed(changes) => {
            let mut difference = Difference {
                flags: Some(BTreeMap::new()),
                change_id: told,
                lagged: false,
            };
            changes
                .iter()
                .for_each(|change| fold(&mut difference, change));
            Some(difference)
        }
        Resume::StartOver => Some(Difference {
            flags: None,
            change_id: newest,
            lagged: false,
        }),
    }
}

fn fold(difference: &mut Difference, change: &Change) {
    difference.change_id = difference.change_id.max(change.id);
    let Some(flags) = &mut difference.flags else {
        return;
    };
    for (key, next) in &change.flags {
        match combined(flags.get(key).copied(), *next) {
            Some(change) => flags.insert(key.clone(), change),
            None => flags.remove(key),
        };
    }
}

/// Two changes of one flag as one; `None` where they cancel out.
const fn combined(before: Option<FlagChange>, next: FlagChange) -> Option<FlagChange> {
    match (before, next) {
        (Some(FlagChange::Create), FlagChange::Delete) => None,
        (Some(FlagChange::Create), _) => Some(FlagChange::Create),
        (Some(FlagChange::Delete), FlagChange::Create) => Some(FlagChange::Update),
        (_, next) => Some(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FlagChange::{Create, Delete, Update};

    fn difference_of(steps: &[FlagChange]) -> Option<FlagChange> {
        let mut difference = Difference {
            flags: Some(BTreeMap::new()),
            ..<_>::default()
        };
        for (id, step) in (1..).zip(steps) {
            let flags = vec![("flag".to_owned(), *step)];
            fold(
                &mut difference,
                &Change {
                    id,
                    config_tag: String::new(),
                    flags,
                },
            );
        }
        difference
            .flags
            .and_then(|flags| flags.get("flag").copied())
    }

    #[test]
    fn changes_that_pile_up_are_told_as_what_they_amount_to() {
        let cases: [(&[FlagChange], Option<FlagChange>); 7] = [
            (&[Update, Update], Some(Update)),
            (&[Create, Update], Some(Create)),
            (&[Create, Delete], None),
            (&[Create, Delete, Create], Some(Create)),
            (&[Update, Delete], Some(Delete)),
            (&[Delete, Create], Some(Update)),
            (&[Delete, Create, Delete], Some(Delete)),
        ];
        for (steps, expected) in cases {
            assert_eq!(difference_of(steps), expected, "{steps:?}");
        }
    }
}
