//! A server's use cases over a real store, with a clock that a test turns.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tidegate_server::access::{AccessBook, Principal, PrincipalKind, Role};
use tidegate_server::app::objects::{self, Belief, Place};
use tidegate_server::app::{App, AppError, Parts};
use tidegate_server::clock::Clock;
use tidegate_server::delivery::Delivery;
use tidegate_server::egress::Egress;
use tidegate_server::egress::Limits;
use tidegate_server::egress::credentials::Credentials;
use tidegate_server::egress::policy::EgressPolicy;
use tidegate_server::events::{Events, Followers};
use tidegate_server::hooks::Hooks;
use tidegate_server::hooks::command::CommandHook;
use tidegate_server::live::Live;
use tidegate_server::notices::Notices;
use tidegate_server::notices::signature::MasterKey;
use tidegate_server::operations::Operations;
use tidegate_server::otlp::Otlp;
use tidegate_server::rate_limit::RateLimits;
use tidegate_server::rollouts::Rollouts;
use tidegate_server::stops::Stops;
use tidegate_server::streams::Streams;
use tidegate_store::{
    Actor, By, Expected, ObjectKind, ObjectStore as _, ProjectKey, ProjectPut, SqliteOptions,
    SqliteStore,
};
use tokio::sync::Notify;

/// Where the clock begins: 2023-11-14T22:13:20Z.
pub const START_US: i64 = 1_700_000_000_000_000;
/// The master key of every test's house.
pub const MASTER: [u8; 32] = [7; 32];

/// A clock that stands until it is turned.
#[derive(Debug)]
pub struct Hand(AtomicI64);

impl Hand {
    pub fn turn(&self, by: Duration) {
        let by_us = i64::try_from(by.as_micros()).unwrap();
        self.0.fetch_add(by_us, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.now_us() - START_US).unwrap())
    }
}

pub struct House {
    pub app: App,
    pub hand: Arc<Hand>,
    pub folder: tempfile::TempDir,
}

impl House {
    pub async fn open(allowed: &[&str], commands: Vec<CommandHook>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hand = Arc::new(Hand(AtomicI64::new(START_US)));
        Self::over(folder, hand, allowed, commands).await
    }

    /// The same house after a restart: nothing is left but the folder, and time goes on.
    pub async fn restarted(self, allowed: &[&str]) -> Self {
        let Self { app, hand, folder } = self;
        drop(app);
        Self::over(folder, hand, allowed, Vec::new()).await
    }

    async fn over(
        folder: tempfile::TempDir,
        hand: Arc<Hand>,
        allowed: &[&str],
        commands: Vec<CommandHook>,
    ) -> Self {
        let policy = EgressPolicy::parse(allowed).unwrap();
        let hasty = Limits {
            time: Duration::from_millis(300),
            bytes: 4096,
        };
        let master = Some(MasterKey::from_bytes(MASTER));
        let operations = Operations {
            egress: Egress::new(policy, Credentials::default()),
            notices: Notices::new(master, "https://tide.example").with_limits(hasty),
            hooks: Hooks::new(commands),
            ..Operations::default()
        };
        let rollouts = Rollouts::default();
        let followers =
            Followers::new(vec![rollouts.follower(Arc::clone(&hand) as Arc<dyn Clock>)]);
        let app = App::new(Parts {
            storage: OnceLock::new(),
            events: Events::open(folder.path(), Arc::new(followers)).unwrap(),
            otlp: Otlp::open(folder.path(), Duration::from_millis(500)),
            delivery: Delivery::open(folder.path()).unwrap(),
            live: Live::default(),
            access: ArcSwap::from_pointee(AccessBook::new(Default::default(), None)),
            open_door: None,
            limits: RateLimits::new(None),
            flag_limits: tidegate_flags::Limits::default(),
            stops: Stops::new(None, Vec::new()),
            rollouts,
            streams: Streams::new("test", 10),
            operations,
            clock: Arc::clone(&hand) as Arc<dyn Clock>,
            loading: tokio::sync::Mutex::default(),
            kept_credentials: None,
            data_dir_lock: None,
            changed: Notify::new(),
        });
        let options = SqliteOptions::new(folder.path().join("state.db"));
        let store = SqliteStore::open(options).await.unwrap();
        let put = ProjectPut {
            key: ProjectKey::parse("default").unwrap(),
            name: "Default".to_owned(),
            expected: Expected::Absent,
            by: By::new(Actor::system("test"), 0),
        };
        if store.project_list().await.unwrap().is_empty() {
            store.project_put(put).await.unwrap();
        }
        assert!(app.storage.set(Arc::new(store)).is_ok());
        tidegate_server::reconcile::once(&app, None).await;
        Self { app, hand, folder }
    }

    /// Somebody who may do everything.
    pub fn somebody() -> Principal {
        Principal::new(
            PrincipalKind::Person,
            "u1".to_owned(),
            None,
            vec![Role::Admin],
        )
    }

    /// Writes an object as of what is there.
    pub async fn put(&self, kind: ObjectKind, key: &str, spec: Value) -> Result<u64, AppError> {
        let place = Place::parse("default", kind, key).unwrap();
        let belief = match objects::read(&self.app, &place).await {
            Ok(object) => Belief::Revision(object.revision),
            Err(_) => Belief::Absent,
        };
        let why = Some("a test".to_owned());
        let written =
            objects::write(&self.app, &Self::somebody(), &place, belief, spec, why).await?;
        Ok(written.committed.revision)
    }

    /// Makes or changes a flag so that each number gives another definition.
    pub async fn change_flag(&self, key: &str, number: usize) {
        let spec = json!({"state": "ENABLED", "variants": {"on": number, "off": 0},
            "defaultVariant": "off", "offVariant": "off"});
        self.put(ObjectKind::Flag, key, spec).await.unwrap();
    }
}
