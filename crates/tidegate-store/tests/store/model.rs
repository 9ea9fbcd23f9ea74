//! Random sequences of operations do the same to SQLite as to the reference model.

use super::support::{Place, by, project};
use proptest::prelude::*;
use serde_json::json;
use tidegate_store::{
    Actor, AuditQuery, DeliveryId, Expected, ObjectChange, ObjectKey, ObjectKind, OutboxMessage,
    ProjectKey, ProjectPut, Store, StoreError, StoreResult, StreamAppend, Write,
    memory::MemoryStore,
};

#[derive(Debug, Clone)]
enum Op {
    Commit(Vec<ObjectChange>),
    List {
        kind: ObjectKind,
        after: Option<ObjectKey>,
        limit: u32,
    },
    History {
        kind: ObjectKind,
        key: ObjectKey,
    },
    Snapshot,
    Append(StreamAppend),
    Take {
        limit: u32,
        now: i64,
    },
    Done(u64),
    Fail(u64, i64),
    Dead(u64),
    Redeliver(u64, i64),
    Prune(i64),
}

fn kinds() -> impl Strategy<Value = ObjectKind> {
    prop_oneof![Just(ObjectKind::Flag), Just(ObjectKind::Segment)]
}

fn keys() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "b.1", "c"]).prop_map(str::to_owned)
}

fn projects() -> impl Strategy<Value = ProjectKey> {
    prop::sample::select(vec!["default", "default", "default", "absent"])
        .prop_map(|key| ProjectKey::parse(key).unwrap())
}

fn changes() -> impl Strategy<Value = ObjectChange> {
    let expected = prop_oneof![
        3 => Just(Expected::Absent),
        3 => (1_u64..5).prop_map(Expected::Revision),
        2 => Just(Expected::Any),
    ];
    let write = prop_oneof![
        4 => (0..9).prop_map(|n| Write::Put(json!({"n": n}))),
        1 => Just(Write::Delete),
        1 => (0..9).prop_map(|n| Write::Revive(json!([n]))),
    ];
    let remembered = prop::option::of(prop::sample::select(vec!["i", "j"]));
    let messages = prop::collection::vec(prop::sample::select(vec!["x", "y"]), 0..2);
    (
        projects(),
        kinds(),
        keys(),
        expected,
        write,
        remembered,
        messages,
        0_i64..100,
    )
        .prop_map(
            |(project, kind, key, expected, write, remembered, messages, now)| {
                let key = ObjectKey::parse(kind, &key).unwrap();
                let actor = Actor::user("u");
                let target = (project, kind, key);
                let mut change = ObjectChange::new(target, expected, write, actor, now);
                change.idempotency_key = remembered.map(str::to_owned);
                change.outbox = messages
                    .into_iter()
                    .map(|topic| OutboxMessage {
                        topic: topic.to_owned(),
                        payload: json!(now),
                    })
                    .collect();
                change
            },
        )
}

fn appends() -> impl Strategy<Value = StreamAppend> {
    let delivery = prop::option::of(prop::sample::select(vec!["d1", "d2", "d3"]));
    let stream = prop::sample::select(vec!["s", "t"]);
    let head = prop::option::of(0_u64..4);
    (projects(), stream, delivery, head, 0_i64..100).prop_map(
        |(project, stream, delivery, expected_head, now_us)| StreamAppend {
            project,
            stream: stream.to_owned(),
            payload: json!(now_us),
            delivery: delivery.map(|id| DeliveryId {
                source: "git".to_owned(),
                id: id.to_owned(),
            }),
            expected_head,
            outbox: Vec::new(),
            now_us,
        },
    )
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => prop::collection::vec(changes(), 1..4).prop_map(Op::Commit),
        10 => changes().prop_map(|change| Op::Commit(vec![change])),
        1 => (kinds(), prop::option::of(keys()), 0_u32..4).prop_map(|(kind, after, limit)| {
            let after = after.map(|key| ObjectKey::parse(kind, &key).unwrap());
            Op::List { kind, after, limit }
        }),
        1 => (kinds(), keys()).prop_map(|(kind, key)| {
            Op::History { kind, key: ObjectKey::parse(kind, &key).unwrap() }
        }),
        1 => Just(Op::Snapshot),
        4 => appends().prop_map(Op::Append),
        2 => (0_u32..4, 0_i64..200).prop_map(|(limit, now)| Op::Take { limit, now }),
        1 => (1_u64..8).prop_map(Op::Done),
        1 => (1_u64..8, 0_i64..200).prop_map(|(id, at)| Op::Fail(id, at)),
        1 => (1_u64..8).prop_map(Op::Dead),
        1 => (1_u64..8, 0_i64..200).prop_map(|(id, at)| Op::Redeliver(id, at)),
        1 => (0_i64..100).prop_map(Op::Prune),
    ]
}

