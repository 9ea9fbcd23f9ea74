//! The same answer for any order and any duplication of the rows.

use crate::story::{SERVICE, Story, hour, report_of, sha};
use proptest::prelude::*;
use tidegate_delivery::event::{DeploymentSeen, EventBody, ItemSeen, Outcome};
use tidegate_delivery::{DeliveryEvent, Timeline};

/// Random rows about one service: histories, deployments with status rows, incidents, exposures, and
/// deliveries that come with two different contents.
fn rows() -> impl Strategy<Value = Vec<DeliveryEvent>> {
    let one = (0_u8..6, 1_u8..30, 0_i64..600, any::<u8>());
    proptest::collection::vec(one, 1..60).prop_map(|picks| {
        let mut story = Story::new();
        for (kind, n, at, extra) in picks {
            match kind {
                0 => story.commit(n, if n > 1 { &[1] } else { &[] }, i64::from(n)),
                1 => story.deploy(&format!("v{n}"), at),
                2 => story.deploy_with(&sha(n), "staging", at, |d| {
                    d.pipeline = Some(format!("{}", extra % 4));
                }),
                3 => story.incident(
                    &format!("i{}", n % 5),
                    at,
                    (extra > 99).then_some(at + 3),
                    None,
                ),
                4 => story.expose("f", u16::from(extra) * 39, at),
                _ => {
                    let item = ItemSeen {
                        item: format!("w{}", n % 7),
                        started_at: Some(hour(at)),
                        waiting: Some(extra > 128),
                        ..ItemSeen::default()
                    };
                    story.add(hour(at), EventBody::Item(item))
                }
            };
            if extra < 40 {
                let status = DeploymentSeen {
                    service: SERVICE.into(),
                    environment: "production".into(),
                    version: Some(format!("v{n}")),
                    commit: None,
                    deployment: Some(format!("d{}", n % 3)),
                    pipeline: None,
                    outcome: if extra < 20 {
                        Outcome::Started
                    } else {
                        Outcome::Succeeded
                    },
                    started_at: None,
                    intent: None,
                };
                story.add(hour(at), EventBody::Deployment(status));
                // The same delivery with another content.
                let mut twin = story.events[usize::from(extra) % story.events.len()].clone();
                twin.at = twin.at.plus_hours(1);
                story.events.push(twin);
            }
        }
        story.events
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn order_and_duplication_change_nothing(
        (events, shuffled) in rows().prop_flat_map(|events| {
            let twice: Vec<DeliveryEvent> = events.iter().chain(&events[..events.len() / 2]).cloned().collect();
            (Just(events), Just(twice).prop_shuffle())
        }),
        cut in any::<prop::sample::Index>(),
    ) {
        let timeline = Timeline::from_events(events.clone());
        let again = Timeline::from_events(shuffled.clone());
        prop_assert_eq!(&timeline, &again);
        for definition in ["dora-2025", "devlake-like", "middleware-like"] {
            prop_assert_eq!(report_of(&timeline, definition, 0, 672), report_of(&again, definition, 0, 672));
        }
        // Late rows: whatever came first, the fold over everything is the same.
        let late = cut.index(shuffled.len());
        let reordered = shuffled[late..].iter().chain(&shuffled[..late]).cloned();
        prop_assert_eq!(Timeline::from_events(reordered), timeline);
    }
}
