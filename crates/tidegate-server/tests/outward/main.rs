//! What leaves the server: where to, and what happens when the other side misbehaves.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "tests: what cannot go on has failed"
)]

mod egress;
mod far_end;
mod hooks;
mod house;
mod notices;
mod sources;
