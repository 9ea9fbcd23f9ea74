//! Edges and use cases: HTTP, gRPC, sign-in, reconcilers.
//!
//! This crate is where decisions meet the world. Handlers extract, call one use case and convert;
//! use cases ([`app`]) know no transport; reconcilers take no input and may run twice. What is
//! served lives in [`live`] and is read without a lock, a query or an await.

pub mod access;
pub mod app;
pub mod bodies;
pub mod clients;
pub mod clock;
pub mod clock_skew;
pub mod delivery;
pub mod dev;
pub mod egress;
pub mod events;
pub mod grpc;
pub mod hooks;
pub mod http;
pub mod kept_credentials;
pub mod last_good;
pub mod lease;
pub mod listener;
pub mod live;
pub mod meters;
pub mod notices;
pub mod operations;
pub mod otlp;
pub mod rate_limit;
pub mod reconcile;
pub mod reports;
pub mod rollouts;
pub mod runtime;
mod schedules;
pub mod sign_in;
pub mod stops;
pub mod streams;
mod time_text;
mod token_uses;
pub mod upkeep;

/// The project that exists from the start and is meant where none is named.
pub const DEFAULT_PROJECT: &str = "default";
