//! The task that reads sources: each in its own time, none waiting for another.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_rollout::Block;
use tidegate_store::{DeliveryId, ObjectKind, ProjectKey, StoreError, StreamAppend};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::meter::Reading;
use super::poll::{self, Counted, Fault};
use super::spec::SourceSpec;
use super::tally::{Closed, Outcome, Tally};
use super::{Series, Tracked, self_test};
use crate::app::App;
use crate::app::objects::{self, Place};

/// How often it is looked whether a source is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Records of a stream read at a time.
const PAGE: u32 = 1000;

/// Blocks that closed together, as they are kept: of plain counters one, with the reading that closed
/// it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// 1: `block` and `at`. 2: `rungs`.
    format: u8,
    /// When the run began that it belongs to.
    since_us: i64,
    /// How many phases had begun when it closed.
    phase: usize,
    /// Revision of the source, where another revision is another count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block: Option<Block>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Reading>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rungs: Vec<Closed>,
}

impl Kept {
    fn new(series: &Series, tracked: &Tracked, closed: Vec<Closed>) -> Self {
        let source = tracked.source.as_ref();
        let revision = source.map(|(revision, _)| *revision);
        let kept = Self {
            format: 2,
            since_us: tracked.since_us,
            phase: tracked.phases(),
            revision: revision.filter(|_| series.is_self_test),
            block: None,
            at: None,
            rungs: Vec::new(),
        };
        match closed.as_slice() {
            [
                Closed {
                    threshold: None,
                    block,
                    at,
                },
            ] => Self {
                format: 1,
                block: Some(*block),
                at: Some(*at),
                ..kept
            },
            _ => Self {
                rungs: closed,
                ..kept
            },
        }
    }

    /// The blocks; none of a format that is not known.
    fn closed(&self) -> Vec<Closed> {
        match (self.format, self.block, self.at) {
            (1, Some(block), Some(at)) => vec![Closed {
                threshold: None,
                block,
                at,
            }],
            (2, ..) => self.rungs.clone(),
            _ => Vec::new(),
        }
    }
}

/// Reads every source that a running rollout or a self-test needs, until `shutdown`.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut readings = JoinSet::new();
    let mut is_resumed = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = timer.tick() => {}
            Some(_) = readings.join_next() => continue,
        }
        if !is_resumed {
            is_resumed = resume_self_tests(&app).await;
        }
        for series in app.rollouts.sources.take_due(app.clock.monotonic()) {
            let app = app.clone();
            readings.spawn(async move { read(&app, &series).await });
        }
    }
}

/// Takes up every self-test that was under way before a restart; `false` if storage could not say
/// which there were.
pub async fn resume_self_tests(app: &App) -> bool {
    match self_test::resume(app).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "self-tests of sources wait for storage");
            false
        }
    }
}

/// Reads everything that is due now, and says how much that was.
pub async fn read_due(app: &App) -> usize {
    let due = app.rollouts.sources.take_due(app.clock.monotonic());
    for series in &due {
        read(app, series).await;
    }
    due.len()
}

/// Reads one series once, whatever comes of it.
async fn read(app: &App, series: &Series) {
    let outcome = reading(app, series).await;
    let at_us = app.clock.now_us();
    let closed = app.rollouts.sources.with(series, |tracked| {
        match outcome.map(|counted| tracked.take(&counted, at_us)) {
            Ok(Outcome::Counted(closed)) if !closed.is_empty() => {
                Some(Kept::new(series, tracked, closed))
            }
            Ok(_) => None,
            Err(fault) => {
                tracked.note_fault(fault);
                None
            }
        }
    });
    if let Some(kept) = closed.flatten() {
        if let Err(error) = keep(app, series, &kept).await {
            tracing::warn!(%error, source = %series.source, "a block could not be kept");
        }
        if series.is_self_test {
            self_test::judge(app, series).await;
        }
    }
    let now = app.clock.monotonic();
    app.rollouts.sources.with(series, |tracked| {
        tracked.due = tracked.next_due(now);
        tracked.is_being_read = false;
    });
    if !series.is_self_test {
        app.rollouts.look_again(&series.of);
    }
}

