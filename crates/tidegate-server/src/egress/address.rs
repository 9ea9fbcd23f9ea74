//! Which addresses are the public Internet, and which are somebody's inside.
//!
//! One table, because a range forgotten in one of several places is how inner services are
//! reached from outside. Everything that is not ordinary global unicast is *special*: private,
//! loopback, link-local, shared, documentation, multicast, reserved, and every IPv6 form that
//! carries an IPv4 address. A few addresses hand out a machine's own credentials in clouds; they
//! are *metadata*, whatever range they lie in.
//!
//! Source: the IANA special-purpose address registries for IPv4 and IPv6, and the clouds' own
//! documentation of their metadata services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Ordinary global unicast.
    Public,
    /// A special range, by name.
    Special(&'static str),
    /// A cloud's metadata service, by name.
    Metadata(&'static str),
}

/// Special IPv4 ranges: base, prefix length, name.
const V4: [(Ipv4Addr, u8, &str); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a carrier"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

const fn v6(high: [u16; 4], low: [u16; 4]) -> Ipv6Addr {
    Ipv6Addr::new(
        high[0], high[1], high[2], high[3], low[0], low[1], low[2], low[3],
    )
}

/// Special IPv6 ranges, the narrower before the wider.
const V6: [(Ipv6Addr, u8, &str); 17] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (v6([0; 4], [0, 0xffff, 0, 0]), 96, "IPv4-mapped"),
    (v6([0; 4], [0xffff, 0, 0, 0]), 96, "IPv4-translated"),
    (Ipv6Addr::UNSPECIFIED, 96, "IPv4-compatible"),
    (v6([0x64, 0xff9b, 0, 0], [0; 4]), 96, "NAT64"),
    (v6([0x64, 0xff9b, 1, 0], [0; 4]), 48, "local NAT64"),
    (v6([0x100, 0, 0, 0], [0; 4]), 64, "discard"),
    (v6([0x2001, 0, 0, 0], [0; 4]), 32, "Teredo"),
    (v6([0x2001, 0, 0, 0], [0; 4]), 23, "protocol assignments"),
    (v6([0x2001, 0xdb8, 0, 0], [0; 4]), 32, "documentation"),
    (v6([0x2002, 0, 0, 0], [0; 4]), 16, "6to4"),
    (v6([0x3fff, 0, 0, 0], [0; 4]), 20, "documentation"),
    (v6([0xfc00, 0, 0, 0], [0; 4]), 7, "unique local"),
    (v6([0xfe80, 0, 0, 0], [0; 4]), 10, "link-local"),
    (v6([0xfec0, 0, 0, 0], [0; 4]), 10, "site-local"),
    (v6([0xff00, 0, 0, 0], [0; 4]), 8, "multicast"),
];

/// The only part of IPv6 that is handed out as global unicast.
const GLOBAL_V6: (Ipv6Addr, u8) = (v6([0x2000, 0, 0, 0], [0; 4]), 3);

/// Metadata services of clouds. One of them has an address that is public by the registry.
const METADATA: [(IpAddr, &str); 9] = [
    (
        IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
        "instance metadata",
    ),
    (
        IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
        "container credentials",
    ),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)), "pod identity"),
    (
        IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
        "platform channel",
    ),
    (
        IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
        "instance metadata",
    ),
    (
        IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
        "instance metadata",
    ),
    (
        IpAddr::V6(v6([0xfd00, 0xec2, 0, 0], [0, 0, 0, 0x254])),
        "instance metadata",
    ),
    (
        IpAddr::V6(v6([0xfd00, 0xec2, 0, 0], [0, 0, 0, 0x23])),
        "pod identity",
    ),
    (
        IpAddr::V6(v6([0xfd20, 0xce, 0, 0], [0, 0, 0, 0x254])),
        "instance metadata",
    ),
];

/// What kind of place `address` is.
#[must_use]
pub fn reach(address: IpAddr) -> Reach {
    if let Some((_, name)) = METADATA.iter().find(|(known, _)| *known == address) {
        return Reach::Metadata(name);
    }
    let special = match address {
        IpAddr::V4(address) => V4
            .iter()
            .find(|(base, prefix, _)| is_within(address.into(), (*base).into(), *prefix))
            .map(|(_, _, name)| *name),
        IpAddr::V6(address) => V6
            .iter()
            .find(|(base, prefix, _)| is_within(address.into(), (*base).into(), *prefix))
            .map(|(_, _, name)| *name)
            .or_else(|| {
                let (base, prefix) = GLOBAL_V6;
                let is_global = is_within(address.into(), base.into(), prefix);
                (!is_global).then_some("not global unicast")
            }),
    };
    special.map_or(Reach::Public, Reach::Special)
}

