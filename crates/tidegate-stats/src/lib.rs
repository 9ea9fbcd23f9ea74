//! What the numbers say: estimates, intervals, tests, planning.

pub mod special;
