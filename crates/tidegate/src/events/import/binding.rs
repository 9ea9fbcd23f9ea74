//! A mapping tied to a file: which cell of a row is which part of an event, and rows made events.
//!
//! What comes out is the wire form of `POST /api/v1/events` without an id, so that an import goes
//! through the same rules as everything else that comes in.

use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_metrics::{EventId, EventKind, format_rfc3339};

use super::cell::Cell;
use super::mapping::{Field, Form, Mapping, MappingProblem, Outcome, Property, TimeUnit};

/// When a unit without a time of its own was exposed. It is part of every event's identity, so it
/// must not change from one import to the next.
const NO_TIME_US: i64 = 946_684_800_000_000;
/// How long before its exposure a unit's covariates are put.
const COVARIATE_LEAD_US: i64 = 1_000_000;

/// The columns a file has.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) names: Vec<String>,
    /// Whether there can be no others; in NDJSON each line has its own.
    pub(super) is_complete: bool,
}

/// One cell or one constant.
#[derive(Debug, Clone)]
enum Place {
    Cell(usize),
    Constant(Cell),
}

/// A mapping tied to a file's columns.
#[derive(Debug)]
pub(super) struct Binding {
    /// The columns that are needed; rows give their cells in this order.
    pub(super) needed: Vec<String>,
    /// How each key was understood, for people.
    pub(super) understood: Map<String, Value>,
    unit: Place,
    time: Place,
    time_unit: TimeUnit,
    id: Option<Place>,
    properties: Vec<(Property, Place)>,
    flags: Vec<(String, Place)>,
    form: BoundForm,
}

#[derive(Debug)]
enum BoundForm {
    Event {
        kind: Place,
        name: Place,
        value: Option<Place>,
        variant: Option<Place>,
    },
    Unit {
        flag: String,
        arm: Place,
        outcomes: Vec<(Outcome, Place)>,
        covariates: Vec<(Outcome, Place)>,
    },
}

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

impl Binding {
    /// Ties a mapping to the columns of a file.
    ///
    /// # Errors
    /// Every key that names what the file does not have.
    pub(super) fn new(mapping: &Mapping, columns: &Columns) -> Result<Self, Vec<MappingProblem>> {
        let mut binder = Binder {
            columns,
            needed: Vec::new(),
            understood: Map::new(),
            problems: Vec::new(),
        };
        let unit = binder.column("unit", &mapping.unit);
        let time = binder.time(mapping);
        let id = mapping.id.as_ref().map(|id| binder.column("id", id));
        let form = binder.form(&mapping.form);
        let properties = mapping
            .properties
            .iter()
            .map(|property| {
                let key = format!("properties.{}", property.name);
                (property.clone(), binder.either(&key, &property.source))
            })
            .collect();
        let flags = mapping
            .flags
            .iter()
            .map(|(flag, source)| {
                (
                    flag.clone(),
                    binder.either(&format!("flags.{flag}"), source),
                )
            })
            .collect();
        if !binder.problems.is_empty() {
            return Err(binder.problems);
        }
        Ok(Self {
            unit,
            time,
            time_unit: mapping.time_unit,
            id,
            properties,
            flags,
            form,
            needed: binder.needed,
            understood: binder.understood,
        })
    }

    /// Whether a row is one unit.
    pub(super) fn is_wide(&self) -> bool {
        matches!(self.form, BoundForm::Unit { .. })
    }

    /// Whether the file says what makes an event the same.
    pub(super) fn has_ids(&self) -> bool {
        self.id.is_some()
    }

    /// The column a place in the wire form came from.
    pub(super) fn column_of(&self, pointer: &str) -> String {
        let mut parts = pointer.split('/').skip(1);
        let (first, second) = (parts.next().unwrap_or(""), parts.next());
        let place = match (first, &self.form) {
            ("unit", _) => Some(&self.unit),
            ("time", _) => Some(&self.time),
            ("id", _) => self.id.as_ref(),
            ("kind", BoundForm::Event { kind, .. }) => Some(kind),
            ("name", BoundForm::Event { name, .. }) => Some(name),
            ("value", BoundForm::Event { value, .. }) => value.as_ref(),
            ("flags", BoundForm::Unit { arm, .. }) => Some(arm),
            ("flags", BoundForm::Event { variant, .. }) => self
                .flags
                .iter()
                .find(|(flag, _)| Some(flag.as_str()) == second)
                .map(|(_, place)| place)
                .or(variant.as_ref()),
            ("properties", _) => self
                .properties
                .iter()
                .find(|(property, _)| Some(property.name.as_str()) == second)
                .map(|(_, place)| place),
            _ => None,
        };
        match place {
            Some(Place::Cell(at)) => self.needed.get(*at).cloned().unwrap_or_default(),
            _ => first.to_owned(),
        }
    }

