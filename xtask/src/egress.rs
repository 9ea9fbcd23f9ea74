//! One way out: no code of the server but `egress` opens a connection, and none but the command
//! hooks starts a program.
//!
//! A second HTTP client would be a second place to forget an address range. The rule reads source
//! text, which is crude and has no exceptions to maintain: whoever needs to send something uses
//! `crates/tidegate-server/src/egress`.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::modules::sources;

/// Where requests may be made.
const WAY_OUT: &str = "crates/tidegate-server/src/egress/";
/// Where programs may be started.
const COMMANDS: &str = "crates/tidegate-server/src/hooks/command.rs";

/// What opens a connection or resolves a name.
const OPENS: [&str; 15] = [
    "ureq",
    "reqwest",
    "TcpStream::connect",
    "UnixStream",
    "TcpSocket",
    "UdpSocket",
    "UnixDatagram",
    "hyper::client",
    "hyper_util::client",
    "transport::Channel",
    "transport::Endpoint",
    "to_socket_addrs",
    "ToSocketAddrs",
    "lookup_host",
    "HttpConnector",
];
/// What starts a program.
const STARTS: [&str; 2] = ["process::Command", "Command::new"];

/// Every line of the server that goes out by another way.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in sources(root)? {
        let shown = path.strip_prefix(root).unwrap_or(&path);
        let shown = shown.display().to_string();
        let serves = ["tidegate-server", "tidegate-store", "tidegate-lake"];
        if serves
            .iter()
            .any(|own| shown.starts_with(&format!("crates/{own}/")))
        {
            problems.extend(check_text(&shown, &fs::read_to_string(&path)?));
        }
    }
    Ok(problems)
}

fn check_text(place: &str, text: &str) -> Vec<String> {
    let code = |line: &&str| !line.trim_start().starts_with("//");
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| code(line)) {
        let has = |words: &'static [&'static str]| {
            words.iter().copied().find(|word| line.contains(*word))
        };
        if let Some(word) = has(&OPENS).filter(|_| !place.starts_with(WAY_OUT)) {
            problems.push(format!(
                "{place}:{}: {word} opens a way out beside {WAY_OUT}",
                number + 1
            ));
        }
        if let Some(word) = has(&STARTS).filter(|_| place != COMMANDS) {
            problems.push(format!(
                "{place}:{}: {word} starts a program outside {COMMANDS}",
                number + 1
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_way_out_is_found_and_the_first_is_not() {
        let text = "//! ureq in words is no code\nlet s = TcpStream::connect(address);\n";
        let elsewhere = check_text("crates/tidegate-server/src/notices/mod.rs", text);
        assert_eq!(elsewhere.len(), 1, "{elsewhere:?}");
        assert!(elsewhere[0].contains("mod.rs:2: TcpStream::connect"));
        assert!(check_text("crates/tidegate-server/src/egress/client.rs", text).is_empty());
    }

    #[test]
    fn programs_are_started_in_one_place() {
        let text = "tokio::process::Command::new(program)";
        assert_eq!(
            check_text("crates/tidegate-store/src/lib.rs", text).len(),
            1
        );
        assert!(check_text(COMMANDS, text).is_empty());
    }
}
