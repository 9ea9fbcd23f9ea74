//! A value during evaluation: borrowed wherever it can be.

use crate::bucketing::cbor;
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// Index of an interned string, or one of two marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Atom(pub(crate) u32);

impl Atom {
    /// The string was looked up and is no constant of the set.
    pub(crate) const FOREIGN: Atom = Atom(u32::MAX - 1);
    /// The string was not looked up.
    pub(crate) const UNKNOWN: Atom = Atom(u32::MAX);
}

/// A value during evaluation. `Json` holds arrays and objects only.
#[derive(Clone, Debug)]
pub(crate) enum Val<'e> {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Uint(u64),
    Float(f64),
    Str(&'e str, Atom),
    /// A string made during evaluation.
    Text(Arc<str>),
    Json(&'e Value),
    /// An array made during evaluation.
    List(Arc<[Val<'e>]>),
    /// An object made during evaluation (the whole context with `$flagd`).
    Object(Arc<Map<String, Value>>),
}

impl<'e> Val<'e> {
    /// Borrows a JSON value.
    pub(crate) fn of(value: &'e Value) -> Val<'e> {
        match value {
            Value::Null => Val::Null,
            Value::Bool(flag) => Val::Bool(*flag),
            Value::Number(number) => Val::of_number(number),
            Value::String(text) => Val::Str(text, Atom::UNKNOWN),
            Value::Array(_) | Value::Object(_) => Val::Json(value),
        }
    }

    /// Takes a JSON value that lives only during evaluation.
    pub(crate) fn owned(value: &Value) -> Val<'e> {
        match value {
            Value::Null => Val::Null,
            Value::Bool(flag) => Val::Bool(*flag),
            Value::Number(number) => Val::of_number(number),
            Value::String(text) => Val::Text(text.as_str().into()),
            Value::Array(items) => Val::List(items.iter().map(Val::owned).collect()),
            Value::Object(map) => Val::Object(Arc::new(map.clone())),
        }
    }

    pub(crate) fn of_number(number: &Number) -> Val<'e> {
        if let Some(value) = number.as_i64() {
            Val::Int(value)
        } else if let Some(value) = number.as_u64() {
            Val::Uint(value)
        } else {
            Val::Float(number.as_f64().unwrap_or(f64::NAN))
        }
    }

    /// The text, if this is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Val::Str(text, _) => Some(text),
            Val::Text(text) => Some(text),
            _ => None,
        }
    }

    /// JavaScript truthiness, except that an empty array is false (as json-logic-js has it).
    #[inline]
    pub(crate) fn is_truthy(&self) -> bool {
        match self {
            Val::Null => false,
            Val::Bool(flag) => *flag,
            Val::Int(value) => *value != 0,
            Val::Uint(value) => *value != 0,
            Val::Float(value) => *value != 0.0 && !value.is_nan(),
            Val::Str(text, _) => !text.is_empty(),
            Val::Text(text) => !text.is_empty(),
            Val::Json(Value::Array(items)) => !items.is_empty(),
            Val::List(items) => !items.is_empty(),
            Val::Json(_) | Val::Object(_) => true,
        }
    }

    /// The items, if this is an array.
    pub(crate) fn items(&self) -> Option<Items<'_, 'e>> {
        match self {
            Val::Json(Value::Array(items)) => Some(Items::Borrowed(items)),
            Val::List(items) => Some(Items::Made(items)),
            _ => None,
        }
    }

    /// The member that one token of a `var` path names, if there is one.
    pub(crate) fn member(&self, token: &str) -> Option<Val<'e>> {
        match self {
            Val::Json(Value::Object(map)) => map.get(token).map(Val::of),
            Val::Json(Value::Array(items)) => items.get(index_of(token)?).map(Val::of),
            Val::List(items) => items.get(index_of(token)?).cloned(),
            Val::Object(map) => map.get(token).map(Val::owned),
            _ => None,
        }
    }

    /// Encodes the value as v3 bucketing hashes it.
    pub(crate) fn encode(&self, sink: &mut impl cbor::Sink) {
        match self {
            Val::Null => cbor::null(sink),
            Val::Bool(flag) => cbor::boolean(sink, *flag),
            Val::Int(value) => cbor::integer(sink, *value),
            Val::Uint(value) => cbor::unsigned(sink, *value),
            Val::Float(value) => cbor::float(sink, *value),
            Val::Str(text, _) => cbor::text(sink, text),
            Val::Text(text) => cbor::text(sink, text),
            Val::Json(value) => cbor::value(sink, value),
            Val::Object(map) => cbor::object(sink, map),
            Val::List(items) => {
                cbor::array_head(sink, items.len());
                for item in items.iter() {
                    item.encode(sink);
                }
            }
        }
    }

    /// The value as JSON, for explanations. NaN and infinities become null.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Val::Null => Value::Null,
            Val::Bool(flag) => Value::Bool(*flag),
            Val::Int(value) => Value::from(*value),
            Val::Uint(value) => Value::from(*value),
            Val::Float(value) => Value::from(*value),
            Val::Str(text, _) => Value::from(*text),
            Val::Text(text) => Value::from(&**text),
            Val::Json(value) => (*value).clone(),
            Val::List(items) => items.iter().map(Val::to_json).collect(),
            Val::Object(map) => Value::Object(Map::clone(map)),
        }
    }
}

/// Array indices are spelled as JavaScript spells them: no sign, no leading zero.
fn index_of(token: &str) -> Option<usize> {
    let is_canonical = token == "0" || !token.starts_with(['0', '+']);
    is_canonical.then(|| token.parse().ok())?
}

/// The items of an array, wherever they live.
pub(crate) enum Items<'a, 'e> {
    Borrowed(&'e [Value]),
    Made(&'a [Val<'e>]),
}

impl<'a, 'e> Items<'a, 'e> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Items::Borrowed(items) => items.len(),
            Items::Made(items) => items.len(),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<Val<'e>> {
        match self {
            Items::Borrowed(items) => items.get(index).map(Val::of),
            Items::Made(items) => items.get(index).cloned(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Val<'e>> + use<'_, 'a, 'e> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Text that may be borrowed from a value.
pub(crate) type TextOf<'a> = Cow<'a, str>;
