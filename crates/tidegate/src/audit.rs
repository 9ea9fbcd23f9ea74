//! `tidegate audit`: read the trail, and verify it without a server.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::Connection;
use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List entries, oldest first
    List(ListArguments),
    /// Prove that no entry was altered, removed or reordered; works with the server stopped
    #[command(
        after_help = "Examples:\n  tidegate audit verify --data-dir ./data\n  tidegate audit \
                            verify --export trail.ndjson --public-key audit.pub\n\nExits 1 if the \
                            chain is broken."
    )]
    Verify(VerifyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Start after this sequence
    #[arg(long, default_value_t = 0)]
    after: u64,
    /// At most this many entries
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The data folder of a server
    #[arg(long, env = "TIDEGATE_DATA_DIR", conflicts_with = "export")]
    data_dir: Option<PathBuf>,
    /// An exported trail (NDJSON)
    #[arg(long)]
    export: Option<PathBuf>,
    /// A file with the public key that checkpoints must be signed with
    #[arg(long)]
    public_key: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs one of the commands.
pub(crate) fn run(command: &AuditCommand) -> Result<ExitCode> {
    match command {
        AuditCommand::List(arguments) => list(arguments),
        AuditCommand::Verify(arguments) => verify(arguments),
    }
}

fn list(arguments: &ListArguments) -> Result<ExitCode> {
    let path = format!("audit?after={}&limit={}", arguments.after, arguments.limit);
    let answer = arguments
        .connection
        .get(&arguments.connection.path(&path))?;
    if arguments.output.output == Format::Json {
        output::json(&answer.body)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = answer.body["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
            vec![
                row["sequence"].to_string(),
                text("at"),
                text("actor"),
                text("action"),
                text("object"),
                text("reason"),
            ]
        })
        .collect();
    output::table(
        &["SEQUENCE", "AT", "ACTOR", "ACTION", "OBJECT", "REASON"],
        &rows,
    );
    Ok(ExitCode::SUCCESS)
}

fn verify(arguments: &VerifyArguments) -> Result<ExitCode> {
    let keys = arguments
        .public_key
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            tidegate_store::audit::PublicKey::parse(text.trim())
                .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    let report = match (&arguments.data_dir, &arguments.export) {
        (Some(folder), None) => {
            let database = folder.join("tidegate.db");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime
                .block_on(tidegate_store::sqlite::verify_file(
                    &database,
                    &keys,
                    Vec::new(),
                ))
                .with_context(|| format!("cannot read {}", database.display()))?
        }
        (None, Some(path)) => {
            let file =
                File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            tidegate_store::audit::read_export(BufReader::new(file), &keys, Vec::new())?
        }
        _ => bail!("say what to verify: --data-dir FOLDER or --export FILE"),
    };
    let problems: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    match arguments.output.output {
        Format::Json => output::json(&json!({
            "ok": report.is_ok(),
            "entries": report.entries,
            "checkpoints_confirmed": report.checkpoints_confirmed,
            "problems": problems,
        }))?,
        Format::Table => {
            for problem in &problems {
                output::line(problem);
            }
            let outcome = if report.is_ok() { "unbroken" } else { "BROKEN" };
            output::line(&format!(
                "{} entries, the chain is {outcome}",
                report.entries
            ));
        }
    }
    Ok(if report.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