    /// The events of a row.
    ///
    /// # Errors
    /// Every cell that cannot be what the mapping says it is.
    pub(super) fn events(&self, cells: &[Cell]) -> Result<RowEvents, Vec<CellRefusal>> {
        let mut row = RowReader {
            binding: self,
            cells,
            refused: Vec::new(),
        };
        let made = row.events();
        if row.refused.is_empty() {
            Ok(made)
        } else {
            Err(row.refused)
        }
    }
}

struct Binder<'c> {
    columns: &'c Columns,
    needed: Vec<String>,
    understood: Map<String, Value>,
    problems: Vec<MappingProblem>,
}

impl Binder<'_> {
    fn has(&self, column: &str) -> bool {
        self.columns.names.iter().any(|name| name == column)
    }

    fn cell(&mut self, key: &str, column: &str) -> Place {
        self.understood
            .insert(key.to_owned(), Value::from(format!("column {column}")));
        let known = self.needed.iter().position(|name| name == column);
        Place::Cell(known.unwrap_or_else(|| {
            self.needed.push(column.to_owned());
            self.needed.len() - 1
        }))
    }

    fn constant(&mut self, key: &str, text: &str) -> Place {
        self.understood
            .insert(key.to_owned(), Value::from(format!("constant {text}")));
        Place::Constant(Cell::of_text(text))
    }

    fn no_column(&mut self, key: &str, column: &str) -> Place {
        let names: Vec<&str> = self
            .columns
            .names
            .iter()
            .take(40)
            .map(String::as_str)
            .collect();
        let detail = format!(
            "there is no column {column:?}; the file has {}",
            names.join(", ")
        );
        self.problems.push(MappingProblem::new(key, detail));
        Place::Constant(Cell::Absent)
    }

    /// What must be a column unless it is said to be a constant.
    fn column(&mut self, key: &str, field: &Field) -> Place {
        match field {
            Field::Constant(text) => self.constant(key, text),
            Field::Word(column) | Field::Column(column) if self.has(column) => {
                self.cell(key, column)
            }
            Field::Word(column) | Field::Column(column) => self.no_column(key, column),
        }
    }

    /// What may be left out of some rows, so that a file without a fixed set of columns may have it.
    fn sparse(&mut self, key: &str, field: &Field) -> Place {
        match field {
            Field::Word(column) | Field::Column(column) if !self.columns.is_complete => {
                self.cell(key, column)
            }
            _ => self.column(key, field),
        }
    }

    /// A column if there is one, else a constant if it was only a word.
    fn either(&mut self, key: &str, field: &Field) -> Place {
        match field {
            Field::Word(word) if !self.has(word) => self.constant(key, word),
            Field::Column(_) => self.sparse(key, field),
            _ => self.column(key, field),
        }
    }

    fn time(&mut self, mapping: &Mapping) -> Place {
        let Some(field) = &mapping.time else {
            return self.constant("time", &format_rfc3339(NO_TIME_US));
        };
        let place = match field {
            Field::Word(word)
                if !self.has(word) && Cell::of_text(word).time_us(TimeUnit::Auto).is_ok() =>
            {
                self.constant("time", word)
            }
            field => self.column("time", field),
        };
        if let Place::Constant(cell) = &place
            && let Err(reason) = cell.time_us(mapping.time_unit)
        {
            self.problems.push(MappingProblem::new("time", reason));
        }
        place
    }

    fn form(&mut self, form: &Form) -> BoundForm {
        match form {
            Form::Event {
                kind,
                name,
                value,
                variant,
            } => BoundForm::Event {
                kind: self.kind(kind),
                name: self.either("name", name),
                value: value.as_ref().map(|value| self.sparse("value", value)),
                variant: variant
                    .as_ref()
                    .map(|variant| self.sparse("variant", variant)),
            },
            Form::Unit {
                flag,
                arm,
                outcomes,
                covariates,
            } => {
                self.understood
                    .insert("wide.flag".to_owned(), Value::from(flag.clone()));
                BoundForm::Unit {
                    flag: flag.clone(),
                    arm: self.column("wide.arm", arm),
                    outcomes: self.outcomes("outcome", outcomes),
                    covariates: self.outcomes("covariate", covariates),
                }
            }
        }
    }

    fn kind(&mut self, field: &Field) -> Place {
        let place = self.either("kind", field);
        if let Place::Constant(cell) = &place
            && let Ok(Some(word)) = cell.text()
            && word.parse::<EventKind>().is_err()
        {
            let detail = format!(
                "{word:?} is neither a column of the file nor a kind; the kinds are track, exposure, \
                 request and evaluation"
            );
            self.problems.push(MappingProblem::new("kind", detail));
        }
        place
    }

    fn outcomes(&mut self, key: &str, outcomes: &[Outcome]) -> Vec<(Outcome, Place)> {
        let mut bound = Vec::new();
        for (index, outcome) in outcomes.iter().enumerate() {
            let key = format!("wide.{key}[{index}]");
            let place = self.column(&key, &Field::Column(outcome.column.clone()));
            bound.push((outcome.clone(), place));
        }
        bound
    }
}

