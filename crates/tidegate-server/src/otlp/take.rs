//! A request taken: unpacked within limits, read, made durable, then answered.
//!
//! Memory is reserved a MiB at a time while a body is unpacked, from one budget for all requests:
//! a bomb costs its fuse, and many large requests at once are told to come back instead of
//! filling memory. Reading runs beside the tasks that serve flags, not among them.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_lake::AppendError;
use tidegate_metrics::{Arrival, Event};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Code;

use super::answer::{Refusal, Taken};
use super::join::Join;
use super::map::Batch;
use super::waiting_room::EntryError;
use super::{Encoding, MIB, Otlp, ProjectState, RequestError, Signal};
use crate::access::Principal;
use crate::app::App;
use crate::meters::add;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Plain,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Packing {
    /// The packing of that name in `Content-Encoding` or `grpc-encoding`.
    #[must_use]
    pub fn named(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "identity") => Some(Self::Plain),
            Some("gzip") => Some(Self::Gzip),
            Some("zstd") => Some(Self::Zstd),
            Some(_) => None,
        }
    }
}

/// A body as it travelled.
#[derive(Debug)]
pub struct Export {
    /// What it reports.
    pub signal: Signal,
    /// How it is written down.
    pub encoding: Encoding,
    /// How it is packed.
    pub packing: Packing,
    /// The bytes.
    pub body: Bytes,
}

/// Takes an export for the caller's project; what is answered is durable.
///
/// # Errors
/// [`Refusal`]: nothing of the request counts, or all of it will if it is sent again.
pub async fn take(
    app: &App,
    sender: &Principal,
    export: Export,
    arrival: Arrival,
) -> Result<Taken, Refusal> {
    let outcome = take_all(app, sender, export, arrival).await;
    if outcome.is_err() {
        app.otlp.meters.refused();
    }
    outcome
}

async fn take_all(
    app: &App,
    sender: &Principal,
    export: Export,
    arrival: Arrival,
) -> Result<Taken, Refusal> {
    if export.body.is_empty() && export.encoding == Encoding::Protobuf {
        return Ok(Taken::default());
    }
    let signal = export.signal;
    let worker = app.clone();
    let read = move || read(&worker.otlp, &export, arrival);
    let batch = tokio::task::spawn_blocking(read).await.map_err(|error| {
        tracing::error!(%error, "an export could not be read");
        Refusal::for_now(Code::Unavailable, "the export could not be read", 5)
    })??;
    let tally = batch.tally.clone();
    let project = sender.default_project();
    for (source, newest_us) in &batch.sources {
        let clocks = &app.operations;
        clocks.note_clock(sender, source, arrival, Some(*newest_us));
    }
    keep(app, project, batch).await?;
    app.otlp.meters.taken(signal, &tally);
    let meters = app.events.meters();
    add(&meters.rejected, tally.rejected);
    add(&meters.quarantined, tally.quarantined);
    Ok(Taken::from(&tally))
}

/// Unpacks and reads. Blocks for as long as that takes.
fn read(otlp: &Otlp, export: &Export, arrival: Arrival) -> Result<Batch, Refusal> {
    let (bytes, _room) = unpacked(otlp, export)?;
    let batch = super::decode(
        export.signal,
        export.encoding,
        &bytes,
        &otlp.limits,
        arrival,
    )?;
    Ok(batch)
}

/// Makes a batch durable: what is complete in the log of events, what waits in the waiting room.
async fn keep(app: &App, project: &str, batch: Batch) -> Result<(), Refusal> {
    let is_idle = batch.ready.is_empty() && batch.waiting.is_empty();
    if is_idle {
        return Ok(());
    }
    let state = app.otlp.project(project).map_err(|error| {
        tracing::error!(%error, project, "the waiting room cannot be opened");
        Refusal::for_now(Code::Unavailable, error.to_string(), 5)
    })?;
    let wanted = batch.ready.iter().filter(|event| Join::concerns(event));
    let waiting: Vec<_> = wanted.cloned().chain(batch.waiting).collect();
    let mut complete = batch.ready;
    let met = news(&state, batch.exposures, &mut complete);
    let (appended, entered) = tokio::join!(
        app.events.append(project, complete),
        state.waiting.enter(waiting)
    );
    appended?;
    entered.map_err(|error| refused(&error))?;
    let mut exposures = state.exposures();
    for (what, time_us) in met {
        exposures.note(what, time_us);
    }
    Ok(())
}

