//! `tidegate person`: add people, give them roles, take them away.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Conditions, Connection, encode};
use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum PersonCommand {
    /// Add a person; prints the link by which they set a password, this once
    #[command(
        after_help = "Example:\n  tidegate person add ada@example.com --name 'Ada' \
                            --role developer\n\nThe link is good for a day and for one use."
    )]
    Add(AddArguments),
    /// List people, their roles, and whether they may sign in
    #[command(after_help = "Example:\n  tidegate person list")]
    List(ListArguments),
    /// Replace the roles that a person has in the project, or everywhere
    #[command(
        after_help = "Examples:\n  tidegate person role ada@example.com --role operator \
                            --role approver\n  tidegate person role ada@example.com --role admin \
                            --everywhere\n  tidegate person role ada@example.com --none"
    )]
    Role(RoleArguments),
    /// Take the password away, end every sign-in, and print a link for a new one
    #[command(after_help = "Example:\n  tidegate person reset ada@example.com")]
    Reset(OneArguments),
    /// Take sign-in away at once; what they scheduled does not raise exposure any more
    #[command(after_help = "Example:\n  tidegate person disable ada@example.com")]
    Disable(OneArguments),
    /// Give sign-in back
    #[command(after_help = "Example:\n  tidegate person enable ada@example.com")]
    Enable(OneArguments),
    /// Forget address, name, password and roles; the audit keeps an opaque id
    #[command(after_help = "Example:\n  tidegate person forget ada@example.com")]
    Forget(OneArguments),
}

const ROLES: [&str; 7] = [
    "viewer",
    "contributor",
    "operator",
    "developer",
    "experimenter",
    "approver",
    "admin",
];

