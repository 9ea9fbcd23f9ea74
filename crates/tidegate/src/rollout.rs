//! `tidegate rollout`: start, watch, hold, approve, end and explain guarded rollouts.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Conditions, Connection, encode};
use crate::flag::all;
use crate::output::{self, Format, OutputArguments};
use crate::rollout_words::{explained, line};

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// List rollouts and how they stand
    List(Everywhere),
    /// Read how one stands: verdict, evidence, what is waited for
    Get(One),
    /// Say in words why it stands where it stands
    Explain(One),
    /// Say whether it may start, and how soon its guards would see harm; changes nothing
    Plan(One),
    /// Start it; its flag gets the rule, at share zero
    Start(StartArguments),
    /// Follow it until it ends; exits 1 if it was rolled back
    Watch(One),
    /// Hold it at its present share
    Pause(WithReason),
    /// Let a paused one go on
    Resume(WithReason),
    /// End it; everybody gets control
    Abort(WithReason),
    /// Take a change back to control, also after its rollout was completed
    Undo(WithReason),
    /// Begin an ended one anew; evidence, counters and approvals are reset
    Retry(WithReason),
    /// Approve a stage that waits for it; `rollout explain` says which
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
pub(crate) struct StartArguments {
    /// The rollout's key
    key: String,
    /// Start although guards are not proven, and say why: it is kept in the audit trail
    #[arg(long, value_name = "REASON")]
    unproven: Option<String>,
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
    /// The stage to approve, counted from 0; the number of stages approves completion
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
        RolloutCommand::Plan(arguments) => return plan(arguments),
        RolloutCommand::Start(arguments) => start(arguments)?,
        RolloutCommand::Watch(arguments) => return watch(arguments),
        RolloutCommand::Pause(wish) => ask(wish, "pause")?,
        RolloutCommand::Resume(wish) => ask(wish, "resume")?,
        RolloutCommand::Abort(wish) => ask(wish, "abort")?,
        RolloutCommand::Undo(wish) => ask(wish, "stop")?,
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

/// How a rollout stands; `None` if it is there and was never started.
fn found(connection: &Connection, key: &str) -> Result<Option<Value>> {
    let report = path(connection, key, "report");
    let answer = connection.send_raw("GET", &report, None, Conditions::default())?;
    match answer.status {
        404 => {
            // Only a rollout that is not there is a mistake of whoever asks.
            connection.get(&connection.path(&format!("rollouts/{}", encode(key))))?;
            Ok(None)
        }
        400.. => Err(connection.refusal(&answer)),
        _ => Ok(Some(answer.body)),
    }
}

fn standing(connection: &Connection, key: &str) -> Result<Value> {
    found(connection, key)?.with_context(|| not_started(key))
}

fn not_started(key: &str) -> String {
    format!(
        "{key} has not been started: `tidegate rollout plan {key}` says whether it may start and how \
         soon it would see harm, `tidegate rollout start {key}` starts it"
    )
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
    let Some(standing) = found(&arguments.connection, &arguments.key)? else {
        output::line(&not_started(&arguments.key));
        return Ok(());
    };
    if arguments.output.output == Format::Json {
        return output::json(&standing);
    }
    for text in explained(&arguments.key, &standing) {
        output::line(&text);
    }
    Ok(())
}

/// Whether it may start. Exits 1 if not.
fn plan(arguments: &One) -> Result<ExitCode> {
    let check = path(&arguments.connection, &arguments.key, "check");
    let found = arguments.connection.get(&check)?.body;
    match arguments.output.output {
        Format::Json => output::json(&found)?,
        Format::Table => {
            say_check(&found, "refused");
            output::line(match found["may_start"].as_bool() {
                Some(true) => "it may start",
                _ => {
                    "it may not start as it is; mend what is refused, or say why it shall start \
                      all the same: tidegate rollout start KEY --unproven REASON"
                }
            });
        }
    }
    Ok(match found["may_start"].as_bool() {
        Some(true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn start(arguments: &StartArguments) -> Result<()> {
    let body = match &arguments.unproven {
        Some(reason) => json!({ "unproven": true, "reason": reason }),
        None => json!({}),
    };
    let StartArguments {
        key, connection, ..
    } = arguments;
    let answer = connection
        .post(&path(connection, key, "start"), &body)
        .map_err(|error| {
            anyhow!(
                "{error}\n`tidegate rollout plan {key}` shows all it rests on; --unproven REASON starts \
                 it although a guard is not proven"
            )
        })?
        .body;
    match arguments.output.output {
        Format::Json => output::json(&answer),
        Format::Table => {
            output::line(&format!("{key} is {}", line(&answer)));
            // It was started all the same: somebody said why.
            say_check(&answer["check"], "unproven");
            Ok(())
        }
    }
}

/// What a start rests on, guard by guard.
fn say_check(check: &Value, refused: &str) {
    for guard in check["guards"].as_array().into_iter().flatten() {
        let metric = guard["metric"].as_str().unwrap_or_default();
        let fired = match guard["fired_on_injected_fault"].as_bool() {
            Some(true) => "fires under an injected fault",
            Some(false) => "does NOT fire under an injected fault",
            None => "could not be tried under an injected fault",
        };
        let forecast = guard["forecast"]["sentence"]
            .as_str()
            .unwrap_or("how soon it would see harm is not known yet: too little traffic was seen");
        output::line(&format!("  {metric}: {fired}; {forecast}"));
    }
    for finding in check["findings"].as_array().into_iter().flatten() {
        let text = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        let word = match finding["severity"].as_str() {
            Some("refuse") => refused,
            _ => "warning",
        };
        output::line(&format!("  {word} {}: {}", text("pointer"), text("reason")));
    }
}

/// Follows a rollout, also one that is yet to be started: a live view on a terminal, a line for each
/// change elsewhere. Exits 1 if the rollout was rolled back.
fn watch(arguments: &One) -> Result<ExitCode> {
    let mut screen = crate::rollout_view::Screen::of(arguments.output.output);
    let mut was_said = false;
    loop {
        let Some(standing) = found(&arguments.connection, &arguments.key)? else {
            if !was_said {
                output::note(&not_started(&arguments.key));
                was_said = true;
            }
            std::thread::sleep(Duration::from_millis(500));
            continue;
        };
        screen.show(&arguments.key, &standing, &line(&standing));
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
