//! Which of two versions is the newer one, where their text alone can tell.
//!
//! Comparable are versions with the same text around the same number of numbers: `v12` and `v9`, `1.10.0` and
//! `1.9.3`, `release_7` and `release_12`.
//! Anything else (commit ids, branch names, different schemes) is not comparable, and no order is guessed.

use std::cmp::Ordering;

/// Longest run of digits read as a number.
const MAX_DIGITS: usize = 18;

/// Order of two versions, or `None` where the text does not tell.
#[must_use]
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    if looks_like_commit(a) || looks_like_commit(b) {
        return None;
    }
    let (mut left, mut right) = (pieces(a), pieces(b));
    let mut order = Ordering::Equal;
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Some(order),
            (Some(Piece::Text(a)), Some(Piece::Text(b))) if a == b => {}
            (Some(Piece::Number(a)), Some(Piece::Number(b))) => order = order.then(a.cmp(&b)),
            _ => return None,
        }
    }
}

/// Steps from one version to the next where they differ in a single number, such as `v12` to `v15`.
#[must_use]
pub fn step(from: &str, to: &str) -> Option<i64> {
    compare(from, to)?;
    let numbers = |text| {
        let mut numbers = pieces(text).filter_map(|piece| match piece {
            Piece::Number(number) => Some(number),
            Piece::Text(_) => None,
        });
        let only = numbers.next()?;
        numbers.next().is_none().then_some(only)
    };
    i64::try_from(numbers(to)?)
        .ok()?
        .checked_sub(i64::try_from(numbers(from)?).ok()?)
}

fn looks_like_commit(text: &str) -> bool {
    text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

enum Piece<'v> {
    Text(&'v str),
    Number(u64),
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let is_digit = rest.bytes().next()?.is_ascii_digit();
        let end = rest
            .bytes()
            .position(|byte| byte.is_ascii_digit() != is_digit)
            .unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        match piece.parse() {
            Ok(number) if is_digit && piece.len() <= MAX_DIGITS => Some(Piece::Number(number)),
            _ => Some(Piece::Text(piece)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_only_what_is_comparable() {
        let cases = [
            ("v9", "v12", Some(Ordering::Less)),
            ("v12", "v12", Some(Ordering::Equal)),
            ("1.10.0", "1.9.3", Some(Ordering::Greater)),
            ("release_7", "v8", None),
            ("v7", "v7-on-pg", None),
            ("main", "main", Some(Ordering::Equal)),
            ("06ae02d80606711000e54c7e8d54356fcc650106", "v7", None),
            ("", "", Some(Ordering::Equal)),
        ];
        for (a, b, expected) in cases {
            assert_eq!(compare(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn steps_need_a_single_number() {
        assert_eq!(step("v9", "v12"), Some(3));
        assert_eq!(step("v12", "v9"), Some(-3));
        assert_eq!(step("1.9", "1.10"), None);
        assert_eq!(step("latest", "v1"), None);
    }
}
