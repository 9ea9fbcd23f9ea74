//! Declarative files, read: which documents are in them, and where one is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

/// The kinds files may hold, with the collection each lives in. Dependencies come first, so that
/// applying in this order never names what is not there yet.
pub(crate) const COLLECTIONS: [(&str, &str); 6] = [
    ("segment", "segments"),
    ("flag", "flags"),
    ("metric", "metrics"),
    ("journey", "journeys"),
    ("source", "sources"),
    ("rollout", "rollouts"),
];

/// The largest file that is read.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// One object as a file states it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// One of the kinds of [`COLLECTIONS`].
    pub(crate) kind: String,
    /// The object's key.
    pub(crate) key: String,
    /// Its definition.
    pub(crate) spec: Value,
}

impl Document {
    /// The document as `apply` takes it.
    pub(crate) fn to_yaml(&self) -> Result<String> {
        let document = json!({ "kind": self.kind, "key": self.key, "spec": self.spec });
        Ok(serde_norway::to_string(&document)?)
    }
}

/// Every document in a file, or in the files of a folder, in the order they are to be applied.
pub(crate) fn read(path: &Path) -> Result<Vec<Document>> {
    let mut found: BTreeMap<(usize, String), (Document, PathBuf)> = BTreeMap::new();
    for file in files(path)? {
        for document in read_file(&file)? {
            let rank = rank(&document.kind).with_context(|| in_file(&file))?;
            let place = (rank, document.key.clone());
            if let Some((_, other)) = found.get(&place) {
                bail!(
                    "{} {} is in {} and in {}; keep one",
                    document.kind,
                    document.key,
                    other.display(),
                    file.display()
                );
            }
            found.insert(place, (document, file.clone()));
        }
    }
    ensure!(!found.is_empty(), "{} holds no document", path.display());
    Ok(found.into_values().map(|(document, _)| document).collect())
}

/// One YAML or JSON file as a value.
pub(crate) fn read_value(file: &Path) -> Result<Value> {
    let mut values = values_in(file)?;
    match (values.pop(), values.is_empty()) {
        (Some(value), true) => Ok(value),
        _ => bail!("{} must hold exactly one document", file.display()),
    }
}

fn rank(kind: &str) -> Result<usize> {
    COLLECTIONS
        .iter()
        .position(|(known, _)| *known == kind)
        .with_context(|| {
            let known: Vec<&str> = COLLECTIONS.iter().map(|(known, _)| *known).collect();
            format!("kind {kind:?} is not one of {}", known.join(", "))
        })
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let about =
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !about.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("json" | "yaml" | "yml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn in_file(file: &Path) -> String {
    format!("in {}", file.display())
}

fn values_in(file: &Path) -> Result<Vec<Value>> {
    let size = std::fs::metadata(file)
        .with_context(|| in_file(file))?
        .len();
    ensure!(
        size <= MAX_BYTES,
        "{} has {size} bytes; at most {MAX_BYTES} are read",
        file.display()
    );
    let text = std::fs::read_to_string(file).with_context(|| in_file(file))?;
    if file
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        let value = serde_json::from_str(&text).with_context(|| in_file(file))?;
        return Ok(vec![value]);
    }
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).with_context(|| in_file(file)))
        .filter(|value| !matches!(value, Ok(Value::Null)))
        .collect()
}

fn read_file(file: &Path) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for value in values_in(file)? {
        let Value::Object(object) = value else {
            bail!(
                "{}: a document is a mapping with kind, key and spec",
                file.display()
            );
        };
        if object.contains_key("flags") {
            documents.extend(of_flagd_set(&object).with_context(|| in_file(file))?);
        } else {
            documents.push(of_object(object).with_context(|| in_file(file))?);
        }
    }
    Ok(documents)
}

fn of_object(mut object: Map<String, Value>) -> Result<Document> {
    let mut text = |name: &str| match object.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => bail!("a document needs {name:?} as text"),
    };
    let (kind, key) = (text("kind")?, text("key")?);
    let spec = object
        .remove("spec")
        .with_context(|| format!("{kind} {key} needs a spec"))?;
    if let Some(unknown) = object.keys().next() {
        bail!("{kind} {key} has the unknown field {unknown:?}; a document is kind, key and spec");
    }
    Ok(Document { kind, key, spec })
}

/// The flags of a flagd set. A flag that refers to the set's shared evaluators carries them along,
/// because each flag is stored as an object of its own.
fn of_flagd_set(set: &Map<String, Value>) -> Result<Vec<Document>> {
    let text = Value::Object(set.clone()).to_string();
    let source = tidegate_flags::parse_flag_set(&text, &tidegate_flags::Limits::default())
        .map_err(|violations| anyhow::anyhow!("{}", listed(&violations)))?;
    let mut documents = Vec::new();
    for (key, spec) in source.flags {
        let mut spec =
            spec.map_err(|violations| anyhow::anyhow!("flag {key}: {}", listed(&violations)))?;
        let refers = spec
            .targeting
            .as_ref()
            .is_some_and(|rule| rule.to_string().contains("$ref"));
        if refers && spec.evaluators.is_none() {
            spec.evaluators = Some(source.evaluators.clone());
        }
        documents.push(Document {
            kind: "flag".to_owned(),
            key,
            spec: spec.to_json(),
        });
    }
    Ok(documents)
}

fn listed(violations: &[tidegate_flags::Violation]) -> String {
    let lines: Vec<String> = violations
        .iter()
        .map(|violation| format!("{} {}", violation.pointer, violation.message))
        .collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> Result<Vec<Document>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn documents_come_in_the_order_they_can_be_applied() {
        let text = "kind: rollout\nkey: r\nspec: {flag: f}\n---\nkind: flag\nkey: f\nspec: {}\n---\n\
                    kind: segment\nkey: s\nspec: {}\n";
        let documents = read_text("all.yaml", text).unwrap();
        let kinds: Vec<&str> = documents
            .iter()
            .map(|document| document.kind.as_str())
            .collect();
        assert_eq!(kinds, ["segment", "flag", "rollout"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        for (text, expected) in [
            ("kind: flag\nkey: f\n", "needs a spec"),
            ("kind: flag\nspec: {}\n", "needs \"key\""),
            ("kind: banana\nkey: f\nspec: {}\n", "is not one of"),
            (
                "kind: flag\nkey: f\nspec: {}\ncolour: red\n",
                "unknown field \"colour\"",
            ),
            (
                "kind: flag\nkey: f\nspec: {}\n---\nkind: flag\nkey: f\nspec: {}\n",
                "keep one",
            ),
            ("- a\n", "is a mapping"),
            ("", "holds no document"),
        ] {
            let error = format!("{:#}", read_text("one.yaml", text).unwrap_err());
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("one.yaml"), "{error}");
        }
    }

    #[test]
    fn a_document_reads_back_as_it_was_written() {
        let document = Document {
            kind: "flag".to_owned(),
            key: "a/b".to_owned(),
            spec: json!({"state": "ENABLED", "variants": {"on": 1.0, "off": 0}, "n": null}),
        };
        let text = document.to_yaml().unwrap();
        assert_eq!(read_text("back.yaml", &text).unwrap(), [document]);
    }
}
