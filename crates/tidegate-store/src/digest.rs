//! Digests: SHA-256 values, and the one unambiguous way in which records are fed to it.
//!
//! Fields are length-prefixed, so that no two different records have the same encoding:
//! a byte string is its length as 4 bytes big-endian and then its bytes; an integer is the
//! byte string of its 8 bytes big-endian (two's complement when signed); an optional field is
//! the byte 0, or the byte 1 followed by the field.
//! Every encoding begins with the byte string of a domain name that carries its version.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

/// A SHA-256 value; text form is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// Text that is not the hexadecimal form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an even number of lower-case hexadecimal digits of the right length")]
pub struct NotHex;

impl Digest {
    /// The value before anything: what the first audit entry has as its predecessor.
    pub const ZERO: Self = Self([0; 32]);

    /// SHA-256 of plain bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        from_hex(text).map(Self)
    }
}

/// Lower-case hexadecimal text of bytes.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Bytes of exactly `N` pairs of lower-case hexadecimal digits; upper case is refused, so that
/// a text has one meaning and a meaning has one text.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], NotHex> {
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return Err(NotHex);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8, NotHex> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NotHex),
    }
}

/// Feeds length-prefixed fields to SHA-256.
pub(crate) struct Encoder {
    hasher: Sha256,
}

impl Encoder {
    /// An encoder for records of `domain`.
    pub(crate) fn new(domain: &str) -> Self {
        Self {
            hasher: Sha256::new(),
        }
        .text(domain)
    }

    /// Adds a byte string; inputs are bounded far below 4 GiB before they come here.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.hasher.update(len.to_be_bytes());
        self.hasher.update(bytes);
        self
    }

    /// Adds a text.
    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds an unsigned integer.
    pub(crate) fn number(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Adds a time, or another signed integer.
    pub(crate) fn signed(self, number: i64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Adds a field that may be absent.
    pub(crate) fn optional<T>(
        mut self,
        field: Option<T>,
        add: impl FnOnce(Self, T) -> Self,
    ) -> Self {
        self.hasher.update([u8::from(field.is_some())]);
        match field {
            Some(field) => add(self, field),
            None => self,
        }
    }

    /// The digest of all that was added.
    pub(crate) fn finish(self) -> Digest {
        Digest(self.hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_one_spelling() {
        let digest = Digest::of(b"tide");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(
            digest.to_string().to_uppercase().parse::<Digest>(),
            Err(NotHex)
        );
        assert_eq!("00".parse::<Digest>(), Err(NotHex));
    }

    #[test]
    fn field_boundaries_are_part_of_the_digest() {
        let split = |a: &str, b: &str| Encoder::new("test").text(a).text(b).finish();
        assert_ne!(split("ab", "c"), split("a", "bc"));
        let optional = |field| Encoder::new("test").optional(field, Encoder::text).finish();
        assert_ne!(optional(None), optional(Some("")));
    }
}
