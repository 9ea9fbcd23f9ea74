//! Many rows into the delivery log at once, and what an importer asks before it reads: which commits are held.
//!
//! An import is one atomic append, read line by line in constant memory: a connection that breaks, a line without end
//! or a bomb leaves nothing.

use std::io::{BufRead, BufReader, Read};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_delivery::event::EventBody;
use tidegate_delivery::{DeliveryEvent, problems_of};

use super::delivery::fields;
use super::problem::Problem;
use crate::app::{App, AppError};
use crate::delivery::log_file::LogError;
use crate::delivery::{Appending, Batch, OWN_SOURCE};

/// Longest row in an import.
const MAX_ROW_BYTES: u64 = 256 * 1024;
/// Most that an import may unpack to.
const MAX_IMPORT_BYTES: u64 = 1024 * 1024 * 1024;
/// Broken rows listed in full; all are counted.
const MAX_PROBLEMS_LISTED: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportQuery {
    /// Import nothing if one row is broken.
    #[serde(default)]
    strict: bool,
}

/// What became of an import.
#[derive(Debug, Default, Serialize)]
struct ImportReport {
    rows: u64,
    #[serde(flatten)]
    appending: Appending,
    rejected: u64,
    committed: bool,
    problems: Vec<RowProblem>,
}

#[derive(Debug, Serialize)]
struct RowProblem {
    line: u64,
    cause: String,
}

/// `POST /api/v1/projects/{project}/delivery/rows`: rows of the log, one JSON document a line, plain or gzip.
pub(crate) async fn import(
    State(app): State<App>,
    Path(project): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let ImportQuery { strict } = fields(&uri)?;
    let is_packed = match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => false,
        Some(b"gzip") => true,
        Some(_) => {
            let message = "Content-Encoding is gzip or nothing";
            return Err(AppError::invalid("", "unknown-encoding", message));
        }
    };
    let outcome = app
        .delivery
        .with_log(&project, move |log| {
            let mut report = ImportReport::default();
            let written = log.write(|batch| {
                let plain: Box<dyn Read + '_> = if is_packed {
                    Box::new(flate2::read::MultiGzDecoder::new(&bytes[..]))
                } else {
                    Box::new(&bytes[..])
                };
                take_rows(plain, batch, &mut report)?;
                if strict && report.rejected > 0 {
                    return Err(ImportStop::Strict);
                }
                Ok(())
            });
            match written {
                Ok(((), appending)) => {
                    report.appending = appending;
                    report.committed = true;
                    Ok(Ok(report))
                }
                Err(ImportStop::Log(error)) => Err(error),
                Err(ImportStop::Strict) => Ok(Ok(report)),
                Err(ImportStop::Broken(cause)) => Ok(Err(cause)),
            }
        })
        .await?;
    let report = outcome.map_err(|cause| AppError::invalid("", "broken-import", cause))?;
    let is_taken = report.committed && (report.rows == 0 || report.rejected < report.rows);
    if is_taken {
        return Ok((StatusCode::OK, Json(report)).into_response());
    }
    let detail = format!(
        "{} of {} rows are broken and none was imported; problems names what is wrong",
        report.rejected, report.rows
    );
    let said =
        serde_json::to_value(report).map_err(|error| AppError::Internal(error.to_string()))?;
    Ok(Problem::nothing_taken(StatusCode::UNPROCESSABLE_ENTITY, detail, said).into_response())
}

/// Why an import leaves nothing.
enum ImportStop {
    Log(LogError),
    /// A row is broken and none may be.
    Strict,
    /// It cannot be read to its end.
    Broken(String),
}

impl From<LogError> for ImportStop {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Reads rows line by line in constant memory.
fn take_rows(
    plain: impl Read,
    batch: &mut Batch<'_>,
    report: &mut ImportReport,
) -> Result<(), ImportStop> {
    let mut reader = BufReader::new(plain.take(MAX_IMPORT_BYTES));
    let mut line = Vec::new();
    let mut number = 0;
    let mut read = 0;
    loop {
        line.clear();
        let length = (&mut reader)
            .take(MAX_ROW_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|error| ImportStop::Broken(format!("line {}: {error}", number + 1)))?;
        read += length as u64;
        if length == 0 {
            break;
        }
        number += 1;
        if length as u64 == MAX_ROW_BYTES {
            return Err(ImportStop::Broken(format!(
                "line {number} has more than {MAX_ROW_BYTES} bytes"
            )));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        report.rows += 1;
        match row_of(&line) {
            Ok(event) => batch.take(&event)?,
            Err(cause) => {
                report.rejected += 1;
                if report.problems.len() < MAX_PROBLEMS_LISTED {
                    report.problems.push(RowProblem {
                        line: number,
                        cause,
                    });
                }
            }
        }
    }
    if read == MAX_IMPORT_BYTES {
        let message = format!("it unpacks to {MAX_IMPORT_BYTES} bytes or more; send it in parts");
        return Err(ImportStop::Broken(message));
    }
    Ok(())
}

/// A row that a pipeline may import: not what Tidegate itself says, and no ruling, which needs somebody who rules.
fn row_of(line: &[u8]) -> Result<DeliveryEvent, String> {
    let event: DeliveryEvent = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if event.source == OWN_SOURCE {
        return Err(format!(
            "/source {OWN_SOURCE:?} is Tidegate's own; name yours otherwise"
        ));
    }
    if matches!(event.body, EventBody::Correction(_)) {
        return Err(
            "a ruling goes to .../delivery/corrections, where it is known who rules".to_owned(),
        );
    }
    let problems: Vec<String> = problems_of(&event)
        .iter()
        .map(ToString::to_string)
        .collect();
    if problems.is_empty() {
        Ok(event)
    } else {
        Err(problems.join("; "))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitsQuery {
    repository: String,
}

/// `GET /api/v1/projects/{project}/delivery/commits`: one line per commit of a repository, `+` and its id, and `?` and
/// the id for those that are only mentioned as parents.
pub(crate) async fn commits(
    State(app): State<App>,
    Path(project): Path<String>,
    uri: Uri,
) -> Result<Response, AppError> {
    let CommitsQuery { repository } = fields(&uri)?;
    let text = app
        .delivery
        .ask(&project, move |timeline| {
            let mut text = String::new();
            if let Some(repository) = timeline.repository(&repository) {
                let graph = repository.graph();
                for node in graph.nodes() {
                    text.push(if graph.is_seen(node) { '+' } else { '?' });
                    text.push_str(&graph.id(node).to_hex());
                    text.push('\n');
                }
            }
            Ok(text)
        })
        .await?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
