//! Webhooks at a steady rate: the real server on loopback, GitHub's signature, one sync before each answer.
//!
//! Bounded in time and count: [`RATE`] a second for [`SECONDS`] seconds over [`CONNECTIONS`] kept connections.
//! Latency counts from when a request was due, so a stall is paid by every request it delays.
//! Afterwards the log must hold every delivery that was answered, once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tidegate_delivery::webhook::hmac_sha256;

const RATE: u32 = 500;
const SECONDS: u32 = 20;
const CONNECTIONS: u32 = 8;
const CEILING: Duration = Duration::from_millis(50);
const TOKEN: &str = "a-bench-token-of-thirty-two-characters-or-more";

/// Measures, and says whether the ceiling was kept.
pub(crate) fn measure(tidegate: &Path, data: &Path) -> anyhow::Result<bool> {
    let mut server = Server::start(tidegate, data)?;
    let secret = server.secret()?;
    let started = Instant::now() + Duration::from_millis(200);
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|sender| {
            let (address, secret) = (server.address.clone(), secret.clone());
            std::thread::spawn(move || send(&address, &secret, sender, started))
        })
        .collect();
    let mut latencies = Vec::new();
    for sender in senders {
        let sent = sender
            .join()
            .map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        latencies.extend(sent);
    }
    let wall = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() * share / 1000).min(latencies.len() - 1)];
    println!(
        "webhooks: {} in {wall:.1} s ({:.0}/s), answered p50 {:.1} ms, p99 {:.1} ms (ceiling 50), slowest {:.1} ms",
        latencies.len(),
        latencies.len() as f64 / wall,
        milliseconds(at(500)),
        milliseconds(at(990)),
        milliseconds(at(1000)),
    );
    let wanted = latencies.len();
    let counted = server.deployments(wanted)?;
    println!("in the log afterwards: {counted} of {wanted}");
    server.stop()?;
    Ok(at(990) < CEILING && counted == wanted)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// One connection's share of the load.
fn send(
    address: &str,
    secret: &str,
    sender: u32,
    started: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut connection = Connection::open(address)?;
    let count = RATE * SECONDS / CONNECTIONS;
    let mut latencies = Vec::with_capacity(count as usize);
    for nth in 0..count {
        let number = nth * CONNECTIONS + sender;
        let due = started + Duration::from_secs(1) * number / RATE;
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        let status = connection.webhook(secret, number)?;
        if status != 202 {
            bail!("webhook {number} was answered with {status}");
        }
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

struct Connection {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            address: address.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    fn webhook(&mut self, secret: &str, number: u32) -> anyhow::Result<u16> {
        let body = format!(
            r#"{{"deployment":{{"id":{number},"sha":"{:040x}","ref":"v{number}","environment":"production","created_at":"2025-03-04T10:00:00Z"}},"deployment_status":{{"state":"success","created_at":"2025-03-04T10:00:00Z"}},"repository":{{"name":"shop"}},"padding":"{}"}}"#,
            number + 1,
            "x".repeat(6000)
        );
        let code = hmac_sha256(secret.as_bytes(), &[body.as_bytes()]);
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        let headers = format!(
            "x-github-event: deployment_status\r\nx-github-delivery: bench-{number}\r\nx-hub-signature-256: sha256={hex}\r\n"
        );
        let path = "/api/v1/projects/default/webhooks/github";
        Ok(self.exchange("POST", path, &headers, &body)?.0)
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> anyhow::Result<(u16, String)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("a status")?.parse()?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status, String::from_utf8(answer)?))
    }
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(tidegate: &Path, data: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(tidegate)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .env("TIDEGATE_BOOTSTRAP_TOKEN", TOKEN)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .context("it does not listen")?
            .to_owned();
        Ok(Self { child, address })
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        let headers = format!("authorization: Bearer {TOKEN}\r\n");
        let mut connection = Connection::open(&self.address)?;
        let (status, answer) = connection.exchange(method, path, &headers, body)?;
        if status >= 400 {
            bail!("{method} {path}: {status} {answer}");
        }
        Ok(answer)
    }

    fn secret(&mut self) -> anyhow::Result<String> {
        let path = "/api/v1/projects/default/delivery/secrets";
        let answer = self.ask("POST", path, r#"{"source":"github"}"#)?;
        let after = answer.split_once(r#""secret":""#).context("a secret")?.1;
        Ok(after.split_once('"').context("its end")?.0.to_owned())
    }

    /// Deployments in the log, when they are all there or ten seconds are over.
    fn deployments(&mut self, wanted: usize) -> anyhow::Result<usize> {
        let path =
            "/api/v1/projects/default/delivery/metrics?service=shop&from=2025-01-01&to=2026-01-01";
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = self.ask("GET", path, "")?;
            let count = answer
                .split_once(r#""metric":"deployments""#)
                .and_then(|(_, rest)| rest.split_once(r#""n":"#))
                .and_then(|(_, rest)| rest.split(',').next()?.parse().ok())
                .unwrap_or(0);
            if count >= wanted || Instant::now() > until {
                return Ok(count);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
