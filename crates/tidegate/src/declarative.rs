//! `tidegate apply | plan | export`: files in, difference shown, server made to agree; and back.
//!
//! A file is YAML or JSON: one or more documents `{kind, key, spec}`, or a flagd set (a document
//! with a top-level `flags`). What `export` writes, `apply` takes, and a plan right after is empty.
//!
//! `plan` asks the server to check everything and names all that `apply` would refuse, each with
//! its file and place. `apply` is one transaction: all of it is done, or nothing.

mod documents;
mod steps;
mod yaml;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::client::Connection;
use crate::flag::all;
use crate::output::{self, Format, OutputArguments};

pub(crate) use documents::{COLLECTIONS, Document, read_value};
use steps::{Act, Row};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate apply -f flags.yaml --reason 'open the beta'\n  \
                        tidegate plan -f flags/ -o json > plan.json && tidegate apply -f flags/ \
                        --plan plan.json\n\nAll of it is done in one transaction, or nothing. With \
                        --plan nothing is done if anything changed since."
)]
pub(crate) struct ApplyArguments {
    /// A file, or a folder whose .json, .yaml and .yml files are all meant
    #[arg(short = 'f', long = "file")]
    file: PathBuf,
    /// What `plan -o json` printed: refuse if the server has changed since
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Why, for the audit trail
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidegate plan -f flags.yaml\n\nExits 1 and names every \
                        mistake with its file and place if `apply` would refuse."
)]
pub(crate) struct PlanArguments {
    /// A file, or a folder whose .json, .yaml and .yml files are all meant
    #[arg(short = 'f', long = "file")]
    file: PathBuf,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate export -f flags/\n  tidegate export > all.yaml\n  \
                        tidegate export --data-dir ./data > what-was-served.yaml\n\nWith \
                        --data-dir it reads what was served last and needs no server and no \
                        database: flags, segments and the set's metadata."
)]
pub(crate) struct ExportArguments {
    /// The folder to write to, one file per object; without it, everything to standard output
    #[arg(short = 'f', long = "file")]
    file: Option<PathBuf>,
    /// Read what this data folder served last, in place of asking a server
    #[arg(long)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Makes the server agree with the files.
pub(crate) fn apply(arguments: &ApplyArguments) -> Result<ExitCode> {
    let wanted = documents::read(&arguments.file)?;
    let act = Act::Apply {
        reason: arguments.reason.as_deref(),
        plan: arguments.plan.as_deref().map(read_value).transpose()?,
    };
    let rows = steps::ask(&arguments.connection, &wanted, &act)
        .context("nothing was applied, because not everything can be")?;
    match arguments.output.output {
        Format::Json => output::json(&json!({ "rows": raw(&rows) }))?,
        Format::Table => {
            for row in &rows {
                output::line(&format!("{}: {}", row.name(), row.action()));
            }
        }
    }
    warn(&rows);
    Ok(ExitCode::SUCCESS)
}

/// Shows what `apply` would do.
pub(crate) fn plan(arguments: &PlanArguments) -> Result<ExitCode> {
    let wanted = documents::read(&arguments.file)?;
    let rows = steps::ask(&arguments.connection, &wanted, &Act::Plan)
        .context("`apply` would refuse this")?;
    warn(&rows);
    if arguments.output.output == Format::Json {
        output::json(&json!({ "rows": raw(&rows) }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let changing: Vec<&Row<'_>> = rows.iter().filter(|row| row.changes()).collect();
    for row in &changing {
        output::line(&format!("{} {}", row.action(), row.name()));
        for line in row.difference() {
            output::line(&format!("    {line}"));
        }
    }
    output::line(&match changing.len() {
        0 => "nothing to change".to_owned(),
        count => format!("{count} of {} objects would change", rows.len()),
    });
    Ok(ExitCode::SUCCESS)
}

fn raw(rows: &[Row<'_>]) -> Vec<Value> {
    rows.iter().map(|row| row.answer.clone()).collect()
}

/// What compiles but cannot be meant, where it does not disturb a program that reads the answer.
fn warn(rows: &[Row<'_>]) {
    for line in rows.iter().flat_map(Row::warnings) {
        output::note(&format!("warning: {line}"));
    }
}

/// Writes what the server has in the form `apply` takes.
pub(crate) fn export(arguments: &ExportArguments) -> Result<ExitCode> {
    let documents = match &arguments.data_dir {
        Some(folder) => served_last(folder, &arguments.connection.project)?,
        None => stored(&arguments.connection)?,
    };
    match &arguments.file {
        None => {
            let text: Vec<String> = documents.iter().map(Document::to_yaml).collect();
            output::line(text.join("---\n").trim_end());
        }
        Some(folder) => write_all(folder, &documents)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn stored(connection: &Connection) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for (kind, collection) in COLLECTIONS {
        for row in all(connection, collection)? {
            let key = row["key"]
                .as_str()
                .context("a row without a key")?
                .to_owned();
            documents.push(Document {
                kind: kind.to_owned(),
                key,
                spec: row["spec"].clone(),
            });
        }
    }
    Ok(documents)
}

/// What a data folder served last: the way out when the database cannot be opened.
fn served_last(data_dir: &Path, project: &str) -> Result<Vec<Document>> {
    let in_folder = || format!("in {}", data_dir.display());
    let loaded = tidegate_server::last_good::read_all(data_dir).with_context(in_folder)?;
    for problem in &loaded.problems {
        output::note(&format!("passed over: {problem}"));
    }
    let (_, source) = loaded
        .sets
        .into_iter()
        .find(|(found, _)| found == project)
        .with_context(|| format!("nothing of project {project} is kept {}", in_folder()))?;
    let document = |kind: &str, (key, spec): (String, Value)| Document {
        kind: kind.to_owned(),
        key,
        spec,
    };
    let mut documents = Vec::new();
    if !source.metadata.is_empty() {
        documents.push(documents::set_of(source.metadata));
    }
    documents.extend(
        source
            .segments
            .into_iter()
            .map(|one| document("segment", one)),
    );
    documents.extend(source.flags.into_iter().map(|one| document("flag", one)));
    Ok(documents)
}

/// The file of a document. Keys that differ in case only get names that differ in more, because some
/// disks keep one file for both.
fn file_name(document: &Document, taken: &mut HashSet<String>) -> String {
    let stem = format!("{}-{}", document.kind, crate::client::encode(&document.key));
    let numbered = (2_u32..).map(|number| format!("{stem}.{number}.yaml"));
    std::iter::once(format!("{stem}.yaml"))
        .chain(numbered)
        .find(|name| taken.insert(name.to_lowercase()))
        .unwrap_or(stem)
}

fn write_all(folder: &Path, documents: &[Document]) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let mut taken = HashSet::new();
    for document in documents {
        let path = folder.join(file_name(document, &mut taken));
        std::fs::write(&path, document.to_yaml())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    output::note(&format!(
        "{} objects in {}",
        documents.len(),
        folder.display()
    ));
    Ok(())
}
