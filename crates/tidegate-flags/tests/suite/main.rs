//! Behaviour of the crate through its public doors.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod allocation;
mod bad_input;
mod conformance;
mod explaining;
mod fuzz;
mod gates;
mod gherkin;
mod killing;
mod prerequisites;
mod rollouts;
mod rules;
mod support;
mod vectors;
mod warnings;
