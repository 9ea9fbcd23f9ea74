//! Reading JSON text strictly: no duplicate key, no excess depth, no excess items.
//!
//! `serde_json::from_str::<Value>` keeps the last of two equal keys and reports depth
//! only by its own recursion limit; a flag document with a key written twice has an
//! author who lost something, so it is refused with the place. The reader counts while
//! it builds, so an oversized input costs no more than the limit.

use crate::limits::Limits;
use crate::problem::{Violation, pointer_to};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;

/// Reads one JSON document within `max_bytes`, `max_depth` and `max_items`.
pub(crate) fn read(
    text: &str,
    max_bytes: usize,
    max_depth: usize,
    max_items: usize,
) -> Result<Value, Violation> {
    if text.len() > max_bytes {
        let message = format!("{} bytes, at most {max_bytes} are read", text.len());
        return Err(Violation::new("", "too_large", message));
    }
    let state = RefCell::new(State {
        path: Vec::new(),
        items_left: max_items,
        code: "syntax",
    });
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = Node {
        state: &state,
        depth_left: max_depth,
    };
    seed.deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| state.into_inner().violation(&error))
}

/// Parses an evaluation context: a JSON object within the limits on bytes, depth and items.
///
/// # Errors
/// One violation with its place: invalid UTF-8, syntax, duplicate key, too large, too deep,
/// not an object.
pub fn parse_context(bytes: &[u8], limits: &Limits) -> Result<Map<String, Value>, Violation> {
    if bytes.len() > limits.context_bytes {
        let message = format!(
            "{} bytes, at most {} are read",
            bytes.len(),
            limits.context_bytes
        );
        return Err(Violation::new("", "too_large", message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let message = format!("invalid UTF-8 after byte {}", error.valid_up_to());
        Violation::new("", "invalid_utf8", message)
    })?;
    match read(
        text,
        limits.context_bytes,
        limits.depth,
        limits.context_items,
    )? {
        Value::Object(map) => Ok(map),
        other => {
            let message = format!("a context is an object, this is {}", kind_of(&other));
            Err(Violation::new("", "not_an_object", message))
        }
    }
}

/// Parses any JSON document strictly: UTF-8, no duplicate key, within the limits on bytes and depth.
///
/// # Errors
/// One violation with its place.
pub fn parse_json(bytes: &[u8], limits: &Limits) -> Result<Value, Violation> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let message = format!("invalid UTF-8 after byte {}", error.valid_up_to());
        Violation::new("", "invalid_utf8", message)
    })?;
    read(text, limits.document_bytes, limits.depth, usize::MAX)
}

