//! The store from outside: conformance, faults, backup, audit, and the reference model.

#![expect(clippy::unwrap_used, reason = "these are tests; a failure is a panic")]

mod audit_export;
mod backup;
mod conformance;
mod faults;
mod model;
mod support;
