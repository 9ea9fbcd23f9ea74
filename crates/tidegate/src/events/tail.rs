//! `tidegate events tail`: the newest events, as the server stored them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::client::Connection;
use crate::output::{self, Format, OutputArguments};

/// How often a follower asks.
const ASK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate events tail\n  tidegate events tail --follow -o json\n\nWith \
                  --follow, JSON is one event per line."
)]
pub(crate) struct TailArguments {
    /// Keep showing events as they arrive
    #[arg(long, short = 'f')]
    follow: bool,
    /// How many of the newest to show
    #[arg(long, short = 'n', default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Shows events.
pub(crate) fn run(arguments: &TailArguments) -> Result<ExitCode> {
    let connection = &arguments.connection;
    let path = connection.path(&format!("events?limit={}", arguments.limit));
    let newest = connection.get(&path)?.body;
    let format = arguments.output.output;
    if !arguments.follow {
        match format {
            Format::Json => output::json(&newest)?,
            Format::Table => show_table(rows(&newest)),
        }
        return Ok(ExitCode::SUCCESS);
    }
    show_lines(rows(&newest), format);
    let mut next = newest["next"].as_u64().unwrap_or(0);
    loop {
        let path = connection.path(&format!("events?after={next}&limit=1000"));
        let more = connection.get(&path)?.body;
        show_lines(rows(&more), format);
        let reached = more["next"].as_u64().unwrap_or(next);
        if reached == next {
            std::thread::sleep(ASK_EVERY);
        }
        next = reached;
    }
}

fn rows(answer: &Value) -> &[Value] {
    answer["rows"].as_array().map_or(&[], Vec::as_slice)
}

fn text(row: &Value, name: &str) -> String {
    match &row[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

const COLUMNS: [&str; 7] = [
    "sequence", "received", "unit", "kind", "name", "value", "flags",
];

fn cells(row: &Value) -> Vec<String> {
    COLUMNS.iter().map(|name| text(row, name)).collect()
}

fn show_table(rows: &[Value]) {
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    output::table(&COLUMNS, &rows);
}

fn show_lines(rows: &[Value], format: Format) {
    for row in rows {
        output::line(&match format {
            Format::Json => row.to_string(),
            Format::Table => cells(row).join("  "),
        });
    }
}
