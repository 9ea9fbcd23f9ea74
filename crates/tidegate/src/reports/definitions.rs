//! Metrics and journeys as objects on a server: created, listed, read.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tidegate_store::ObjectKind;

use crate::client::{Conditions, Connection, encode};
use crate::output::{self, Format, OutputArguments};

/// A kind of object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) kind: ObjectKind,
    pub(super) what: &'static str,
    pub(super) collection: &'static str,
}

impl Kept {
    pub(super) const METRIC: Self = Self {
        kind: ObjectKind::Metric,
        what: "metric",
        collection: "metrics",
    };
    pub(super) const JOURNEY: Self = Self {
        kind: ObjectKind::Journey,
        what: "journey",
        collection: "journeys",
    };
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Its key
    key: String,
    /// A YAML or JSON file with the definition, or with a document {kind, key, spec}
    #[arg(short = 'f', long)]
    file: PathBuf,
    /// Why, for the audit trail
    #[arg(long)]
    reason: Option<String>,
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
pub(crate) struct OneArguments {
    /// Its key
    key: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// The definition in a file: the whole of it, or its `spec`.
pub(super) fn definition_in(file: &Path) -> Result<Value> {
    let mut value = crate::declarative::read_value(file)?;
    match value.get_mut("spec") {
        Some(spec) => Ok(spec.take()),
        None => Ok(value),
    }
}

/// Creates an object; one that exists is left alone.
pub(super) fn create(kept: Kept, arguments: &CreateArguments) -> Result<()> {
    let document = crate::declarative::read_value(&arguments.file)?;
    let kind = document.get("kind").and_then(Value::as_str);
    if kind.is_some_and(|kind| document.get("spec").is_some() && kind != kept.what) {
        let file = arguments.file.display();
        bail!(
            "{file} holds a {}, not a {}",
            kind.unwrap_or_default(),
            kept.what
        );
    }
    let definition = definition_in(&arguments.file)?;
    let place = format!("{}/{}", kept.collection, encode(&arguments.key));
    let path = arguments.connection.path(&place);
    let path = crate::flag::with_reason(path, arguments.reason.as_deref());
    let conditions = Conditions {
        must_be_new: true,
        ..Conditions::default()
    };
    let answer = arguments.connection.put(&path, &definition, conditions)?;
    if arguments.output.output == Format::Json {
        return output::json(&answer.body);
    }
    output::line(&format!(
        "{} is at revision {}; see it with `tidegate {} report {}`",
        arguments.key, answer.body["revision"], kept.what, arguments.key
    ));
    Ok(())
}

/// Lists the objects of a kind.
pub(super) fn list(kept: Kept, arguments: &ListArguments) -> Result<()> {
    let rows = crate::flag::all(&arguments.connection, kept.collection)?;
    if arguments.output.output == Format::Json {
        return output::json(&json!({ "rows": rows }));
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
            vec![
                text("key"),
                summary(&row["spec"]),
                row["revision"].to_string(),
                text("updated_at"),
            ]
        })
        .collect();
    let heading = kept.what.to_uppercase();
    output::table(
        &[heading.as_str(), "MEASURES", "REVISION", "CHANGED"],
        &cells,
    );
    Ok(())
}

/// What a definition measures, in a few words.
fn summary(spec: &Value) -> String {
    if let Some(steps) = spec["steps"].as_array() {
        let names = steps.iter().map(|step| step["event"]["name"].as_str());
        let names: Vec<&str> = names.map(Option::unwrap_or_default).collect();
        return names.join(" > ");
    }
    let measure = spec["measure"]
        .as_object()
        .and_then(|one| one.iter().next());
    let Some((word, inside)) = measure else {
        return "-".to_owned();
    };
    let places = ["/event/name", "/numerator/event/name", "/from/name"];
    let event = places
        .iter()
        .find_map(|place| inside.pointer(place)?.as_str());
    format!("{word} of {}", event.unwrap_or("-"))
}

/// Reads one object.
pub(super) fn get(kept: Kept, arguments: &OneArguments) -> Result<()> {
    let place = format!("{}/{}", kept.collection, encode(&arguments.key));
    let path = arguments.connection.path(&place);
    let body = arguments.connection.get(&path)?.body;
    if arguments.output.output == Format::Json {
        return output::json(&body);
    }
    output::line(serde_norway::to_string(&body)?.trim_end());
    Ok(())
}
