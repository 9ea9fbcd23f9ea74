//! Which destinations are allowed: the public Internet over HTTPS, and what is configured.
//!
//! # How it decides
//! The question is asked of the *resolved* address, right before it is connected to, and the
//! connection goes to that very address.
//! 1. Global unicast over `https` is allowed.
//! 2. A special address, or `http`, needs an entry of `allow_egress`: a range (`10.0.0.0/8`) or a
//!    host with its port (`prometheus.internal:9090`, `127.0.0.1:9090`).
//! 3. A cloud's metadata service needs an entry of its own address: no range and no name opens it,
//!    because a range is meant for neighbours and a name belongs to whoever answers for it.
//! 4. An IPv6 address that carries an IPv4 address needs both to be allowed.
//!
//! One address refused refuses the name: an answer that mixes inside and outside is an attempt.

use std::fmt;
use std::net::IpAddr;

use super::address::{self, Reach, reach};
use super::destination::{BadUrl, Destination, Host, read_host, read_port, split_port};

/// Most entries of `allow_egress`.
const MAX_ENTRIES: usize = 1000;

/// What is allowed beyond the public Internet over HTTPS.
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Range { base: IpAddr, prefix: u8 },
    Place { host: Host, port: u16 },
}

/// Why an entry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// Neither a range nor a host with a port.
    #[error(
        "{0:?} is neither a range such as 10.0.0.0/8 nor a host with its port such as \
         prometheus.internal:9090"
    )]
    Form(String),
    /// A range whose base has bits below its prefix, which is a mistyped range.
    #[error("{0:?} is not the beginning of a range of that length")]
    Base(String),
    /// More than can be meant.
    #[error("{0} entries, {MAX_ENTRIES} are allowed")]
    TooMany(usize),
}

/// Why a destination is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A special address that nobody allowed.
    #[error("{address} is {range}; allow_egress does not name it")]
    Special {
        /// The address.
        address: IpAddr,
        /// Its range, in words.
        range: &'static str,
    },
    /// A metadata service that nobody allowed by its own address.
    #[error("{address} is a cloud's {service}; only an entry of that very address allows it")]
    Metadata {
        /// The address.
        address: IpAddr,
        /// What it is.
        service: &'static str,
    },
    /// Plain HTTP to somewhere that nobody allowed.
    #[error("plain http is only spoken to destinations that allow_egress names; use https")]
    Plain,
}

impl EgressPolicy {
    /// A policy of these entries.
    ///
    /// # Errors
    /// The first entry that cannot be used.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, BadEntry> {
        if entries.len() > MAX_ENTRIES {
            return Err(BadEntry::TooMany(entries.len()));
        }
        let entries: Result<_, _> = entries.iter().map(|text| entry(text.as_ref())).collect();
        Ok(Self { entries: entries? })
    }

    /// Whether `destination` may be connected to at `address`.
    ///
    /// # Errors
    /// Why not.
    pub fn permit(&self, destination: &Destination, address: IpAddr) -> Result<(), Refusal> {
        let is_named = self.names(destination);
        self.permit_address(address, is_named, destination)?;
        if let Some(carried) = address::embedded(address) {
            self.permit_address(carried.into(), is_named, destination)?;
        }
        let is_allowed = is_named || self.covers(address);
        if !destination.is_https() && !is_allowed {
            return Err(Refusal::Plain);
        }
        Ok(())
    }

    fn permit_address(
        &self,
        address: IpAddr,
        is_named: bool,
        destination: &Destination,
    ) -> Result<(), Refusal> {
        match reach(address) {
            Reach::Public => Ok(()),
            Reach::Special(_) if is_named || self.covers(address) => Ok(()),
            Reach::Special(range) => Err(Refusal::Special { address, range }),
            Reach::Metadata(_) if self.names_exactly(address, destination.port()) => Ok(()),
            Reach::Metadata(service) => Err(Refusal::Metadata { address, service }),
        }
    }

    /// Whether an entry names host and port of the destination.
    fn names(&self, destination: &Destination) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::Place { host, port } => {
                host == destination.host() && *port == destination.port()
            }
            Entry::Range { .. } => false,
        })
    }

    /// Whether a range holds the address.
    fn covers(&self, address: IpAddr) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::Range { base, prefix } => address::is_within(address, *base, *prefix),
            Entry::Place { .. } => false,
        })
    }

    /// Whether an entry is about this one address and nothing else.
    fn names_exactly(&self, address: IpAddr, port: u16) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::Range { base, prefix } => *base == address && *prefix == width(address),
            Entry::Place { host, port: own } => *host == Host::Address(address) && *own == port,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { base, prefix } => write!(f, "{base}/{prefix}"),
            Self::Place {
                host: Host::Name(name),
                port,
            } => write!(f, "{name}:{port}"),
            Self::Place {
                host: Host::Address(IpAddr::V6(address)),
                port,
            } => write!(f, "[{address}]:{port}"),
            Self::Place {
                host: Host::Address(address),
                port,
            } => write!(f, "{address}:{port}"),
        }
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn entry(text: &str) -> Result<Entry, BadEntry> {
    let form = || BadEntry::Form(text.to_owned());
    if let Some((base, prefix)) = text.split_once('/') {
        let base: IpAddr = base.parse().map_err(|_| form())?;
        let prefix: u8 = prefix.parse().map_err(|_| form())?;
        if prefix > width(base) {
            return Err(form());
        }
        if !begins_range(base, prefix) {
            return Err(BadEntry::Base(text.to_owned()));
        }
        return Ok(Entry::Range { base, prefix });
    }
    let place = || -> Result<Entry, BadUrl> {
        let (host, port) = split_port(text)?;
        let port = port.ok_or_else(|| BadUrl::Port(String::new()))?;
        Ok(Entry::Place {
            host: read_host(host)?,
            port: read_port(port)?,
        })
    };
    place().map_err(|_| form())
}

