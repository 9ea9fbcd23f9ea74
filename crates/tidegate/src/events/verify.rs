//! `tidegate events verify`: everything stored is read again, and every promise checked.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tidegate_lake::{Lake, LakeIo, RealDisk};
use tidegate_store::ProjectKey;

use crate::client::{Conditions, Connection};
use crate::output::{self, Format, OutputArguments};
use crate::stopped::StoppedServer;

/// How often a running server is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate events verify\n  tidegate events verify --data-dir ./data -o json   \
                  # with the server stopped\n\nExits 1 if there is a problem. A damaged event file is set \
                  apart: answers go on without it and say so. Restore it from a copy of the data folder \
                  and verify again; then it is taken back."
)]
pub(crate) struct VerifyArguments {
    /// A data folder whose server is stopped; without it, --server verifies its own
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Verifies, and says what was found.
pub(crate) fn run(arguments: &VerifyArguments) -> Result<ExitCode> {
    let progress = bar();
    let report = match &arguments.data_dir {
        Some(folder) => of_folder(folder, &arguments.connection.project, &progress),
        None => of_server(&arguments.connection, &progress),
    };
    progress.finish_and_clear();
    let report = report?;
    let problems = report["problems"].as_array().map_or(&[][..], Vec::as_slice);
    match arguments.output.output {
        Format::Json => output::json(&report)?,
        Format::Table => show(&report, problems),
    }
    Ok(match problems {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn bar() -> ProgressBar {
    let style = "{bar:40} {pos}/{len} files, {elapsed} so far, about {eta} to go";
    let style = ProgressStyle::with_template(style);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

fn show(report: &Value, problems: &[Value]) {
    let number = |name: &str| report[name].as_u64().unwrap_or(0);
    output::line(&format!(
        "{} events ({} further copies, which count nowhere) in {} files and {} log segments",
        number("events"),
        number("duplicates"),
        number("files"),
        number("log_segments"),
    ));
    for problem in problems {
        output::line(&format!(
            "PROBLEM  {}",
            problem.as_str().unwrap_or_default()
        ));
    }
    for file in report["taken_back"].as_array().into_iter().flatten() {
        output::line(&format!(
            "{} is whole again and was taken back",
            file.as_str().unwrap_or_default()
        ));
    }
    if number("merged_units") > 0 {
        output::line(&format!(
            "{} units are merged into others",
            number("merged_units")
        ));
    }
    if problems.is_empty() {
        output::line("every checksum, count and order holds");
    }
}

fn of_folder(folder: &Path, project: &str, progress: &ProgressBar) -> Result<Value> {
    let project = ProjectKey::parse(project).context("--project")?;
    let stopped = StoppedServer::take(folder)?;
    let events = stopped.data_dir().join("events");
    let dir = events.join(project.as_str());
    if !dir.is_dir() {
        bail!("{}", nothing_there(&events, project.as_str()));
    }
    let disk: Arc<dyn LakeIo> = Arc::new(RealDisk);
    let report = Lake::verify_closed(&disk, &dir, &mut |done, files| {
        place(progress, done, files);
    })?;
    Ok(serde_json::to_value(report)?)
}

fn nothing_there(events: &Path, project: &str) -> String {
    let entries = std::fs::read_dir(events).into_iter().flatten().flatten();
    let others: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let hint = match others.as_slice() {
        [] => "no project has sent any to this data folder; is it the right one?".to_owned(),
        others => format!(
            "projects with events: {}; name one with --project",
            others.join(", ")
        ),
    };
    format!("project {project} has no events here: {hint}")
}

fn place(progress: &ProgressBar, done: usize, files: usize) {
    progress.set_length(files as u64);
    progress.set_position(done as u64);
}

fn of_server(connection: &Connection, progress: &ProgressBar) -> Result<Value> {
    let path = connection.path("events/verify");
    let begun = connection.send_raw("POST", &path, None, Conditions::default())?;
    if begun.status >= 400 {
        bail!("{}", connection.explained(&begun));
    }
    let mut state = begun.body;
    loop {
        match state["state"].as_str() {
            Some("done") => return Ok(state["report"].clone()),
            Some("failed") => bail!(
                "the verification broke off: {}",
                state["reason"].as_str().unwrap_or_default()
            ),
            Some("running") => {
                let number = |name: &str| {
                    let number = state[name].as_u64().unwrap_or(0);
                    usize::try_from(number).unwrap_or(usize::MAX)
                };
                place(progress, number("files_done"), number("files"));
            }
            _ => bail!("the server forgot the verification; was it started anew? Try again"),
        }
        std::thread::sleep(ASK_EVERY);
        state = connection.get(&path)?.body;
    }
}
