//! Sums of doubles and of products of doubles without any rounding until they are read.
//!
//! # Promise
//! `ExactSum` holds the mathematical sum of everything added to it.
//! Because addition of integers is associative and commutative, any order of additions and any tree of
//! merges yields the same value and, once written, the same bytes; rounding happens once, on reading, to
//! the nearest double, ties to even.
//!
//! # How
//! A finite double is an integer of 53 bits times a power of two, a product of two an integer of 106
//! bits.
//! They are added into a little-endian array of signed 64-bit limbs with 32 payload bits each (Kulisch's
//! long accumulator with deferred carries); the array covers only the exponents that occurred, so a
//! typical sum takes four to six limbs instead of the full range.
//! A carry is propagated after at most `2^30` additions, so no limb overflows.
//!
//! # When it fails
//! It refuses NaN and infinity.
//! The sum of finitely many doubles always fits; only reading it as a double can overflow, which gives an
//! infinity that callers refuse.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, finite};

/// Payload bits of a limb.
const LIMB_BITS: i32 = 32;

/// Additions after which carries must be propagated.
const CARRY_AFTER: u32 = 1 << 30;

/// Bounds of the limb positions a sum of products can occupy, with room for `2^64` terms.
const LIMB_RANGE: std::ops::RangeInclusive<i32> = -70..=70;

/// An exact running sum; see the module documentation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExactSum {
    /// Position of the first limb: limb `i` weighs `2^(32 (lowest + i))`.
    lowest: i32,
    limbs: Vec<i64>,
    additions: u32,
}

impl ExactSum {
    /// The sum of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A sum that holds one value.
    ///
    /// # Errors
    /// If it is not finite.
    pub fn from_value(value: f64) -> Result<Self, StatsError> {
        let mut sum = Self::new();
        sum.add(value)?;
        Ok(sum)
    }

    /// Adds a value.
    ///
    /// # Errors
    /// If it is not finite; the sum is then unchanged.
    pub fn add(&mut self, value: f64) -> Result<(), StatsError> {
        let parts = Parts::of(finite("value", value)?);
        self.add_scaled(parts.negative, parts.mantissa, parts.exponent);
        Ok(())
    }

    /// Adds the exact product of two values.
    ///
    /// # Errors
    /// If one is not finite; the sum is then unchanged.
    pub fn add_product(&mut self, left: f64, right: f64) -> Result<(), StatsError> {
        let left = Parts::of(finite("value", left)?);
        let right = Parts::of(finite("value", right)?);
        let product = u128::from(left.mantissa) * u128::from(right.mantissa);
        let negative = left.negative != right.negative;
        let exponent = left.exponent + right.exponent;
        self.add_scaled(negative, low_half(product), exponent);
        self.add_scaled(negative, low_half(product >> 64), exponent + 64);
        Ok(())
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        let other = other.exact();
        for (position, limb) in (other.lowest..).zip(&other.limbs) {
            self.add_scaled(other.negative, u64::from(*limb), position * LIMB_BITS);
        }
    }

    /// The sum, rounded once to the nearest double; infinite where it exceeds the largest.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.exact().to_f64()
    }

    /// The sum as a big number.
    pub(crate) fn exact(&self) -> Exact {
        let mut carry = 0_i64;
        let mut digits = Vec::with_capacity(self.limbs.len() + 2);
        for limb in &self.limbs {
            let total = limb + carry;
            carry = total >> LIMB_BITS;
            digits.push(low_limb(total));
        }
        let negative = carry < 0;
        if negative {
            negate(&mut digits, &mut carry);
        }
        while carry != 0 {
            digits.push(low_limb(carry));
            carry >>= LIMB_BITS;
        }
        Exact {
            negative,
            lowest: self.lowest,
            limbs: digits,
        }
        .trimmed()
    }

    /// Adds `mantissa * 2^exponent` with a sign.
    fn add_scaled(&mut self, negative: bool, mantissa: u64, exponent: i32) {
        if mantissa == 0 {
            return;
        }
        let position = exponent.div_euclid(LIMB_BITS);
        let mut rest = u128::from(mantissa) << exponent.rem_euclid(LIMB_BITS);
        if self.additions >= CARRY_AFTER {
            self.propagate();
        }
        self.reserve(position, position + 2);
        self.additions += 1;
        let start = usize::try_from(position - self.lowest).unwrap_or(0);
        for limb in self.limbs.iter_mut().skip(start).take(3) {
            let part = i64::from(low_digit(rest));
            *limb += if negative { -part } else { part };
            rest >>= LIMB_BITS;
        }
    }

    /// Makes limbs for the positions `from..=to`.
    fn reserve(&mut self, from: i32, to: i32) {
        if self.limbs.is_empty() {
            self.lowest = from;
        }
        if from < self.lowest {
            let missing = usize::try_from(self.lowest - from).unwrap_or(0);
            self.limbs.splice(0..0, std::iter::repeat_n(0, missing));
            self.lowest = from;
        }
        let needed = usize::try_from(to - self.lowest + 1).unwrap_or(0);
        if self.limbs.len() < needed {
            self.limbs.resize(needed, 0);
        }
    }

    /// Propagates carries, so that the limbs have room again.
    fn propagate(&mut self) {
        let exact = self.exact();
        self.lowest = exact.lowest;
        self.limbs = exact.signed_limbs();
        self.additions = 1;
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.exact() == other.exact()
    }
}

