//! MurmurHash3 x86 32-bit, seed 0, fed piece by piece.
//!
//! The hash of `flagKey + targetingKey` must not allocate the joined text, and the flag
//! key is known when the set is compiled: the state after the key is stored, and an
//! evaluation continues from a copy of it.
//! Source: Austin Appleby's public-domain `MurmurHash3.cpp`, function `MurmurHash3_x86_32`.

/// The state of a hash in progress; copying it forks the hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Murmur3 {
    hash: u32,
    /// Bytes not yet mixed, little-endian, `pending_bytes` (0 to 3) of them.
    pending: u32,
    pending_bytes: u32,
    /// Total length modulo 2^32, as the algorithm defines it.
    length: u32,
}

const C1: u32 = 0xcc9e_2d51;
const C2: u32 = 0x1b87_3593;

#[inline]
fn scramble(block: u32) -> u32 {
    block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2)
}

#[inline]
fn mix(hash: u32, block: u32) -> u32 {
    (hash ^ scramble(block))
        .rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64)
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
fn low_half(word: u64) -> u32 {
    word as u32
}

impl Murmur3 {
    /// The hash of `bytes` alone.
    pub(crate) fn of(bytes: &[u8]) -> u32 {
        Murmur3::default().with(bytes).finish()
    }

    /// The state after `bytes`.
    #[inline]
    pub(crate) fn with(mut self, bytes: &[u8]) -> Murmur3 {
        self.write(bytes);
        self
    }

    /// Feeds `bytes`.
    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let written = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or(u32::MAX);
        self.length = self.length.wrapping_add(written);
        let (blocks, rest) = bytes.as_chunks::<4>();
        let shift = 8 * self.pending_bytes;
        let mut pending = u64::from(self.pending);
        for block in blocks {
            pending |= u64::from(u32::from_le_bytes(*block)) << shift;
            self.hash = mix(self.hash, low_half(pending));
            pending >>= 32;
        }
        self.pending = low_half(pending);
        self.write_rest(rest);
    }

    /// Up to three bytes, joined to the pending ones.
    #[inline]
    fn write_rest(&mut self, rest: &[u8]) {
        let (word, count) = match *rest {
            [a, b, c] => (u32::from_le_bytes([a, b, c, 0]), 3),
            [a, b] => (u32::from_le_bytes([a, b, 0, 0]), 2),
            [a] => (u32::from(a), 1),
            _ => return,
        };
        self.pending |= word << (8 * self.pending_bytes);
        let bytes = self.pending_bytes + count;
        if bytes < 4 {
            self.pending_bytes = bytes;
            return;
        }
        self.hash = mix(self.hash, self.pending);
        // At least one byte was pending, so the shift is below 32.
        self.pending = word >> (8 * (4 - self.pending_bytes));
        self.pending_bytes = bytes - 4;
    }

    /// The hash of all that was fed.
    #[inline]
    pub(crate) fn finish(self) -> u32 {
        let mut hash = self.hash ^ scramble(self.pending);
        hash ^= self.length;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gives_published_hashes() {
        let cases: &[(&str, u32)] = &[
            ("", 0),
            ("fractional-flagjack", 2_682_799_072),
            ("fractional-flagnine", 1_406_129_861),
            ("new-checkoutuser-42", 2_394_511_712),
            ("café", 605_818_632),
            ("ejOoVL", 0),
            ("bY9fO-", 1),
            ("SI7p-", 0x7fff_ffff),
            ("6LvT0", 0x8000_0000),
            ("ceQdGm", u32::MAX),
        ];
        for (text, hash) in cases {
            assert_eq!(Murmur3::of(text.as_bytes()), *hash, "{text}");
        }
    }

    proptest! {
        #[test]
        fn pieces_hash_like_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..40, cut2 in 0usize..40) {
            let cut = cut.min(bytes.len());
            let cut2 = cut2.clamp(cut, bytes.len());
            let pieces = Murmur3::default()
                .with(&bytes[..cut])
                .with(&bytes[cut..cut2])
                .with(&bytes[cut2..]);
            prop_assert_eq!(pieces.finish(), Murmur3::of(&bytes));
        }
    }
}