struct RowReader<'r> {
    binding: &'r Binding,
    cells: &'r [Cell],
    refused: Vec<CellRefusal>,
}

static ABSENT: Cell = Cell::Absent;

impl<'r> RowReader<'r> {
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

#[cfg(test)]
mod tests {
    use super::super::mapping;
    use super::*;

    fn columns(names: &[&str]) -> Columns {
        Columns {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            is_complete: true,
        }
    }

    fn bind(text: &str, names: &[&str]) -> Result<Binding, Vec<MappingProblem>> {
        Binding::new(&mapping::read(text).unwrap(), &columns(names))
    }

    fn row(binding: &Binding, cells: &[(&str, &str)]) -> Result<RowEvents, Vec<CellRefusal>> {
        let find = |name: &String| {
            let found = cells.iter().find(|(column, _)| column == name);
            Cell::of_text(found.map_or("", |(_, text)| text))
        };
        let cells: Vec<Cell> = binding.needed.iter().map(find).collect();
        binding.events(&cells)
    }

    #[test]
    fn a_word_is_a_column_if_there_is_one_and_a_constant_if_that_can_be_meant() {
        let text =
            "unit = \"u\"\ntime = \"2026-06-01T00:00:00Z\"\nkind = \"track\"\nname = \"signup\"";
        let binding = bind(text, &["u"]).unwrap();
        assert_eq!(binding.needed, ["u"]);
        assert_eq!(binding.understood["name"], "constant signup");
        let made = row(&binding, &[("u", "17")]).unwrap();
        assert_eq!(
            made.events,
            [
                r#"{"time":"2026-06-01T00:00:00.000000Z","unit":"17","kind":"track","name":"signup"}"#
            ]
        );
        let problems = bind(text, &["user", "at"]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains("the file has user, at"));
        let unkind = "unit = \"u\"\ntime = \"t\"\nkind = \"click\"\nname = \"n\"\nvalue = \"v\"";
        let keys: Vec<String> = bind(unkind, &["u"])
            .unwrap_err()
            .into_iter()
            .map(|problem| problem.key)
            .collect();
        assert_eq!(keys, ["time", "kind", "value"]);
    }

    #[test]
    fn a_wide_row_is_an_exposure_and_an_event_for_each_outcome_that_is_not_zero() {
        let text = "unit = \"u\"\n[wide]\nflag = \"exp\"\narm = \"v\"\n\
                    [[wide.outcome]]\ncolumn = \"revenue\"\nname = \"purchase\"\n\
                    [[wide.outcome]]\ncolumn = \"clicks\"\nkeep_zero = true\n\
                    [[wide.covariate]]\ncolumn = \"before\"\nname = \"purchase\"\n";
        let binding = bind(text, &["u", "v", "revenue", "clicks", "before"]).unwrap();
        let cells = [
            ("u", "1"),
            ("v", "b"),
            ("revenue", "0"),
            ("clicks", "0"),
            ("before", "2.5"),
        ];
        let made = row(&binding, &cells).unwrap();
        let events: Vec<Value> = made
            .events
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect();
        let names: Vec<&str> = events.iter().map(|e| e["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["exp", "clicks", "purchase"]);
        assert_eq!(events[0]["flags"]["exp"], "b");
        assert_eq!(events[2]["time"], "1999-12-31T23:59:59.000000Z");
    }

    #[test]
    fn every_broken_cell_of_a_row_is_named() {
        let text = "unit = \"u\"\ntime = \"t\"\nname = \"n\"\nvalue = \"v\"";
        let binding = bind(text, &["u", "t", "v"]).unwrap();
        let refused = row(&binding, &[("t", "never"), ("v", "many")]).unwrap_err();
        let columns: Vec<&str> = refused.iter().map(|r| r.column.as_str()).collect();
        assert_eq!(columns, ["u", "t", "v"]);
        assert!(refused[0].reason.contains("is empty"));
    }
}
