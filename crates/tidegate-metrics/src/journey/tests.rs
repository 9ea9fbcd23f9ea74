//! The fold against enumeration of every choice of events, and the traps one by one.

use super::*;
use crate::exposure::Assignment;
use proptest::prelude::*;

fn step(name: &str, within_seconds: Option<u64>) -> Step {
    Step {
        event: EventFilter::named(name),
        within_seconds,
    }
}

fn journey(names: &[&str]) -> JourneyDefinition {
    JourneyDefinition {
        steps: names.iter().map(|name| step(name, None)).collect(),
        order: StepOrder::Ordered,
        within_seconds: None,
        exclusions: Vec::new(),
        reentry: Reentry::Once,
        timed_from: TimedFrom::LatestStart,
        key: None,
    }
}

/// Events as (second, name), classified by hand; entry range is everything.
fn classify(journey: &JourneyDefinition, events: &[(i64, &str)]) -> Vec<ClassifiedEvent> {
    events
        .iter()
        .map(|(second, name)| {
            let filters = journey.filters().enumerate();
            let matched = filters.filter(|(_, filter)| filter.name == *name);
            ClassifiedEvent {
                unit: 0,
                time_us: second * 1_000_000,
                matched: matched.map(|(bit, _)| 1 << bit).sum(),
                value: f64::NAN,
            }
        })
        .collect()
}

fn report(journey: &JourneyDefinition, events: &[(i64, &str)]) -> JourneyGroup {
    let everyone = [Assignment::EVERYONE];
    let mut fold = JourneyFold::new(journey, &everyone, i64::MIN..i64::MAX);
    for event in classify(journey, events) {
        fold.push(event);
    }
    let mut report = fold.finish(i64::MAX);
    report.groups.remove(&(0, 0)).unwrap_or_default()
}

fn level(journey: &JourneyDefinition, events: &[(i64, &str)]) -> u64 {
    report(journey, events).reached.iter().sum()
}

#[test]
fn ties_are_ordered_and_both_steps_count() {
    let ab = journey(&["a", "b"]);
    assert_eq!(level(&ab, &[(1, "a"), (1, "b")]), 2);
    assert_eq!(level(&ab, &[(1, "b"), (1, "a")]), 1);
}

#[test]
fn repeated_steps_need_as_many_events() {
    let aab = journey(&["a", "a", "b"]);
    assert_eq!(level(&aab, &[(1, "a"), (2, "b")]), 1);
    assert_eq!(level(&aab, &[(1, "a"), (2, "a"), (3, "b")]), 3);
}

#[test]
fn windows_are_inclusive_and_run_from_the_latest_start() {
    let mut ab = journey(&["a", "b"]);
    ab.within_seconds = Some(10);
    assert_eq!(level(&ab, &[(0, "a"), (10, "b")]), 2);
    assert_eq!(level(&ab, &[(0, "a"), (11, "b")]), 1);
    let found = report(&ab, &[(0, "a"), (5, "a"), (12, "b")]);
    assert_eq!(found.total_us, [7_000_000]);
    let mut gap = journey(&["a", "b", "c"]);
    gap.steps[2] = step("c", Some(3));
    assert_eq!(level(&gap, &[(0, "a"), (1, "b"), (4, "c")]), 3);
    assert_eq!(level(&gap, &[(0, "a"), (1, "b"), (5, "c")]), 2);
}

#[test]
fn strict_allows_nothing_between() {
    let mut ab = journey(&["a", "b"]);
    ab.order = StepOrder::Strict;
    assert_eq!(level(&ab, &[(0, "a"), (1, "b")]), 2);
    assert_eq!(level(&ab, &[(0, "a"), (1, "x"), (2, "b")]), 1);
    assert_eq!(level(&ab, &[(0, "a"), (1, "a"), (2, "b")]), 2);
}

