//! The last good set of each project, kept as a file so that a start needs no database.
//!
//! Written beside the database after each swap, by rename, so that it is whole or the one before.
//! A file that cannot be read is reported and passed over; it is never deleted, and an empty set
//! is never written over a full one by a failed load, because only a successful load is saved.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::live::{LiveSet, Source};

/// The largest file that is read back.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    project: String,
    sha256: String,
    source: Source,
}

/// What a start finds.
#[derive(Debug)]
pub struct Loaded {
    /// Every set that can be read, by project.
    pub sets: Vec<(String, Source)>,
    /// A sentence about each file that cannot.
    pub problems: Vec<String>,
}

/// The folder of last good sets.
#[derive(Debug)]
pub struct LastGood {
    folder: PathBuf,
    /// What of each project is on disk.
    saved: Mutex<BTreeMap<String, Saved>>,
}

/// What tells one kept set from the next: its version, and the schedules that are held in it.
type Saved = ((u64, u64), BTreeMap<String, i64>);

impl LastGood {
    /// The folder under `data_dir`, created if missing.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let folder = folder_in(data_dir);
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            saved: Mutex::default(),
        })
    }

    /// Saves what `project` serves, unless that very version is on disk. A set that storage did
    /// not confirm is never saved over one that it did.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_if_new(&self, project: &str, set: &LiveSet) -> io::Result<()> {
        let version = ((set.epoch, set.config_version), set.source.held.clone());
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if set.stale_since_us.is_some() || saved.get(project) == Some(&version) {
            return Ok(());
        }
        self.save(project, &set.source)?;
        saved.insert(project.to_owned(), version);
        Ok(())
    }

    /// Saves what `project` serves.
    ///
    /// # Errors
    /// As the file system says; what was there before is then still there.
    pub fn save(&self, project: &str, source: &Source) -> io::Result<()> {
        let file = File {
            format: FORMAT,
            project: project.to_owned(),
            sha256: digest(source)?,
            source: source.clone(),
        };
        let text = serde_json::to_vec(&file)?;
        let target = self.folder.join(format!("{project}.json"));
        let partial = self.folder.join(format!("{project}.json.partial"));
        let mut out = fs::File::create(&partial)?;
        out.write_all(&text)?;
        out.sync_data()?;
        fs::rename(&partial, &target)?;
        fs::File::open(&self.folder)?.sync_all()
    }

    /// Every set that can be read, and a sentence about each file that cannot.
    ///
    /// # Errors
    /// Only if the folder itself cannot be listed.
    pub fn load(&self) -> io::Result<Loaded> {
        load_from(&self.folder)
    }
}

/// What `data_dir` served last, without making or changing anything.
///
/// # Errors
/// Only if the folder cannot be listed.
pub fn read_all(data_dir: &Path) -> io::Result<Loaded> {
    load_from(&folder_in(data_dir))
}

fn folder_in(data_dir: &Path) -> PathBuf {
    data_dir.join("last-good")
}

fn load_from(folder: &Path) -> io::Result<Loaded> {
    let mut sets = Vec::new();
    let mut problems = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match read(&path) {
            Ok(file) => sets.push((file.project, file.source)),
            Err(reason) => problems.push(format!("{}: {reason}", path.display())),
        }
    }
    Ok(Loaded { sets, problems })
}

fn read(path: &Path) -> Result<File, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("{size} bytes, and at most {MAX_BYTES} are read"));
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let file: File = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if file.format != FORMAT {
        return Err(format!("format {} is not known here", file.format));
    }
    let found = digest(&file.source).map_err(|error| error.to_string())?;
    if found != file.sha256 {
        return Err("its digest does not match its content".to_owned());
    }
    Ok(file)
}

fn digest(source: &Source) -> io::Result<String> {
    let text = serde_json::to_vec(source)?;
    Ok(Sha256::digest(&text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source() -> Source {
        Source {
            config_version: 7,
            flags: [(
                "a".to_owned(),
                json!({"state": "ENABLED", "variants": {"on": 1.0}}),
            )]
            .into(),
            ..Source::default()
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_a_damaged_file_is_named_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let kept = LastGood::open(folder.path()).unwrap();
        kept.save("shop", &source()).unwrap();
        kept.save("bad", &source()).unwrap();
        let damaged = folder.path().join("last-good/bad.json");
        let text = fs::read_to_string(&damaged)
            .unwrap()
            .replace("ENABLED", "ENABLEd");
        fs::write(&damaged, text).unwrap();
        fs::write(folder.path().join("last-good/torn.json"), "{\"format\":1").unwrap();
        let Loaded { sets, mut problems } = kept.load().unwrap();
        assert_eq!(sets.len(), 1);
        assert_eq!(sets[0].0, "shop");
        assert_eq!(sets[0].1.config_version, 7);
        assert_eq!(sets[0].1.flags, source().flags);
        problems.sort();
        assert!(
            problems[0].contains("bad.json") && problems[0].contains("digest"),
            "{problems:?}"
        );
        assert!(problems[1].contains("torn.json"), "{problems:?}");
    }
}
