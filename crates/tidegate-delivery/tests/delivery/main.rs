//! Outcomes of the whole crate through its public doors.

mod devlake_golden;
mod edge_cases;
mod flow;
mod learning;
mod order_free;
mod public_fixtures;
mod story;
mod webhooks;
