//! A request taken: unpacked within limits, read, made durable, then answered.
//!
//! Bodies are unpacked within the memory that all requests share ([`crate::bodies`]), and read
//! beside the tasks that serve flags, not among them.

use std::collections::HashMap;

use tidegate_lake::AppendError;
use tidegate_metrics::{Arrival, Event};
use tonic::Code;

use super::answer::{Refusal, Taken};
use super::join::{Join, Joined};
use super::map::Batch;
use super::waiting_room::EntryError;
use super::{Encoding, Otlp, ProjectState, Signal};
use crate::access::Principal;
use crate::app::App;
use crate::bodies::BodyError;
use crate::bodies::receive::Packed;
use crate::bodies::unpack::{Packing, Plain, unpack};
use crate::meters::add;

/// A body as it travelled.
#[derive(Debug)]
pub struct Export {
    /// What it reports.
    pub signal: Signal,
    /// How it is written down.
    pub encoding: Encoding,
    /// How it is packed.
    pub packing: Packing,
    /// The bytes, and the room they take.
    pub(crate) body: Packed,
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
    if export.body.bytes.is_empty() && export.encoding == Encoding::Protobuf {
        return Ok(Taken::default());
    }
    let signal = export.signal;
    let batch = {
        let _turn = app.events.room.turn().await;
        let worker = app.clone();
        let read = move || read(&worker.otlp, export, arrival);
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|error| {
            tracing::error!(%error, "an export could not be read");
            Refusal::for_now(Code::Unavailable, "the export could not be read", 5)
        })??
    };
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
fn read(otlp: &Otlp, export: Export, arrival: Arrival) -> Result<Batch, Refusal> {
    let (signal, encoding) = (export.signal, export.encoding);
    let plain: Plain = unpack(export.packing, export.body, otlp.limits.max_bytes)?;
    let batch = super::decode(signal, encoding, &plain.bytes, &otlp.limits, arrival)?;
    Ok(batch)
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        match error {
            BodyError::Crowded => Self::for_now(Code::ResourceExhausted, message, 1),
            BodyError::TooLarge { .. } => Self::for_good(413, Code::ResourceExhausted, message),
            BodyError::Broken { .. } => Self::for_good(400, Code::InvalidArgument, message),
        }
    }
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
    let evaluations: Vec<Event> = wanted.cloned().collect();
    let mut complete = batch.ready;
    let met = news(&state, batch.exposures, &mut complete);
    // Evaluations come first, so that what they name need not wait for them.
    let told = if batch.waiting.is_empty() {
        evaluations
    } else {
        let entered = state.waiting.enter(evaluations).await;
        entered.map_err(|error| refused(&error))?;
        let (known, waiting) = state.waiting.told_apart(batch.waiting);
        for event in &known {
            let is_attributed = !event.unit.is_empty();
            app.otlp.meters.joined(Joined::Served, is_attributed);
        }
        complete.extend(known.into_iter().filter(|event| !event.unit.is_empty()));
        waiting
    };
    let (appended, entered) = tokio::join!(
        app.events.append(project, complete),
        state.waiting.enter(told)
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
