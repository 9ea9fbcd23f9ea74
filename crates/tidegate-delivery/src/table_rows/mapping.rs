//! From field names to columns, compiled against a header.

use super::kinds::{Field, RowKind};
use super::{RowProblem, kinds};
use crate::event::DeliveryEvent;
use crate::event_checks::problems_of;

/// Where a field's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Column(usize),
    Constant(String),
}

/// Why a mapping does not fit its table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingProblem {
    /// Not `field=column`.
    #[error("{text:?} is not a mapping; write field=column, or field=:value for a constant")]
    Unreadable {
        /// What was given.
        text: String,
    },
    /// A field that this kind of row does not have.
    #[error("{field:?} is no field of {kind}; its fields are {fields}")]
    UnknownField {
        /// What was given.
        field: String,
        /// Kind of row.
        kind: &'static str,
        /// Fields it has.
        fields: String,
    },
    /// A column that the table does not have.
    #[error("field {field:?}: the table has no column {column:?}; its columns are {columns}")]
    UnknownColumn {
        /// Field mapped.
        field: String,
        /// Column asked for.
        column: String,
        /// Columns there are.
        columns: String,
    },
    /// A required field without a column.
    #[error("{kind} need the field {field:?}; add {field}=<column> to the mapping")]
    Missing {
        /// Kind of row.
        kind: &'static str,
        /// Field left out.
        field: &'static str,
    },
}

/// A compiled mapping.
#[derive(Debug, Clone)]
pub struct RowMapping {
    kind: RowKind,
    source: String,
    columns: Vec<String>,
    origins: Vec<Option<Origin>>,
}

impl RowMapping {
    /// Compiles `field=column` pairs against a header. Fields left out are taken from columns of their own name.
    ///
    /// # Errors
    /// All [`MappingProblem`]s at once.
    pub fn compile(
        kind: RowKind,
        source: &str,
        pairs: &[&str],
        header: &[&str],
    ) -> Result<Self, Vec<MappingProblem>> {
        let fields = kind.fields();
        let mut origins: Vec<Option<Origin>> = fields
            .iter()
            .map(|field| {
                header
                    .iter()
                    .position(|c| *c == field.name)
                    .map(Origin::Column)
            })
            .collect();
        let mut problems = Vec::new();
        for pair in pairs {
            match resolve(kind, pair, header) {
                Ok((place, origin)) => origins[place] = Some(origin),
                Err(problem) => problems.push(problem),
            }
        }
        for (field, origin) in fields.iter().zip(&origins) {
            if field.required && origin.is_none() {
                problems.push(MappingProblem::Missing {
                    kind: kind.name(),
                    field: field.name,
                });
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let columns = header.iter().map(|&name| name.to_owned()).collect();
        Ok(Self {
            kind,
            source: source.to_owned(),
            columns,
            origins,
        })
    }

    /// The event that a record stands for.
    ///
    /// # Errors
    /// The first [`RowProblem`] of the record.
    pub fn event<'r>(
        &'r self,
        cell: impl Fn(usize) -> Option<&'r str>,
    ) -> Result<DeliveryEvent, RowProblem> {
        let record = Record {
            mapping: self,
            cell: &cell,
        };
        let event = kinds::read(self.kind, &self.source, &record)?;
        match problems_of(&event).into_iter().next() {
            None => Ok(event),
            Some(problem) => Err(RowProblem {
                column: "row".to_owned(),
                cause: problem.to_string(),
                cure: "correct the row",
            }),
        }
    }
}

fn resolve(kind: RowKind, pair: &str, header: &[&str]) -> Result<(usize, Origin), MappingProblem> {
    let Some((field, column)) = pair.split_once('=') else {
        return Err(MappingProblem::Unreadable {
            text: pair.to_owned(),
        });
    };
    let (field, column) = (field.trim(), column.trim());
    let Some(place) = kind.fields().iter().position(|f| f.name == field) else {
        let names: Vec<&str> = kind.fields().iter().map(|f| f.name).collect();
        return Err(MappingProblem::UnknownField {
            field: field.to_owned(),
            kind: kind.name(),
            fields: names.join(", "),
        });
    };
    if let Some(constant) = column.strip_prefix(':') {
        return Ok((place, Origin::Constant(constant.to_owned())));
    }
    match header.iter().position(|name| *name == column) {
        Some(index) => Ok((place, Origin::Column(index))),
        None => Err(MappingProblem::UnknownColumn {
            field: field.to_owned(),
            column: column.to_owned(),
            columns: header.join(", "),
        }),
    }
}

/// One record seen through a mapping.
pub(super) struct Record<'c, 'r> {
    mapping: &'r RowMapping,
    cell: &'c dyn Fn(usize) -> Option<&'r str>,
}

impl<'r> Record<'_, 'r> {
    /// The field's text, or `None` when it is unmapped or blank.
    pub(super) fn optional(&self, field: Field) -> Option<&'r str> {
        let text = match self.mapping.origins[self.place(field)].as_ref()? {
            Origin::Column(index) => (self.cell)(*index)?,
            Origin::Constant(text) => text.as_str(),
        };
        Some(text.trim()).filter(|text| !text.is_empty())
    }

    /// The field's text.
    pub(super) fn required(&self, field: Field) -> Result<&'r str, RowProblem> {
        self.optional(field).ok_or_else(|| {
            self.problem(
                field,
                "is blank".to_owned(),
                "fill it in or leave the row out",
            )
        })
    }

    /// The field read by `read`, if it is there.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &self,
        field: Field,
        cure: &'static str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, RowProblem> {
        self.optional(field)
            .map(|text| read(text).map_err(|error| self.problem(field, error.to_string(), cure)))
            .transpose()
    }

    pub(super) fn problem(&self, field: Field, cause: String, cure: &'static str) -> RowProblem {
        let column = match &self.mapping.origins[self.place(field)] {
            Some(Origin::Column(index)) => self.mapping.columns[*index].clone(),
            _ => field.name.to_owned(),
        };
        RowProblem {
            column,
            cause,
            cure,
        }
    }

    fn place(&self, field: Field) -> usize {
        let fields = self.mapping.kind.fields();
        fields
            .iter()
            .position(|f| f.name == field.name)
            .unwrap_or(0)
    }
}
