//! Tidegate: ship dark, open step by step, shut by itself.

mod delivery;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Delivery performance: import what happened, ask how it flows.
    #[command(subcommand)]
    Delivery(delivery::DeliveryCommand),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Delivery(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
