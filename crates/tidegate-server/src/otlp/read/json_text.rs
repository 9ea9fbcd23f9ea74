//! Scalars of OTLP's JSON: text, 64-bit numbers, identifiers and attribute values.
//!
//! Null means absent everywhere, as in every JSON mapping of protobuf. Whole numbers of 64 bits
//! come as text or as numbers, doubles that JSON cannot write come as `"NaN"` and `"Infinity"`,
//! identifiers as hexadecimal in either case.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Attributes, Value};

/// Text, borrowed unless it holds escapes.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text::default())
            }
        }
        input.deserialize_any(TextVisitor)
    }
}

/// A whole number of 64 bits, signed or not, as text or number.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Whole(i128);

impl Whole {
    pub(super) fn unsigned(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }

    pub(super) fn signed(self) -> i64 {
        i64::try_from(self.0).unwrap_or(0)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of 64 bits, as a number or as text")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Whole, E> {
                let as_unsigned = text.parse::<u64>().map(i128::from);
                let number = as_unsigned.or_else(|_| text.parse::<i64>().map(i128::from));
                number
                    .map(Whole)
                    .map_err(|_| E::custom("a whole number of 64 bits is needed"))
            }

            fn visit_unit<E>(self) -> Result<Whole, E> {
                Ok(Whole::default())
            }
        }
        input.deserialize_any(WholeVisitor)
    }
}

/// A number, as a number or as text.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Double(pub(super) Option<f64>);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct DoubleVisitor;
        impl Visitor<'_> for DoubleVisitor {
            type Value = Double;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Double, E> {
                Ok(Double(Some(number)))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Double, E> {
                Ok(Double(Some(super::rounded(number))))
            }

            #[expect(clippy::cast_precision_loss, reason = "the nearest double is meant")]
            fn visit_u64<E>(self, number: u64) -> Result<Double, E> {
                Ok(Double(Some(number as f64)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Double, E> {
                let number = text.parse::<f64>();
                number
                    .map(|number| Double(Some(number)))
                    .map_err(|_| E::custom("a number is needed"))
            }

            fn visit_unit<E>(self) -> Result<Double, E> {
                Ok(Double::default())
            }
        }
        input.deserialize_any(DoubleVisitor)
    }
}

/// An identifier of so many hexadecimal digits; none if it is anything else or zero.
pub(super) fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    let is_one = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = is_one.then(|| u128::from_str_radix(text, 16).ok())??;
    (id != 0).then_some(id)
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an attribute value such as {\"stringValue\":\"a\"}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Value::Empty;
                while let Some(Text(key)) = map.next_key()? {
                    found = match key.as_ref() {
                        "stringValue" => Value::Text(map.next_value::<Text<'de>>()?.0),
                        "boolValue" => match map.next_value::<Option<bool>>()? {
                            Some(truth) => Value::Bool(truth),
                            None => Value::Empty,
                        },
                        "intValue" => Value::Int(map.next_value::<Whole>()?.signed()),
                        "doubleValue" => match map.next_value::<Double>()?.0 {
                            Some(number) => Value::Double(number),
                            None => Value::Empty,
                        },
                        "arrayValue" | "kvlistValue" | "bytesValue" => {
                            Value::Nested(map.next_value::<&'de RawValue>()?.get().as_bytes())
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            found
                        }
                    };
                }
                Ok(found)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Value::Empty)
            }
        }
        input.deserialize_any(ValueVisitor)
    }
}

/// The most attributes that are read at all; the mapper's own limit is smaller.
pub(super) const MOST_ATTRIBUTES: usize = 1024;

impl<'de: 'a, 'a> Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct AttributesVisitor;
        impl<'de> Visitor<'de> for AttributesVisitor {
            type Value = Attributes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of attributes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut attributes = Attributes::default();
                while attributes.list.len() < MOST_ATTRIBUTES {
                    let Some(pair) = list.next_element::<KeyValue<'de>>()? else {
                        return Ok(attributes);
                    };
                    attributes.push((pair.key.0, pair.value), MOST_ATTRIBUTES);
                }
                attributes.is_cut = true;
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(attributes)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Attributes::default())
            }
        }
        input.deserialize_any(AttributesVisitor)
    }
}

#[derive(Deserialize)]
struct KeyValue<'a> {
    #[serde(borrow, default)]
    key: Text<'a>,
    #[serde(borrow, default = "nothing")]
    value: Value<'a>,
}

fn nothing<'a>() -> Value<'a> {
    Value::Empty
}
