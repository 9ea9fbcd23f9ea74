//! The front door of the repository: what a newcomer finds, and what is said where something is
//! missing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_first_screen_of_the_readme_is_the_two_commands_and_a_picture() {
    let readme = read("README.md");
    let screen: Vec<&str> = readme.lines().take(30).collect();
    let screen = screen.join("\n");
    for expected in ["make demo", "make test", "──►"] {
        assert!(screen.contains(expected), "{expected} in\n{screen}");
    }
}

#[test]
fn what_the_house_promises_to_have_is_there() {
    for name in [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/glossary.md",
        "docs/benchmarks.md",
        "clippy.toml",
        "deny.toml",
    ] {
        assert!(read(name).lines().count() > 5, "{name}");
    }
    assert!(read("LICENSE").contains("Apache License"));
    assert!(fs::read_dir(repository().join("docs/adr")).unwrap().count() > 10);
    let makefile = read("Makefile");
    for target in ["help", "demo", "test", "check", "bench", "fmt"] {
        assert!(makefile.contains(&format!("\n{target}: ##")), "{target}");
    }
    let run = read(".ci/run");
    assert!(
        run.contains("make check") && run.contains("make test"),
        "{run}"
    );
}

#[test]
fn what_is_missing_is_said_in_one_line_with_the_way_to_get_it() {
    let require = |arguments: &[&str]| {
        let script = repository().join("scripts/require");
        Command::new(script).args(arguments).output().unwrap()
    };
    assert!(require(&["sh", "cargo"]).status.success());
    let missing = require(&["sh", "no-such-tool", "nor-this"]);
    assert_eq!(missing.status.code(), Some(1));
    let said = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("no-such-tool nor-this") && said.contains("apt-get"),
        "{said}"
    );
}
