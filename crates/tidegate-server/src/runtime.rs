//! A running server: parts opened in the order that lets it answer soonest and never worse.
//!
//! First the last good sets and the stop records, from plain files, so that evaluation and kills
//! work whatever else is broken. Then the log of events. Then storage, tried again until it opens.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tempfile::TempDir;
use tidegate_flags::Limits;
use tidegate_store::{
    Actor, By, Expected, ProjectKey, ProjectPut, SqliteOptions, SqliteStore, StopFile, StoreError,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{AccessBook, BookEntry, Principal, PrincipalKind, Role};
use crate::app::{App, Parts};
use crate::clock::Clock;
use crate::delivery::Delivery;
use crate::egress::Egress;
use crate::events::{Events, Followers, Retention};
use crate::hooks::Hooks;
use crate::http::cors::AllowedOrigins;
use crate::kept_credentials::KeptCredentials;
use crate::last_good::{LastGood, Loaded};
use crate::listener::{self, Door, FlagdPort};
use crate::live::{Live, assemble};
use crate::meters::Meters;
use crate::notices::Notices;
use crate::notices::signature::MasterKey;
use crate::operations::{Operations, Outward};
use crate::otlp::Otlp;
use crate::otlp::waiting_room;
use crate::rate_limit::{RateLimit, RateLimits};
use crate::rollouts::Rollouts;
use crate::sign_in::Hashing;
use crate::stops::Stops;
use crate::streams::Streams;

/// How a server is to run. Resolved once, by the binary.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// The address to answer at; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The first admin credential of the default project, for automation.
    pub bootstrap_token: Option<String>,
    /// Requests per credential.
    pub rate_limit: Option<RateLimit>,
    /// Ask nobody for a credential. Refused unless `listen` is a loopback address.
    pub open_door: bool,
    /// Web pages of other origins that may evaluate flags.
    pub allowed_origins: AllowedOrigins,
    /// For how long events are kept.
    pub retention: Retention,
    /// How long a report may take.
    pub report_limit: Duration,
    /// Whom the server reaches, and what it runs.
    pub outward: Outward,
}

/// Why a server cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("cannot use the data folder {path}; check that it exists and is writable")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another server has the folder.
    #[error("another server is using {0}; stop it first, or use another --data-dir")]
    InUse(PathBuf),
    /// The log of events cannot be opened.
    #[error("cannot open the log of events: {0}")]
    Events(#[from] tidegate_lake::LogError),
    /// The address cannot be bound.
    #[error(
        "cannot listen at {address}: is another server there? `--listen 127.0.0.1:0` picks a free port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Without sign-in only this machine may connect.
    #[error("{0} is not a loopback address, and without sign-in only loopback is allowed")]
    OpenDoorOffLoopback(SocketAddr),
}

/// A server that answers.
pub struct Running {
    /// Its use cases, for the composition root.
    pub app: App,
    /// Where it answers.
    pub address: SocketAddr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    /// Removed when the server is dropped; only a server without durable state has one.
    _scratch: Option<TempDir>,
}

impl Running {
    /// Also answers at the ports flagd's providers use when nothing is configured: on loopback,
    /// without credentials, as a `server` of `project`.
    ///
    /// # Errors
    /// [`StartError::Listen`], for instance where a flagd runs already; none is open then.
    pub async fn open_flagd_ports(&self, project: &str) -> Result<(), StartError> {
        let mut doors = Vec::new();
        for port in FlagdPort::ALL {
            let address = port.address();
            let door = Door::flagd(port, project).await;
            doors.push(door.map_err(|source| StartError::Listen { address, source })?);
        }
        self.tasks.spawn(answer(doors, self.app.clone()));
        Ok(())
    }

    /// Stops accepting, finishes what is under way, and returns when all is quiet or the wait is
    /// over.
    pub async fn stop(self, wait: Duration) {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(wait, self.tasks.wait()).await.is_err() {
            tracing::warn!("some requests were cut off at the end of the wait");
        }
        crate::events::keeper::last_flush(&self.app).await;
        crate::token_uses::tell(&self.app).await;
        crate::upkeep::checkpoint(&self.app).await;
    }
}

