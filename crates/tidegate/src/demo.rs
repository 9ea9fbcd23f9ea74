//! `tidegate demo`: the whole loop with a known truth.
//!
//! The demo starts a real server, plays a shop's customers against its real interfaces, and ends by
//! holding the server's verdicts against what it made happen.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::output::OutputArguments;

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Where to keep the demo's data; without it, a folder that goes away
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The address to answer at; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:8800")]
    listen: SocketAddr,
    /// Seed of the customers
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Stop when the scenarios are over
    #[arg(long)]
    exit_when_done: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// Plays the scenarios.
pub(crate) fn run(_arguments: &DemoArguments) -> Result<ExitCode> {
    anyhow::bail!("not here yet")
}