#[test]
fn an_exclusion_drops_the_chain_and_a_new_one_may_begin() {
    let mut ab = journey(&["a", "b"]);
    ab.exclusions = vec![Exclusion {
        event: EventFilter::named("x"),
        after_step: 1,
    }];
    assert_eq!(level(&ab, &[(0, "a"), (1, "x"), (2, "b")]), 1);
    assert_eq!(level(&ab, &[(0, "a"), (1, "x"), (2, "a"), (3, "b")]), 2);
    assert_eq!(level(&ab, &[(0, "x"), (1, "a"), (2, "b")]), 2);
}

#[test]
fn any_order_counts_distinct_steps_within_the_window() {
    let mut abc = journey(&["a", "b", "c"]);
    abc.order = StepOrder::Any;
    abc.within_seconds = Some(10);
    assert_eq!(level(&abc, &[(0, "c"), (5, "a"), (10, "b")]), 3);
    assert_eq!(level(&abc, &[(0, "c"), (5, "a"), (11, "b")]), 2);
    assert_eq!(level(&abc, &[(0, "a"), (1, "a")]), 1);
}

#[test]
fn reentry_counts_completions_without_sharing_events() {
    let mut ab = journey(&["a", "b"]);
    ab.reentry = Reentry::EveryCompletion;
    let events = [(0, "a"), (1, "b"), (2, "b"), (3, "a"), (4, "a"), (5, "b")];
    let found = report(&ab, &events);
    assert_eq!((found.completions, found.reached), (2, vec![1, 1]));
    assert_eq!(report(&journey(&["a", "b"]), &events).completions, 1);
}

#[test]
fn the_time_to_completion_may_run_from_the_first_entry() {
    let mut ab = journey(&["a", "b"]);
    let events = [(0, "a"), (1, "x"), (2, "a"), (5, "b"), (9, "b")];
    assert_eq!(report(&ab, &events).total_us, [3_000_000]);
    ab.timed_from = TimedFrom::FirstEntry;
    assert_eq!(report(&ab, &events).total_us, [5_000_000]);
    ab.exclusions = vec![Exclusion {
        event: EventFilter::named("x"),
        after_step: 1,
    }];
    assert_eq!(report(&ab, &events).total_us, [5_000_000]);
    ab.exclusions.clear();
    ab.order = StepOrder::Any;
    let problems = ab.problems();
    assert_eq!(
        problems.first().map(|p| p.pointer.as_str()),
        Some("/timed_from")
    );
}

#[test]
fn completions_in_any_order_are_each_counted_once() {
    let mut ab = journey(&["a", "b"]);
    ab.order = StepOrder::Any;
    ab.reentry = Reentry::EveryCompletion;
    let once = [(0, "b"), (1, "a")];
    assert_eq!(report(&ab, &once).completions, 1);
    let twice = [(0, "b"), (1, "a"), (2, "a"), (3, "a"), (4, "b")];
    assert_eq!(report(&ab, &twice).completions, 2);
}

#[test]
fn units_that_skip_the_first_step_are_the_denominator_and_reached_is_monotone() {
    let ab = journey(&["a", "b"]);
    let found = report(&ab, &[(0, "b")]);
    assert_eq!((found.units, found.reached), (1, vec![0, 0]));
}

#[test]
fn events_before_exposure_and_of_mixed_units_count_nowhere() {
    let ab = journey(&["a", "b"]);
    let arm = |since_us, is_mixed| Assignment {
        since_us,
        variant: 4,
        segment: 0,
        is_mixed,
    };
    let units = [
        arm(Some(1_000_000), false),
        arm(Some(0), true),
        arm(None, false),
    ];
    let mut fold = JourneyFold::new(&ab, &units, i64::MIN..i64::MAX);
    for event in classify(&ab, &[(0, "a"), (1, "b"), (2, "a"), (3, "b")]) {
        for unit in 0..3 {
            fold.push(ClassifiedEvent { unit, ..event });
        }
    }
    let report = fold.finish(i64::MAX);
    assert_eq!(report.mixed_units, 1);
    assert_eq!(report.groups.len(), 1);
    let group = &report.groups[&(4, 0)];
    assert_eq!(
        (group.reached.clone(), group.total_us.clone()),
        (vec![1, 1], vec![1_000_000])
    );
}

