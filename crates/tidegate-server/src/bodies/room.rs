//! The memory that bodies may take, over all requests and projects, and whose turn it is to read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{BodyError, KIB, MIB};

/// Bytes that all bodies together may take.
const ROOM: usize = 256 * MIB;

/// What is left for bodies. No project takes more than three quarters, so that a noisy one always
/// leaves room for the others.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// One permit per KiB.
    kibibytes: Arc<Semaphore>,
    /// KiB that each project holds.
    held: Arc<Mutex<HashMap<Box<str>, usize>>>,
    /// KiB that one project may hold.
    quota: usize,
    /// One permit per body being unpacked and read.
    readers: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self::of(ROOM, cores.max(2))
    }
}

impl Room {
    /// Room for so many bytes, and so many readers.
    pub(super) fn of(bytes: usize, readers: usize) -> Self {
        let kibibytes = bytes / KIB;
        Self {
            kibibytes: Arc::new(Semaphore::new(kibibytes)),
            held: Arc::default(),
            quota: kibibytes / 4 * 3,
            readers: Arc::new(Semaphore::new(readers)),
        }
    }

    /// Holds nothing yet.
    pub(crate) fn hold(&self, project: &str) -> Held {
        Held {
            room: self.clone(),
            project: project.into(),
            permit: None,
        }
    }

    /// Waits for a turn to read, first come first served; it ends when what is returned is
    /// dropped.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Only a closed semaphore refuses, and nobody closes this one.
        Arc::clone(&self.readers).acquire_owned().await.ok()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Box<str>, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, project: &str, kibibytes: usize) -> Result<OwnedSemaphorePermit, BodyError> {
        let mut held = self.held();
        let has = held.get(project).copied().unwrap_or(0);
        let count = u32::try_from(kibibytes).map_err(|_| BodyError::Crowded)?;
        if has + kibibytes > self.quota {
            return Err(BodyError::Crowded);
        }
        let taken = Arc::clone(&self.kibibytes).try_acquire_many_owned(count);
        let taken = taken.map_err(|_| BodyError::Crowded)?;
        held.insert(project.into(), has + kibibytes);
        Ok(taken)
    }

    fn give_back(&self, project: &str, kibibytes: usize) {
        let mut held = self.held();
        if let Some(has) = held.get_mut(project) {
            *has = has.saturating_sub(kibibytes);
            if *has == 0 {
                held.remove(project);
            }
        }
    }
}

/// Room held for one body; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Room,
    project: Box<str>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn kibibytes(&self) -> usize {
        self.permit.as_ref().map_or(0, |held| held.num_permits())
    }

    /// Makes it so many bytes in all.
    ///
    /// # Errors
    /// [`BodyError::Crowded`]; it stays what it was.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), BodyError> {
        let (wanted, has) = (bytes.div_ceil(KIB), self.kibibytes());
        if wanted > has {
            let more = self.room.take(&self.project, wanted - has)?;
            match &mut self.permit {
                Some(held) => held.merge(more),
                None => self.permit = Some(more),
            }
        } else if let Some(held) = &mut self.permit {
            drop(held.split(has - wanted));
            self.room.give_back(&self.project, has - wanted);
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.give_back(&self.project, self.kibibytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_grows_and_shrinks_and_is_given_back() {
        let room = Room::of(8 * KIB, 1);
        let mut one = room.hold("one");
        one.set(5 * KIB).unwrap();
        let mut other = room.hold("other");
        assert_eq!(other.set(4 * KIB), Err(BodyError::Crowded));
        one.set(1).unwrap();
        other.set(6 * KIB).unwrap();
        assert_eq!(one.set(3 * KIB), Err(BodyError::Crowded));
        drop(other);
        one.set(6 * KIB).unwrap();
        drop(one);
        assert_eq!(room.kibibytes.available_permits(), 8);
        assert!(room.held().is_empty());
    }

    /// Fault 27: whoever floods the door leaves room for the others.
    #[test]
    fn one_project_never_takes_all_the_room() {
        let room = Room::of(8 * KIB, 1);
        let mut noisy: Vec<Held> = (0..8).map(|_| room.hold("noisy")).collect();
        let taken = noisy.iter_mut().filter_map(|held| held.set(KIB).ok());
        assert_eq!(taken.count(), 6);
        room.hold("quiet").set(2 * KIB).unwrap();
    }
}
