//! Lists of numbers in flags, with errors that name the place.

use std::str::FromStr;

/// Most numbers in one list.
const LENGTH_MAX: usize = 1_000;

/// Comma-separated finite numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbers(pub(crate) Vec<f64>);

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let finite = |part: &str| part.parse::<f64>().ok().filter(|value| value.is_finite());
        list(text, "a finite number", finite).map(Self)
    }
}

/// Comma-separated counts: whole numbers of at least 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counts(pub(crate) Vec<u64>);

impl FromStr for Counts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        list(text, "a whole number of at least 0", |part| {
            part.parse::<u64>().ok()
        })
        .map(Self)
    }
}

fn list<T>(text: &str, what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() > LENGTH_MAX {
        return Err(format!(
            "{} values; at most {LENGTH_MAX} are taken",
            parts.len()
        ));
    }
    parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            parse(part).ok_or_else(|| {
                let shown: String = part.chars().take(40).collect();
                format!(
                    "value {} is {shown:?}, not {what}; separate values by commas",
                    index + 1
                )
            })
        })
        .collect()
}
