//! HTTP/1.1 as far as a benchmark needs it: one request at a time on a connection that stays open.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::process::TOKEN;

/// The bytes of a request.
pub fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The bytes of a request for one flag's value for one unit.
pub fn evaluation(flag: &str, unit: &str) -> Vec<u8> {
    let body = format!(r#"{{"context":{{"targetingKey":"{unit}"}}}}"#);
    request("POST", &format!("/ofrep/v1/evaluate/flags/{flag}"), &body)
}

/// Status and length of an answer's body from its head.
pub fn head(text: &str) -> (u16, usize) {
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let length = lines
        .filter_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        })
        .next();
    (status.unwrap().parse().unwrap(), length.unwrap_or(0))
}

/// One connection.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn ask(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let text = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let (status, answer) = self.exchange(&request(method, path, &text));
        (status, serde_json::from_slice(&answer).unwrap_or_default())
    }

    pub fn text(&mut self, path: &str) -> String {
        let (status, body) = self.exchange(&request("GET", path, ""));
        assert_eq!(status, 200, "{path}");
        String::from_utf8(body).unwrap()
    }

    pub fn exchange(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        self.0.get_mut().write_all(request).unwrap();
        let mut text = String::new();
        loop {
            let before = text.len();
            let read = self.0.read_line(&mut text).unwrap();
            assert!(read > 0, "the server hung up after {text:?}");
            if text[before..].trim_end().is_empty() {
                break;
            }
        }
        let (status, length) = head(&text);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, body)
    }
}
