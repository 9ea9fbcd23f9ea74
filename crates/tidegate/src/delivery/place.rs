//! Where a delivery log is: in the files of a stopped server, or behind a running one.
//!
//! What is said nearest wins: `--data-dir` or `--server` on the command line, then `TIDEGATE_SERVER`, then
//! `TIDEGATE_DATA_DIR`, then the server at its default address.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tidegate_delivery::question::{Form, Question};
use tidegate_delivery::{Timeline, TimelineBuilder};
use tidegate_server::delivery::log_file::{DeliveryLog, LogError};

use super::{OutputFormat, now, print_line};
use crate::client::{Connection, encode};
use crate::config;

const DEFAULT_SERVER: &str = "http://127.0.0.1:8800";

/// Which log.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Data folder of a stopped server, instead of asking a running one
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The server's address [default: http://127.0.0.1:8800]
    #[arg(long, conflicts_with = "data_dir")]
    server: Option<String>,
    /// The token to act with
    #[arg(long, env = "TIDEGATE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Project
    #[arg(long, env = "TIDEGATE_PROJECT", default_value = "default")]
    pub(super) project: String,
}

/// Where the log is.
pub(super) enum Place {
    /// In files that no server uses.
    Files(DeliveryLog),
    /// Behind a server.
    Server(Connection),
}

impl LogArgs {
    /// Decides where the log is.
    pub(super) fn place(&self) -> Result<Place, LogError> {
        if let Some(folder) = &self.data_dir {
            return self.files(folder);
        }
        let server = self
            .server
            .clone()
            .or_else(|| config::variable("TIDEGATE_SERVER"));
        match (server, config::variable("TIDEGATE_DATA_DIR")) {
            (None, Some(folder)) => self.files(Path::new(&folder)),
            (server, _) => Ok(Place::Server(Connection {
                server: server.unwrap_or(DEFAULT_SERVER.to_owned()),
                token: self.token.clone(),
                project: self.project.clone(),
                is_patient: false,
            })),
        }
    }

    fn files(&self, folder: &Path) -> Result<Place, LogError> {
        Ok(Place::Files(DeliveryLog::at(folder, &self.project)?))
    }

    /// Asks a question where the log is and prints the answer.
    pub(super) fn ask(
        &self,
        name: &str,
        question: &(impl Question + Serialize),
        output: OutputFormat,
    ) -> anyhow::Result<()> {
        let answer = match self.place()? {
            Place::Files(log) => {
                let timeline = fold(&log)?;
                let form = match output {
                    OutputFormat::Text => Form::Text,
                    OutputFormat::Json => Form::Json,
                };
                let answer = question.answer(&timeline, now(), form)?;
                // The process ends soon; giving a large timeline back piece by piece would only delay the answer.
                std::mem::forget(timeline);
                answer
            }
            Place::Server(connection) => {
                let accept = match output {
                    OutputFormat::Text => "text/plain",
                    OutputFormat::Json => "application/json",
                };
                let path = format!("delivery/{name}?{}", query_of(question)?);
                connection.get_text(&connection.path(&path), accept)?
            }
        };
        if !answer.is_empty() {
            print_line(&answer)?;
        }
        Ok(())
    }
}

/// Everything the log says.
pub(super) fn fold(log: &DeliveryLog) -> Result<Timeline, LogError> {
    let mut builder = TimelineBuilder::default();
    let extent = log.read(|event| builder.push(event))?;
    if extent.torn_bytes > 0 {
        tracing::warn!(
            torn_bytes = extent.torn_bytes,
            "the log ends in a torn write, which is skipped"
        );
    }
    Ok(builder.finish())
}

/// A question's fields as a query string.
fn query_of(question: &impl Serialize) -> anyhow::Result<String> {
    let fields = serde_json::to_value(question)?;
    let pairs = fields.as_object().into_iter().flatten();
    let texts: Vec<String> = pairs
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={}", encode(text)),
            None => format!("{name}={}", encode(&value.to_string())),
        })
        .collect();
    Ok(texts.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_delivery::question::FlowQuestion;

    #[test]
    fn a_question_becomes_a_query_string_that_says_the_same() {
        let question = FlowQuestion {
            service: Some("shop & till".to_owned()),
            from: "2025-01-01T00:00:00+01:00".to_owned(),
            to: "2025-02-01".to_owned(),
            wip_limit: Some(7),
        };
        assert_eq!(
            query_of(&question).unwrap(),
            "service=shop%20%26%20till&from=2025-01-01T00%3A00%3A00%2B01%3A00&to=2025-02-01&wip_limit=7"
        );
    }
}
