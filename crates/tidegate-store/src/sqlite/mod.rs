//! The embedded store: one SQLite file.
//!
//! - **Durability**: write-ahead log with `synchronous = FULL`: a commit is on disk when it
//!   returns, and a power cut leaves either all of a transaction or nothing.
//! - **One writer**: writes wait in a queue of this process for one connection, never for
//!   SQLite's lock, so their order is fair and their wait is bounded by
//!   [`SqliteOptions::write_wait`]; past it they are `Unavailable`.
//!   A file lock keeps a second process out.
//! - **Readers** have connections of their own and see the last commit; they go on while a
//!   write waits or fails.
//! - **A failing disk** ends writing until the program is started anew: after a failed sync
//!   nobody knows what is on disk, and trying again would acknowledge what may be lost.
//!   A full disk does not: its transaction is undone and the next one may fit.
//!
//! SQL is in `sql/`, one statement per file, in the dialect that SQLite and PostgreSQL share.

mod audit;
mod backup;
mod fault;
mod migrate;
mod objects;
mod outbox;
mod people;
mod projects;
mod restore;
mod row;
mod streams;
mod tokens;
mod verify;
mod whole;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};

pub use migrate::SCHEMA_VERSION;
pub use restore::{RestoreReport, restore};
pub use verify::verify_file;

use crate::{
    durable,
    error::{StoreError, StoreResult},
};

/// The statement in `sql/<name>.sql`.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../sql/", $name, ".sql"))
    };
}
use sql;

/// A statement with its parameters.
type Statement<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// Page size of the file, in bytes.
const PAGE_BYTES: u64 = 4096;
/// The write-ahead log is cut back to this size, in bytes, after it was larger.
const LOG_KEEP_BYTES: u32 = 64 * 1024 * 1024;

/// How to open the file.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The database file; its directory must exist.
    pub path: PathBuf,
    /// How long a write waits for the ones before it.
    pub write_wait: Duration,
    /// How many reads run at once.
    pub readers: u32,
    /// Largest size of the file, in bytes; beyond it writes are refused and reads go on.
    pub size_limit_bytes: Option<u64>,
    /// Only read: no lock is taken, nothing is migrated, every write is refused.
    pub read_only: bool,
}

impl SqliteOptions {
    /// The usual settings for a file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            write_wait: Duration::from_secs(5),
            readers: 4,
            size_limit_bytes: None,
            read_only: false,
        }
    }

    fn connect(&self) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(self.write_wait)
            .foreign_keys(true)
            .disable_statement_logging();
        if self.read_only {
            return options.read_only(true);
        }
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", LOG_KEEP_BYTES.to_string());
        match self.size_limit_bytes {
            Some(limit) => options.pragma("max_page_count", (limit / PAGE_BYTES).to_string()),
            None => options,
        }
    }
}

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    read_only: bool,
    writer: SqlitePool,
    readers: SqlitePool,
    /// Why writing ended, once it has.
    failed: OnceLock<String>,
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens the file, making or migrating it first where that is due.
    pub async fn open(options: SqliteOptions) -> StoreResult<Self> {
        let lock = if options.read_only {
            None
        } else {
            Some(lock(&options.path)?)
        };
        let found = migrate::inspect(&options.path).await?;
        if options.read_only {
            refuse_unready(found)?;
        } else {
            let mut connection = SqliteConnection::connect_with(&options.connect()).await?;
            migrate::migrate(&mut connection, &options.path, found).await?;
            connection.close().await?;
            durable::sync_parent(&options.path).map_err(|error| io_fault(&error))?;
        }
        Ok(Self {
            writer: writer_pool(&options),
            readers: reader_pool(&options),
            path: options.path,
            read_only: options.read_only,
            failed: OnceLock::new(),
            _lock: lock,
        })
    }

    /// Closes all connections, folding the write-ahead log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn refusal(&self) -> Option<StoreError> {
        if self.read_only {
            return Some(fault::unavailable(false, "it was opened to be read only"));
        }
        let reason = self.failed.get()?;
        Some(fault::unavailable(
            false,
            &format!("writing ended after a disk failure: {reason}"),
        ))
    }

    async fn begin(&self) -> StoreResult<Transaction<'static, Sqlite>> {
        match self.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?),
        }
    }

    /// Runs one statement in a transaction of its own and says how many rows it changed.
    async fn run(&self, statement: Statement<'_>) -> StoreResult<u64> {
        let mut txn = self.begin().await?;
        let done = statement.execute(&mut *txn).await;
        self.finish(
            txn,
            done.map(|done| done.rows_affected())
                .map_err(StoreError::from),
        )
        .await
    }

    /// Commits if the work succeeded, else undoes it and says why.
    async fn finish<T>(
        &self,
        txn: Transaction<'static, Sqlite>,
        work: StoreResult<T>,
    ) -> StoreResult<T> {
        let done = match work {
            Ok(done) => done,
            Err(error) => {
                // Undoing can fail only where SQLite has undone it already; the pool then
                // replaces the connection.
                let _ = txn.rollback().await;
                return Err(error);
            }
        };
        match txn.commit().await {
            Ok(()) => Ok(done),
            Err(error) => {
                if fault::is_disk_failure(&error) {
                    tracing::error!(%error, "the disk failed; writing ends until the next start");
                    let _ = self.failed.set(error.to_string());
                }
                Err(fault::of_commit(error))
            }
        }
    }
}

/// A connection whose transaction SQLite itself has undone still counts as inside it, and can
/// begin no other; the ping lets queued undoing happen before the question is asked.
fn writer_pool(options: &SqliteOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.write_wait)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(true)
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
        .connect_lazy_with(options.connect())
}

fn reader_pool(options: &SqliteOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .acquire_timeout(options.write_wait)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(true)
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
        .connect_lazy_with(options.connect().pragma("query_only", "ON"))
}

fn refuse_unready(found: Option<i64>) -> StoreResult<()> {
    match found {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(older) => Err(StoreError::invalid(
            "path",
            format!("its schema is version {older}; start the server once to migrate it"),
        )),
        None => Err(StoreError::not_found("the store's file")),
    }
}

fn lock(path: &Path) -> StoreResult<File> {
    durable::lock_beside(path).map_err(|error| io_fault(&error))
}

fn io_fault(error: &std::io::Error) -> StoreError {
    fault::unavailable(false, &error.to_string())
}
