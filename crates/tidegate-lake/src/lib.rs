//! Durable events: the log, columnar files, live aggregates.
//!
//! [`EventLog`] makes events durable before they are acknowledged. All disk access goes through
//! [`LakeIo`], so that crash tests can replace the disk.

mod codec;
mod io;
mod log;

pub use codec::CodecError;
pub use io::{LakeFile, LakeIo, RealDisk, SimulatedDisk, read_file, replace_file};
pub use log::{
    AppendError, Appended, CommitSink, Committed, EventLog, LogError, LogHealth, LogOptions,
    NoSink, RecoveryReport,
};
