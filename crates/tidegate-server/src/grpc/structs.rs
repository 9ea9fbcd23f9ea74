//! `google.protobuf.Struct` to JSON and back.
//!
//! A Struct knows one kind of number, the double. A double that is a whole number is read as an
//! integer, because that is what the caller wrote before its client had to use a Struct, and
//! `1` and `1.0` must hash and print alike. NaN and infinities have no JSON form and are refused.
//! Depth and number of items are bounded here as for contexts that arrive as JSON.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use serde_json::{Map, Number, Value};

/// Beyond this a double no longer counts whole numbers one by one: 2^53.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// What a Struct may cost.
#[derive(Debug, Clone, Copy)]
pub struct StructLimits {
    /// Levels of objects and lists, the Struct itself included.
    pub depth: usize,
    /// Keys and list items together.
    pub items: usize,
}

/// Why a Struct has no JSON form here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StructError {
    /// Nested beyond the limit.
    #[error("{pointer}: nested deeper than {limit} levels")]
    TooDeep {
        /// Where, as a JSON pointer.
        pointer: String,
        /// The limit.
        limit: usize,
    },
    /// More keys and items than the limit.
    #[error("{pointer}: more than {limit} keys and items")]
    TooMany {
        /// Where the limit was passed.
        pointer: String,
        /// The limit.
        limit: usize,
    },
    /// NaN or an infinity.
    #[error("{pointer}: not a finite number")]
    NotFinite {
        /// Where.
        pointer: String,
    },
}

/// `fields` as a JSON object.
///
/// # Errors
/// The first place that cannot be read or passes a limit.
pub fn to_json(fields: Struct, limits: StructLimits) -> Result<Map<String, Value>, StructError> {
    Reader {
        limits,
        items: 0,
        path: Vec::new(),
    }
    .object(fields)
}

/// `object` as a Struct. Integers beyond 2^53 lose what a double cannot hold.
#[must_use]
pub fn from_json(object: &Map<String, Value>) -> Struct {
    Struct {
        fields: object
            .iter()
            .map(|(key, value)| (key.clone(), proto(value)))
            .collect(),
    }
}

fn proto(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(boolean) => Kind::BoolValue(*boolean),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(proto).collect(),
        }),
        Value::Object(object) => Kind::StructValue(from_json(object)),
    };
    ProtoValue { kind: Some(kind) }
}

/// Walks a Struct with what it may still cost. The path is kept for the error alone.
struct Reader {
    limits: StructLimits,
    items: usize,
    path: Vec<String>,
}

impl Reader {
    fn object(&mut self, fields: Struct) -> Result<Map<String, Value>, StructError> {
        self.enter(fields.fields.len())?;
        let mut object = Map::with_capacity(fields.fields.len());
        for (key, value) in fields.fields {
            self.path.push(key.clone());
            let value = self.value(value)?;
            self.path.pop();
            object.insert(key, value);
        }
        Ok(object)
    }

    fn list(&mut self, list: ListValue) -> Result<Vec<Value>, StructError> {
        self.enter(list.values.len())?;
        let mut items = Vec::with_capacity(list.values.len());
        for (index, value) in list.values.into_iter().enumerate() {
            self.path.push(index.to_string());
            items.push(self.value(value)?);
            self.path.pop();
        }
        Ok(items)
    }

    fn value(&mut self, value: ProtoValue) -> Result<Value, StructError> {
        Ok(match value.kind {
            None | Some(Kind::NullValue(_)) => Value::Null,
            Some(Kind::BoolValue(boolean)) => Value::Bool(boolean),
            Some(Kind::StringValue(text)) => Value::String(text),
            Some(Kind::NumberValue(number)) => Value::Number(self.number(number)?),
            Some(Kind::ListValue(list)) => Value::Array(self.list(list)?),
            Some(Kind::StructValue(fields)) => Value::Object(self.object(fields)?),
        })
    }

    fn number(&self, number: f64) -> Result<Number, StructError> {
        whole(number)
            .map(Number::from)
            .or_else(|| Number::from_f64(number))
            .ok_or_else(|| StructError::NotFinite {
                pointer: self.pointer(),
            })
    }

