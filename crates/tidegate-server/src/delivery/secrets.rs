//! Secrets of webhooks: at most two live per project and source, so that a key can be changed without a gap.
//!
//! An HMAC cannot be checked against a hash of its key, so unlike tokens these are kept as they are: in one file of
//! the data folder that only its owner can read, apart from the database, so that no backup of the database and no
//! audit export holds one. They are shown once, when they are made, and by no other route.
//! The file is read at the start: webhooks are taken while storage is away.
//!
//! A change is synced under another name and renamed over the old file: a crash leaves the one or the other.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tidegate_delivery::Moment;
use tidegate_delivery::webhook::{Secret, WebhookSource};

/// Live secrets of one project and source.
pub const MAX_LIVE: usize = 2;
/// Shortest secret that is taken from outside.
pub const MIN_GIVEN_BYTES: usize = 16;
/// Longest secret that is taken from outside.
pub const MAX_GIVEN_BYTES: usize = 256;
/// Secrets of all projects.
const MAX_SECRETS: usize = 10_000;
/// The largest file that is read back.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// A secret as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    id: String,
    project: String,
    source: String,
    secret: String,
    created_at: Moment,
    /// From here on it is refused.
    not_after: Option<Moment>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({}, {}, ..)", self.project, self.id)
    }
}

/// A secret as it is listed: everything but itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretRow {
    /// Its name.
    pub id: String,
    /// Whose webhooks it proves.
    pub source: String,
    /// When it was made.
    pub created_at: String,
    /// From when on it is refused.
    pub not_after: Option<String>,
    /// Whether it is taken now.
    pub is_live: bool,
}

/// A secret that was just made.
#[derive(Debug)]
pub struct Minted {
    /// What is listed of it.
    pub row: SecretRow,
    /// The secret, unless it came from outside.
    pub shown_once: Option<String>,
}

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// A secret that the sender chose (PagerDuty, GitLab); one is made without it.
    pub given: Option<String>,
    /// From then on the secrets before it are refused; they stay live without it.
    pub old_until: Option<Moment>,
}

/// Why a secret is not made or not ended.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Two are live already.
    #[error(
        "{MAX_LIVE} secrets of this source are live already; revoke one, or wait until one ends"
    )]
    TooManyLive,
    /// Too many in all.
    #[error("there are {MAX_SECRETS} webhook secrets already; revoke some")]
    Full,
    /// A secret from outside that is too short or too long.
    #[error("a secret has {MIN_GIVEN_BYTES} to {MAX_GIVEN_BYTES} bytes, this one has {bytes}")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// There is none of that name.
    #[error("no webhook secret {id:?} is live in this project")]
    NoSuchSecret {
        /// The name.
        id: String,
    },
    /// The machine's randomness or the file failed.
    #[error("the secret cannot be kept: {0}")]
    Io(#[from] io::Error),
}

/// All secrets, in memory and in their file.
#[derive(Debug)]
pub struct SecretBook {
    path: PathBuf,
    /// Why the file could not be read; it is then left as it is, and no webhook is taken.
    unreadable: Option<String>,
    kept: RwLock<Vec<Kept>>,
}