/// What an operation answers, as text; of an error, what a caller may act on.
fn told<T: std::fmt::Debug>(answer: StoreResult<T>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(StoreError::NotFound { .. }) => "not found".to_owned(),
        Err(StoreError::Exists { current, .. }) => format!("exists at {current}"),
        Err(StoreError::Tombstoned { revision, .. }) => format!("tombstone at {revision}"),
        Err(StoreError::Invalid { field, .. }) => format!("invalid {field}"),
        Err(other) => format!("{other:?}"),
    }
}

async fn apply(store: &dyn Store, op: Op) -> String {
    match op {
        Op::Commit(changes) => told(store.objects_commit(changes).await),
        Op::List { kind, after, limit } => told(
            store
                .object_list(&project(), kind, after.as_ref(), limit)
                .await,
        ),
        Op::History { kind, key } => told(store.object_history(&project(), kind, &key, 100).await),
        Op::Snapshot => told(store.config_snapshot(&project()).await),
        Op::Append(append) => told(store.log_append(append).await),
        Op::Take { limit, now } => told(store.outbox_take(limit, now, now + 40).await),
        Op::Done(id) => told(store.outbox_done(id).await),
        Op::Fail(id, at) => told(store.outbox_fail(id, "e", at).await),
        Op::Dead(id) => told(store.outbox_dead(id, "e").await),
        Op::Redeliver(id, at) => told(store.outbox_redeliver(id, at).await),
        Op::Prune(before) => told(store.prune(before).await),
    }
}

/// Everything that can be seen afterwards; hashes are left out, since salts are random.
async fn seen(store: &dyn Store) -> Vec<String> {
    let query = AuditQuery {
        limit: 1000,
        ..AuditQuery::default()
    };
    let entries = store.audit_list(&query).await.unwrap();
    let mut seen: Vec<_> = entries
        .iter()
        .map(|e| {
            format!(
                "{} {} {:?} {:?} {:?}",
                e.sequence, e.action, e.revision, e.before, e.after
            )
        })
        .collect();
    seen.push(told(store.config_snapshot(&project()).await));
    for stream in ["s", "t"] {
        seen.push(told(store.log_read(&project(), stream, 0, 1000).await));
    }
    seen.push(told(store.outbox_dead_list(&project(), 0, 1000).await));
    seen.push(told(store.outbox_take(1000, 10_000, 20_000).await));
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_the_model_does(ops in prop::collection::vec(ops(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            let sqlite = place.store().await;
            let model = MemoryStore::default();
            let (key, name) = (project(), "Default".to_owned());
            let put = ProjectPut { key, name, expected: Expected::Absent, by: by(1) };
            tidegate_store::ObjectStore::project_put(&model, put).await.unwrap();
            for op in ops {
                let (found, right) =
                    (apply(&sqlite, op.clone()).await, apply(&model, op.clone()).await);
                prop_assert_eq!(found, right, "{:?}", op);
            }
            prop_assert_eq!(seen(&sqlite).await, seen(&model).await);
            Ok(())
        })?;
    }
}
