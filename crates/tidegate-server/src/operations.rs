//! What running the house needs beside serving it: counters, the key that signs checkpoints, and
//! which web pages may call.

use tidegate_store::audit::CheckpointSigner;

use crate::egress::Egress;
use crate::egress::credentials::Credentials;
use crate::egress::policy::EgressPolicy;
use crate::hooks::Hooks;
use crate::hooks::command::CommandHook;
use crate::http::cors::AllowedOrigins;
use crate::meters::Meters;
use crate::notices::Notices;
use crate::sign_in::Hashing;

/// What the server may do beyond answering: whom it reaches, as whom, and what it runs.
#[derive(Debug, Clone, Default)]
pub struct Outward {
    /// What may be reached beside the public Internet over HTTPS.
    pub policy: EgressPolicy,
    /// Credentials presented to others.
    pub credentials: Credentials,
    /// Programs that are asked or told.
    pub commands: Vec<CommandHook>,
    /// The server's own address, as links in notices begin.
    pub public_url: Option<String>,
}

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
    /// The one way out.
    pub egress: Egress,
    /// Who is told what happened.
    pub notices: Notices,
    /// Who is asked before a share rises.
    pub hooks: Hooks,
}
