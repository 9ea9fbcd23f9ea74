//! What changed, in order, for those who listen: a bounded history and a bounded broadcast.
//!
//! A stream resumes from the id it saw last. If that id is older than the history keeps, or of
//! another epoch, the listener is told to fetch everything, which is always correct. A listener
//! that cannot keep up is dropped by its own stream task with the last id it was sent; nobody
//! else waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

/// How many past changes a reconnecting listener can be replayed.
const HISTORY: usize = 512;
/// How many changes a listener may fall behind before it is dropped.
const BACKLOG: usize = 64;

/// What happened to one flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagChange {
    /// It was not there before.
    Create,
    /// Its definition differs.
    Update,
    /// It is gone.
    Delete,
}

impl FlagChange {
    /// flagd's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One swap of a project's rule set.
#[derive(Debug, Clone)]
pub struct Change {
    /// Position in this process's history, from 1.
    pub id: u64,
    /// The configuration that is served from now on, as an opaque content token.
    pub config_tag: String,
    /// The flags that really differ.
    pub flags: Vec<(String, FlagChange)>,
}

/// What a resuming listener is told first.
#[derive(Debug, Clone)]
pub enum Resume {
    /// It missed exactly these.
    Missed(Vec<Arc<Change>>),
    /// Its id says nothing here: fetch everything.
    StartOver,
}

/// A project's change history and its listeners.
#[derive(Debug)]
pub struct Changes {
    history: Mutex<History>,
    sender: broadcast::Sender<Arc<Change>>,
}

#[derive(Debug, Default)]
struct History {
    last_id: u64,
    recent: VecDeque<Arc<Change>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            history: Mutex::default(),
            sender: broadcast::channel(BACKLOG).0,
        }
    }
}

impl Changes {
    /// Records a swap and tells every listener. An empty difference tells nobody.
    pub fn publish(&self, config_tag: String, flags: Vec<(String, FlagChange)>) {
        if flags.is_empty() {
            return;
        }
        let mut history = self.lock();
        history.last_id += 1;
        let change = Arc::new(Change {
            id: history.last_id,
            config_tag,
            flags,
        });
        history.recent.push_back(Arc::clone(&change));
        if history.recent.len() > HISTORY {
            history.recent.pop_front();
        }
        // Sent under the lock, so that a listener that subscribes and then reads the history
        // sees each change exactly once. No receiver is not an error.
        let _ = self.sender.send(change);
    }

    /// A listener from `last_seen` on: what it missed, then everything new.
    pub fn listen(&self, last_seen: Option<u64>) -> (Resume, broadcast::Receiver<Arc<Change>>) {
        let history = self.lock();
        let receiver = self.sender.subscribe();
        (history.since(last_seen), receiver)
    }

    /// The id of the newest change; 0 before the first.
    pub fn last_id(&self) -> u64 {
        self.lock().last_id
    }

    /// How many listeners there are.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, History> {
        self.history
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl History {
    fn since(&self, last_seen: Option<u64>) -> Resume {
        let Some(seen) = last_seen else {
            return Resume::Missed(Vec::new());
        };
        let oldest = self
            .recent
            .front()
            .map_or(self.last_id + 1, |change| change.id);
        if seen > self.last_id || seen + 1 < oldest {
            return Resume::StartOver;
        }
        Resume::Missed(
            self.recent
                .iter()
                .filter(|change| change.id > seen)
                .cloned()
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(changes: &Changes, count: usize) {
        for number in 0..count {
            changes.publish(
                number.to_string(),
                vec![("flag".to_owned(), FlagChange::Update)],
            );
        }
    }

    #[test]
    fn a_listener_that_resumes_gets_exactly_what_it_missed() {
        let changes = Changes::default();
        publish(&changes, 5);
        let (resume, _) = changes.listen(Some(3));
        let Resume::Missed(missed) = resume else {
            panic!("{resume:?}")
        };
        assert_eq!(
            missed.iter().map(|change| change.id).collect::<Vec<_>>(),
            [4, 5]
        );
    }

    #[test]
    fn an_id_outside_the_history_starts_over() {
        let changes = Changes::default();
        publish(&changes, HISTORY + 10);
        for (seen, starts_over) in [(9, true), (10, false), (522, false), (523, true)] {
            let (resume, _) = changes.listen(Some(seen));
            assert_eq!(matches!(resume, Resume::StartOver), starts_over, "{seen}");
        }
    }

    #[test]
    fn a_slow_listener_lags_alone_and_history_stays_bounded() {
        let changes = Changes::default();
        let (_, mut slow) = changes.listen(None);
        publish(&changes, BACKLOG + 1);
        let (_, mut fresh) = changes.listen(None);
        publish(&changes, 1);
        assert!(matches!(
            slow.try_recv(),
            Err(broadcast::error::TryRecvError::Lagged(_))
        ));
        assert_eq!(fresh.try_recv().unwrap().id, BACKLOG as u64 + 2);
    }

    #[test]
    fn a_swap_without_difference_wakes_nobody() {
        let changes = Changes::default();
        let (_, mut listener) = changes.listen(None);
        changes.publish("same".to_owned(), Vec::new());
        assert!(listener.try_recv().is_err());
        assert_eq!(changes.last_id(), 0);
    }
}
