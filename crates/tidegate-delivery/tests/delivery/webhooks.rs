//! Webhooks: who is let in, and what coherent sequences of deliveries come to mean.

use tidegate_delivery::event::EventBody;
use tidegate_delivery::webhook::{
    ParseError, Request, Secret, VerifyError, WebhookSource, parse, to_cdevent, verify,
};
use tidegate_delivery::{DeliveryEvent, Moment, Timeline};

use serde_json::Value;

fn now() -> Moment {
    Moment::parse("2025-03-10T12:00:00Z").expect("a time")
}

/// A file of `{"source", "requests": [{"headers", "body"}]}`: a story told by one sender.
fn told(file: &str) -> Vec<DeliveryEvent> {
    let path = format!(
        "{}/../../spec/delivery/webhooks/{file}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let story: Value =
        serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON");
    let source =
        WebhookSource::named(story["source"].as_str().expect("a source")).expect("a known source");
    let mut events = Vec::new();
    for request in story["requests"].as_array().expect("requests") {
        let headers: Vec<(&str, &str)> = request["headers"]
            .as_object()
            .expect("headers")
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().expect("text")))
            .collect();
        let body = request["body"].to_string();
        let parsed = parse(
            source,
            &Request {
                headers: &headers,
                body: body.as_bytes(),
                received_at: now(),
            },
        );
        events.extend(parsed.expect("a readable request").events);
    }
    events
}

fn at(text: &str) -> Option<Moment> {
    Some(Moment::parse(text).expect("a time"))
}

#[test]
fn github_tells_a_pull_request_from_draft_to_production() {
    let events = told("github");
    let twice: Vec<DeliveryEvent> = events.iter().rev().chain(&events).cloned().collect();
    let timeline = Timeline::from_events(twice);
    assert_eq!(timeline, Timeline::from_events(events));
    let pull_request = timeline.pull_request("shop", 7).expect("the pull request");
    assert_eq!(pull_request.opened_at, at("2025-03-03T09:00:00Z"));
    assert_eq!(pull_request.ready_at, at("2025-03-03T15:00:00Z"));
    // The program's review at 15:05 and the author's own at 15:30 do not start the review clock.
    assert_eq!(pull_request.first_review_at, at("2025-03-04T10:00:00Z"));
    assert_eq!(pull_request.merged_at, at("2025-03-04T11:00:00Z"));
    assert_eq!(pull_request.changed_lines, Some(42));
    let attempts = timeline
        .series_of("shop", "production")
        .expect("a series")
        .attempts();
    assert_eq!(attempts.len(), 1);
    assert_eq!(Some(attempts[0].started_at), at("2025-03-04T11:05:00Z"));
    assert_eq!(Some(attempts[0].finished_at), at("2025-03-04T11:12:00Z"));
    assert_eq!(
        timeline.items()[0].facts.finished_at,
        at("2025-03-05T09:00:00Z")
    );
    assert_eq!(
        timeline.incidents()[0].resolved_at(),
        at("2025-03-05T09:00:00Z")
    );
}

#[test]
fn gitlab_pagerduty_and_alertmanager_tell_deployments_and_incidents() {
    let timeline = Timeline::from_events(
        told("gitlab")
            .into_iter()
            .chain(told("pagerduty"))
            .chain(told("alertmanager")),
    );
    let attempts = timeline
        .series_of("shop", "production")
        .expect("a series")
        .attempts();
    assert_eq!(attempts.len(), 1);
    assert_eq!(Some(attempts[0].finished_at), at("2025-03-04T19:50:00Z"));
    assert_eq!(
        timeline
            .pull_request("shop", 31)
            .and_then(|pr| pr.merged_at),
        at("2025-03-04T18:00:00Z")
    );
    let spans: Vec<_> = timeline
        .incidents()
        .iter()
        .map(|i| {
            (
                i.facts.service.clone(),
                at(&i.detected_at().to_string()),
                i.resolved_at(),
            )
        })
        .collect();
    assert_eq!(
        spans,
        [
            (
                Some("shop".to_owned()),
                at("2025-03-04T20:00:00Z"),
                at("2025-03-04T20:45:00Z")
            ),
            (
                Some("shop".to_owned()),
                at("2025-03-05T08:00:00Z"),
                at("2025-03-05T08:30:00Z")
            ),
            (Some("till".to_owned()), at("2025-03-05T08:00:00Z"), None),
        ]
    );
}

