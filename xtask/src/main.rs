//! The project's own checks, run by `make check`: what a linter cannot know about this house.
//!
//! `cargo xtask tidy` holds the dependency direction, licences, module introductions, the one
//! way out and the truth of documents; it prints the longest files as a conversation, not a guillotine.

mod dependencies;
mod documents;
mod egress;
mod modules;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let outcome = match task.as_str() {
        "tidy" => tidy(),
        _ => Err(anyhow::anyhow!("usage: cargo run -p xtask -- tidy")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn tidy() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has a parent")?;
    let metadata = dependencies::Metadata::read(root)?;
    let mut problems = dependencies::check(&metadata);
    problems.extend(modules::check(root)?);
    problems.extend(egress::check(root)?);
    problems.extend(documents::check(root, &metadata)?);
    for line in modules::longest(root)? {
        say(&line);
    }
    if problems.is_empty() {
        say("tidy: dependencies, modules and documents are as the plan says");
        return Ok(());
    }
    for problem in &problems {
        report(problem);
    }
    bail!("tidy: {} problems", problems.len())
}

#[expect(
    clippy::print_stdout,
    reason = "a command-line tool speaks on standard output"
)]
fn say(line: &str) {
    println!("{line}");
}

#[expect(
    clippy::print_stderr,
    reason = "a command-line tool complains on standard error"
)]
fn report(line: &str) {
    eprintln!("{line}");
}
