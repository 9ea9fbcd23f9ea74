//! `tidegate events import`: a CSV, Parquet or NDJSON file under a mapping, into the events.
//!
//! A file is read twice: once to find rows that come more than once (see [`identity`]), once to
//! import. With `--strict` it is tried out in between, and one refused row keeps everything out.
//! Rows become the wire form of events and go through the same rules as events that are sent; what
//! those refuse is reported by row, column and reason. Memory does not grow with the file.

mod binding;
mod cell;
mod identity;
mod mapping;
mod report;
mod row;
mod sink;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tidegate_metrics::{Arrival, Event, EventId, Limits, parse_events};

use self::binding::Binding;
use self::identity::{FirstPass, Repeated, id_of};
use self::mapping::MappingProblem;
use self::report::{ImportReport, RefusedFile};
use self::row::CellRefusal;
use self::sink::{IntoLake, Nowhere, Sink, ToServer};
use self::source::{Row, Source};
use crate::client::Connection;
use crate::output::{self, OutputArguments};
use crate::stopped::StoppedServer;

const EXAMPLES: &str = "\
A mapping says which column is which part of an event. A word that is no column of the file is a
constant where that can be meant (kind, name, a time). One row is one event:

    unit = \"customer_id\"
    time = \"ts\"            # RFC 3339, or seconds, ms, us or ns since 1970
    kind = \"track\"         # track, exposure, request or evaluation
    name = \"event\"
    value = \"amount\"
    properties = [\"device\"]

or, with [wide], one row is one unit with its arm and outcomes:

    unit = \"customer_id\"
    [wide]
    flag = \"new-checkout\"
    arm = \"variant\"
    [[wide.outcome]]
    column = \"revenue\"
    name = \"purchase\"

Examples:
  tidegate events import --file sales.csv --mapping sales.toml --data-dir ./data
  tidegate events import --file sales.parquet --mapping sales.toml --server https://tidegate.example
  tidegate events import --file sales.csv.gz --mapping sales.toml --data-dir ./data --strict -o json

Importing a file again changes nothing. Exit code 1 if no row was imported.
docs/reports.md has every key of the mapping.";

const MAX_MAPPING_BYTES: u64 = 1 << 20;
const BATCH_BYTES: usize = 1 << 20;
const BATCH_EVENTS: usize = 5_000;
const ROWS_PER_TICK: u64 = 1_000;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArguments {
    /// The file: .csv, .tsv, .ndjson, .jsonl (each also .gz) or .parquet
    #[arg(long)]
    file: PathBuf,
    /// The mapping, in TOML
    #[arg(long)]
    mapping: PathBuf,
    /// A data folder whose server is stopped; without it, events go to --server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Import nothing if one row is refused
    #[arg(long)]
    strict: bool,
    /// Write every refused row to this file, one JSON object per line
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: OutputArguments,
}

/// Imports.
pub(crate) fn run(arguments: &ImportArguments) -> Result<ExitCode> {
    let (mapping, mut problems) = read_mapping(arguments)?;
    let source = Source::open(&arguments.file, mapping.delimiter)?;
    let columns = source.columns()?;
    let binding = Binding::new(&mapping, &columns);
    if let Err(misfits) = &binding {
        // What the mapping itself leaves open has been said already.
        let known: Vec<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        let new = misfits.iter().filter(|misfit| {
            !known.contains(&misfit.key.as_str())
                && !misfit.detail.starts_with(binding::NO_COLUMN_NAMED)
        });
        let new: Vec<MappingProblem> = new.cloned().collect();
        problems.extend(new);
    }
    let Some(binding) = binding.ok().filter(|_| problems.is_empty()) else {
        let what = format!("{} does not fit", arguments.mapping.display());
        return Err(listed(&what, &problems));
    };
    let mut sink: Box<dyn Sink + '_> = match &arguments.data_dir {
        Some(data_dir) => {
            let server = StoppedServer::take_or_make(data_dir)?;
            Box::new(IntoLake::new(server, &arguments.connection.project)?)
        }
        None => Box::new(ToServer {
            connection: &arguments.connection,
        }),
    };
    let mut report = ImportReport {
        file: arguments.file.display().to_string(),
        mapping: binding.understood.clone(),
        strict: arguments.strict,
        ..ImportReport::default()
    };
    let import = Import {
        source: &source,
        binding: &binding,
        limits: Limits::default(),
        received_us: crate::serve::clock().now_us(),
    };
    let repeated = import.first_pass()?;
    if arguments.strict {
        import.pass("checking", repeated.clone(), &mut Nowhere, &mut report)?;
    }
    if report.refused_rows == 0 {
        report = ImportReport {
            file: report.file,
            mapping: report.mapping,
            strict: report.strict,
            imported: true,
            ..ImportReport::default()
        };
        report.all_refused = refused_file(arguments)?;
        import.pass("importing", repeated, sink.as_mut(), &mut report)?;
        sink.finish()?;
    } else {
        (report.imported_rows, report.events, report.quarantined) = (0, 0, 0);
    }
    report.print(arguments.output.output)?;
    if !report.imported {
        output::note(&format!(
            "{} rows are refused and --strict was given; nothing was imported",
            report.refused_rows
        ));
        return Ok(ExitCode::FAILURE);
    }
    if report.imported_rows == 0 && report.rows > 0 {
        output::note("no row could be imported; does the mapping fit the file?");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn refused_file(arguments: &ImportArguments) -> Result<Option<RefusedFile>> {
    let path = arguments.refused.as_deref();
    path.map(RefusedFile::create).transpose()
}

fn read_mapping(arguments: &ImportArguments) -> Result<(mapping::Mapping, Vec<MappingProblem>)> {
    let path = &arguments.mapping;
    let unreadable = || format!("cannot read {}", path.display());
    let bytes = std::fs::metadata(path).with_context(unreadable)?.len();
    ensure!(
        bytes <= MAX_MAPPING_BYTES,
        "{} has {bytes} bytes; a mapping has a few lines",
        path.display()
    );
    let text = std::fs::read_to_string(path).with_context(unreadable)?;
    mapping::read_with_problems(&text)
        .map_err(|problems| listed(&format!("{} is no mapping", path.display()), &problems))
}

fn listed(what: &str, problems: &[MappingProblem]) -> anyhow::Error {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{what}:\n  {}", lines.join("\n  "))
}

struct Import<'i> {
    source: &'i Source,
    binding: &'i Binding,
    limits: Limits,
    received_us: i64,
}

/// Rows on their way into one batch.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    /// Where each line ends, and the row it belongs to.
    ends: Vec<(usize, usize)>,
    rows: Vec<(u64, Option<u64>)>,
}

