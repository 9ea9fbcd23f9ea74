//! Which crate may know which, and under which licences the rest comes.
//!
//! Pure crates decide; they reach no runtime, web, SQL or HTTP crate, however indirectly. Store and
//! lake touch the world and never meet each other. Only the binary knows everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What each crate of ours may depend on, among ours.
const MAY_KNOW: [(&str, &[&str]); 9] = [
    ("tidegate-flags", &[]),
    ("tidegate-stats", &[]),
    ("tidegate-metrics", &["tidegate-stats"]),
    ("tidegate-rollout", &["tidegate-stats"]),
    ("tidegate-delivery", &["tidegate-stats"]),
    ("tidegate-store", &[]),
    ("tidegate-lake", &["tidegate-metrics", "tidegate-stats"]),
    (
        "tidegate-server",
        &[
            "tidegate-flags",
            "tidegate-stats",
            "tidegate-metrics",
            "tidegate-rollout",
            "tidegate-delivery",
            "tidegate-store",
            "tidegate-lake",
        ],
    ),
    ("xtask", &[]),
];

/// The crates that decide.
const PURE: [&str; 5] = [
    "tidegate-flags",
    "tidegate-stats",
    "tidegate-metrics",
    "tidegate-rollout",
    "tidegate-delivery",
];

/// What a pure crate must not reach: runtimes, the network, SQL, the operating system's clock
/// and randomness behind a friendly face.
const NOT_PURE: [&str; 12] = [
    "tokio",
    "mio",
    "async-std",
    "axum",
    "hyper",
    "tonic",
    "reqwest",
    "ureq",
    "sqlx",
    "rusqlite",
    "chrono",
    "getrandom",
];

/// Licences that agree with Apache-2.0 distribution.
const LICENCES: [&str; 14] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "MIT-0",
    "Unicode-3.0",
    "CC0-1.0",
    "Unlicense",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "Apache-2.0 WITH LLVM-exception",
];

/// What `cargo metadata` says, reduced to what is asked here.
pub(crate) struct Metadata {
    /// Names of our crates.
    pub(crate) own: BTreeSet<String>,
    licences: BTreeMap<String, String>,
    sources: BTreeMap<String, String>,
    /// Normal dependencies by package id: two versions of one name are two packages.
    normal: BTreeMap<String, BTreeSet<String>>,
    names: BTreeMap<String, String>,
}

impl Metadata {
    /// Asks cargo about the workspace at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let cargo = std::env::args_os()
            .next()
            .map_or_else(|| "cargo".into(), |_| cargo_path());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(root)
            .output()
            .context("cannot run cargo metadata")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let document: Value = serde_json::from_slice(&output.stdout)?;
        Ok(Self::from_json(&document))
    }

    fn from_json(document: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut names = BTreeMap::new();
        let mut licences = BTreeMap::new();
        let mut sources = BTreeMap::new();
        for package in array(&document["packages"]) {
            let name = text(&package["name"]);
            let full = format!("{name} {}", text(&package["version"]));
            licences.insert(full.clone(), text(&package["license"]));
            sources.insert(full, text(&package["source"]));
            names.insert(text(&package["id"]), name);
        }
        let own = array(&document["workspace_members"])
            .iter()
            .filter_map(|id| names.get(id.as_str()?).cloned())
            .collect();
        let mut normal: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in array(&document["resolve"]["nodes"]) {
            let Some(name) = names.get(&text(&node["id"])) else {
                continue;
            };
            let found = normal.entry(name.clone()).or_default();
            for dependency in array(&node["deps"]) {
                let is_normal = array(&dependency["dep_kinds"])
                    .iter()
                    .any(|kind| kind["kind"].is_null());
                if is_normal {
                    found.insert(text(&dependency["pkg"]));
                }
            }
        }
        Self {
            own,
            licences,
            sources,
            normal,
            names,
        }
    }

    /// The package id of one of our crates.
    fn id_of(&self, own: &str) -> Option<&String> {
        self.names
            .iter()
            .find_map(|(id, name)| (name == own).then_some(id))
    }

    /// Names of what a crate of ours depends on directly.
    fn knows(&self, own: &str) -> BTreeSet<&str> {
        let direct = self.id_of(own).and_then(|id| self.normal.get(id));
        direct
            .into_iter()
            .flatten()
            .filter_map(|id| self.names.get(id))
            .map(String::as_str)
            .collect()
    }

    /// Names of everything a crate of ours depends on, however indirectly.
    fn reaches(&self, own: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = self.id_of(own).into_iter().collect();
        while let Some(id) = open.pop() {
            for next in self.normal.get(id).into_iter().flatten() {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
            .into_iter()
            .filter_map(|id| self.names.get(id))
            .map(String::as_str)
            .collect()
    }
}

fn cargo_path() -> std::ffi::OsString {
    option_env!("CARGO").unwrap_or("cargo").into()
}

/// Everything that is not as the plan says.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, allowed) in MAY_KNOW {
        for found in metadata.knows(name) {
            if metadata.own.contains(found) && !allowed.contains(&found) {
                problems.push(format!("{name} depends on {found}, which it must not know"));
            }
        }
    }
    for name in PURE {
        let reached = metadata.reaches(name);
        for banned in NOT_PURE.iter().filter(|banned| reached.contains(**banned)) {
            problems.push(format!("{name} is pure and reaches {banned}"));
        }
    }
    problems.extend(foreign(metadata));
    problems
}

