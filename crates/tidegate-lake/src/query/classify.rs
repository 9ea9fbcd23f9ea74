//! Which filters of a query an event matches, as a bit mask.
//!
//! The name decides almost every event by one table look-up. Tests on properties parse the JSON
//! text of the few events whose name matches.

use crate::columns::{Rows, Texts};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tidegate_metrics::{ClassifiedEvent, EventFilter, PropertyValue};

pub(super) struct Classifier<'q> {
    filters: Vec<&'q EventFilter>,
    /// By interned name: the filters of that name.
    by_name: Vec<u64>,
    with_tests: u64,
}

impl<'q> Classifier<'q> {
    pub(super) fn new(filters: &[&'q EventFilter], texts: &Texts) -> Self {
        let mut by_name = vec![0; texts.count()];
        let mut with_tests = 0;
        for (bit, filter) in filters.iter().enumerate() {
            let number = texts.find(&filter.name);
            let at = number.and_then(|number| usize::try_from(number).ok());
            if let Some(mask) = at.and_then(|at| by_name.get_mut(at)) {
                *mask |= 1 << bit;
            }
            with_tests |= u64::from(!filter.properties.is_empty()) << bit;
        }
        Self {
            filters: filters.to_vec(),
            by_name,
            with_tests,
        }
    }

    /// The rows as a fold needs them. With `any`, every event counts as a match.
    pub(super) fn events<'r>(
        &'r self,
        rows: &'r Rows,
        any: bool,
    ) -> impl Iterator<Item = ClassifiedEvent> + use<'r, 'q> {
        let columns = rows.unit.iter().zip(&rows.time_us).zip(&rows.value);
        let named = columns.zip(&rows.name).enumerate();
        named.map(
            move |(row, (((unit, time_us), value), name))| ClassifiedEvent {
                unit: *unit,
                time_us: *time_us,
                matched: self.matched(rows, row, *name, any),
                value: *value,
            },
        )
    }

    /// One row as a fold needs it.
    pub(super) fn one(&self, rows: &Rows, row: usize, any: bool) -> Option<ClassifiedEvent> {
        Some(ClassifiedEvent {
            unit: *rows.unit.get(row)?,
            time_us: *rows.time_us.get(row)?,
            matched: self.matched(rows, row, *rows.name.get(row)?, any),
            value: *rows.value.get(row)?,
        })
    }

    fn matched(&self, rows: &Rows, row: usize, name: u32, any: bool) -> u64 {
        let at = usize::try_from(name).unwrap_or(usize::MAX);
        let candidates = self.by_name.get(at).copied().unwrap_or(0);
        match (any, candidates) {
            (true, _) => 1,
            (false, 0) => 0,
            (false, candidates) => self.confirmed(candidates, rows, row),
        }
    }

    fn confirmed(&self, candidates: u64, rows: &Rows, row: usize) -> u64 {
        let properties = if candidates & self.with_tests == 0 {
            BTreeMap::new()
        } else {
            parse_properties(rows.property_text(row))
        };
        let mut matched = 0;
        for (bit, filter) in self.filters.iter().enumerate() {
            let is_candidate = candidates >> bit & 1 == 1;
            if is_candidate
                && rows.kind.get(row) == Some(&filter.kind)
                && filter.properties_hold(|key| properties.get(key))
            {
                matched |= 1 << bit;
            }
        }
        matched
    }
}

fn parse_properties(text: Option<&str>) -> BTreeMap<String, PropertyValue> {
    let raw = text.and_then(|text| serde_json::from_str::<BTreeMap<String, &RawValue>>(text).ok());
    let members = raw.into_iter().flatten();
    members
        .filter_map(|(key, value)| Some((key, scalar(value.get())?)))
        .collect()
}

fn scalar(json: &str) -> Option<PropertyValue> {
    match json {
        "true" => Some(PropertyValue::Bool(true)),
        "false" => Some(PropertyValue::Bool(false)),
        text if text.starts_with('"') => {
            let text: String = serde_json::from_str(text).ok()?;
            Some(PropertyValue::Text(text.into()))
        }
        // The standard library's parser is exact to the last bit, which a property test needs.
        number => number.parse().ok().map(PropertyValue::Number),
    }
}

/// A property's value as the name of a segment.
pub(super) fn property_as_text(text: Option<&str>, property: &str) -> Option<String> {
    match parse_properties(text).remove(property)? {
        PropertyValue::Bool(value) => Some(value.to_string()),
        PropertyValue::Number(value) => Some(value.to_string()),
        PropertyValue::Text(text) => Some(text.into()),
    }
}