/// The IPv4 address that an IPv6 address stands for on its way through a translator or tunnel.
#[must_use]
pub fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let bytes = address.octets();
    let last = || Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]);
    let name = V6
        .iter()
        .find(|(base, prefix, _)| is_within(address.into(), (*base).into(), *prefix))
        .map(|(_, _, name)| *name)?;
    match name {
        "IPv4-mapped" | "IPv4-translated" | "IPv4-compatible" | "NAT64" => Some(last()),
        "6to4" => Some(Ipv4Addr::new(bytes[2], bytes[3], bytes[4], bytes[5])),
        _ => None,
    }
}

/// Whether `address` lies in the range of `prefix` bits at `base`; of one family only.
#[must_use]
pub fn is_within(address: IpAddr, base: IpAddr, prefix: u8) -> bool {
    let (address, base, width): (u128, u128, u32) = match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) => (
            u128::from(u32::from(address)),
            u128::from(u32::from(base)),
            32,
        ),
        (IpAddr::V6(address), IpAddr::V6(base)) => (u128::from(address), u128::from(base), 128),
        _ => return false,
    };
    let dropped = width.saturating_sub(u32::from(prefix));
    let network = |bits: u128| bits.checked_shr(dropped).unwrap_or(0);
    network(address) == network(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_each_address_is() {
        for (address, expected) in [
            ("1.1.1.1", "public"),
            ("8.8.8.8", "public"),
            ("9.255.255.255", "public"),
            ("11.0.0.0", "public"),
            ("100.63.255.255", "public"),
            ("100.128.0.0", "public"),
            ("126.255.255.255", "public"),
            ("172.15.255.255", "public"),
            ("172.32.0.0", "public"),
            ("192.0.1.0", "public"),
            ("192.167.255.255", "public"),
            ("198.17.255.255", "public"),
            ("198.20.0.0", "public"),
            ("223.255.255.255", "public"),
            ("0.0.0.0", "this network"),
            ("0.1.2.3", "this network"),
            ("10.0.0.1", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "shared by a carrier"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("169.254.0.1", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.8", "protocol assignments"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "6to4 relay"),
            ("192.168.0.1", "private"),
            ("198.18.0.1", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("169.254.169.254", "metadata"),
            ("169.254.170.2", "metadata"),
            ("169.254.170.23", "metadata"),
            ("168.63.129.16", "metadata"),
            ("168.63.129.17", "public"),
            ("100.100.100.200", "metadata"),
            ("192.0.0.192", "metadata"),
            ("2606:4700:4700::1111", "public"),
            ("2001:4860:4860::8888", "public"),
            ("2001:200::1", "public"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "IPv4-mapped"),
            ("::ffff:8.8.8.8", "IPv4-mapped"),
            ("::ffff:0:10.0.0.1", "IPv4-translated"),
            ("::127.0.0.1", "IPv4-compatible"),
            ("::2", "IPv4-compatible"),
            ("64:ff9b::10.0.0.1", "NAT64"),
            ("64:ff9b::8.8.8.8", "NAT64"),
            ("64:ff9b:1::1", "local NAT64"),
            ("100::1", "discard"),
            ("2001::1", "Teredo"),
            ("2001:10::1", "protocol assignments"),
            ("2001:1ff:ffff::1", "protocol assignments"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("3fff::1", "documentation"),
            ("fc00::1", "unique local"),
            ("fdff::1", "unique local"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
            ("5f00::1", "not global unicast"),
            ("4000::1", "not global unicast"),
            ("1::1", "not global unicast"),
            ("fd00:ec2::254", "metadata"),
            ("fd00:ec2::23", "metadata"),
            ("fd20:ce::254", "metadata"),
        ] {
            let found = match reach(address.parse().unwrap()) {
                Reach::Public => "public",
                Reach::Special(name) => name,
                Reach::Metadata(_) => "metadata",
            };
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn what_an_address_carries_is_seen() {
        for (address, carried) in [
            ("::ffff:10.1.2.3", Some("10.1.2.3")),
            ("::ffff:0:10.1.2.3", Some("10.1.2.3")),
            ("::10.1.2.3", Some("10.1.2.3")),
            ("64:ff9b::169.254.169.254", Some("169.254.169.254")),
            ("2002:a01:203::", Some("10.1.2.3")),
            ("2606:4700::1", None),
            ("10.1.2.3", None),
        ] {
            let expected = carried.map(|text| text.parse().unwrap());
            assert_eq!(embedded(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn the_two_families_never_meet_in_a_range() {
        let (four, six): (IpAddr, IpAddr) = ("0.0.0.0".parse().unwrap(), "::".parse().unwrap());
        assert!(!is_within(four, six, 0) && !is_within(six, four, 0));
        assert!(is_within("255.1.2.3".parse().unwrap(), four, 0));
        assert!(is_within("ffff::".parse().unwrap(), six, 0));
    }
}
