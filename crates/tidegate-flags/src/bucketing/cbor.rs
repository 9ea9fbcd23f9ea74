//! Deterministic CBOR (RFC 8949, section 4.2.1) of the values that v3 bucketing hashes.
//!
//! Whole numbers in `[-2^63, 2^64 - 1]` are integers whatever their spelling (`1.0` is
//! `1`, `-0.0` is `0`); other numbers take the shortest of f16, f32, f64 that keeps them
//! exactly; map keys are sorted by their encoded bytes, which for text is by length and
//! then bytewise. The encoder writes into a hash or a buffer, whichever the caller has.

use super::murmur3::Murmur3;
use serde_json::{Map, Number, Value};

/// Where encoded bytes go.
pub(crate) trait Sink {
    /// Takes the next bytes of the encoding.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Murmur3 {
    fn put(&mut self, bytes: &[u8]) {
        self.write(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Encodes any JSON value.
pub(crate) fn value(sink: &mut impl Sink, value: &Value) {
    match value {
        Value::Null => null(sink),
        Value::Bool(flag) => boolean(sink, *flag),
        Value::Number(number) => json_number(sink, number),
        Value::String(content) => text(sink, content),
        Value::Array(items) => {
            array_head(sink, items.len());
            for item in items {
                self::value(sink, item);
            }
        }
        Value::Object(map) => object(sink, map),
    }
}

/// Encodes null.
pub(crate) fn null(sink: &mut impl Sink) {
    sink.put(&[0xf6]);
}

/// Encodes a boolean.
pub(crate) fn boolean(sink: &mut impl Sink, flag: bool) {
    sink.put(&[if flag { 0xf5 } else { 0xf4 }]);
}

/// Encodes a text string.
pub(crate) fn text(sink: &mut impl Sink, content: &str) {
    head(sink, TEXT, length(content.len()));
    sink.put(content.as_bytes());
}

/// Opens an array of `items` values, which the caller encodes next.
pub(crate) fn array_head(sink: &mut impl Sink, items: usize) {
    head(sink, ARRAY, length(items));
}

/// Encodes a signed integer.
pub(crate) fn integer(sink: &mut impl Sink, integer: i64) {
    match u64::try_from(integer) {
        Ok(unsigned) => head(sink, UNSIGNED, unsigned),
        Err(_) => head(sink, NEGATIVE, integer.unsigned_abs() - 1),
    }
}

/// Encodes an unsigned integer.
pub(crate) fn unsigned(sink: &mut impl Sink, integer: u64) {
    head(sink, UNSIGNED, integer);
}

/// Encodes a float: as an integer if it is whole and in range, else as short as exact.
pub(crate) fn float(sink: &mut impl Sink, number: f64) {
    match whole(number) {
        Some(Whole::Signed(value)) => integer(sink, value),
        Some(Whole::Unsigned(value)) => unsigned(sink, value),
        None => shortest_float(sink, number),
    }
}

fn json_number(sink: &mut impl Sink, number: &Number) {
    if let Some(value) = number.as_i64() {
        integer(sink, value);
    } else if let Some(value) = number.as_u64() {
        unsigned(sink, value);
    } else if let Some(value) = number.as_f64() {
        float(sink, value);
    }
}

/// Encodes an object.
pub(crate) fn object(sink: &mut impl Sink, map: &Map<String, Value>) {
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| (key.len(), key.as_bytes()));
    head(sink, MAP, length(entries.len()));
    for (key, item) in entries {
        text(sink, key);
        value(sink, item);
    }
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn head(sink: &mut impl Sink, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..=23 => sink.put(&[major | bytes[7]]),
        24..=0xff => sink.put(&[major | 24, bytes[7]]),
        0x100..=0xffff => sink.put(&[major | 25, bytes[6], bytes[7]]),
        0x1_0000..=0xffff_ffff => {
            sink.put(&[major | 26]);
            sink.put(&bytes[4..]);
        }
        _ => {
            sink.put(&[major | 27]);
            sink.put(&bytes);
        }
    }
}

pub(crate) enum Whole {
    Signed(i64),
    Unsigned(u64),
}

/// The integer that `number` is, if it is whole and within `[-2^63, 2^64 - 1]`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the match arms bound the whole number to the target type"
)]
pub(crate) fn whole(number: f64) -> Option<Whole> {
    const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
    const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;
    if number.fract() != 0.0 {
        return None;
    }
    if (-TWO_POW_63..TWO_POW_63).contains(&number) {
        Some(Whole::Signed(number as i64))
    } else if (TWO_POW_63..TWO_POW_64).contains(&number) {
        Some(Whole::Unsigned(number as u64))
    } else {
        None
    }
}

