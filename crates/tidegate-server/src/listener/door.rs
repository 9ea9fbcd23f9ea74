//! Ports and who is let in by them.
//!
//! The main port asks every caller for a credential. The three flagd ports cannot: flagd's
//! providers carry none. They are bound to loopback, show one protocol each, and whoever uses
//! them is a `server` of one project. A browser on the same machine can reach loopback too, so
//! a request that a web page could have sent must also be addressed to a loopback name:
//! otherwise a page that points its own name at 127.0.0.1 could read what is served here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tokio::net::TcpListener;

use crate::access::{Principal, PrincipalKind, Role};
use crate::http::dialect::Speech;
use crate::http::problem::Problem;

/// A port that is listened on.
#[derive(Debug)]
pub struct Door {
    pub(super) listener: TcpListener,
    stands_for: Option<StandsFor>,
}

/// The caller that everybody is who comes by a flagd port. Only a [`Door`] can put it into a
/// request: nothing that is sent over the wire can.
#[derive(Debug, Clone)]
pub struct DoorPrincipal(pub Principal);

#[derive(Debug, Clone)]
struct StandsFor {
    principal: DoorPrincipal,
    paths: &'static str,
}

/// The ports that flagd's providers use when nothing is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagdPort {
    /// Evaluation over gRPC, Connect and JSON.
    Evaluation,
    /// Definitions for in-process providers.
    Sync,
    /// OFREP.
    Ofrep,
}

impl FlagdPort {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Evaluation, Self::Sync, Self::Ofrep];

    /// The port number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Evaluation => 8013,
            Self::Sync => 8015,
            Self::Ofrep => 8016,
        }
    }

    /// Where it is bound: on loopback, always.
    #[must_use]
    pub const fn address(self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.number())
    }

    /// What is served there: paths that begin so, and nothing else.
    const fn paths(self) -> &'static str {
        match self {
            Self::Evaluation => "/flagd.evaluation.",
            Self::Sync => "/flagd.sync.",
            Self::Ofrep => "/ofrep/",
        }
    }
}

impl Door {
    /// A door that asks for credentials.
    #[must_use]
    pub fn main(listener: TcpListener) -> Self {
        Self {
            listener,
            stands_for: None,
        }
    }

    /// Binds a flagd port on loopback, acting as a `server` of `project`.
    ///
    /// # Errors
    /// As the machine says, for instance that a flagd runs there already.
    pub async fn flagd(port: FlagdPort, project: &str) -> std::io::Result<Self> {
        Ok(Self::flagd_on(
            TcpListener::bind(port.address()).await?,
            port,
            project,
        ))
    }

    /// As [`Door::flagd`] on a listener of the caller's choice.
    #[must_use]
    pub fn flagd_on(listener: TcpListener, port: FlagdPort, project: &str) -> Self {
        let principal = Principal::new(
            PrincipalKind::FlagdPort,
            format!("flagd-port-{}", port.number()),
            Some(project.to_owned()),
            vec![Role::Server],
        );
        let principal = DoorPrincipal(principal);
        Self {
            listener,
            stands_for: Some(StandsFor {
                principal,
                paths: port.paths(),
            }),
        }
    }

    /// `router` as it is seen through this door.
    pub(super) fn fitted(&self, router: Router) -> Router {
        match &self.stands_for {
            None => router,
            Some(stands_for) => router.layer(from_fn_with_state(stands_for.clone(), let_in)),
        }
    }
}

async fn let_in(State(stands_for): State<StandsFor>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let speech = Speech::of_path(path, request.headers());
    if !path.starts_with(stands_for.paths) {
        return speech.say(Problem::no_such_route(path));
    }
    if !is_addressed_to_loopback(request.uri(), request.headers()) {
        return speech.say(Problem::misdirected());
    }
    request.extensions_mut().insert(stands_for.principal);
    next.run(request).await
}

/// Whether a request names this machine, or is of a kind that no web page can send.
fn is_addressed_to_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let is_grpc = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/grpc"));
    let named = uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| headers.get(HOST).and_then(|value| value.to_str().ok()));
    is_grpc || named.is_some_and(is_loopback_name)
}

fn is_loopback_name(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_loopback_names() {
        let cases = [
            ("localhost:8016", true),
            ("LOCALHOST", true),
            ("localhost.:1", true),
            ("127.0.0.1:8016", true),
            ("127.8.9.1", true),
            ("[::1]:8016", true),
            ("evil.example:8016", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.1:8016", false),
            ("", false),
        ];
        for (authority, expected) in cases {
            assert_eq!(is_loopback_name(authority), expected, "{authority}");
        }
    }
}
