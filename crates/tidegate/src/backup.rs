//! `tidegate backup` and `tidegate restore`: the control-plane state as one file, and back.
//!
//! A restored state has a higher epoch than the one it replaces, so that clients and caches that
//! saw newer versions accept it; the audit trail says who restored it. Events are not part of it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use tidegate_server::clock::{Clock as _, SystemClock};
use tidegate_store::{Actor, By, SqliteOptions, SqliteStore, StopFile, Store as _};

use crate::output::{self, Format, OutputArguments};
use crate::serve::block_on;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidegate backup --data-dir ./data --to backup.db\n\nCopies flags, \
                        segments, rollouts, tokens, people and the audit trail. The log of events \
                        and the signing key are files of the data folder; copy them as files."
)]
pub(crate) struct BackupArguments {
    /// The data folder
    #[arg(long, env = "TIDEGATE_DATA_DIR")]
    data_dir: PathBuf,
    /// The file to write; it must not exist
    #[arg(long)]
    to: PathBuf,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidegate restore --from backup.db --data-dir ./data\n\nWhat is \
                        there now is replaced; back it up first if it can still be read."
)]
pub(crate) struct RestoreArguments {
    /// The backup
    #[arg(long)]
    from: PathBuf,
    /// The data folder; its server must be stopped
    #[arg(long, env = "TIDEGATE_DATA_DIR")]
    data_dir: PathBuf,
    /// Why, for the audit trail
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

/// Writes a backup.
pub(crate) fn back_up(arguments: &BackupArguments) -> Result<ExitCode> {
    let database = arguments.data_dir.join("tidegate.db");
    ensure!(
        database.exists(),
        "there is no database at {}; is that the data folder?",
        database.display()
    );
    let mut options = SqliteOptions::new(&database);
    options.read_only = true;
    let (to, output) = (arguments.to.clone(), arguments.output.output);
    let pending = pending_stops(&arguments.data_dir);
    block_on(async move {
        let store = SqliteStore::open(options)
            .await
            .with_context(|| format!("cannot open {}", database.display()))?;
        let report = store
            .backup_to(&to)
            .await
            .with_context(|| format!("cannot back up to {}", to.display()))?;
        store.close().await;
        if pending > 0 {
            output::note(&format!(
                "warning: {pending} kills or rollbacks are only in the stop file and not in the \
                 backup; start the server once, then back up again"
            ));
        }
        match output {
            Format::Json => output::json(&json!({
                "bytes": report.bytes,
                "epoch": report.epoch,
                "audit_sequence": report.audit_head.sequence,
                "pending_stops": pending,
            }))?,
            Format::Table => output::line(&format!(
                "{} bytes of epoch {} written to {}",
                report.bytes,
                report.epoch,
                to.display()
            )),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// How many stops no database knows; none while a running server has the file, since that
/// server settles them.
fn pending_stops(data_dir: &std::path::Path) -> usize {
    let path = data_dir.join("stops");
    if !path.exists() {
        return 0;
    }
    StopFile::open(path).map_or(0, |(_, pending)| pending.len())
}

/// Restores a backup.
pub(crate) fn restore(arguments: &RestoreArguments) -> Result<ExitCode> {
    std::fs::create_dir_all(&arguments.data_dir)
        .with_context(|| format!("cannot use {}", arguments.data_dir.display()))?;
    let database = arguments.data_dir.join("tidegate.db");
    let from = arguments.from.clone();
    let output = arguments.output.output;
    let mut by = By::new(Actor::system("restore"), SystemClock::start().now_us());
    by.reason.clone_from(&arguments.reason);
    block_on(async move {
        let report = tidegate_store::sqlite::restore(&from, &database, by)
            .await
            .with_context(|| {
                format!(
                    "cannot restore {}; what was in {} before is unchanged (is its server stopped?)",
                    from.display(),
                    database.display()
                )
            })?;
        match output {
            Format::Json => output::json(&json!({
                "epoch": report.epoch,
                "audit_sequence": report.audit_head.sequence,
            }))?,
            Format::Table => output::line(&format!(
                "{} restored; its epoch is {} now",
                database.display(),
                report.epoch
            )),
        }
        Ok(ExitCode::SUCCESS)
    })
}
