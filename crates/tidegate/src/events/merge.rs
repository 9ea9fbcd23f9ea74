//! `tidegate events merge` and `unmerge`: which units are one person, said and taken back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::client::{Conditions, Connection};
use crate::output::{self, Format, OutputArguments};

/// Changes sent in one request.
const AT_A_TIME: usize = 5_000;
/// Refusals shown in full.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate events merge --unit visitor-4711 --into user-17\n  tidegate events \
                  merge --file sign-ins.csv\n\nA file is a CSV with the columns unit and into. \
                  Whatever a unit did or will do is then the other's, in every report; saying it \
                  again changes nothing, and `tidegate events unmerge` takes it back."
)]
pub(crate) struct MergeArguments {
    /// The unit that is merged, as events name it
    #[arg(long, requires = "into", required_unless_present = "file")]
    unit: Option<String>,
    /// The unit that is the person
    #[arg(long, requires = "unit")]
    into: Option<String>,
    /// A CSV of many, with the columns unit and into
    #[arg(long, value_name = "FILE", conflicts_with_all = ["unit", "into"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate events unmerge --unit visitor-4711\n  tidegate events unmerge \
                  --file mistaken.csv\n\nThe unit is a person again, with what was merged into it. \
                  A file is a CSV with the column unit."
)]
pub(crate) struct UnmergeArguments {
    /// A unit that was merged into another; repeat for more
    #[arg(long, required_unless_present = "file")]
    unit: Vec<String>,
    /// A CSV of many, with the column unit
    #[arg(long, value_name = "FILE", conflicts_with = "unit")]
    file: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Merges units.
pub(crate) fn merge(arguments: &MergeArguments) -> Result<ExitCode> {
    let rows = match &arguments.file {
        Some(file) => columns_of(file, ["unit", "into"])?,
        None => {
            vec![[&arguments.unit, &arguments.into].map(|name| name.clone().unwrap_or_default())]
        }
    };
    let sum = send(&arguments.connection, "events/merge", &rows, |rows| {
        let pairs = rows
            .iter()
            .map(|[unit, into]| json!({ "unit": unit, "into": into }));
        json!({ "merges": pairs.collect::<Value>() })
    })?;
    show(&sum, &rows, "merged", arguments.output.output)
}

/// Takes merges back.
pub(crate) fn unmerge(arguments: &UnmergeArguments) -> Result<ExitCode> {
    let rows = match &arguments.file {
        Some(file) => columns_of(file, ["unit"])?,
        None => arguments.unit.iter().map(|unit| [unit.clone()]).collect(),
    };
    let sum = send(&arguments.connection, "events/unmerge", &rows, |rows| {
        let units = rows.iter().map(|[unit]| json!(unit));
        json!({ "units": units.collect::<Value>() })
    })?;
    show(&sum, &rows, "unmerged", arguments.output.output)
}

/// Some columns of a CSV, by name.
fn columns_of<const N: usize>(file: &Path, names: [&str; N]) -> Result<Vec<[String; N]>> {
    let shown = file.display();
    let mut reader =
        csv::Reader::from_path(file).with_context(|| format!("cannot read {shown}"))?;
    let headers = reader
        .headers()
        .with_context(|| format!("cannot read {shown}"))?;
    let places = names.map(|name| headers.iter().position(|header| header.trim() == name));
    ensure!(
        places.iter().all(Option::is_some),
        "{shown} needs the columns {}; it has {}",
        names.join(" and "),
        headers.iter().collect::<Vec<_>>().join(", ")
    );
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| format!("cannot read {shown}"))?;
        rows.push(places.map(|place| {
            let cell = place.and_then(|place| record.get(place));
            cell.unwrap_or_default().trim().to_owned()
        }));
    }
    ensure!(!rows.is_empty(), "{shown} has no rows");
    Ok(rows)
}

/// What all requests together changed.
#[derive(Debug, Default)]
struct Sum {
    changed: u64,
    unchanged: u64,
    rejected: Vec<Value>,
    last: Value,
}

fn send<const N: usize>(
    connection: &Connection,
    door: &str,
    rows: &[[String; N]],
    body: impl Fn(&[[String; N]]) -> Value,
) -> Result<Sum> {
    let (path, progress) = (connection.path(door), ProgressBar::new(rows.len() as u64));
    let mut sum = Sum::default();
    for (part, chunk) in rows.chunks(AT_A_TIME).enumerate() {
        let answer =
            connection.send_raw("POST", &path, Some(&body(chunk)), Conditions::default())?;
        let rejected = answer.body["rejected"].as_array();
        if answer.status >= 400 && rejected.is_none() {
            let done = part * AT_A_TIME;
            return Err(connection.refusal(&answer)).with_context(|| {
                format!("the first {done} are done; the same again goes on where this stopped")
            });
        }
        for refusal in rejected.into_iter().flatten() {
            let mut refusal = refusal.clone();
            let index = refusal["index"].as_u64().unwrap_or(0) + (part * AT_A_TIME) as u64;
            refusal["index"] = json!(index);
            sum.rejected.push(refusal);
        }
        sum.changed += answer.body["changed"].as_u64().unwrap_or(0);
        sum.unchanged += answer.body["unchanged"].as_u64().unwrap_or(0);
        sum.last = answer.body;
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    Ok(sum)
}

fn show<const N: usize>(
    sum: &Sum,
    rows: &[[String; N]],
    done: &str,
    format: Format,
) -> Result<ExitCode> {
    if format == Format::Json {
        output::json(&json!({
            "changed": sum.changed,
            "unchanged": sum.unchanged,
            "rejected": sum.rejected,
            "version": sum.last["version"],
            "sequence": sum.last["sequence"],
        }))?;
    } else {
        output::line(&format!(
            "{} {done}, {} were so already, {} refused",
            sum.changed,
            sum.unchanged,
            sum.rejected.len()
        ));
        for refusal in sum.rejected.iter().take(SHOWN) {
            let index = refusal["index"]
                .as_u64()
                .and_then(|index| usize::try_from(index).ok());
            let names = index.and_then(|index| rows.get(index));
            let names = names.map(|names| names.join(" into ")).unwrap_or_default();
            let detail = refusal["detail"].as_str().unwrap_or_default();
            output::line(&format!("  {names}: {detail}"));
        }
        if sum.rejected.len() > SHOWN {
            output::line("  and more; -o json lists them all");
        }
    }
    Ok(match sum.rejected.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
