//! Published and independently computed figures at their printed precision
//! (`spec/stats/reference_values.json`).

#![expect(clippy::unwrap_used, reason = "test helpers")]

use serde_json::Value;
use tidegate_stats::delta::DeltaEffect;
use tidegate_stats::fixed::{self, FixedOptions, Reference};
use tidegate_stats::ratio::{self, RatioColumns};
use tidegate_stats::sequential::{self, Boundary, SequentialOptions, Tuning};
use tidegate_stats::special::normal_quantile;
use tidegate_stats::{
    ArmSummary, Comparison, Contrast, JointMoments, Moments, Relative, Side, Tail,
};

const VALUES: &str = include_str!("../../../spec/stats/reference_values.json");

/// What a method said, by the names the file uses.
struct Figures {
    relative: Relative,
    p: f64,
    comparison: Option<Comparison>,
    degrees: f64,
}

impl Figures {
    fn get(&self, name: &str) -> f64 {
        let absolute = |read: fn(&Comparison) -> Option<f64>| {
            self.comparison.as_ref().and_then(read).unwrap_or(f64::NAN)
        };
        match name {
            "p" => self.p,
            "degrees" => self.degrees,
            "relative.estimate" => self.relative.estimate.unwrap(),
            "relative.lower" => self.relative.lower.unwrap(),
            "relative.upper" => self.relative.upper.unwrap(),
            "absolute.estimate" => absolute(|c| Some(c.absolute.estimate)),
            "absolute.lower" => absolute(|c| c.absolute.lower),
            "absolute.upper" => absolute(|c| c.absolute.upper),
            "standard_error" => absolute(|c| Some(c.standard_error)),
            "multiplier" => absolute(|c| c.method.multiplier),
            "t" => absolute(|c| Some(c.absolute.estimate / c.standard_error)),
            other => panic!("unknown figure {other}"),
        }
    }
}

/// Half a unit in the last printed digit, or a whole one where the source cuts digits off.
fn tolerance(text: &str, row: &Value) -> f64 {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let decimals = mantissa
        .split_once('.')
        .map_or(0, |(_, digits)| digits.len());
    let exponent: i32 = exponent.parse().unwrap();
    let units = if row["printed"] == "cut off" {
        1.0001
    } else {
        0.5001
    };
    units * 10f64.powi(exponent - i32::try_from(decimals).unwrap())
}

fn tail(method: &Value) -> Tail {
    match method["tail"].as_str() {
        None => Tail::TwoSided,
        Some("greater") => Tail::Greater,
        Some(other) => panic!("unknown tail {other}"),
    }
}

fn contrast(row: &Value) -> Contrast {
    let arm = |value: &Value, side| {
        let units = value["units"].as_u64().unwrap();
        if let Some(successes) = value["successes"].as_u64() {
            return ArmSummary::from_counts(successes, units, side).unwrap();
        }
        let sums = [&value["sum"], &value["sum_of_squares"]].map(|v| v.as_f64().unwrap());
        let moments = Moments::from_sums(units, sums[0], sums[1]).unwrap();
        ArmSummary::from_moments(&moments, side).unwrap()
    };
    let control = arm(&row["control"], Side::Control);
    let treatment = arm(&row["treatment"], Side::Treatment);
    Contrast::of_means(&control, &treatment).unwrap()
}

fn sequential_options(method: &Value) -> SequentialOptions {
    assert_eq!(method["tuning"], "common");
    SequentialOptions {
        tail: tail(method),
        tune_at: method["tune_at"].as_f64().unwrap(),
        tuning: Tuning::Common,
        ..SequentialOptions::default()
    }
}