/// Two's complement negation of `digits` together with the digits in `carry`.
fn negate(digits: &mut [u32], carry: &mut i64) {
    let mut borrow = 1_u64;
    for digit in digits {
        let total = u64::from(!*digit) + borrow;
        *digit = low_digit(u128::from(total));
        borrow = total >> LIMB_BITS;
    }
    *carry = !*carry + i64::from(low_digit(u128::from(borrow)));
}

/// A double taken apart: `(-1)^negative * mantissa * 2^exponent`.
struct Parts {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

impl Parts {
    fn of(value: f64) -> Self {
        let bits = value.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let biased = i32::try_from((bits >> 52) & 0x7ff).unwrap_or(0);
        let (mantissa, exponent) = if biased == 0 {
            (fraction, -1074)
        } else {
            (fraction | (1 << 52), biased - 1075)
        };
        Self {
            negative: value.is_sign_negative(),
            mantissa,
            exponent,
        }
    }
}

/// An exact number: sign, and a magnitude of 32-bit digits from position `lowest` upwards, without zero
/// digits at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exact {
    negative: bool,
    lowest: i32,
    limbs: Vec<u32>,
}

impl Exact {
    /// The exact product.
    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut limbs = vec![0_u32; self.limbs.len() + other.limbs.len()];
        for (i, left) in self.limbs.iter().enumerate() {
            let mut carry = 0_u64;
            for (j, right) in other.limbs.iter().enumerate() {
                let total = u64::from(*left) * u64::from(*right) + u64::from(limbs[i + j]) + carry;
                limbs[i + j] = low_digit(u128::from(total));
                carry = total >> LIMB_BITS;
            }
            limbs[i + other.limbs.len()] = low_digit(u128::from(carry));
        }
        Self {
            negative: self.negative != other.negative,
            lowest: self.lowest + other.lowest,
            limbs,
        }
        .trimmed()
    }

    /// The exact product with a count.
    pub(crate) fn times_count(&self, count: u64) -> Self {
        let mut limbs = Vec::with_capacity(self.limbs.len() + 2);
        let mut carry = 0_u128;
        for limb in &self.limbs {
            carry += u128::from(*limb) * u128::from(count);
            limbs.push(low_digit(carry));
            carry >>= LIMB_BITS;
        }
        while carry != 0 {
            limbs.push(low_digit(carry));
            carry >>= LIMB_BITS;
        }
        Self {
            negative: self.negative,
            lowest: self.lowest,
            limbs,
        }
        .trimmed()
    }

    /// The exact difference.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let lowest = self.lowest.min(other.lowest);
        let end = self.end().max(other.end());
        let mut sum = ExactSum {
            lowest,
            limbs: vec![0; usize::try_from(end - lowest).unwrap_or(0)],
            additions: 0,
        };
        sum.accumulate(self, self.negative);
        sum.accumulate(other, !other.negative);
        sum.exact()
    }

    /// The nearest double, ties to even.
    pub(crate) fn to_f64(&self) -> f64 {
        let Some(top) = self.limbs.last() else {
            return 0.0;
        };
        let top_bits = LIMB_BITS - i32::try_from(top.leading_zeros()).unwrap_or(0);
        let highest = (self.end() - 1) * LIMB_BITS + top_bits - 1;
        if highest > 1023 {
            return if self.negative {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            };
        }
        // The last bit a double keeps here: 52 below the highest, but never below the subnormal limit.
        let last = (highest - 52).max(-1074);
        let kept = self.bits_from(last, highest);
        let round_up = self.bit(last - 1) && (kept & 1 == 1 || self.any_bit_below(last - 1));
        let magnitude = (kept + u64::from(round_up)) as f64 * power_of_two(last);
        if self.negative { -magnitude } else { magnitude }
    }

    fn end(&self) -> i32 {
        self.lowest + i32::try_from(self.limbs.len()).unwrap_or(0)
    }

    fn digit(&self, position: i32) -> u32 {
        usize::try_from(position - self.lowest)
            .ok()
            .and_then(|index| self.limbs.get(index))
            .copied()
            .unwrap_or(0)
    }

    fn bit(&self, exponent: i32) -> bool {
        let digit = self.digit(exponent.div_euclid(LIMB_BITS));
        (digit >> exponent.rem_euclid(LIMB_BITS)) & 1 == 1
    }

    /// The bits `last..=highest` as an integer, at most 53 of them.
    fn bits_from(&self, last: i32, highest: i32) -> u64 {
        if highest < last {
            return 0;
        }
        let position = last.div_euclid(LIMB_BITS);
        let digits = u128::from(self.digit(position))
            | u128::from(self.digit(position + 1)) << LIMB_BITS
            | u128::from(self.digit(position + 2)) << (2 * LIMB_BITS);
        let mask = (1_u128 << (highest - last + 1)) - 1;
        low_half((digits >> last.rem_euclid(LIMB_BITS)) & mask)
    }

    fn any_bit_below(&self, exponent: i32) -> bool {
        let position = exponent.div_euclid(LIMB_BITS);
        let mask = (1_u32 << exponent.rem_euclid(LIMB_BITS)) - 1;
        self.digit(position) & mask != 0 || (self.lowest < position && !self.limbs.is_empty())
    }

    fn signed_limbs(&self) -> Vec<i64> {
        let sign = if self.negative { -1 } else { 1 };
        self.limbs
            .iter()
            .map(|limb| sign * i64::from(*limb))
            .collect()
    }

    fn trimmed(mut self) -> Self {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        let zeros = self.limbs.iter().take_while(|limb| **limb == 0).count();
        self.limbs.drain(..zeros);
        self.lowest += i32::try_from(zeros).unwrap_or(0);
        if self.limbs.is_empty() {
            return Self {
                negative: false,
                lowest: 0,
                limbs: Vec::new(),
            };
        }
        self
    }
}

