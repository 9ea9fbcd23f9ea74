//! What running the house needs beside serving it: counters, the key that signs checkpoints, and
//! which web pages may call.

use tidegate_store::audit::CheckpointSigner;

use crate::http::cors::AllowedOrigins;
use crate::meters::Meters;
use crate::sign_in::Hashing;

/// The parts of operability that requests and tasks share.
#[derive(Debug, Default)]
pub struct Operations {
    /// What was counted since the start.
    pub meters: Meters,
    /// Signs audit checkpoints; absent where there is no durable state or no usable key.
    pub signer: Option<CheckpointSigner>,
    /// Web pages of other origins that may evaluate flags.
    pub allowed_origins: AllowedOrigins,
    /// Bounds the work of hashing passwords.
    pub hashing: Hashing,
    /// Whether what is served is a developer's file, which nobody writes through the server.
    pub serves_a_file: bool,
}
