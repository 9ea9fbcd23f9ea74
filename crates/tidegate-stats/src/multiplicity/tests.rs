//! What `multiplicity` promises, held against published values, properties and bad input.

use proptest::prelude::*;

use super::*;

fn close(found: &[f64], expected: &[f64]) -> bool {
    found
        .iter()
        .zip(expected)
        .all(|(a, b)| (a - b).abs() < 1e-12)
}

#[test]
fn holm_and_benjamini_hochberg_by_hand() {
    let p_values = [0.01, 0.04, 0.03, 0.005];
    assert!(close(&holm(&p_values).unwrap(), &[0.03, 0.06, 0.06, 0.02]));
    assert!(close(
        &benjamini_hochberg(&p_values).unwrap(),
        &[0.02, 0.04, 0.04, 0.02]
    ));
}

#[test]
fn e_values_reject_from_the_top() {
    let log_e = [40.0_f64, 1.0, 41.0, 90.0].map(f64::ln);
    // m / (R alpha) = 80/R at alpha .05: 90 >= 80, 41 >= 40, 40 >= 26.7.
    assert_eq!(
        e_benjamini_hochberg(&log_e, 0.05).unwrap(),
        [true, false, true, true]
    );
}

#[test]
fn a_fixed_sequence_stops_at_the_first_that_stands() {
    let graph = Graph::fixed_sequence(3);
    assert_eq!(
        graphical(&[0.04, 0.2, 0.001], &graph, 0.05).unwrap(),
        [true, false, false]
    );
    assert_eq!(
        graphical(&[0.04, 0.05, 0.001], &graph, 0.05).unwrap(),
        [true, true, true]
    );
}

#[test]
fn secondaries_wait_for_all_primaries() {
    let graph = Graph::gatekeeper(2, 2);
    let found = graphical(&[0.01, 0.06, 0.0001, 0.0001], &graph, 0.05).unwrap();
    assert_eq!(found, [true, false, false, false]);
    // Both primaries fall; the secondaries are Holm's: .02 <= .025, then .04 <= .05.
    let found = graphical(&[0.01, 0.04, 0.04, 0.02], &graph, 0.05).unwrap();
    assert_eq!(found, [true, true, true, true]);
    let found = graphical(&[0.01, 0.04, 0.04, 0.03], &graph, 0.05).unwrap();
    assert_eq!(found, [true, true, false, false]);
}

#[test]
fn levels_of_intervals() {
    let findings = [true, false, true, false];
    let simultaneous = interval_alphas(&findings, 0.05, Coverage::Simultaneous);
    assert_eq!(simultaneous, [Some(0.0125); 4]);
    let rate = interval_alphas(&findings, 0.05, Coverage::FalseCoverageRate);
    assert_eq!(rate, [Some(0.025), None, Some(0.025), None]);
}

#[test]
fn refusals() {
    assert!(matches!(
        holm(&[0.5, f64::NAN]),
        Err(FamilyError::PValue { index: 1, .. })
    ));
    assert!(matches!(
        e_benjamini_hochberg(&[f64::NAN], 0.05),
        Err(FamilyError::EValue { index: 0 })
    ));
    assert!(matches!(
        graphical(&[0.1], &Graph::fixed_sequence(2), 0.05),
        Err(FamilyError::Graph { .. })
    ));
    assert!(matches!(
        graphical(&[0.1], &Graph::fixed_sequence(1), 1.5),
        Err(FamilyError::Alpha { .. })
    ));
}

proptest! {
    /// Without primaries the gatekeeper is Holm's procedure.
    #[test]
    fn the_graph_generalises_holm(p_values in prop::collection::vec(0.0_f64..=0.1, 2..7)) {
        let by_graph = graphical(&p_values, &Graph::gatekeeper(0, p_values.len()), 0.05).unwrap();
        let by_holm: Vec<bool> = holm(&p_values).unwrap().iter().map(|p| *p <= 0.05).collect();
        let near_edge = holm(&p_values).unwrap().iter().any(|p| (p - 0.05).abs() < 1e-9);
        prop_assert!(near_edge || by_graph == by_holm);
    }

    #[test]
    fn adjusted_values_are_ordered(p_values in prop::collection::vec(0.0_f64..=1.0, 1..20)) {
        let (strict, loose) = (holm(&p_values).unwrap(), benjamini_hochberg(&p_values).unwrap());
        for index in 0..p_values.len() {
            prop_assert!(p_values[index] <= loose[index] + 1e-15);
            prop_assert!(loose[index] <= strict[index] + 1e-15);
            prop_assert!(strict[index] <= 1.0);
        }
    }
}
