//! What became of an import: counts, and every row refused with its place and reason.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use super::row::CellRefusal;
use crate::output::{self, Format};

/// Refusals kept for the answer; all are counted, and all are in the file of `--refused`.
const MAX_LISTED: usize = 10_000;
/// Refusals shown to people.
const MAX_SHOWN: usize = 20;

/// One refused cell or row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Refused {
    /// The row, counted from 1 without the header.
    pub(super) row: u64,
    /// The line it begins at, in files that have lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u64>,
    /// The column; `null` for the row as a whole.
    pub(super) column: Option<String>,
    /// What is wrong, and the cure.
    pub(super) reason: String,
}

/// What became of an import.
#[derive(Debug, Default, Serialize)]
pub(super) struct ImportReport {
    pub(super) file: String,
    /// How the mapping was understood.
    pub(super) mapping: Map<String, Value>,
    pub(super) strict: bool,
    /// Whether anything could be imported; with `--strict` one refused row keeps all out.
    pub(super) imported: bool,
    pub(super) rows: u64,
    pub(super) imported_rows: u64,
    pub(super) refused_rows: u64,
    /// Events the imported rows say.
    pub(super) events: u64,
    /// Events taken.
    pub(super) accepted: u64,
    /// Events that were there already.
    pub(super) duplicates: u64,
    /// Events more than 24 hours ahead: stored and in no answer.
    pub(super) quarantined: u64,
    pub(super) refused: Vec<Refused>,
    /// Refusals beyond those listed.
    pub(super) refused_unlisted: u64,
    #[serde(skip)]
    pub(super) all_refused: Option<RefusedFile>,
}

/// The file that takes every refusal.
#[derive(Debug)]
pub(super) struct RefusedFile(BufWriter<File>);

impl RefusedFile {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(BufWriter::new(file)))
    }
}

impl ImportReport {
    /// Counts a refused row.
    pub(super) fn refuse(
        &mut self,
        (row, line): (u64, Option<u64>),
        refusals: Vec<CellRefusal>,
    ) -> Result<()> {
        self.refused_rows += 1;
        for CellRefusal { column, reason } in refusals {
            let refused = Refused {
                row,
                line,
                column: Some(column).filter(|column| !column.is_empty()),
                reason,
            };
            if let Some(RefusedFile(file)) = &mut self.all_refused {
                serde_json::to_writer(&mut *file, &refused)?;
                file.write_all(b"\n").context("writing --refused")?;
            }
            if self.refused.len() < MAX_LISTED {
                self.refused.push(refused);
            } else {
                self.refused_unlisted += 1;
            }
        }
        Ok(())
    }

    /// Prints it. Rows refused late come after ones refused early; people want them in order.
    pub(super) fn print(&mut self, format: Format) -> Result<()> {
        if let Some(RefusedFile(file)) = &mut self.all_refused {
            file.flush().context("writing --refused")?;
        }
        self.refused.sort_by_key(|refused| refused.row);
        if format == Format::Json {
            return output::json(&serde_json::to_value(&*self)?);
        }
        for (key, understood) in &self.mapping {
            let understood = understood.as_str().unwrap_or_default();
            output::line(&format!("{key:<24} {understood}"));
        }
        output::line(&format!(
            "{} rows: {} imported, {} refused",
            self.rows, self.imported_rows, self.refused_rows
        ));
        output::line(&format!(
            "{} events: {} taken, {} were there already, {} quarantined",
            self.events, self.accepted, self.duplicates, self.quarantined
        ));
        for refused in self.refused.iter().take(MAX_SHOWN) {
            let line = refused
                .line
                .map_or_else(String::new, |line| format!(" (line {line})"));
            let column = refused
                .column
                .as_ref()
                .map_or_else(String::new, |column| format!(", column {column:?}"));
            let Refused { row, reason, .. } = refused;
            output::line(&format!("row {row}{line}{column}: {reason}"));
        }
        let listed = self.refused.len().min(MAX_SHOWN) as u64;
        let left = self.refused.len() as u64 + self.refused_unlisted - listed;
        if left > 0 {
            output::line(&format!(
                "and {left} more; --refused FILE writes all of them, -o json lists {MAX_LISTED}"
            ));
        }
        Ok(())
    }
}
