//! `tidegate events erase`: a unit is forgotten, and a receipt says so.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use crate::client::Connection;
use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidegate events erase --unit user-17 --yes -o json\n\nNo answer sees \
                  the unit, or one merged with it, from then on; files, dictionary and log are rewritten before the \
                  receipt. The audit trail names the unit by bucket and ordinal only."
)]
pub(crate) struct EraseArguments {
    /// The unit, as events name it
    #[arg(long)]
    unit: String,
    /// Yes, for good; without it nothing is erased
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Erases the unit.
pub(crate) fn run(arguments: &EraseArguments) -> Result<ExitCode> {
    ensure!(
        arguments.yes,
        "an erasure cannot be taken back; say --yes if that is meant"
    );
    let connection = &arguments.connection;
    let path = connection.path("events/erase");
    let receipt = connection
        .post_patiently(&path, &json!({ "unit": arguments.unit }))?
        .body;
    if arguments.output.output == Format::Json {
        output::json(&receipt)?;
        return Ok(ExitCode::SUCCESS);
    }
    let number = |name: &str| receipt[name].as_u64().unwrap_or(0);
    let units = receipt["units"].as_array().map_or(1, Vec::len);
    if units > 1 {
        output::line(&format!(
            "the person had {units} units; all of them are erased"
        ));
    }
    output::line(&format!(
        "erased {} events in {} files; a rescan found {}; events of that name from sequence {} on \
         are a new unit's (bucket {}, ordinal {} is never used again)",
        number("rows_erased"),
        number("files_rewritten"),
        number("rows_found_by_rescan"),
        number("effective_sequence"),
        number("bucket"),
        number("unit"),
    ));
    for file in receipt["files_set_apart"].as_array().into_iter().flatten() {
        output::line(&format!(
            "{} is damaged and set apart, and may hold events of the unit that are in no answer: \
             they are erased when it is restored and taken back; if it cannot be, delete it from \
             the folder damaged",
            file.as_str().unwrap_or_default()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