async fn reading(app: &App, series: &Series) -> Result<Counted, Fault> {
    let about_storage = |error: String| Fault {
        is_impossible: false,
        query: format!("the definition of source {}", series.source),
        response: error,
    };
    refresh(app, series).await.map_err(about_storage)?;
    let known = app.rollouts.sources.with(series, |tracked| {
        let (_, spec) = tracked.source.clone()?;
        Some((spec, tracked.arms.clone()))
    });
    let Some((spec, arms)) = known.flatten() else {
        return Err(about_storage("it is not there".to_owned()));
    };
    let now_us = app.clock.now_us();
    poll::read(&app.operations.egress, &spec, (&arms.0, &arms.1), now_us).await
}

/// Reads the definition, and after a restart the blocks that were kept. A definition that changed
/// begins a new count: what it counted before may have been something else.
async fn refresh(app: &App, series: &Series) -> Result<(), String> {
    let place = Place::parse(&series.of.0, ObjectKind::Source, &series.source)
        .map_err(|error| error.to_string())?;
    let object = objects::read(app, &place)
        .await
        .map_err(|error| error.to_string())?;
    let spec = SourceSpec::from_json(&object.spec).map_err(|_| "it cannot be read".to_owned())?;
    let passed = self_test::has_passed(app, &place, object.revision).await;
    let kept = if needs_restoring(app, series) {
        kept_blocks(app, series, object.revision)
            .await
            .map_err(|error| error.to_string())?
    } else {
        Vec::new()
    };
    let now_us = app.clock.now_us();
    app.rollouts.sources.with(series, |tracked| {
        let known = tracked.source.as_ref().map(|(revision, _)| *revision);
        if known.is_some_and(|known| known != object.revision) {
            if series.is_self_test {
                tracked.tally = Tally::default();
            } else {
                tracked.tally.rest();
            }
        }
        tracked.source = Some((object.revision, spec));
        tracked.passed = passed;
        if !tracked.is_restored {
            tracked.is_restored = true;
            // How long ago exactly is not kept; that there was traffic is.
            tracked.last_traffic_us = (!kept.is_empty()).then_some(now_us);
            for kept in kept {
                tracked.restore(&kept.closed(), kept.phase);
            }
        }
    });
    Ok(())
}

fn needs_restoring(app: &App, series: &Series) -> bool {
    let restored = app
        .rollouts
        .sources
        .with(series, |tracked| tracked.is_restored);
    restored == Some(false)
}

/// The stream of a series' blocks.
fn stream(series: &Series) -> String {
    if series.is_self_test {
        return format!("source-self-test-blocks/{}", series.source);
    }
    format!("rollout-blocks/{}/{}", series.of.1, series.source)
}

async fn keep(app: &App, series: &Series, kept: &Kept) -> Result<(), StoreError> {
    let append = StreamAppend {
        project: ProjectKey::parse(&series.of.0)?,
        stream: stream(series),
        payload: crate::rollouts::journal::payload_of(kept)?,
        delivery: None::<DeliveryId>,
        expected_head: None,
        outbox: Vec::new(),
        now_us: app.clock.now_us(),
    };
    app.store()?.log_append(append).await.map(|_| ())
}

/// Blocks kept by an earlier process for the same run.
async fn kept_blocks(app: &App, series: &Series, revision: u64) -> Result<Vec<Kept>, StoreError> {
    let project = ProjectKey::parse(&series.of.0)?;
    let since_us = app
        .rollouts
        .sources
        .with(series, |tracked| tracked.since_us);
    let (name, mut after, mut blocks) = (stream(series), 0, Vec::new());
    loop {
        let page = app.store()?.log_read(&project, &name, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(blocks);
        };
        after = last.sequence;
        let own = page
            .into_iter()
            .filter_map(|record| serde_json::from_value::<Kept>(record.payload).ok())
            .filter(|kept| Some(kept.since_us) == since_us)
            .filter(|kept| kept.revision.is_none_or(|tested| tested == revision));
        blocks.extend(own);
    }
}