#[expect(clippy::cast_possible_truncation, reason = "checked by widening back")]
fn shortest_float(sink: &mut impl Sink, number: f64) {
    let single = number as f32;
    if f64::from(single).to_bits() != number.to_bits() {
        sink.put(&[0xfb]);
        sink.put(&number.to_be_bytes());
    } else if let Some(half) = half_of(single) {
        sink.put(&[0xf9]);
        sink.put(&half.to_be_bytes());
    } else {
        sink.put(&[0xfa]);
        sink.put(&single.to_be_bytes());
    }
}

/// The IEEE 754 half-precision bits of `single`, if they keep it exactly.
fn half_of(single: f32) -> Option<u16> {
    let bits = single.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let mantissa = bits & 0x007f_ffff;
    let half = match (bits >> 23) & 0xff {
        0 => (mantissa == 0).then_some(0),
        0xff => (mantissa == 0).then_some(0x7c00),
        exponent @ 113..=142 => {
            (mantissa & 0x1fff == 0).then(|| ((exponent - 112) << 10) | (mantissa >> 13))
        }
        exponent @ 103..=112 => {
            let significand = mantissa | 0x0080_0000;
            let shift = 126 - exponent;
            (significand & ((1 << shift) - 1) == 0).then(|| significand >> shift)
        }
        _ => None,
    }?;
    u16::try_from(sign | half).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn encode(value: &Value) -> String {
        let mut bytes = Vec::new();
        super::value(&mut bytes, value);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Examples of RFC 8949, appendix A, under the deterministic number rule.
    #[test]
    fn encodes_the_examples_of_the_rfc() {
        let cases = [
            (json!(0), "00"),
            (json!(23), "17"),
            (json!(24), "1818"),
            (json!(1000), "1903e8"),
            (json!(1_000_000), "1a000f4240"),
            (json!(1_000_000_000_000_u64), "1b000000e8d4a51000"),
            (json!(u64::MAX), "1bffffffffffffffff"),
            (json!(-1), "20"),
            (json!(-100), "3863"),
            (json!(i64::MIN), "3b7fffffffffffffff"),
            (json!(1.0), "01"),
            (json!(-0.0), "00"),
            (json!(1.5), "f93e00"),
            (json!(65504.5), "fa477fe080"),
            (json!(3.402_823_466_385_288_6e38), "fa7f7fffff"),
            (json!(1.1), "fb3ff199999999999a"),
            (json!(1.0e300), "fb7e37e43c8800759c"),
            (json!(5.960_464_477_539_063e-8), "f90001"),
            (json!(0.000_061_035_156_25), "f90400"),
            (json!(-4.1), "fbc010666666666666"),
            (json!(""), "60"),
            (json!("\u{6c34}"), "63e6b0b4"),
            (json!([1, [2, 3]]), "8201820203"),
            (json!({"b": [2, 3], "a": 1}), "a26161016162820203"),
            (json!({"aa": null, "z": true}), "a2617af5626161f6"),
        ];
        for (value, hex) in cases {
            assert_eq!(encode(&value), hex, "{value}");
        }
    }
}
