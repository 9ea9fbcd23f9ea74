//! `tidegate doctor`: looks at a data folder and says what is wrong and how to cure it.
//!
//! It changes nothing, apart from a probe file that is gone again at once, and works beside a
//! running server: what the server holds open is reported as in use.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use tidegate_lake::{LakeState, RealDisk};
use tidegate_server::last_good::LastGood;
use tidegate_server::live::Source;
use tidegate_store::{ObjectStore as _, SqliteOptions, SqliteStore, StopFile, Store as _};

use crate::output::{self, Format, OutputArguments};

/// The log of events leaves this much alone and refuses events below it.
const RESERVE_BYTES: u64 = 512 << 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidegate doctor --data-dir ./data\n\nExits 1 if a check fails."
)]
pub(crate) struct DoctorArguments {
    /// The data folder
    #[arg(long, env = "TIDEGATE_DATA_DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    output: OutputArguments,
}

/// What is wrong, and what to do about it.
struct Complaint {
    wrong: String,
    cure: &'static str,
}

type Finding = Result<String, Complaint>;

fn complaint(wrong: impl std::fmt::Display, cure: &'static str) -> Complaint {
    Complaint {
        wrong: wrong.to_string(),
        cure,
    }
}

/// Runs every check; one that fails does not keep the others from running.
pub(crate) fn run(arguments: &DoctorArguments) -> Result<ExitCode> {
    let folder = arguments.data_dir.as_path();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let findings = [
        ("data folder", writable(folder)),
        ("free disk", free_disk(folder)),
        ("database", runtime.block_on(database(folder))),
        ("audit chain", runtime.block_on(audit_chain(folder))),
        ("event log", event_log(folder)),
        ("event files", event_files(folder)),
        ("stop file", stop_file(folder)),
        ("served sets", runtime.block_on(served_sets(folder))),
        ("last good sets", last_good(folder)),
    ];
    show(&findings, arguments.output.output)?;
    let is_well = findings.iter().all(|(_, finding)| finding.is_ok());
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(findings: &[(&str, Finding)], format: Format) -> Result<()> {
    if format == Format::Json {
        let checks: Vec<Value> = findings
            .iter()
            .map(|(name, finding)| match finding {
                Ok(said) => json!({ "check": name, "ok": true, "said": said }),
                Err(Complaint { wrong, cure }) => {
                    json!({ "check": name, "ok": false, "said": wrong, "cure": cure })
                }
            })
            .collect();
        let is_well = findings.iter().all(|(_, finding)| finding.is_ok());
        return output::json(&json!({ "ok": is_well, "checks": checks }));
    }
    for (name, finding) in findings {
        output::line(&match finding {
            Ok(said) => format!("ok    {name}: {said}"),
            Err(Complaint { wrong, cure }) => format!("FAIL  {name}: {wrong}; {cure}"),
        });
    }
    Ok(())
}

fn writable(folder: &Path) -> Finding {
    tempfile::tempfile_in(folder)
        .map(|_| format!("{} can be written", folder.display()))
        .map_err(|error| {
            complaint(
                format!("{} cannot be written: {error}", folder.display()),
                "make the folder, or give it to the user that runs the server",
            )
        })
}

fn free_disk(folder: &Path) -> Finding {
    let cure = "free some room or move the folder to a larger disk; below this events are refused";
    let room = rustix::fs::statvfs(folder)
        .map_err(|error| complaint(error, "check that the disk is mounted"))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let said = format!("{} MiB are free", free >> 20);
    if free < RESERVE_BYTES {
        return Err(complaint(said, cure));
    }
    Ok(said)
}

async fn database(folder: &Path) -> Finding {
    let path = folder.join("tidegate.db");
    if !path.exists() {
        return Ok("not there yet; the server makes it at its first start".to_owned());
    }
    let cure = "look at the reason; `tidegate restore` puts a backup in its place";
    let mut options = SqliteOptions::new(&path);
    options.read_only = true;
    let store = SqliteStore::open(options)
        .await
        .map_err(|error| complaint(error, cure))?;
    let health = store.health().await;
    store.close().await;
    let health = health.map_err(|error| complaint(error, cure))?;
    Ok(format!(
        "opens; schema {}, epoch {}, {} bytes",
        health.schema_version, health.epoch, health.bytes
    ))
}

async fn audit_chain(folder: &Path) -> Finding {
    let path = folder.join("tidegate.db");
    if !path.exists() {
        return Ok("no entry yet".to_owned());
    }
    let (report, unconfirmed) =
        crate::audit::verify_with_own_key(folder)
            .await
            .map_err(|error| {
                complaint(
                    format!("{error:#}"),
                    "`tidegate restore` puts a backup in the place of the database",
                )
            })?;
    if let Some(first) = report.findings.first() {
        return Err(complaint(
            format!("{first} ({} findings)", report.findings.len()),
            "keep this folder as evidence, see `tidegate audit verify`, and restore a backup",
        ));
    }
    Ok(format!(
        "{} entries, unbroken, {} checkpoints confirmed, {unconfirmed} by keys not here",
        report.entries, report.checkpoints_confirmed
    ))
}

/// Whether the database is as new as what was served, and every definition in it can be read.
async fn served_sets(folder: &Path) -> Finding {
    let path = folder.join("tidegate.db");
    if !path.exists() || !folder.join("last-good").exists() {
        return Ok("nothing to compare yet".to_owned());
    }
    let cure = "see the check of the database";
    let served = tidegate_server::last_good::read_all(folder)
        .map_err(|error| complaint(error, "see the check of the last good sets"))?;
    let mut options = SqliteOptions::new(&path);
    options.read_only = true;
    let store = SqliteStore::open(options)
        .await
        .map_err(|error| complaint(error, cure))?;
    let compared = compare(&store, &served.sets).await;
    store.close().await;
    compared.map_err(|error| complaint(error, cure))?
}

async fn compare(
    store: &SqliteStore,
    served: &[(String, Source)],
) -> Result<Finding, tidegate_store::StoreError> {
    for project in store.project_list().await? {
        let stored = store.config_snapshot(&project.key).await?;
        let kept = served
            .iter()
            .find(|(key, _)| key == project.key.as_str())
            .map(|(_, source)| (source.epoch, source.config_version));
        let here = (stored.epoch, stored.config_version);
        if let Some(kept) = kept.filter(|kept| *kept > here) {
            return Ok(Err(complaint(
                format!(
                    "project {} was served at version {} of epoch {}, and the database has \
                     version {} of epoch {}, as after a file was put back by hand",
                    project.key, kept.1, kept.0, here.1, here.0
                ),
                "with the server stopped, put the newer database back, or make this one count: \
                 `tidegate backup --data-dir D --to COPY`, then `tidegate restore --data-dir D \
                 --from COPY`",
            )));
        }
        if let Some(damaged) = stored.quarantined.first() {
            return Ok(Err(complaint(
                format!(
                    "{} {:?} of project {} is damaged: {} ({} in all)",
                    damaged.kind,
                    damaged.key,
                    project.key,
                    damaged.reason,
                    stored.quarantined.len()
                ),
                "write it again from its history, or restore a backup; the others are served",
            )));
        }
    }
    Ok(Ok("the database is as new as what was served".to_owned()))
}

fn event_log(folder: &Path) -> Finding {
    let path = folder.join("events");
    if !path.exists() {
        return Ok("not there yet; made with the first events".to_owned());
    }
    tempfile::tempfile_in(&path)
        .map(|_| format!("{} can be written", path.display()))
        .map_err(|error| {
            complaint(
                format!("{} cannot be written: {error}", path.display()),
                "give the folder to the user that runs the server",
            )
        })
}

/// Every file a manifest names is there, with its length. Reads only, so it works beside a server.
fn event_files(folder: &Path) -> Finding {
    let (mut files, mut rows) = (0, 0);
    let projects = std::fs::read_dir(folder.join("events"))
        .into_iter()
        .flatten();
    for project in projects.flatten().map(|entry| entry.path()) {
        let cure = "run `tidegate events verify`; restore the file from a backup of the folder";
        let state = LakeState::read(&RealDisk, &project)
            .map_err(|error| complaint(error, cure))?
            .unwrap_or_default();
        if let Some(damaged) = state.damaged.values().next() {
            let file = project.join("events").join(&damaged.file.name);
            let (file, count) = (file.display(), state.damaged.len());
            return Err(complaint(
                format!(
                    "{count} damaged files are set apart, first {file}: {}",
                    damaged.reason
                ),
                "restore them from a copy of the folder, then run `tidegate events verify`",
            ));
        }
        for file in state.files.values() {
            let path = project.join("events").join(&file.name);
            let length = std::fs::metadata(&path).map(|known| known.len());
            // A compaction beside us may just have replaced it; then the manifest no longer names it.
            if length.as_ref().ok() != Some(&file.bytes) && is_still_named(&project, &file.name) {
                let wrong = format!("{} is missing or cut short", path.display());
                return Err(complaint(wrong, cure));
            }
            files += 1;
            rows += file.rows;
        }
    }
    Ok(format!("{rows} rows in {files} files"))
}

fn is_still_named(project: &Path, name: &str) -> bool {
    let state = LakeState::read(&RealDisk, project).ok().flatten();
    state.is_some_and(|state| state.files.contains_key(name))
}

fn stop_file(folder: &Path) -> Finding {
    let path = folder.join("stops");
    if !path.exists() {
        return Ok("not there yet; the server makes it at its first start".to_owned());
    }
    let (file, pending) = match StopFile::open(&path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Ok("in use by a running server, whose /status says more".to_owned());
        }
        Err(error) => {
            return Err(complaint(
                format!("{} cannot be opened: {error}", path.display()),
                "stops still work and are not durable; move the file away and start the server",
            ));
        }
    };
    let lost = &file.damage().lost;
    if !lost.is_empty() {
        return Err(complaint(
            format!("blocks {lost:?} are damaged, each may have held a kill or rollback"),
            "check that every flag serves what it should, then move the file away",
        ));
    }
    Ok(format!("whole, {} stops pending", pending.len()))
}

fn last_good(folder: &Path) -> Finding {
    if !folder.join("last-good").exists() {
        return Ok("none yet; kept after the first load".to_owned());
    }
    let cure = "harmless while the database opens: the server writes the set anew";
    let loaded = LastGood::open(folder)
        .and_then(|kept| kept.load())
        .map_err(|error| complaint(error, cure))?;
    match loaded.problems.first() {
        Some(problem) => Err(complaint(problem, cure)),
        None => Ok(format!("{} projects", loaded.sets.len())),
    }
}
