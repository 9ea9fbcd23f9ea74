//! What a commit message says about its change: pull request, reverts, copies, flags.
//!
//! Read are the forms that git and the forges write themselves, and one trailer of ours:
//! * `Merge pull request #7 from ...`, a squash's `... (#7)`, GitLab's `See merge request group/project!7`;
//! * `This reverts commit <id>`, `(cherry picked from commit <id>)`;
//! * `Tidegate-Flag: key`, one per line or several with commas.
//!
//! Must not know: repositories. A message that lies is believed; the graph, not the message, decides attribution.

use crate::commit_graph::CommitId;
use crate::event::MAX_LIST_ITEMS;

const MERGE_SUBJECT: &str = "Merge pull request #";
const REVERTS: &str = "This reverts commit ";
const PICKED: &str = "(cherry picked from commit ";
const MERGE_REQUEST: &str = "See merge request ";
const FLAG_TRAILER: &str = "Tidegate-Flag:";

/// What one message says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFacts {
    /// Pull or merge request.
    pub pull_request: Option<u32>,
    /// Commits reverted.
    pub reverts: Vec<CommitId>,
    /// Commit it was picked from; the last line counts, as git appends.
    pub picked_from: Option<CommitId>,
    /// Flags the change is dark behind.
    pub flags: Vec<String>,
}

/// Reads a whole message, subject first. `is_merge` tells a merge's forms from a squash's.
#[must_use]
pub fn read_message(message: &str, is_merge: bool) -> MessageFacts {
    let mut lines = message.lines();
    let subject = lines.next().unwrap_or("");
    let mut facts = MessageFacts {
        pull_request: if is_merge {
            merged_number(subject)
        } else {
            squashed_number(subject)
        },
        ..MessageFacts::default()
    };
    for line in lines.map(str::trim) {
        if let Some(rest) = line.strip_prefix(REVERTS) {
            if facts.reverts.len() < MAX_LIST_ITEMS {
                facts.reverts.extend(leading_commit(rest));
            }
        } else if let Some(rest) = line.strip_prefix(PICKED) {
            facts.picked_from = leading_commit(rest).or(facts.picked_from);
        } else if let Some(rest) = line.strip_prefix(MERGE_REQUEST) {
            let number = rest
                .rsplit('!')
                .next()
                .and_then(|number| number.parse().ok());
            facts.pull_request = facts.pull_request.or(number);
        } else if let Some(rest) = line.strip_prefix(FLAG_TRAILER) {
            let keys = rest.split(',').map(str::trim).filter(|key| !key.is_empty());
            facts.flags.extend(keys.map(str::to_owned));
            facts.flags.truncate(MAX_LIST_ITEMS);
        }
    }
    facts
}

fn merged_number(subject: &str) -> Option<u32> {
    let rest = subject.strip_prefix(MERGE_SUBJECT)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

fn squashed_number(subject: &str) -> Option<u32> {
    let (_, rest) = subject.trim_end().strip_suffix(')')?.rsplit_once("(#")?;
    rest.parse().ok()
}

fn leading_commit(text: &str) -> Option<CommitId> {
    CommitId::parse(text.get(..40)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "06ae02d80606711000e54c7e8d54356fcc650106";

    #[test]
    fn forms_written_by_git_and_forges() {
        let id = CommitId::parse(ID);
        let cases = [
            (
                "Merge pull request #9071 from alphagov/fix\n\nFix",
                true,
                Some(9071),
                None,
                None,
            ),
            (
                "Merge pull request #9071 from alphagov/fix",
                false,
                None,
                None,
                None,
            ),
            ("Fix the form (#12)", false, Some(12), None, None),
            ("Fix the form (#12) again", false, None, None, None),
            (
                "Merge branch 'x' into 'main'\n\nFix\n\nSee merge request gov/whitehall!31",
                true,
                Some(31),
                None,
                None,
            ),
            (
                &format!("Revert \"Fix\"\n\nThis reverts commit {ID}."),
                false,
                None,
                id,
                None,
            ),
            (
                &format!("Fix\n\n(cherry picked from commit {ID})"),
                false,
                None,
                None,
                id,
            ),
            (
                "Revert\n\nThis reverts commit 06ae.",
                false,
                None,
                None,
                None,
            ),
            ("", false, None, None, None),
        ];
        for (message, is_merge, pull_request, reverts, picked) in cases {
            let facts = read_message(message, is_merge);
            assert_eq!(facts.pull_request, pull_request, "{message}");
            assert_eq!(facts.reverts.first().copied(), reverts, "{message}");
            assert_eq!(facts.picked_from, picked, "{message}");
        }
    }

    #[test]
    fn flags_come_from_trailers() {
        let facts = read_message(
            "Add\n\nTidegate-Flag: new-checkout, fast-search\nTidegate-Flag: dark",
            false,
        );
        assert_eq!(facts.flags, ["new-checkout", "fast-search", "dark"]);
    }

    #[test]
    fn any_text_is_read_without_panic() {
        bolero::check!()
            .with_type::<(String, bool)>()
            .for_each(|(message, is_merge)| {
                let facts = read_message(message, *is_merge);
                assert!(
                    facts.reverts.len() <= MAX_LIST_ITEMS && facts.flags.len() <= MAX_LIST_ITEMS
                );
            });
    }
}
