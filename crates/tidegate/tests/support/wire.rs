//! One HTTP/1.1 request per connection, byte for byte as the test wants it.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// What came back.
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// The body as JSON, `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(formatter, "{} {:?} {body}", self.status, self.headers)
    }
}

/// Sends one request with its length declared and reads the whole answer.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = connect(address);
    let mut sent = head(method, path, headers);
    sent.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut bytes = sent.into_bytes();
    bytes.extend_from_slice(body);
    // A server may answer and hang up before it has read everything.
    let _ = stream.write_all(&bytes);
    read(&stream).unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}"))
}

/// As [`request`], but says nothing if the server hung up without an answer.
pub fn try_request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let mut bytes = head(method, path, headers).into_bytes();
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).ok()?;
    read(&stream).ok()
}

/// Sends one request and reads the head of the answer only: streams never end.
pub fn status_of(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = connect(address);
    let mut bytes = head(method, path, headers).into_bytes();
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    let _ = stream.write_all(&bytes);
    read_head(&mut BufReader::new(&stream))
        .unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}"))
}

/// Declares `length` bytes, sends none, and reads the answer.
pub fn declare(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    length: u64,
) -> Answer {
    let mut stream = connect(address);
    let sent = head(method, path, headers) + &format!("content-length: {length}\r\n\r\n");
    stream.write_all(sent.as_bytes()).unwrap();
    read(&stream).unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}"))
}

/// Sends `length` bytes in chunks without declaring them, until the server hangs up. Returns how
/// many it took and the answer, if one was readable.
pub fn stream_body(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    length: u64,
) -> (u64, Option<Answer>) {
    const CHUNK: usize = 64 * 1024;
    let mut stream = connect(address);
    let sent = head(method, path, headers) + "transfer-encoding: chunked\r\n\r\n";
    stream.write_all(sent.as_bytes()).unwrap();
    let mut chunk = format!("{CHUNK:x}\r\n").into_bytes();
    chunk.extend(std::iter::repeat_n(b' ', CHUNK));
    chunk.extend_from_slice(b"\r\n");
    let mut taken = 0;
    while taken < length && stream.write_all(&chunk).is_ok() {
        taken += CHUNK as u64;
    }
    (taken, read(&stream).ok())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text
}

fn read(stream: &TcpStream) -> std::io::Result<Answer> {
    let mut reader = BufReader::new(stream);
    let mut answer = read_head(&mut reader)?;
    if answer.header("transfer-encoding") == Some("chunked") {
        read_chunks(&mut reader, &mut answer.body)?;
    } else if let Some(length) = answer.header("content-length") {
        answer.body = vec![0; length.parse().map_err(std::io::Error::other)?];
        reader.read_exact(&mut answer.body)?;
    } else {
        reader.read_to_end(&mut answer.body)?;
    }
    Ok(answer)
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Answer> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("no status line: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let body = Vec::new();
    Ok(Answer {
        status,
        headers,
        body,
    })
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let start = body.len();
        body.resize(start + size + 2, 0);
        reader.read_exact(&mut body[start..])?;
        body.truncate(start + size);
        if size == 0 {
            return Ok(());
        }
    }
}
