//! One port for every protocol: HTTP/1.1, h2c, gRPC and event streams on the same listener.
//!
//! The first bytes of a connection tell HTTP/1 from HTTP/2; everything after that is one router.
//! What a connection may cost is bounded before the router sees it: how many there are, how long
//! the first bytes and the headers may take, how large headers may be, and how long a peer may
//! refuse to read what it asked for ([`guard`]). The limit leaves descriptors for the disk, so that
//! running out of connections never means running out of files. At the limit a few connections
//! are still taken, briefly, and answered nothing but stops and questions after health: whoever
//! fills the house cannot keep its people from shutting a flag. Beyond those, new connections are
//! closed at once, so that a peer learns of it instead of waiting.
//!
//! HTTP/2 pings of clients are answered however often they come, with or without open streams:
//! flagd's providers ping every 10 to 30 seconds and take a GOAWAY for an outage.
//!
//! Draining: the process cancels `closing`; streams say goodbye, idle connections close, requests
//! in flight finish, and what is left at the deadline is cut and counted.

mod descriptors;
mod door;
mod guard;

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use door::{Door, DoorPrincipal, FlagdPort};
use guard::Guarded;

/// How long the accept loop rests after the machine refused it a connection.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);

/// How long a connection of the reserve lasts.
const IN_RESERVE: Duration = Duration::from_secs(5);

/// Marks a request that came by the reserve: see [`crate::http::routes`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct InReserve;

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections over all ports.
    pub connections: usize,
    /// Open connections beyond those, for stops alone.
    pub reserve: usize,
    /// Streams at a time within one HTTP/2 connection. Relays put many clients into one.
    pub streams_per_connection: u32,
    /// Bytes of request line and headers.
    pub header_bytes: u32,
    /// From accepting a connection to its first request's first bytes.
    pub first_bytes: Duration,
    /// From the first to the last byte of an HTTP/1 head.
    pub headers: Duration,
    /// How long a peer may accept no byte of what waits for it.
    pub stalled_write: Duration,
    /// How often an HTTP/2 peer is asked whether it lives.
    pub ping: Duration,
    /// From the begin of draining to cutting what is left.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            reserve: 16,
            streams_per_connection: 2_000,
            header_bytes: 32 * 1024,
            first_bytes: Duration::from_secs(10),
            headers: Duration::from_secs(15),
            stalled_write: Duration::from_secs(30),
            ping: Duration::from_secs(60),
            drain: Duration::from_secs(8),
        }
    }
}

impl Limits {
    /// The ordinary limits, with no more connections than this process has descriptors for.
    #[must_use]
    pub fn of_this_process() -> Self {
        let ordinary = Self::default();
        let connections = descriptors::for_connections(ordinary.connections, ordinary.reserve);
        if connections < ordinary.connections {
            tracing::info!(
                connections,
                "the limit of open files bounds how many connections are taken"
            );
        }
        Self {
            connections,
            ..ordinary
        }
    }
}

/// What draining left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had to be cut at the deadline.
    pub cut: usize,
}

/// Serves `router` behind every door until `closing` is cancelled and the rest is drained.
pub async fn serve(
    doors: Vec<Door>,
    router: &Router,
    limits: Limits,
    closing: CancellationToken,
) -> Drained {
    let house = Arc::new(House::new(limits, closing.clone()));
    let doors_open = TaskTracker::new();
    for door in doors {
        let router = door.fitted(router.clone());
        doors_open.spawn(accept(door, router, Arc::clone(&house)));
    }
    doors_open.close();
    closing.cancelled().await;
    doors_open.wait().await;
    house.drain().await
}

/// What all connections share.
struct House {
    limits: Limits,
    builder: Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    connections: TaskTracker,
    graceful: std::sync::Mutex<Option<GracefulShutdown>>,
    closing: CancellationToken,
    cut: CancellationToken,
}

impl House {
    fn new(limits: Limits, closing: CancellationToken) -> Self {
        Self {
            limits,
            builder: builder(&limits),
            places: Arc::new(Semaphore::new(limits.connections)),
            reserve: Arc::new(Semaphore::new(limits.reserve)),
            connections: TaskTracker::new(),
            graceful: std::sync::Mutex::new(Some(GracefulShutdown::new())),
            closing,
            cut: CancellationToken::new(),
        }
    }

    /// A place for one more connection, and whether it is one of the reserve.
    fn place(&self) -> Option<(OwnedSemaphorePermit, bool)> {
        let free = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        free(&self.places)
            .map(|place| (place, false))
            .or_else(|| Some((free(&self.reserve)?, true)))
    }

    /// `None` once draining has begun.
    fn watcher(&self) -> Option<Watcher> {
        self.lock().as_ref().map(GracefulShutdown::watcher)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<GracefulShutdown>> {
        self.graceful
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn drain(&self) -> Drained {
        self.connections.close();
        let graceful = self.lock().take();
        if let Some(graceful) = graceful {
            // The deadline passing is no error: what is left is cut below.
            let _ = tokio::time::timeout(self.limits.drain, graceful.shutdown()).await;
        }
        let cut = self.connections.len();
        self.cut.cancel();
        self.connections.wait().await;
        Drained { cut }
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let header_bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(header_bytes.max(8 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(limits.header_bytes)
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.stalled_write);
    builder
}

async fn accept(door: Door, router: Router, house: Arc<House>) {
    let of_the_reserve = router.clone().layer(Extension(InReserve));
    loop {
        let accepted = tokio::select! {
            () = house.closing.cancelled() => return,
            accepted = door.listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_REFUSAL).await;
                continue;
            }
        };
        let (Some((place, is_in_reserve)), Some(watcher)) = (house.place(), house.watcher()) else {
            tracing::warn!(
                limit = house.limits.connections,
                "a connection was shed at the limit"
            );
            continue;
        };
        let house = Arc::clone(&house);
        let tracker = house.connections.clone();
        if is_in_reserve {
            let connection = connection(stream, of_the_reserve.clone(), house, watcher, place);
            // Whatever it does: others wait for its place.
            tracker.spawn(tokio::time::timeout(IN_RESERVE, connection));
        } else {
            tracker.spawn(connection(stream, router.clone(), house, watcher, place));
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    house: Arc<House>,
    watcher: Watcher,
    place: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small answers may be delayed on this connection");
    }
    let io = TokioIo::new(Guarded::new(stream, &house.limits));
    let served = house
        .builder
        .serve_connection(io, TowerToHyperService::new(router))
        .into_owned();
    tokio::select! {
        () = house.cut.cancelled() => {}
        ended = watcher.watch(served) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        }
    }
    drop(place);
}
