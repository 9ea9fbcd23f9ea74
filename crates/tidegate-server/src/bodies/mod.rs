//! Bodies of telemetry, on their way from the wire to whoever reads them.
//!
//! All requests together hold at most so many bytes ([`room`]): what has arrived of a body, and
//! what it unpacks to, is reserved before memory is taken for it. A bomb costs its fuse, and many
//! large bodies at once are told to come back instead of filling memory. Only as many bodies are
//! unpacked and read at a time as there are cores, beside the tasks that serve flags; the others
//! wait packed.

pub(crate) mod receive;
pub(crate) mod room;
pub(crate) mod unpack;

/// A KiB.
const KIB: usize = 1024;
/// A MiB.
const MIB: usize = 1024 * KIB;

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Others hold the room it needs.
    #[error("too many large bodies are being read; try again shortly")]
    Crowded,
    /// More than may be sent, or more than may come out of it.
    #[error("body exceeds {limit} bytes; send smaller batches")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// It ends early, or is not packed as it says.
    #[error("the body does not unpack: {detail}")]
    Broken {
        /// What went wrong.
        detail: String,
    },
}
