//! Append-only streams and named values.

use serde_json::json;

use super::{project, with_project};
use crate::{
    digest::Digest,
    error::StoreError,
    outbox::OutboxMessage,
    store::Store,
    stream::{DeliveryId, StreamAppend},
};

fn append(stream: &str, says: i64) -> StreamAppend {
    StreamAppend {
        project: project("default"),
        stream: stream.to_owned(),
        payload: json!({"n": says}),
        delivery: None,
        expected_head: None,
        outbox: Vec::new(),
        now_us: says,
    }
}

fn delivered(stream: &str, says: i64, id: &str) -> StreamAppend {
    let delivery = DeliveryId {
        source: "git".to_owned(),
        id: id.to_owned(),
    };
    StreamAppend {
        delivery: Some(delivery),
        ..append(stream, says)
    }
}

/// Sequences have no gaps, streams do not mix, digests are of the text.
pub async fn records_are_numbered_and_read_in_order(store: &dyn Store) {
    let nowhere = store.log_append(append("a", 1)).await.unwrap_err();
    assert!(matches!(nowhere, StoreError::NotFound { .. }));
    let default = with_project(store).await;
    for says in 1..=3 {
        let appended = store.log_append(append("a", says)).await.unwrap();
        assert_eq!(i64::try_from(appended.sequence).unwrap(), says);
        assert_eq!(
            appended.digest,
            Digest::of(format!("{{\"n\":{says}}}").as_bytes())
        );
    }
    assert_eq!(store.log_append(append("b", 9)).await.unwrap().sequence, 1);
    let page = store.log_read(&default, "a", 1, 1).await.unwrap();
    assert_eq!(
        (page.len(), page[0].sequence, page[0].appended_at),
        (1, 2, 2)
    );
    assert_eq!(page[0].payload, json!({"n": 2}));
    assert_eq!(store.log_head(&default, "a").await.unwrap(), 3);
    assert_eq!(store.log_head(&default, "c").await.unwrap(), 0);
    assert_eq!(
        store.log_read(&default, "a", u64::MAX, 9).await.unwrap(),
        []
    );
    let unnamed = store.log_append(append("", 1)).await.unwrap_err();
    assert!(matches!(
        unnamed,
        StoreError::Invalid {
            field: "stream",
            ..
        }
    ));
}

/// A plan whose parent is no longer the newest is refused.
pub async fn a_writer_with_an_old_head_is_stale(store: &dyn Store) {
    with_project(store).await;
    let after = |head, says| StreamAppend {
        expected_head: Some(head),
        ..append("plans", says)
    };
    store.log_append(after(0, 1)).await.unwrap();
    let late = store.log_append(after(0, 2)).await.unwrap_err();
    assert_eq!(late, StoreError::Stale { current: 1 });
    assert_eq!(store.log_append(after(1, 3)).await.unwrap().sequence, 2);
}

/// The second arrival of a delivery gives the first one's place, whatever it says.
pub async fn a_delivery_counts_once(store: &dyn Store) {
    let default = with_project(store).await;
    let first = store.log_append(delivered("a", 1, "x")).await.unwrap();
    let again = store.log_append(delivered("a", 2, "x")).await.unwrap();
    let elsewhere = store.log_append(delivered("b", 3, "x")).await.unwrap();
    for repeated in [again, elsewhere] {
        assert!(repeated.is_duplicate && !first.is_duplicate);
        assert_eq!(
            (repeated.sequence, repeated.digest),
            (first.sequence, first.digest)
        );
    }
    assert!(
        !store
            .log_append(delivered("a", 4, "y"))
            .await
            .unwrap()
            .is_duplicate
    );
    let records = store.log_read(&default, "a", 0, 10).await.unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].delivery, delivered("a", 1, "x").delivery);
}

/// A record and its messages are one: no record, no message; a duplicate sends nothing again.
pub async fn messages_leave_only_with_their_record(store: &dyn Store) {
    with_project(store).await;
    let message = |topic: &str| OutboxMessage {
        topic: topic.to_owned(),
        payload: json!(1),
    };
    let with = |append: StreamAppend, topic: &str| StreamAppend {
        outbox: vec![message(topic)],
        ..append
    };
    let stale = StreamAppend {
        expected_head: Some(7),
        ..append("a", 1)
    };
    store.log_append(with(stale, "hook")).await.unwrap_err();
    store
        .log_append(with(append("a", 1), ""))
        .await
        .unwrap_err();
    assert_eq!(store.log_head(&project("default"), "a").await.unwrap(), 0);
    for _ in 0..2 {
        let once = with(delivered("a", 5, "x"), "hook");
        store.log_append(once).await.unwrap();
    }
    let taken = store.outbox_take(10, 100, 200).await.unwrap();
    let told: Vec<(&str, i64)> = taken
        .iter()
        .map(|row| (row.topic.as_str(), row.created_at))
        .collect();
    assert_eq!(told, [("hook", 5)]);
}

/// Named values are bytes under a name.
pub async fn named_values_are_replaced(store: &dyn Store) {
    assert_eq!(store.kv_get("a").await.unwrap(), None);
    store.kv_put("a", &[0, 255]).await.unwrap();
    store.kv_put("a", &[]).await.unwrap();
    assert_eq!(store.kv_get("a").await.unwrap(), Some(Vec::new()));
    let large = store
        .kv_put("a", &vec![0; 64 * 1024 + 1])
        .await
        .unwrap_err();
    assert!(matches!(large, StoreError::Invalid { field: "value", .. }));
}