    /// Counts one container of `length` entries. The path is as long as what encloses it.
    fn enter(&mut self, length: usize) -> Result<(), StructError> {
        if self.path.len() >= self.limits.depth {
            return Err(StructError::TooDeep {
                pointer: self.pointer(),
                limit: self.limits.depth,
            });
        }
        self.items = self.items.saturating_add(length);
        if self.items > self.limits.items {
            return Err(StructError::TooMany {
                pointer: self.pointer(),
                limit: self.limits.items,
            });
        }
        Ok(())
    }

    fn pointer(&self) -> String {
        self.path
            .iter()
            .map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1")))
            .collect()
    }
}

/// `number` as an integer, if it is one that a double holds exactly.
#[must_use]
pub fn whole(number: f64) -> Option<i64> {
    if number.fract() != 0.0 || number.abs() > LARGEST_EXACT {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and at most 2^53 in size"
    )]
    Some(number as i64)
}

/// `whole` as a double; beyond 2^53 the nearest one.
#[must_use]
pub fn widened(whole: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the wire knows one kind of number"
    )]
    let number = whole as f64;
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const LIMITS: StructLimits = StructLimits {
        depth: 8,
        items: 100,
    };

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    fn number(number: f64) -> Struct {
        let value = ProtoValue {
            kind: Some(Kind::NumberValue(number)),
        };
        Struct {
            fields: [("a/b".to_owned(), value)].into(),
        }
    }

    #[test]
    fn every_kind_of_value_survives_the_round_trip() {
        let sent = object(json!({
            "text": "ü", "yes": true, "nothing": null, "whole": 3, "part": 2.5, "below": -7,
            "list": [1, "a", [], {}], "inner": {"deep": {"deeper": false}}
        }));
        assert_eq!(to_json(from_json(&sent), LIMITS).unwrap(), sent);
    }

    #[test]
    fn a_whole_double_is_an_integer_and_what_is_no_number_is_named() {
        let cases = [
            (1.0, json!(1)),
            (-0.0, json!(0)),
            (1.5, json!(1.5)),
            (1e300, json!(1e300)),
        ];
        for (sent, read) in cases {
            assert_eq!(
                to_json(number(sent), LIMITS).unwrap()["a/b"],
                read,
                "{sent}"
            );
        }
        for sent in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let refused = to_json(number(sent), LIMITS).unwrap_err();
            assert_eq!(
                refused,
                StructError::NotFinite {
                    pointer: "/a~1b".to_owned()
                }
            );
        }
    }

    #[test]
    fn depth_and_items_are_bounded_with_the_place_named() {
        let nested = |levels: usize| {
            (1..levels).fold(Struct::default(), |inner, _| Struct {
                fields: [(
                    "x".to_owned(),
                    ProtoValue {
                        kind: Some(Kind::StructValue(inner)),
                    },
                )]
                .into(),
            })
        };
        assert!(to_json(nested(8), LIMITS).is_ok());
        let refused = to_json(nested(9), LIMITS).unwrap_err();
        assert_eq!(
            refused,
            StructError::TooDeep {
                pointer: "/x".repeat(8),
                limit: 8
            }
        );
        let wide = |items: usize| from_json(&object(json!({"list": vec![0; items]})));
        assert!(to_json(wide(99), LIMITS).is_ok());
        let refused = to_json(wide(100), LIMITS).unwrap_err();
        assert_eq!(
            refused,
            StructError::TooMany {
                pointer: "/list".to_owned(),
                limit: 100
            }
        );
    }

    proptest! {
        #[test]
        fn a_double_comes_back_as_itself(bits in any::<u64>()) {
            let sent = f64::from_bits(bits);
            match to_json(number(sent), LIMITS) {
                Ok(read) => prop_assert_eq!(read["a/b"].as_f64(), Some(sent)),
                Err(error) => {
                    prop_assert!(!sent.is_finite());
                    prop_assert_eq!(error, StructError::NotFinite { pointer: "/a~1b".to_owned() });
                }
            }
        }
    }
}
