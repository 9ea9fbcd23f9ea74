//! Reading columns: every value is checked, since a row may have been damaged on disk.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    UnknownWord,
    actor::Actor,
    digest::Digest,
    error::{StoreError, StoreResult},
};

/// Typed access to a column by name.
pub(super) trait Columns {
    fn text(&self, column: &str) -> StoreResult<String>;
    fn maybe_text(&self, column: &str) -> StoreResult<Option<String>>;
    fn time(&self, column: &str) -> StoreResult<i64>;
    fn maybe_time(&self, column: &str) -> StoreResult<Option<i64>>;
    fn number(&self, column: &str) -> StoreResult<u64>;
    fn maybe_number(&self, column: &str) -> StoreResult<Option<u64>>;
    fn flag(&self, column: &str) -> StoreResult<bool>;
    fn fixed<const N: usize>(&self, column: &str) -> StoreResult<[u8; N]>;
    fn maybe_digest(&self, column: &str) -> StoreResult<Option<Digest>>;
    fn word<T: std::str::FromStr<Err = UnknownWord>>(&self, column: &str) -> StoreResult<T>;

    fn digest(&self, column: &str) -> StoreResult<Digest> {
        self.fixed(column).map(Digest)
    }

    fn actor(&self, kind: &str, id: &str) -> StoreResult<Actor> {
        Ok(Actor {
            kind: self.word(kind)?,
            id: self.text(id)?,
        })
    }
}

impl Columns for SqliteRow {
    fn text(&self, column: &str) -> StoreResult<String> {
        Ok(self.try_get(column)?)
    }

    fn maybe_text(&self, column: &str) -> StoreResult<Option<String>> {
        Ok(self.try_get(column)?)
    }

    fn time(&self, column: &str) -> StoreResult<i64> {
        Ok(self.try_get(column)?)
    }

    fn maybe_time(&self, column: &str) -> StoreResult<Option<i64>> {
        Ok(self.try_get(column)?)
    }

    fn number(&self, column: &str) -> StoreResult<u64> {
        unsigned(column, self.time(column)?)
    }

    fn maybe_number(&self, column: &str) -> StoreResult<Option<u64>> {
        self.maybe_time(column)?
            .map(|number| unsigned(column, number))
            .transpose()
    }

    fn flag(&self, column: &str) -> StoreResult<bool> {
        Ok(self.time(column)? != 0)
    }

    fn fixed<const N: usize>(&self, column: &str) -> StoreResult<[u8; N]> {
        sized(column, self.try_get(column)?)
    }

    fn maybe_digest(&self, column: &str) -> StoreResult<Option<Digest>> {
        let bytes: Option<Vec<u8>> = self.try_get(column)?;
        bytes
            .map(|bytes| sized(column, bytes).map(Digest))
            .transpose()
    }

    fn word<T: std::str::FromStr<Err = UnknownWord>>(&self, column: &str) -> StoreResult<T> {
        let text = self.text(column)?;
        text.parse()
            .map_err(|_| StoreError::corrupt(format!("column {column}"), text))
    }
}

fn unsigned(column: &str, number: i64) -> StoreResult<u64> {
    u64::try_from(number)
        .map_err(|_| StoreError::corrupt(format!("column {column}"), "it is negative"))
}

fn sized<const N: usize>(column: &str, bytes: Vec<u8>) -> StoreResult<[u8; N]> {
    bytes.try_into().map_err(|bytes: Vec<u8>| {
        StoreError::corrupt(
            format!("column {column}"),
            format!("it has {} bytes instead of {N}", bytes.len()),
        )
    })
}

/// A number that this program made, as SQL has it; none of them reaches 2^63.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
