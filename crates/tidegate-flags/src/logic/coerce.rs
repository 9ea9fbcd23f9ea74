//! JavaScript's coercions, as JsonLogic inherits them.
//!
//! Source: ECMAScript 2023, sections 6.1.6.1.20 (Number::toString), 7.1.4 (ToNumber),
//! 7.1.17 (ToString), 7.2.14 (IsLooselyEqual), 7.2.15 (IsStrictlyEqual),
//! 19.2.4 (parseFloat).

use super::value::{TextOf, Val};
use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A signed integer as a JavaScript number, rounded to 53 bits.
#[expect(clippy::cast_precision_loss, reason = "JsonLogic numbers are doubles")]
pub(crate) fn double(value: i64) -> f64 {
    value as f64
}

/// An unsigned integer as a JavaScript number, rounded to 53 bits.
#[expect(clippy::cast_precision_loss, reason = "JsonLogic numbers are doubles")]
pub(crate) fn double_unsigned(value: u64) -> f64 {
    value as f64
}

/// ToNumber.
pub(crate) fn to_number(value: &Val<'_>) -> f64 {
    match value {
        Val::Null => 0.0,
        Val::Bool(flag) => f64::from(u8::from(*flag)),
        Val::Int(value) => double(*value),
        Val::Uint(value) => double_unsigned(*value),
        Val::Float(value) => *value,
        Val::Str(text, _) => text_to_number(text),
        Val::Text(text) => text_to_number(text),
        Val::Json(_) | Val::List(_) | Val::Object(_) => text_to_number(&to_text(value)),
    }
}

/// The value as a number if it is one already.
pub(crate) fn as_number(value: &Val<'_>) -> Option<f64> {
    match value {
        Val::Int(_) | Val::Uint(_) | Val::Float(_) => Some(to_number(value)),
        _ => None,
    }
}

fn text_to_number(text: &str) -> f64 {
    let text = text.trim_matches(is_js_space);
    if text.is_empty() {
        return 0.0;
    }
    for (prefix, radix) in [
        ("0x", 16),
        ("0X", 16),
        ("0o", 8),
        ("0O", 8),
        ("0b", 2),
        ("0B", 2),
    ] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return digits_to_number(digits, radix);
        }
    }
    match decimal_prefix(text) {
        length if length == text.len() => parse_decimal(text),
        _ => f64::NAN,
    }
}

fn digits_to_number(digits: &str, radix: u32) -> f64 {
    let number = digits.chars().try_fold(0.0, |number: f64, digit| {
        digit
            .to_digit(radix)
            .map(|value| number * f64::from(radix) + f64::from(value))
    });
    number.filter(|_| !digits.is_empty()).unwrap_or(f64::NAN)
}

/// JavaScript's parseFloat of the value's text: the longest decimal prefix.
pub(crate) fn parse_float(value: &Val<'_>) -> f64 {
    if let Some(number) = as_number(value) {
        return number;
    }
    let text = to_text(value);
    let text = text.trim_start_matches(is_js_space);
    match decimal_prefix(text) {
        0 => f64::NAN,
        length => parse_decimal(&text[..length]),
    }
}

fn is_js_space(character: char) -> bool {
    character.is_whitespace() && character != '\u{85}' || character == '\u{feff}'
}

fn parse_decimal(text: &str) -> f64 {
    if text.ends_with("Infinity") {
        return if text.starts_with('-') {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        };
    }
    text.parse().unwrap_or(f64::NAN)
}

/// Bytes of the longest prefix that is a StrDecimalLiteral.
fn decimal_prefix(text: &str) -> usize {
    let bytes = text.as_bytes();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    if text[sign..].starts_with("Infinity") {
        return sign + "Infinity".len();
    }
    let digits_from = |start: usize| {
        bytes[start.min(bytes.len())..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let whole = digits_from(sign);
    let mut end = sign + whole;
    let mut fraction = 0;
    if bytes.get(end) == Some(&b'.') {
        fraction = digits_from(end + 1);
        if whole + fraction > 0 {
            end += 1 + fraction;
        }
    }
    if whole + fraction == 0 {
        return 0;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits_from(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}

/// ToString, except that array items join as `Array.prototype.join` does.
pub(crate) fn to_text<'a>(value: &'a Val<'_>) -> TextOf<'a> {
    match value {
        Val::Null => Cow::Borrowed("null"),
        Val::Bool(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Val::Int(value) if value.unsigned_abs() <= 1 << 53 => Cow::Owned(value.to_string()),
        Val::Int(value) => Cow::Owned(number_text(double(*value))),
        Val::Uint(value) => Cow::Owned(number_text(double_unsigned(*value))),
        Val::Float(value) => Cow::Owned(number_text(*value)),
        Val::Str(text, _) => Cow::Borrowed(text),
        Val::Text(text) => Cow::Borrowed(text),
        Val::Json(Value::Array(_)) | Val::List(_) => Cow::Owned(joined(value, ",")),
        Val::Json(_) | Val::Object(_) => Cow::Borrowed("[object Object]"),
    }
}

/// The text of `value` as an item of a join: null is empty.
pub(crate) fn to_joined_text<'a>(value: &'a Val<'_>) -> TextOf<'a> {
    if matches!(value, Val::Null) {
        Cow::Borrowed("")
    } else {
        to_text(value)
    }
}

fn joined(list: &Val<'_>, separator: &str) -> String {
    let mut text = String::new();
    for (index, item) in list
        .items()
        .iter()
        .flat_map(|items| items.iter())
        .enumerate()
    {
        if index > 0 {
            text.push_str(separator);
        }
        text.push_str(&to_joined_text(&item));
    }
    text
}

/// Number::toString in base 10: shortest digits, exponent outside 1e-7 to 1e21.
pub(crate) fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity".to_owned()
        } else {
            "-Infinity".to_owned()
        };
    }
    let size = number.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if (1e-6..1e21).contains(&size) {
        return format!("{number}");
    }
    let scientific = format!("{number:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => scientific,
    }
}

/// `==`.
pub(crate) fn loosely_equal(a: &Val<'_>, b: &Val<'_>) -> bool {
    match (kind(a), kind(b)) {
        (Kind::Null, Kind::Null) => true,
        (Kind::Null, _) | (_, Kind::Null) => false,
        (Kind::Text, Kind::Text) | (Kind::Structure, Kind::Structure) => strictly_equal(a, b),
        (Kind::Structure, Kind::Text) | (Kind::Text, Kind::Structure) => to_text(a) == to_text(b),
        _ => to_number(a) == to_number(b),
    }
}

/// `===`; two structures are equal only if they are the same one.
pub(crate) fn strictly_equal(a: &Val<'_>, b: &Val<'_>) -> bool {
    match (a, b) {
        (Val::Null, Val::Null) => true,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Str(_, a), Val::Str(_, b)) if a.0.max(b.0) < super::value::Atom::FOREIGN.0 => a == b,
        (Val::Json(a), Val::Json(b)) => std::ptr::eq(*a, *b),
        (Val::List(a), Val::List(b)) => std::sync::Arc::ptr_eq(a, b),
        (Val::Object(a), Val::Object(b)) => std::sync::Arc::ptr_eq(a, b),
        _ => match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) => a == b,
            _ => as_number(a).zip(as_number(b)).is_some_and(|(a, b)| a == b),
        },
    }
}

