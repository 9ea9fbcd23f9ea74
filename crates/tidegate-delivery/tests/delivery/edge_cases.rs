//! The cases in which delivery tools are known to go wrong, one by one.

use crate::story::{SERVICE, Story, hour, sha};
use tidegate_delivery::Timeline;
use tidegate_delivery::event::{
    Correction, EventBody, Intent, Outcome, PatchSeen, RollbackSeen, Ruling,
};

const LEAD: &str = "change_lead_time";
const FAIL: &str = "change_fail_rate";
const RECOVERY: &str = "failed_deployment_recovery_time";
const REWORK: &str = "deployment_rework_rate";
const DORA: &str = "dora-2025";

fn lead_ids(story: &Story, definition: &str) -> Vec<String> {
    let row = story.row(definition, LEAD);
    let mut ids: Vec<String> = row
        .contributing
        .expect("explained")
        .into_iter()
        .map(|c| c.id)
        .collect();
    ids.sort();
    ids
}

/// v1 is live; v2 came an hour after its commit.
fn two_versions() -> Story {
    let mut story = Story::new();
    story
        .commit(1, &[], 0)
        .deploy("v1", 1)
        .commit(2, &[1], 10)
        .deploy("v2", 12);
    story
}

#[test]
fn case_01_a_squash_keeps_its_first_commit_where_the_pull_request_is_known() {
    let mut story = Story::new();
    story.commit(1, &[], 0).deploy("v1", 1);
    story
        .commit_with(2, &[1], 20, |c| c.pull_request = Some(7))
        .deploy("v2", 21);
    assert_eq!(story.value(DORA, LEAD), Some(1.0));
    // The number alone may be an issue's: it is no pull request until one of that number is known.
    assert_eq!(story.row("middleware-like", LEAD).n, 0);
    story.pull_request(7, |pr| pr.first_commit_at = Some(hour(5)));
    assert_eq!(story.value(DORA, LEAD), Some(16.0));
    assert_eq!(story.value("middleware-like", LEAD), Some(16.0));
}

#[test]
fn case_02_a_rebase_keeps_the_author_date() {
    let mut story = Story::new();
    story.commit(1, &[], 0).deploy("v1", 1);
    story
        .commit_with(2, &[1], 20, |c| c.authored_at = Some(hour(10)))
        .deploy("v2", 22);
    assert_eq!(story.value(DORA, LEAD), Some(12.0));
    assert_eq!(story.value("median-committer-date", LEAD), Some(2.0));
}

#[test]
fn case_03_a_pull_request_merged_without_merge_commit_is_found_by_its_commit() {
    let mut story = two_versions();
    assert_eq!(story.value("gitlab-like", LEAD), None);
    story.pull_request(9, |pr| {
        pr.merge_commit = Some(sha(2));
        pr.merged_at = Some(hour(11));
    });
    assert_eq!(story.value("gitlab-like", LEAD), Some(1.0));
}

#[test]
fn case_04_the_first_known_deployment_opens_the_horizon() {
    let mut story = Story::new();
    story.commit(1, &[], -9000).deploy("v1", 1);
    let row = story.row(DORA, LEAD);
    assert_eq!((row.value, row.n), (None, 0));
    assert!(
        row.notes
            .iter()
            .any(|note| note.contains("1 commits left out")),
        "{:?}",
        row.notes
    );
}

#[test]
fn case_05_a_gap_in_the_series_opens_a_new_horizon() {
    let mut story = Story::new();
    story.commit(1, &[], -9000).deploy("v1", -8000);
    story
        .commit(2, &[1], -7000)
        .commit(3, &[2], 1)
        .deploy("v3", 2);
    story.commit(4, &[3], 10).deploy("v4", 13);
    assert_eq!(story.value(DORA, LEAD), Some(3.0));
    // A definition without that rule shows what the gap does to it.
    assert!(
        story
            .value("mean-author-date", LEAD)
            .is_some_and(|hours| hours > 2000.0)
    );
}

