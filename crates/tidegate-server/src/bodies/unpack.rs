//! A body unpacked into memory that is reserved before it is taken.
//!
//! Gzip and zstd say in the body how long they unpack to. That is where reserving begins, so that
//! an honest body is unpacked into one piece of memory; one that says nothing, or too little, is
//! given more, piece by piece. What passes the limit is abandoned there, or refused
//! unread if it says so itself.

use std::io::Read;

use bytes::Bytes;

use super::receive::Packed;
use super::room::Held;
use super::{BodyError, KIB, MIB};

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Plain,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Packing {
    /// The packing of that name in `Content-Encoding` or `grpc-encoding`.
    #[must_use]
    pub fn named(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "identity") => Some(Self::Plain),
            Some("gzip") => Some(Self::Gzip),
            Some("zstd") => Some(Self::Zstd),
            Some(_) => None,
        }
    }
}

/// The largest window of a zstd body, as RFC 9659 limits it for HTTP: 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;
/// The least that is reserved at a time.
const LEAST: usize = 64 * KIB;
/// The most that is reserved at a time beyond what a body says.
const MOST_AT_ONCE: usize = 8 * MIB;
/// No gzip unpacks to more than so many times its bytes; who says so is not believed.
const MOST_RATIO: usize = 1032;

/// A body as it was before it was packed, and the room it takes.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) bytes: Bytes,
    _held: Held,
}

/// Unpacks a body to at most `limit` bytes. Blocks for as long as that takes.
///
/// # Errors
/// [`BodyError`].
pub(crate) fn unpack(packing: Packing, packed: Packed, limit: usize) -> Result<Plain, BodyError> {
    let Packed { bytes, held } = packed;
    match packing {
        Packing::Plain if bytes.len() > limit => Err(BodyError::TooLarge { limit }),
        Packing::Plain => Ok(Plain { bytes, _held: held }),
        Packing::Gzip => {
            let says = gzip_says(&bytes);
            let reader = flate2::read::MultiGzDecoder::new(&bytes[..]);
            grow(reader, says, 0, &bytes, held, limit)
        }
        Packing::Zstd => {
            let says = zstd::zstd_safe::get_frame_content_size(&bytes);
            let says = says.ok().flatten().map(saturating);
            let mut reader = zstd::Decoder::with_buffer(&bytes[..]).map_err(broken)?;
            reader.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
            grow(reader, says, 1 << ZSTD_WINDOW_LOG, &bytes, held, limit)
        }
    }
}

fn broken(error: std::io::Error) -> BodyError {
    BodyError::Broken {
        detail: error.to_string(),
    }
}

fn saturating(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// The length that the last member of a gzip body says it has; a body of several has more.
fn gzip_says(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.last_chunk()?);
    let length = saturating(length.into());
    (length <= bytes.len().saturating_mul(MOST_RATIO)).then_some(length)
}

/// Reads to the end. `window` is the most the decoder keeps beside what it hands out, which is
/// never more than it has handed out.
fn grow(
    mut reader: impl Read,
    says: Option<usize>,
    window: usize,
    packed: &[u8],
    mut held: Held,
    limit: usize,
) -> Result<Plain, BodyError> {
    if says.is_some_and(|says| says > limit) {
        return Err(BodyError::TooLarge { limit });
    }
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let (mut length, mut capacity) = (0, 0);
    loop {
        // One byte more than is said shows that no more follows. Pieces stand beside each other
        // until the end is known, so that what is abandoned at the limit was never copied.
        let wanted = match (says, pieces.is_empty()) {
            (Some(says), true) => says + 1,
            _ => capacity.clamp(LEAST, MOST_AT_ONCE),
        };
        capacity += wanted;
        held.set(packed.len() + window.min(capacity) + capacity)?;
        let mut piece = Vec::with_capacity(wanted);
        let read = reader.by_ref().take(wanted as u64).read_to_end(&mut piece);
        let read = read.map_err(broken)?;
        length += read;
        pieces.push(piece);
        if length > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if read < wanted {
            break;
        }
    }
    if pieces.len() > 1 {
        held.set(packed.len() + capacity + length)?;
        pieces = vec![pieces.concat()];
    }
    held.set(length)?;
    Ok(Plain {
        bytes: pieces.pop().unwrap_or_default().into(),
        _held: held,
    })
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;
    use std::io::Write;

    const LIMIT: usize = 4 * MIB;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(room: &Room, packing: Packing, bytes: &[u8]) -> Result<Plain, BodyError> {
        let mut held = room.hold("p");
        held.set(bytes.len())?;
        let bytes = Bytes::copy_from_slice(bytes);
        unpack(packing, Packed { bytes, held }, LIMIT)
    }

    #[test]
    fn encodings_are_undone_within_the_limit() {
        let room = Room::of(32 * MIB, 1);
        for length in [0, 1, 1000, 200_000, LIMIT] {
            let text: Vec<u8> = (0..length)
                .map(|at| u8::try_from(at * at % 251).unwrap())
                .collect();
            let halves = text.split_at(length / 2);
            let cases = [
                (Packing::Plain, text.clone()),
                (Packing::Gzip, gzip(&text)),
                (Packing::Gzip, [gzip(halves.0), gzip(halves.1)].concat()),
                (Packing::Zstd, zstd::encode_all(&text[..], 1).unwrap()),
                (Packing::Zstd, zstd::bulk::compress(&text, 1).unwrap()),
            ];
            for (packing, body) in cases {
                let plain = unpacked(&room, packing, &body).unwrap();
                assert!(plain.bytes == text, "{packing:?} of {length}");
            }
        }
        room.hold("p").set(24 * MIB).unwrap();
    }

    #[test]
    fn a_bomb_is_abandoned_at_the_limit_and_garbage_is_refused() {
        let room = Room::of(32 * MIB, 1);
        let zeros = vec![0; 64 * MIB];
        // The second member says that nothing comes.
        let lying = [gzip(&zeros), gzip(b"")].concat();
        let bombs = [
            (Packing::Gzip, gzip(&zeros)),
            (Packing::Gzip, lying),
            (Packing::Zstd, zstd::encode_all(&zeros[..], 3).unwrap()),
            (Packing::Zstd, zstd::bulk::compress(&zeros, 3).unwrap()),
        ];
        for (packing, bomb) in bombs {
            assert!(bomb.len() < MIB);
            let outcome = unpacked(&room, packing, &bomb);
            assert_eq!(outcome.unwrap_err(), BodyError::TooLarge { limit: LIMIT });
        }
        for packing in [Packing::Gzip, Packing::Zstd] {
            let outcome = unpacked(&room, packing, b"no such thing");
            assert!(
                matches!(outcome, Err(BodyError::Broken { .. })),
                "{packing:?}"
            );
        }
        room.hold("p").set(24 * MIB).unwrap();
    }

    #[test]
    fn many_at_once_share_one_room() {
        let room = Room::of(9 * MIB, 1);
        let body = gzip(&vec![0; 3 * MIB]);
        let first = unpacked(&room, Packing::Gzip, &body).unwrap();
        let second = unpacked(&room, Packing::Gzip, &body).unwrap();
        assert_eq!(
            unpacked(&room, Packing::Gzip, &body).unwrap_err(),
            BodyError::Crowded
        );
        drop((first, second));
        unpacked(&room, Packing::Gzip, &body).unwrap();
    }
}
