//! Clients that listen: how soon they learn of a change, and what they cost while nothing happens.
//!
//! Every client has a connection of its own, as programs on different machines have. What a stream
//! costs where ten share a connection, as behind a relay, is measured beside it. A change is one flag written through the API; a client's
//! delay is counted from sending that request, so the commit to disk and the compilation of the
//! 1,000 flags are in it, and from its answer, which is when whoever changed it is told.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::client::{Connection, get_flag, put_flag};
use crate::server::{Server, TOKEN};

/// How long after their first message streams count as idle.
const UNTIL_IDLE: Duration = Duration::from_secs(3);

/// How a client listens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// OFREP's event stream over HTTP/1.1.
    Sse,
    /// `flagd.evaluation.v1` EventStream over gRPC.
    EventStream,
    /// `flagd.sync.v1` SyncFlags over gRPC: the whole set each time.
    SyncFlags,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sse => "SSE",
            Self::EventStream => "EventStream",
            Self::SyncFlags => "SyncFlags",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Sse => "/ofrep/v1/events",
            Self::EventStream => "/flagd.evaluation.v1.Service/EventStream",
            Self::SyncFlags => "/flagd.sync.v1.FlagSyncService/SyncFlags",
        }
    }
}

/// What a number of clients of one kind were seen to do.
pub struct Seen {
    /// From sending the change to each client's learning of it, sorted.
    pub since_sent: Vec<Duration>,
    /// From the answer to the change, sorted; nothing for those that learned before it.
    pub since_answered: Vec<Duration>,
    /// From sending the change to its answer, sorted.
    pub writes: Vec<Duration>,
    /// Resident KiB for each idle stream.
    pub kib_each: f64,
}

/// A message that a client received.
type Heard = UnboundedSender<Instant>;

/// Opens `clients` streams, `each` of them to a connection, lets them idle, then makes `changes`
/// changes one after the other.
fn listen(server: &Server, kind: Kind, clients: usize, each: usize, changes: usize) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let before = server.resident_kib();
        let (heard, mut news) = unbounded_channel();
        for _ in 0..clients / each {
            tokio::spawn(follow(server.address, kind, each, heard.clone()));
        }
        wait_for_all(&mut news, clients).await;
        tokio::time::sleep(UNTIL_IDLE).await;
        let kib_each = (server.resident_kib() - before) / clients as f64;
        let mut seen = Seen {
            since_sent: Vec::new(),
            since_answered: Vec::new(),
            writes: Vec::new(),
            kib_each,
        };
        for change in 0..changes {
            let (sent, answered, learned) = one_change(server, change, &mut news, clients).await;
            let since = |start: Instant| learned.iter().map(move |at| at.duration_since(start));
            seen.since_sent.extend(since(sent));
            seen.since_answered.extend(since(answered));
            seen.writes.push(answered.duration_since(sent));
        }
        seen.since_sent.sort_unstable();
        seen.since_answered.sort_unstable();
        seen.writes.sort_unstable();
        seen
    })
}

async fn one_change(
    server: &Server,
    change: usize,
    news: &mut UnboundedReceiver<Instant>,
    clients: usize,
) -> (Instant, Instant, Vec<Instant>) {
    let address = server.address;
    let write = tokio::task::spawn_blocking(move || {
        let mut connection = Connection::open(address);
        let (_, revision) = connection.ask(&get_flag());
        let request = put_flag(&revision.expect("a flag has a revision"), change);
        let sent = Instant::now();
        let (status, _) = connection.ask(&request);
        assert_eq!(status, 200, "the change is taken");
        (sent, Instant::now())
    });
    let learned = wait_for_all(news, clients).await;
    let (sent, answered) = write.await.unwrap();
    (sent, answered, learned)
}

