//! Sufficient statistics: what must be kept of the units of an arm to answer later.
//!
//! # Promise
//! Counts, sums and sums of products are exact (`exact_sum`), so merging shards in any order gives the
//! same bits, and a mean or a variance is rounded only when read.
//! The centring `n sum(x y) - sum(x) sum(y)` is carried out in exact integer arithmetic as well: the
//! variance of data with mean 1e8 and standard deviation 1 is right to the last digits, as is that of a
//! constant, namely zero.
//!
//! # Assumptions
//! Units are independent; one push is one unit.
//! Where observations cluster, the cluster is the unit and the observations enter as its sums
//! (`ratio`, `quantile`).

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, finite, in_range};
use crate::exact_sum::{Exact, ExactSum};

/// Most columns joint moments accept; products grow with the square.
pub const MAX_COLUMNS: usize = 64;

/// Count, sum and sum of squares of one column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    units: u64,
    events: u64,
    sum: ExactSum,
    sum_of_squares: ExactSum,
}

impl Moments {
    /// The moments of no unit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The moments of some values, one per unit.
    ///
    /// # Errors
    /// If one is not finite.
    pub fn from_values(values: impl IntoIterator<Item = f64>) -> Result<Self, StatsError> {
        let mut moments = Self::new();
        for value in values {
            moments.push(value)?;
        }
        Ok(moments)
    }

    /// Moments from sums kept elsewhere; every unit counts as an event, since the sums do not tell.
    ///
    /// # Errors
    /// If a sum is not finite or the squares are too small for the sum.
    pub fn from_sums(units: u64, sum: f64, sum_of_squares: f64) -> Result<Self, StatsError> {
        let moments = Self {
            units,
            events: units,
            sum: ExactSum::from_value(sum)?,
            sum_of_squares: ExactSum::from_value(sum_of_squares)?,
        };
        if units == 0 && (sum != 0.0 || sum_of_squares != 0.0) {
            return Err(StatsError::CountExceedsTotal { count: 1, total: 0 });
        }
        let spread = centred(units, &moments.sum_of_squares, &moments.sum, &moments.sum).to_f64();
        // Sums printed with few digits may contradict each other in the last of them.
        if spread < 0.0 && spread < -1e-9 * sum_of_squares.abs() * units as f64 {
            return Err(StatsError::NegativeVariance {
                what: "centred sum of squares",
                value: spread,
            });
        }
        Ok(moments)
    }

    /// Adds one unit.
    ///
    /// # Errors
    /// If the value is not finite; nothing is then changed.
    pub fn push(&mut self, value: f64) -> Result<(), StatsError> {
        self.sum.add(value)?;
        self.sum_of_squares.add_product(value, value)?;
        self.units = self.units.saturating_add(1);
        self.events = self.events.saturating_add(u64::from(value != 0.0));
        Ok(())
    }

    /// Adds the units of another shard.
    pub fn merge(&mut self, other: &Self) {
        self.units = self.units.saturating_add(other.units);
        self.events = self.events.saturating_add(other.events);
        self.sum.merge(&other.sum);
        self.sum_of_squares.merge(&other.sum_of_squares);
    }

    /// Number of units.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Number of units whose value is not zero: conversions, buyers, units with an error.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The sum, rounded once.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum.value()
    }

    /// The sum of squares, rounded once.
    #[must_use]
    pub fn sum_of_squares(&self) -> f64 {
        self.sum_of_squares.value()
    }

    /// The mean; none without units.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.units > 0).then(|| self.sum.value() / self.units as f64)
    }

    /// The unbiased variance (divisor `n - 1`); none with fewer than two units.
    ///
    /// Infinite where it exceeds the largest double.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        covariance(self.units, &self.sum_of_squares, &self.sum, &self.sum).map(|v| v.max(0.0))
    }
}

impl Moments {
    /// Mean and unbiased variance, the sum read once; none with fewer than two units.
    pub(crate) fn mean_and_variance(&self) -> Option<(f64, f64)> {
        if self.units < 2 {
            return None;
        }
        let sum = self.sum.exact();
        let centred = self
            .sum_of_squares
            .exact()
            .times_count(self.units)
            .minus(&sum.times(&sum));
        let mean = sum.to_f64() / self.units as f64;
        Some((mean, over_degrees(self.units, &centred).max(0.0)))
    }
}

/// Count, sums and all cross-products of several columns of the same units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "JointRecord", into = "JointRecord")]
pub struct JointMoments {
    units: u64,
    events: Vec<u64>,
    sums: Vec<ExactSum>,
    /// Products of columns `i <= j`, row by row.
    products: Vec<ExactSum>,
}

impl JointMoments {
    /// The moments of no unit over `columns` columns.
    ///
    /// # Errors
    /// If there are more than [`MAX_COLUMNS`].
    pub fn new(columns: usize) -> Result<Self, StatsError> {
        if columns > MAX_COLUMNS {
            return Err(StatsError::TooLarge {
                what: "columns",
                size: columns as u64,
                limit: MAX_COLUMNS as u64,
            });
        }
        Ok(Self {
            units: 0,
            events: vec![0; columns],
            sums: vec![ExactSum::new(); columns],
            products: vec![ExactSum::new(); columns * (columns + 1) / 2],
        })
    }

