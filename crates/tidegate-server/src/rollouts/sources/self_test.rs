//! May the counters of a source be believed? Two variants that serve the same thing, read for a while.
//!
//! Somebody names two values of `{variant}` that get the same behaviour, such as the two halves of
//! control. They are read like the arms of a rollout until there is enough to tell, and judged once,
//! at that moment ([`tidegate_rollout::evidence::self_test`]): looking earlier or again would be
//! choosing. The outcome belongs to the revision of the source that was tested; an edit of the source
//! takes it away. Of a histogram every threshold must have enough to tell, and all must pass. A test
//! under way goes on after a restart with the blocks it had closed.

use serde::{Deserialize, Serialize};
use tidegate_rollout::SourceStatus;
use tidegate_rollout::evidence::self_test::SelfTest;
use tidegate_store::{ObjectKind, StoreError};

use super::{Series, Tracked};
use crate::app::objects::{self, Place};
use crate::app::{App, AppError};

/// Informative blocks and failures that are enough to tell; the evidence itself asks for as much.
const ENOUGH: (usize, u64) = (30, 100);

/// How a self-test ended, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Revision of the source that was tested.
    pub revision: u64,
    /// Whether a guard on this source may roll back.
    pub passed: bool,
    /// The verdict for people.
    pub reason: String,
    /// Observed over expected variance of failures; 1 where requests are independent.
    pub dispersion: f64,
    /// When it ended, Unix microseconds.
    pub ended_us: i64,
}

/// How a source stands with its self-test.
#[derive(Debug, Serialize)]
pub struct Standing {
    /// Revision of the source now.
    pub revision: u64,
    /// Whether a guard on it may roll back.
    pub may_roll_back: bool,
    /// The last outcome, of whatever revision.
    pub last: Option<Outcome>,
    /// How far a test under way is, in words.
    pub under_way: Option<String>,
}

/// Begins a self-test with two values of `{variant}` that serve the same.
///
/// # Errors
/// A source that does not exist; the same value twice, or an empty one.
pub async fn begin(
    app: &App,
    project: &str,
    key: &str,
    (one, other): (&str, &str),
) -> Result<Standing, AppError> {
    if one == other || one.is_empty() || other.is_empty() {
        let cure = "name two different values of {variant} that serve the same thing";
        return Err(AppError::invalid("/variants", "two-needed", cure));
    }
    let place = Place::parse(project, ObjectKind::Source, key)?;
    objects::read(app, &place).await?;
    let under_way = UnderWay {
        variants: [one.to_owned(), other.to_owned()],
        since_us: app.clock.now_us(),
    };
    note_under_way(app, &place, Some(&under_way))
        .await
        .map_err(|error| objects::refusal(&error, "the self-test"))?;
    follow(app, &place, &under_way);
    standing(app, project, key).await
}

/// A test under way, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnderWay {
    variants: [String; 2],
    since_us: i64,
}

fn follow(app: &App, place: &Place, under_way: &UnderWay) {
    let [one, other] = &under_way.variants;
    let tracked = Tracked::new((one, other), under_way.since_us);
    app.rollouts.sources.lock().insert(series(place), tracked);
}