/// The order that `<` and its kin see; `None` if a side is not a number.
pub(crate) fn compare(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    let is_textual = |value| matches!(kind(value), Kind::Text | Kind::Structure);
    if is_textual(a) && is_textual(b) {
        return Some(to_text(a).encode_utf16().cmp(to_text(b).encode_utf16()));
    }
    to_number(a).partial_cmp(&to_number(b))
}

#[derive(PartialEq)]
enum Kind {
    Null,
    Plain,
    Text,
    Structure,
}

fn kind(value: &Val<'_>) -> Kind {
    match value {
        Val::Null => Kind::Null,
        Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Float(_) => Kind::Plain,
        Val::Str(..) | Val::Text(_) => Kind::Text,
        Val::Json(_) | Val::List(_) | Val::Object(_) => Kind::Structure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_print_as_javascript_prints_them() {
        for (number, text) in [
            (1.0, "1"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (1e21, "1e+21"),
            (123e18, "123000000000000000000"),
            (1e-7, "1e-7"),
            (0.000_001, "0.000001"),
            (1.5e300, "1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (9_007_199_254_740_993.0, "9007199254740992"),
        ] {
            assert_eq!(number_text(number), text);
        }
    }

    #[test]
    fn text_converts_to_numbers_as_in_javascript() {
        for (text, number) in [
            ("", 0.0),
            (" 12 ", 12.0),
            ("1e3", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("0x1F", 31.0),
            ("-Infinity", f64::NEG_INFINITY),
            ("+3", 3.0),
        ] {
            assert_eq!(text_to_number(text), number, "{text:?}");
        }
        for text in [
            "1px", "abc", "1_000", ".", "e3", "0x", "inf", "nan", "1 2", "--1", "infinity",
        ] {
            assert!(text_to_number(text).is_nan(), "{text:?}");
        }
    }

    #[test]
    fn parse_float_takes_the_longest_prefix() {
        for (value, number) in [
            (json!("3px"), 3.0),
            (json!("1.5e"), 1.5),
            (json!(" 2.0.1"), 2.0),
            (json!([7, 8]), 7.0),
        ] {
            assert_eq!(parse_float(&Val::of(&value)), number, "{value}");
        }
        for value in [json!(true), json!(null), json!("x"), json!({})] {
            assert!(parse_float(&Val::of(&value)).is_nan(), "{value}");
        }
    }

    #[test]
    fn equality_and_order_follow_javascript() {
        let loose = [
            (json!(1), json!("1"), true),
            (json!(0), json!(false), true),
            (json!(null), json!(0), false),
            (json!(null), json!(null), true),
            (json!([1, 2]), json!("1,2"), true),
            (json!({}), json!("[object Object]"), true),
            (json!([]), json!(0), true),
            (json!("a"), json!("b"), false),
            (json!(1.0), json!(1), true),
            (json!([]), json!([]), false),
        ];
        for (a, b, equal) in &loose {
            assert_eq!(
                loosely_equal(&Val::of(a), &Val::of(b)),
                *equal,
                "{a} == {b}"
            );
        }
        assert!(!strictly_equal(&Val::of(&json!(1)), &Val::of(&json!("1"))));
        let order = |a: Value, b: Value| compare(&Val::of(&a), &Val::of(&b));
        assert_eq!(order(json!("10"), json!("9")), Some(Ordering::Less));
        assert_eq!(order(json!("10"), json!(9)), Some(Ordering::Greater));
        assert_eq!(order(json!(null), json!(5)), Some(Ordering::Less));
        assert_eq!(order(json!("x"), json!(5)), None);
        assert_eq!(
            order(json!("\u{ff61}"), json!("\u{1f600}")),
            Some(Ordering::Greater)
        );
    }
}