#[test]
fn case_06_a_rollback_brings_nothing_and_fails_the_deployment_before() {
    let mut story = two_versions();
    story
        .deploy_with("v2", "staging", 11, |_| ())
        .deploy("v1", 15);
    assert_eq!(story.row(DORA, LEAD).n, 1);
    let fail = story.row(DORA, FAIL);
    assert_eq!((fail.numerator, fail.denominator), (Some(1.0), Some(3.0)));
    assert_eq!(fail.contributing.expect("explained")[0].id, "story:6");
    assert_eq!(story.value(DORA, RECOVERY), Some(3.0));
    assert_eq!(story.value(DORA, REWORK), Some(1.0 / 3.0));
}

#[test]
fn case_07_the_same_version_again_is_a_deployment_without_changes() {
    let mut story = two_versions();
    story.deploy("v2", 14);
    assert_eq!(story.value(DORA, "deployments"), Some(3.0));
    assert_eq!(
        (story.row(DORA, LEAD).n, story.value(DORA, FAIL)),
        (1, Some(0.0))
    );
}

#[test]
fn case_08_an_out_of_order_promotion_is_no_rollback_and_an_unknown_one_is_shown() {
    let mut out_of_order = two_versions();
    out_of_order.commit(3, &[2], 20).deploy("v3", 25);
    out_of_order
        .deploy_with("v2", "staging", 26, |_| ())
        .deploy("v2", 26);
    assert_eq!(out_of_order.value(DORA, FAIL), Some(0.0));
    // The log reaches back beyond v2, which never ran: whichever way it came, it arrived late.
    for through_staging in [true, false] {
        let mut late = Story::new();
        for n in 1..=3 {
            late.commit(n, &[], 0);
        }
        late.deploy("v1", 1).deploy_with("v1", "staging", 9, |_| ());
        late.deploy("v3", 10);
        if through_staging {
            late.deploy_with("v2", "staging", 11, |_| ());
        }
        late.deploy("v2", 11);
        assert_eq!(late.value(DORA, FAIL), Some(0.0), "{through_staging}");
        assert_eq!(
            late.row(DORA, FAIL).contributing,
            Some(Vec::new()),
            "{through_staging}"
        );
    }
    let mut unknown = two_versions();
    unknown.deploy("v1", 15);
    let row = unknown.row(DORA, FAIL);
    assert_eq!(row.value, Some(0.0));
    assert!(
        row.notes
            .iter()
            .any(|note| note.contains("may have failed")),
        "{:?}",
        row.notes
    );
}

#[test]
fn case_09_several_deployments_of_one_pipeline_are_one_dated_at_the_last() {
    let mut story = Story::new();
    story.commit(1, &[], 0).deploy("v1", 1).commit(2, &[1], 10);
    for at in [12, 14] {
        story.deploy_with("v2", "production", at, |d| {
            d.pipeline = Some("run-7".into());
        });
    }
    assert_eq!(story.value(DORA, "deployments"), Some(2.0));
    assert_eq!(story.value(DORA, LEAD), Some(4.0));
}

#[test]
fn case_10_a_failed_deploy_job_is_no_deployment_whatever_the_pipeline_says() {
    let mut story = two_versions();
    story
        .commit(3, &[2], 20)
        .deploy_with("v3", "production", 21, |d| d.outcome = Outcome::Failed);
    assert_eq!(story.value(DORA, "deployments"), Some(2.0));
    assert_eq!(lead_ids(&story, DORA), [sha(2)]);
}

#[test]
fn case_11_one_deployment_of_many_services_counts_for_each_and_sums() {
    let mut story = two_versions();
    story.deploy_with("v2", "production", 12, |d| d.service = "till".into());
    let report = story.report(DORA, 0, 672);
    let count = |service: &str| {
        report
            .rows
            .iter()
            .find(|r| r.metric == "deployments" && r.service == service)
            .and_then(|r| r.value)
    };
    assert_eq!(
        (count("shop"), count("till"), count("*")),
        (Some(2.0), Some(1.0), Some(3.0))
    );
}

