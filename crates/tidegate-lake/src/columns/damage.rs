//! Damaged event files: set apart, so that one bad file keeps no answer from the others, and taken
//! back once they hold again what was written.
//!
//! A file is damaged if it is missing, cannot be read, or has another length or checksum than it
//! was written with. Whoever fails over an event file (a question, a merge, an erasure) has it
//! looked at; verification looks at all of them. What the system lacked for a moment, such as
//! memory or handles, is no damage and sets nothing apart.
//!
//! One record of the manifest takes a file out of the lake, with its day, its rows and the reason;
//! then it is moved to `damaged/`, out of the way of whoever reads `events/*.parquet`. It is never
//! deleted before its day expires. Verification looks at it again, there and under its old name
//! in `events/`, where a copy may have been restored: one that holds what was written comes back.

use super::ColumnError;
use super::file::checksum_of;
use super::manifest::{DamagedFile, FileMeta, LakeState, Record};
use super::store::ColumnStore;
use std::io;
use std::path::Path;

const EIO: i32 = 5;

impl ColumnStore {
    /// Looks at the event file that an error is about, and sets it apart if it is damaged. Says
    /// whether asking again goes without it.
    pub(crate) fn goes_without(&self, error: &ColumnError) -> bool {
        let Some(name) = self.event_file_of(error) else {
            return false;
        };
        let state = self.state();
        let Some(file) = state.files.get(&name) else {
            return state.damaged.contains_key(&name);
        };
        let found = self.damage_of(file);
        let outcome = found.and_then(|damage| match damage {
            Some(reason) => self.set_apart(&name, &reason),
            None => Ok(false),
        });
        outcome.unwrap_or_else(|error| {
            tracing::error!(%error, file = name, "a file that may be damaged cannot be set apart");
            false
        })
    }

    fn event_file_of(&self, error: &ColumnError) -> Option<String> {
        let path = match error {
            ColumnError::Io { path, .. }
            | ColumnError::Parquet { path, .. }
            | ColumnError::Damaged { path, .. } => path,
            ColumnError::Log(_) | ColumnError::Codec(_) => return None,
        };
        let is_event_file = path.parent() == Some(self.events_dir.as_path());
        let name = path.file_name().filter(|_| is_event_file)?;
        name.to_str().map(str::to_owned)
    }

    /// What is wrong with an event file, if it does not hold what was written.
    pub(super) fn damage_of(&self, file: &FileMeta) -> Result<Option<String>, ColumnError> {
        self.damage_at(&self.events_dir.join(&file.name), file)
    }

    pub(super) fn damage_at(
        &self,
        path: &Path,
        file: &FileMeta,
    ) -> Result<Option<String>, ColumnError> {
        match checksum_of(self.io.as_ref(), path) {
            Ok((bytes, _)) if bytes != file.bytes => {
                let expected = file.bytes;
                Ok(Some(format!("it has {bytes} bytes instead of {expected}")))
            }
            Ok((_, checksum)) if checksum != file.checksum => {
                Ok(Some("its checksum differs".to_owned()))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Some("it is missing".to_owned()))
            }
            Err(error) if is_unreadable(&error) => Ok(Some(format!("it cannot be read: {error}"))),
            Err(error) => Err(ColumnError::io(path, error)),
        }
    }

    /// Takes a file out of the lake; says whether it is out of it because it is damaged.
    pub(super) fn set_apart(&self, name: &str, reason: &str) -> Result<bool, ColumnError> {
        let record = Record::SetApart {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let is_new = self.commit_if(record, &|state| state.files.contains_key(name))?;
        if let (true, Some(damaged)) = (is_new, self.peek().damaged.get(name)) {
            tracing::error!(problem = self.told(damaged), "a damaged file is set apart");
            self.forget_decoded(damaged.file.checksum);
            self.move_aside(name);
        }
        Ok(self.peek().damaged.contains_key(name))
    }

    /// Moves a file that was set apart out of the way. One that cannot be moved stays where it is,
    /// and is moved at the next start.
    pub(super) fn move_aside(&self, name: &str) {
        let io = self.io.as_ref();
        let (from, to) = (self.events_dir.join(name), self.damaged_dir.join(name));
        if io.open(&to).is_ok() {
            return;
        }
        let made = io.create_dir_all(&self.damaged_dir);
        let moved = match made.and_then(|()| io.rename(&from, &to)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            moved => moved,
        };
        let synced = moved
            .and_then(|()| io.sync_dir(&self.damaged_dir))
            .and_then(|()| io.sync_dir(&self.events_dir));
        if let Err(error) = synced {
            tracing::warn!(%error, file = name, "a damaged file cannot be moved aside");
        }
    }

    /// Takes back a file that was set apart, from wherever `is_sound` finds it; says whether it did.
    pub(super) fn take_back(
        &self,
        file: &FileMeta,
        is_sound: &mut dyn FnMut(&Path) -> Result<bool, ColumnError>,
    ) -> Result<bool, ColumnError> {
        let [restored, aside] =
            [&self.events_dir, &self.damaged_dir].map(|dir| dir.join(&file.name));
        let io = self.io.as_ref();
        if is_sound(&restored)? {
            // The copy beside it holds nothing that this one does not.
        } else if is_sound(&aside)? {
            io.rename(&aside, &restored)
                .map_err(|e| ColumnError::io(&restored, e))?;
        } else {
            return Ok(false);
        }
        for dir in [&self.events_dir, &self.damaged_dir] {
            // Without a file set apart there may be no such directory.
            let synced = io.sync_dir(dir).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            });
            synced.map_err(|e| ColumnError::io(dir, e))?;
        }
        self.forget_decoded(file.checksum);
        let name = file.name.clone();
        let record = Record::TakenBack { name };
        let is_back = self.commit_if(record, &|state| state.damaged.contains_key(&file.name))?;
        if is_back {
            tracing::info!(file = file.name, "a file that was set apart is whole again");
            self.remove_aside(&file.name);
        }
        Ok(is_back)
    }

    /// Deletes what nobody will ask for again. What cannot be deleted now is at the next start.
    pub(super) fn remove_aside(&self, name: &str) {
        match self.io.remove(&self.damaged_dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = name, "a damaged file cannot be deleted");
            }
            _ => {}
        }
    }

    /// What is to be said of a file that is set apart, and its cure.
    pub(super) fn told(&self, damaged: &DamagedFile) -> String {
        let missing = damaged.missing();
        format!(
            "{}: {}; its {} rows of {} are in no answer. Restore the file there from a copy of the \
             data folder; the next verification takes it back",
            self.events_dir.join(&missing.file).display(),
            missing.reason,
            missing.rows,
            missing.day,
        )
    }

    /// What is to be said of every file that is set apart.
    #[must_use]
    pub fn damage(&self, state: &LakeState) -> Vec<String> {
        state.damaged.values().map(|file| self.told(file)).collect()
    }
}

/// Whether the disk has lost what it was asked for, rather than the system being short of something.
fn is_unreadable(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(EIO)
}
