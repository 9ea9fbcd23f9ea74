//! Identifiers of events and traces: 128 bits, written as the field writes them.
//!
//! An event id is a UUID (version 7 recommended to clients). One we derive by hashing is marked
//! as version 8, "vendor specific" (RFC 9562 section 5.8), so that the two can be told apart.

use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// A 128-bit event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub u128);

/// A 128-bit W3C trace id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub u128);

/// A text that is not a 128-bit identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a 128-bit identifier; write 32 hexadecimal digits, hyphens as in a UUID allowed")]
pub struct InvalidEventId;

const VERSION_MASK: u128 = 0xf << 76;
const VERSION_8: u128 = 0x8 << 76;
const VARIANT_MASK: u128 = 0b11 << 62;
const VARIANT_RFC: u128 = 0b10 << 62;

impl EventId {
    /// An id made of what an event says: a hash over the parts, marked as version 8. Parts are
    /// told apart by their lengths.
    #[must_use]
    pub fn hashed(parts: &[&[u8]]) -> Self {
        let mut hash = Xxh3::new();
        for part in parts {
            hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        Self::derived(hash.digest128())
    }

    /// The id that stands for what was hashed, marked as version 8.
    #[must_use]
    pub fn derived(hash: u128) -> Self {
        Self((hash & !VERSION_MASK & !VARIANT_MASK) | VERSION_8 | VARIANT_RFC)
    }

    /// Whether we made this id from the event's content.
    #[must_use]
    pub fn is_derived(self) -> bool {
        self.0 & VERSION_MASK == VERSION_8
    }
}

impl std::str::FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        match bytes.len() {
            32 => hex(bytes.iter().copied()).map(Self),
            36 if [8, 13, 18, 23]
                .iter()
                .all(|at| bytes.get(*at) == Some(&b'-')) =>
            {
                hex(bytes.iter().copied().filter(|byte| *byte != b'-')).map(Self)
            }
            _ => Err(InvalidEventId),
        }
    }
}

impl std::str::FromStr for TraceId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 32 {
            hex(text.bytes()).map(Self)
        } else {
            Err(InvalidEventId)
        }
    }
}

fn hex(digits: impl Iterator<Item = u8>) -> Result<u128, InvalidEventId> {
    let mut value = 0u128;
    let mut count = 0;
    for digit in digits {
        let nibble = char::from(digit).to_digit(16).ok_or(InvalidEventId)?;
        value = (value << 4) | u128::from(nibble);
        count += 1;
    }
    if count == 32 {
        Ok(value)
    } else {
        Err(InvalidEventId)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            id >> 96,
            (id >> 80) & 0xffff,
            (id >> 64) & 0xffff,
            (id >> 48) & 0xffff,
            id & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_spellings_and_prints_the_canonical_one() {
        let hyphenated = "018f4d9c-5f1e-7a3b-8c2d-0123456789ab";
        let plain = "018F4D9C5F1E7A3B8C2D0123456789AB";
        let id: EventId = hyphenated.parse().unwrap();
        assert_eq!(id, plain.parse().unwrap());
        assert_eq!(id.to_string(), hyphenated);
        assert!(!id.is_derived());
    }

    #[test]
    fn refuses_what_is_not_128_bits_of_hex() {
        for text in [
            "",
            "17",
            "018f4d9c-5f1e-7a3b-8c2d-0123456789a",
            "018f4d9c-5f1e-7a3b-8c2d-0123456789ag",
            "018f4d9c5f1e-7a3b-8c2d-0123456789ab-",
            "+18f4d9c5f1e7a3b8c2d0123456789ab",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text}");
        }
    }

    #[test]
    fn marks_derived_ids_as_version_8() {
        let id = EventId::derived(u128::MAX);
        assert!(id.is_derived());
        assert_eq!(id.to_string(), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }
}
