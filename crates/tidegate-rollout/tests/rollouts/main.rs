//! Whole rollouts, from policy to served share, in a modelled world.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by failing"
)]

mod guards;
mod histories;
mod policies;
mod scenarios;
mod world;
