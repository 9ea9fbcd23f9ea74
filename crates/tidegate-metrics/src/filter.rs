//! Which events a definition means: a kind, a name, and tests on properties.
//!
//! A test on a property the event does not have fails, except `absent` and `not_equals`: "country
//! is not DE" is true of an event without a country. Texts, numbers and truth values are never
//! converted into each other.

use crate::{Event, EventKind, PropertyValue};
use serde::{Deserialize, Serialize};

/// The events a definition means. All tests must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// The sort of record; `track` if not said.
    #[serde(default = "track")]
    pub kind: EventKind,
    /// The event's name.
    pub name: String,
    /// Tests on its properties.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<PropertyFilter>,
}

fn track() -> EventKind {
    EventKind::Track
}

/// A test on one property.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PropertyFilter {
    /// The property's key.
    pub property: String,
    /// What must hold.
    pub is: PropertyTest,
}

/// What may be asked of a property.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PropertyTest {
    /// Equal to a value.
    Equals(Scalar),
    /// Not equal to a value, or absent.
    NotEquals(Scalar),
    /// Equal to one of several values.
    OneOf(Vec<Scalar>),
    /// A number of at least this.
    AtLeast(f64),
    /// A number of at most this.
    AtMost(f64),
    /// There, with any value.
    Present,
    /// Not there.
    Absent,
}

/// A property's value in a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl Scalar {
    fn equals(&self, value: &PropertyValue) -> bool {
        match (self, value) {
            (Self::Bool(a), PropertyValue::Bool(b)) => a == b,
            (Self::Number(a), PropertyValue::Number(b)) => a == b,
            (Self::Text(a), PropertyValue::Text(b)) => a.as_str() == b.as_ref(),
            _ => false,
        }
    }
}

impl PropertyTest {
    fn holds(&self, value: Option<&PropertyValue>) -> bool {
        let number = match value {
            Some(PropertyValue::Number(number)) => Some(*number),
            _ => None,
        };
        match self {
            Self::Equals(wanted) => value.is_some_and(|found| wanted.equals(found)),
            Self::NotEquals(unwanted) => !value.is_some_and(|found| unwanted.equals(found)),
            Self::OneOf(all) => value.is_some_and(|found| all.iter().any(|s| s.equals(found))),
            Self::AtLeast(least) => number.is_some_and(|found| found >= *least),
            Self::AtMost(most) => number.is_some_and(|found| found <= *most),
            Self::Present => value.is_some(),
            Self::Absent => value.is_none(),
        }
    }
}

impl EventFilter {
    /// Every `track` event of a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            kind: EventKind::Track,
            name: name.to_owned(),
            properties: Vec::new(),
        }
    }

    /// Whether the tests on properties hold; `find` gives a property's value.
    pub fn properties_hold<'p>(&self, find: impl Fn(&str) -> Option<&'p PropertyValue>) -> bool {
        self.properties
            .iter()
            .all(|filter| filter.is.holds(find(&filter.property)))
    }

    /// Whether an event is meant.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        event.kind == self.kind
            && event.name.as_ref() == self.name
            && self.properties_hold(|key| event.property(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_on_an_absent_property_holds_only_for_absent_and_not_equals() {
        let text = PropertyValue::Text("de".into());
        let number = PropertyValue::Number(3.0);
        let de = || Scalar::Text("de".to_owned());
        let cases = [
            (PropertyTest::Equals(de()), true, false, false),
            (PropertyTest::NotEquals(de()), false, true, true),
            (
                PropertyTest::OneOf(vec![Scalar::Number(3.0), de()]),
                true,
                true,
                false,
            ),
            (PropertyTest::AtLeast(3.0), false, true, false),
            (PropertyTest::AtMost(2.9), false, false, false),
            (PropertyTest::Present, true, true, false),
            (PropertyTest::Absent, false, false, true),
        ];
        for (test, of_text, of_number, of_nothing) in cases {
            assert_eq!(test.holds(Some(&text)), of_text, "{test:?}");
            assert_eq!(test.holds(Some(&number)), of_number, "{test:?}");
            assert_eq!(test.holds(None), of_nothing, "{test:?}");
        }
    }

    #[test]
    fn a_definition_reads_as_it_is_documented() {
        let text = r#"{"name":"purchase","properties":[{"property":"country","is":{"one_of":["DE","AT"]}}]}"#;
        let filter: EventFilter = serde_json::from_str(text).unwrap();
        assert_eq!(filter.kind, EventKind::Track);
        assert_eq!(
            serde_json::from_str::<EventFilter>(&serde_json::to_string(&filter).unwrap()).unwrap(),
            filter
        );
        assert!(serde_json::from_str::<EventFilter>(r#"{"name":"a","nmae":1}"#).is_err());
    }
}