/// Takes up every test that was under way.
pub(super) async fn resume(app: &App) -> Result<(), StoreError> {
    let store = app.store()?;
    for project in store.project_list().await? {
        let mut after = None;
        loop {
            let page = store
                .object_list(&project.key, ObjectKind::Source, after.as_ref(), 1000)
                .await?;
            for object in page.objects {
                let place = Place {
                    project: project.key.clone(),
                    kind: ObjectKind::Source,
                    key: object.key,
                };
                let is_known = app.rollouts.sources.lock().contains_key(&series(&place));
                if let Some(found) = under_way(app, &place).await?.filter(|_| !is_known) {
                    follow(app, &place, &found);
                }
            }
            match page.next_after {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    Ok(())
}

fn name_under_way(place: &Place) -> String {
    let (project, key) = (place.project.as_str(), place.key.as_str());
    format!("source-self-test-under-way/{project}/{key}")
}

async fn note_under_way(
    app: &App,
    place: &Place,
    under_way: Option<&UnderWay>,
) -> Result<(), StoreError> {
    let value = serde_json::to_vec(&under_way).map_err(|error| StoreError::Invalid {
        field: "value",
        reason: error.to_string(),
    })?;
    app.store()?.kv_put(&name_under_way(place), &value).await
}

async fn under_way(app: &App, place: &Place) -> Result<Option<UnderWay>, StoreError> {
    let kept = app.store()?.kv_get(&name_under_way(place)).await?;
    Ok(kept.and_then(|bytes| {
        serde_json::from_slice::<Option<UnderWay>>(&bytes)
            .ok()
            .flatten()
    }))
}

fn is_enough(found: &SelfTest) -> bool {
    found.blocks >= ENOUGH.0 && found.failures >= ENOUGH.1
}

/// How a source stands with its self-test.
///
/// # Errors
/// A source that does not exist; storage.
pub async fn standing(app: &App, project: &str, key: &str) -> Result<Standing, AppError> {
    let place = Place::parse(project, ObjectKind::Source, key)?;
    let revision = objects::read(app, &place).await?.revision;
    let last = outcome(app, &place).await;
    let under_way = app.rollouts.sources.with(&series(&place), |tracked| {
        let how_far = tracked.tally.self_test(is_enough).map(|found| found.reason);
        let how_far = how_far.unwrap_or_else(|| "nothing has been counted yet".to_owned());
        let source = match &tracked.status {
            SourceStatus::Ok => "the source answers".to_owned(),
            SourceStatus::Failed { query, response } => {
                format!("the source does not: asked {query:?}, got {response}")
            }
            SourceStatus::Untrustworthy { reason } => format!("the source is doubted: {reason}"),
        };
        format!("{how_far}; {source}")
    });
    let may_roll_back = last
        .as_ref()
        .is_some_and(|last| last.passed && last.revision == revision);
    Ok(Standing {
        revision,
        may_roll_back,
        last,
        under_way,
    })
}

/// Whether this revision of a source passed.
pub(super) async fn has_passed(app: &App, place: &Place, revision: u64) -> bool {
    let last = outcome(app, place).await;
    last.is_some_and(|last| last.passed && last.revision == revision)
}

/// Judges a test under way if there is enough to tell, and ends it then.
pub(super) async fn judge(app: &App, series: &Series) {
    let seen = app.rollouts.sources.with(series, |tracked| {
        let revision = tracked.source.as_ref().map(|(revision, _)| *revision)?;
        Some((tracked.tally.self_test(is_enough)?, revision))
    });
    let Some((found, revision)) = seen.flatten() else {
        return;
    };
    if !is_enough(&found) {
        return;
    }
    let outcome = Outcome {
        revision,
        passed: found.passed,
        reason: found.reason,
        dispersion: found.dispersion,
        ended_us: app.clock.now_us(),
    };
    let place = Place::parse(&series.of.0, ObjectKind::Source, &series.source);
    match keep(app, series, &outcome).await {
        Ok(()) => {
            drop(app.rollouts.sources.lock().remove(series));
            if let Ok(place) = place
                && let Err(error) = note_under_way(app, &place, None).await
            {
                tracing::warn!(%error, "a self-test that ended may be run again after a restart");
            }
        }
        Err(error) => tracing::warn!(%error, "the outcome of a self-test waits for storage"),
    }
}

fn series(place: &Place) -> Series {
    let key = place.key.as_str().to_owned();
    Series {
        of: (place.project.as_str().to_owned(), key.clone()),
        source: key,
        is_self_test: true,
    }
}

fn named_value(project: &str, key: &str) -> String {
    format!("source-self-test/{project}/{key}")
}

async fn keep(app: &App, series: &Series, outcome: &Outcome) -> Result<(), String> {
    let value = serde_json::to_vec(outcome).map_err(|error| error.to_string())?;
    let name = named_value(&series.of.0, &series.source);
    let kept = async { app.store()?.kv_put(&name, &value).await };
    kept.await.map_err(|error| error.to_string())
}

async fn outcome(app: &App, place: &Place) -> Option<Outcome> {
    let name = named_value(place.project.as_str(), place.key.as_str());
    let kept = async { app.store()?.kv_get(&name).await };
    let bytes = kept.await.ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}
