//! Incidents, postmortems, quarterly sentences, targets.

use crate::story::{SERVICE, Story, hour};
use tidegate_delivery::Timeline;
use tidegate_delivery::event::{EventBody, IncidentSeen, RollbackSeen};
use tidegate_delivery::learning::{board_summary, incident_timeline, postmortem, search_incidents};
use tidegate_delivery::target::{ServiceTargets, Standing, Targets, compare};

/// A dark change is exposed, harms, and is rolled back by the guard.
fn guarded() -> Story {
    let mut story = Story::new();
    story
        .commit(1, &[], 0)
        .deploy("v1", 1)
        .commit(2, &[1], 10)
        .deploy("v2", 12);
    story.expose("dark", 500, 20).expose("dark", 0, 22);
    let rollback = RollbackSeen {
        rollout: "dark-rollout".into(),
        flag: "dark".into(),
        automatic: true,
        guard: Some("errors".into()),
        impact_from: Some(hour(20)),
        service: Some(SERVICE.into()),
        evidence: Some("8 % errors instead of 1 %".into()),
    };
    story.add(hour(22), EventBody::Rollback(rollback));
    let incident = IncidentSeen {
        incident: "i-1".into(),
        service: Some(SERVICE.into()),
        title: Some("Checkout | errors\nfor some".into()),
        flag: Some("dark".into()),
        detected_at: Some(hour(21)),
        resolved_at: Some(hour(23)),
        ..IncidentSeen::default()
    };
    story.add(hour(23), EventBody::Incident(incident));
    story
}

#[test]
fn an_incidents_timeline_comes_from_the_log() {
    let timeline = Timeline::from_events(guarded().events);
    let incident = &timeline.incidents()[0];
    let what: Vec<String> = incident_timeline(&timeline, incident, "production")
        .into_iter()
        .map(|entry| entry.what)
        .collect();
    assert_eq!(
        what,
        [
            "deployment of v1: Succeeded",
            "deployment of v2: Succeeded",
            "flag dark exposed to 5.00 % of units",
            "incident story:i-1 detected",
            "flag dark exposed to 0.00 % of units",
            "rollout dark-rollout rolled back automatically on guard errors: 8 % errors instead of 1 %",
            "incident resolved",
        ]
    );
}

#[test]
fn a_postmortem_has_facts_questions_and_no_broken_markdown() {
    let timeline = Timeline::from_events(guarded().events);
    let text = postmortem(&timeline, &timeline.incidents()[0], "production");
    assert!(
        text.starts_with("# Postmortem: Checkout \\| errors for some\n"),
        "{text}"
    );
    assert!(
        text.contains("| resolved | 2025-01-06T23:00:00Z, after 2.0 hours |"),
        "{text}"
    );
    for heading in [
        "## Timeline",
        "## Impact",
        "## What made it possible",
        "## Actions",
    ] {
        assert!(text.contains(heading), "{heading}");
    }
}

#[test]
fn a_quarter_reads_as_sentences() {
    let story = guarded();
    let report = story.report("dora-2025", 0, 672);
    assert_eq!(
        board_summary(&report, Some(&report), "the first quarter"),
        [
            "In the first quarter there were 2 deployments, after 2 in the period before.",
            "shop was deployed 2 times; a change took 2.0 hours to production (n = 1); 50.0 % of 2 deployments needed \
             intervention and were put right in 2.0 hours.",
        ]
    );
}

#[test]
fn a_target_is_missed_only_beyond_doubt() {
    let report = guarded().report("dora-2025", 0, 672);
    let standing = |targets: Targets, metric: &str| {
        let rows = compare(&report, SERVICE, targets);
        rows.into_iter()
            .find(|row| row.metric == metric)
            .map(|row| (row.standing, row.alert.is_some()))
    };
    let start = Targets::default();
    assert_eq!(
        standing(start, "change_lead_time"),
        Some((Standing::Met, false))
    );
    assert_eq!(
        standing(start, "deployment_frequency"),
        Some((Standing::Missed, true))
    );
    // One of two deployments failed: the interval reaches from 6 % to 94 %.
    assert_eq!(
        standing(start, "change_fail_rate"),
        Some((Standing::Undecided, false))
    );
    assert_eq!(
        standing(start, "failed_deployment_recovery_time"),
        Some((Standing::Missed, true))
    );
    let none = Targets {
        change_fail_rate: None,
        ..start
    };
    assert_eq!(standing(none, "change_fail_rate"), None);
}

#[test]
fn an_incident_known_by_its_flag_lists_what_brought_the_flag() {
    let mut story = Story::new();
    story.commit(1, &[], 0).deploy("v1", 1);
    story
        .commit_with(2, &[1], 10, |c| c.flags = vec!["dark".into()])
        .deploy("v2", 12);
    story.expose("dark", 100, 13).expose("dark", 0, 14);
    let incident = IncidentSeen {
        incident: "rollback/r/9".into(),
        title: Some("Rollout r was rolled back".into()),
        flag: Some("dark".into()),
        evidence: Some("errors: 8 % instead of 1 %".into()),
        detected_at: Some(hour(14)),
        resolved_at: Some(hour(14)),
        ..IncidentSeen::default()
    };
    story.add(hour(14), EventBody::Incident(incident));
    let timeline = Timeline::from_events(story.events);
    assert_eq!(timeline.services_behind("dark"), [SERVICE]);
    assert!(timeline.services_behind("light").is_empty());
    let found = search_incidents(&timeline, "ERRORS rollback/r");
    assert_eq!(found.len(), 1);
    assert!(search_incidents(&timeline, "errors latency").is_empty());
    let what: Vec<String> = incident_timeline(&timeline, found[0], "production")
        .into_iter()
        .map(|entry| entry.what)
        .collect();
    let listed = |part: &str| what.iter().any(|line| line.contains(part));
    assert!(
        listed("deployment of shop of v2") && listed("exposed to 1.00 %"),
        "{what:?}"
    );
    let text = postmortem(&timeline, found[0], "production");
    assert!(
        text.contains("| evidence | errors: 8 % instead of 1 % |"),
        "{text}"
    );
}

#[test]
fn services_may_aim_at_other_things_than_the_rest() {
    let plain = ServiceTargets::from_json(r#"{"change_lead_time_hours": 48}"#).expect("targets");
    assert_eq!(plain.of(SERVICE).change_lead_time_hours, Some(48.0));
    assert_eq!(plain.of(SERVICE).change_fail_rate, Some(0.15));
    let some = r#"{"services": {"shop": {"wip_limit": 3, "recovery_time_hours": null}}}"#;
    let some = ServiceTargets::from_json(some).expect("targets");
    assert_eq!(some.of(SERVICE).recovery_time_hours, None);
    assert_eq!(some.of("till").recovery_time_hours, Some(1.0));
    assert_eq!(some.wip_limits().collect::<Vec<_>>(), [(SERVICE, 3)]);
    for wrong in [
        "[]",
        r#"{"speed": 1}"#,
        r#"{"services": {"shop": {"speed": 1}}}"#,
    ] {
        assert!(ServiceTargets::from_json(wrong).is_err(), "{wrong}");
    }
}