impl SecretBook {
    /// Opens the file; none yet is an empty book. One that cannot be read is empty too and is not written over:
    /// webhooks are turned away then, and everything else goes on.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let (kept, unreadable) = match load(path) {
            Ok(kept) => (kept, None),
            Err(error) => {
                tracing::error!(%error, "webhook secrets cannot be read; no webhook is taken");
                (Vec::new(), Some(error.to_string()))
            }
        };
        Self {
            path: path.to_owned(),
            unreadable,
            kept: RwLock::new(kept),
        }
    }

    /// The secrets of a project and source; those that have ended are among them and match nothing.
    #[must_use]
    pub fn of(&self, project: &str, source: WebhookSource) -> Vec<Secret> {
        self.read()
            .iter()
            .filter(|kept| kept.project == project && kept.source == source.name())
            .filter_map(|kept| Secret::new(&kept.secret, kept.not_after))
            .collect()
    }

    /// The secrets of a project, oldest first, without themselves.
    #[must_use]
    pub fn list(&self, project: &str, now: Moment) -> Vec<SecretRow> {
        self.read()
            .iter()
            .filter(|kept| kept.project == project)
            .map(|kept| row(kept, now))
            .collect()
    }

    /// Makes a secret, or takes the given one.
    ///
    /// # Errors
    /// [`SecretError`]; the book is then as it was.
    pub fn mint(
        &self,
        project: &str,
        source: WebhookSource,
        wanted: Wanted,
        now: Moment,
    ) -> Result<Minted, SecretError> {
        if let Some(given) = &wanted.given
            && !(MIN_GIVEN_BYTES..=MAX_GIVEN_BYTES).contains(&given.len())
        {
            return Err(SecretError::Length { bytes: given.len() });
        }
        let shown_once = match &wanted.given {
            None => Some(random_hex::<32>()?),
            Some(_) => None,
        };
        let made = Kept {
            id: random_hex::<8>()?,
            project: project.to_owned(),
            source: source.name().to_owned(),
            secret: shown_once.clone().or(wanted.given).unwrap_or_default(),
            created_at: now,
            not_after: None,
        };
        let row = row(&made, now);
        self.change(|kept| {
            // What has ended proves nothing any more and need not be kept.
            kept.retain(|one| is_live(one, now));
            let same = |one: &&mut Kept| one.project == made.project && one.source == made.source;
            if kept.iter_mut().filter(same).count() >= MAX_LIVE {
                return Err(SecretError::TooManyLive);
            }
            if kept.len() >= MAX_SECRETS {
                return Err(SecretError::Full);
            }
            for old in kept.iter_mut().filter(same) {
                old.not_after = wanted.old_until.or(old.not_after);
            }
            kept.push(made);
            Ok(())
        })?;
        Ok(Minted { row, shown_once })
    }

    /// Ends a secret at once.
    ///
    /// # Errors
    /// [`SecretError::NoSuchSecret`], or the file.
    pub fn revoke(&self, project: &str, id: &str) -> Result<(), SecretError> {
        self.change(|kept| {
            let before = kept.len();
            kept.retain(|one| !(one.project == project && one.id == id));
            if kept.len() == before {
                return Err(SecretError::NoSuchSecret { id: id.to_owned() });
            }
            Ok(())
        })
    }

    /// Changes the book on disk, then in memory.
    fn change(
        &self,
        work: impl FnOnce(&mut Vec<Kept>) -> Result<(), SecretError>,
    ) -> Result<(), SecretError> {
        if let Some(reason) = &self.unreadable {
            return Err(
                io::Error::other(format!("the file of secrets is unreadable: {reason}")).into(),
            );
        }
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = kept.clone();
        work(&mut next)?;
        save(&self.path, &next)?;
        *kept = next;
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Kept>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path) -> io::Result<Vec<Kept>> {
    match fs::metadata(path) {
        Ok(about) if about.len() > MAX_FILE_BYTES => Err(io::Error::other(format!(
            "{} has {} bytes, and at most {MAX_FILE_BYTES} are read",
            path.display(),
            about.len()
        ))),
        Ok(_) => Ok(serde_json::from_slice(&fs::read(path)?)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_live(kept: &Kept, now: Moment) -> bool {
    kept.not_after.is_none_or(|end| now < end)
}

fn row(kept: &Kept, now: Moment) -> SecretRow {
    SecretRow {
        id: kept.id.clone(),
        source: kept.source.clone(),
        created_at: kept.created_at.to_string(),
        not_after: kept.not_after.map(|at| at.to_string()),
        is_live: is_live(kept, now),
    }
}

fn random_hex<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn save(path: &Path, kept: &[Kept]) -> io::Result<()> {
    let next = path.with_extension("json.next");
    // A file that a crash left may have been made with other rights.
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn at(hours: i64) -> Moment {
        Moment::EARLIEST.plus_hours(hours)
    }

    fn live(book: &SecretBook, now: Moment) -> usize {
        let rows = book.list("p", now);
        rows.iter().filter(|row| row.is_live).count()
    }

    #[test]
    fn two_keys_live_while_one_takes_over_from_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.json");
        let book = SecretBook::open(&path);
        let mint = |wanted, now| book.mint("p", WebhookSource::GitHub, wanted, now);
        mint(Wanted::default(), at(0)).unwrap();
        let rotated = Wanted {
            given: None,
            old_until: Some(at(25)),
        };
        mint(rotated, at(1)).unwrap();
        assert_eq!((live(&book, at(2)), live(&book, at(25))), (2, 1));
        assert!(matches!(
            mint(Wanted::default(), at(2)),
            Err(SecretError::TooManyLive)
        ));
        mint(Wanted::default(), at(26)).unwrap();
        assert_eq!(live(&book, at(26)), 2);
        let reopened = SecretBook::open(&path);
        assert_eq!(reopened.list("p", at(26)), book.list("p", at(26)));
        assert_eq!(reopened.list("q", at(26)), []);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "[{").unwrap();
        let broken = SecretBook::open(&path);
        assert!(broken.of("p", WebhookSource::GitHub).is_empty());
        let refused = broken.mint("p", WebhookSource::GitHub, Wanted::default(), at(26));
        assert!(matches!(refused, Err(SecretError::Io(_))));
        assert_eq!(
            fs::read(&path).unwrap(),
            b"[{",
            "it is left for whoever mends it"
        );
    }

    #[test]
    fn a_revoked_secret_is_gone_and_a_short_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let book = SecretBook::open(&folder.path().join("s.json"));
        let made = book
            .mint("p", WebhookSource::Generic, Wanted::default(), at(0))
            .unwrap();
        assert_eq!(made.shown_once.map(|secret| secret.len()), Some(64));
        assert!(book.revoke("q", &made.row.id).is_err());
        book.revoke("p", &made.row.id).unwrap();
        assert!(book.of("p", WebhookSource::Generic).is_empty());
        let short = Wanted {
            given: Some("short".to_owned()),
            old_until: None,
        };
        let refused = book.mint("p", WebhookSource::PagerDuty, short, at(0));
        assert!(matches!(refused, Err(SecretError::Length { bytes: 5 })));
    }
}
