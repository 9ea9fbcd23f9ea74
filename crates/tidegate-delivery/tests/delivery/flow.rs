//! Work in progress, ageing and forecasts.

use crate::story::{SERVICE, Story, hour};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tidegate_delivery::event::{EventBody, ItemSeen};
use tidegate_delivery::flow::forecast::{
    ForecastError, Simulation, back_test, how_many, when_done,
};
use tidegate_delivery::flow::{FlowQuery, FlowReport, measure_flow};
use tidegate_delivery::{Timeline, Window};

fn item(story: &mut Story, name: &str, started: Option<i64>, finished: Option<i64>) {
    let seen = ItemSeen {
        item: name.into(),
        service: Some(SERVICE.into()),
        started_at: started.map(|days| hour(days * 24)),
        finished_at: finished.map(|days| hour(days * 24)),
        ..ItemSeen::default()
    };
    story.add(hour(0), EventBody::Item(seen));
}

fn wait(story: &mut Story, name: &str, at_day: i64, waiting: bool) {
    let seen = ItemSeen {
        item: name.into(),
        waiting: Some(waiting),
        ..ItemSeen::default()
    };
    story.add(hour(at_day * 24), EventBody::Item(seen));
}

fn report(story: &Story, days: i64, wip_limit: Option<usize>) -> FlowReport {
    let window = Window::new(hour(0), hour(days * 24)).expect("a window");
    let query = FlowQuery {
        service: Some(SERVICE),
        window,
        as_of: hour(days * 24),
        wip_limit,
    };
    measure_flow(&Timeline::from_events(story.events.clone()), query)
}

#[test]
fn cycle_time_hides_stuck_work_and_age_shows_it() {
    let mut story = Story::new();
    for n in 0..10 {
        item(&mut story, &format!("done-{n}"), Some(n), Some(n + 2));
    }
    item(&mut story, "stuck", Some(0), None);
    item(&mut story, "fresh", Some(19), None);
    item(&mut story, "no-start", None, Some(5));
    item(&mut story, "backwards", Some(9), Some(3));
    let report = report(&story, 20, Some(1));
    assert_eq!(
        (
            report.wip,
            report.finished,
            report.without_start,
            report.negative
        ),
        (2, 10, 1, 1)
    );
    assert_eq!(report.cycle_time.p85, Some(2.0));
    let points: Vec<(&str, f64)> = report
        .scatter
        .iter()
        .map(|point| (point.id.as_str(), point.cycle_days))
        .collect();
    assert_eq!(points.len(), 10);
    assert_eq!(
        (points[0], points[9]),
        (("story:done-0", 2.0), ("story:done-9", 2.0))
    );
    assert_eq!(report.ageing[0].id, "story:stuck");
    assert_eq!(report.ageing[0].older_than_percentile, Some(95));
    assert_eq!(report.ageing[1].older_than_percentile, None);
    assert_eq!(report.alerts.len(), 2);
    let stuck = report
        .littles_law
        .assumptions
        .iter()
        .find(|a| a.name.contains("leaves"))
        .expect("listed");
    assert!(!stuck.holds, "{stuck:?}");
}

#[test]
fn littles_law_agrees_where_its_assumptions_hold() {
    let mut story = Story::new();
    for n in -10..110 {
        item(&mut story, &format!("i{n}"), Some(n), Some(n + 4));
    }
    let report = report(&story, 100, None);
    let law = &report.littles_law;
    assert!(
        law.assumptions.iter().all(|assumption| assumption.holds),
        "{law:?}"
    );
    let predicted = law.predicted_wip.expect("finished items");
    assert!((law.mean_wip - predicted).abs() < 0.01, "{law:?}");
}

#[test]
fn flow_efficiency_needs_waiting_states_and_says_how_many_had_them() {
    let mut story = Story::new();
    item(&mut story, "a", Some(0), Some(10));
    wait(&mut story, "a", 2, true);
    wait(&mut story, "a", 5, false);
    item(&mut story, "b", Some(0), Some(10));
    let report = report(&story, 20, None);
    assert_eq!(report.flow_efficiency, Some(0.7));
    assert_eq!(report.efficiency_known, [1, 1]);
}

#[test]
fn forecasts_repeat_with_their_seed_and_refuse_what_they_cannot_know() {
    let history: Vec<u32> = (0..60).map(|day| day % 4).collect();
    let simulation = Simulation {
        simulations: 2000,
        seed: 5,
    };
    let many = how_many(&history, 30, simulation).expect("a forecast");
    assert!(many.p95 <= many.p85 && many.p85 <= many.p70 && many.p70 <= many.p50);
    // 30 days at 1.5 a day are 45; the middle forecast is near it.
    assert!((42..=48).contains(&many.p50), "{many:?}");
    assert_eq!(how_many(&history, 30, simulation), Ok(many));
    let when = when_done(&history, 45, simulation).expect("a forecast");
    assert!(
        (28..=33).contains(&when.p50) && when.p85 > when.p50,
        "{when:?}"
    );
    assert_eq!(
        how_many(&[1; 5], 3, simulation),
        Err(ForecastError::ShortHistory { days: 5 })
    );
    assert_eq!(
        how_many(&[0; 50], 3, simulation),
        Err(ForecastError::NothingFinished)
    );
    assert_eq!(
        how_many(&history, 0, simulation),
        Err(ForecastError::OutOfRange)
    );
}

/// The 85 % forecast must hold in 85 % of stationary worlds, its history being only a sample of each.
#[test]
fn an_85_percent_forecast_holds_in_85_percent_of_stationary_worlds() {
    let mut rng = ChaCha8Rng::seed_from_u64(2025);
    let (mut held, mut made) = (0.0, 0.0);
    for world in 0..6000 {
        let days: Vec<u32> = (0..150)
            .map(|_| (rng.next_u32() % 40).saturating_sub(12))
            .collect();
        let (past, future) = days.split_at(120);
        let simulation = Simulation {
            simulations: 1000,
            seed: world,
        };
        let forecast = how_many(past, 30, simulation).expect("a forecast");
        held += f64::from(u8::from(future.iter().sum::<u32>() >= forecast.p85));
        made += 1.0;
    }
    let coverage: f64 = held / made;
    assert!((coverage - 0.85).abs() <= 0.01, "coverage {coverage}");
}

#[test]
fn the_back_test_counts_what_came_true() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let history: Vec<u32> = (0..4000).map(|_| rng.next_u32() % 7).collect();
    let test = back_test(
        &history,
        120,
        14,
        Simulation {
            simulations: 500,
            seed: 1,
        },
    )
    .expect("a test");
    assert_eq!(test.spread.iter().sum::<usize>(), test.n);
    assert!(
        test.n > 200 && (test.coverage_85 - 0.85).abs() < 0.06,
        "{test:?}"
    );
    let halved: Vec<u32> = history
        .iter()
        .enumerate()
        .map(|(day, n)| if day < 2000 { *n } else { n / 3 })
        .collect();
    let broken = back_test(
        &halved[1880..2200],
        120,
        60,
        Simulation {
            simulations: 500,
            seed: 1,
        },
    )
    .expect("a test");
    assert!(broken.coverage_85 < 0.5, "a slump must show: {broken:?}");
}
