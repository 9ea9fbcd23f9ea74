//! A disk in memory that behaves as badly as real ones may.
//!
//! Model: a write is visible at once and durable only after `sync_data`. At a power cut every
//! unsynced 512-byte sector survives or not by chance and independently, which covers loss,
//! reordering and tearing. Names (create, rename, remove) are durable only after `sync_dir`; of
//! the unsynced ones a random prefix survives, as with a journalling file system. A
//! length grown but not synced survives or not by chance.
//!
//! Chance is a seeded generator, so that a failing run can be repeated.

use super::{LakeFile, LakeIo};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: usize = 512;
const EIO: i32 = 5;
const EMFILE: i32 = 24;

/// A shared handle to a simulated disk; clones see the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameChange>,
    capacity: Option<u64>,
    operations_left: Option<u64>,
    failing_syncs: u32,
    failing_opens: u32,
    generation: u64,
}

#[derive(Debug, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    dirty_sectors: BTreeSet<usize>,
    is_unreadable: bool,
}

#[derive(Debug, Clone)]
enum NameChange {
    Put(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Put(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Put(path, _) | Self::Remove(path) | Self::Rename(_, path) => path.parent(),
        }
    }
}

impl SimulatedDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power: decides by `seed` what of the unsynced survives, then lets everything
    /// work again. Handles opened before are dead and only report errors.
    pub fn crash(&self, seed: u64) {
        let mut chance = Chance(seed | 1);
        let mut state = self.state();
        let kept = chance.below(state.pending_names.len() + 1);
        let changes: Vec<_> = state.pending_names.drain(..).take(kept).collect();
        for change in changes {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            inode.cut_power(&mut chance);
        }
        state.operations_left = None;
        state.failing_syncs = 0;
        state.generation += 1;
    }

    /// Kills the process, not the machine: everything written stays, open handles die.
    pub fn kill(&self) {
        let mut state = self.state();
        state.operations_left = None;
        state.failing_syncs = 0;
        state.generation += 1;
    }

    /// After this many further changing operations, every one fails as if the process were gone.
    pub fn stop_after(&self, operations: u64) {
        self.state().operations_left = Some(operations);
    }

    /// Lets the next calls to sync fail with EIO.
    pub fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    /// Lets the next calls to open fail because too many files are open.
    pub fn fail_opens(&self, count: u32) {
        self.state().failing_opens = count;
    }

    /// Lets every read of a stored file fail with EIO, or no longer.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    pub fn fail_reads(&self, path: &Path, is_unreadable: bool) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.inode(path)?;
        let inode = state.inodes.get_mut(inode).ok_or(io::ErrorKind::NotFound)?;
        inode.is_unreadable = is_unreadable;
        Ok(())
    }

    /// Limits the disk to a number of bytes; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Inverts one bit of a stored file, in memory and on the medium.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `UnexpectedEof` if it is shorter.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u32) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.inode(path)?;
        let inode = state.inodes.get_mut(inode).ok_or(io::ErrorKind::NotFound)?;
        for copy in [&mut inode.content, &mut inode.durable] {
            let target = copy.get_mut(byte).ok_or(io::ErrorKind::UnexpectedEof)?;
            *target ^= 1u8.wrapping_shl(bit);
        }
        Ok(())
    }
}

impl State {
    fn inode(&self, path: &Path) -> io::Result<usize> {
        let found = self.names.get(path).copied();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn change(&mut self) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) => Err(io::Error::from_raw_os_error(EIO)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.change()?;
        if self.failing_syncs > 0 {
            self.failing_syncs -= 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        let inodes: BTreeSet<usize> = self.names.values().copied().collect();
        let bytes: usize = inodes
            .iter()
            .filter_map(|inode| self.inodes.get(*inode))
            .map(|inode| inode.content.len())
            .sum();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn grow(&mut self, inode: usize, length: usize) -> io::Result<()> {
        let used = self.used();
        let capacity = self.capacity.unwrap_or(u64::MAX);
        let inode = self.inodes.get_mut(inode).ok_or(io::ErrorKind::NotFound)?;
        let more = length.saturating_sub(inode.content.len());
        if used.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)) > capacity {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        if more > 0 {
            inode.content.resize(length, 0);
        }
        Ok(())
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        let end = offset + bytes.len();
        let target = self
            .content
            .get_mut(offset..end)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        target.copy_from_slice(bytes);
        self.dirty_sectors
            .extend(offset / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }

    fn cut_power(&mut self, chance: &mut Chance) {
        if self.durable.len() < self.content.len() && chance.coin() {
            self.durable.resize(self.content.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty_sectors) {
            let start = sector * SECTOR;
            let end = (start + SECTOR)
                .min(self.content.len())
                .min(self.durable.len());
            if chance.coin()
                && let (Some(to), Some(from)) = (
                    self.durable.get_mut(start..end),
                    self.content.get(start..end),
                )
            {
                to.copy_from_slice(from);
            }
        }
        self.content.clone_from(&self.durable);
    }
}

#[derive(Debug)]
struct Handle {
    disk: SimulatedDisk,
    inode: usize,
    generation: u64,
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.generation == self.generation {
            Ok(state)
        } else {
            Err(io::Error::from_raw_os_error(EIO))
        }
    }
}

impl LakeIo for SimulatedDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LakeFile>> {
        let mut state = self.state();
        if state.failing_opens > 0 {
            state.failing_opens -= 1;
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Ok(Arc::new(Handle {
            disk: self.clone(),
            inode: state.inode(path)?,
            generation: state.generation,
        }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LakeFile>> {
        let mut state = self.state();
        state.change()?;
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        let change = NameChange::Put(path.to_owned(), inode);
        change.apply(&mut state.names);
        state.pending_names.push(change);
        Ok(Arc::new(Handle {
            disk: self.clone(),
            inode,
            generation: state.generation,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.inode(from)?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.apply(&mut state.names);
        state.pending_names.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.inode(path)?;
        let change = NameChange::Remove(path.to_owned());
        change.apply(&mut state.names);
        state.pending_names.push(change);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.sync()?;
        let (durable, pending): (Vec<_>, Vec<_>) = state
            .pending_names
            .drain(..)
            .partition(|change| change.dir() == Some(dir));
        state.pending_names = pending;
        for change in durable {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state
            .capacity
            .unwrap_or(u64::MAX)
            .saturating_sub(state.used()))
    }
}

impl LakeFile for Handle {
    fn byte_len(&self) -> io::Result<u64> {
        let state = self.state()?;
        let inode = state
            .inodes
            .get(self.inode)
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(u64::try_from(inode.content.len()).unwrap_or(u64::MAX))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state()?;
        let inode = state
            .inodes
            .get(self.inode)
            .ok_or(io::ErrorKind::NotFound)?;
        if inode.is_unreadable {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let stored = inode
            .content
            .get(start..start.saturating_add(buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(stored);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull)?;
        state.grow(self.inode, start.saturating_add(bytes.len()))?;
        let inode = state.inodes.get_mut(self.inode);
        inode.ok_or(io::ErrorKind::NotFound)?.write(bytes, start)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::StorageFull)?;
        state.grow(self.inode, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.sync()?;
        let inode = state.inodes.get_mut(self.inode);
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        inode.durable.clone_from(&inode.content);
        inode.dirty_sectors.clear();
        Ok(())
    }
}

// xorshift64*: enough randomness to choose what a crash loses, without a dependency.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }
}