/// Adds the exposures that tell something new; returns what they tell.
fn news(
    state: &ProjectState,
    exposures: Vec<(u128, Event)>,
    complete: &mut Vec<Event>,
) -> Vec<(u128, i64)> {
    let known = state.exposures();
    let mut met: HashMap<u128, i64> = HashMap::new();
    for (what, exposure) in exposures {
        // What claims to be far ahead is set apart, and must not stand before what is true.
        let is_news = exposure.is_quarantined
            || (known.is_news(what, exposure.time_us)
                && met.get(&what).is_none_or(|first| exposure.time_us < *first));
        if !is_news {
            continue;
        }
        if !exposure.is_quarantined {
            met.insert(what, exposure.time_us);
        }
        complete.push(exposure);
    }
    met.into_iter().collect()
}

fn refused(error: &EntryError) -> Refusal {
    match error {
        EntryError::Full { .. } => Refusal::for_now(Code::ResourceExhausted, error.to_string(), 1),
        EntryError::Log(cause @ AppendError::Overloaded { .. }) => {
            Refusal::for_now(Code::ResourceExhausted, cause.to_string(), 1)
        }
        EntryError::Log(cause) => {
            tracing::error!(error = %cause, "nobody can be let into the waiting room");
            Refusal::for_now(Code::Unavailable, cause.to_string(), 5)
        }
    }
}

/// The plain bytes, and the room that is reserved for them.
fn unpacked(otlp: &Otlp, export: &Export) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Refusal> {
    let broken = |error: std::io::Error| {
        let message = format!("the body does not unpack: {error}");
        Refusal::for_good(400, Code::InvalidArgument, message)
    };
    match export.packing {
        Packing::Plain => {
            let room = reserve(otlp, export.body.len().div_ceil(MIB))?;
            Ok((export.body.clone(), vec![room]))
        }
        Packing::Gzip => grow(otlp, flate2::read::MultiGzDecoder::new(&export.body[..])),
        Packing::Zstd => {
            let reader = zstd::Decoder::with_buffer(&export.body[..]).map_err(broken)?;
            grow(otlp, reader)
        }
    }
}

/// Unpacks into memory that is reserved before it is taken: doubled each time, and never more than
/// shows that the limit is passed.
fn grow(otlp: &Otlp, mut reader: impl Read) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Refusal> {
    let limit = otlp.limits.max_bytes;
    let mut plain: Vec<u8> = Vec::new();
    let mut room = Vec::new();
    loop {
        let capacity = plain.capacity();
        let wanted = match capacity * 2 {
            0 => MIB,
            doubled if doubled < limit => doubled,
            _ => limit + MIB,
        };
        room.push(reserve(otlp, (wanted - capacity).div_ceil(MIB))?);
        plain.reserve_exact(wanted - plain.len());
        let free = plain.capacity() - plain.len();
        let mut piece = reader.by_ref().take(free as u64);
        let read = piece.read_to_end(&mut plain).map_err(|error| {
            let message = format!("the body does not unpack: {error}");
            Refusal::for_good(400, Code::InvalidArgument, message)
        })?;
        if plain.len() > limit {
            return Err(RequestError::TooLarge { limit }.into());
        }
        if read < free {
            return Ok((plain.into(), room));
        }
    }
}

fn reserve(otlp: &Otlp, mebibytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let permits = u32::try_from(mebibytes).unwrap_or(u32::MAX);
    let room = Arc::clone(&otlp.room);
    room.try_acquire_many_owned(permits).map_err(|_| {
        let message = "too many large exports are being read; try again shortly";
        Refusal::for_now(Code::ResourceExhausted, message, 1)
    })
}
