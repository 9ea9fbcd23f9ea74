//! What running the house needs beside serving it: counters, the key that signs checkpoints,
//! which web pages may call, and how far senders' clocks are off.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_metrics::Arrival;
use tidegate_store::audit::CheckpointSigner;

use crate::access::Principal;
use crate::clock_skew::{ClockSkew, SkewReport};
use crate::egress::Egress;
use crate::egress::credentials::Credentials;
use crate::egress::policy::EgressPolicy;
use crate::hooks::Hooks;
use crate::hooks::command::CommandHook;
use crate::http::cors::AllowedOrigins;
use crate::meters::Meters;
use crate::notices::Notices;
use crate::sign_in::Hashing;

/// The longest name of a sender, in characters.
const LONGEST_SOURCE: usize = 120;
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
    /// Taken in turns by those who change what people may do, since each reads before it writes.
    pub changing_people: tokio::sync::Mutex<()>,
    /// Clocks of those who send events, by project, credential and the sender's own name.
    pub clocks: Mutex<ClockSkew>,
    /// Whether what is served is a developer's file, which nobody writes through the server.
    pub serves_a_file: bool,
    /// The one way out.
    pub egress: Egress,
    /// Who is told what happened.
    pub notices: Notices,
    /// Who is asked before a share rises.
    pub hooks: Hooks,
}

impl Operations {
    /// Notes what a batch says of its sender's clock.
    pub(crate) fn note_clock(
        &self,
        sender: &Principal,
        source: &str,
        arrival: Arrival,
        newest_us: Option<i64>,
    ) {
        let place = place_of(sender);
        let name: String = source.chars().take(LONGEST_SOURCE).collect();
        let source = format!("{place}{} {name}", sender.id);
        let Arrival {
            received_us,
            sent_us,
        } = arrival;
        self.lock()
            .note(source.trim_end(), received_us, sent_us, newest_us);
    }

    /// The clocks of the senders of the caller's project.
    pub(crate) fn clocks(&self, caller: &Principal) -> Vec<SkewReport> {
        let place = place_of(caller);
        let of_project = |mut report: SkewReport| {
            report.source = report.source.strip_prefix(&place)?.to_owned();
            Some(report)
        };
        let all = self.lock().report();
        all.into_iter().filter_map(of_project).collect()
    }

    fn lock(&self) -> MutexGuard<'_, ClockSkew> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place_of(principal: &Principal) -> String {
    format!("{}/", principal.default_project())
}
