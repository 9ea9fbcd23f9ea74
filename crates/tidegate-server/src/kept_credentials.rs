//! The token book as a file, so that a start without a database knows its callers.
//!
//! Kept beside the last good sets: selectors and hashes, never a secret, readable by the owner
//! alone. What storage says replaces it as soon as storage can be read; a token that was disabled
//! since stays let in until then, as long as it was in the kept book.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tidegate_store::CredentialHash;

use crate::access::{BookEntry, Role};

/// The largest file that is read back.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// One credential as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    selector: String,
    hash: [u8; 32],
    project: String,
    role: String,
    expires_at_us: Option<i64>,
    disabled: bool,
}

/// Where the book is kept.
#[derive(Debug)]
pub struct KeptCredentials {
    path: PathBuf,
    saved: Mutex<Vec<Kept>>,
}

impl KeptCredentials {
    /// The file under `data_dir`.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("credentials.json"),
            saved: Mutex::default(),
        }
    }

    /// The kept book; empty where there is none yet.
    ///
    /// # Errors
    /// A file that cannot be read as a book.
    pub fn load(&self) -> io::Result<HashMap<String, BookEntry>> {
        let size = match fs::metadata(&self.path) {
            Ok(about) => about.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
            Err(error) => return Err(error),
        };
        if size > MAX_BYTES {
            return Err(io::Error::other(format!(
                "{size} bytes, and at most {MAX_BYTES} are read"
            )));
        }
        let kept: Vec<Kept> = serde_json::from_slice(&fs::read(&self.path)?)?;
        Ok(kept.into_iter().filter_map(entry_of).collect())
    }

    /// Keeps `entries`, unless exactly they are kept already.
    ///
    /// # Errors
    /// As the file system says; the book before is then still there.
    pub fn save(&self, entries: &HashMap<String, BookEntry>) -> io::Result<()> {
        let mut book: Vec<Kept> = entries.iter().map(kept_of).collect();
        book.sort_by(|a, b| a.selector.cmp(&b.selector));
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved == book {
            return Ok(());
        }
        let partial = self.path.with_extension("json.partial");
        let mut out = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        out.write_all(&serde_json::to_vec(&book)?)?;
        out.sync_data()?;
        fs::rename(&partial, &self.path)?;
        *saved = book;
        Ok(())
    }
}

fn kept_of((selector, entry): (&String, &BookEntry)) -> Kept {
    Kept {
        selector: selector.clone(),
        hash: *entry.hash.as_bytes(),
        project: entry.project.clone(),
        role: entry.role.as_str().to_owned(),
        expires_at_us: entry.expires_at_us,
        disabled: entry.disabled,
    }
}

fn entry_of(kept: Kept) -> Option<(String, BookEntry)> {
    let entry = BookEntry {
        hash: CredentialHash::from_bytes(kept.hash),
        project: kept.project,
        role: Role::parse(&kept.role)?,
        expires_at_us: kept.expires_at_us,
        disabled: kept.disabled,
    };
    Some((kept.selector, entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_kept_book_is_read_back_and_only_by_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptCredentials::new(folder.path());
        assert!(kept.load().unwrap().is_empty());
        let entry = BookEntry {
            hash: CredentialHash::of("secret"),
            project: "shop".to_owned(),
            role: Role::Server,
            expires_at_us: Some(7),
            disabled: true,
        };
        kept.save(&HashMap::from([("sel".to_owned(), entry)]))
            .unwrap();
        let back = KeptCredentials::new(folder.path()).load().unwrap();
        let found = &back["sel"];
        assert_eq!(found.hash, CredentialHash::of("secret"));
        assert_eq!(
            (found.role, found.expires_at_us, found.disabled),
            (Role::Server, Some(7), true)
        );
        let mode = fs::metadata(folder.path().join("credentials.json"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        fs::write(folder.path().join("credentials.json"), "[{\"selector\":").unwrap();
        assert!(kept.load().is_err());
    }
}
