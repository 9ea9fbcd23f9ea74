//! CSV: a header, then records; everything is text, blanks around a cell are cut.
//!
//! A record with another number of cells than the header, or with a cell that is not UTF-8, is
//! refused by itself. A quote that is not closed swallows the lines after it; the refusal says how
//! far the record went, and one that never ends is an error before it is held.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

use super::super::binding::Columns;
use super::super::cell::Cell;
use super::super::row::CellRefusal;
use super::{Row, Rows};
use crate::table_file::{Budgeted, RecordBudget};

type Reader = csv::Reader<Budgeted<Box<dyn Read>>>;

fn open(source: Box<dyn Read>, delimiter: u8) -> Result<(Reader, RecordBudget, Vec<String>)> {
    let budget = RecordBudget::default();
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(Budgeted {
            inner: source,
            budget: budget.clone(),
        });
    let header = reader.headers().context("the header")?;
    let names: Vec<String> = header
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_owned())
        .collect();
    ensure!(
        !names.is_empty(),
        "the file is empty; its first line names the columns"
    );
    for (index, name) in names.iter().enumerate() {
        let is_again = names.iter().take(index).any(|before| before == name);
        ensure!(
            !is_again || name.is_empty(),
            "the header has the column {name:?} twice; give each its own name"
        );
    }
    Ok((reader, budget, names))
}

/// The columns of the header.
pub(super) fn columns(source: Box<dyn Read>, delimiter: u8) -> Result<Columns> {
    let (_, _, names) = open(source, delimiter)?;
    Ok(Columns {
        names,
        is_complete: true,
    })
}

/// A pass over the records.
pub(super) struct CsvRows {
    reader: Reader,
    budget: RecordBudget,
    record: csv::ByteRecord,
    width: usize,
    places: Vec<(usize, String)>,
    number: u64,
}

impl CsvRows {
    /// Begins a pass.
    pub(super) fn new(source: Box<dyn Read>, delimiter: u8, needed: &[String]) -> Result<Self> {
        let (reader, budget, names) = open(source, delimiter)?;
        let mut places = Vec::new();
        for column in needed {
            let Some(at) = names.iter().position(|name| name == column) else {
                bail!("the file has lost its column {column:?} since it was looked at");
            };
            places.push((at, column.clone()));
        }
        Ok(Self {
            width: names.len(),
            reader,
            budget,
            record: csv::ByteRecord::new(),
            places,
            number: 0,
        })
    }

    fn cells(&self, lines: u64) -> Result<Vec<Cell>, CellRefusal> {
        if self.record.len() != self.width {
            let swallowed = match lines {
                0 | 1 => String::new(),
                _ => format!(" and runs over {lines} lines; is a quote not closed?"),
            };
            return Err(CellRefusal {
                column: String::new(),
                reason: format!(
                    "has {} cells where the header has {}{swallowed}",
                    self.record.len(),
                    self.width
                ),
            });
        }
        let cell = |(at, column): &(usize, String)| {
            let bytes = self.record.get(*at).unwrap_or_default();
            match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Cell::of_text(text)),
                Err(_) => Err(CellRefusal {
                    column: column.clone(),
                    reason: "is not UTF-8; save the file as UTF-8".to_owned(),
                }),
            }
        };
        self.places.iter().map(cell).collect()
    }
}

impl Rows for CsvRows {
    fn next_row(&mut self) -> Result<Option<Row>> {
        self.budget.renew();
        let is_there = self
            .reader
            .read_byte_record(&mut self.record)
            .with_context(|| format!("row {}", self.number + 1))?;
        if !is_there {
            return Ok(None);
        }
        self.number += 1;
        let line = self.record.position().map(csv::Position::line);
        let end = self.reader.position().line();
        let lines = line.map_or(0, |line| end.saturating_sub(line));
        Ok(Some(Row {
            number: self.number,
            line,
            cells: self.cells(lines),
        }))
    }
}
