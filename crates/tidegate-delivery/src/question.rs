//! Questions people ask of a project's log, and their answers as JSON or as lines for people.
//!
//! A question is plain data: the command line fills it from options, the server from a query string, and both call
//! [`Question::answer`] on the folded log. So an answer does not depend on the door it was asked at.
//! Times are texts here (a date or RFC 3339), because that is how they are asked; they are read before anything is
//! computed, and every unreadable one is named with its field.
//!
//! Must not know: where the log is kept, who asks.

mod flow;
mod incidents;
mod metrics;
mod pipeline;
mod report;

use serde::Serialize;

use crate::definition::UnknownDefinition;
use crate::flow::forecast::ForecastError;
use crate::moment::{EmptyWindow, Moment, MomentError, Window};
use crate::timeline::Timeline;

pub use flow::{Counted, FlowQuestion, ForecastQuestion};
pub use incidents::{IncidentsQuestion, PostmortemQuestion};
pub use metrics::MetricsQuestion;
pub use pipeline::PipelineQuestion;
pub use report::{AlertsQuestion, SummaryQuestion, TargetsQuestion};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For programs.
    Json,
    /// Lines for people.
    Text,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// A field that should hold a time.
    #[error("{field}: {source}")]
    Time {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        source: MomentError,
    },
    /// A window that holds nothing.
    #[error(transparent)]
    Window(#[from] EmptyWindow),
    /// A definition that there is none of.
    #[error(transparent)]
    Definition(#[from] UnknownDefinition),
    /// A forecast that cannot be made.
    #[error(transparent)]
    Forecast(#[from] ForecastError),
    /// Neither or both of two fields of which one is needed.
    #[error("give either {one} or {other}")]
    EitherOr {
        /// One field.
        one: &'static str,
        /// The other field.
        other: &'static str,
    },
    /// A field whose value has not the shape asked for.
    #[error("{field}: {cause}")]
    Shape {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// An incident that is not in the log.
    #[error("no incident {id:?} is in the log")]
    NoSuchIncident {
        /// As it was asked for.
        id: String,
    },
    /// An answer that cannot be written.
    #[error("the answer cannot be written: {0}")]
    Writing(#[from] serde_json::Error),
}

/// Something that can be asked of a log.
pub trait Question {
    /// The answer in one of its forms, without a line break at the end.
    ///
    /// # Errors
    /// [`QuestionError`] names the field that is wrong.
    fn answer(&self, timeline: &Timeline, now: Moment, form: Form)
    -> Result<String, QuestionError>;
}

fn moment_of(field: &'static str, text: &str) -> Result<Moment, QuestionError> {
    Moment::parse(text).map_err(|source| QuestionError::Time { field, source })
}

fn window_of(from: &str, to: &str) -> Result<Window, QuestionError> {
    Ok(Window::new(moment_of("from", from)?, moment_of("to", to)?)?)
}

/// Writes an answer, computing only the form that is wanted.
fn written<T: Serialize>(
    form: Form,
    answer: &T,
    text: impl FnOnce(&T) -> Vec<String>,
) -> Result<String, QuestionError> {
    Ok(match form {
        Form::Json => serde_json::to_string(answer)?,
        Form::Text => text(answer).join("\n"),
    })
}

/// Names as they are asked for: separated by commas; `all`, `*` or nothing means every one (an empty list).
fn names(asked: &str) -> Vec<String> {
    let names: Vec<String> = asked
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if names.iter().any(|name| name == "all" || name == "*") {
        return Vec::new();
    }
    names
}

fn all() -> String {
    "all".to_owned()
}

fn dora() -> String {
    "dora-2025".to_owned()
}

fn production() -> String {
    "production".to_owned()
}

fn staging() -> String {
    "staging".to_owned()
}

fn integration() -> String {
    "integration".to_owned()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn all_means_no_restriction() {
        assert!(names("all").is_empty() && names("").is_empty() && names("shop,*").is_empty());
        assert_eq!(names("shop, till"), ["shop", "till"]);
    }
}
