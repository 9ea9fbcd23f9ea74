//! A mapping tied to a file: which cell of a row is which part of an event.

use serde_json::{Map, Value};
use tidegate_metrics::{EventKind, format_rfc3339};

use super::cell::Cell;
use super::mapping::{Field, Form, Mapping, MappingProblem, Outcome, Property, TimeUnit};
use super::row::{CellRefusal, RowEvents, RowReader};

/// When a unit without a time of its own was exposed. It is part of every event's identity, so it
/// must not change from one import to the next.
const NO_TIME_US: i64 = 946_684_800_000_000;
/// How a complaint begins about a column that the mapping itself fails to name.
pub(super) const NO_COLUMN_NAMED: &str = "there is no column \"\"";

/// The columns a file has.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) names: Vec<String>,
    /// Whether there can be no others; in NDJSON each line has its own.
    pub(super) is_complete: bool,
}

/// One cell or one constant.
#[derive(Debug, Clone)]
pub(super) enum Place {
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
    pub(super) unit: Place,
    pub(super) time: Place,
    pub(super) time_unit: TimeUnit,
    pub(super) id: Option<Place>,
    pub(super) properties: Vec<(Property, Place)>,
    pub(super) flags: Vec<(String, Place)>,
    pub(super) form: BoundForm,
}

/// What a row is, tied to cells.
#[derive(Debug)]
pub(super) enum BoundForm {
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
        RowReader::new(self, cells).read_events()
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
