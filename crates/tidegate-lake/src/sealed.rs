//! Small files that are replaced as a whole and refuse to be read damaged.
//!
//! Layout: magic (8, names the sort of file), version (4), bytes before compression (4), XXH3-64
//! over everything else (8), zstd body. Replaced by [`replace_file`], so a crash leaves the old
//! content or the new.

use crate::io::{LakeIo, read_file, replace_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

const HEADER_BYTES: usize = 24;
const MAX_FILE_BYTES: u64 = 2 << 30;
const MAX_RAW_BYTES: usize = 4_000_000_000;

/// A sort of sealed file and the version this program writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
}

/// Why a sealed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error("read or write the file")]
    Io(#[from] io::Error),
    #[error("file is damaged")]
    Damaged,
    #[error("file has version {found}, this program reads {known}")]
    Version { found: u32, known: u32 },
}

/// A value as a sealed file holds it, before it is compressed.
pub(crate) fn packed<T: Serialize>(value: &T) -> Result<Vec<u8>, SealError> {
    postcard::to_stdvec(value).map_err(|_| SealError::Damaged)
}

impl Seal {
    /// Writes a value; what was there before is replaced as a whole.
    pub(crate) fn write<T: Serialize>(
        self,
        io: &dyn LakeIo,
        dir: &Path,
        name: &str,
        value: &T,
    ) -> Result<(), SealError> {
        self.write_packed(io, dir, name, &packed(value)?)
    }

    /// The same for a value that was [`packed`] before.
    pub(crate) fn write_packed(
        self,
        io: &dyn LakeIo,
        dir: &Path,
        name: &str,
        raw: &[u8],
    ) -> Result<(), SealError> {
        let raw_bytes = u32::try_from(raw.len()).map_err(|_| io::ErrorKind::FileTooLarge);
        let body = zstd::bulk::compress(raw, 1)?;
        let mut content = Vec::with_capacity(HEADER_BYTES + body.len());
        content.extend(self.magic);
        content.extend(self.version.to_le_bytes());
        content.extend(raw_bytes.map_err(io::Error::from)?.to_le_bytes());
        let sum = checksum(&content, &body);
        content.extend(sum.to_le_bytes());
        content.extend(body);
        Ok(replace_file(io, dir, name, &content)?)
    }

    /// The value, or `None` if there is no such file.
    pub(crate) fn read<T: DeserializeOwned>(
        self,
        io: &dyn LakeIo,
        path: &Path,
    ) -> Result<Option<T>, SealError> {
        let content = match read_file(io, path, MAX_FILE_BYTES) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.open(&content).map(Some)
    }

    fn open<T: DeserializeOwned>(self, content: &[u8]) -> Result<T, SealError> {
        let (head, rest) = content
            .split_first_chunk::<16>()
            .ok_or(SealError::Damaged)?;
        let (sum, body) = rest.split_first_chunk::<8>().ok_or(SealError::Damaged)?;
        let (magic, rest) = head.split_first_chunk::<8>().ok_or(SealError::Damaged)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(SealError::Damaged)?;
        let raw_bytes = rest.first_chunk::<4>().ok_or(SealError::Damaged)?;
        if *magic != self.magic || checksum(head, body) != u64::from_le_bytes(*sum) {
            return Err(SealError::Damaged);
        }
        let found = u32::from_le_bytes(*version);
        if found != self.version {
            return Err(SealError::Version {
                found,
                known: self.version,
            });
        }
        let raw_bytes = usize::try_from(u32::from_le_bytes(*raw_bytes)).unwrap_or(usize::MAX);
        if raw_bytes > MAX_RAW_BYTES {
            return Err(SealError::Damaged);
        }
        let raw = zstd::bulk::decompress(body, raw_bytes)?;
        postcard::from_bytes(&raw).map_err(|_| SealError::Damaged)
    }
}

fn checksum(head: &[u8], body: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(head);
    hash.update(body);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimulatedDisk;

    const SEAL: Seal = Seal {
        magic: *b"TGTEST\0\0",
        version: 3,
    };

    #[test]
    fn every_flipped_bit_is_found_and_a_newer_version_is_named() {
        let disk = SimulatedDisk::new();
        let dir = Path::new("/d");
        let path = dir.join("f");
        assert!(SEAL.read::<Vec<u64>>(&disk, &path).unwrap().is_none());
        let value: Vec<u64> = (0..50).collect();
        SEAL.write(&disk, dir, "f", &value).unwrap();
        assert_eq!(SEAL.read(&disk, &path).unwrap(), Some(value));
        let length = disk.open(&path).unwrap().byte_len().unwrap();
        for byte in 0..usize::try_from(length).unwrap() {
            disk.flip_bit(&path, byte, 2).unwrap();
            assert!(
                matches!(SEAL.read::<Vec<u64>>(&disk, &path), Err(SealError::Damaged)),
                "byte {byte}"
            );
            disk.flip_bit(&path, byte, 2).unwrap();
        }
        let newer = Seal { version: 2, ..SEAL };
        assert!(matches!(
            newer.read::<Vec<u64>>(&disk, &path),
            Err(SealError::Version { found: 3, known: 2 })
        ));
    }
}
