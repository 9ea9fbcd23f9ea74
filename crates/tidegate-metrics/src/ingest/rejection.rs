//! Why an event was refused: where, by which rule, and what to do about it.

use serde::Serialize;

/// One violation in one event of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// Position in the array, or line number counted from zero.
    pub index: usize,
    /// JSON pointer inside the event; empty for the event itself.
    pub pointer: String,
    /// The rule broken, stable for programs.
    pub code: RejectionCode,
    /// The rule and the cure, for people.
    pub detail: String,
}

/// The closed list of rules an event may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionCode {
    /// The text is not JSON.
    JsonInvalid,
    /// The text is not UTF-8.
    EncodingInvalid,
    /// The event's text is too long.
    EventTooLarge,
    /// A field the format does not know.
    FieldUnknown,
    /// A key that occurs twice.
    FieldDuplicate,
    /// A required field that is absent.
    FieldMissing,
    /// A value of the wrong JSON type.
    TypeMismatch,
    /// A required text without content.
    TextEmpty,
    /// A text over its limit.
    TextTooLong,
    /// A text with a control character.
    TextControlCharacter,
    /// An id or trace id that is not 128 bits of hexadecimal.
    IdInvalid,
    /// A time that is not RFC 3339.
    TimeInvalid,
    /// A kind outside the list.
    KindUnknown,
    /// A whole number that a double cannot hold exactly.
    NumberNotExact,
    /// A number outside the range its meaning allows.
    NumberOutOfRange,
    /// More properties than the limit.
    TooManyProperties,
    /// More flags than the limit.
    TooManyFlags,
    /// An exposure whose `flags` does not hold the variant of the flag in `name`.
    ExposureWithoutVariant,
}

/// A violation before it knows its event's position.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) pointer: String,
    pub(super) code: RejectionCode,
    pub(super) detail: String,
}

impl Violation {
    pub(super) fn at(self, index: usize) -> Rejection {
        Rejection {
            index,
            pointer: self.pointer,
            code: self.code,
            detail: self.detail,
        }
    }
}

/// The violations of one event, bounded: a hostile event cannot make the answer larger than
/// itself.
#[derive(Debug, Default)]
pub(super) struct Violations {
    found: Vec<Violation>,
}

const MAX_VIOLATIONS_PER_EVENT: usize = 16;
const MAX_POINTER_CHARS: usize = 80;

impl Violations {
    pub(super) fn push<'p>(
        &mut self,
        place: impl Into<Place<'p>>,
        code: RejectionCode,
        detail: impl Into<String>,
    ) {
        if self.found.len() < MAX_VIOLATIONS_PER_EVENT {
            let pointer = place.into().pointer();
            self.found.push(Violation {
                pointer: pointer.chars().take(MAX_POINTER_CHARS).collect(),
                code,
                detail: detail.into(),
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_found(self) -> Vec<Violation> {
        self.found
    }
}

/// Where in an event something stands. It becomes a pointer only where something is wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'p> {
    parent: &'p str,
    key: Option<&'p str>,
}

impl<'p> Place<'p> {
    /// A member of the object at a pointer.
    pub(super) fn member(parent: &'p str, key: &'p str) -> Self {
        Self {
            parent,
            key: Some(key),
        }
    }

    /// The pointer, escaped as RFC 6901 asks.
    fn pointer(self) -> String {
        let mut pointer = String::from(self.parent);
        let Some(key) = self.key else {
            return pointer;
        };
        pointer.push('/');
        for c in key.chars().take(MAX_POINTER_CHARS) {
            match c {
                '~' => pointer.push_str("~0"),
                '/' => pointer.push_str("~1"),
                other => pointer.push(other),
            }
        }
        pointer
    }
}

impl<'p> From<&'p str> for Place<'p> {
    fn from(pointer: &'p str) -> Self {
        Self {
            parent: pointer,
            key: None,
        }
    }
}