impl Import<'_> {
    /// Learns which rows come more than once. A file with ids of its own needs no such pass.
    fn first_pass(&self) -> Result<Repeated> {
        let mut first = FirstPass::new(self.source.size);
        if self.binding.has_ids() {
            return Ok(first.finish());
        }
        let progress = self.progress("reading");
        let mut rows = self.source.rows(&self.binding.needed)?;
        while let Some(row) = rows.next_row()? {
            self.tick(&progress, row.number);
            let Ok(made) = row
                .cells
                .map_err(|_| ())
                .and_then(|cells| self.binding.events(&cells).map_err(|_| ()))
            else {
                continue;
            };
            match &made.only_once {
                Some(unit) => first.see(unit)?,
                None => made.events.iter().try_for_each(|text| first.see(text))?,
            }
        }
        progress.finish_and_clear();
        Ok(first.finish())
    }

    fn pass(
        &self,
        what: &'static str,
        mut repeated: Repeated,
        sink: &mut dyn Sink,
        report: &mut ImportReport,
    ) -> Result<()> {
        let progress = self.progress(what);
        let mut rows = self.source.rows(&self.binding.needed)?;
        let mut batch = Batch::default();
        while let Some(row) = rows.next_row()? {
            self.tick(&progress, row.number);
            report.rows += 1;
            let place = (row.number, row.line);
            match self.lines_of(row, &mut repeated) {
                Ok(lines) => batch.add(place, &lines),
                Err(refusals) => report.refuse(place, refusals)?,
            }
            if batch.lines.len() >= BATCH_BYTES || batch.ends.len() >= BATCH_EVENTS {
                self.hand_over(std::mem::take(&mut batch), sink, report)?;
            }
        }
        self.hand_over(batch, sink, report)?;
        progress.finish_and_clear();
        Ok(())
    }

    /// The events of a row, each a line with its id.
    fn lines_of(&self, row: Row, repeated: &mut Repeated) -> Result<Vec<String>, Vec<CellRefusal>> {
        let cells = row.cells.map_err(|refusal| vec![refusal])?;
        let made = self.binding.events(&cells)?;
        if let Some(unit) = &made.only_once
            && repeated.before(unit) > 0
        {
            return Err(vec![CellRefusal {
                column: self.binding.column_of("/unit"),
                reason: "this unit came with the same arm before; one row is one unit, so sum its \
                         rows into one"
                    .to_owned(),
            }]);
        }
        let line = |text: &String| {
            let id = match (made.id, self.binding.is_wide()) {
                (Some(id), _) => id,
                (None, true) => id_of(text, 0),
                (None, false) => id_of(text, repeated.before(text)),
            };
            with_id(id, text)
        };
        Ok(made.events.iter().map(line).collect())
    }

    fn hand_over(
        &self,
        batch: Batch,
        sink: &mut dyn Sink,
        report: &mut ImportReport,
    ) -> Result<()> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        let arrival = Arrival::at(self.received_us);
        let parsed = parse_events(&batch.lines, &self.limits, arrival)?;
        let mut refusals: Vec<Vec<CellRefusal>> = vec![Vec::new(); batch.rows.len()];
        let mut is_rejected = vec![false; batch.ends.len()];
        for rejection in &parsed.rejected {
            let (Some((_, row)), Some(mark)) = (
                batch.ends.get(rejection.index),
                is_rejected.get_mut(rejection.index),
            ) else {
                bail!("an event was refused that is not in its batch");
            };
            *mark = true;
            if let Some(refusals) = refusals.get_mut(*row) {
                refusals.push(CellRefusal {
                    column: self.binding.column_of(&rejection.pointer),
                    reason: rejection.detail.clone(),
                });
            }
        }
        let (lines, events) = batch.without(&refusals, &is_rejected, parsed.accepted);
        report.events += events.len() as u64;
        report.quarantined += events.iter().filter(|event| event.is_quarantined).count() as u64;
        for (place, refusals) in batch.rows.iter().zip(refusals) {
            if refusals.is_empty() {
                report.imported_rows += 1;
            } else {
                report.refuse(*place, refusals)?;
            }
        }
        if !events.is_empty() {
            let taken = sink.take(&lines, events)?;
            report.accepted += taken.accepted;
            report.duplicates += taken.duplicates;
        }
        Ok(())
    }

    fn progress(&self, what: &'static str) -> ProgressBar {
        let progress = ProgressBar::new(self.source.size).with_message(what);
        let template = "{msg:>10} [{bar:40}] {percent:>3} % {elapsed} left {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            progress.set_style(style);
        }
        progress
    }

    fn tick(&self, progress: &ProgressBar, row: u64) {
        if row.is_multiple_of(ROWS_PER_TICK) {
            progress.set_position(self.source.done.load(Ordering::Relaxed));
        }
    }
}

