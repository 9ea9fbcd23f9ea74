//! NDJSON: one object per line, each with its own members; types are those of JSON.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::super::binding::Columns;
use super::super::cell::Cell;
use super::super::row::CellRefusal;
use super::{Row, Rows};

/// The longest line that is read.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Lines looked at for the names of members.
const LINES_LOOKED_AT: usize = 1000;

/// The members of the first lines.
pub(super) fn columns(source: Box<dyn Read>) -> Result<Columns> {
    let mut lines = Lines::new(source);
    let mut names: Vec<String> = Vec::new();
    for _ in 0..LINES_LOOKED_AT {
        let Some(line) = lines.next_line()? else {
            break;
        };
        let Ok(object) = serde_json::from_slice::<Map<String, Value>>(line) else {
            continue;
        };
        for name in object.keys() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    Ok(Columns {
        names,
        is_complete: false,
    })
}

/// Lines of bounded length.
struct Lines {
    source: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
    number: u64,
    is_too_long: bool,
}

impl Lines {
    fn new(source: Box<dyn Read>) -> Self {
        Self {
            source: BufReader::new(source),
            line: Vec::new(),
            number: 0,
            is_too_long: false,
        }
    }

    /// The next line that is not blank. Of one that is too long the rest is passed over.
    fn next_line(&mut self) -> Result<Option<&[u8]>> {
        loop {
            self.line.clear();
            self.is_too_long = false;
            let limit = LINE_BYTES_MAX as u64 + 1;
            let read = (&mut self.source)
                .take(limit)
                .read_until(b'\n', &mut self.line)
                .with_context(|| format!("line {}", self.number + 1))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.line.len() > LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
                self.is_too_long = true;
                self.line.clear();
                self.source.skip_until(b'\n')?;
                return Ok(Some(&self.line));
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some(self.line.trim_ascii()));
            }
        }
    }
}

/// A pass over the lines.
pub(super) struct NdjsonRows {
    lines: Lines,
    needed: Vec<String>,
    number: u64,
}

impl NdjsonRows {
    /// Begins a pass.
    pub(super) fn new(source: Box<dyn Read>, needed: &[String]) -> Self {
        Self {
            lines: Lines::new(source),
            needed: needed.to_vec(),
            number: 0,
        }
    }
}

impl Rows for NdjsonRows {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let refuse = |reason: String| CellRefusal {
            column: String::new(),
            reason,
        };
        let parsed = match self.lines.next_line()? {
            None => return Ok(None),
            Some(line) => serde_json::from_slice::<Map<String, Value>>(line),
        };
        self.number += 1;
        let cells = match parsed {
            _ if self.lines.is_too_long => {
                Err(refuse(format!("is longer than {LINE_BYTES_MAX} bytes")))
            }
            Ok(object) => Ok(self
                .needed
                .iter()
                .map(|name| object.get(name).map_or(Cell::Absent, cell))
                .collect()),
            Err(error) => Err(refuse(format!("is no JSON object: {error}"))),
        };
        Ok(Some(Row {
            number: self.number,
            line: Some(self.lines.number),
            cells,
        }))
    }
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Absent,
        Value::Bool(truth) => Cell::Bool(*truth),
        Value::String(text) => Cell::of_text(text),
        Value::Array(_) => Cell::Unfit("a list"),
        Value::Object(_) => Cell::Unfit("an object"),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Cell::Integer(whole.into()),
            (_, Some(whole)) => Cell::Integer(whole.into()),
            _ => number.as_f64().map_or(Cell::Absent, Cell::Number),
        },
    }
}