#[test]
fn case_12_an_incident_long_after_the_last_deployment_blames_none() {
    let mut story = two_versions();
    story.incident("late", 200, Some(201), None);
    let row = story.row(DORA, FAIL);
    assert_eq!(row.value, Some(0.0));
    assert!(
        row.notes
            .iter()
            .any(|note| note.contains("put down to no deployment")),
        "{:?}",
        row.notes
    );
    assert_eq!(story.value("devlake-like", FAIL), Some(0.5));
}

#[test]
fn case_13_attribution_does_not_depend_on_the_window() {
    let mut story = two_versions();
    story.commit(3, &[2], 20).deploy("v3", 30);
    let whole = story.report(DORA, 0, 672);
    let part = story.report(DORA, 25, 672);
    let ids = |report: &tidegate_delivery::metrics::MetricReport| {
        let row = report
            .rows
            .iter()
            .find(|row| row.metric == LEAD)
            .expect("a row");
        row.contributing
            .iter()
            .flatten()
            .map(|c| (c.id.clone(), c.value))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&part), [(sha(3), Some(10.0))]);
    assert!(ids(&whole).contains(&(sha(3), Some(10.0))));
}

#[test]
fn case_14_two_incidents_on_one_deployment_fail_it_once() {
    let mut story = two_versions();
    story
        .incident("a", 13, Some(14), None)
        .incident("b", 15, Some(16), None);
    assert_eq!(story.value(DORA, FAIL), Some(0.5));
    assert_eq!(story.value(DORA, RECOVERY), Some(4.0));
    assert_eq!(story.value("gitlab-like", FAIL), Some(1.0));
}

#[test]
fn case_15_path_rules_tell_the_services_of_a_monorepo_apart() {
    let mut story = Story::new();
    story.commit(1, &[], 0).deploy("v1", 1);
    story.commit_with(2, &[1], 5, |c| c.services = Some(vec!["till".into()]));
    story.commit_with(3, &[2], 8, |c| {
        c.services = Some(vec![SERVICE.into(), "till".into()]);
    });
    story.deploy("v3", 9);
    assert_eq!(lead_ids(&story, DORA), [sha(3)]);
}

#[test]
fn case_17_a_negative_span_is_counted_and_shown() {
    let mut story = Story::new();
    story
        .commit(1, &[], 0)
        .deploy("v1", 1)
        .commit(2, &[1], 30)
        .deploy("v2", 12);
    let row = story.row(DORA, LEAD);
    assert_eq!(row.value, Some(-18.0));
    assert!(
        row.notes.iter().any(|note| note.contains("1 negative")),
        "{:?}",
        row.notes
    );
    assert_eq!(story.value("fourkeys-like", LEAD), None);
}

#[test]
fn case_20_a_revert_blames_the_reverted_change_and_a_revert_of_it_blames_nobody() {
    let mut story = two_versions();
    story
        .commit_with(3, &[2], 14, |c| c.reverts = vec![sha(2)])
        .deploy("v3", 15);
    assert_eq!(story.value(DORA, FAIL), Some(1.0 / 3.0));
    story
        .commit_with(4, &[3], 16, |c| c.reverts = vec![sha(3)])
        .deploy("v4", 18);
    let row = story.row(DORA, FAIL);
    assert_eq!(row.value, Some(0.25));
    assert_eq!(story.value(DORA, REWORK), Some(0.25));
}

#[test]
fn case_21_a_cherry_pick_counts_once_with_its_first_copy() {
    for by_patch in [false, true] {
        let mut story = Story::new();
        story.commit(1, &[], 0).deploy("v1", 1);
        story.commit_with(2, &[1], 5, |c| c.patch_id = by_patch.then(|| "p".into()));
        story.commit_with(3, &[1], 6, |c| {
            c.picked_from = (!by_patch).then(|| sha(2));
            c.patch_id = by_patch.then(|| "p".into());
        });
        story.deploy("v3", 7).deploy("v2", 9);
        assert_eq!(lead_ids(&story, DORA), [sha(3)], "by_patch = {by_patch}");
    }
}

