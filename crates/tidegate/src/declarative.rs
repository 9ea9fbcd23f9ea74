//! `tidegate apply | plan | export`: files in, difference shown, server made to agree; and back.
//!
//! A file is YAML or JSON: one or more documents `{kind, key, spec}`, or a flagd set (a document
//! with a top-level `flags`). What `export` writes, `apply` takes, and a plan right after is empty.

mod documents;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::client::Connection;
use crate::flag::all;
use crate::output::{self, Format, OutputArguments};

pub(crate) use documents::{COLLECTIONS, Document, read_value};
use steps::{Step, apply_step, steps};

#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// A file, or a folder whose .json, .yaml and .yml files are all meant
    #[arg(short = 'f', long = "file")]
    file: PathBuf,
    /// Why, for the audit trail
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
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
pub(crate) struct ExportArguments {
    /// The folder to write to, one file per object; without it, everything to standard output
    #[arg(short = 'f', long = "file")]
    file: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Makes the server agree with the files.
pub(crate) fn apply(arguments: &ApplyArguments) -> Result<ExitCode> {
    let wanted = documents::read(&arguments.file)?;
    let steps = steps(&arguments.connection, &wanted)?;
    let mut rows = Vec::new();
    let mut failed = 0;
    for step in &steps {
        let outcome = apply_step(&arguments.connection, step, arguments.reason.as_deref());
        failed += usize::from(outcome.is_err());
        rows.push(match outcome {
            Ok(revision) => json!({ "kind": step.document.kind, "key": step.document.key,
                "action": step.action(), "revision": revision }),
            Err(error) => json!({ "kind": step.document.kind, "key": step.document.key,
                "action": step.action(), "error": format!("{error:#}") }),
        });
    }
    match arguments.output.output {
        Format::Json => output::json(&json!({ "rows": rows }))?,
        Format::Table => {
            for row in &rows {
                let outcome = match row["error"].as_str() {
                    Some(error) => format!("FAILED: {error}"),
                    None => row["action"].as_str().unwrap_or_default().to_owned(),
                };
                let part = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                output::line(&format!("{} {}: {outcome}", part("kind"), part("key")));
            }
        }
    }
    if failed > 0 {
        bail!(
            "{failed} of {} objects were not applied; the others were",
            rows.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what `apply` would do.
pub(crate) fn plan(arguments: &PlanArguments) -> Result<ExitCode> {
    let wanted = documents::read(&arguments.file)?;
    let steps = steps(&arguments.connection, &wanted)?;
    if arguments.output.output == Format::Json {
        let rows: Vec<Value> = steps.iter().map(Step::describe).collect();
        output::json(&json!({ "rows": rows }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut changing = 0;
    for step in steps.iter().filter(|step| step.changes()) {
        changing += 1;
        output::line(&format!(
            "{} {} {}",
            step.action(),
            step.document.kind,
            step.document.key
        ));
        for line in step.difference() {
            output::line(&format!("    {line}"));
        }
    }
    output::line(&match changing {
        0 => "nothing to change".to_owned(),
        count => format!("{count} of {} objects would change", steps.len()),
    });
    Ok(ExitCode::SUCCESS)
}

/// Writes what the server has in the form `apply` takes.
pub(crate) fn export(arguments: &ExportArguments) -> Result<ExitCode> {
    let mut documents = Vec::new();
    for (kind, collection) in COLLECTIONS {
        for row in all(&arguments.connection, collection)? {
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
    match &arguments.file {
        None => {
            let text: Result<Vec<String>> = documents.iter().map(Document::to_yaml).collect();
            output::line(text?.join("---\n").trim_end());
        }
        Some(folder) => write_all(folder, &documents)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_all(folder: &Path, documents: &[Document]) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    for document in documents {
        let name = format!(
            "{}-{}.yaml",
            document.kind,
            crate::client::encode(&document.key)
        );
        let path = folder.join(name);
        std::fs::write(&path, document.to_yaml()?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    output::note(&format!(
        "{} objects in {}",
        documents.len(),
        folder.display()
    ));
    Ok(())
}
