//! What happens next: ramp plan, guard evidence, planner.
