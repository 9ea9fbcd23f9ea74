//! An example at the end of every command's help, where the command brings none of its own.
//!
//! One table, so that it can be read as a tour; a test takes every example that any help shows and
//! has the command line itself parse it.

use clap::Command;

/// A command and the line that shows it at work.
const TABLE: &[(&str, &str)] = &[
    ("demo", "tidegate demo"),
    ("flag list", "tidegate flag list"),
    ("flag get", "tidegate flag get new-checkout"),
    ("flag history", "tidegate flag history new-checkout"),
    ("flag create", "tidegate flag create new-checkout"),
    (
        "flag update",
        "tidegate flag update new-checkout -f new-checkout.yaml --reason 'open to the team'",
    ),
    (
        "flag revive",
        "tidegate flag revive new-checkout --reason 'the payment provider is back'",
    ),
    (
        "flag delete",
        "tidegate flag delete new-checkout --reason 'the change is everywhere'",
    ),
    (
        "flag explain",
        "tidegate flag explain new-checkout --context '{\"targetingKey\":\"user-17\"}'",
    ),
    ("metric list", "tidegate metric list"),
    ("metric get", "tidegate metric get revenue"),
    ("journey list", "tidegate journey list"),
    ("journey get", "tidegate journey get checkout"),
    ("rollout list", "tidegate rollout list"),
    ("rollout get", "tidegate rollout get new-checkout"),
    ("rollout explain", "tidegate rollout explain new-checkout"),
    ("rollout plan", "tidegate rollout plan new-checkout"),
    (
        "rollout undo",
        "tidegate rollout undo new-checkout --reason 'support is flooded'",
    ),
    ("rollout start", "tidegate rollout start new-checkout"),
    ("rollout watch", "tidegate rollout watch new-checkout"),
    (
        "rollout pause",
        "tidegate rollout pause new-checkout --reason 'a release of the app is out'",
    ),
    (
        "rollout resume",
        "tidegate rollout resume new-checkout --reason 'the release is fine'",
    ),
    (
        "rollout abort",
        "tidegate rollout abort new-checkout --reason 'support is flooded'",
    ),
    (
        "rollout retry",
        "tidegate rollout retry new-checkout --reason 'the bug is mended'",
    ),
    (
        "rollout advance",
        "tidegate rollout advance new-checkout --stage 2 --reason 'the week looks good'",
    ),
    (
        "rollout simulate",
        "tidegate rollout simulate -f rollout.yaml --traffic 50 --error-rate 0.005",
    ),
    ("rollout replay", "tidegate rollout replay new-checkout"),
    (
        "token create",
        "tidegate token create 'shop back end' --kind server --expires-in-days 365",
    ),
    ("token list", "tidegate token list"),
    ("token disable", "tidegate token disable 0a1b2c3d4e5f6071"),
    ("audit list", "tidegate audit list --limit 20"),
    (
        "delivery import-csv",
        "tidegate delivery import-csv --file deploys.csv --kind deployments",
    ),
    (
        "delivery import-git",
        "tidegate delivery import-git ./shop --service shop",
    ),
    (
        "delivery metrics",
        "tidegate delivery metrics --from 2026-07-01 --to 2026-10-01 --service shop",
    ),
    (
        "delivery pipeline",
        "tidegate delivery pipeline --from 2026-07-01 --to 2026-10-01",
    ),
    (
        "delivery flow",
        "tidegate delivery flow --from 2026-07-01 --to 2026-10-01 --wip-limit 5",
    ),
    (
        "delivery forecast",
        "tidegate delivery forecast --from 2026-07-01 --to 2026-10-01 --items 12",
    ),
    (
        "delivery summary",
        "tidegate delivery summary --from 2026-07-01 --to 2026-10-01",
    ),
    (
        "delivery targets",
        "tidegate delivery targets --from 2026-07-01 --to 2026-10-01",
    ),
    ("delivery postmortem", "tidegate delivery postmortem INC-7"),
    (
        "delivery deploy",
        "tidegate delivery deploy --service shop --version 1.4.0",
    ),
    (
        "delivery incident",
        "tidegate delivery incident --id INC-7 --service shop",
    ),
    (
        "delivery set-targets",
        "tidegate delivery set-targets '{\"services\":{\"shop\":{\"wip_limit\":5}}}'",
    ),
    ("delivery alerts", "tidegate delivery alerts --days 14"),
    (
        "delivery incidents",
        "tidegate delivery incidents --service shop --search payments",
    ),
    (
        "delivery secret create",
        "tidegate delivery secret create --source github",
    ),
    ("delivery secret list", "tidegate delivery secret list"),
    (
        "delivery secret revoke",
        "tidegate delivery secret revoke 0a1b2c3d4e5f6071",
    ),
    ("delivery received", "tidegate delivery received"),
    (
        "delivery correct",
        "tidegate delivery correct --deployment shop@1.4.0 --ruling rollback --reason 'went back'",
    ),
    (
        "healthcheck",
        "tidegate healthcheck --server http://127.0.0.1:8800",
    ),
];

