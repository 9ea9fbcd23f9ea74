//! Documents name only what exists.
//!
//! Checked in every Markdown file that git tracks: relative links, back-ticked paths that start in
//! a folder of ours, and `make` targets. `ARCHITECTURE.md` names every crate.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::dependencies::Metadata;

/// A back-ticked text that starts with one of these is a path and must exist.
const FOLDERS: [&str; 9] = [
    "crates/", "docs/", "spec/", "xtask/", "scripts/", "bench/", "tests/", "fuzz/", ".ci/",
];

/// Every place in a document that names something that is not there.
pub(crate) fn check(root: &Path, metadata: &Metadata) -> Result<Vec<String>> {
    let makefile = fs::read_to_string(root.join("Makefile"))?;
    let targets: Vec<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty() && !name.contains([' ', '\t', '=', '.', '#']))
        .collect();
    let mut problems = Vec::new();
    for document in tracked(root, "*.md")? {
        let text = fs::read_to_string(root.join(&document))?;
        let here = root.join(&document);
        let folder = here.parent().unwrap_or(root);
        for (number, line) in text.lines().enumerate() {
            for missing in missing_in(line, root, folder, &targets) {
                problems.push(format!("{document}:{}: {missing}", number + 1));
            }
        }
    }
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    for name in metadata
        .own
        .iter()
        .filter(|name| !architecture.contains(name.as_str()))
    {
        problems.push(format!("ARCHITECTURE.md does not name the crate {name}"));
    }
    Ok(problems)
}

fn missing_in(line: &str, root: &Path, folder: &Path, targets: &[&str]) -> Vec<String> {
    let mut missing = Vec::new();
    for quoted in line.split('`').skip(1).step_by(2) {
        let is_path = FOLDERS.iter().any(|folder| quoted.starts_with(folder));
        let is_plain = !quoted.contains(['*', '<', '{', ' ', '$']);
        if is_path && is_plain && !root.join(quoted.trim_end_matches('/')).exists() {
            missing.push(format!("the path {quoted} does not exist"));
        }
        let target = quoted
            .strip_prefix("make ")
            .and_then(|rest| rest.split(' ').next());
        if let Some(target) = target
            && !target.contains(['<', '=', '-'])
            && !targets.contains(&target)
        {
            missing.push(format!("the Makefile has no target {target}"));
        }
    }
    for link in links(line) {
        let is_local =
            !link.contains("://") && !link.starts_with('#') && !link.starts_with("mailto:");
        let path = link.split('#').next().unwrap_or_default();
        if is_local && !path.is_empty() && !folder.join(path).exists() {
            missing.push(format!("the link {link} leads nowhere"));
        }
    }
    missing
}

/// The targets of `[text](target)` in a line.
fn links(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect()
}

fn tracked(root: &Path, pattern: &str) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            pattern,
        ])
        .current_dir(root)
        .output()
        .context("cannot ask git for the tracked documents")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_names_what_is_not_there_is_found_and_a_true_one_is_not() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let find = |line| missing_in(line, root, root, &["demo"]);
        assert!(find("see `xtask/src/documents.rs`, `make demo` and [us](Cargo.toml)").is_empty());
        assert!(find("`crates/*/src`, `crates/<name>/`, [web](https://example.org)").is_empty());
        assert_eq!(find("see `docs/no-such-page.md`").len(), 1);
        assert_eq!(find("run `make nothing`").len(), 1);
        assert_eq!(find("[gone](docs/no-such-page.md#part)").len(), 1);
    }
}
