//! Tidegate: ship dark, open step by step, shut by itself.
//!
//! The command line. Each command lives in a module of its own; this file only names them.
//! Exit codes: 0 ok, 1 failed, 2 usage.

mod delivery;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "tidegate", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Import what happened on the way to production, and ask how it flows.
    #[command(subcommand)]
    Delivery(delivery::DeliveryCommand),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Delivery(command) => delivery::run(&command),
    }
}