#[test]
fn open_windows_are_marked_as_immature() {
    let mut ab = journey(&["a", "b"]);
    ab.within_seconds = Some(10);
    let everyone = [Assignment::EVERYONE; 3];
    let mut fold = JourneyFold::new(&ab, &everyone, 0..100_000_000);
    for (unit, events) in [
        (0, vec![(0, "a")]),
        (1, vec![(5, "a")]),
        (2, vec![(5, "a"), (6, "b")]),
    ] {
        for event in classify(&ab, &events) {
            fold.push(ClassifiedEvent { unit, ..event });
        }
    }
    assert_eq!(fold.finish(12_000_000).groups[&(0, 0)].immature, 1);
}

#[test]
fn durations_are_exact_at_linear_positions() {
    let group = JourneyGroup {
        total_us: vec![40, 10, 30, 20],
        ..JourneyGroup::default()
    };
    assert_eq!(group.total_quantile_us(0.5), Some(25.0));
    assert_eq!(group.total_quantile_us(1.0), Some(40.0));
    assert_eq!(JourneyGroup::default().total_quantile_us(0.5), None);
}

#[test]
fn a_definition_names_all_its_problems() {
    let mut wrong = journey(&["a", "b"]);
    wrong.order = StepOrder::Any;
    wrong.steps[1].within_seconds = Some(1);
    let pointers = |journey: &JourneyDefinition| -> Vec<String> {
        journey.problems().into_iter().map(|p| p.pointer).collect()
    };
    assert_eq!(pointers(&wrong), ["/steps/1/within_seconds"]);
    let mut wrong = journey(&[]);
    wrong.exclusions = vec![Exclusion {
        event: EventFilter::named("x"),
        after_step: 1,
    }];
    assert_eq!(pointers(&wrong), ["/steps", "/exclusions/0/after_step"]);
}

/// Enumerates every increasing choice of events; shares nothing with the fold.
fn oracle(journey: &JourneyDefinition, events: &[ClassifiedEvent], to_us: i64) -> usize {
    match journey.order {
        StepOrder::Any => oracle_any(journey, events, to_us),
        _ => (0..events.len())
            .filter(|at| events[*at].matched & 1 == 1 && events[*at].time_us < to_us)
            .map(|at| longest(journey, events, at, at, 1))
            .max()
            .unwrap_or(0),
    }
}

fn longest(
    journey: &JourneyDefinition,
    events: &[ClassifiedEvent],
    first: usize,
    last: usize,
    done: usize,
) -> usize {
    let Some(step) = journey.steps.get(done) else {
        return done;
    };
    let limit =
        |seconds: Option<u64>| seconds.map_or(i64::MAX, |s| i64::try_from(s).unwrap() * 1_000_000);
    (last + 1..events.len())
        .filter(|at| events[*at].matched >> done & 1 == 1)
        .filter(|at| events[*at].time_us - events[first].time_us <= limit(journey.within_seconds))
        .filter(|at| events[*at].time_us - events[last].time_us <= limit(step.within_seconds))
        .filter(|at| journey.order != StepOrder::Strict || *at == last + 1)
        .filter(|at| {
            let between = &events[last + 1..*at];
            !journey
                .exclusions
                .iter()
                .enumerate()
                .any(|(index, exclusion)| {
                    let bit = journey.steps.len() + index;
                    exclusion.after_step == done
                        && between.iter().any(|e| e.matched >> bit & 1 == 1)
                })
        })
        .map(|at| longest(journey, events, first, at, done + 1))
        .max()
        .unwrap_or(done)
}

