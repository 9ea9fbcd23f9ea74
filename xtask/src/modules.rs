//! Modules introduce themselves, and the longest of them are named.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// From here on a file needs a reason in its module doc, or a split.
const LONG: usize = 600;

/// Every source file under `crates/*/src` and `xtask/src` that does not open with `//!`.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in sources(root)? {
        if !fs::read_to_string(&path)?.trim_start().starts_with("//!") {
            problems.push(format!(
                "{} does not introduce itself with //!",
                path.display()
            ));
        }
    }
    Ok(problems)
}

/// A line for each file over the length that makes one think.
pub(crate) fn longest(root: &Path) -> Result<Vec<String>> {
    let mut lengths = Vec::new();
    for path in sources(root)? {
        let lines = fs::read_to_string(&path)?.lines().count();
        if lines > LONG {
            let shown = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .display()
                .to_string();
            lengths.push((lines, shown));
        }
    }
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    Ok(lengths
        .into_iter()
        .map(|(lines, path)| format!("tidy: {lines} lines: {path}"))
        .collect())
}

pub(crate) fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.join("xtask/src")];
    for entry in fs::read_dir(root.join("crates"))? {
        open.push(entry?.path().join("src"));
    }
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
