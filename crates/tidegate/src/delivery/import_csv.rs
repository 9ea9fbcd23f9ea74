//! `delivery import-csv`: a table into the log, streamed, with a report per broken row.
//!
//! Rows that read become one atomic append; rows that do not are reported by line, column, cause and cure.
//! With `--strict` one broken row keeps everything out.
//! Memory stays constant: a record longer than 1 MiB (an unclosed quote swallows the rest of a file) ends the import
//! before it is held.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tidegate_delivery::table_rows::{ALL_KINDS, RowKind, RowMapping, RowProblem};

use super::sink::{Counts, Sink};
use super::{LogArgs, OutputFormat, print_json, print_line};
use crate::table_file::{Budgeted, RecordBudget, open};

/// Broken rows listed in full; all are counted.
const MAX_PROBLEMS_LISTED: usize = 100;

/// Import a CSV table of deployments, changes, incidents or items.
#[derive(Debug, Args)]
pub(crate) struct ImportCsv {
    /// The table; gzip is recognised.
    #[arg(long)]
    file: PathBuf,
    /// What its rows are.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Fields and columns: time=unix,service=app,environment=:production (a colon gives a constant).
    #[arg(long, value_delimiter = ',')]
    map: Vec<String>,
    /// Name of the sender under which deliveries are told apart [default: csv:<kind>].
    #[arg(long)]
    source: Option<String>,
    /// Import nothing if one row is broken.
    #[arg(long)]
    strict: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Deployments,
    Changes,
    Incidents,
    Items,
}

impl Kind {
    fn rows(self) -> RowKind {
        ALL_KINDS[self as usize]
    }
}

/// What became of a table.
#[derive(Debug, Default, Serialize)]
struct ImportReport {
    rows: u64,
    imported: u64,
    known: u64,
    conflicts: u64,
    rejected: u64,
    committed: bool,
    problems: Vec<LineProblem>,
}

#[derive(Debug, Serialize)]
struct LineProblem {
    line: u64,
    column: String,
    cause: String,
    cure: &'static str,
}

impl ImportCsv {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let budget = RecordBudget::default();
        let input = Budgeted {
            inner: open(&self.file)?,
            budget: budget.clone(),
        };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
        let header = reader
            .headers()
            .with_context(|| format!("reading the header of {}", self.file.display()))?
            .clone();
        let columns: Vec<&str> = header.iter().map(str::trim).collect();
        let pairs: Vec<&str> = self.map.iter().map(String::as_str).collect();
        let kind = self.kind.rows();
        let source = self
            .source
            .clone()
            .unwrap_or_else(|| format!("csv:{}", kind.name()));
        let mapping = RowMapping::compile(kind, &source, &pairs, &columns).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(
                "the mapping does not fit the table:\n  {}",
                lines.join("\n  ")
            )
        })?;
        let mut import = Import {
            mapping: &mapping,
            columns: columns.len(),
            sink: Sink::open(&self.log, |_| ())?,
            report: ImportReport::default(),
        };
        let mut record = csv::ByteRecord::new();
        loop {
            budget.renew();
            match reader.read_byte_record(&mut record) {
                Ok(false) => break,
                Ok(true) => import.take(&record)?,
                Err(error) => {
                    import.sink.abandon()?;
                    bail!("{}: {error}; nothing was imported", self.file.display());
                }
            }
        }
        self.finish(import)
    }

    fn finish(&self, import: Import<'_>) -> anyhow::Result<()> {
        let Import {
            sink, mut report, ..
        } = import;
        report.committed = !(self.strict && report.rejected > 0);
        if report.committed {
            report.count(sink.commit()?);
        } else {
            sink.abandon()?;
        }
        match self.output {
            OutputFormat::Json => print_json(&report)?,
            OutputFormat::Text => report.print()?,
        }
        if !report.committed {
            bail!(
                "{} rows are broken and --strict was given; nothing was imported",
                report.rejected
            );
        }
        if report.rows > 0 && report.rejected == report.rows {
            bail!("no row could be read; check --map");
        }
        Ok(())
    }
}

impl ImportReport {
    fn count(&mut self, counts: Counts) {
        self.imported = counts.recorded;
        self.known = counts.known;
        self.conflicts = counts.conflicts;
    }

    fn print(&self) -> io::Result<()> {
        print_line(&format!(
            "{} rows: {} imported, {} known already, {} known with other content (the first stays), {} broken",
            self.rows, self.imported, self.known, self.conflicts, self.rejected
        ))?;
        for problem in &self.problems {
            let LineProblem {
                line,
                column,
                cause,
                cure,
            } = problem;
            print_line(&format!("line {line}, column {column:?}: {cause}; {cure}"))?;
        }
        let unlisted = self.rejected - self.problems.len() as u64;
        if unlisted > 0 {
            print_line(&format!("and {unlisted} more"))?;
        }
        Ok(())
    }
}

struct Import<'m> {
    mapping: &'m RowMapping,
    columns: usize,
    sink: Sink,
    report: ImportReport,
}

impl Import<'_> {
    fn take(&mut self, record: &csv::ByteRecord) -> anyhow::Result<()> {
        self.report.rows += 1;
        match self.event(record) {
            Ok(event) => self.sink.take(&event)?,
            Err(RowProblem {
                column,
                cause,
                cure,
            }) => {
                self.report.rejected += 1;
                if self.report.problems.len() < MAX_PROBLEMS_LISTED {
                    let line = record.position().map_or(0, csv::Position::line);
                    self.report.problems.push(LineProblem {
                        line,
                        column,
                        cause,
                        cure,
                    });
                }
            }
        }
        Ok(())
    }

    fn event(
        &self,
        record: &csv::ByteRecord,
    ) -> Result<tidegate_delivery::DeliveryEvent, RowProblem> {
        let whole = |cause: String, cure| RowProblem {
            column: "row".to_owned(),
            cause,
            cure,
        };
        if record.len() != self.columns {
            let cause = format!(
                "has {} columns, the header has {}",
                record.len(),
                self.columns
            );
            return Err(whole(cause, "check separators and quotes"));
        }
        let mut cells = Vec::with_capacity(record.len());
        for cell in record {
            let text = std::str::from_utf8(cell).map_err(|error| {
                whole(format!("is not UTF-8: {error}"), "save the table as UTF-8")
            })?;
            cells.push(text);
        }
        self.mapping.event(|index| cells.get(index).copied())
    }
}
