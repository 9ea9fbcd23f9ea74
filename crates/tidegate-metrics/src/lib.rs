//! What happened to a unit: events folded to unit measurements and journeys.
