//! Who is connected, what it was last delivered, and what it may therefore still get wrong.
//!
//! Every stream registers here while it lives. Evaluation itself records nothing: an answer must
//! not wait for a lock so that a page can count it. What can be known without that is exact:
//!
//! - **delivered**: the position in the project's change history up to which the client was
//!   served. A client is *behind* by the flags that changed after it.
//! - **leakage**: the flags for which the client may hand out a value that current rules would
//!   not: those it is behind by (the values it keeps, be it rules or cached answers, are older
//!   than the change), and, for a client that evaluates in process, those whose split its own
//!   bucketing dialect allots differently. A client that is up to date and on the dialect of
//!   every flag leaks nothing. The number is an upper bound per flag, not per unit.
//!
//! The dialect of a client is a guess from its user agent: no protocol carries it. The guess is
//! of the newest release of that language's provider and is always shown as a guess.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tidegate_flags::Bucketing;

use crate::live::{Live, LiveSet, Resume};
use crate::time_text::rfc3339;

/// The longest name a client can give itself here, in characters.
const LONGEST_NAME: usize = 120;

/// How many flag keys a report lists by name.
const MOST_LISTED: usize = 20;

/// What a client is connected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// `flagd.evaluation.v1` EventStream over gRPC.
    #[serde(rename = "flagd.evaluation.v1")]
    EvaluationV1,
    /// `flagd.evaluation.v2` EventStream over gRPC.
    #[serde(rename = "flagd.evaluation.v2")]
    EvaluationV2,
    /// `flagd.evaluation` EventStream over the Connect protocol.
    #[serde(rename = "connect")]
    Connect,
    /// `flagd.sync.v1` SyncFlags: the client evaluates in process.
    #[serde(rename = "flagd.sync.v1")]
    Sync,
    /// OFREP's event stream.
    #[serde(rename = "ofrep-sse")]
    OfrepEvents,
}

/// What is known of a client when its stream opens.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The project it listens to.
    pub project: String,
    /// The credential or port it came by.
    pub principal: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its user agent, as sent.
    pub user_agent: Option<String>,
    /// The name it gives itself in `provider_id`.
    pub provider_id: Option<String>,
    /// Its selector expression; empty for everything.
    pub selector: String,
    /// Unix microseconds.
    pub connected_at_us: i64,
}

/// More streams than the server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{most} streams are open already; try again later or poll")]
pub struct TooManyStreams {
    /// The limit.
    pub most: usize,
}

/// All connected streams.
#[derive(Debug, Clone)]
pub struct Clients(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    most: usize,
    next_id: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
}

#[derive(Debug)]
struct Client {
    introduction: Introduction,
    delivered: Mutex<Delivered>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Delivered {
    change_id: u64,
    config_version: u64,
    at_us: i64,
}

/// A registered stream; dropping it takes the client off the list.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    id: u64,
    client: Arc<Client>,
}

