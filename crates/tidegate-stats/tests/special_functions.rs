//! Special functions against values computed with 60 digits (`spec/stats/special_functions.json`).

use serde_json::Value;
use tidegate_stats::special;

const VECTORS: &str = include_str!("../../../spec/stats/special_functions.json");

fn evaluate(function: &str, args: &[f64]) -> f64 {
    match (function, args) {
        ("normal_sf", [z]) => special::normal_sf(*z),
        ("normal_ln_sf", [z]) => special::normal_ln_sf(*z),
        ("normal_upper_quantile_ln", [p]) => special::normal_upper_quantile_ln(*p),
        ("student_t_sf", [t, degrees]) => special::student_t_sf(*t, *degrees),
        ("student_t_quantile", [p, degrees]) => special::student_t_quantile(*p, *degrees),
        ("ln_gamma", [x]) => special::ln_gamma(*x),
        ("ln_beta", [a, b]) => special::ln_beta(*a, *b),
        ("beta_inc", [a, b, x]) => special::beta_inc(*a, *b, *x),
        ("beta_inc_inv", [a, b, p]) => special::beta_inc_inv(*a, *b, *p),
        ("gamma_inc_upper", [a, x]) => special::gamma_inc_upper(*a, *x),
        ("chi_square_sf", [x, degrees]) => special::chi_square_sf(*x, *degrees),
        ("lambert_w_m1", [x]) => special::lambert_w_m1(*x),
        other => panic!("the vectors name a function the test does not know: {other:?}"),
    }
}

#[test]
fn every_function_agrees_with_the_oracle_to_1e_11() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut checked = 0;
    let mut failures = Vec::new();
    for (function, rows) in vectors.as_object().unwrap() {
        for row in rows.as_array().into_iter().flatten() {
            let args: Vec<f64> = row["args"]
                .as_array()
                .unwrap()
                .iter()
                .map(|arg| arg.as_f64().unwrap())
                .collect();
            let expected = row["value"].as_f64().unwrap();
            let actual = evaluate(function, &args);
            let error = (actual - expected).abs() / expected.abs();
            checked += 1;
            if actual != expected && (error > 1e-11 || actual.is_nan()) {
                failures.push(format!(
                    "{function}{args:?}: {actual:e}, oracle {expected:e}, {error:e}"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(checked > 250, "only {checked} vectors read");
}

#[test]
fn tails_of_one_in_1e300_keep_their_digits() {
    let z = special::normal_upper_quantile_ln(1e-300_f64.ln());
    assert!((special::normal_sf(z) / 1e-300 - 1.0).abs() < 1e-11);
    assert!(
        (special::student_t_sf(special::student_t_quantile(1e-300, 5.0), 5.0) - 1.0).abs() < 1e-11
    );
    let t = -special::student_t_quantile(1e-300, 5.0);
    assert!((special::student_t_sf(t, 5.0) / 1e-300 - 1.0).abs() < 1e-11);
}

#[test]
fn the_ends_of_every_domain_are_defined() {
    assert_eq!(special::normal_sf(f64::INFINITY), 0.0);
    assert_eq!(special::normal_sf(f64::NEG_INFINITY), 1.0);
    assert_eq!(special::normal_quantile(0.0), f64::NEG_INFINITY);
    assert_eq!(special::normal_quantile(1.0), f64::INFINITY);
    assert_eq!(special::normal_quantile(0.5), 0.0);
    assert!(special::normal_quantile(1.5).is_nan());
    assert_eq!(special::student_t_sf(f64::INFINITY, 3.0), 0.0);
    assert!(special::student_t_sf(1.0, 0.0).is_nan());
    assert_eq!(special::beta_inc(2.0, 3.0, 0.0), 0.0);
    assert_eq!(special::beta_inc(2.0, 3.0, 1.0), 1.0);
    assert!(special::beta_inc(-1.0, 3.0, 0.5).is_nan());
    assert_eq!(special::gamma_inc_upper(2.0, 0.0), 1.0);
    assert_eq!(special::lambert_w_m1(0.0), f64::NEG_INFINITY);
    assert!(special::lambert_w_m1(-1.0).is_nan());
}

#[test]
fn no_argument_makes_a_special_function_panic_or_hang() {
    bolero::check!()
        .with_type::<(u64, u64, u64)>()
        .for_each(|bits| {
            let (a, b, c) = (
                f64::from_bits(bits.0),
                f64::from_bits(bits.1),
                f64::from_bits(bits.2),
            );
            for p in [special::normal_sf(a), special::student_t_sf(a, b)] {
                assert!(
                    p.is_nan() || (0.0..=1.0).contains(&p),
                    "{p} from {a:e} {b:e}"
                );
            }
            let _ = special::normal_quantile(a);
            let _ = special::student_t_quantile(a, b);
            let _ = special::lambert_w_m1(a);
            let _ = special::ln_gamma(a);
            let _ = special::ln_beta(a, b);
            // The work of these grows with the square root of the parameters, which callers bound.
            if a.abs() < 1e8 && b.abs() < 1e8 {
                let p = special::beta_inc(a, b, c);
                assert!(
                    p.is_nan() || (0.0..=1.0 + 1e-12).contains(&p),
                    "{p} from {a:e} {b:e} {c:e}"
                );
                let _ = special::beta_inc_inv(a, b, c);
                let _ = special::gamma_inc_upper(a, b);
            }
        });
}