/// Opens the parts and starts answering.
///
/// # Errors
/// [`StartError`]; a store that cannot be opened is no such error, it is tried again.
pub async fn start(settings: Settings, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
    let (listener, address) = bind(&settings).await?;
    let (app, kept) = open(&settings, clock, false)?;
    let shutdown = app.streams.closing.clone();
    let tasks = TaskTracker::new();
    // What was served last is served before anything else, storage not excepted.
    tasks.spawn(answer(vec![Door::main(listener)], app.clone()));
    let kept = Arc::new(kept);
    let opening = tasks.spawn(open_and_load(
        app.clone(),
        settings.clone(),
        Arc::clone(&kept),
    ));
    if tokio::time::timeout(OPENING_WAIT, opening).await.is_err() {
        tracing::warn!("storage takes long to open; serving what was served last meanwhile");
    }
    tasks.spawn(keep_storage_open(
        app.clone(),
        settings.clone(),
        shutdown.clone(),
    ));
    tasks.spawn(crate::reconcile::run(
        app.clone(),
        Some(kept),
        shutdown.clone(),
    ));
    tasks.spawn(crate::rollouts::run(app.clone(), shutdown.clone()));
    tasks.spawn(crate::events::keeper::run(app.clone(), shutdown.clone()));
    tasks.spawn(crate::rollouts::sources::run(app.clone(), shutdown.clone()));
    tasks.spawn(crate::notices::run(app.clone(), shutdown.clone()));
    tasks.spawn(crate::upkeep::run(app.clone(), shutdown.clone()));
    tasks.spawn(crate::token_uses::run(app.clone(), shutdown.clone()));
    tasks.spawn(crate::rollouts::keep_notes(
        app.clone(),
        settings.data_dir.clone(),
        shutdown.clone(),
    ));
    tasks.spawn(waiting_room::run(app.clone(), shutdown.clone()));
    tasks.spawn(crate::delivery::run(app.clone(), shutdown.clone()));
    Ok(Running {
        app,
        address,
        shutdown,
        tasks,
        _scratch: None,
    })
}

/// How long a start waits for storage before it says that it listens.
const OPENING_WAIT: Duration = Duration::from_secs(1);

async fn open_and_load(app: App, settings: Settings, kept: Arc<LastGood>) {
    open_storage(&app, &settings).await;
    crate::reconcile::once(&app, Some(&kept)).await;
}

/// Starts a server that keeps nothing: no storage, no sign-in, events in a folder that goes away.
///
/// # Errors
/// [`StartError`].
pub async fn start_without_storage(
    listen: SocketAddr,
    clock: Arc<dyn Clock>,
) -> Result<Running, StartError> {
    let scratch = tempfile::tempdir().map_err(|source| StartError::DataDir {
        path: std::env::temp_dir(),
        source,
    })?;
    let settings = Settings {
        data_dir: scratch.path().to_owned(),
        listen,
        bootstrap_token: None,
        rate_limit: None,
        open_door: true,
        allowed_origins: AllowedOrigins::default(),
        retention: Retention::default(),
        report_limit: crate::reports::USUAL_LIMIT,
        outward: Outward::default(),
    };
    let (listener, address) = bind(&settings).await?;
    let (app, _) = open(&settings, clock, true)?;
    let shutdown = app.streams.closing.clone();
    let tasks = TaskTracker::new();
    tasks.spawn(answer(vec![Door::main(listener)], app.clone()));
    tasks.spawn(waiting_room::run(app.clone(), shutdown.clone()));
    tasks.spawn(crate::events::keeper::run(app.clone(), shutdown.clone()));
    Ok(Running {
        app,
        address,
        shutdown,
        tasks,
        _scratch: Some(scratch),
    })
}