impl Clients {
    /// A registry for at most `most` streams.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let connected = Mutex::default();
        Self(Arc::new(Registry {
            most,
            next_id: AtomicU64::new(1),
            connected,
        }))
    }

    /// Registers a stream.
    ///
    /// # Errors
    /// [`TooManyStreams`] at the limit; those connected already are not disturbed.
    pub fn admit(&self, introduction: Introduction) -> Result<Registration, TooManyStreams> {
        let mut connected = self.0.lock();
        if connected.len() >= self.0.most {
            return Err(TooManyStreams { most: self.0.most });
        }
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let introduction = shortened(introduction);
        let client = Arc::new(Client {
            introduction,
            delivered: Mutex::default(),
        });
        connected.insert(id, Arc::clone(&client));
        Ok(Registration {
            registry: Arc::clone(&self.0),
            id,
            client,
        })
    }

    /// How many streams are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be said of the streams of `project`, oldest first.
    #[must_use]
    pub fn report(&self, live: &Live, project: &str) -> Vec<ClientReport> {
        let clients: Vec<Arc<Client>> = self.0.lock().values().cloned().collect();
        let Some(place) = live.project(project) else {
            return Vec::new();
        };
        let set = place.load();
        let of_project = clients
            .iter()
            .filter(|client| client.introduction.project == project);
        of_project
            .map(|client| {
                let delivered = *lock(&client.delivered);
                let behind = flags_since(&place.changes.listen(Some(delivered.change_id)).0, &set);
                ClientReport::new(&client.introduction, delivered, &behind, &set)
            })
            .collect()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        lock(&self.connected)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registration {
    /// Notes that the client was served everything up to `change_id`.
    pub fn delivered(&self, change_id: u64, config_version: u64, at_us: i64) {
        *lock(&self.client.delivered) = Delivered {
            change_id,
            config_version,
            at_us,
        };
    }

    /// Its number, unique in this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Writes to the log which flags this client will allot differently, if any.
    pub fn warn_of_other_dialect(&self, set: &LiveSet) {
        let known = &self.client.introduction;
        let Some(guess) = guess_bucketing(known) else {
            return;
        };
        let flags = flags_on_another_dialect(set, guess);
        if let Some(first) = flags.iter().next() {
            tracing::warn!(
                client.user_agent = known.user_agent.as_deref().unwrap_or_default(),
                client.bucketing_guess = guess.as_str(),
                project = %known.project,
                flags = flags.len(),
                flag.key = %first,
                "a client evaluates in process and allots the splits of these flags by another \
                 bucketing dialect than they are pinned to"
            );
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
    }
}

fn shortened(mut introduction: Introduction) -> Introduction {
    let cut = |text: String| text.chars().take(LONGEST_NAME).collect::<String>();
    introduction.user_agent = introduction.user_agent.map(cut);
    introduction.provider_id = introduction
        .provider_id
        .filter(|name| !name.is_empty())
        .map(cut);
    introduction
}

/// The dialect of the newest provider release that sends such a user agent; `None` for clients
/// that do not bucket, or whose providers do not agree.
///
/// Documented and measured in September 2026: Go core 0.16.1 and npm flagd-core 4.0.1 are on v2,
/// PyPI flagd-core 2.0.0 and the Rust evaluation engine 0.1.0 on v3.
fn guess_bucketing(known: &Introduction) -> Option<Bucketing> {
    if known.protocol != Protocol::Sync {
        return None;
    }
    let user_agent = known.user_agent.as_deref()?;
    let by_library = [
        ("grpc-go/", Bucketing::V2),
        ("grpc-node-js/", Bucketing::V2),
        ("grpc-python/", Bucketing::V3),
        ("tonic/", Bucketing::V3),
    ];
    by_library
        .into_iter()
        .find_map(|(library, bucketing)| user_agent.contains(library).then_some(bucketing))
}

fn flags_on_another_dialect(set: &LiveSet, client: Bucketing) -> BTreeSet<&str> {
    let is_other =
        |handle| set.ruleset.dialect(handle) != Some(client) && set.ruleset.splits_units(handle);
    let all = set.ruleset.keys().zip(set.ruleset.handles());
    all.filter(|(_, handle)| is_other(*handle))
        .map(|(key, _)| key)
        .collect()
}

/// The keys that changed after what was delivered; every key where that cannot be told.
fn flags_since(resume: &Resume, set: &LiveSet) -> BTreeSet<String> {
    match resume {
        Resume::Missed(changes) => changes
            .iter()
            .flat_map(|change| change.flags.iter().map(|(key, _)| key.clone()))
            .collect(),
        Resume::StartOver => set.ruleset.keys().map(str::to_owned).collect(),
    }
}

/// One connected client, as `/status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ClientReport {
    /// How it is connected.
    pub protocol: Protocol,
    /// Its user agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The name it gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// The credential or port it came by.
    pub principal: String,
    /// Its selector expression; empty for everything.
    pub selector: String,
    /// When its stream opened.
    pub connected_at: String,
    /// Whether it evaluates by itself and so buckets by itself.
    pub evaluates_in_process: bool,
    /// The bucketing dialect it is believed to use, by its user agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucketing_guess: Option<&'static str>,
    /// The configuration version it was last served.
    pub delivered_version: u64,
    /// When it was.
    pub delivered_at: String,
    /// What it may hand out that current rules would not.
    pub leakage: Leakage,
}

/// The flags for which a client may hand out what current rules would not; see the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leakage {
    /// How many flags in all; a flag counts once.
    pub flags: usize,
    /// Flags that changed after what the client was delivered.
    pub behind: usize,
    /// Flags whose split the client allots by another dialect.
    pub other_dialect: usize,
    /// The first of their keys.
    pub keys: Vec<String>,
}

impl ClientReport {
    fn new(
        known: &Introduction,
        delivered: Delivered,
        behind: &BTreeSet<String>,
        set: &LiveSet,
    ) -> Self {
        let guess = guess_bucketing(known);
        let other = guess
            .map(|dialect| flags_on_another_dialect(set, dialect))
            .unwrap_or_default();
        let all: BTreeSet<&str> = behind
            .iter()
            .map(String::as_str)
            .chain(other.iter().copied())
            .collect();
        Self {
            protocol: known.protocol,
            user_agent: known.user_agent.clone(),
            provider_id: known.provider_id.clone(),
            principal: known.principal.clone(),
            selector: known.selector.clone(),
            connected_at: rfc3339(known.connected_at_us),
            evaluates_in_process: known.protocol == Protocol::Sync,
            bucketing_guess: guess.map(Bucketing::as_str),
            delivered_version: delivered.config_version,
            delivered_at: rfc3339(delivered.at_us),
            leakage: Leakage {
                flags: all.len(),
                behind: behind.len(),
                other_dialect: other.len(),
                keys: all
                    .into_iter()
                    .take(MOST_LISTED)
                    .map(str::to_owned)
                    .collect(),
            },
        }
    }
}