#[test]
fn cdevents_come_in_all_three_modes_and_go_out_again() {
    let events = told("cdevents");
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| match &event.body {
            EventBody::Deployment(_) => "deployment",
            EventBody::Incident(_) => "incident",
            EventBody::Exposure(_) => "exposure",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["deployment", "incident", "incident", "exposure"]);
    for event in &events {
        let body = to_cdevent(event).expect("a type").to_string();
        let request = Request {
            headers: &[],
            body: body.as_bytes(),
            received_at: now(),
        };
        let again = parse(WebhookSource::CdEvents, &request).expect("readable");
        assert_eq!(again.events.len(), 1, "{body}");
        assert_eq!(again.events[0].at, event.at);
        assert_eq!(
            std::mem::discriminant(&again.events[0].body),
            std::mem::discriminant(&event.body)
        );
    }
}

#[test]
fn generic_rows_are_taken_one_by_one() {
    let body = br#"[
        {"id": "a", "at": "2025-03-01", "deployment": {"service": "shop", "environment": "production", "version": "v1"}},
        {"at": 1740787200, "item": {"item": "w1", "created_at": 1740787200000}},
        {"id": "c", "deployment": {"service": "", "environment": "production"}},
        {"id": "d", "at": "yesterday", "item": {"item": "w2"}},
        {"id": "e", "person": {"name": "x"}}
    ]"#;
    let request = Request {
        headers: &[],
        body,
        received_at: now(),
    };
    let parsed = parse(WebhookSource::Generic, &request).expect("readable");
    assert_eq!(
        (parsed.events.len(), parsed.notes.len()),
        (2, 3),
        "{parsed:?}"
    );
    assert_eq!(parse(WebhookSource::Generic, &request), Ok(parsed));
}

fn secrets(list: &[(&str, Option<Moment>)]) -> Vec<Secret> {
    list.iter()
        .map(|(text, end)| Secret::new(text, *end).expect("long enough"))
        .collect()
}

#[test]
fn github_signatures_follow_the_published_example() {
    // From GitHub's documentation on validating webhook deliveries.
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let keys = secrets(&[("It's a Secret to Everybody", None)]);
    let headers = [("x-hub-signature-256", signature)];
    let check = |body: &[u8], keys: &[Secret]| {
        verify(
            WebhookSource::GitHub,
            &Request {
                headers: &headers,
                body,
                received_at: now(),
            },
            keys,
        )
    };
    assert_eq!(check(b"Hello, World!", &keys), Ok(()));
    assert_eq!(check(b"Hello, World?", &keys), Err(VerifyError::Mismatch));
    let rotated = secrets(&[
        ("a newer secret", None),
        ("It's a Secret to Everybody", Some(now().plus_hours(1))),
    ]);
    assert_eq!(check(b"Hello, World!", &rotated), Ok(()));
    let expired = secrets(&[
        ("a newer secret", None),
        ("It's a Secret to Everybody", Some(now())),
    ]);
    assert_eq!(
        check(b"Hello, World!", &expired),
        Err(VerifyError::Mismatch)
    );
    assert_eq!(check(b"Hello, World!", &[]), Err(VerifyError::NoSecret));
    let unsigned = Request {
        headers: &[],
        body: b"",
        received_at: now(),
    };
    assert!(matches!(
        verify(WebhookSource::GitHub, &unsigned, &keys),
        Err(VerifyError::Missing { .. })
    ));
    assert!(Secret::new("short", None).is_none());
}