#[test]
fn case_22_a_hotfix_fails_the_deployment_before_and_is_rework() {
    let mut story = two_versions();
    story
        .commit(3, &[2], 13)
        .deploy_with("v3", "production", 14, |d| d.intent = Some(Intent::Hotfix));
    assert_eq!(story.value(DORA, FAIL), Some(1.0 / 3.0));
    assert_eq!(story.value(DORA, RECOVERY), Some(2.0));
    assert_eq!(story.value(DORA, REWORK), Some(1.0 / 3.0));
}

#[test]
fn case_25_lower_and_interpolated_medians_differ_on_even_counts() {
    let mut story = two_versions();
    story
        .commit_with(3, &[2], 20, |c| c.pull_request = Some(3))
        .deploy("v3", 26);
    story
        .commit_with(4, &[3], 30, |c| c.pull_request = Some(4))
        .deploy("v4", 40);
    story.pull_request(3, |_| ()).pull_request(4, |_| ());
    assert_eq!(story.value("gitlab-like", LEAD), Some(8.0));
    assert_eq!(story.value("devlake-like", LEAD), Some(6.0));
}

#[test]
fn case_26_failed_attempts_count_only_where_a_definition_says_so() {
    let mut story = two_versions();
    story
        .deploy_with("v3", "production", 20, |d| d.outcome = Outcome::Failed)
        .deploy("v2", 22);
    assert_eq!(story.row(DORA, "deployment_frequency").numerator, Some(3.0));
    assert_eq!(
        story.row("liatrio-like", "deployment_frequency").numerator,
        Some(4.0)
    );
    assert_eq!(story.value("liatrio-like", FAIL), Some(0.25));
    assert_eq!(story.value("liatrio-like", RECOVERY), Some(2.0));
}

#[test]
fn case_27_a_direct_push_is_a_change_without_pull_request() {
    let story = two_versions();
    assert_eq!(story.row(DORA, LEAD).n, 1);
    assert_eq!(story.row("devlake-like", LEAD).n, 0);
}

#[test]
fn case_29_and_32_a_version_that_names_no_known_commit_is_counted_and_noted() {
    let mut story = two_versions();
    let unseen = sha(77);
    for version in [sha(2), unseen, "main".to_owned()] {
        story.deploy(&version, 20);
    }
    let row = story.row(DORA, LEAD);
    assert_eq!((row.n, story.value(DORA, "deployments")), (1, Some(5.0)));
    assert!(
        row.notes
            .iter()
            .any(|note| note.starts_with("3 deployments whose commit is unknown")),
        "{:?}",
        row.notes
    );
}

#[test]
fn case_30_nothing_and_one() {
    let mut none = Story::new();
    none.deploy("v1", -500);
    let report = none.report(DORA, 0, 672);
    let star: Vec<_> = report
        .rows
        .iter()
        .map(|row| (row.service.as_str(), row.value))
        .collect();
    assert_eq!(star, [("*", Some(0.0))]);
    let one = two_versions();
    let row = one.row(DORA, LEAD);
    assert_eq!((row.n, row.value, row.interval), (1, Some(2.0), None));
    assert_eq!(one.value(DORA, RECOVERY), None);
}

#[test]
fn an_automatic_rollback_is_a_certain_failure_and_recovery_ends_with_exposure() {
    let mut story = Story::new();
    story.commit(1, &[], 0).deploy("v1", 1);
    story
        .commit_with(2, &[1], 10, |c| c.flags = vec!["dark".into()])
        .deploy("v2", 12);
    story
        .expose("dark", 100, 20)
        .expose("dark", 1000, 30)
        .expose("dark", 0, 34);
    let rollback = RollbackSeen {
        rollout: "r".into(),
        flag: "dark".into(),
        automatic: true,
        guard: Some("errors".into()),
        impact_from: Some(hour(30)),
        service: None,
        evidence: None,
    };
    story.add(hour(33), EventBody::Rollback(rollback));
    // The ticket is closed much later; exposure, not the ticket, ends the harm.
    story.incident("ticket", 31, Some(90), Some("v2"));
    assert_eq!(story.value(DORA, FAIL), Some(0.5));
    assert_eq!(story.value(DORA, RECOVERY), Some(4.0));
    assert_eq!(story.value(DORA, "lead_time_to_first_exposure"), Some(10.0));
    assert_eq!(story.value(DORA, "lead_time_to_full_exposure"), None);
}

