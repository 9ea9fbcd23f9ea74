//! How delivery flows: changes, deployments, exposures and incidents folded to DORA and flow.
//!
//! The unit is one change on its way: idea, commit, merge, deployment, exposure, evidence.
//!
//! 1. [`event`] is the log's row, shaped after CDEvents; [`table_rows`] and [`webhook`] read others' formats into it.
//! 2. [`Timeline`] folds rows, in any order and with any repetition, to what happened.
//! 3. [`history`] and [`attribution`] say which deployment brought which change; [`rollback`] and [`failure`] say
//!    which went wrong, with reasons and with *unknown* where the record does not tell.
//! 4. [`metrics`] computes the five DORA metrics by a named [`definition`]; every number carries its n, interval
//!    and the events behind it. [`flow`] measures work in progress and forecasts.
//! 5. [`question`] is what people ask of it all, the same at every door.
//!
//! This crate must not know the clock, a random source, a file, a network, or any person:
//! `now` and seeds are arguments, and no row has a field by which people could be ranked.

pub mod attribution;
pub mod benchmark;
pub mod change_point;
pub mod commit_graph;
pub mod commit_message;
pub mod definition;
pub mod event;
mod event_checks;
pub mod failure;
pub mod flow;
pub mod history;
pub mod learning;
pub mod metrics;
pub mod moment;
pub mod promotion;
pub mod question;
pub mod rollback;
pub mod statistic;
pub mod table_rows;
pub mod target;
mod timeline;
pub mod version_order;
pub mod webhook;

pub use event::DeliveryEvent;
pub use event_checks::problems_of;
pub use moment::{Moment, Window};
pub use timeline::{
    CopyKey, Deployment, FlagHistory, Incident, Item, PullRequest, Repository, RolloutRollback,
    Series, SeriesKey, ServiceBinding, Timeline, TimelineBuilder,
};
