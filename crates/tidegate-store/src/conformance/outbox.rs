//! Messages that leave with their change.

use serde_json::json;

use super::{change, create, project, refused, with_project};
use crate::{
    error::StoreError,
    object::{Expected, ObjectChange, Write},
    outbox::{OutboxMessage, OutboxRow},
    store::Store,
};

async fn send(store: &dyn Store, topic: &str, says: i64) {
    let message = OutboxMessage {
        topic: topic.to_owned(),
        payload: json!(says),
    };
    let update = change("a", Expected::Any, Write::Put(json!(says)));
    store
        .object_commit(ObjectChange {
            outbox: vec![message],
            ..update
        })
        .await
        .unwrap();
}

async fn take(store: &dyn Store, now: i64) -> Vec<OutboxRow> {
    store.outbox_take(10, now, now + 50).await.unwrap()
}

fn told(rows: &[OutboxRow]) -> Vec<(&str, i64)> {
    rows.iter()
        .map(|row| (row.topic.as_str(), row.payload.as_i64().unwrap()))
        .collect()
}

/// No change, no message; no message twice for a repeated change.
pub async fn messages_leave_only_with_their_change(store: &dyn Store) {
    with_project(store).await;
    let message = OutboxMessage {
        topic: "hook".to_owned(),
        payload: json!(1),
    };
    let put = change("a", Expected::Revision(4), Write::Put(json!(1)));
    let put = ObjectChange {
        outbox: vec![message],
        ..put.with_idempotency_key("once")
    };
    refused(store, put.clone()).await;
    assert_eq!(take(store, 1000).await, []);
    let put = ObjectChange {
        expected: Expected::Absent,
        ..put
    };
    store.object_commit(put.clone()).await.unwrap();
    store.object_commit(put).await.unwrap();
    let taken = take(store, 1000).await;
    assert_eq!(told(&taken), [("hook", 1)]);
    assert_eq!((taken[0].attempts, taken[0].created_at), (0, 100));
    let huge = OutboxMessage {
        topic: String::new(),
        payload: json!(1),
    };
    let bad = change("a", Expected::Any, Write::Put(json!(2)));
    let error = refused(
        store,
        ObjectChange {
            outbox: vec![huge],
            ..bad
        },
    )
    .await;
    assert!(matches!(
        error,
        StoreError::Invalid {
            field: "outbox.topic",
            ..
        }
    ));
}

/// A failing destination waits in order while others are served.
pub async fn a_topic_keeps_its_order_and_holds_back_no_other(store: &dyn Store) {
    with_project(store).await;
    create(store, "a", json!(0)).await;
    for (topic, says) in [("slow", 1), ("slow", 2), ("fast", 3), ("fast", 4)] {
        send(store, topic, says).await;
    }
    assert_eq!(told(&take(store, 99).await), []);
    let taken = take(store, 100).await;
    assert_eq!(told(&taken), [("slow", 1), ("fast", 3)]);
    store.outbox_fail(taken[0].id, "503", 500).await.unwrap();
    store.outbox_done(taken[1].id).await.unwrap();
    let taken = take(store, 200).await;
    assert_eq!(told(&taken), [("fast", 4)]);
    store.outbox_done(taken[0].id).await.unwrap();
    assert_eq!(told(&take(store, 499).await), []);
    let taken = take(store, 500).await;
    assert_eq!(told(&taken), [("slow", 1)]);
    assert_eq!(
        (taken[0].attempts, taken[0].last_error.as_deref()),
        (1, Some("503"))
    );
    store.outbox_done(taken[0].id).await.unwrap();
    assert_eq!(told(&take(store, 501).await), [("slow", 2)]);
}

/// What was taken and never finished is taken again once the lease is over.
pub async fn a_lost_taker_loses_no_message(store: &dyn Store) {
    with_project(store).await;
    create(store, "a", json!(0)).await;
    send(store, "hook", 1).await;
    assert_eq!(take(store, 100).await.len(), 1);
    assert_eq!(take(store, 149).await.len(), 0);
    let again = take(store, 150).await;
    assert_eq!(told(&again), [("hook", 1)]);
    store.outbox_done(again[0].id).await.unwrap();
    let twice = store.outbox_done(again[0].id).await.unwrap_err();
    assert!(matches!(twice, StoreError::NotFound { .. }));
}

/// A dead letter blocks nothing, is listed, and can be sent again.
pub async fn dead_letters_are_kept_and_redelivered(store: &dyn Store) {
    let default = with_project(store).await;
    create(store, "a", json!(0)).await;
    send(store, "hook", 1).await;
    send(store, "hook", 2).await;
    let first = take(store, 100).await[0].id;
    store.outbox_dead(first, &"é".repeat(1000)).await.unwrap();
    assert_eq!(told(&take(store, 100).await), [("hook", 2)]);
    let dead = store.outbox_dead_list(&default, 0, 10).await.unwrap();
    assert_eq!(told(&dead), [("hook", 1)]);
    assert_eq!(dead[0].last_error, Some("é".repeat(250)));
    assert_eq!(
        store.outbox_dead_list(&default, first, 10).await.unwrap(),
        []
    );
    assert_eq!(
        store
            .outbox_dead_list(&project("other"), 0, 10)
            .await
            .unwrap(),
        []
    );
    assert_eq!(store.prune(100).await.unwrap().dead_letters, 0);
    store.outbox_redeliver(first, 300).await.unwrap();
    let twice = store.outbox_redeliver(first, 300).await.unwrap_err();
    assert!(matches!(twice, StoreError::NotFound { .. }));
    assert_eq!(told(&take(store, 300).await), [("hook", 1)]);
    store.outbox_dead(first, "gone").await.unwrap();
    assert_eq!(store.prune(101).await.unwrap().dead_letters, 1);
    assert_eq!(store.outbox_dead_list(&default, 0, 10).await.unwrap(), []);
}
