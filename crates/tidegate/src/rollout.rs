//! `tidegate rollout`: start, watch, hold, approve, end and explain guarded rollouts.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Connection, encode};
use crate::flag::all;
use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// List rollouts and how they stand
    List(Everywhere),
    /// Read how one stands: verdict, evidence, what is waited for
    Get(One),
    /// Say in words why it stands where it stands
    Explain(One),
    /// Start it; its flag gets the rule, at share zero
    Start(One),
    /// Follow it until it ends
    Watch(One),
    /// Hold it at its present share
    Pause(WithReason),
    /// Let a paused one go on
    Resume(WithReason),
    /// End it; everybody gets control
    Abort(WithReason),
    /// Begin an ended one anew; evidence, counters and approvals are reset
    Retry(WithReason),
    /// Approve a stage, counted from 0; the number of stages approves completion
    Advance(Approval),
    /// Say how often a plan would roll back a healthy change, and how soon a harmful one
    Simulate(crate::rollout_simulate::SimulateArguments),
    /// Make every kept plan again from its inputs and compare bytes; exits 1 if one differs
    Replay(One),
}

#[derive(Debug, Args)]
pub(crate) struct Everywhere {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The rollout's key
    key: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct WithReason {
    /// The rollout's key
    key: String,
    /// Why: the next person will ask
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Approval {
    /// The rollout's key
    key: String,
    /// The stage to approve, counted from 0
    #[arg(long)]
    stage: usize,
    /// Why: the next person will ask
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs one of the commands.
pub(crate) fn run(command: &RolloutCommand) -> Result<ExitCode> {
    match command {
        RolloutCommand::List(arguments) => list(arguments)?,
        RolloutCommand::Get(arguments) => {
            output::json(&standing(&arguments.connection, &arguments.key)?)?;
        }
        RolloutCommand::Explain(arguments) => explain(arguments)?,
        RolloutCommand::Start(one) => {
            act(
                &one.connection,
                &one.key,
                "start",
                &json!({}),
                one.output.output,
            )?;
        }
        RolloutCommand::Watch(arguments) => return watch(arguments),
        RolloutCommand::Pause(wish) => ask(wish, "pause")?,
        RolloutCommand::Resume(wish) => ask(wish, "resume")?,
        RolloutCommand::Abort(wish) => ask(wish, "abort")?,
        RolloutCommand::Retry(wish) => ask(wish, "retry")?,
        RolloutCommand::Advance(wish) => {
            let body = json!({ "reason": wish.reason, "stage": wish.stage });
            act(
                &wish.connection,
                &wish.key,
                "approve",
                &body,
                wish.output.output,
            )?;
        }
        RolloutCommand::Simulate(arguments) => return crate::rollout_simulate::run(arguments),
        RolloutCommand::Replay(arguments) => return replay(arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn path(connection: &Connection, key: &str, rest: &str) -> String {
    connection.path(&format!("rollouts/{}/{rest}", encode(key)))
}

fn standing(connection: &Connection, key: &str) -> Result<Value> {
    Ok(connection.get(&path(connection, key, "report"))?.body)
}

fn ask(wish: &WithReason, action: &str) -> Result<()> {
    let body = json!({ "reason": wish.reason });
    act(
        &wish.connection,
        &wish.key,
        action,
        &body,
        wish.output.output,
    )
}

fn act(
    connection: &Connection,
    key: &str,
    action: &str,
    body: &Value,
    format: Format,
) -> Result<()> {
    let answer = connection.post(&path(connection, key, action), body)?.body;
    match format {
        Format::Json => output::json(&answer),
        Format::Table => {
            output::line(&format!("{key} is {}", line(&answer)));
            Ok(())
        }
    }
}

/// How a rollout stands, in one line.
fn line(standing: &Value) -> String {
    let share = standing["share_bp"].as_f64().unwrap_or_default() / 100.0;
    format!(
        "{} at {share:.2} %: {}",
        standing["lifecycle"].as_str().unwrap_or("unknown"),
        standing["plan"]["report"]["sentence"]
            .as_str()
            .unwrap_or_default(),
    )
}

fn list(arguments: &Everywhere) -> Result<()> {
    let mut rows = Vec::new();
    for object in all(&arguments.connection, "rollouts")? {
        let key = object["key"].as_str().unwrap_or_default().to_owned();
        // One that was never started has no report.
        let standing = standing(&arguments.connection, &key).unwrap_or(Value::Null);
        rows.push(json!({ "key": key, "flag": object["spec"]["flag"], "standing": standing }));
    }
    if arguments.output.output == Format::Json {
        return output::json(&json!({ "rows": rows }));
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let how = match row["standing"].is_null() {
                true => "not started".to_owned(),
                false => line(&row["standing"]),
            };
            vec![text(&row["key"]), text(&row["flag"]), how]
        })
        .collect();
    output::table(&["ROLLOUT", "FLAG", "STANDING"], &cells);
    Ok(())
}

fn explain(arguments: &One) -> Result<()> {
    let standing = standing(&arguments.connection, &arguments.key)?;
    if arguments.output.output == Format::Json {
        return output::json(&standing);
    }
    let report = &standing["plan"]["report"];
    output::line(&format!("{} is {}", arguments.key, line(&standing)));
    for guard in report["guards"].as_array().into_iter().flatten() {
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        output::line(&format!(
            "  {}: {}; {} of {} treatment units against {} of {} of control; evidence e^{:.2} of \
             the e^{:.2} that would roll back",
            guard["metric"].as_str().unwrap_or_default(),
            guard["verdict"].as_str().unwrap_or_default(),
            guard["events"]["treatment"],
            guard["units"]["treatment"],
            guard["events"]["control"],
            guard["units"]["control"],
            number(&guard["ln_e"]),
            number(&guard["ln_threshold"]),
        ));
        if let Some(remark) = guard["remark"].as_str() {
            output::line(&format!("    {remark}"));
        }
    }
    if let Some(hooks) = standing["hooks"].as_str() {
        output::line(&format!("  {hooks}"));
    }
    for note in report["notes"].as_array().into_iter().flatten() {
        output::line(&format!("  note: {}", note.as_str().unwrap_or_default()));
    }
    Ok(())
}

/// Prints a line whenever it says something new. Exits 1 if the rollout was rolled back.
fn watch(arguments: &One) -> Result<ExitCode> {
    let mut said = String::new();
    loop {
        let standing = standing(&arguments.connection, &arguments.key)?;
        let now = line(&standing);
        if now != said {
            match arguments.output.output {
                Format::Json => output::line(&standing.to_string()),
                Format::Table => output::line(&now),
            }
            said = now;
        }
        match standing["lifecycle"].as_str() {
            Some("completed") => return Ok(ExitCode::SUCCESS),
            Some("rolled back") => return Ok(ExitCode::FAILURE),
            _ => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

fn replay(arguments: &One) -> Result<ExitCode> {
    let answer =
        arguments
            .connection
            .get(&path(&arguments.connection, &arguments.key, "replay"))?;
    let found = &answer.body["replay"];
    let differ = found["different"].as_array().map_or(0, Vec::len);
    match arguments.output.output {
        Format::Json => output::json(&answer.body)?,
        Format::Table => output::line(&format!(
            "{} plans made again, {} the same byte for byte, {differ} different",
            found["plans"], found["identical"]
        )),
    }
    Ok(if differ == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