/// The command line with an example for every command of the table.
pub(crate) fn added_to(command: Command) -> Command {
    TABLE.iter().fold(command, |command, (path, example)| {
        let words: Vec<&str> = path.split(' ').collect();
        add(command, &words, example)
    })
}

fn add(command: Command, path: &[&str], example: &str) -> Command {
    let Some((first, rest)) = path.split_first() else {
        let own = command.get_after_help().map(ToString::to_string);
        let text = match own {
            Some(own) if own.contains("Example") => own,
            Some(own) => format!("{own}\n\nExample:\n  {example}"),
            None => format!("Example:\n  {example}"),
        };
        return command.after_help(text);
    };
    // A command that is not there is left out; a test notices.
    if command.find_subcommand(first).is_none() {
        return command;
    }
    command.mut_subcommand(first, |inner| add(inner, rest, example))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn program() -> Command {
        added_to(crate::Arguments::command())
    }

    /// Every command that does something, with its path.
    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        let mut is_leaf = true;
        for inner in command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
        {
            is_leaf = false;
            leaves(inner, &format!("{path} {}", inner.get_name()), found);
        }
        if is_leaf {
            found.push((path.trim().to_owned(), command.clone()));
        }
    }

    fn all() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        leaves(&program(), "", &mut found);
        found
    }

    /// What stands below the options, as it is before it is wrapped.
    fn after(command: &Command) -> String {
        let texts = [command.get_after_help(), command.get_after_long_help()];
        texts
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn every_command_shows_an_example_of_itself() {
        for (path, command) in all() {
            let help = after(&command);
            let shown = help.contains(&format!("tidegate {path}"));
            let cure = "add an example to the table of examples.rs";
            assert!(help.contains("Example") && shown, "{path}: {cure}\n{help}");
        }
        let known = all();
        for (path, _) in TABLE {
            assert!(
                known.iter().any(|(other, _)| other == path),
                "there is no {path}"
            );
        }
    }

    /// The words of a line as a shell splits them, where it does nothing else with them.
    fn words(line: &str) -> Option<Vec<String>> {
        let mut words = vec![String::new()];
        let mut quote = None;
        for c in line.chars() {
            match (quote, c) {
                (None, '\'' | '"') => quote = Some(c),
                (Some(open), c) if c == open => quote = None,
                (None, ' ') => words.push(String::new()),
                (None, '|' | '<' | '>' | '$' | '&' | '\\' | '#') => return None,
                (_, c) => words.last_mut()?.push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        Some(words)
    }

    #[test]
    fn every_example_is_one_that_the_command_line_takes() {
        let mut tried = 0;
        for (path, command) in all() {
            let help = after(&command);
            let lines = help
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with("tidegate "));
            for words in lines.filter_map(words) {
                let parsed = program().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{path}: {words:?}: {}", parsed.unwrap_err());
                tried += 1;
            }
        }
        assert!(tried > 50, "{tried}");
    }
}