async fn bind(settings: &Settings) -> Result<(TcpListener, SocketAddr), StartError> {
    let listen = settings.listen;
    if settings.open_door && !listen.ip().is_loopback() {
        return Err(StartError::OpenDoorOffLoopback(listen));
    }
    let refused = |source| StartError::Listen {
        address: listen,
        source,
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

async fn answer(doors: Vec<Door>, app: App) {
    let (router, _) = crate::http::router(&app);
    let closing = app.streams.closing.clone();
    let drained =
        listener::serve(doors, &router, listener::Limits::of_this_process(), closing).await;
    if drained.cut > 0 {
        tracing::warn!(
            connections = drained.cut,
            "some connections were cut off while draining"
        );
    }
}

/// Streams over all protocols and projects.
const MOST_STREAMS: usize = 20_000;

/// Everything that needs no storage.
fn open(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    serves_a_file: bool,
) -> Result<(App, LastGood), StartError> {
    let data_dir = &settings.data_dir;
    let unusable = |source| StartError::DataDir {
        path: data_dir.clone(),
        source,
    };
    std::fs::create_dir_all(data_dir).map_err(unusable)?;
    let lock = std::fs::File::create(data_dir.join("server.lock")).map_err(unusable)?;
    if lock.try_lock().is_err() {
        return Err(StartError::InUse(data_dir.clone()));
    }
    let kept = LastGood::open(data_dir).map_err(unusable)?;
    let stops = open_stops(&data_dir.join("stops"));
    let live = Live::default();
    serve_last_good(&kept, &stops, &live, clock.now_us()).map_err(unusable)?;
    let rollouts = Rollouts::default();
    rollouts.remember(data_dir);
    let events = Events::open(
        data_dir,
        Arc::new(Followers::new(vec![rollouts.follower(Arc::clone(&clock))])),
    )?
    .keeping(settings.retention.clone())
    .answering_within(settings.report_limit);
    let credentials = KeptCredentials::new(data_dir);
    let bootstrap = settings
        .bootstrap_token
        .as_deref()
        .map(AccessBook::bootstrap_entry);
    let app = App::new(Parts {
        storage: OnceLock::new(),
        events,
        otlp: Otlp::open(data_dir, waiting_room::WINDOW),
        delivery: Delivery::open(data_dir).map_err(unusable)?,
        live,
        access: ArcSwap::from_pointee(AccessBook::new(known_callers(&credentials), bootstrap)),
        open_door: settings.open_door.then(local_developer),
        limits: RateLimits::new(settings.rate_limit),
        flag_limits: Limits::default(),
        stops,
        rollouts,
        streams: Streams::new(&instance_name(), MOST_STREAMS),
        operations: Operations {
            meters: Meters::default(),
            signer: crate::upkeep::open_signer(data_dir),
            allowed_origins: settings.allowed_origins.clone(),
            hashing: Hashing::default(),
            changing_people: tokio::sync::Mutex::default(),
            clocks: std::sync::Mutex::default(),
            serves_a_file,
            egress: Egress::new(
                settings.outward.policy.clone(),
                settings.outward.credentials.clone(),
            ),
            notices: open_notices(settings),
            hooks: Hooks::new(settings.outward.commands.clone()),
        },
        clock,
        loading: tokio::sync::Mutex::default(),
        changed: Notify::new(),
        kept_credentials: Some(credentials),
        data_dir_lock: Some(lock),
    });
    Ok((app, kept))
}

/// Notices, signed by keys of this data folder. Without a key nothing is sent, and everything else
/// goes on.
fn open_notices(settings: &Settings) -> Notices {
    let master = MasterKey::open_or_create(&settings.data_dir);
    let master = master.inspect_err(|error| {
        tracing::error!(%error, "notices cannot be signed and will not be sent");
    });
    let base = settings.outward.public_url.as_deref().unwrap_or_default();
    Notices::new(master.ok(), base)
}

/// A name that no other process has, so that event ids of two processes are never mixed up.
fn instance_name() -> String {
    let mut name = uuid::Uuid::new_v4().simple().to_string();
    name.truncate(12);
    name
}

/// The callers that were known last. A book that cannot be read lets nobody in but the bootstrap.
fn known_callers(kept: &KeptCredentials) -> HashMap<String, BookEntry> {
    kept.load().unwrap_or_else(|error| {
        tracing::error!(%error, "the kept token book cannot be read");
        HashMap::new()
    })
}

fn local_developer() -> Principal {
    Principal::new(
        PrincipalKind::LocalDeveloper,
        "local-developer".to_owned(),
        None,
        vec![Role::Admin],
    )
}

fn open_stops(path: &std::path::Path) -> Stops {
    match StopFile::open(path) {
        Ok((file, pending)) => {
            let lost = &file.damage().lost;
            if !lost.is_empty() {
                tracing::error!(
                    blocks = ?lost,
                    "damaged blocks in the stop file: a kill or rollback may be lost; look at what is served"
                );
            }
            Stops::new(Some(file), pending)
        }
        Err(error) => {
            tracing::error!(%error, "the stop file cannot be opened; stops will not be durable");
            Stops::new(None, Vec::new())
        }
    }
}

fn serve_last_good(
    kept: &LastGood,
    stops: &Stops,
    live: &Live,
    now_us: i64,
) -> std::io::Result<()> {
    let Loaded { sets, problems } = kept.load()?;
    for problem in problems {
        tracing::error!(%problem, "a kept flag set cannot be read and is passed over");
    }
    let overlay = stops.overlay();
    for (project, source) in sets {
        live.update(&project, |_| {
            let mut set = assemble(&project, &source, &overlay, None);
            set.stale_since_us = Some(now_us);
            Some(set)
        });
    }
    Ok(())
}

/// Tries to open storage and to have the default project in it.
async fn open_storage(app: &App, settings: &Settings) -> bool {
    if app.storage.get().is_some() {
        return true;
    }
    let options = SqliteOptions::new(settings.data_dir.join("tidegate.db"));
    match SqliteStore::open(options).await {
        Ok(store) => {
            let store = Arc::new(store);
            if let Err(error) = ensure_default_project(store.as_ref(), app.clock.now_us()).await {
                tracing::error!(%error, "the default project cannot be made");
                return false;
            }
            let _ = app.storage.set(store);
            true
        }
        Err(error) => {
            tracing::error!(%error, "storage cannot be opened; serving what was served last");
            false
        }
    }
}

async fn ensure_default_project(
    store: &dyn tidegate_store::Store,
    now_us: i64,
) -> Result<(), StoreError> {
    let key = ProjectKey::parse(crate::DEFAULT_PROJECT)?;
    if store.project_get(&key).await?.is_some() {
        return Ok(());
    }
    let put = ProjectPut {
        key,
        name: "Default".to_owned(),
        expected: Expected::Absent,
        by: By::new(Actor::system("start"), now_us),
    };
    store.project_put(put).await.map(|_| ())
}

/// Opens storage as soon as it can be, with growing pauses between tries.
async fn keep_storage_open(app: App, settings: Settings, shutdown: CancellationToken) {
    let mut pause = Duration::from_millis(500);
    while app.storage.get().is_none() {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if open_storage(&app, &settings).await {
            app.changed.notify_one();
        }
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}