#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// The address to sign in with
    email: String,
    /// The person's name
    #[arg(long)]
    name: String,
    /// What they may do, see docs/access.md; may be repeated
    #[arg(long = "role", required = true, value_parser = ROLES)]
    roles: Vec<String>,
    /// In all projects, and not only in the one that is meant
    #[arg(long)]
    everywhere: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct RoleArguments {
    /// The person's address or id
    person: String,
    /// What they may do, see docs/access.md; may be repeated
    #[arg(long = "role", value_parser = ROLES, required_unless_present = "none")]
    roles: Vec<String>,
    /// No role at all
    #[arg(long, conflicts_with = "roles")]
    none: bool,
    /// The roles that hold in all projects, and not those in the one that is meant
    #[arg(long)]
    everywhere: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct OneArguments {
    /// The person's address or id
    person: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs one of the commands.
pub(crate) fn run(command: &PersonCommand) -> Result<ExitCode> {
    match command {
        PersonCommand::Add(arguments) => add(arguments)?,
        PersonCommand::List(arguments) => list(arguments)?,
        PersonCommand::Role(arguments) => set_roles(arguments)?,
        PersonCommand::Reset(arguments) => {
            let answer = act(arguments, "reset")?;
            invited(&arguments.connection, &answer, arguments.output.output)?;
        }
        PersonCommand::Disable(arguments) => disable(arguments)?,
        PersonCommand::Enable(arguments) => {
            let answer = act(arguments, "enable")?;
            done(arguments, &answer, "may sign in again")?;
        }
        PersonCommand::Forget(arguments) => {
            let path = path_of(&arguments.connection, &arguments.person)?;
            let answer = arguments.connection.delete(&path, Conditions::default())?;
            done(arguments, &answer.body, "is forgotten")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(arguments: &AddArguments) -> Result<()> {
    let request = json!({
        "email": arguments.email,
        "name": arguments.name,
        "roles": arguments.roles,
        "everywhere": arguments.everywhere,
    });
    let path = arguments.connection.path("people");
    let answer = arguments.connection.post(&path, &request)?;
    invited(&arguments.connection, &answer.body, arguments.output.output)
}

/// Prints the link to send to the person.
fn invited(connection: &Connection, answer: &Value, format: Format) -> Result<()> {
    if format == Format::Json {
        return output::json(answer);
    }
    let path = answer["link"]["path"]
        .as_str()
        .context("the server's answer carries no link")?;
    output::line(&format!("{}{path}", connection.base()));
    let until = answer["link"]["expires_at"].as_str().unwrap_or("-");
    output::note(&format!(
        "send it to the person: it sets their password, once, until {until}"
    ));
    Ok(())
}

fn people(connection: &Connection) -> Result<Vec<Value>> {
    let answer = connection.get(&connection.path("people"))?;
    Ok(answer.body["rows"].as_array().cloned().unwrap_or_default())
}

fn list(arguments: &ListArguments) -> Result<()> {
    let rows = people(&arguments.connection)?;
    if arguments.output.output == Format::Json {
        return output::json(&json!({ "rows": rows }));
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or("(forgotten)").to_owned();
            vec![
                text("email"),
                text("name"),
                roles_in_words(&row["roles"]),
                state(row).to_owned(),
            ]
        })
        .collect();
    output::table(&["ADDRESS", "NAME", "ROLES", "SIGN-IN"], &cells);
    Ok(())
}

fn state(person: &Value) -> &'static str {
    if !person["disabled_at"].is_null() {
        "disabled"
    } else if person["has_password"] == json!(true) {
        "yes"
    } else {
        "invited"
    }
}

fn roles_in_words(roles: &Value) -> String {
    let words: Vec<String> = roles
        .as_array()
        .into_iter()
        .flatten()
        .map(|grant| {
            let role = grant["role"].as_str().unwrap_or("-");
            match grant["project"].as_str() {
                Some(project) => format!("{role} in {project}"),
                None => format!("{role} everywhere"),
            }
        })
        .collect();
    match words.as_slice() {
        [] => "none".to_owned(),
        words => words.join(", "),
    }
}

fn set_roles(arguments: &RoleArguments) -> Result<()> {
    let request = json!({ "roles": arguments.roles, "everywhere": arguments.everywhere });
    let person = path_of(&arguments.connection, &arguments.person)?;
    let path = format!("{person}/roles");
    let answer = arguments
        .connection
        .put(&path, &request, Conditions::default())?;
    if arguments.output.output == Format::Json {
        return output::json(&answer.body);
    }
    let roles = roles_in_words(&answer.body["roles"]);
    output::line(&format!("{}: {roles}", arguments.person));
    Ok(())
}

fn disable(arguments: &OneArguments) -> Result<()> {
    let answer = act(arguments, "disable")?;
    done(
        arguments,
        &answer,
        "may not sign in any more; every sign-in has ended",
    )?;
    for line in held_schedules(&arguments.connection)? {
        output::note(&line);
    }
    Ok(())
}

/// What the server holds because whoever wrote it may not sign in any more.
fn held_schedules(connection: &Connection) -> Result<Vec<String>> {
    let status = connection.get("/status")?.body;
    let projects = status["projects"].as_array().into_iter().flatten();
    let warnings = projects.flat_map(|project| {
        let warnings = project["warnings"].as_array().into_iter().flatten();
        warnings.map(move |warning| (&project["project"], warning))
    });
    Ok(warnings
        .filter(|(_, warning)| warning["code"] == "held_schedule")
        .map(|(project, warning)| {
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            format!(
                "held: flag {} in {}: {}",
                text(&warning["flag"]),
                text(project),
                text(&warning["message"])
            )
        })
        .collect())
}

fn done(arguments: &OneArguments, answer: &Value, what: &str) -> Result<()> {
    if arguments.output.output == Format::Json {
        return output::json(answer);
    }
    output::line(&format!("{} {what}", arguments.person));
    Ok(())
}

fn act(arguments: &OneArguments, action: &str) -> Result<Value> {
    let person = path_of(&arguments.connection, &arguments.person)?;
    let answer = arguments
        .connection
        .post(&format!("{person}/{action}"), &Value::Null)?;
    Ok(answer.body)
}

/// The path of a person named by address or id. An address never travels in a path, which
/// proxies write down.
fn path_of(connection: &Connection, person: &str) -> Result<String> {
    let rows = people(connection)?;
    let is_meant = |row: &&Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        text("id") == person || text("email").eq_ignore_ascii_case(person)
    };
    match rows
        .iter()
        .find(is_meant)
        .and_then(|row| row["id"].as_str())
    {
        Some(id) => Ok(connection.path(&format!("people/{}", encode(id)))),
        None => {
            bail!("nobody here has the address {person}; `tidegate person list` shows who does")
        }
    }
}
