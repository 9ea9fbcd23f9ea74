//! `fractional` at work: what is hashed, where it falls, what that entry gives.
//!
//! The rules per dialect are those of flagd (`docs/flags.md` states them): arguments are
//! evaluated first; a first argument that is no array says what to hash; without one the
//! flag key and the targeting key are hashed; anything malformed gives null.

use super::coerce;
use super::interpret::{Entry, Interpreter, Placed, Scope, Trace};
use super::program::{HashInput, NodeId, Run, SplitId, SplitTable, TARGETING_KEY};
use super::value::Val;
use crate::bucketing::murmur3::Murmur3;
use crate::bucketing::{Boundaries, Bucketing, MAX_WEIGHT, cbor};

impl<'e, T: Trace> Interpreter<'e, T> {
    /// Where the unit falls.
    #[inline(always)]
    pub(super) fn entry_of(&self, split: SplitId) -> Entry {
        let Some(table) = self.program.splits.get(split.index()) else {
            return Entry::Nothing;
        };
        let hash = match &table.input {
            HashInput::Implicit { prefix } => self.implicit_hash(*prefix),
            HashInput::Joined { prefix, slot, .. } => {
                Some(joined_hash(*prefix, self.slot_value(*slot)))
            }
            HashInput::Computed(node) => {
                let value = self.eval(*node, Scope::Context);
                if let Some(general) = table.general.filter(|_| value.items().is_some()) {
                    return Entry::Listed(general);
                }
                self.hash_or_implicit(&value, false)
            }
        };
        let Some(hash) = hash else {
            return Entry::Nothing;
        };
        if T::IS_ON {
            self.tell(&table.boundaries, hash, &self.hashed_bytes(table));
        }
        let entry = table.boundaries.locate(hash, self.flag.dialect);
        let outcome = entry.and_then(|entry| table.outcomes.get(entry));
        outcome.map_or(Entry::Nothing, |step| Entry::Outcome(*step))
    }

    /// The unit's targeting key: a text with something in it.
    #[inline]
    fn targeting_key(&self) -> Option<&'e str> {
        match self.slot_value(TARGETING_KEY) {
            Val::Str(text, _) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    #[inline(always)]
    fn implicit_hash(&self, mut hash: Murmur3) -> Option<u32> {
        let targeting_key = self.targeting_key()?;
        if self.flag.dialect == Bucketing::V3 {
            cbor::text_head(&mut hash, targeting_key);
        }
        hash.write(targeting_key.as_bytes());
        Some(hash.finish())
    }

    /// The hash that a first argument which is no array asks for.
    fn hash_or_implicit(&self, bucket_by: &Val<'e>, in_scope: bool) -> Option<u32> {
        match (self.flag.dialect, bucket_by) {
            (Bucketing::V3, Val::Null) => None,
            (Bucketing::V3, value) => {
                let mut hash = Murmur3::default();
                value.encode(&mut hash);
                Some(hash.finish())
            }
            // An iteration's element is no context and has no targeting key.
            (_, Val::Null) if in_scope => None,
            (dialect, Val::Null) => self.implicit_hash(implicit_prefix(&self.flag.key, dialect)),
            (_, value) => value.as_str().map(|text| Murmur3::of(text.as_bytes())),
        }
    }

    /// `fractional` with computed parts.
    pub(super) fn fractional(
        &self,
        bucket_by: Option<NodeId>,
        entries: Run,
        in_scope: bool,
        scope: Scope<'_, 'e>,
    ) -> Val<'e> {
        let bucket_by = bucket_by.map(|node| self.eval(node, scope));
        let mut entries = self.eval_all(entries, scope);
        let by = match bucket_by {
            Some(value) if value.items().is_some() => {
                entries.insert(0, value);
                None
            }
            other => other,
        };
        self.place_among(by.as_ref(), &entries, in_scope)
            .unwrap_or(Val::Null)
    }

