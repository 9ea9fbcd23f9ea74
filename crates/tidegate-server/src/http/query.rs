//! Query parameters, read strictly: whatever is unknown, given twice or malformed is named at once.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;

use crate::app::{AppError, Violation};

/// How many violations are listed; a query can have thousands of parameters.
const MOST_VIOLATIONS: usize = 20;

/// The parameters of a request as a `T`.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

/// What reads itself from a query.
pub(crate) trait Parameters: Sized {
    /// Takes what it knows; what it leaves is unknown.
    fn read(sent: &mut Sent) -> Self;
}

/// The parameters that were sent and not taken yet, and what was wrong with those that were.
#[derive(Debug)]
pub(crate) struct Sent {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    violations: Vec<Violation>,
}

impl<S: Sync, T: Parameters> FromRequestParts<S> for Query<T> {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AppError> {
        let mut sent = Sent::new(pairs(&parts.uri));
        let read = T::read(&mut sent);
        sent.finish().map(|()| Self(read))
    }
}

/// Names and values in order, decoded; what is not UTF-8 has U+FFFD in its place.
pub(crate) fn pairs(uri: &Uri) -> Vec<(String, String)> {
    // Pairs of text are what every query decodes to, so nothing is lost by the default.
    axum::extract::Query::try_from_uri(uri).map_or_else(|_| Vec::new(), |query| query.0)
}

impl Sent {
    fn new(pairs: Vec<(String, String)>) -> Self {
        Self {
            pairs,
            known: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// The text of parameter `name`.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let mut values = Vec::new();
        self.pairs.retain_mut(|(sent, value)| {
            let is_it = sent == name;
            if is_it {
                values.push(std::mem::take(value));
            }
            !is_it
        });
        if values.len() > 1 {
            self.wrong(name, "repeated", "it is given more than once; give it once");
        }
        let value = values.pop()?;
        if value.contains(char::REPLACEMENT_CHARACTER) {
            self.wrong(name, "not-text", "it is not UTF-8; percent-encode UTF-8");
            return None;
        }
        Some(value)
    }

    /// The whole number of parameter `name`.
    pub(crate) fn number<N: FromStr>(&mut self, name: &'static str) -> Option<N> {
        let text = self.text(name)?;
        let number = text.parse().ok();
        if number.is_none() {
            let message = format!("{text:?} is not a whole number that fits here");
            self.wrong(name, "not-a-number", message);
        }
        number
    }

    /// Parameter `name` as `read` reads it; `rule` says what it must be.
    pub(crate) fn read<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let found = read(&text);
        if found.is_none() {
            self.wrong(name, "malformed", format!("{text:?} is not {rule}"));
        }
        found
    }

    fn wrong(&mut self, name: &str, code: &str, message: impl Into<String>) {
        let pointer = format!("/query/{}", name.replace('~', "~0").replace('/', "~1"));
        self.violations.push(Violation::at(pointer, code, message));
    }

    /// Everything that is wrong, for whoever refuses it together with what is wrong otherwise.
    pub(crate) fn wrong_so_far(&mut self) -> Vec<Violation> {
        self.note_unknown();
        std::mem::take(&mut self.violations)
    }

    fn note_unknown(&mut self) {
        let known = match self.known.as_slice() {
            [] => "none is known here".to_owned(),
            names => format!("known are {}", names.join(", ")),
        };
        for (name, _) in std::mem::take(&mut self.pairs) {
            let message = format!("there is no such parameter; {known}");
            self.wrong(&name, "unknown-parameter", message);
        }
        self.violations.truncate(MOST_VIOLATIONS);
    }

    fn finish(mut self) -> Result<(), AppError> {
        self.note_unknown();
        if self.violations.is_empty() {
            return Ok(());
        }
        Err(AppError::Invalid(self.violations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Page {
        after: Option<String>,
        limit: Option<u32>,
    }

    impl Parameters for Page {
        fn read(sent: &mut Sent) -> Self {
            Self {
                after: sent.text("after"),
                limit: sent.number("limit"),
            }
        }
    }

    fn read(query: &str) -> Result<Page, Vec<(String, String)>> {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        let mut sent = Sent::new(pairs(&uri));
        let page = Page::read(&mut sent);
        match sent.finish() {
            Ok(()) => Ok(page),
            Err(AppError::Invalid(violations)) => Err(violations
                .into_iter()
                .map(|violation| (violation.pointer, violation.code))
                .collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let page = read("after=a%20b+c%2Fd&limit=7").unwrap();
        assert_eq!(
            (page.after.as_deref(), page.limit),
            (Some("a b c/d"), Some(7))
        );
        assert_eq!(
            read("").unwrap(),
            Page {
                after: None,
                limit: None
            }
        );
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let wrong = read("limit=-1&after=x&after=y&what=1&a~/b=2").unwrap_err();
        let wrong: Vec<(&str, &str)> = wrong
            .iter()
            .map(|(pointer, code)| (pointer.as_str(), code.as_str()))
            .collect();
        let expected = [
            ("/query/after", "repeated"),
            ("/query/limit", "not-a-number"),
            ("/query/what", "unknown-parameter"),
            ("/query/a~0~1b", "unknown-parameter"),
        ];
        assert_eq!(wrong, expected);
        let wrong = read("after=%ff&limit=4294967296").unwrap_err();
        assert_eq!(wrong[0].1, "not-text");
        assert_eq!(wrong[1].1, "not-a-number");
    }

    #[test]
    fn a_flood_of_parameters_is_answered_briefly() {
        let flood = vec!["x=1"; 10_000].join("&");
        assert_eq!(read(&flood).unwrap_err().len(), MOST_VIOLATIONS);
    }
}
