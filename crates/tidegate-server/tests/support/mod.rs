//! A real server on a free loopback port, and clients that know nothing of its inside.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidegate_server::access::{AccessBook, Principal, PrincipalKind, Role};
use tidegate_server::app::{App, Parts};
use tidegate_server::clock::{Clock, SystemClock};
use tidegate_server::delivery::Delivery;
use tidegate_server::events::{Events, Followers};
use tidegate_server::listener::{self, Door, Drained, FlagdPort};
use tidegate_server::live::{Live, Source, assemble};
use tidegate_server::otlp::{Otlp, waiting_room};
use tidegate_server::rate_limit::{RateLimit, RateLimits};
use tidegate_server::rollouts::Rollouts;
use tidegate_server::stops::{Overlay, Stops};
use tidegate_server::streams::Streams;
use tidegate_store::audit::CheckpointSigner;
use tidegate_store::{
    Actor, By, Expected, ObjectStore as _, ProjectKey, ProjectPut, SqliteOptions, SqliteStore,
    Store,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// How long a test waits for something that must happen, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub struct Server {
    pub app: App,
    pub address: SocketAddr,
    /// Evaluation, sync and OFREP without credentials.
    pub flagd: [SocketAddr; 3],
    serving: JoinHandle<Drained>,
    _folder: tempfile::TempDir,
}

/// What differs from the ordinary.
pub struct Settings {
    pub flags: Value,
    pub asks_for_credentials: bool,
    pub keep_alive: Duration,
    pub most_streams: usize,
    pub limits: listener::Limits,
    /// Whether flags can be written through the server.
    pub keeps_state: bool,
    /// Whether audit checkpoints are signed.
    pub signs: bool,
    pub clock: Arc<dyn Clock>,
    /// Requests per credential.
    pub rate_limit: Option<RateLimit>,
    /// How long spans wait for what their trace was served.
    pub join_window: Duration,
    /// How long a report may take.
    pub report_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flags: json!({}),
            asks_for_credentials: false,
            keep_alive: Duration::from_secs(20),
            most_streams: 100,
            limits: listener::Limits::default(),
            keeps_state: false,
            signs: false,
            clock: Arc::new(SystemClock::start()),
            rate_limit: None,
            join_window: Duration::from_millis(500),
            report_limit: tidegate_server::reports::USUAL_LIMIT,
        }
    }
}

/// The credential of the default project's administrator.
pub const ADMIN: &str = "an-administrator-with-a-long-token-0123456789";

impl Server {
    pub async fn start(flags: Value) -> Self {
        Self::with(Settings {
            flags,
            ..Settings::default()
        })
        .await
    }

