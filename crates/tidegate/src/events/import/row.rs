//! Rows made events.
//!
//! What comes out is the wire form of `POST /api/v1/events` without an id, so that an import goes
//! through the same rules as everything else that comes in.

use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_metrics::{EventId, format_rfc3339};

use super::binding::{Binding, BoundForm, Place};
use super::cell::Cell;

/// How long before its exposure a unit's covariates are put.
const COVARIATE_LEAD_US: i64 = 1_000_000;

/// Why a row, or one cell of it, was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CellRefusal {
    /// The column; empty for the row as a whole.
    pub(super) column: String,
    pub(super) reason: String,
}

/// The events of one row.
#[derive(Debug, Default)]
pub(super) struct RowEvents {
    /// The wire form of each, without an id.
    pub(super) events: Vec<String>,
    /// The id the file gives.
    pub(super) id: Option<EventId>,
    /// What must not come twice: the unit and its arm, where a row is one unit.
    pub(super) only_once: Option<String>,
}

#[derive(Serialize)]
struct Wire<'w> {
    time: &'w str,
    unit: &'w str,
    kind: &'w str,
    name: &'w str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    properties: &'w Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    flags: &'w Map<String, Value>,
}

/// One row under reading.
pub(super) struct RowReader<'r> {
    binding: &'r Binding,
    cells: &'r [Cell],
    refused: Vec<CellRefusal>,
}

static ABSENT: Cell = Cell::Absent;

impl<'r> RowReader<'r> {
    pub(super) fn new(binding: &'r Binding, cells: &'r [Cell]) -> Self {
        Self {
            binding,
            cells,
            refused: Vec::new(),
        }
    }

    /// The row's events, or every cell that cannot be what the mapping says it is.
    pub(super) fn read_events(mut self) -> Result<RowEvents, Vec<CellRefusal>> {
        let made = self.events();
        if self.refused.is_empty() {
            Ok(made)
        } else {
            Err(self.refused)
        }
    }

    fn cell(&self, place: &'r Place) -> &'r Cell {
        match place {
            Place::Cell(at) => self.cells.get(*at).unwrap_or(&ABSENT),
            Place::Constant(cell) => cell,
        }
    }

    fn refuse(&mut self, place: &Place, reason: String) {
        let column = match place {
            Place::Cell(at) => self.binding.needed.get(*at).cloned().unwrap_or_default(),
            Place::Constant(_) => String::new(),
        };
        self.refused.push(CellRefusal { column, reason });
    }

    /// What a cell is read as; a refusal is kept and reads as absent.
    fn read<T>(
        &mut self,
        place: &'r Place,
        read: impl Fn(&Cell) -> Result<Option<T>, String>,
    ) -> Option<T> {
        let outcome = read(self.cell(place));
        outcome.unwrap_or_else(|reason| {
            self.refuse(place, reason);
            None
        })
    }

    /// The same for what must be there.
    fn need<T>(
        &mut self,
        place: &'r Place,
        read: impl Fn(&Cell) -> Result<Option<T>, String>,
    ) -> Option<T> {
        let before = self.refused.len();
        let found = self.read(place, read);
        if found.is_none() && self.refused.len() == before {
            self.refuse(
                place,
                "is empty; fill the cell or leave out the row".to_owned(),
            );
        }
        found
    }

    fn events(&mut self) -> RowEvents {
        let binding = self.binding;
        let unit = self.need(&binding.unit, Cell::text).unwrap_or_default();
        let time_us = self
            .need(&binding.time, |cell| cell.time_us(binding.time_unit))
            .unwrap_or_default();
        let mut properties = Map::new();
        for (property, place) in &binding.properties {
            if let Some(value) = self.read(place, |cell| cell.property(property.kind)) {
                properties.insert(property.name.clone(), value);
            }
        }
        let mut flags = Map::new();
        for (flag, place) in &binding.flags {
            if let Some(variant) = self.read(place, Cell::text) {
                flags.insert(flag.clone(), Value::from(variant));
            }
        }
        let base = Base {
            unit,
            time_us,
            properties,
            flags,
        };
        match &binding.form {
            BoundForm::Event { .. } => self.one_event(base),
            BoundForm::Unit { .. } => self.one_unit(base),
        }
    }

    fn one_event(&mut self, mut base: Base) -> RowEvents {
        let binding = self.binding;
        let BoundForm::Event {
            kind,
            name,
            value,
            variant,
        } = &binding.form
        else {
            return RowEvents::default();
        };
        let kind = self.need(kind, Cell::text).unwrap_or_default();
        let name = self.need(name, Cell::text).unwrap_or_default();
        let value = value
            .as_ref()
            .and_then(|place| self.read(place, Cell::number));
        let is_served = matches!(kind.as_str(), "exposure" | "evaluation");
        if let Some(place) = variant.as_ref().filter(|_| is_served)
            && let Some(variant) = self.need(place, Cell::text)
        {
            base.flags.insert(name.clone(), Value::from(variant));
        }
        let id = binding
            .id
            .as_ref()
            .and_then(|place| self.need(place, Cell::text))
            .map(|text| {
                text.parse()
                    .unwrap_or_else(|_| EventId::hashed(&[text.as_bytes()]))
            });
        let mut made = RowEvents {
            id,
            ..RowEvents::default()
        };
        self.push(&mut made, &base, base.time_us, (&kind, &name, value));
        made
    }

    fn one_unit(&mut self, mut base: Base) -> RowEvents {
        let binding = self.binding;
        let BoundForm::Unit {
            flag,
            arm,
            outcomes,
            covariates,
        } = &binding.form
        else {
            return RowEvents::default();
        };
        let variant = self.need(arm, Cell::text).unwrap_or_default();
        let mut made = RowEvents {
            only_once: Some(format!("{}\u{0}{variant}", base.unit)),
            ..RowEvents::default()
        };
        base.flags.insert(flag.clone(), Value::from(variant));
        self.push(&mut made, &base, base.time_us, ("exposure", flag, None));
        let before_us = base.time_us - COVARIATE_LEAD_US;
        let timed = outcomes
            .iter()
            .map(|outcome| (outcome, base.time_us))
            .chain(covariates.iter().map(|outcome| (outcome, before_us)));
        for ((outcome, place), time_us) in timed {
            let Some(value) = self.read(place, Cell::number) else {
                continue;
            };
            if value != 0.0 || outcome.keeps_zero {
                let event = ("track", outcome.name.as_str(), Some(value));
                self.push(&mut made, &base, time_us, event);
            }
        }
        made
    }

    fn push(
        &mut self,
        made: &mut RowEvents,
        base: &Base,
        time_us: i64,
        (kind, name, value): (&str, &str, Option<f64>),
    ) {
        let wire = Wire {
            time: &format_rfc3339(time_us),
            unit: &base.unit,
            kind,
            name,
            value,
            properties: &base.properties,
            flags: &base.flags,
        };
        match serde_json::to_string(&wire) {
            Ok(text) => made.events.push(text),
            Err(error) => self.refused.push(CellRefusal {
                column: String::new(),
                reason: error.to_string(),
            }),
        }
    }
}

/// What the events of one row share.
struct Base {
    unit: String,
    time_us: i64,
    properties: Map<String, Value>,
    flags: Map<String, Value>,
}
