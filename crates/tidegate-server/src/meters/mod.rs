//! What the process counts about itself, for `/metrics`.
//!
//! Counting on the read path is one relaxed addition to an atomic: no lock, no allocation, no
//! label lookup. Everything that can be read off the parts when somebody asks (versions, queues,
//! health) is not counted here but read then. What there is to see is listed once, in [`table`].

mod exposition;
pub mod table;

use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_flags::Reason;

pub(crate) use exposition::Page;

/// Everything that is counted while requests are served.
#[derive(Debug, Default)]
pub struct Meters {
    requests: [AtomicU64; 5],
    evaluations: [[AtomicU64; REASONS.len()]; Asked::ALL.len()],
}

/// The protocol by which an evaluation was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// OFREP.
    Ofrep,
    /// `flagd.evaluation.v1` over gRPC.
    EvaluationV1,
    /// `flagd.evaluation.v2` over gRPC.
    EvaluationV2,
    /// Either of the two over the Connect protocol.
    Connect,
}

impl Asked {
    const ALL: [Self; 4] = [
        Self::Ofrep,
        Self::EvaluationV1,
        Self::EvaluationV2,
        Self::Connect,
    ];

    /// The label of its series.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ofrep => "ofrep",
            Self::EvaluationV1 => "flagd.evaluation.v1",
            Self::EvaluationV2 => "flagd.evaluation.v2",
            Self::Connect => "connect",
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Ofrep => 0,
            Self::EvaluationV1 => 1,
            Self::EvaluationV2 => 2,
            Self::Connect => 3,
        }
    }
}

/// Reasons in the order in which they are counted.
const REASONS: [Reason; 5] = [
    Reason::Static,
    Reason::Default,
    Reason::TargetingMatch,
    Reason::Disabled,
    Reason::Error,
];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Evaluations of one request, added to the [`Meters`] at once.
#[derive(Debug, Default)]
pub(crate) struct Reasons([u64; REASONS.len()]);

impl Reasons {
    pub(crate) fn note(&mut self, reason: Reason) {
        self.0[place(reason)] += 1;
    }
}

const fn place(reason: Reason) -> usize {
    match reason {
        Reason::Static => 0,
        Reason::Default => 1,
        Reason::TargetingMatch => 2,
        Reason::Disabled => 3,
        Reason::Error => 4,
    }
}

impl Meters {
    /// A request was answered with this status.
    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(counter) = self.requests.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One flag was evaluated.
    pub(crate) fn evaluated(&self, asked: Asked, reason: Reason) {
        self.evaluations[asked.place()][place(reason)].fetch_add(1, Ordering::Relaxed);
    }

    /// Many flags were evaluated for one request.
    pub(crate) fn evaluated_all(&self, asked: Asked, reasons: &Reasons) {
        for (counter, count) in self.evaluations[asked.place()].iter().zip(reasons.0) {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Requests by class of status.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES.into_iter().zip(self.requests.iter().map(read))
    }

    /// Evaluations by protocol and by reason, in OpenFeature's words.
    pub(crate) fn evaluations(&self) -> impl Iterator<Item = ([&'static str; 2], u64)> {
        Asked::ALL.into_iter().flat_map(|asked| {
            let counted = REASONS.iter().zip(&self.evaluations[asked.place()]);
            counted.map(move |(reason, counter)| ([asked.as_str(), reason.as_str()], read(counter)))
        })
    }
}

/// What became of webhooks at the door and after.
#[derive(Debug, Default)]
pub struct WebhookMeters {
    pub(crate) stored: AtomicU64,
    pub(crate) unproven: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) unreadable: AtomicU64,
}

impl WebhookMeters {
    /// Webhooks by outcome.
    pub(crate) fn outcomes(&self) -> [(&'static str, u64); 4] {
        [
            ("stored", read(&self.stored)),
            ("unproven", read(&self.unproven)),
            ("turned_away", read(&self.turned_away)),
            ("unreadable", read(&self.unreadable)),
        ]
    }
}

/// What became of events at the door.
#[derive(Debug, Default)]
pub struct EventMeters {
    pub(crate) accepted: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) quarantined: AtomicU64,
    /// Told to come back for lack of room.
    pub(crate) shed: AtomicU64,
}

impl EventMeters {
    /// Events by outcome.
    pub(crate) fn outcomes(&self) -> [(&'static str, u64); 5] {
        [
            ("accepted", read(&self.accepted)),
            ("duplicate", read(&self.duplicates)),
            ("rejected", read(&self.rejected)),
            ("quarantined", read(&self.quarantined)),
            ("shed", read(&self.shed)),
        ]
    }
}

/// Adds a number of things that fits into memory.
pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
