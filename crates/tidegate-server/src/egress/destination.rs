//! An address on the web as somebody wrote it, taken apart strictly.
//!
//! Two programs that read one text differently are how a check is passed by and the connection
//! goes elsewhere. So there is one spelling: scheme, host, port, path and query, in ASCII, without
//! user, password, fragment or backslash; an address is dotted decimal or a bracketed IPv6 address
//! without zone. `2130706433`, `0x7f.1`, `0177.0.0.1` and `127.1`, which the operating system's
//! resolver would happily read as 127.0.0.1, are refused by their form.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest text, in bytes.
pub const MAX_LENGTH: usize = 4096;

/// Where a request goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    text: String,
    is_https: bool,
    host: Host,
    port: u16,
}

/// A name to be resolved, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name, in lower case.
    Name(String),
    /// An address written out.
    Address(IpAddr),
}

/// Why a text is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Longer than [`MAX_LENGTH`].
    #[error("it has more than {MAX_LENGTH} bytes")]
    TooLong,
    /// Another scheme, or none.
    #[error("it must begin with https:// (or http:// for a destination that allow_egress names)")]
    Scheme,
    /// A character that no address has unencoded.
    #[error("the character {0:?} must be percent-encoded")]
    Character(char),
    /// A user name or password in the address.
    #[error("it carries a user or password; configure a credential instead")]
    UserInfo,
    /// A fragment.
    #[error("it has a fragment (#), which is never sent")]
    Fragment,
    /// A host that is none.
    #[error("{0:?} is no host: a name, four decimal numbers, or an IPv6 address in brackets")]
    Host(String),
    /// A port that is none.
    #[error("{0:?} is no port")]
    Port(String),
}

impl Destination {
    /// Takes a text apart.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.len() > MAX_LENGTH {
            return Err(BadUrl::TooLong);
        }
        let (is_https, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return Err(BadUrl::Scheme),
        };
        let is_plain = |c: char| c.is_ascii_graphic() && !r#"\"<>^`{|}"#.contains(c);
        if let Some(strange) = rest.chars().find(|c| !is_plain(*c)) {
            return Err(BadUrl::Character(strange));
        }
        if rest.contains('#') {
            return Err(BadUrl::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(BadUrl::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let host = read_host(host)?;
        let port = match port {
            None if is_https => 443,
            None => 80,
            Some(text) => read_port(text)?,
        };
        let scheme = if is_https { "https" } else { "http" };
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            text: format!("{scheme}://{}{slash}{path}", shown(&host, port, is_https)),
            is_https,
            host,
            port,
        })
    }

    /// The whole address, in the one spelling that is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is encrypted.
    #[must_use]
    pub const fn is_https(&self) -> bool {
        self.is_https
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Scheme, host and port: the part of an address that is no secret.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}", shown(&self.host, self.port, self.is_https))
    }
}

/// Addresses can carry secrets in path and query, so only the origin is ever printed.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/...", self.origin())
    }
}

/// A text as one piece of a path or query, percent-encoded.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn shown(host: &Host, port: u16, is_https: bool) -> String {
    let host = match host {
        Host::Name(name) => name.clone(),
        Host::Address(IpAddr::V4(address)) => address.to_string(),
        Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
    };
    match (is_https, port) {
        (true, 443) | (false, 80) => host,
        _ => format!("{host}:{port}"),
    }
}

/// Host and port of an authority, the host still with its brackets.
pub(super) fn split_port(authority: &str) -> Result<(&str, Option<&str>), BadUrl> {
    if authority.starts_with('[') {
        let end = authority
            .find(']')
            .ok_or_else(|| BadUrl::Host(authority.to_owned()))?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(BadUrl::Host(authority.to_owned())),
        };
    }
    Ok(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

pub(super) fn read_port(text: &str) -> Result<u16, BadUrl> {
    let is_number = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    is_number
        .then(|| text.parse().ok())
        .flatten()
        .filter(|port| *port > 0)
        .ok_or_else(|| BadUrl::Port(text.to_owned()))
}

pub(super) fn read_host(text: &str) -> Result<Host, BadUrl> {
    let refused = || BadUrl::Host(text.to_owned());
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| refused())?;
        return Ok(Host::Address(IpAddr::V6(address)));
    }
    let name = text.to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(refused());
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let ends_in_number = last.bytes().all(|b| b.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if ends_in_number {
        let address: Ipv4Addr = name.parse().map_err(|_| refused())?;
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    Ok(Host::Name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_read_and_written() {
        for (text, expected) in [
            ("https://example.com", "https://example.com/"),
            ("HTTPS://Example.COM:443/A?b=C", "https://example.com/A?b=C"),
            (
                "http://example.com:8080?q=1",
                "http://example.com:8080/?q=1",
            ),
            ("http://8.8.8.8:80/", "http://8.8.8.8/"),
            (
                "https://[2606:4700::1111]:8443/x",
                "https://[2606:4700::1111]:8443/x",
            ),
            ("https://a_b.example/%7Bx%7D", "https://a_b.example/%7Bx%7D"),
        ] {
            assert_eq!(Destination::parse(text).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn odd_spellings_are_refused() {
        for text in [
            "ftp://example.com/",
            "//example.com/",
            "example.com",
            "https:/example.com",
            "https://",
            "https:///path",
            "https://user@example.com/",
            "https://user:password@example.com/",
            "https://example.com#fragment",
            "https://example.com\\@127.0.0.1/",
            "https://exa mple.com/",
            "https://example.com/\r\nhost: a",
            "https://example.com/{variant}",
            "https://bücher.example/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://127.0.0.01/",
            "https://127.0.0.1.2/",
            "https://127.0.0.256/",
            "https://1.2.3/",
            "https://example.0x/",
            "https://%31%32%37.0.0.1/",
            "https://example.com./",
            "https://127.0.0.1./",
            "https://.example.com/",
            "https://a..b/",
            "https://[::1/",
            "https://::1/",
            "https://[fe80::1%25eth0]/",
            "https://[fe80::1%eth0]/",
            "https://[::1]x/",
            "https://[127.0.0.1]/",
            "https://example.com:/",
            "https://example.com:0/",
            "https://example.com:65536/",
            "https://example.com:+80/",
            "https://example.com:80:80/",
            "https://①②⑦.0.0.1/",
        ] {
            assert!(Destination::parse(text).is_err(), "{text} was accepted");
        }
        let long = format!("https://example.com/{}", "a".repeat(MAX_LENGTH));
        assert_eq!(Destination::parse(&long), Err(BadUrl::TooLong));
    }

    #[test]
    fn a_piece_of_an_address_cannot_leave_its_place() {
        assert_eq!(encoded("a/b?c=ü&d"), "a%2Fb%3Fc%3D%C3%BC%26d");
        assert_eq!(encoded("a-b.c_d~1"), "a-b.c_d~1");
    }

    #[test]
    fn secrets_in_a_path_are_not_printed() {
        let destination = Destination::parse("https://chat.example/hook/T0K3N?key=s").unwrap();
        assert_eq!(format!("{destination:?}"), "https://chat.example/...");
    }

    #[test]
    fn any_text_is_read_without_panic_and_its_spelling_reads_back() {
        bolero::check!().with_type::<String>().for_each(|text| {
            for text in [text.clone(), format!("https://{text}")] {
                if let Ok(destination) = Destination::parse(&text) {
                    let again = Destination::parse(destination.as_str()).unwrap();
                    assert_eq!(again, destination, "{text:?}");
                }
            }
        });
    }
}
