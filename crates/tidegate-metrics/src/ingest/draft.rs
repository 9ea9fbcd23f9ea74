//! The shape of one event as JSON gives it: known fields as scalars, nothing judged yet.
//!
//! It borrows from the input and keeps no more entries than the limits allow, so a hostile
//! event costs no more memory than its own text. Nested values are skipped without recursion
//! and remembered only as "nested".

use super::Limits;
use super::rejection::{Place, RejectionCode, Violations};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Any JSON value, as far as the event format cares.
#[derive(Debug, Default)]
pub(super) enum Scalar<'a> {
    /// JSON null, or an absent field: the two mean the same.
    #[default]
    Absent,
    Bool(bool),
    Number(f64),
    /// A whole number beyond 2^53, which a double would round silently.
    InexactInteger,
    Text(Cow<'a, str>),
    Nested,
}

pub(super) type Pairs<'a> = Vec<(Cow<'a, str>, Scalar<'a>)>;

/// A `properties` or `flags` member.
#[derive(Debug, Default)]
pub(super) enum Object<'a> {
    #[default]
    Absent,
    Pairs {
        pairs: Pairs<'a>,
        left_out: usize,
    },
    Unfit,
}

#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    pub(super) id: Scalar<'a>,
    pub(super) time: Scalar<'a>,
    pub(super) unit: Scalar<'a>,
    pub(super) kind: Scalar<'a>,
    pub(super) name: Scalar<'a>,
    pub(super) value: Scalar<'a>,
    pub(super) trace_id: Scalar<'a>,
    pub(super) properties: Object<'a>,
    pub(super) flags: Object<'a>,
}

/// The fields of an event.
#[derive(Debug, Clone, Copy)]
enum Field {
    Id,
    Time,
    Unit,
    Kind,
    Name,
    Value,
    TraceId,
    Properties,
    Flags,
}

impl Field {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "time" => Self::Time,
            "unit" => Self::Unit,
            "kind" => Self::Kind,
            "name" => Self::Name,
            "value" => Self::Value,
            "trace_id" => Self::TraceId,
            "properties" => Self::Properties,
            "flags" => Self::Flags,
            _ => return None,
        })
    }
}

/// Reads a draft; unknown and repeated fields go to `violations`.
pub(super) struct DraftSeed<'l, 'v> {
    pub(super) limits: &'l Limits,
    pub(super) violations: &'v mut Violations,
}

impl<'de> DeserializeSeed<'de> for DraftSeed<'_, '_> {
    type Value = Option<Draft<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DraftSeed<'_, '_> {
    type Value = Option<Draft<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut draft = Draft::default();
        let mut seen = 0u16;
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            let Some(field) = Field::of(&name) else {
                map.next_value::<IgnoredAny>()?;
                self.violations.push(
                    Place::member("", &name),
                    RejectionCode::FieldUnknown,
                    "unknown field; put your own data under properties",
                );
                continue;
            };
            let mark = 1 << field as u16;
            if seen & mark != 0 {
                map.next_value::<IgnoredAny>()?;
                self.violations.push(
                    Place::member("", &name),
                    RejectionCode::FieldDuplicate,
                    "the field occurs twice; send it once",
                );
                continue;
            }
            seen |= mark;
            match field {
                Field::Id => draft.id = map.next_value()?,
                Field::Time => draft.time = map.next_value()?,
                Field::Unit => draft.unit = map.next_value()?,
                Field::Kind => draft.kind = map.next_value()?,
                Field::Name => draft.name = map.next_value()?,
                Field::Value => draft.value = map.next_value()?,
                Field::TraceId => draft.trace_id = map.next_value()?,
                Field::Properties => {
                    draft.properties =
                        map.next_value_seed(ObjectSeed(self.limits.max_properties))?;
                }
                Field::Flags => {
                    draft.flags = map.next_value_seed(ObjectSeed(self.limits.max_flags))?;
                }
            }
        }
        Ok(Some(draft))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        input.deserialize_str(NameVisitor)
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

const LARGEST_EXACT: u64 = 1 << 53;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        // Adding zero turns -0 into 0, so that equal values are stored equally.
        Ok(Scalar::Number(value + 0.0))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(exact(value, 1.0))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        let sign = if value < 0 { -1.0 } else { 1.0 };
        Ok(exact(value.unsigned_abs(), sign))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "guarded: at most 2^53, which a double holds exactly"
)]
fn exact<'a>(magnitude: u64, sign: f64) -> Scalar<'a> {
    if magnitude <= LARGEST_EXACT {
        Scalar::Number(magnitude as f64 * sign + 0.0)
    } else {
        Scalar::InexactInteger
    }
}

/// Entries that most objects have room for without growing.
const FEW_PAIRS: usize = 12;

struct ObjectSeed(usize);

impl<'de> DeserializeSeed<'de> for ObjectSeed {
    type Value = Object<'de>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of scalars")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut pairs, mut left_out) = (Vec::with_capacity(FEW_PAIRS.min(self.0)), 0);
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            if pairs.len() < self.0 {
                pairs.push((name, map.next_value()?));
            } else {
                map.next_value::<IgnoredAny>()?;
                left_out += 1;
            }
        }
        Ok(Object::Pairs { pairs, left_out })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Object::Unfit)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Object::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Object::Unfit)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Object::Unfit)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Object::Unfit)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Object::Unfit)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Object::Unfit)
    }
}
