//! What `decision` promises, held against published values, properties and bad input.

use proptest::prelude::*;

use super::*;

fn evidence(role: Role, lower: Option<f64>, upper: Option<f64>) -> Evidence {
    Evidence {
        metric: "checkout".to_owned(),
        role,
        desired: Desired::Increase,
        estimate: lower.zip(upper).map(|(lower, upper)| 0.5 * (lower + upper)),
        lower,
        upper,
        alpha: 0.05,
        method: "always-valid".to_owned(),
    }
}

const SUCCESS: Role = Role::Success { zone: Some(0.02) };
const GUARD: Role = Role::Guardrail { margin: 0.01 };

fn verdict(evidence: &[Evidence], is_final: bool) -> Verdict {
    decide(evidence, Trust::Trusted, is_final).unwrap().verdict
}

#[test]
fn the_rule_case_by_case() {
    let better = evidence(SUCCESS, Some(0.01), Some(0.04));
    let open = evidence(SUCCESS, Some(-0.01), Some(0.04));
    let none = evidence(SUCCESS, Some(-0.01), Some(0.01));
    let worse = evidence(SUCCESS, Some(-0.05), Some(-0.01));
    let held = evidence(GUARD, Some(-0.005), Some(0.02));
    let loose = evidence(GUARD, Some(-0.03), Some(0.02));
    let broken = evidence(GUARD, Some(-0.05), Some(-0.02));
    let cases = [
        (vec![better.clone(), held.clone()], false, Verdict::Ship),
        (
            vec![better.clone(), loose.clone()],
            false,
            Verdict::KeepGoing,
        ),
        (vec![better.clone(), loose], true, Verdict::DoNotShip),
        (vec![better.clone(), broken], false, Verdict::DoNotShip),
        (vec![better, worse], false, Verdict::DoNotShip),
        (vec![open.clone(), held.clone()], false, Verdict::KeepGoing),
        (vec![open, held.clone()], true, Verdict::DoNotShip),
        (vec![none, held], false, Verdict::NoEffectWithinZone),
    ];
    for (evidence, is_final, expected) in cases {
        assert_eq!(verdict(&evidence, is_final), expected, "{evidence:?}");
    }
}

#[test]
fn the_gate_comes_first() {
    let better = [evidence(SUCCESS, Some(0.01), Some(0.04))];
    assert_eq!(
        decide(&better, Trust::Untrusted, true).unwrap().verdict,
        Verdict::Withheld
    );
    assert_eq!(
        decide(&better, Trust::TooEarly, false).unwrap().verdict,
        Verdict::KeepGoing
    );
}

#[test]
fn less_is_better_when_so_declared() {
    let mut latency = evidence(SUCCESS, Some(-0.06), Some(-0.03));
    latency.desired = Desired::Decrease;
    assert_eq!(verdict(&[latency], false), Verdict::Ship);
}

#[test]
fn an_unbounded_set_says_so() {
    let unknown = evidence(SUCCESS, None, None);
    let found = decide(&[unknown], Trust::Trusted, false).unwrap();
    assert_eq!(
        found.readings[0].sentence,
        "checkout is undecided: the change is of any size (95 % confidence, always-valid)."
    );
}

#[test]
fn refusals() {
    let guard_only = [evidence(GUARD, Some(0.0), Some(0.1))];
    assert_eq!(
        decide(&guard_only, Trust::Trusted, false),
        Err(DecisionError::NoSuccessMetric)
    );
    let turned = [evidence(SUCCESS, Some(0.1), Some(0.0))];
    assert!(matches!(
        decide(&turned, Trust::Trusted, false),
        Err(DecisionError::Interval { .. })
    ));
    let nan = [evidence(SUCCESS, Some(f64::NAN), None)];
    assert!(matches!(
        decide(&nan, Trust::Trusted, false),
        Err(DecisionError::Interval { .. })
    ));
    let margin = [evidence(Role::Guardrail { margin: 2.0 }, None, None)];
    assert!(matches!(
        decide(&margin, Trust::Trusted, false),
        Err(DecisionError::Margin { .. })
    ));
}

/// Whether the words of a sentence leave room for a true change of `value`.
fn sentence_allows(sentence: &str, reading: &MetricReading, value: f64) -> bool {
    let good = match reading.evidence.desired {
        Desired::Increase => value,
        Desired::Decrease => -value,
    };
    let direction_fits = (!sentence.contains(" is better") || good > 0.0)
        && (!sentence.contains(" is worse") || good < 0.0);
    let width_fits = match reading.evidence.role {
        Role::Guardrail { margin } => {
            (!sentence.contains("within its margin") || good > -margin)
                && (!sentence.contains("more than its margin") || good < -margin)
        }
        Role::Success { zone } => {
            !sentence.contains("zone of no effect") || good.abs() < zone.unwrap()
        }
    };
    direction_fits && width_fits && range_allows(sentence, value)
}

fn range_allows(sentence: &str, value: f64) -> bool {
    let percent = 100.0 * value;
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let numbers: Vec<f64> = words
        .iter()
        .filter(|word| word.starts_with('+') || word.starts_with('-'))
        .map(|word| word.parse().unwrap())
        .collect();
    match numbers.as_slice() {
        [] => sentence.contains("of any size"),
        [low] if sentence.contains("or more") => *low <= percent,
        [high] => percent <= *high,
        [low, high] => *low <= percent && percent <= *high,
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_sentence_claims_more_than_its_interval(
        ends in (-0.9_f64..0.9, 0.0_f64..0.9),
        at in 0.0_f64..=1.0,
        open_below in any::<bool>(),
        open_above in any::<bool>(),
        decrease in any::<bool>(),
        width in 0.001_f64..0.2,
        guard in any::<bool>(),
    ) {
        let (lower, upper) = (ends.0, ends.0 + ends.1);
        let role = if guard { Role::Guardrail { margin: width } } else { Role::Success { zone: Some(width) } };
        let mut item = evidence(role, (!open_below).then_some(lower), (!open_above).then_some(upper));
        if decrease {
            item.desired = Desired::Decrease;
        }
        let reading = read(&item);
        let mut inside = vec![lower + at * (upper - lower)];
        if open_below {
            inside.push(-100.0);
        }
        if open_above {
            inside.push(100.0);
        }
        for value in inside {
            prop_assert!(sentence_allows(&reading.sentence, &reading, value), "{} {value}", reading.sentence);
        }
    }

    /// A verdict to ship is never given while harm is inside an interval's room.
    #[test]
    fn ship_implies_a_win_and_no_harm(
        success in (-0.2_f64..0.2, 0.0_f64..0.2),
        guard in (-0.2_f64..0.2, 0.0_f64..0.2),
        is_final in any::<bool>(),
    ) {
        let items = [
            evidence(SUCCESS, Some(success.0), Some(success.0 + success.1)),
            evidence(GUARD, Some(guard.0), Some(guard.0 + guard.1)),
        ];
        if verdict(&items, is_final) == Verdict::Ship {
            prop_assert!(success.0 > 0.0 && guard.0 > -0.01);
        }
    }
}
