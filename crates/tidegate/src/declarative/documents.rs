//! Declarative files, read: which documents are in them, and where one is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

/// The kinds files may hold, with the collection each lives in. Dependencies come first, so that
/// applying in this order never names what is not there yet.
pub(crate) const COLLECTIONS: [(&str, &str); 6] = [
    ("set", "sets"),
    ("segment", "segments"),
    ("flag", "flags"),
    ("metric", "metrics"),
    ("journey", "journeys"),
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
    pub(crate) fn to_yaml(&self) -> String {
        let document = json!({ "kind": self.kind, "key": self.key, "spec": self.spec });
        super::yaml::to_yaml(&document)
    }
}

/// What a project's flags have in common, as a document.
pub(super) fn set_of(metadata: Map<String, Value>) -> Document {
    Document {
        kind: "set".to_owned(),
        key: "main".to_owned(),
        spec: json!({ "metadata": metadata }),
    }
}

/// A document and where it is stated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stated {
    /// What is stated.
    pub(crate) document: Document,
    file: PathBuf,
    /// Where its definition is in its file, as a JSON pointer.
    base: String,
}

impl Stated {
    /// A place in the definition, for people.
    pub(crate) fn place(&self, pointer: &str) -> String {
        let Document { kind, key, .. } = &self.document;
        let file = self.file.display();
        format!("{file}: {kind} {key} at {}{pointer}", self.base)
    }
}

/// Every document in a file, or in the files of a folder, in the order they are to be applied.
///
/// # Errors
/// Everything that is wrong with any of the files, each on a line of its own.
pub(crate) fn read(path: &Path) -> Result<Vec<Stated>> {
    let mut found: BTreeMap<(usize, String), Stated> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for file in files(path)? {
        let (documents, wrong) = read_file(&file);
        mistakes.extend(wrong);
        for stated in documents {
            let Document { kind, key, .. } = &stated.document;
            let rank = match rank(kind) {
                Ok(rank) => rank,
                Err(error) => {
                    mistakes.push(format!("{}: {error:#}", file.display()));
                    continue;
                }
            };
            let place = (rank, key.clone());
            match found.get(&place) {
                Some(other) => mistakes.push(format!(
                    "{kind} {key} is in {} and in {}; keep one",
                    other.file.display(),
                    file.display()
                )),
                None => {
                    found.insert(place, stated);
                }
            }
        }
    }
    ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    ensure!(!found.is_empty(), "{} holds no document", path.display());
    Ok(found.into_values().collect())
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
        let value = serde_json::from_str(&text)
            .with_context(|| format!("{} is not JSON", file.display()))?;
        return Ok(vec![value]);
    }
    serde_norway::Deserializer::from_str(&text)
        .map(|document| {
            Value::deserialize(document).with_context(|| format!("{} is not YAML", file.display()))
        })
        .filter(|value| !matches!(value, Ok(Value::Null)))
        .collect()
}

/// The documents of a file, and a line for each that is none.
fn read_file(file: &Path) -> (Vec<Stated>, Vec<String>) {
    let mut documents = Vec::new();
    let mut mistakes = Vec::new();
    let values = match values_in(file) {
        Ok(values) => values,
        Err(error) => return (documents, vec![format!("{error:#}")]),
    };
    for value in values {
        let found = match value {
            Value::Object(object) if object.contains_key("flags") => of_flagd_set(&object),
            Value::Object(object) => {
                of_object(object).map(|document| vec![(document, "/spec".to_owned())])
            }
            _ => Err(anyhow::anyhow!(
                "a document is a mapping with kind, key and spec"
            )),
        };
        match found {
            Ok(found) => documents.extend(found.into_iter().map(|(document, base)| Stated {
                document,
                file: file.to_owned(),
                base,
            })),
            Err(error) => mistakes.push(format!("{}: {error:#}", file.display())),
        }
    }
    (documents, mistakes)
}

fn of_object(mut object: Map<String, Value>) -> Result<Document> {
    let mut text = |name: &str| match object.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => bail!(
            "a document needs {name:?} as text; it is {{kind, key, spec}}, or a flagd set with a \
             top-level \"flags\""
        ),
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

/// The flags of a flagd set with their places, and what it says of itself. A flag that refers to
/// the set's shared evaluators carries them along, because each flag is stored as an object of its
/// own; the set's metadata is an object beside them.
fn of_flagd_set(set: &Map<String, Value>) -> Result<Vec<(Document, String)>> {
    let text = Value::Object(set.clone()).to_string();
    let source = tidegate_flags::parse_flag_set(&text, &tidegate_flags::Limits::default())
        .map_err(|violations| anyhow::anyhow!("{}", listed("", &violations)))?;
    let mut documents = Vec::new();
    let mut mistakes = Vec::new();
    if !source.metadata.is_empty() {
        documents.push((set_of(source.metadata.clone()), String::new()));
    }
    for (key, spec) in source.flags {
        let place = format!("/flags/{}", key.replace('~', "~0").replace('/', "~1"));
        let mut spec = match spec {
            Ok(spec) => spec,
            Err(violations) => {
                mistakes.push(listed(&place, &violations));
                continue;
            }
        };
        let refers = spec
            .targeting
            .as_ref()
            .is_some_and(|rule| rule.to_string().contains("$ref"));
        if refers && spec.evaluators.is_none() {
            spec.evaluators = Some(source.evaluators.clone());
        }
        let document = Document {
            kind: "flag".to_owned(),
            key,
            spec: spec.to_json(),
        };
        documents.push((document, place));
    }
    ensure!(mistakes.is_empty(), "{}", mistakes.join("; "));
    Ok(documents)
}

/// Violations in one line, each with its place below `base`.
fn listed(base: &str, violations: &[tidegate_flags::Violation]) -> String {
    let lines: Vec<String> = violations
        .iter()
        .map(|violation| format!("{base}{} {}", violation.pointer, violation.message))
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
        let stated = read(&file)?;
        Ok(stated.into_iter().map(|stated| stated.document).collect())
    }

    #[test]
    fn every_mistake_in_every_file_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write(
            "a.yaml",
            "kind: flag\nkey: f\n---\nkind: banana\nkey: g\nspec: {}\n",
        );
        write("b.json", "{\"kind\": ");
        write(
            "c.json",
            r#"{"flags": {"x": {"state": "ON"}, "y": {"variants": {}}}}"#,
        );
        let told = format!("{:#}", read(folder.path()).unwrap_err());
        for expected in [
            "a.yaml: flag f needs a spec",
            "\"banana\"",
            "b.json",
            "/flags/x",
            "/flags/y",
        ] {
            assert!(told.contains(expected), "{expected} in {told}");
        }
    }

    #[test]
    fn a_flagd_set_keeps_its_own_metadata_and_its_evaluators() {
        let text = r#"{"$evaluators": {"staff": {"==": [1, 1]}}, "metadata": {"team": "shop"},
            "flags": {"f": {"state": "ENABLED", "variants": {"on": true, "off": false},
                "defaultVariant": "off", "targeting": {"if": [{"$ref": "staff"}, "on"]}}}}"#;
        let documents = read_text("set.json", text).unwrap();
        assert_eq!(documents[0].spec, json!({"metadata": {"team": "shop"}}));
        assert!(
            documents[1].spec["evaluators"]["staff"].is_object(),
            "{documents:?}"
        );
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
        let text = document.to_yaml();
        assert_eq!(read_text("back.yaml", &text).unwrap(), [document]);
    }
}
