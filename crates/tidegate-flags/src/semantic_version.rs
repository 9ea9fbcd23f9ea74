//! Semantic versions as the `sem_ver` operator reads and compares them.
//!
//! The grammar is SemVer 2.0.0 with two leniences of flagd: one leading `v` or `V`, and a
//! bare `1` or `1.0` padded with zeros. Build metadata never matters. Parsing borrows and
//! allocates nothing; numbers of any length compare by length and then digits.

use std::cmp::Ordering;

/// A parsed version, borrowed from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SemanticVersion<'t> {
    core: [&'t str; 3],
    pre_release: Option<&'t str>,
}

/// The comparison that `sem_ver` was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionTest {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    SameMajor,
    SameMinor,
}

impl VersionTest {
    /// The test spelled `operator`.
    pub(crate) fn from_operator(operator: &str) -> Option<VersionTest> {
        Some(match operator {
            "=" => VersionTest::Equal,
            "!=" => VersionTest::NotEqual,
            "<" => VersionTest::Less,
            "<=" => VersionTest::LessOrEqual,
            ">" => VersionTest::Greater,
            ">=" => VersionTest::GreaterOrEqual,
            "^" => VersionTest::SameMajor,
            "~" => VersionTest::SameMinor,
            _ => return None,
        })
    }

    /// Whether `value` stands in this relation to `target`.
    pub(crate) fn holds(self, value: SemanticVersion<'_>, target: SemanticVersion<'_>) -> bool {
        match self {
            VersionTest::Equal => value.precedence(target).is_eq(),
            VersionTest::NotEqual => value.precedence(target).is_ne(),
            VersionTest::Less => value.precedence(target).is_lt(),
            VersionTest::LessOrEqual => value.precedence(target).is_le(),
            VersionTest::Greater => value.precedence(target).is_gt(),
            VersionTest::GreaterOrEqual => value.precedence(target).is_ge(),
            VersionTest::SameMajor => value.core[0] == target.core[0],
            VersionTest::SameMinor => value.core[..2] == target.core[..2],
        }
    }
}

impl<'t> SemanticVersion<'t> {
    /// Parses `text`; `None` if it is no version.
    pub(crate) fn parse(text: &'t str) -> Option<SemanticVersion<'t>> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (text, build) = split_at_first(text, '+');
        let (core_text, pre_release) = split_at_first(text, '-');
        let mut core = ["0"; 3];
        let mut parts = 0;
        for part in core_text.split('.') {
            *core.get_mut(parts)? = numeric(part)?;
            parts += 1;
        }
        let is_partial = parts < 3;
        if is_partial && (pre_release.is_some() || build.is_some()) {
            return None;
        }
        let well_formed = pre_release.is_none_or(|list| list.split('.').all(is_pre_release))
            && build.is_none_or(|list| list.split('.').all(is_identifier));
        well_formed.then_some(SemanticVersion { core, pre_release })
    }

    /// SemVer 2.0.0, section 11.
    fn precedence(self, other: SemanticVersion<'_>) -> Ordering {
        let core = self
            .core
            .iter()
            .zip(other.core)
            .map(|(mine, theirs)| compare_digits(mine, theirs))
            .find(|ordering| ordering.is_ne());
        core.unwrap_or_else(|| match (self.pre_release, other.pre_release) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(mine), Some(theirs)) => compare_pre_releases(mine, theirs),
        })
    }
}

fn split_at_first(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn numeric(part: &str) -> Option<&str> {
    let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && (part.len() == 1 || !part.starts_with('0'))).then_some(part)
}

fn is_identifier(part: &str) -> bool {
    !part.is_empty()
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_pre_release(part: &str) -> bool {
    let all_digits = part.bytes().all(|byte| byte.is_ascii_digit());
    is_identifier(part) && (!all_digits || numeric(part).is_some())
}

fn compare_digits(mine: &str, theirs: &str) -> Ordering {
    mine.len().cmp(&theirs.len()).then_with(|| mine.cmp(theirs))
}

fn compare_pre_releases(mine: &str, theirs: &str) -> Ordering {
    let (mut mine, mut theirs) = (mine.split('.'), theirs.split('.'));
    loop {
        let ordering = match (mine.next(), theirs.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (numeric(a), numeric(b)) {
                (Some(a), Some(b)) => compare_digits(a, b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => a.cmp(b),
            },
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(value: &str, operator: &str, target: &str) -> Option<bool> {
        let test = VersionTest::from_operator(operator)?;
        Some(test.holds(
            SemanticVersion::parse(value)?,
            SemanticVersion::parse(target)?,
        ))
    }

    #[test]
    fn versions_sort_as_the_specification_lists_them() {
        let ascending = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2.0",
            "1.10.0",
            "2.0.0",
            "2.0.100000000000000000000000000",
        ];
        for (i, low) in ascending.iter().enumerate() {
            assert_eq!(test(low, "=", low), Some(true));
            for high in &ascending[i + 1..] {
                assert_eq!(test(low, "<", high), Some(true), "{low} < {high}");
                assert_eq!(test(high, ">=", low), Some(true), "{high} >= {low}");
                assert_eq!(test(low, "!=", high), Some(true), "{low} != {high}");
            }
        }
    }

    #[test]
    fn leniences_and_ranges() {
        for (value, operator, target) in [
            ("v1.0.0", "=", "V1"),
            ("1.0", "=", "1.0.0"),
            ("1.0.0+a", "=", "1.0.0+b"),
            ("3.1.0-beta", "^", "3.0.0"),
            ("3.0.9", "~", "3.0.1-rc.1"),
            ("2.0.0-alpha", "<", "2"),
        ] {
            assert_eq!(
                test(value, operator, target),
                Some(true),
                "{value} {operator} {target}"
            );
        }
        assert_eq!(test("3.1.0", "~", "3.0.0"), Some(false));
    }

    #[test]
    fn what_is_no_version_gives_no_answer() {
        for text in [
            "",
            "v",
            "vv1.0.0",
            "1.0.0.0",
            "01.0.0",
            "1.2-a",
            "1.2+b",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0+",
            "1.0.0-a..b",
            " 1.2.0",
            "1.2.0 ",
            "a",
            "1.x",
            "-1.0.0",
            "1.0.0-é",
        ] {
            assert_eq!(SemanticVersion::parse(text), None, "{text:?}");
        }
        assert_eq!(test("1.0.0", "==", "1.0.0"), None);
    }
}
