//! A developer's own server: one file of flags, no storage, no sign-in, loopback only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tidegate_flags::{Limits, Violation, parse_flag_set};

use crate::app::App;
use crate::clock::Clock;
use crate::live::{LiveSet, Source, assemble};
use crate::runtime::{Running, StartError, start_without_storage};

/// Why a developer's server does not start.
#[derive(Debug)]
pub enum DevError {
    /// The file cannot be read as a flag set.
    Flags(Vec<Violation>),
    /// The server itself.
    Start(StartError),
}

/// Starts a server over the text of one file.
///
/// # Errors
/// [`DevError`].
pub async fn start(
    listen: SocketAddr,
    text: &str,
    clock: Arc<dyn Clock>,
) -> Result<Running, DevError> {
    let source = read(text).map_err(DevError::Flags)?;
    let running = start_without_storage(listen, clock)
        .await
        .map_err(DevError::Start)?;
    serve(&running.app, &source);
    Ok(running)
}

/// Serves the text of the file as it is now. A flag that cannot be read keeps its own last good
/// version and is named in the answer.
///
/// # Errors
/// Every violation, if the text is no flag set at all; what was served before still is.
pub fn reload(app: &App, text: &str) -> Result<Vec<String>, Vec<Violation>> {
    let source = read(text)?;
    Ok(serve(app, &source))
}

fn serve(app: &App, source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    app.live.update(crate::DEFAULT_PROJECT, |previous| {
        let mut source = source.clone();
        source.config_version = previous.map_or(1, |set| set.config_version + 1);
        let next = assemble(
            crate::DEFAULT_PROJECT,
            &source,
            &app.stops.overlay(),
            previous,
        );
        problems = described(&next);
        Some(next)
    });
    problems
}

fn described(set: &LiveSet) -> Vec<String> {
    let broken = set.problems.iter().flat_map(|problem| {
        let kept = if problem.serves_previous {
            "its last good version is served"
        } else {
            "it answers with an error"
        };
        problem.violations.iter().map(move |violation| {
            format!(
                "flag {:?} {} {} ({kept})",
                problem.flag, violation.pointer, violation.message
            )
        })
    });
    let odd = set.warnings.iter().map(ToString::to_string);
    broken.chain(odd).collect()
}

fn read(text: &str) -> Result<Source, Vec<Violation>> {
    let document = tidegate_flags::parse_json(text.as_bytes(), &Limits::default())
        .map_err(|violation| vec![violation])?;
    // Checks the shape of the whole; flags keep their text, so that each is judged on its own.
    parse_flag_set(text, &Limits::default())?;
    let flags = match document.get("flags") {
        Some(Value::Object(flags)) => flags.clone().into_iter().collect(),
        Some(Value::Array(list)) => list.iter().filter_map(keyed).collect(),
        _ => BTreeMap::new(),
    };
    let object = |name| {
        document
            .get(name)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let (evaluators, metadata) = (object("$evaluators"), object("metadata"));
    Ok(Source {
        flags,
        evaluators,
        metadata,
        ..Source::default()
    })
}

/// A flag of a list, which carries its key.
fn keyed(flag: &Value) -> Option<(String, Value)> {
    let mut definition = flag.clone();
    match definition.as_object_mut()?.shift_remove("key")? {
        Value::String(key) => Some((key, definition)),
        _ => None,
    }
}