    fn place_among(
        &self,
        by: Option<&Val<'e>>,
        entries: &[Val<'e>],
        in_scope: bool,
    ) -> Option<Val<'e>> {
        let entries: Vec<(Val<'e>, u32)> = entries.iter().map(entry).collect::<Option<_>>()?;
        let boundaries = Boundaries::cumulate(entries.iter().map(|(_, weight)| *weight))?;
        let hash = match by {
            Some(value) => self.hash_or_implicit(value, in_scope)?,
            None if in_scope => return None,
            None => self.implicit_hash(implicit_prefix(&self.flag.key, self.flag.dialect))?,
        };
        if T::IS_ON {
            self.tell(&boundaries, hash, &self.bytes_of(by.unwrap_or(&Val::Null)));
        }
        let index = boundaries.locate(hash, self.flag.dialect)?;
        entries.into_iter().nth(index).map(|(outcome, _)| outcome)
    }

    fn tell(&self, boundaries: &Boundaries, hash: u32, bytes: &[u8]) {
        if let Some(place) = boundaries.place(hash, self.flag.dialect) {
            self.trace.split(&Placed {
                dialect: self.flag.dialect,
                bytes,
                hash,
                point: place.point,
                total: boundaries.total(),
                range: boundaries.range(place.entry),
                entry: place.entry,
            });
        }
    }

    fn hashed_bytes(&self, table: &SplitTable) -> Vec<u8> {
        match &table.input {
            HashInput::Implicit { .. } => self.bytes_of(&Val::Null),
            HashInput::Joined { text, slot, .. } => {
                let joined = format!("{text}{}", coerce::to_joined_text(self.slot_value(*slot)));
                self.bytes_of(&Val::Text(joined.into()))
            }
            HashInput::Computed(node) => self.bytes_of(&self.eval(*node, Scope::Context)),
        }
    }

    /// The bytes hashed for a first argument; null stands for the implicit input.
    fn bytes_of(&self, by: &Val<'e>) -> Vec<u8> {
        let mut bytes = Vec::new();
        match (self.flag.dialect, by) {
            (Bucketing::V3, Val::Null) => {
                implicit_head(&self.flag.key, Bucketing::V3, &mut bytes);
                cbor::text(&mut bytes, self.targeting_key().unwrap_or_default());
            }
            (Bucketing::V3, value) => value.encode(&mut bytes),
            (_, Val::Null) => {
                bytes.extend_from_slice(self.flag.key.as_bytes());
                bytes.extend_from_slice(self.targeting_key().unwrap_or_default().as_bytes());
            }
            (_, value) => bytes.extend_from_slice(value.as_str().unwrap_or_default().as_bytes()),
        }
        bytes
    }
}

fn joined_hash(prefix: Murmur3, value: &Val<'_>) -> u32 {
    match value.as_str() {
        Some(text) => prefix.with(text.as_bytes()).finish(),
        None => prefix
            .with(coerce::to_joined_text(value).as_bytes())
            .finish(),
    }
}

/// The hash of the part of the implicit input that the flag key gives.
pub(crate) fn implicit_prefix(flag_key: &str, dialect: Bucketing) -> Murmur3 {
    let mut prefix = Murmur3::default();
    implicit_head(flag_key, dialect, &mut prefix);
    prefix
}

fn implicit_head(flag_key: &str, dialect: Bucketing, sink: &mut impl cbor::Sink) {
    match dialect {
        Bucketing::V1 | Bucketing::V2 => sink.put(flag_key.as_bytes()),
        Bucketing::V3 => {
            cbor::array_head(sink, 2);
            cbor::text(sink, flag_key);
        }
    }
}

/// `[variant]` or `[variant, weight]`; the variant a string, a boolean, a number or null.
fn entry<'e>(value: &Val<'e>) -> Option<(Val<'e>, u32)> {
    let items = value.items()?;
    let outcome = items.get(0)?;
    let is_scalar = !matches!(outcome, Val::Json(_) | Val::List(_) | Val::Object(_));
    let weight = match items.get(1) {
        Some(weight) => weight_of(&weight)?,
        None => 1,
    };
    (is_scalar && items.len() <= 2).then_some((outcome, weight))
}

/// A whole number up to [`MAX_WEIGHT`]; negative ones count as 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked before"
)]
pub(crate) fn weight_of(value: &Val<'_>) -> Option<u32> {
    let number = coerce::as_number(value)?;
    if number.fract() != 0.0 || number > f64::from(MAX_WEIGHT) {
        return None;
    }
    Some(number.max(0.0) as u32)
}