#[test]
fn standard_webhooks_are_bound_to_their_time() {
    // The published example of the Standard Webhooks libraries.
    let keys = secrets(&[("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None)]);
    let headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        (
            "webhook-signature",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ];
    let body = br#"{"test": 2432232314}"#;
    let check = |seconds: i64| {
        let received_at = Moment::from_seconds(1_614_265_330 + seconds);
        verify(
            WebhookSource::GitLab,
            &Request {
                headers: &headers,
                body,
                received_at,
            },
            &keys,
        )
    };
    assert_eq!(
        (check(0), check(299), check(-299)),
        (Ok(()), Ok(()), Ok(()))
    );
    assert_eq!(
        (check(301), check(-301)),
        (Err(VerifyError::Replayed), Err(VerifyError::Replayed))
    );
}

#[test]
fn tokens_and_several_signatures() {
    let keys = secrets(&[("user:password", None), ("plain-token", None)]);
    let check = |source, headers: &[(&str, &str)]| {
        verify(
            source,
            &Request {
                headers,
                body: b"{}",
                received_at: now(),
            },
            &keys,
        )
    };
    assert_eq!(
        check(
            WebhookSource::Alertmanager,
            &[("Authorization", "Basic dXNlcjpwYXNzd29yZA==")]
        ),
        Ok(())
    );
    assert_eq!(
        check(
            WebhookSource::Alertmanager,
            &[("authorization", "Bearer plain-token")]
        ),
        Ok(())
    );
    assert_eq!(
        check(WebhookSource::GitLab, &[("X-Gitlab-Token", "plain-token")]),
        Ok(())
    );
    assert_eq!(
        check(WebhookSource::GitLab, &[("X-Gitlab-Token", "plain-toke")]),
        Err(VerifyError::Mismatch)
    );
}

#[test]
fn pagerduty_signs_with_old_and_new_secret_while_rotating() {
    // The same code as GitHub's published example, in PagerDuty's header.
    let right = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let keys = secrets(&[("It's a Secret to Everybody", None)]);
    let check = |header: &str| {
        let headers = [("X-PagerDuty-Signature", header)];
        let request = Request {
            headers: &headers,
            body: b"Hello, World!",
            received_at: now(),
        };
        verify(WebhookSource::PagerDuty, &request, &keys)
    };
    let wrong = "0".repeat(64);
    assert_eq!(check(&format!("v1={wrong},v1={right}")), Ok(()));
    assert_eq!(check(&format!("v1={wrong}")), Err(VerifyError::Mismatch));
    assert!(matches!(check("v2=abc"), Err(VerifyError::Missing { .. })));
}

#[test]
fn any_body_is_answered_without_panic() {
    let sources = [
        "github",
        "gitlab",
        "pagerduty",
        "alertmanager",
        "cdevents",
        "generic",
    ];
    bolero::check!()
        .with_type::<(u8, Vec<u8>, u8)>()
        .for_each(|(pick, body, kind)| {
            let source = WebhookSource::named(sources[usize::from(*pick) % 6]).expect("named");
            let events = ["deployment", "pull_request", "release", "issues", "push"];
            let event = events[usize::from(*kind) % 5];
            let headers = [
                ("X-GitHub-Event", event),
                ("X-GitHub-Delivery", "1"),
                ("Content-Type", "application/cloudevents-batch+json"),
            ];
            let request = Request {
                headers: &headers,
                body,
                received_at: now(),
            };
            if let Ok(parsed) = parse(source, &request) {
                assert!(parsed.events.len() <= tidegate_delivery::webhook::MAX_EVENTS);
            }
            let keys = secrets(&[("a long secret", None)]);
            assert!(verify(source, &request, &keys).is_err());
        });
}

#[test]
fn a_body_too_large_is_refused_unread() {
    let body = vec![b' '; tidegate_delivery::webhook::MAX_BODY_BYTES + 1];
    let request = Request {
        headers: &[],
        body: &body,
        received_at: now(),
    };
    assert!(matches!(
        parse(WebhookSource::Generic, &request),
        Err(ParseError::TooLarge { .. })
    ));
}
