//! Names under which things are stored: projects and objects.
//!
//! A project key, and the key of everything but a flag, is ASCII: a lower-case letter or digit,
//! then lower-case letters, digits, `.`, `_` and `-`, at most [`PROJECT_KEY_MAX`] or
//! [`OBJECT_KEY_MAX`] bytes.
//!
//! A flag's key is chosen by code that already exists: flagd allows any text, so any text of
//! 1 to [`OBJECT_KEY_MAX`] bytes is allowed here, compared byte for byte without
//! normalisation.
//! Refused are control characters, line and paragraph separators and the characters that
//! reorder text (a key must read in an audit log as it is), a space at either end, and the
//! path segments `.` and `..`, which a URL cannot carry.

use std::fmt;

use crate::object::ObjectKind;

/// Longest project key, in bytes.
pub const PROJECT_KEY_MAX: usize = 64;
/// Longest object key, in bytes.
pub const OBJECT_KEY_MAX: usize = 200;

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or only a path segment.
    #[error("a key has at least one character and is neither \".\" nor \"..\"")]
    Empty,
    /// Longer than allowed.
    #[error("a key has at most {max} bytes; this one has {len}")]
    TooLong {
        /// Length found, in bytes.
        len: usize,
        /// Length allowed, in bytes.
        max: usize,
    },
    /// A character that this kind of key may not have.
    #[error("character {character:?} at byte {at} is not allowed in this key")]
    Character {
        /// The character.
        character: char,
        /// Its byte offset.
        at: usize,
    },
}

/// Key of a project.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectKey(String);

/// Key of an object inside a project and a kind.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ProjectKey {
    /// Checks a text and takes it as a project key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        check_length(text, PROJECT_KEY_MAX)?;
        check_slug(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ObjectKey {
    /// Checks a text by the rules for `kind` and takes it as an object key.
    pub fn parse(kind: ObjectKind, text: &str) -> Result<Self, KeyError> {
        check_length(text, OBJECT_KEY_MAX)?;
        if kind == ObjectKind::Flag {
            check_flag_key(text)?;
        } else {
            check_slug(text)?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_length(text: &str, max: usize) -> Result<(), KeyError> {
    if text.is_empty() || text == "." || text == ".." {
        return Err(KeyError::Empty);
    }
    if text.len() > max {
        return Err(KeyError::TooLong {
            len: text.len(),
            max,
        });
    }
    Ok(())
}

fn check_slug(text: &str) -> Result<(), KeyError> {
    let allowed = |at: usize, c: char| match c {
        'a'..='z' | '0'..='9' => true,
        '.' | '_' | '-' => at > 0,
        _ => false,
    };
    first_refused(text, allowed)
}

fn check_flag_key(text: &str) -> Result<(), KeyError> {
    let last = text.char_indices().next_back().map_or(0, |(at, _)| at);
    let allowed = |at: usize, c: char| {
        let at_an_end = at == 0 || at == last;
        !(c.is_control() || reorders_or_breaks_lines(c) || (at_an_end && c.is_whitespace()))
    };
    first_refused(text, allowed)
}

fn reorders_or_breaks_lines(c: char) -> bool {
    matches!(
        c,
        '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}'
    ) || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

fn first_refused(text: &str, allowed: impl Fn(usize, char) -> bool) -> Result<(), KeyError> {
    match text.char_indices().find(|&(at, c)| !allowed(at, c)) {
        Some((at, character)) => Err(KeyError::Character { character, at }),
        None => Ok(()),
    }
}

impl fmt::Display for ProjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_keys_are_slugs() {
        for good in ["default", "a", "9", "shop-1.eu_west"] {
            assert_eq!(ProjectKey::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "", ".", "..", "-a", "_a", ".a", "A", "a b", "a/b", "é", "a\0",
        ] {
            assert!(ProjectKey::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(ProjectKey::parse(&"a".repeat(PROJECT_KEY_MAX)).is_ok());
        assert_eq!(
            ProjectKey::parse(&"a".repeat(65)),
            Err(KeyError::TooLong { len: 65, max: 64 })
        );
    }

    #[test]
    fn flag_keys_are_any_readable_text() {
        for good in [
            "newCheckout",
            "a/b",
            "Ünïcode",
            "two words",
            "日本",
            "-",
            "$x",
        ] {
            assert!(
                ObjectKey::parse(ObjectKind::Flag, good).is_ok(),
                "{good:?} was refused"
            );
        }
        for bad in [
            " a",
            "a ",
            "a\nb",
            "a\u{202e}b",
            "a\u{2028}b",
            "\u{0}",
            "..",
        ] {
            assert!(
                ObjectKey::parse(ObjectKind::Flag, bad).is_err(),
                "{bad:?} was accepted"
            );
        }
        assert!(ObjectKey::parse(ObjectKind::Segment, "newCheckout").is_err());
    }
}