#[test]
fn a_person_can_correct_an_attribution_and_the_evidence_stays() {
    let mut story = two_versions();
    story.incident("a", 13, Some(14), None);
    let failed = story.row(DORA, FAIL).contributing.expect("explained")[0]
        .id
        .clone();
    let ruling = |ruling| {
        EventBody::Correction(Correction {
            deployment: failed.clone(),
            ruling,
            reason: "the supplier was down".into(),
            by: "someone".into(),
        })
    };
    story.add(hour(20), ruling(Ruling::DidNotFail));
    assert_eq!(story.value(DORA, FAIL), Some(0.0));
    story.add(hour(21), ruling(Ruling::Failed));
    let row = story.row(DORA, FAIL);
    assert_eq!(row.value, Some(0.5));
    let reasons = &row.contributing.expect("explained")[0].reasons;
    assert!(
        reasons[0].contains("supplier") && reasons[1].contains("incident"),
        "{reasons:?}"
    );
}

#[test]
fn status_rows_of_one_deployment_are_one_deployment() {
    let mut story = Story::new();
    story.commit(1, &[], 0).deploy("v1", 1).commit(2, &[1], 2);
    for (at, outcome) in [
        (3, Outcome::Started),
        (5, Outcome::Succeeded),
        (9, Outcome::Failed),
    ] {
        story.deploy_with("v2", "production", at, |d| {
            d.deployment = Some("d-2".into());
            d.outcome = outcome;
        });
    }
    let timeline = Timeline::from_events(story.events.clone());
    let attempts = timeline
        .series_of(SERVICE, "production")
        .expect("a series")
        .attempts();
    assert_eq!(attempts.len(), 2);
    assert_eq!(
        (attempts[1].started_at, attempts[1].finished_at),
        (hour(3), hour(5))
    );
    assert_eq!(story.value(DORA, LEAD), Some(3.0));
}

#[test]
fn a_rebased_copy_known_by_its_patch_counts_once() {
    let mut story = Story::new();
    story.commit(1, &[], 0).deploy("v1", 1);
    story.commit(2, &[1], 5).deploy("v2", 6);
    // The same change again, picked onto a line that never saw commit 2.
    story.commit(3, &[1], 7).deploy("v3", 8);
    assert_eq!(lead_ids(&story, DORA), [sha(2), sha(3)]);
    for n in [3, 2] {
        let patch = PatchSeen {
            repository: SERVICE.into(),
            commit: sha(n),
            patch_id: "the-same".into(),
        };
        story.add(hour(0), EventBody::Patch(patch));
    }
    assert_eq!(lead_ids(&story, DORA), [sha(2)]);
}

#[test]
fn batch_size_counts_what_each_deployment_first_brought() {
    let mut story = Story::new();
    story.commit(1, &[], 0).deploy("v1", 1);
    story.commit(2, &[1], 2).deploy("v2", 3);
    for n in 3..=5 {
        story.commit(n, &[n - 1], i64::from(n) + 1);
    }
    story.deploy("v5", 10).deploy("v5", 11);
    let row = story.row(DORA, "batch_size");
    assert_eq!((row.value, row.n, row.unit), (Some(2.0), 2, "commits"));
    let sizes: Vec<Option<f64>> = row
        .contributing
        .expect("explained")
        .iter()
        .map(|deployment| deployment.value)
        .collect();
    assert_eq!(sizes, [Some(1.0), Some(3.0)]);
    assert_eq!(row.notes.len(), 2, "{:?}", row.notes);
}
