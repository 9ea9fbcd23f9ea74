//! OTLP in: what an application's own OpenTelemetry says, read into events.
//!
//! Four parts, of which only the last touches anything:
//!
//! - **read** ([`read`]): protobuf and JSON, one record at a time, borrowed from the request. No
//!   tree of a request is ever built, so a request costs no more memory than its own bytes and
//!   the events that come out of it, whatever it claims to hold.
//! - **map** ([`map`]): one record to the events it stands for, or to nothing; see there which.
//! - **join** ([`join`]): what a trace was served, for the spans and logs of that trace.
//! - **take** ([`take`]): a request made durable, then answered.
//!
//! The transports ([`crate::http::otlp`], [`crate::grpc::otlp`]) differ only in how bytes arrive
//! and in how [`answer`] is written down. Malformed requests are refused whole, before anything
//! is stored; a record that cannot be taken is counted as rejected and costs its neighbours
//! nothing.

pub mod answer;
pub mod first_exposures;
pub mod join;
pub mod map;
pub mod meters;
pub mod read;
pub mod take;
pub mod waiting_room;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_metrics::Arrival;

use first_exposures::FirstExposures;
use map::{Batch, Mapper};
use meters::OtlpMeters;
use waiting_room::WaitingRoom;

const MIB: usize = 1024 * 1024;

/// What a request reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Log records, events among them.
    Logs,
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
}

impl Signal {
    /// Every signal, in the order of [`OtlpMeters`].
    pub const ALL: [Self; 3] = [Self::Logs, Self::Traces, Self::Metrics];

    /// The word of the path and of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

/// How a request is written down; the answer is written the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf.
    Protobuf,
    /// The JSON mapping of OTLP.
    Json,
}

/// Ceilings on one request and its records.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes after decompression.
    pub max_bytes: usize,
    /// Records in a request, whether or not they become events.
    pub max_records: usize,
    /// Attributes of one record, resource or span event.
    pub max_attributes: usize,
    /// Flag evaluations among the events of one span.
    pub max_span_evaluations: usize,
    /// Ceilings on the events themselves; the same as at the native door.
    pub events: tidegate_metrics::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 64 * MIB,
            max_records: 200_000,
            max_attributes: 128,
            max_span_evaluations: 128,
            events: tidegate_metrics::Limits::default(),
        }
    }
}

/// Why a request was refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The bytes are not what they say they are.
    #[error("request is no OTLP {encoding}: {detail}")]
    Malformed {
        /// What was to be read.
        encoding: &'static str,
        /// What stood in its place.
        detail: String,
    },
    /// More bytes than [`Limits::max_bytes`].
    #[error("request exceeds {limit} bytes after decompression; export smaller batches")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// More records than [`Limits::max_records`], or more events than a batch may hold.
    #[error("request exceeds {limit} {what}; export smaller batches")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
}

/// Reads a request and maps every record of it.
///
/// # Errors
/// [`RequestError`]; nothing of the request counts then.
pub fn decode(
    signal: Signal,
    encoding: Encoding,
    bytes: &[u8],
    limits: &Limits,
    arrival: Arrival,
) -> Result<Batch, RequestError> {
    if bytes.len() > limits.max_bytes {
        return Err(RequestError::TooLarge {
            limit: limits.max_bytes,
        });
    }
    let mut mapper = Mapper::new(limits, arrival);
    match encoding {
        Encoding::Protobuf => read::protobuf::read(signal, bytes, limits, &mut mapper)?,
        Encoding::Json => read::json::read(signal, bytes, limits, &mut mapper)?,
    }
    Ok(mapper.finish())
}

/// Everything OTLP keeps between requests.
#[derive(Debug)]
pub struct Otlp {
    folder: PathBuf,
    window: Duration,
    pub(crate) limits: Limits,
    pub(crate) meters: OtlpMeters,
    projects: Mutex<HashMap<String, Arc<ProjectState>>>,
}

/// What is kept for one project.
#[derive(Debug)]
pub(crate) struct ProjectState {
    pub(crate) waiting: WaitingRoom,
    pub(crate) exposures: Mutex<FirstExposures>,
}

impl ProjectState {
    pub(crate) fn exposures(&self) -> MutexGuard<'_, FirstExposures> {
        self.exposures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Otlp {
    /// Keeps what waits under `data_dir`, each for `window`; what waited when the last server ended
    /// waits on.
    #[must_use]
    pub fn open(data_dir: &Path, window: Duration) -> Self {
        let otlp = Self {
            folder: data_dir.join("otlp"),
            window,
            limits: Limits::default(),
            meters: OtlpMeters::default(),
            projects: Mutex::default(),
        };
        let entries = std::fs::read_dir(&otlp.folder).into_iter().flatten();
        for name in entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
        {
            if tidegate_store::ProjectKey::parse(&name).is_ok()
                && let Err(error) = otlp.project(&name)
            {
                tracing::error!(%error, project = %name, "what waited for its trace cannot be read");
            }
        }
        otlp
    }

    /// The state of a project, opened when first needed.
    ///
    /// # Errors
    /// The disk fails, or acknowledged data is damaged.
    pub(crate) fn project(
        &self,
        project: &str,
    ) -> Result<Arc<ProjectState>, tidegate_lake::LogError> {
        let mut projects = self.lock();
        if let Some(state) = projects.get(project) {
            return Ok(Arc::clone(state));
        }
        let state = Arc::new(ProjectState {
            waiting: WaitingRoom::open(&self.folder.join(project), self.window)?,
            exposures: Mutex::default(),
        });
        projects.insert(project.to_owned(), Arc::clone(&state));
        Ok(state)
    }

    /// The state of a project that sent something; asking makes none.
    pub(crate) fn existing(&self, project: &str) -> Option<Arc<ProjectState>> {
        self.lock().get(project).map(Arc::clone)
    }

    /// Every project that sent something.
    pub(crate) fn projects(&self) -> Vec<(String, Arc<ProjectState>)> {
        let projects = self.lock();
        let pairs = projects.iter();
        pairs
            .map(|(name, state)| (name.clone(), Arc::clone(state)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<ProjectState>>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
