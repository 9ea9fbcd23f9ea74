//! Somebody else's server, which hears everything and answers as badly as it is told to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// What arrived.
#[derive(Debug, Clone)]
pub struct Heard {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Said {
    /// A whole answer.
    Whole(u16, String),
    /// A redirect.
    Elsewhere(String),
    /// Nothing, with the connection kept open.
    Silence,
    /// An answer that promises more than it sends.
    Cut(String),
    /// Bytes that are no HTTP.
    Garbage,
    /// A body without end.
    Endless,
    /// A body of one byte now and then.
    Drip,
}

impl Said {
    pub fn ok(body: impl ToString) -> Self {
        Self::Whole(200, body.to_string())
    }
}

type Handler = Box<dyn Fn(&Heard) -> Said + Send + Sync>;

/// A listener on loopback.
pub struct FarEnd {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    handler: Arc<Mutex<Handler>>,
}

impl FarEnd {
    pub fn start(handler: impl Fn(&Heard) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Mutex<Handler>> = Arc::new(Mutex::new(Box::new(handler)));
        let (log, answer) = (Arc::clone(&heard), Arc::clone(&handler));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &log, &answer));
            }
        });
        Self {
            address,
            heard,
            handler,
        }
    }

    /// Answers differently from now on.
    pub fn now(&self, handler: impl Fn(&Heard) -> Said + Send + Sync + 'static) {
        *lock(&self.handler) = Box::new(handler);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn heard(&self) -> Vec<Heard> {
        lock(&self.heard).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(stream: &TcpStream) -> Option<Heard> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Heard {
        method,
        path,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Heard>>, handler: &Mutex<Handler>) {
    let Some(heard) = read(&stream) else { return };
    let said = lock(handler)(&heard);
    lock(log).push(heard);
    // The other side may have gone; that is its business.
    let _ = answer(&mut stream, said);
}

fn answer(stream: &mut TcpStream, said: Said) -> std::io::Result<()> {
    let close = "connection: close\r\n\r\n";
    match said {
        Said::Whole(status, body) => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{close}{body}"
            )
        }
        Said::Elsewhere(place) => {
            write!(
                stream,
                "HTTP/1.1 307 X\r\nlocation: {place}\r\ncontent-length: 0\r\n{close}"
            )
        }
        Said::Silence => {
            // Until the other side hangs up.
            stream.read_to_end(&mut Vec::new()).map(drop)
        }
        Said::Cut(body) => {
            let length = body.len() + 100;
            write!(
                stream,
                "HTTP/1.1 200 X\r\ncontent-length: {length}\r\n{close}{body}"
            )
        }
        Said::Garbage => stream.write_all(b"220 mail.example ESMTP ready\r\n"),
        Said::Endless => {
            write!(stream, "HTTP/1.1 200 X\r\n{close}")?;
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        }
        Said::Drip => {
            write!(stream, "HTTP/1.1 200 X\r\n{close}")?;
            loop {
                stream.write_all(b" ")?;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}