    /// Moments from sums kept elsewhere: `sums[i]`, and `products[k]` for the columns `i <= j` row by
    /// row; every unit counts as an event, since the sums do not tell.
    ///
    /// # Errors
    /// If a sum is not finite, or the number of products does not fit the number of sums.
    pub fn from_sums(units: u64, sums: &[f64], products: &[f64]) -> Result<Self, StatsError> {
        let mut moments = Self::new(sums.len())?;
        if products.len() != moments.products.len() {
            return Err(StatsError::Mismatch {
                what: "products and columns",
                left: products.len(),
                right: moments.products.len(),
            });
        }
        for (sum, value) in moments.sums.iter_mut().zip(sums) {
            sum.add(*value)?;
        }
        for (sum, value) in moments.products.iter_mut().zip(products) {
            sum.add(*value)?;
        }
        moments.units = units;
        moments.events = vec![units; sums.len()];
        Ok(moments)
    }

    /// The same moments with known numbers of units whose value is not zero, column by column.
    ///
    /// # Errors
    /// If there are not as many as columns, or more than units.
    pub fn with_events(mut self, events: &[u64]) -> Result<Self, StatsError> {
        if events.len() != self.sums.len() {
            return Err(StatsError::Mismatch {
                what: "events and columns",
                left: events.len(),
                right: self.sums.len(),
            });
        }
        if let Some(&count) = events.iter().find(|count| **count > self.units) {
            return Err(StatsError::CountExceedsTotal {
                count,
                total: self.units,
            });
        }
        self.events = events.to_vec();
        Ok(self)
    }

    /// Adds one unit.
    ///
    /// # Errors
    /// If the number of values does not match or one is not finite; nothing is then changed.
    pub fn push(&mut self, values: &[f64]) -> Result<(), StatsError> {
        if values.len() != self.sums.len() {
            return Err(StatsError::Mismatch {
                what: "columns",
                left: values.len(),
                right: self.sums.len(),
            });
        }
        for value in values {
            finite("value", *value)?;
        }
        for (sum, value) in self.sums.iter_mut().zip(values) {
            sum.add(*value)?;
        }
        for (events, value) in self.events.iter_mut().zip(values) {
            *events = events.saturating_add(u64::from(*value != 0.0));
        }
        let pairs = values
            .iter()
            .enumerate()
            .flat_map(|(i, left)| values.iter().skip(i).map(move |right| (*left, *right)));
        for (product, (left, right)) in self.products.iter_mut().zip(pairs) {
            product.add_product(left, right)?;
        }
        self.units = self.units.saturating_add(1);
        Ok(())
    }

    /// Takes back one unit that was added with these values. Sums are exact, so nothing of it is
    /// left: the moments equal those of the other units bit for bit.
    ///
    /// # Errors
    /// If the number of values does not match or one is not finite; nothing is then changed.
    pub fn take_back(&mut self, values: &[f64]) -> Result<(), StatsError> {
        if values.len() != self.sums.len() {
            return Err(StatsError::Mismatch {
                what: "columns",
                left: values.len(),
                right: self.sums.len(),
            });
        }
        for value in values {
            finite("value", *value)?;
        }
        for (sum, value) in self.sums.iter_mut().zip(values) {
            sum.add(-value)?;
        }
        for (events, value) in self.events.iter_mut().zip(values) {
            *events = events.saturating_sub(u64::from(*value != 0.0));
        }
        let pairs = values
            .iter()
            .enumerate()
            .flat_map(|(i, left)| values.iter().skip(i).map(move |right| (*left, *right)));
        for (product, (left, right)) in self.products.iter_mut().zip(pairs) {
            product.add_product(-left, right)?;
        }
        self.units = self.units.saturating_sub(1);
        Ok(())
    }