    pub async fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut streams = Streams::new("test", settings.most_streams);
        streams.keep_alive = settings.keep_alive;
        let closing = streams.closing.clone();
        let everyone = Principal::new(
            PrincipalKind::LocalDeveloper,
            "local-developer".to_owned(),
            None,
            vec![Role::Admin],
        );
        let book = AccessBook::new(Default::default(), Some(AccessBook::bootstrap_entry(ADMIN)));
        let rollouts = Rollouts::default();
        let followers = Followers::new(vec![rollouts.follower(Arc::clone(&settings.clock))]);
        let app = App::new(Parts {
            storage: OnceLock::new(),
            events: Events::open(folder.path(), Arc::new(followers))
                .unwrap()
                .answering_within(settings.report_limit),
            otlp: Otlp::open(folder.path(), settings.join_window),
            delivery: Delivery::open(folder.path()).unwrap(),
            live: Live::default(),
            access: ArcSwap::from_pointee(book),
            open_door: (!settings.asks_for_credentials).then_some(everyone),
            limits: RateLimits::new(settings.rate_limit),
            flag_limits: tidegate_flags::Limits::default(),
            stops: Stops::new(None, Vec::new()),
            rollouts,
            streams,
            operations: tidegate_server::operations::Operations {
                signer: settings.signs.then(|| {
                    CheckpointSigner::open_or_create(&folder.path().join("signing.key")).unwrap()
                }),
                ..Default::default()
            },
            clock: settings.clock,
            loading: tokio::sync::Mutex::default(),
            kept_credentials: None,
            data_dir_lock: None,
            changed: Notify::new(),
        });
        if settings.keeps_state {
            let store = store_in(folder.path()).await;
            assert!(app.storage.set(store).is_ok());
        }
        let any = || TcpListener::bind(("127.0.0.1", 0));
        let main = any().await.unwrap();
        let address = main.local_addr().unwrap();
        let mut doors = vec![Door::main(main)];
        let mut flagd = [address; 3];
        for (port, place) in FlagdPort::ALL.into_iter().zip(&mut flagd) {
            let listener = any().await.unwrap();
            *place = listener.local_addr().unwrap();
            doors.push(Door::flagd_on(listener, port, "default"));
        }
        let (router, _) = tidegate_server::http::router(&app);
        let limits = settings.limits;
        tokio::spawn(waiting_room::run(app.clone(), closing.clone()));
        let serving =
            tokio::spawn(async move { listener::serve(doors, &router, limits, closing).await });
        let server = Self {
            app,
            address,
            flagd,
            serving,
            _folder: folder,
        };
        server.serve(settings.flags);
        server
    }

    /// Serves these flags from now on.
    pub fn serve(&self, flags: Value) {
        let Value::Object(flags) = flags else {
            panic!("flags are an object")
        };
        self.app.live.update("default", |previous| {
            let source = Source {
                config_version: previous.map_or(1, |set| set.config_version + 1),
                epoch: 0,
                flags: flags.into_iter().collect(),
                ..Source::default()
            };
            Some(assemble("default", &source, &Overlay::default(), previous))
        });
    }

    pub async fn channel(&self) -> Channel {
        channel(self.address).await
    }

    /// Drains and says what had to be cut.
    pub async fn stop(self) -> Drained {
        self.app.streams.closing.cancel();
        within(self.serving).await.unwrap()
    }
}

async fn store_in(folder: &std::path::Path) -> Arc<dyn Store> {
    let store = SqliteStore::open(SqliteOptions::new(folder.join("state.db")))
        .await
        .unwrap();
    let key = ProjectKey::parse("default").unwrap();
    let by = By::new(Actor::system("test"), 0);
    store
        .project_put(ProjectPut {
            key,
            name: "Default".to_owned(),
            expected: Expected::Absent,
            by,
        })
        .await
        .unwrap();
    Arc::new(store)
}

pub async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// What must happen, and soon enough.
pub async fn within<F: Future>(something: F) -> F::Output {
    tokio::time::timeout(PATIENCE, something)
        .await
        .expect("it happens in time")
}

/// Sends one HTTP/1.1 request and returns the answer with its body unread.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    within(sender.send_request(request)).await.unwrap()
}

/// Sends JSON and reads JSON.
pub async fn json(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (u16, Value) {
    let mut headers = headers.to_vec();
    headers.push(("content-type", "application/json"));
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let response = send(address, method, path, &headers, body).await;
    let status = response.status().as_u16();
    let bytes = within(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

/// Flags of every kind and condition.
pub fn flags() -> Value {
    json!({
        "on": {
            "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"
        },
        "plan": {
            "state": "ENABLED",
            "variants": {"free": "none", "pro": "some"},
            "defaultVariant": "free",
            "targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "pro"]},
            "metadata": {"owner": "sales"}
        },
        "whole": {
            "state": "ENABLED", "variants": {"ten": 10, "half": 0.5}, "defaultVariant": "ten"
        },
        "part": {
            "state": "ENABLED", "variants": {"half": 0.5}, "defaultVariant": "half"
        },
        "thing": {
            "state": "ENABLED", "variants": {"a": {"x": [1, 2.5, "y"]}}, "defaultVariant": "a"
        },
        "disabled": {
            "state": "DISABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"
        },
        "undecided": {
            "state": "ENABLED", "variants": {"on": true, "off": false}
        },
        "elsewhere": {
            "state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on",
            "metadata": {"flagSetId": "other"}
        }
    })
}
