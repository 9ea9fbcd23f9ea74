//! What the house does for itself, by a clock that the test sets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::json;
use support::{Server, Settings};
use tidegate_server::clock::Clock;
use tidegate_server::upkeep;
use tidegate_store::{
    Actor, Expected, ObjectChange, ObjectKey, ObjectKind, ProjectKey, StopId, StopKind, StopRecord,
    StopServe, Write,
};

const HOUR_US: i64 = 3_600_000_000;

/// A clock that stands until it is moved.
#[derive(Default)]
struct Standing(AtomicI64);

impl Clock for Standing {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.now_us().unsigned_abs())
    }
}

async fn house() -> (Server, Arc<Standing>) {
    let clock = Arc::new(Standing::default());
    let server = Server::with(Settings {
        keeps_state: true,
        signs: true,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..Settings::default()
    })
    .await;
    (server, clock)
}

fn project() -> ProjectKey {
    ProjectKey::parse("default").unwrap()
}

fn flag(key: &str) -> ObjectKey {
    ObjectKey::parse(ObjectKind::Flag, key).unwrap()
}

async fn write(server: &Server, key: &str, now_us: i64) {
    let change = ObjectChange::new(
        (project(), ObjectKind::Flag, flag(key)),
        Expected::Absent,
        Write::Put(json!({"state": "ENABLED", "variants": {"on": true}})),
        Actor::system("test"),
        now_us,
    )
    .with_idempotency_key(key);
    server
        .app
        .store()
        .unwrap()
        .object_commit(change)
        .await
        .unwrap();
}

async fn signed(server: &Server) -> Vec<i64> {
    let store = server.app.store().unwrap();
    let checkpoints = store.audit_checkpoint_list(0, 100).await.unwrap();
    checkpoints
        .iter()
        .map(|checkpoint| checkpoint.signed_at)
        .collect()
}

async fn is_remembered(server: &Server, key: &str) -> bool {
    let store = server.app.store().unwrap();
    store
        .idempotency_find(&project(), key)
        .await
        .unwrap()
        .is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_is_signed_each_hour_in_which_it_grew() {
    let (server, clock) = house().await;
    for hour in 0..5 {
        clock.0.store(hour * HOUR_US, Ordering::Relaxed);
        if hour != 2 {
            write(&server, &format!("f{hour}"), hour * HOUR_US).await;
        }
        let pause = upkeep::once(&server.app).await;
        assert_eq!(pause, Duration::from_secs(3600));
        upkeep::once(&server.app).await;
    }
    let hours: Vec<i64> = signed(&server)
        .await
        .iter()
        .map(|at| at / HOUR_US)
        .collect();
    assert_eq!(hours, [0, 1, 3, 4], "nothing to sign twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_week_old_is_removed_unless_a_stop_may_have_to_be_recognised_by_it() {
    let (server, clock) = house().await;
    write(&server, "old", 0).await;
    clock.0.store(6 * 24 * HOUR_US, Ordering::Relaxed);
    upkeep::once(&server.app).await;
    assert!(is_remembered(&server, "old").await, "six days are no week");
    let stop = StopRecord::new(
        StopId([7; 16]),
        (project(), flag("gone")),
        (StopKind::Kill, StopServe::Off),
        "it hurts",
        (Actor::system("test"), 0),
    );
    let recorded = server.app.stops.record(stop.unwrap()).unwrap();
    clock.0.store(8 * 24 * HOUR_US, Ordering::Relaxed);
    upkeep::once(&server.app).await;
    assert!(is_remembered(&server, "old").await, "a stop is pending");
    server.app.stops.settle(recorded.id);
    upkeep::once(&server.app).await;
    assert!(!is_remembered(&server, "old").await);
}
