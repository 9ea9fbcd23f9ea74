//! A thousand clients with the change in their hands: each listens on an OFREP event stream and asks
//! again when it is told to, as OFREP providers do.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::now_us;
use crate::process::TOKEN;
use crate::wire::{evaluation, head};

/// What a client reports.
pub enum News {
    /// Its unit has the change.
    Ready,
    /// It asked again and was served control.
    Control {
        /// When the event came.
        told_us: i64,
        /// When the answer came.
        served_us: i64,
    },
}

/// The clients, on a thread of their own.
pub struct Clients {
    flag: watch::Sender<String>,
    news: UnboundedReceiver<News>,
    number: usize,
    _thread: JoinHandle<()>,
}

impl Clients {
    pub fn listen(address: SocketAddr, number: usize) -> Self {
        let (flag, flags) = watch::channel(String::new());
        let (heard, news) = unbounded_channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let clients: Vec<_> = (0..number)
                    .map(|client| tokio::spawn(live(address, client, flags.clone(), heard.clone())))
                    .collect();
                for client in clients {
                    let _ = client.await;
                }
            });
        });
        Self {
            flag,
            news,
            number,
            _thread: thread,
        }
    }

    /// Has every client take the change of `flag`.
    pub fn take(&mut self, flag: &str) {
        self.flag.send(flag.to_owned()).unwrap();
        for _ in 0..self.number {
            assert!(matches!(self.news.blocking_recv(), Some(News::Ready)));
        }
    }

    /// Waits until every client is served control; when each was told, and when it was served.
    pub fn until_control(&mut self) -> Vec<(i64, i64)> {
        let next = |_| match self.news.blocking_recv() {
            Some(News::Control { told_us, served_us }) => (told_us, served_us),
            _ => panic!("a client was ready twice"),
        };
        (0..self.number).map(next).collect()
    }
}

async fn live(
    address: SocketAddr,
    client: usize,
    mut flags: watch::Receiver<String>,
    heard: UnboundedSender<News>,
) {
    let mut stream = Stream::open(address).await;
    let mut asking = connect(address).await;
    while flags.changed().await.is_ok() {
        let flag = flags.borrow_and_update().clone();
        let mut unit = String::new();
        for attempt in 0.. {
            unit = format!("client-{client}-{attempt}");
            if has_change(&mut asking, &flag, &unit).await {
                break;
            }
        }
        stream.forget().await;
        heard.send(News::Ready).unwrap();
        loop {
            let told_us = stream.told().await;
            if !has_change(&mut asking, &flag, &unit).await {
                let served_us = now_us();
                heard.send(News::Control { told_us, served_us }).unwrap();
                break;
            }
        }
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Whether a unit is served the change.
async fn has_change(stream: &mut TcpStream, flag: &str, unit: &str) -> bool {
    stream.write_all(&evaluation(flag, unit)).await.unwrap();
    let (mut text, mut chunk) = (Vec::new(), [0; 2048]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the server hung up");
        text.extend_from_slice(&chunk[..read]);
        let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let (status, length) = head(std::str::from_utf8(&text[..end]).unwrap());
        assert_eq!(status, 200);
        if text.len() >= end + 4 + length {
            let body: serde_json::Value = serde_json::from_slice(&text[end + 4..]).unwrap();
            return body["value"] == true;
        }
    }
}

/// An open event stream.
struct Stream {
    stream: TcpStream,
    tail: Vec<u8>,
}

impl Stream {
    async fn open(address: SocketAddr) -> Self {
        let mut stream = connect(address).await;
        let request = format!(
            "GET /ofrep/v1/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let tail = Vec::new();
        Self { stream, tail }
    }

    /// Waits for the next event; when it came.
    async fn told(&mut self) -> i64 {
        const EVENT: &[u8] = b"data: ";
        let mut chunk = [0; 1024];
        loop {
            if let Some(at) = self
                .tail
                .windows(EVENT.len())
                .position(|part| part == EVENT)
            {
                self.tail.drain(..at + EVENT.len());
                return now_us();
            }
            let read = self.stream.read(&mut chunk).await.unwrap();
            assert!(read > 0, "the server ended a stream");
            self.tail.extend_from_slice(&chunk[..read]);
        }
    }

    /// Forgets what was told so far: the changes that led here.
    async fn forget(&mut self) {
        let mut chunk = [0; 1024];
        let quiet = std::time::Duration::from_millis(20);
        while let Ok(read) = tokio::time::timeout(quiet, self.stream.read(&mut chunk)).await {
            assert!(read.unwrap() > 0, "the server ended a stream");
        }
        self.tail.clear();
    }
}
