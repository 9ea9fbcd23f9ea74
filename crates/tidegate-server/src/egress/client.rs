//! One exchange over HTTP, on a thread that may block, with addresses that were already judged.
//!
//! The resolver handed to the HTTP library knows nothing but those addresses, so what is connected
//! to is what was checked. No proxy of the environment, no redirect, no connection that outlives
//! the exchange: a kept connection would be one that nobody checked again.

use std::fmt;
use std::io::{self, Read as _};
use std::net::{SocketAddr, ToSocketAddrs as _};

use ureq::config::Config;
use ureq::http::{Request, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use super::{EgressError, Incoming, Limits, Outgoing};

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;
/// Largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// How names become addresses.
pub trait Names: fmt::Debug + Send + Sync {
    /// The addresses of `host`, with `port`.
    ///
    /// # Errors
    /// The name has none, or nobody could be asked.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The operating system's resolver.
#[derive(Debug)]
pub struct SystemNames;

impl Names for SystemNames {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// A resolver with one answer.
#[derive(Debug)]
struct Pinned(Vec<SocketAddr>);

impl Resolver for Pinned {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        for address in self.0.iter().take(MAX_ADDRESSES) {
            addresses.push(*address);
        }
        Ok(addresses)
    }
}

/// Sends `request` to one of `addresses`.
pub(super) fn exchange(
    request: &Outgoing,
    credential: Option<(String, String)>,
    addresses: Vec<SocketAddr>,
    limits: Limits,
) -> Result<Incoming, EgressError> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .max_response_header_size(MAX_HEAD)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(limits.time))
        .build();
    let agent = Agent::with_parts(config, DefaultConnector::default(), Pinned(addresses));
    let method = if request.body.is_some() {
        "POST"
    } else {
        "GET"
    };
    let mut builder = Request::builder().method(method).uri(request.to.as_str());
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    if let Some((name, value)) = credential {
        builder = builder.header(name, value);
    }
    let failed = |error: &dyn fmt::Display| EgressError::Failed(error.to_string());
    let broken = |error: Error| match error {
        Error::Timeout(_) => EgressError::Timeout(limits.time),
        error => failed(&error),
    };
    let response = match &request.body {
        Some(body) => {
            let request = builder.body(body.as_slice());
            agent.run(request.map_err(|error| failed(&error))?)
        }
        None => {
            let request = builder.body(());
            agent.run(request.map_err(|error| failed(&error))?)
        }
    };
    let mut response = response.map_err(broken)?;
    let status = response.status().as_u16();
    if (300..400).contains(&status) {
        return Err(EgressError::Redirect { status });
    }
    let most = u64::try_from(limits.bytes).unwrap_or(u64::MAX);
    let mut body = Vec::new();
    let read = response
        .body_mut()
        .as_reader()
        .take(most.saturating_add(1))
        .read_to_end(&mut body);
    match read {
        Ok(_) if body.len() > limits.bytes => Err(EgressError::TooLarge(limits.bytes)),
        Ok(_) => Ok(Incoming { status, body }),
        Err(error) => match Error::from(error) {
            Error::Timeout(_) => Err(EgressError::Timeout(limits.time)),
            error => Err(failed(&error)),
        },
    }
}