/// Checks a context that was decoded elsewhere (gRPC) against the same limits.
///
/// # Errors
/// One violation with its place: too deep or too many items.
pub fn check_context(context: &Map<String, Value>, limits: &Limits) -> Result<(), Violation> {
    let mut items = 0usize;
    let mut pending: Vec<(&Value, usize)> = Vec::new();
    items += context.len();
    pending.extend(context.values().map(|value| (value, 1)));
    while let Some((value, depth)) = pending.pop() {
        let (len, is_nested) = match value {
            Value::Array(list) => (list.len(), true),
            Value::Object(map) => (map.len(), true),
            _ => (0, false),
        };
        if is_nested && depth >= limits.depth {
            let message = format!("more than {} levels of nesting", limits.depth);
            return Err(Violation::new("", "too_deep", message));
        }
        items += len;
        if items > limits.context_items {
            let message = format!("more than {} keys and items", limits.context_items);
            return Err(Violation::new("", "too_many_items", message));
        }
        match value {
            Value::Array(list) => pending.extend(list.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => pending.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// What a JSON value is, in words that fit after "this is".
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

enum Token {
    Key(String),
    Index(usize),
}

struct State {
    path: Vec<Token>,
    items_left: usize,
    code: &'static str,
}

impl State {
    fn violation(self, error: &serde_json::Error) -> Violation {
        let pointer = self
            .path
            .iter()
            .fold(String::new(), |pointer, token| match token {
                Token::Key(key) => pointer_to(&pointer, key),
                Token::Index(index) => format!("{pointer}/{index}"),
            });
        let text = error.to_string();
        let message = text
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned();
        Violation {
            pointer,
            line: u32::try_from(error.line()).ok(),
            column: u32::try_from(error.column()).ok(),
            code: self.code,
            message,
        }
    }
}

#[derive(Clone, Copy)]
struct Node<'s> {
    state: &'s RefCell<State>,
    depth_left: usize,
}

impl Node<'_> {
    fn refuse<E: serde::de::Error>(self, code: &'static str, message: String) -> E {
        self.state.borrow_mut().code = code;
        E::custom(message)
    }

    fn descend<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Node { depth_left, ..self }),
            None => Err(self.refuse("too_deep", "nested too deeply".to_owned())),
        }
    }

    fn count_item<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.state.borrow().items_left.checked_sub(1);
        match left {
            Some(left) => {
                self.state.borrow_mut().items_left = left;
                Ok(())
            }
            None => Err(self.refuse("too_many_items", "too many keys and items".to_owned())),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| self.refuse("number_out_of_range", "not a finite number".to_owned()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.descend()?;
        let mut list = Vec::new();
        loop {
            self.state.borrow_mut().path.push(Token::Index(list.len()));
            let Some(item) = items.next_element_seed(inner)? else {
                break;
            };
            self.count_item()?;
            list.push(item);
            self.state.borrow_mut().path.pop();
        }
        self.state.borrow_mut().path.pop();
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.descend()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.count_item()?;
            self.state.borrow_mut().path.push(Token::Key(key.clone()));
            if map.contains_key(&key) {
                let message = format!("key {key:?} is written twice");
                return Err(self.refuse::<A::Error>("duplicate_key", message));
            }
            let value = entries.next_value_seed(inner)?;
            self.state.borrow_mut().path.pop();
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (String, &'static str, Option<u32>, Option<u32>) {
        let v = read(text, 10_000, 8, 20).unwrap_err();
        (v.pointer, v.code, v.line, v.column)
    }

    #[test]
    fn names_the_place_of_what_it_refuses() {
        let cases: &[(&str, &str, &str, u32, u32)] = &[
            (
                "{\"a\": {\n  \"b\": 1,\n  \"b\": 2}}",
                "/a/b",
                "duplicate_key",
                3,
                5,
            ),
            ("{\"a\": [1, NaN]}", "/a/1", "syntax", 1, 11),
            ("{\"a/b\": tru}", "/a~1b", "syntax", 1, 12),
            ("[[[[[[[[[]]]]]]]]]", "/0/0/0/0/0/0/0/0", "too_deep", 1, 10),
            ("{\"a\": 1e999}", "/a", "syntax", 1, 11),
            ("{} x", "", "syntax", 1, 4),
            ("", "", "syntax", 1, 0),
        ];
        for (text, pointer, code, line, column) in cases {
            let got = refused(text);
            assert_eq!(got.0, *pointer, "{text}");
            assert_eq!(got.1, *code, "{text}");
            assert_eq!((got.2, got.3), (Some(*line), Some(*column)), "{text}");
        }
    }

    #[test]
    fn counts_items_and_bytes() {
        let many = format!("[{}]", vec!["0"; 21].join(","));
        assert_eq!(refused(&many).1, "too_many_items");
        assert_eq!(read("[]", 1, 8, 8).unwrap_err().code, "too_large");
    }

    #[test]
    fn ten_thousand_levels_are_refused_without_a_crash() {
        let deep = "{\"a\":".repeat(10_000);
        let limits = Limits::default();
        assert_eq!(
            parse_context(deep.as_bytes(), &limits).unwrap_err().code,
            "too_deep"
        );
        let deep = "[".repeat(10_000);
        assert_eq!(
            parse_context(deep.as_bytes(), &limits).unwrap_err().code,
            "too_deep"
        );
    }

    #[test]
    fn contexts_are_objects_in_utf8() {
        let limits = Limits::default();
        assert_eq!(
            parse_context(b"{\"a\": \"\xff\"}", &limits)
                .unwrap_err()
                .code,
            "invalid_utf8"
        );
        assert_eq!(
            parse_context(b"[]", &limits).unwrap_err().code,
            "not_an_object"
        );
        let context = parse_context(b"{\"a\": 1.0, \"b\": -0.0}", &limits).unwrap();
        assert_eq!(
            serde_json::to_string(&context).unwrap(),
            "{\"a\":1.0,\"b\":-0.0}"
        );
    }

    #[test]
    fn decoded_contexts_meet_the_same_limits() {
        let limits = Limits {
            depth: 3,
            context_items: 5,
            ..Limits::default()
        };
        let check =
            |value: Value| check_context(value.as_object().unwrap(), &limits).map_err(|v| v.code);
        assert_eq!(check(serde_json::json!({"a": {"b": {"c": 1}}})), Ok(()));
        assert_eq!(
            check(serde_json::json!({"a": {"b": {"c": {}}}})),
            Err("too_deep")
        );
        assert_eq!(
            check(serde_json::json!({"a": [1, 2, 3, 4, 5]})),
            Err("too_many_items")
        );
    }
}
