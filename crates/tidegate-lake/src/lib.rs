//! Durable events: the log, columnar files, live aggregates.
