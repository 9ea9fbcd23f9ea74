//! `tidegate healthcheck`: what a container or a service manager calls.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::client::{Conditions, Connection};
use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Args)]
pub(crate) struct HealthcheckArguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Exits 0 if the server is ready to evaluate flags.
pub(crate) fn run(arguments: &HealthcheckArguments) -> Result<ExitCode> {
    let answer = arguments
        .connection
        .send_raw("GET", "/readyz", None, Conditions::default())?;
    match arguments.output.output {
        Format::Json => output::json(&answer.body)?,
        Format::Table => {
            let status = answer
                .body
                .get("status")
                .and_then(serde_json::Value::as_str);
            output::line(status.unwrap_or("not a Tidegate server"));
        }
    }
    Ok(if answer.status == 200 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