async fn wait_for_all(news: &mut UnboundedReceiver<Instant>, clients: usize) -> Vec<Instant> {
    let mut heard = Vec::with_capacity(clients);
    let all = async {
        while heard.len() < clients {
            heard.push(news.recv().await.expect("clients listen"));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("every client hears of it");
    heard
}

async fn follow(address: SocketAddr, kind: Kind, streams: usize, heard: Heard) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    match kind {
        Kind::Sse => follow_lines(stream, kind, heard).await,
        Kind::EventStream | Kind::SyncFlags => {
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            let connection = tokio::spawn(connection);
            for _ in 0..streams {
                let sender = sender.clone().ready().await.unwrap();
                tokio::spawn(follow_messages(sender, kind, heard.clone()));
            }
            // It ends with the server, when what was asked has been measured.
            let _ = connection.await;
        }
    }
}

/// Counts events of a server-sent stream.
async fn follow_lines(mut stream: TcpStream, kind: Kind, heard: Heard) {
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\r\n",
        kind.path()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    const EVENT: &[u8] = b"data: ";
    let (mut chunk, mut tail) = ([0; 1024], Vec::new());
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        let now = Instant::now();
        assert!(read > 0, "the server ended a stream");
        tail.extend_from_slice(&chunk[..read]);
        while let Some(place) = tail.windows(EVENT.len()).position(|window| window == EVENT) {
            tail.drain(..place + EVENT.len());
            heard.send(now).unwrap();
        }
        tail.drain(..tail.len().saturating_sub(EVENT.len() - 1));
    }
}

/// Counts messages of a gRPC stream; the request is an empty message.
async fn follow_messages(mut sender: SendRequest<Bytes>, kind: Kind, heard: Heard) {
    let request = http::Request::post(format!("http://bench{}", kind.path()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(())
        .unwrap();
    let (response, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    let mut answer = response.await.unwrap().into_body();
    let mut missing = Frame::Head(Vec::with_capacity(5));
    while let Some(data) = answer.data().await {
        let Ok(data) = data else { return };
        answer.flow_control().release_capacity(data.len()).unwrap();
        let now = Instant::now();
        for _ in 0..missing.take(&data) {
            heard.send(now).unwrap();
        }
    }
    panic!("the server ended a stream");
}

/// How far the message at hand has come.
enum Frame {
    Head(Vec<u8>),
    Body(usize),
}

impl Frame {
    /// Takes `data` and returns how many messages it completed.
    fn take(&mut self, mut data: &[u8]) -> usize {
        let mut complete = 0;
        while !data.is_empty() {
            match self {
                Self::Head(head) => {
                    let wanted = (5 - head.len()).min(data.len());
                    head.extend_from_slice(&data[..wanted]);
                    data = &data[wanted..];
                    if let [_, length @ ..] = head.as_slice()
                        && let Ok(length) = <[u8; 4]>::try_from(length)
                    {
                        *self = Self::Body(u32::from_be_bytes(length) as usize);
                    }
                }
                Self::Body(missing) => {
                    let taken = (*missing).min(data.len());
                    *missing -= taken;
                    data = &data[taken..];
                }
            }
            if matches!(self, Self::Body(0)) {
                complete += 1;
                *self = Self::Head(Vec::with_capacity(5));
            }
        }
        complete
    }
}

/// The value that `per_mille` of a thousand do not exceed.
pub fn quantile(sorted: &[Duration], per_mille: usize) -> Duration {
    sorted[(sorted.len() * per_mille / 1000).min(sorted.len() - 1)]
}

/// A server that is shared by nobody and started anew for each kind, so that what one kind left
/// behind in memory is not counted for the next.
pub fn report(server: &mut Server, report: &mut crate::report::Report) {
    for (kind, clients, changes, most) in [
        (Kind::Sse, 1_000, 10, 50.0),
        (Kind::EventStream, 1_000, 10, 50.0),
        (Kind::SyncFlags, 100, 10, 500.0),
    ] {
        server.restart();
        let seen = listen(server, kind, clients, 1, changes);
        let name = kind.name();
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let (sent, answered) = (&seen.since_sent, &seen.since_answered);
        println!(
            "{clients} {name}: since the change was sent p50 {:?}, p99 {:?}; \
             since it was answered p50 {:?}, p99 {:?}; the write itself p50 {:?}; \
             {:.1} KiB for each idle stream",
            quantile(sent, 500),
            quantile(sent, 990),
            quantile(answered, 500),
            quantile(answered, 990),
            quantile(&seen.writes, 500),
            seen.kib_each
        );
        let what = format!("{clients} {name} learn of a change, p99 since it was sent");
        report.at_most(what, ms(quantile(sent, 990)), most, "ms");
        let what = format!("{name}: memory for each idle stream and its connection");
        report.at_most(what, seen.kib_each, 20.0, "KiB");
    }
    server.restart();
    let shared = listen(server, Kind::EventStream, 1_000, 10, 1);
    let what = "EventStream: memory for each idle stream, ten to a connection";
    report.at_most(what, shared.kib_each, 20.0, "KiB");
}
