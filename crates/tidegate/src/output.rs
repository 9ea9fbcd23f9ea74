//! What commands print: a table for people, JSON for programs, complaints with a next step.

use std::io::Write as _;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::Value;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// The `-o` option that every reading command has.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct OutputArguments {
    /// How to print the answer
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Prints one line on standard output. A reader that went away is no error of ours.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a document for programs.
pub(crate) fn json(document: &Value) -> Result<()> {
    line(&serde_json::to_string_pretty(document)?);
    Ok(())
}

/// Prints rows under their headings, in columns as wide as their widest cell.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = headings
        .iter()
        .map(|heading| heading.chars().count())
        .collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let text: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(text.join("  ").trim_end());
    };
    print(&mut headings.iter().copied());
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// Says on standard error what failed, with everything known about why.
pub(crate) fn complain(error: &anyhow::Error) {
    note(&format!("tidegate: {error:#}"));
}

/// Says something on standard error, where it does not disturb a program that reads the answer.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
