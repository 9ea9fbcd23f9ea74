//! Which filters of a query an event matches, as a bit mask.
//!
//! Kind and name decide almost every event, and a block has few sorts of them: each is looked at
//! once per block, and the rows of those that no filter names are never touched. Tests on
//! properties parse the JSON text of the few events whose name matches.

use crate::columns::{Block, Column, Sort, Texts};
use rustc_hash::FxHashMap;
use serde_json::value::RawValue;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use tidegate_metrics::{ClassifiedEvent, EventFilter, PropertyValue};

pub(super) struct Classifier<'q> {
    filters: Vec<&'q EventFilter>,
    by_sort: FxHashMap<Sort, Vec<usize>>,
    with_values: bool,
    /// Rows found in a block, in memory that is used again for the next.
    found: Cell<Vec<u32>>,
}

/// What a question wants of one block.
struct Wanted {
    /// By code: the filters that kind and name match.
    masks: Vec<u64>,
    is_wanted: Vec<bool>,
    with_tests: u64,
}

impl<'q> Classifier<'q> {
    pub(super) fn new(filters: &[&'q EventFilter], texts: &Texts, with_values: bool) -> Self {
        let mut by_sort: FxHashMap<Sort, Vec<usize>> = FxHashMap::default();
        for (number, filter) in filters.iter().enumerate() {
            if let Some(name) = texts.find(&filter.name) {
                let kind = filter.kind;
                by_sort.entry(Sort { kind, name }).or_default().push(number);
            }
        }
        Self {
            filters: filters.to_vec(),
            by_sort,
            with_values,
            found: Cell::default(),
        }
    }

    /// The filters that a sort of event matches by kind and name.
    pub(super) fn filters_of(&self, sort: Sort) -> &[usize] {
        self.by_sort.get(&sort).map_or(&[], Vec::as_slice)
    }

    /// Whether a filter tests properties too.
    pub(super) fn has_tests(&self, filter: usize) -> bool {
        let filter = self.filters.get(filter);
        filter.is_some_and(|filter| !filter.properties.is_empty())
    }

    /// Of some filters those that a row matches altogether; kind and name are known to match.
    pub(super) fn confirmed(&self, candidates: &[usize], block: &Block, row: usize) -> Vec<usize> {
        let properties = parse_properties(block.property_text(row));
        let holds = |number: &&usize| {
            let filter = self.filters.get(**number);
            filter.is_some_and(|filter| filter.properties_hold(|key| properties.get(key)))
        };
        candidates.iter().filter(holds).copied().collect()
    }

    fn wanted(&self, block: &Block, filters: &Range<usize>) -> Wanted {
        let bit = |number: &usize| -> u64 {
            let is_asked = filters.contains(number);
            if is_asked {
                1 << (number - filters.start)
            } else {
                0
            }
        };
        let mask = |sort: &Sort| self.filters_of(*sort).iter().map(bit).sum();
        let masks: Vec<u64> = block.sorts().iter().map(mask).collect();
        let tested = filters.clone().filter(|number| self.has_tests(*number));
        Wanted {
            is_wanted: masks.iter().map(|mask| *mask != 0).collect(),
            masks,
            with_tests: tested.map(|number| bit(&number)).sum(),
        }
    }

    /// Hands over the rows that match one of some filters, at most 64, in order; bit `i` of a row
    /// is the filter `filters.start + i`. With `every`, the rows that match none come too.
    #[inline]
    pub(super) fn each(
        &self,
        block: &Block,
        filters: &Range<usize>,
        every: bool,
        each: impl FnMut(ClassifiedEvent),
    ) {
        let wanted = self.wanted(block, filters);
        // Found first and looked at then: what is looked at lies apart, and memory that is asked
        // for in a loop without guesses comes several pieces at a time.
        let mut found = self.found.take();
        if !every {
            block.rows_of(&wanted.is_wanted, &mut found);
        }
        let question = Question {
            classifier: self,
            block,
            filters,
            wanted: &wanted,
            rows: (!every).then_some(found.as_slice()),
        };
        match (block.codes(), block.units()) {
            (Column::Narrow(codes), Column::Narrow(units)) => question.put(codes, units, each),
            (Column::Narrow(codes), Column::Wide(units)) => question.put(codes, units, each),
            (Column::Wide(codes), Column::Narrow(units)) => question.put(codes, units, each),
            (Column::Wide(codes), Column::Wide(units)) => question.put(codes, units, each),
        }
        self.found.set(found);
    }

    fn tested(&self, matched: u64, filters: &Range<usize>, block: &Block, row: usize) -> u64 {
        let candidates: Vec<usize> = filters
            .clone()
            .filter(|number| matched >> (number - filters.start) & 1 == 1)
            .collect();
        let confirmed = self.confirmed(&candidates, block, row).into_iter();
        confirmed.map(|number| 1 << (number - filters.start)).sum()
    }

    /// Which of some filters, at most 64, one row matches; see [`Classifier::each`].
    pub(super) fn matched(&self, block: &Block, row: usize, filters: &Range<usize>) -> u64 {
        let Some(sort) = block.sorts().get(block.code(row)) else {
            return 0;
        };
        let asked = self.filters_of(*sort).iter().copied();
        let asked: Vec<usize> = asked.filter(|number| filters.contains(number)).collect();
        let confirmed = match asked.iter().any(|number| self.has_tests(*number)) {
            true => self.confirmed(&asked, block, row),
            false => asked,
        };
        let bits = confirmed.into_iter();
        bits.map(|number| 1 << (number - filters.start)).sum()
    }

    /// The rows of a block that match a filter; see [`Classifier::each`].
    pub(super) fn events(&self, block: &Block, filters: &Range<usize>) -> Vec<ClassifiedEvent> {
        let mut events = Vec::new();
        self.each(block, filters, false, |event| events.push(event));
        events
    }
}

/// What is asked of one block.
struct Question<'a, 'q> {
    classifier: &'a Classifier<'q>,
    block: &'a Block,
    filters: &'a Range<usize>,
    wanted: &'a Wanted,
    /// The rows whose kind and name are wanted; without them every row is.
    rows: Option<&'a [u32]>,
}

impl Question<'_, '_> {
    fn put<C: Copy + Into<u32>, U: Copy + Into<u32>>(
        &self,
        codes: &[C],
        units: &[U],
        mut each: impl FnMut(ClassifiedEvent),
    ) {
        let (mut times, mut values) = (self.block.times(), self.block.values());
        let with_values = self.classifier.with_values;
        let mut give = |row: usize| {
            let (Some(code), Some(unit)) = (codes.get(row), units.get(row)) else {
                return;
            };
            let code = usize::try_from((*code).into()).unwrap_or(usize::MAX);
            let mut matched = self.wanted.masks.get(code).copied().unwrap_or(0);
            if matched & self.wanted.with_tests != 0 {
                matched = self
                    .classifier
                    .tested(matched, self.filters, self.block, row);
                if matched == 0 && self.rows.is_some() {
                    return;
                }
            }
            each(ClassifiedEvent {
                unit: (*unit).into(),
                time_us: times.of(row),
                matched,
                value: if with_values {
                    values.of(row)
                } else {
                    f64::NAN
                },
            });
        };
        match self.rows {
            None => (0..self.block.len()).for_each(give),
            Some(rows) => {
                for row in rows {
                    give(usize::try_from(*row).unwrap_or(usize::MAX));
                }
            }
        }
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
