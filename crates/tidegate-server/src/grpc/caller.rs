//! Who calls, by what the guard in front of the services left in the request.
//!
//! The guard ([`crate::http::routes`]) has authenticated the caller, checked its permission and
//! its rate; a request that comes without a principal has not passed it and is refused.

use std::time::Duration;

use axum::http::header::USER_AGENT;
use axum::http::{Extensions, HeaderMap};
use tonic::{Request, Status};

use super::events::Opening;
use super::selector::Selector;
use crate::access::Principal;
use crate::clients::Protocol;

/// An authenticated call.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) selector: Selector,
    user_agent: Option<String>,
    deadline: Option<Duration>,
}

impl Caller {
    /// The caller of a gRPC request whose body says `selector`.
    pub(crate) fn of<T>(request: &Request<T>, selector: &str) -> Result<Self, Status> {
        let headers = request.metadata().as_ref();
        let deadline = headers
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(grpc_timeout);
        Self::new(request.extensions(), headers, selector, deadline)
    }

    /// The caller of a Connect request.
    pub(crate) fn of_connect(extensions: &Extensions, headers: &HeaderMap) -> Result<Self, Status> {
        let deadline = headers
            .get("connect-timeout-ms")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok())
            .map(Duration::from_millis);
        Self::new(extensions, headers, "", deadline)
    }

    fn new(
        extensions: &Extensions,
        headers: &HeaderMap,
        selector: &str,
        deadline: Option<Duration>,
    ) -> Result<Self, Status> {
        let principal = extensions
            .get::<Principal>()
            .cloned()
            .ok_or_else(|| Status::unauthenticated("a valid token is needed"))?;
        let user_agent = headers
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let selector = Selector::of_request(headers, selector)?;
        Ok(Self {
            principal,
            selector,
            user_agent,
            deadline,
        })
    }

    /// The caller as one that opens a stream.
    pub(crate) fn opening(&self, protocol: Protocol) -> Opening {
        Opening {
            protocol,
            selector: self.selector.clone(),
            user_agent: self.user_agent.clone(),
            deadline: self.deadline,
        }
    }
}

/// gRPC's timeout header: at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_read_as_grpc_writes_them() {
        let cases = [
            ("600S", Some(Duration::from_secs(600))),
            ("1H", Some(Duration::from_secs(3600))),
            ("90M", Some(Duration::from_secs(5400))),
            ("500m", Some(Duration::from_millis(500))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("999999999n", None),
            ("S", None),
            ("5", None),
            ("-5S", None),
            ("5ü", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(grpc_timeout(text), expected, "{text}");
        }
    }
}