/// Whether no bit below the prefix is set.
fn begins_range(base: IpAddr, prefix: u8) -> bool {
    let bits = match base {
        IpAddr::V4(base) => u128::from(u32::from(base)) << 96,
        IpAddr::V6(base) => u128::from(base),
    };
    bits.checked_shl(u32::from(prefix)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(entries: &[&str], url: &str, address: &str) -> Result<(), Refusal> {
        let policy = EgressPolicy::parse(entries).unwrap();
        policy.permit(&Destination::parse(url).unwrap(), address.parse().unwrap())
    }

    #[test]
    fn nothing_but_the_public_internet_over_https_is_open_unless_configured() {
        const PUBLIC: &str = "https://example.com/";
        const INNER: &str = "http://prometheus.internal:9090/api";
        for (entries, url, address, allowed) in [
            (&[][..], PUBLIC, "93.184.216.34", true),
            (&[], PUBLIC, "2606:4700::1111", true),
            (&[], "http://example.com/", "93.184.216.34", false),
            (
                &["example.com:80"],
                "http://example.com/",
                "93.184.216.34",
                true,
            ),
            (
                &["93.184.216.0/24"],
                "http://example.com/",
                "93.184.216.34",
                true,
            ),
            (&[], PUBLIC, "127.0.0.1", false),
            (&[], PUBLIC, "10.0.0.1", false),
            (&[], PUBLIC, "::1", false),
            (&[], PUBLIC, "::ffff:93.184.216.34", false),
            (&[], PUBLIC, "64:ff9b::5db8:d822", false),
            (&[], INNER, "10.0.0.1", false),
            (&["10.0.0.0/8"], INNER, "10.0.0.1", true),
            (&["10.0.0.0/8"], INNER, "11.0.0.1", false),
            (&["10.0.0.0/8"], INNER, "192.168.0.1", false),
            (&["prometheus.internal:9090"], INNER, "192.168.0.1", true),
            (&["PROMETHEUS.internal:9090"], INNER, "192.168.0.1", true),
            (&["prometheus.internal:9091"], INNER, "192.168.0.1", false),
            (&["other.internal:9090"], INNER, "192.168.0.1", false),
            (
                &["127.0.0.1:9090"],
                "http://127.0.0.1:9090/",
                "127.0.0.1",
                true,
            ),
            (
                &["127.0.0.1:9090"],
                "http://127.0.0.1:9091/",
                "127.0.0.1",
                false,
            ),
            (
                &["127.0.0.1:9090"],
                "http://localhost:9090/",
                "127.0.0.1",
                false,
            ),
            (&["[::1]:9090"], "http://[::1]:9090/", "::1", true),
        ] {
            let found = permits(entries, url, address);
            assert_eq!(
                found.is_ok(),
                allowed,
                "{entries:?} {url} {address}: {found:?}"
            );
        }
    }

    #[test]
    fn no_range_and_no_name_opens_a_metadata_service() {
        const META: &str = "169.254.169.254";
        for (entry, url, allowed) in [
            ("0.0.0.0/0", "http://169.254.169.254/", false),
            ("169.254.0.0/16", "http://169.254.169.254/", false),
            ("metadata.internal:80", "http://metadata.internal/", false),
            ("169.254.169.254/32", "http://169.254.169.254/", true),
            ("169.254.169.254:80", "http://169.254.169.254/", true),
            ("169.254.169.254:80", "http://169.254.169.254:81/", false),
        ] {
            assert_eq!(
                permits(&[entry], url, META).is_ok(),
                allowed,
                "{entry} {url}"
            );
        }
        assert!(permits(&[], "https://a.example/", "168.63.129.16").is_err());
    }

    #[test]
    fn a_translated_address_needs_what_it_carries_to_be_allowed_too() {
        let nat64 = ["64:ff9b::/96"];
        let url = "https://example.com/";
        assert!(permits(&nat64, url, "64:ff9b::5db8:d822").is_ok());
        for inner in ["64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"] {
            assert!(permits(&nat64, url, inner).is_err(), "{inner}");
        }
        let both = ["64:ff9b::/96", "10.0.0.0/8"];
        assert!(permits(&both, url, "64:ff9b::a00:1").is_ok());
        assert!(permits(&["::/0"], url, "64:ff9b::a9fe:a9fe").is_err());
    }

    #[test]
    fn an_entry_that_cannot_be_meant_is_refused() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::1/64",
            "10.0.0.0/-1",
            "example.com",
            "example.com:0",
            "127.1:80",
            "https://example.com:443",
            "*:80",
        ] {
            assert!(EgressPolicy::parse(&[bad]).is_err(), "{bad:?} was accepted");
        }
        for good in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "fd00::/8",
            "a.b:1",
            "[fd00::1]:9090",
            "10.0.0.1/32",
        ] {
            let policy = EgressPolicy::parse(&[good]).unwrap();
            assert_eq!(policy.entries[0].to_string(), good);
        }
    }
}