fn oracle_any(journey: &JourneyDefinition, events: &[ClassifiedEvent], to_us: i64) -> usize {
    let steps = journey.steps.len();
    let limit = journey
        .within_seconds
        .map_or(i64::MAX, |s| i64::try_from(s).unwrap() * 1_000_000);
    let mut best = 0;
    for choice in 1u32..1 << events.len() {
        let chosen: Vec<usize> = (0..events.len())
            .filter(|at| choice >> at & 1 == 1)
            .collect();
        let mut served = 0u64;
        let is_fit = chosen.iter().all(|at| {
            let step = (events[*at].matched & ((1 << steps) - 1)).trailing_zeros();
            let is_new = step < 64 && served >> step & 1 == 0;
            if is_new {
                served |= 1 << step;
            }
            is_new
        });
        let (first, last) = (chosen[0], chosen[chosen.len() - 1]);
        let is_within = events[last].time_us - events[first].time_us <= limit;
        let is_clear = events[first + 1..=last]
            .iter()
            .all(|e| e.matched >> steps == 0);
        if is_fit && is_within && is_clear && events[first].time_us < to_us {
            best = best.max(chosen.len());
        }
    }
    best
}

fn any_case() -> impl Strategy<Value = (JourneyDefinition, Vec<ClassifiedEvent>, i64)> {
    let order = prop_oneof![
        3 => Just(StepOrder::Ordered),
        1 => Just(StepOrder::Strict),
        2 => Just(StepOrder::Any)
    ];
    let window = || prop::option::of(0u64..6);
    let steps = prop::collection::vec((0usize..3, window()), 2..5);
    let exclusions = prop::collection::vec(1usize..4, 0..3);
    let events = prop::collection::vec((0i64..3, 0usize..5), 0..9);
    (order, steps, window(), exclusions, events, 0i64..12).prop_map(
        |(order, steps, within_seconds, exclusions, events, to)| {
            let names = ["a", "b", "c", "x", "other"];
            let mut made = journey(&[]);
            made.order = order;
            made.within_seconds = within_seconds;
            made.steps = steps
                .iter()
                .map(|(name, gap)| step(names[*name], gap.filter(|_| order != StepOrder::Any)))
                .collect();
            if order != StepOrder::Strict {
                made.exclusions = exclusions
                    .into_iter()
                    .filter(|after_step| *after_step < made.steps.len())
                    .map(|after_step| Exclusion {
                        event: EventFilter::named("x"),
                        after_step,
                    })
                    .collect();
            }
            let mut second = 0;
            let events: Vec<(i64, &str)> = events
                .into_iter()
                .map(|(later, name)| {
                    second += later;
                    (second, names[name])
                })
                .collect();
            let classified = classify(&made, &events);
            (made, classified, to * 1_000_000)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_fold_equals_enumeration((journey, events, to_us) in any_case()) {
        prop_assert!(journey.problems().is_empty());
        let everyone = [Assignment::EVERYONE];
        let mut fold = JourneyFold::new(&journey, &everyone, i64::MIN..to_us);
        for event in &events {
            fold.push(*event);
        }
        prop_assert_eq!(fold.levels()[0], oracle(&journey, &events, to_us));
    }

    #[test]
    fn a_wider_window_or_fewer_exclusions_never_lower_a_level(
        (journey, events, _) in any_case()
    ) {
        let level = |journey: &JourneyDefinition| {
            let everyone = [Assignment::EVERYONE];
            let mut fold = JourneyFold::new(journey, &everyone, i64::MIN..i64::MAX);
            for event in &events {
                // Exclusion bits come last; those of dropped exclusions must vanish with them.
                let bits = journey.steps.len() + journey.exclusions.len();
                fold.push(ClassifiedEvent { matched: event.matched & ((1 << bits) - 1), ..*event });
            }
            fold.levels()[0]
        };
        let base = level(&journey);
        let mut wider = journey.clone();
        wider.within_seconds = journey.within_seconds.map(|seconds| seconds + 1);
        prop_assert!(level(&wider) >= base);
        let mut freer = journey.clone();
        freer.exclusions.pop();
        prop_assert!(level(&freer) >= base);
    }
}
