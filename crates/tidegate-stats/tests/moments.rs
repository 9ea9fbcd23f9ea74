//! Sufficient statistics: exact, mergeable in any order, right where naive sums are not.

use proptest::prelude::*;
use tidegate_stats::{ExactSum, JointMoments, Moments};

/// Doubles of every magnitude and sign, subnormals included.
fn any_double() -> impl Strategy<Value = f64> {
    any::<u64>()
        .prop_map(f64::from_bits)
        .prop_filter("finite", |value| value.is_finite())
}

proptest! {
    #[test]
    fn merging_in_any_order_gives_the_same_bits(
        values in prop::collection::vec(any_double(), 0..40),
        cut in 0..40_usize,
    ) {
        let forward = Moments::from_values(values.iter().copied()).unwrap();
        let backward = Moments::from_values(values.iter().rev().copied()).unwrap();
        let (left, right) = values.split_at(cut.min(values.len()));
        let mut merged = Moments::from_values(right.iter().copied()).unwrap();
        merged.merge(&Moments::from_values(left.iter().copied()).unwrap());
        let text = serde_json::to_string(&forward).unwrap();
        prop_assert_eq!(&text, &serde_json::to_string(&backward).unwrap());
        prop_assert_eq!(&text, &serde_json::to_string(&merged).unwrap());
        let read: Moments = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &forward);
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn a_sum_and_its_negation_cancel_to_the_last_bit(
        values in prop::collection::vec(any_double(), 1..40),
        small in any_double(),
    ) {
        let mut sum = ExactSum::from_value(small).unwrap();
        for value in &values {
            sum.add(*value).unwrap();
            sum.add_product(*value, 3.0).unwrap();
        }
        for value in values.iter().rev() {
            sum.add(-value).unwrap();
            sum.add_product(-value, 3.0).unwrap();
        }
        // Zero has one sign here.
        prop_assert_eq!(sum.value(), small);
    }

    #[test]
    fn one_addition_rounds_as_the_processor_does(left in any_double(), right in any_double()) {
        let mut sum = ExactSum::from_value(left).unwrap();
        sum.add(right).unwrap();
        prop_assert_eq!(sum.value(), left + right);
        let mut product = ExactSum::new();
        product.add_product(left, right).unwrap();
        prop_assert_eq!(product.value(), left * right);
    }

    #[test]
    fn a_constant_has_no_variance(value in any_double(), units in 2..50_usize) {
        let moments = Moments::from_values(std::iter::repeat_n(value, units)).unwrap();
        prop_assert_eq!(moments.variance(), Some(0.0));
    }

    #[test]
    fn joint_moments_agree_with_single_ones(
        rows in prop::collection::vec((-1e6..1e6_f64, -1e3..1e3_f64), 2..30),
    ) {
        let mut joint = JointMoments::new(2).unwrap();
        let mut second_half = JointMoments::new(2).unwrap();
        for (index, (x, y)) in rows.iter().enumerate() {
            let target = if index % 2 == 0 { &mut joint } else { &mut second_half };
            target.push(&[*x, *y]).unwrap();
        }
        joint.merge(&second_half).unwrap();
        let xs = Moments::from_values(rows.iter().map(|row| row.0)).unwrap();
        prop_assert_eq!(joint.covariance(0, 0), xs.variance());
        prop_assert_eq!(joint.mean(0), xs.mean());
        prop_assert_eq!(joint.covariance(0, 1), joint.covariance(1, 0));
        let sums = Moments::from_values(rows.iter().map(|row| row.0 + row.1)).unwrap();
        let expected = joint.covariance(0, 0).unwrap()
            + 2.0 * joint.covariance(0, 1).unwrap()
            + joint.covariance(1, 1).unwrap();
        prop_assert!((sums.variance().unwrap() - expected).abs() <= 1e-9 * expected.max(1.0));
        let text = serde_json::to_string(&joint).unwrap();
        prop_assert_eq!(serde_json::from_str::<JointMoments>(&text).unwrap(), joint);
    }
}

#[test]
fn the_variance_is_right_at_mean_1e8_and_standard_deviation_1() {
    // Ten thousand values 1e8 + k / 1024 whose variance is known in closed form.
    let values = (0..10_000).map(|k| 1e8 + f64::from(k % 1024) / 1024.0);
    let shifted = Moments::from_values(values).unwrap();
    let plain = Moments::from_values((0..10_000).map(|k| f64::from(k % 1024) / 1024.0)).unwrap();
    assert_eq!(shifted.variance(), plain.variance());
    // Neighbouring doubles are 1.5e-8 apart at 1e8.
    assert!((shifted.mean().unwrap() - 1e8 - plain.mean().unwrap()).abs() < 0.8e-8);
}

#[test]
fn a_million_units_leave_a_few_limbs() {
    let moments = Moments::from_values((0..1_000_000).map(|k| f64::from(k) * 0.37)).unwrap();
    assert!(serde_json::to_string(&moments).unwrap().len() < 160);
    assert_eq!(moments.events(), 999_999);
}

#[test]
fn what_is_not_finite_is_refused_and_changes_nothing() {
    let mut moments = Moments::from_values([1.0, 2.0]).unwrap();
    let before = moments.clone();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(moments.push(value).is_err());
    }
    assert_eq!(moments, before);
    let mut joint = JointMoments::new(2).unwrap();
    assert!(joint.push(&[1.0, f64::NAN]).is_err());
    assert!(joint.push(&[1.0]).is_err());
    assert_eq!(joint, JointMoments::new(2).unwrap());
    assert!(JointMoments::new(65).is_err());
    assert!(joint.merge(&JointMoments::new(3).unwrap()).is_err());
    assert!(Moments::from_sums(10, 100.0, 1.0).is_err());
    assert!(JointMoments::from_sums(10, &[1.0, 2.0], &[1.0]).is_err());
}

#[test]
fn a_malformed_sum_is_refused() {
    for text in [
        "",
        "*",
        "1*0",
        "0000000g*0",
        "00000001*99",
        "00000001*-99",
        "--00000001*0",
        "00000001",
    ] {
        let json = serde_json::to_string(text).unwrap();
        let read = serde_json::from_str::<ExactSum>(&json);
        assert!(read.is_err(), "{text} was read as {read:?}");
    }
    let fields = r#"{"units":1,"events":[1],"sums":["00000001*0"],"products":[]}"#;
    assert!(serde_json::from_str::<JointMoments>(fields).is_err());
}

#[test]
fn reading_any_text_never_panics() {
    bolero::check!().with_type::<String>().for_each(|text| {
        if let Ok(sum) = ExactSum::try_from(text.clone()) {
            let written = String::from(sum.clone());
            assert_eq!(ExactSum::try_from(written).ok(), Some(sum));
        }
    });
}
