//! A CSV of units, folded row by row into sufficient statistics per arm.
//!
//! Joint moments hold the columns of the metric first, then those of each covariate with a column that is 1
//! for units without it: an empty cell of a covariate is missing history, a stratum of its own.
//!
//! Memory grows with arms, metrics and units (eight bytes and a line number each, to notice a unit
//! that comes twice), not with the file; quantiles alone keep their observations. Every refusal names line and
//! column.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;

use tidegate_stats::{JointMoments, Moments};

use super::super::Refusal;
use super::super::bounded_lines::BoundedLines;
use super::metric::{CovariateSpec, Kind, MetricSpec};

/// Most rows read.
const ROWS_MAX: u64 = 100_000_000;
/// Most arms told apart.
const ARMS_MAX: usize = 100;
/// Longest line in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Most observations kept for one quantile and arm.
const OBSERVATIONS_MAX: usize = 50_000_000;

/// Which columns mean what.
pub(super) struct Columns<'a> {
    pub(super) unit: &'a str,
    pub(super) arm: &'a str,
    pub(super) metrics: &'a [MetricSpec],
    pub(super) covariates: &'a [CovariateSpec],
}

/// One arm's statistics of one metric.
pub(super) enum Statistics {
    /// Of a mean or proportion without covariates.
    Plain(Moments),
    /// Of a metric with its denominator or covariates, the metric first.
    Joint(JointMoments),
    /// Observations of a quantile, each with its unit.
    Observations(Vec<(f64, u64)>),
}

/// One arm: metrics in the order asked for.
pub(super) struct Arm {
    pub(super) name: String,
    pub(super) metrics: Vec<Statistics>,
}

/// Reads the whole file. Arms come in order of appearance.
pub(super) fn read(
    source: impl Read,
    file: &str,
    columns: &Columns<'_>,
) -> Result<Vec<Arm>, Refusal> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(BoundedLines::new(source, LINE_BYTES_MAX));
    let headers = reader
        .headers()
        .map_err(|error| Refusal::Data(format!("{file}: {error}")))?
        .clone();
    let places = Places::find(&headers, columns, file)?;
    let mut arms: Vec<Arm> = Vec::new();
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut record = csv::StringRecord::new();
    let mut rows = 0_u64;
    loop {
        let more = reader
            .read_record(&mut record)
            .map_err(|error| Refusal::Data(format!("{file}: {error}")))?;
        if !more {
            break;
        }
        rows += 1;
        if rows > ROWS_MAX {
            return Err(Refusal::Data(format!(
                "{file}: more than {ROWS_MAX} rows; split the file"
            )));
        }
        let line = record.position().map_or(0, csv::Position::line);
        let row = Row {
            record: &record,
            file,
            line,
            headers: &headers,
        };
        let unit = row.unit(places.unit)?;
        if !places.may_repeat
            && let Some(first) = seen.insert(unit, line)
        {
            return Err(row.refuse(
                places.unit,
                &format!("this unit is already on line {first}; sum its rows into one"),
            ));
        }
        let arm = arm_of(&mut arms, row.cell(places.arm)?, columns, &row, places.arm)?;
        places.push(arm, &row, unit)?;
    }
    Ok(arms)
}

fn arm_of<'a>(
    arms: &'a mut Vec<Arm>,
    name: &str,
    columns: &Columns<'_>,
    row: &Row<'_>,
    place: usize,
) -> Result<&'a mut Arm, Refusal> {
    let index = match arms.iter().position(|arm| arm.name == name) {
        Some(index) => index,
        None if arms.len() >= ARMS_MAX => {
            let text = format!("more than {ARMS_MAX} arms; is this the right column?");
            return Err(row.refuse(place, &text));
        }
        None => {
            let metrics = columns
                .metrics
                .iter()
                .map(|metric| empty_statistics(metric, columns.covariates))
                .collect::<Result<Vec<_>, _>>()
                .map_err(Refusal::usage)?;
            arms.push(Arm {
                name: name.to_owned(),
                metrics,
            });
            arms.len() - 1
        }
    };
    Ok(&mut arms[index])
}

fn empty_statistics(
    metric: &MetricSpec,
    covariates: &[CovariateSpec],
) -> Result<Statistics, tidegate_stats::StatsError> {
    let history: usize = covariates
        .iter()
        .map(|covariate| 2 + usize::from(covariate.denominator().is_some()))
        .sum();
    Ok(match metric.kind {
        Kind::Quantile { .. } => Statistics::Observations(Vec::new()),
        Kind::Ratio { .. } => Statistics::Joint(JointMoments::new(2 + history)?),
        Kind::Mean | Kind::Proportion if history > 0 => {
            Statistics::Joint(JointMoments::new(1 + history)?)
        }
        Kind::Mean | Kind::Proportion => Statistics::Plain(Moments::new()),
    })
}