fn figures(contrast: &Contrast, method: &Value) -> Figures {
    let tail = tail(method);
    let normal = method["reference"] == "normal";
    let degrees = if normal {
        f64::INFINITY
    } else {
        contrast.degrees()
    };
    let from = |comparison: Comparison| Figures {
        relative: comparison.relative,
        p: comparison.p_value,
        comparison: Some(comparison),
        degrees,
    };
    match method["name"].as_str().unwrap() {
        "fixed" => {
            let reference = if normal {
                Reference::Normal
            } else {
                Reference::Student
            };
            let options = FixedOptions {
                tail,
                reference,
                ..FixedOptions::default()
            };
            from(fixed::compare_contrast(contrast, &options).unwrap())
        }
        "sequential" => {
            from(sequential::compare_contrast(contrast, &sequential_options(method)).unwrap())
        }
        "delta" => {
            let delta = DeltaEffect::of(contrast).unwrap();
            let relative = delta.interval(fixed::multiplier(0.05, degrees, tail), tail);
            let p = fixed::ln_p_value(delta.statistic(), degrees, tail).exp();
            Figures {
                relative,
                p,
                comparison: None,
                degrees,
            }
        }
        "delta_sequential" => {
            let delta = DeltaEffect::of(contrast).unwrap();
            let boundary = Boundary::new(&sequential_options(method)).unwrap();
            let units = contrast.units_total();
            let relative = delta.interval(boundary.multiplier(units), tail);
            let p = boundary.ln_p(units, delta.statistic()).exp();
            Figures {
                relative,
                p,
                comparison: None,
                degrees,
            }
        }
        other => panic!("unknown method {other}"),
    }
}

fn check(row: &Value, expected: &str, figures: &Figures, failures: &mut Vec<String>) {
    let id = row["id"].as_str().unwrap();
    for (name, text) in row[expected].as_object().unwrap() {
        let text = text.as_str().unwrap();
        let expected: f64 = text.parse().unwrap();
        let actual = figures.get(name);
        let error = (actual - expected).abs();
        if error.is_nan() || error > tolerance(text, row) {
            failures.push(format!("{id}: {name} is {actual:.12e}, printed {text}"));
        }
    }
}

#[test]
fn comparisons_reproduce_the_printed_digits() {
    let values: Value = serde_json::from_str(VALUES).unwrap();
    let mut failures = Vec::new();
    for row in values["comparisons"].as_array().unwrap() {
        let figures = figures(&contrast(row), &row["method"]);
        check(row, "expect", &figures, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn ratios_reproduce_the_printed_digits() {
    let values: Value = serde_json::from_str(VALUES).unwrap();
    let mut failures = Vec::new();
    for row in values["ratios"].as_array().unwrap() {
        let arm = |value: &Value| {
            let [m, mm, d] = ["m", "mm", "d"].map(|key| value[key].as_f64().unwrap());
            // The denominator is 0 or 1, so its square is itself and the cross-product the numerator.
            JointMoments::from_sums(value["units"].as_u64().unwrap(), &[m, d], &[mm, m, d]).unwrap()
        };
        let columns = RatioColumns {
            numerator: 0,
            denominator: 1,
        };
        let contrast =
            ratio::contrast(&arm(&row["control"]), &arm(&row["treatment"]), columns).unwrap();
        for (method, expected) in [("delta", "expect_delta"), ("fixed", "expect_fieller")] {
            let method = serde_json::json!({ "name": method });
            check(row, expected, &figures(&contrast, &method), &mut failures);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn multipliers_reproduce_the_printed_digits() {
    let values: Value = serde_json::from_str(VALUES).unwrap();
    for row in values["multipliers"].as_array().unwrap() {
        let alpha = row["alpha"].as_f64().unwrap();
        let tune_at = 1e6;
        let options = SequentialOptions {
            alpha,
            tune_at,
            ..SequentialOptions::default()
        };
        let boundary = Boundary::new(&options).unwrap();
        let multiplier = boundary.multiplier(tune_at * row["at"].as_f64().unwrap());
        let ratio = multiplier / -normal_quantile(alpha / 2.0);
        for (text, actual) in [("multiplier", multiplier), ("over_fixed", ratio)] {
            let Some(text) = row[text].as_str() else {
                continue;
            };
            let expected: f64 = text.parse().unwrap();
            assert!(
                (actual - expected).abs() <= tolerance(text, row),
                "{row}: {actual}"
            );
        }
    }
}