fn foreign(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    for (package, licence) in &metadata.licences {
        if !licence_agrees(licence) {
            problems.push(format!(
                "{package} has licence {licence:?}, which is not on the list"
            ));
        }
    }
    for (package, source) in &metadata.sources {
        if !source.is_empty() && !source.starts_with("registry+") {
            problems.push(format!(
                "{package} comes from {source}, not from the registry"
            ));
        }
    }
    problems
}

/// Whether one of the alternatives agrees in full. `/` is the old spelling of `OR`.
fn licence_agrees(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    plain.split(" OR ").any(|alternative| {
        alternative
            .split(" AND ")
            .all(|licence| LICENCES.contains(&licence.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, licence: &str) -> Value {
        json!({"id": name, "name": name, "version": "1.0.0", "license": licence, "source": null})
    }

    fn depends(from: &str, to: &[&str]) -> Value {
        let deps: Vec<Value> = to
            .iter()
            .map(|name| json!({"pkg": name, "dep_kinds": [{"kind": null}]}))
            .collect();
        json!({"id": from, "deps": deps})
    }

    #[test]
    fn a_pure_crate_that_reaches_a_runtime_is_found_through_any_number_of_steps() {
        let document = json!({
            "packages": [package("tidegate-stats", "Apache-2.0"), package("innocent", "MIT"), package("tokio", "MIT")],
            "workspace_members": ["tidegate-stats"],
            "resolve": {"nodes": [depends("tidegate-stats", &["innocent"]), depends("innocent", &["tokio"])]},
        });
        let problems = check(&Metadata::from_json(&document));
        assert_eq!(problems, ["tidegate-stats is pure and reaches tokio"]);
    }

    #[test]
    fn an_edge_against_the_direction_and_a_strange_licence_are_found() {
        let document = json!({
            "packages": [package("tidegate-store", "Apache-2.0"), package("tidegate-lake", "GPL-3.0-only")],
            "workspace_members": ["tidegate-store", "tidegate-lake"],
            "resolve": {"nodes": [depends("tidegate-store", &["tidegate-lake"])]},
        });
        let problems = check(&Metadata::from_json(&document));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("must not know") && problems[1].contains("GPL-3.0-only"));
    }

    #[test]
    fn licence_expressions_are_read_as_alternatives() {
        for (expression, agrees) in [
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("(MIT OR GPL-2.0) AND Unicode-3.0", true),
            ("GPL-3.0 OR AGPL-3.0", false),
            ("MIT AND GPL-2.0", false),
            ("", false),
        ] {
            assert_eq!(licence_agrees(expression), agrees, "{expression}");
        }
    }
}