/// Positions of the columns.
struct Places {
    unit: usize,
    arm: usize,
    /// Per metric: its own column and its denominator.
    metrics: Vec<(MetricSpec, Vec<usize>)>,
    /// Per covariate: its own column and its denominator.
    covariates: Vec<Vec<usize>>,
    /// Only quantiles are asked for, which take several rows a unit.
    may_repeat: bool,
}

impl Places {
    fn find(
        headers: &csv::StringRecord,
        columns: &Columns<'_>,
        file: &str,
    ) -> Result<Self, Refusal> {
        let place = |name: &str| {
            headers
                .iter()
                .position(|header| header == name)
                .ok_or_else(|| {
                    let present: Vec<&str> = headers.iter().take(40).collect();
                    Refusal::Data(format!(
                        "{file}: there is no column {name:?}; the header has {}",
                        present.join(", ")
                    ))
                })
        };
        let metrics = columns
            .metrics
            .iter()
            .map(|metric| {
                let mut places = vec![place(&metric.column)?];
                if let Kind::Ratio { denominator } = &metric.kind {
                    places.push(place(denominator)?);
                }
                Ok((metric.clone(), places))
            })
            .collect::<Result<Vec<_>, Refusal>>()?;
        let covariates = columns
            .covariates
            .iter()
            .map(|covariate| {
                let mut places = vec![place(&covariate.0.column)?];
                if let Some(denominator) = covariate.denominator() {
                    places.push(place(denominator)?);
                }
                Ok(places)
            })
            .collect::<Result<Vec<_>, Refusal>>()?;
        let is_quantile = |metric: &MetricSpec| matches!(metric.kind, Kind::Quantile { .. });
        Ok(Self {
            unit: place(columns.unit)?,
            arm: place(columns.arm)?,
            metrics,
            covariates,
            may_repeat: columns.metrics.iter().all(is_quantile),
        })
    }

    fn push(&self, arm: &mut Arm, row: &Row<'_>, unit: u64) -> Result<(), Refusal> {
        let history = self.history(row)?;
        for ((metric, places), statistics) in self.metrics.iter().zip(&mut arm.metrics) {
            let mut values = places
                .iter()
                .map(|place| row.number(*place))
                .collect::<Result<Vec<f64>, Refusal>>()?;
            let value = values[0];
            if metric.kind == Kind::Proportion && value != 0.0 && value != 1.0 {
                return Err(row.refuse(places[0], "a proportion takes 0 or 1; use :mean otherwise"));
            }
            let pushed = match statistics {
                Statistics::Plain(moments) => moments.push(value),
                Statistics::Joint(moments) => {
                    values.extend(&history);
                    moments.push(&values)
                }
                Statistics::Observations(kept) if kept.len() < OBSERVATIONS_MAX => {
                    kept.push((value, unit));
                    Ok(())
                }
                Statistics::Observations(_) => {
                    let text = format!("more than {OBSERVATIONS_MAX} observations in one arm");
                    return Err(row.refuse(places[0], &text));
                }
            };
            pushed.map_err(|error| row.refuse(places[0], &error.to_string()))?;
        }
        Ok(())
    }
}

impl Places {
    /// The covariates of a row, each followed by whether it is missing; a missing one counts as 0.
    fn history(&self, row: &Row<'_>) -> Result<Vec<f64>, Refusal> {
        let mut values = Vec::new();
        for places in &self.covariates {
            let is_missing = places.iter().any(|place| row.is_empty(*place));
            for place in places {
                values.push(if is_missing { 0.0 } else { row.number(*place)? });
            }
            values.push(f64::from(u8::from(is_missing)));
        }
        Ok(values)
    }
}

struct Row<'a> {
    record: &'a csv::StringRecord,
    headers: &'a csv::StringRecord,
    file: &'a str,
    line: u64,
}

impl Row<'_> {
    fn refuse(&self, place: usize, what: &str) -> Refusal {
        let column = self.headers.get(place).unwrap_or("?");
        Refusal::Data(format!(
            "{}: line {}, column {column:?}: {what}",
            self.file, self.line
        ))
    }

    fn cell(&self, place: usize) -> Result<&str, Refusal> {
        match self.record.get(place) {
            Some("") | None => Err(self.refuse(
                place,
                "empty; write 0 for a unit without the outcome, or leave the row out",
            )),
            Some(cell) => Ok(cell),
        }
    }

    fn is_empty(&self, place: usize) -> bool {
        self.record.get(place) == Some("")
    }

    fn unit(&self, place: usize) -> Result<u64, Refusal> {
        let mut hasher = DefaultHasher::new();
        self.cell(place)?.hash(&mut hasher);
        Ok(hasher.finish())
    }

    fn number(&self, place: usize) -> Result<f64, Refusal> {
        let cell = self.cell(place)?;
        cell.parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
            .ok_or_else(|| {
                let shown: String = cell.chars().take(40).collect();
                self.refuse(
                    place,
                    &format!("{shown:?} is not a finite number; repair or leave out the row"),
                )
            })
    }
}
