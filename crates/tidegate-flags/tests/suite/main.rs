//! Behaviour of the crate through its public doors.

mod conformance;
mod gherkin;
mod support;
