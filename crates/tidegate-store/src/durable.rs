//! Files that survive: durable directory entries, and one process at a time.
//!
//! A file that was synced can still vanish in a power cut if the directory that names it was
//! not synced too.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// The directory that holds `path`.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Syncs the directory that holds `path`.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent_of(path))?.sync_all()
}

/// Puts the finished file `from` in the place of `to`, durably.
pub(crate) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    std::fs::rename(from, to)?;
    sync_parent(to)
}

/// `path` with `suffix` appended to its file name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Keeps other processes away from `path` by a lock on a file beside it.
///
/// The operating system lets go of the lock when the process ends, however it ends.
pub(crate) fn lock_beside(path: &Path) -> io::Result<File> {
    let lock = File::create(with_suffix(path, ".lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            "another process has it open",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
