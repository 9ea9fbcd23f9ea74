//! Operators on values: no program, no context.

use super::coerce;
use super::program::{Arithmetic, Order};
use super::value::{TextOf, Val};
use serde_json::Value;

/// `a < b` and its kin.
pub(crate) fn in_order(order: Order, a: &Val<'_>, b: &Val<'_>) -> bool {
    coerce::compare(a, b).is_some_and(|ordering| match order {
        Order::Less => ordering.is_lt(),
        Order::LessOrEqual => ordering.is_le(),
        Order::Greater => ordering.is_gt(),
        Order::GreaterOrEqual => ordering.is_ge(),
    })
}

/// `in`: an item of an array by strict equality, or a part of a text.
pub(crate) fn contains(stack: &Val<'_>, needle: &Val<'_>) -> bool {
    match (stack.items(), stack.as_str()) {
        (Some(items), _) => items
            .iter()
            .any(|item| coerce::strictly_equal(&item, needle)),
        (None, Some(text)) => !text.is_empty() && text.contains(&*coerce::to_text(needle)),
        (None, None) => false,
    }
}

/// `+ - * / % min max` with JavaScript's conversions: `+` and `*` parse floats, the others
/// convert. One operand of `-` negates; one operand of `*` is itself.
pub(crate) fn arithmetic<'e>(arithmetic: Arithmetic, operands: &[Val<'e>]) -> Val<'e> {
    let number = |index: usize| operands.get(index).map_or(f64::NAN, coerce::to_number);
    let parsed = || operands.iter().map(coerce::parse_float);
    let converted = || operands.iter().map(coerce::to_number);
    Val::Float(match (arithmetic, operands) {
        (Arithmetic::Multiply, []) => return Val::Null,
        (Arithmetic::Multiply, [single]) => return single.clone(),
        (Arithmetic::Add, _) => parsed().sum::<f64>() + 0.0,
        (Arithmetic::Multiply, _) => parsed().product(),
        (Arithmetic::Subtract, [_]) => -number(0),
        (Arithmetic::Subtract, _) => number(0) - number(1),
        (Arithmetic::Divide, _) => number(0) / number(1),
        (Arithmetic::Remainder, _) => number(0) % number(1),
        (Arithmetic::Min, _) => converted().fold(f64::INFINITY, |a, b| extreme(a, b, f64::min)),
        (Arithmetic::Max, _) => converted().fold(f64::NEG_INFINITY, |a, b| extreme(a, b, f64::max)),
    })
}

/// `Math.min` and `Math.max` give NaN once an operand is NaN.
fn extreme(a: f64, b: f64, choose: impl FnOnce(f64, f64) -> f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        choose(a, b)
    }
}

/// `substr`: start may count from the end, a negative length cuts from the end. Counts
/// characters, not UTF-16 units.
pub(crate) fn substr(text: &Val<'_>, start: &Val<'_>, length: Option<&Val<'_>>) -> String {
    let text = coerce::to_text(text);
    let count = text.chars().count();
    let start = whole(coerce::to_number(start));
    let skip = if start < 0 {
        count.saturating_sub(size(start.saturating_neg()))
    } else {
        size(start)
    };
    let left = count.saturating_sub(skip);
    let take = match length.map(|length| whole(coerce::to_number(length))) {
        None => left,
        Some(length) if length < 0 => left.saturating_sub(size(length.saturating_neg())),
        Some(length) => size(length),
    };
    text.chars().skip(skip).take(take).collect()
}

/// ToIntegerOrInfinity, saturated.
#[expect(
    clippy::cast_possible_truncation,
    reason = "float to integer casts saturate; NaN is 0"
)]
fn whole(number: f64) -> i64 {
    number as i64
}

fn size(count: i64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// `starts_with` and `ends_with`: null unless both are strings.
pub(crate) fn with_affix<'e>(
    text: &Val<'e>,
    affix: &Val<'e>,
    holds: impl FnOnce(&str, &str) -> bool,
) -> Val<'e> {
    match (text.as_str(), affix.as_str()) {
        (Some(text), Some(affix)) => Val::Bool(holds(text, affix)),
        _ => Val::Null,
    }
}

/// The text that `sem_ver` reads: strings as they are, numbers printed.
pub(crate) fn version_text<'a>(value: &'a Val<'_>) -> Option<TextOf<'a>> {
    let is_usable = value.as_str().is_some() || coerce::as_number(value).is_some();
    is_usable.then(|| coerce::to_text(value))
}

/// What walking over `value` costs, in budget units.
pub(crate) fn size_of(value: &Val<'_>) -> usize {
    match value {
        Val::Str(text, _) => text.len() / 16,
        Val::Text(text) => text.len() / 16,
        Val::Json(value) => json_size(value),
        Val::List(items) => items.iter().map(|item| 1 + size_of(item)).sum(),
        Val::Object(map) => map.values().map(|item| 1 + json_size(item)).sum(),
        _ => 0,
    }
}

fn json_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() / 16,
        Value::Array(items) => items.iter().map(|item| 1 + json_size(item)).sum(),
        Value::Object(map) => map.values().map(|item| 1 + json_size(item)).sum(),
        _ => 0,
    }
}
