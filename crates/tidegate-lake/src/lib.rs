//! Durable events: the log, columnar files, live aggregates.
//!
//! [`Lake`] is one project's events. Its [`EventLog`] makes them durable before they are
//! acknowledged; a [`LiveFollower`] counts them for guards within a second. All disk access goes
//! through [`LakeIo`], so that crash tests can replace the disk. The crate reads no clock: times
//! of receipt come with the events.

pub mod background;
mod codec;
mod columns;
mod io;
mod lake;
mod live;
mod log;
mod query;
mod sealed;

pub use codec::CodecError;
pub use columns::{
    AliasRefusal, AliasReport, Aliases, ColumnError, ColumnOptions, ColumnStore, CompactionReport,
    DamagedFile, ErasedUnit, ErasureReceipt, FileMeta, FlushReport, HotMemory, LakeState,
    RowGroupMeta, Rows, Texts, VerifyReport,
};
pub use io::{
    DiskAlert, DiskSpace, LakeFile, LakeIo, RealDisk, SimulatedDisk, read_file, replace_file,
};
pub use lake::{Covered, Housekeeping, HousekeepingError, Intake, Lake, LakeOptions, OpenError};
pub use live::{LiveError, LiveFollower};
pub use log::{
    AppendError, Appended, CommitSink, Committed, EventLog, LogError, LogHealth, LogOptions,
    NoSink, RecoveryReport, TornTail,
};
pub use query::{KeptMemory, QueryError};
