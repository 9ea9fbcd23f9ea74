//! The lake's only way to the disk.
//!
//! Everything durable goes through [`LakeIo`], so that tests can put [`SimulatedDisk`] in its
//! place: a disk that loses, reorders and tears what was not synced, fills up, and fails.
//! Positions are explicit (no shared cursor) and the two durability calls are separate, as they
//! are in the operating system: [`LakeFile::sync_data`] for content, [`LakeIo::sync_dir`] for
//! names.

mod real;
mod simulated;
mod space;

pub use real::RealDisk;
pub use simulated::SimulatedDisk;
pub use space::{DiskAlert, DiskSpace};

use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file system, as far as the lake needs one.
pub trait LakeIo: std::fmt::Debug + Send + Sync + 'static {
    /// Makes a directory and its parents.
    ///
    /// # Errors
    /// As the operating system reports them; so for every method here.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// As the operating system reports them; `NotFound` if there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LakeFile>>;

    /// Makes an empty file, replacing one of that name.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LakeFile>>;

    /// Gives a file another name at once, replacing one of that name.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names of a directory durable.
    ///
    /// # Errors
    /// As the operating system reports them; after one, nothing may be assumed durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes still free for us on the disk that holds the directory.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait LakeFile: std::fmt::Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the operating system reports them; so for every method here.
    fn byte_len(&self) -> io::Result<u64>;

    /// Fills the buffer from a position.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before the buffer is full.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all bytes at a position; durable only after [`LakeFile::sync_data`].
    ///
    /// # Errors
    /// As the operating system reports them.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Reserves disk space up to a length, which becomes the file's length.
    ///
    /// # Errors
    /// `StorageFull` if there is no room.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// As the operating system reports them; after one, nothing may be assumed durable.
    fn sync_data(&self) -> io::Result<()>;
}

/// Reads a whole file, refusing one longer than `limit` bytes before anything is allocated.
///
/// # Errors
/// As the operating system reports them; `FileTooLarge` beyond the limit.
pub fn read_file(io: &dyn LakeIo, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = io.open(path)?;
    let bytes = file.byte_len()?;
    if bytes > limit {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut content = vec![0; length];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// Replaces a small file so that a crash leaves the old content or the new: written aside,
/// synced, renamed, directory synced.
///
/// # Errors
/// As the operating system reports them.
pub fn replace_file(io: &dyn LakeIo, dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let aside = dir.join(format!("{name}.new"));
    let file = io.create(&aside)?;
    file.write_all_at(content, 0)?;
    file.sync_data()?;
    io.rename(&aside, &dir.join(name))?;
    io.sync_dir(dir)
}