    /// Adds the units of another shard.
    ///
    /// # Errors
    /// If the numbers of columns differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        if self.sums.len() != other.sums.len() || self.products.len() != other.products.len() {
            return Err(StatsError::Mismatch {
                what: "columns",
                left: self.sums.len(),
                right: other.sums.len(),
            });
        }
        self.units = self.units.saturating_add(other.units);
        for (events, more) in self.events.iter_mut().zip(&other.events) {
            *events = events.saturating_add(*more);
        }
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            sum.merge(more);
        }
        for (product, more) in self.products.iter_mut().zip(&other.products) {
            product.merge(more);
        }
        Ok(())
    }

    /// Number of units.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.sums.len()
    }

    /// Units whose value in a column is not zero; none without that column.
    #[must_use]
    pub fn events(&self, column: usize) -> Option<u64> {
        self.events.get(column).copied()
    }

    /// The mean of a column; none without units or without that column.
    #[must_use]
    pub fn mean(&self, column: usize) -> Option<f64> {
        let sum = self.sums.get(column)?;
        (self.units > 0).then(|| sum.value() / self.units as f64)
    }

    /// The unbiased covariance of two columns (of a column with itself: its variance).
    ///
    /// None with fewer than two units or without those columns.
    #[must_use]
    pub fn covariance(&self, left: usize, right: usize) -> Option<f64> {
        let (first, second) = if left <= right {
            (left, right)
        } else {
            (right, left)
        };
        let columns = self.sums.len();
        if second >= columns {
            return None;
        }
        let row = first * columns - first * first.saturating_sub(1) / 2;
        let product = self.products.get(row + second - first)?;
        covariance(self.units, product, &self.sums[first], &self.sums[second])
    }

    /// Means and covariances of some columns, refused where one leaves the range of a double; the entries
    /// of the other columns, and of columns that do not exist, are missing.
    ///
    /// Each sum is read once and each pair of columns once, which is most of the time an answer takes.
    pub(crate) fn summary(
        &self,
        columns: &[usize],
        what: &'static str,
    ) -> Result<JointSummary, StatsError> {
        let count = self.columns();
        let mut summary = JointSummary {
            units: self.units,
            events: self.events.clone(),
            means: vec![None; count],
            covariances: vec![0.0; count * count],
        };
        let mut read: Vec<(usize, Exact)> = Vec::with_capacity(columns.len());
        for &column in columns {
            let Some(sum) = self.sums.get(column) else {
                continue;
            };
            if summary.means[column].is_some() {
                continue;
            }
            let exact = sum.exact();
            summary.means[column] = Some(in_range(what, exact.to_f64() / self.units as f64)?);
            read.push((column, exact));
            for (other, sum) in &read {
                let (first, second) = (column.min(*other), column.max(*other));
                let row = first * count - first * first.saturating_sub(1) / 2;
                let product = &self.products[row + second - first];
                let (_, newest) = &read[read.len() - 1];
                let centred = product
                    .exact()
                    .times_count(self.units)
                    .minus(&newest.times(sum));
                let covariance = in_range(what, over_degrees(self.units, &centred))?;
                summary.covariances[column * count + other] = covariance;
                summary.covariances[other * count + column] = covariance;
            }
        }
        Ok(summary)
    }
}

/// Joint moments as written; reading checks that the parts fit together.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JointRecord {
    units: u64,
    events: Vec<u64>,
    sums: Vec<ExactSum>,
    products: Vec<ExactSum>,
}

impl From<JointMoments> for JointRecord {
    fn from(moments: JointMoments) -> Self {
        let JointMoments {
            units,
            events,
            sums,
            products,
        } = moments;
        Self {
            units,
            events,
            sums,
            products,
        }
    }
}

impl TryFrom<JointRecord> for JointMoments {
    type Error = StatsError;

    fn try_from(record: JointRecord) -> Result<Self, StatsError> {
        let empty = Self::new(record.sums.len())?;
        for (left, right) in [
            (record.products.len(), empty.products.len()),
            (record.events.len(), empty.events.len()),
        ] {
            if left != right {
                return Err(StatsError::Mismatch {
                    what: "products, events and columns",
                    left,
                    right,
                });
            }
        }
        let JointRecord {
            units,
            events,
            sums,
            products,
        } = record;
        Ok(Self {
            units,
            events,
            sums,
            products,
        })
    }
}

/// Means and covariances of some columns, read once from joint moments.
#[derive(Debug, Clone)]
pub(crate) struct JointSummary {
    pub(crate) units: u64,
    pub(crate) events: Vec<u64>,
    /// By column; none where the column was not asked for.
    means: Vec<Option<f64>>,
    covariances: Vec<f64>,
}

impl JointSummary {
    /// The mean of a column that was asked for.
    ///
    /// # Errors
    /// If there is no such column.
    pub(crate) fn mean(&self, column: usize) -> Result<f64, StatsError> {
        let mean = self.means.get(column).copied().flatten();
        mean.ok_or(StatsError::Mismatch {
            what: "columns",
            left: column + 1,
            right: self.means.len(),
        })
    }

    /// The covariance of two sparse linear combinations of the columns, given as `(column, weight)`.
    pub(crate) fn form(&self, left: &[(usize, f64)], right: &[(usize, f64)]) -> f64 {
        let mut total = 0.0;
        for (i, a) in left {
            for (j, b) in right {
                let covariance = self.covariances.get(i * self.means.len() + j);
                total += a * b * covariance.copied().unwrap_or(0.0);
            }
        }
        total
    }
}

/// `n sum(x y) - sum(x) sum(y)`, exactly.
fn centred(units: u64, product: &ExactSum, left: &ExactSum, right: &ExactSum) -> Exact {
    product
        .exact()
        .times_count(units)
        .minus(&left.exact().times(&right.exact()))
}

fn covariance(units: u64, product: &ExactSum, left: &ExactSum, right: &ExactSum) -> Option<f64> {
    if units < 2 {
        return None;
    }
    Some(over_degrees(units, &centred(units, product, left, right)))
}

/// A centred sum of products as a covariance, for two units or more.
fn over_degrees(units: u64, centred: &Exact) -> f64 {
    centred.to_f64() / units as f64 / (units - 1) as f64
}