impl ExactSum {
    /// Adds the digits of `exact`, whose positions are already reserved.
    fn accumulate(&mut self, exact: &Exact, negative: bool) {
        let start = usize::try_from(exact.lowest - self.lowest).unwrap_or(0);
        for (limb, digit) in self.limbs.iter_mut().skip(start).zip(&exact.limbs) {
            *limb += if negative {
                -i64::from(*digit)
            } else {
                i64::from(*digit)
            };
        }
    }
}

/// `2^exponent` for `-1074 <= exponent <= 1023`.
fn power_of_two(exponent: i32) -> f64 {
    if exponent >= -1022 {
        f64::from_bits(u64::try_from(exponent + 1023).unwrap_or(0) << 52)
    } else {
        f64::from_bits(1 << u32::try_from(exponent + 1074).unwrap_or(0))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "keeps the low 64 bits on purpose"
)]
fn low_half(wide: u128) -> u64 {
    wide as u64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "keeps the low 32 bits on purpose"
)]
fn low_digit(wide: u128) -> u32 {
    wide as u32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "keeps the low 32 bits of the two's complement on purpose"
)]
fn low_limb(wide: i64) -> u32 {
    wide as u32
}

/// Written as `[-]DIGITS*LIMB`: hexadecimal digits of the magnitude, eight to a limb, and the position of
/// the lowest limb; the same value always gives the same text.
impl From<ExactSum> for String {
    fn from(sum: ExactSum) -> Self {
        let exact = sum.exact();
        let mut text = String::with_capacity(8 * exact.limbs.len() + 8);
        if exact.negative {
            text.push('-');
        }
        for limb in exact.limbs.iter().rev() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{limb:08x}");
        }
        let _ = write!(text, "*{}", exact.lowest);
        text
    }
}

/// Why a written sum cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read an exact sum: expected [-]HEX*POSITION with eight digits to a limb, within range")]
pub struct MalformedSum;

impl TryFrom<String> for ExactSum {
    type Error = MalformedSum;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let (digits, position) = rest.split_once('*').ok_or(MalformedSum)?;
        let lowest: i32 = position.parse().map_err(|_| MalformedSum)?;
        let count = digits.len() / 8;
        let highest = i32::try_from(count)
            .ok()
            .and_then(|count| lowest.checked_add(count));
        let fits = LIMB_RANGE.contains(&lowest)
            && highest.is_some_and(|highest| LIMB_RANGE.contains(&highest));
        if !fits || digits.len() % 8 != 0 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(MalformedSum);
        }
        let limbs: Result<Vec<u32>, _> = (0..count)
            .rev()
            .map(|index| u32::from_str_radix(&digits[8 * index..8 * index + 8], 16))
            .collect();
        let limbs = limbs.map_err(|_| MalformedSum)?;
        let exact = Exact {
            negative,
            lowest,
            limbs,
        }
        .trimmed();
        Ok(Self {
            lowest: exact.lowest,
            limbs: exact.signed_limbs(),
            additions: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CARRY_AFTER, ExactSum};

    #[test]
    fn carries_are_propagated_before_a_limb_is_full() {
        let mut sum = ExactSum::from_value(1e300).unwrap();
        sum.add(-1e300).unwrap();
        sum.add(0.1).unwrap();
        sum.additions = CARRY_AFTER;
        // The sum is narrower after propagation than the value that is added next.
        sum.add(1e200).unwrap();
        assert_eq!(sum.additions, 2);
        sum.add(-1e200).unwrap();
        assert_eq!(sum.value(), 0.1);
    }
}
