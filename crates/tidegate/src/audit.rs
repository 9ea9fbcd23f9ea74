//! `tidegate audit`: read the trail, and verify it without a server.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_server::upkeep::KEY_FILE;
use tidegate_store::audit::{CheckpointSigner, PublicKey};
use tidegate_store::audit::{Finding, VerifyReport};

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
    /// A file with a public key that checkpoints must be signed with; without it, the data
    /// folder's own key is used
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

/// Verifies a data folder with the key it has itself, and says how many checkpoints name another
/// key: without that key they neither confirm nor refute anything.
///
/// The folder's own key excludes less than one that was published elsewhere: whoever can write
/// the folder can sign with it.
pub(crate) async fn verify_with_own_key(folder: &Path) -> Result<(VerifyReport, u64)> {
    let key_file = folder.join(KEY_FILE);
    let mut keys = Vec::new();
    if key_file.exists() {
        let signer = CheckpointSigner::open_or_create(&key_file)
            .with_context(|| format!("cannot use {}", key_file.display()))?;
        keys.push(signer.public_key());
    }
    let database = folder.join("tidegate.db");
    let mut report = tidegate_store::sqlite::verify_file(&database, &keys, Vec::new())
        .await
        .with_context(|| format!("cannot read {}", database.display()))?;
    let own: Vec<String> = keys.iter().map(PublicKey::id).collect();
    let before = report.findings.len();
    report.findings.retain(
        |finding| !matches!(finding, Finding::BadSignature { key_id, .. } if !own.contains(key_id)),
    );
    let unconfirmed = u64::try_from(before - report.findings.len()).unwrap_or(u64::MAX);
    report.findings_total = report.findings_total.saturating_sub(unconfirmed);
    Ok((report, unconfirmed))
}

fn verify(arguments: &VerifyArguments) -> Result<ExitCode> {
    let keys = arguments
        .public_key
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            PublicKey::parse(text.trim())
                .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    let report = match (&arguments.data_dir, &arguments.export) {
        (Some(folder), None) if keys.is_empty() => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (report, unconfirmed) = runtime.block_on(verify_with_own_key(folder))?;
            if unconfirmed > 0 {
                output::note(&format!(
                    "{unconfirmed} checkpoints are signed by keys that are not in {}; name them \
                     with --public-key to have them confirmed",
                    folder.display()
                ));
            }
            report
        }
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