/// The line of an event: its wire form with the id in front.
fn with_id(id: EventId, text: &str) -> String {
    format!("{{\"id\":\"{id}\",{}\n", text.get(1..).unwrap_or_default())
}

impl Batch {
    fn add(&mut self, place: (u64, Option<u64>), lines: &[String]) {
        let row = self.rows.len();
        self.rows.push(place);
        for line in lines {
            self.lines.extend_from_slice(line.as_bytes());
            self.ends.push((self.lines.len(), row));
        }
    }

    /// Lines and events of the rows of which nothing was refused.
    fn without(
        &self,
        refusals: &[Vec<CellRefusal>],
        is_rejected: &[bool],
        accepted: Vec<Event>,
    ) -> (Vec<u8>, Vec<Event>) {
        let (mut lines, mut events) = (Vec::new(), Vec::new());
        let mut accepted = accepted.into_iter();
        let mut start = 0;
        for ((end, row), is_rejected) in self.ends.iter().zip(is_rejected) {
            let line = self.lines.get(start..*end).unwrap_or_default();
            start = *end;
            let event = if *is_rejected { None } else { accepted.next() };
            let is_whole = refusals.get(*row).is_some_and(Vec::is_empty);
            if let Some(event) = event.filter(|_| is_whole) {
                lines.extend_from_slice(line);
                events.push(event);
            }
        }
        (lines, events)
    }
}
