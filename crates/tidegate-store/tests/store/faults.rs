//! Full, locked, read-only, newer, foreign and damaged files: an error that says what to do,
//! never a panic, and reads go on.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::support::{Place, change, create, project, spec_of};
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tidegate_store::{
    Expected, ObjectChange, ObjectStore as _, OutboxMessage, OutboxStore as _, SqliteOptions,
    SqliteStore, Store as _, StoreError, StreamStore as _, Write,
};

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path))
        .await
        .unwrap()
}

/// Changes the only occurrence of `from` in a file.
fn alter(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(path).unwrap();
    let found: Vec<_> = bytes
        .windows(from.len())
        .enumerate()
        .filter_map(|(at, window)| (window == from.as_bytes()).then_some(at))
        .collect();
    assert!(!found.is_empty(), "{from} is not in the file");
    for at in found {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_full_file_refuses_writes_serves_reads_and_recovers_without_restart() {
    let place = Place::new();
    let limited = SqliteOptions {
        size_limit_bytes: Some(600 * 1024),
        ..SqliteOptions::new(place.db())
    };
    let store = place.store_with(limited).await;
    create(&store, "kept", json!("before")).await.unwrap();
    let mut filled = 0;
    let error = loop {
        match store.kv_put(&format!("k{filled}"), &[1; 60_000]).await {
            Ok(()) => filled += 1,
            Err(error) => break error,
        }
        assert!(filled < 100, "the limit does not hold");
    };
    assert!(error.is_retryable(), "{error:?}");
    let last = format!("k{filled}");
    assert_eq!(
        store.kv_get(&last).await.unwrap(),
        None,
        "a refused write is there"
    );
    let big = json!("x".repeat(100_000));
    let refused = create(&store, "late", big.clone()).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::Unavailable {
                retryable: true,
                ..
            }
        ),
        "{refused:?}"
    );
    assert_eq!(spec_of(&store, "kept").await, Some(json!("before")));
    assert_eq!(
        store.config_snapshot(&project()).await.unwrap().flags.len(),
        1
    );
    for n in 0..filled {
        store.kv_put(&format!("k{n}"), &[]).await.unwrap();
    }
    create(&store, "late", big).await.unwrap();
    assert!(store.health().await.unwrap().is_writable);
}

#[tokio::test]
async fn a_lock_held_too_long_makes_writes_unavailable_and_reads_go_on() {
    let place = Place::new();
    let store = place
        .store_with(SqliteOptions {
            write_wait: Duration::from_millis(200),
            ..SqliteOptions::new(place.db())
        })
        .await;
    create(&store, "a", json!(1)).await.unwrap();
    let mut intruder = raw(&place.db()).await;
    let held = intruder.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = create(&store, "b", json!(1)).await.unwrap_err();
    assert!(
        error.is_retryable() && error.is_certainly_not_applied(),
        "{error:?}"
    );
    assert_eq!(spec_of(&store, "a").await, Some(json!(1)));
    held.rollback().await.unwrap();
    create(&store, "b", json!(1)).await.unwrap();
}

#[tokio::test]
async fn a_write_given_up_half_way_is_undone_and_the_next_one_works() {
    let place = Place::new();
    let store = place.store().await;
    for n in 0..50 {
        let key = format!("given-up-{n}");
        let write = create(&store, &key, json!(n));
        let polls = tokio::time::timeout(Duration::from_micros(n * 40), write);
        let outcome = polls.await;
        let is_there = spec_of(&store, &key).await.is_some();
        assert!(
            is_there || outcome.is_err(),
            "an acknowledged write is gone"
        );
    }
    create(&store, "after", json!(1)).await.unwrap();
    let report = tidegate_store::sqlite::verify_file(&place.db(), &[], vec![])
        .await
        .unwrap();
    assert!(report.is_ok(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_taken_among_writes_is_one_version() {
    const FLAGS: u64 = 20;
    let place = Place::new();
    let store = Arc::new(place.store().await);
    let batch = |n: u64, expected| {
        let put = |flag| change(&format!("f{flag}"), expected, Write::Put(json!(n)));
        (0..FLAGS).map(put).collect::<Vec<_>>()
    };
    store
        .objects_commit(batch(0, Expected::Absent))
        .await
        .unwrap();
    let is_enough = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, is_enough) = (Arc::clone(&store), Arc::clone(&is_enough));
        tokio::spawn(async move {
            for n in (1..).take_while(|_| !is_enough.load(Ordering::Relaxed)) {
                store.objects_commit(batch(n, Expected::Any)).await.unwrap();
            }
        })
    };
    let mut seen = BTreeSet::new();
    while seen.len() < 10 {
        let snapshot = store.config_snapshot(&project()).await.unwrap();
        let values: BTreeSet<_> = snapshot
            .flags
            .iter()
            .map(|flag| flag.spec.as_u64().unwrap())
            .collect();
        assert_eq!(values.len(), 1, "a snapshot mixes versions: {values:?}");
        let n = *values.first().unwrap();
        assert_eq!(snapshot.config_version, (n + 1) * FLAGS);
        seen.insert(n);
    }
    is_enough.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

#[tokio::test]
async fn a_store_opened_read_only_reads_and_refuses_to_write() {
    let place = Place::new();
    let writer = place.store().await;
    create(&writer, "a", json!(1)).await.unwrap();
    let options = SqliteOptions {
        read_only: true,
        ..SqliteOptions::new(place.db())
    };
    let reader = SqliteStore::open(options.clone()).await.unwrap();
    assert_eq!(spec_of(&reader, "a").await, Some(json!(1)));
    let error = create(&reader, "b", json!(1)).await.unwrap_err();
    assert!(
        !error.is_retryable() && error.is_certainly_not_applied(),
        "{error:?}"
    );
    assert!(!reader.health().await.unwrap().is_writable);
    let nothing = SqliteOptions {
        path: place.path("nothing.db"),
        ..options
    };
    let error = SqliteStore::open(nothing).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let place = Place::new();
    let first = place.store().await;
    let error = SqliteStore::open(SqliteOptions::new(place.db()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    drop(first);
    place.store().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_the_reason_and_left_as_it_was() {
    let place = Place::new();
    place.store().await.close().await;
    let mut connection = raw(&place.db()).await;
    sqlx::query("PRAGMA user_version = 99")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let before = fs::read(place.db()).unwrap();
    let error = SqliteStore::open(SqliteOptions::new(place.db()))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        StoreError::SchemaTooNew {
            found: 99,
            supported: 1
        }
    );
    assert!(error.to_string().contains("restore the backup"), "{error}");
    assert_eq!(fs::read(place.db()).unwrap(), before);
}

#[tokio::test]
async fn a_foreign_file_is_refused_and_left_as_it_was() {
    let place = Place::new();
    let path = place.path("foreign.db");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("CREATE TABLE theirs (n INTEGER)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    let error = SqliteStore::open(SqliteOptions::new(&path))
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Invalid { field: "path", .. }),
        "{error:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::write(
        &path,
        "this is a letter, not a database, and long enough to look at",
    )
    .unwrap();
    let error = SqliteStore::open(SqliteOptions::new(&path))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_damaged_flag_is_set_aside_and_harms_no_other() {
    let place = Place::new();
    let store = place.store().await;
    for key in ["a", "b", "c"] {
        create(&store, key, json!({"name": format!("spec-of-{key}")}))
            .await
            .unwrap();
    }
    store.close().await;
    drop(store);
    alter(&place.db(), "spec-of-b", "spec-of-x");
    let store = place.store().await;
    let snapshot = store.config_snapshot(&project()).await.unwrap();
    let keys: Vec<_> = snapshot
        .flags
        .iter()
        .map(|flag| flag.key.as_str())
        .collect();
    assert_eq!(keys, ["a", "c"]);
    assert_eq!(snapshot.quarantined.len(), 1);
    assert_eq!(
        (
            snapshot.quarantined[0].key.as_str(),
            snapshot.quarantined[0].revision
        ),
        ("b", 1)
    );
    let error = store
        .object_get(
            &project(),
            tidegate_store::ObjectKind::Flag,
            &super::support::flag("b"),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    let repair = change(
        "b",
        Expected::Revision(1),
        Write::Put(json!({"name": "repaired"})),
    );
    store.object_commit(repair).await.unwrap();
    assert_eq!(
        store.config_snapshot(&project()).await.unwrap().quarantined,
        []
    );
}

#[tokio::test]
async fn a_damaged_message_becomes_a_dead_letter_and_blocks_nothing() {
    let place = Place::new();
    let store = place.store().await;
    for says in ["first message", "second message"] {
        let message = OutboxMessage {
            topic: "hook".to_owned(),
            payload: json!(says),
        };
        let put = change(
            &says.replace(' ', "-"),
            Expected::Absent,
            Write::Put(json!(1)),
        );
        store
            .object_commit(ObjectChange {
                outbox: vec![message],
                ..put
            })
            .await
            .unwrap();
    }
    store.close().await;
    drop(store);
    alter(&place.db(), "\"first message\"", "\"first message!");
    let store = place.store().await;
    assert_eq!(store.outbox_take(10, 100, 200).await.unwrap(), []);
    let taken = store.outbox_take(10, 100, 200).await.unwrap();
    assert_eq!(taken[0].payload, json!("second message"));
    let dead = store.outbox_dead_list(&project(), 0, 10).await.unwrap();
    assert_eq!((dead.len(), &dead[0].payload), (1, &json!(null)));
    assert!(
        dead[0]
            .last_error
            .as_ref()
            .unwrap()
            .contains("cannot be read")
    );
}

#[tokio::test]
async fn every_read_of_a_file_with_a_damaged_page_is_an_answer_or_an_error() {
    let place = Place::new();
    let store = place.store().await;
    for n in 0..40 {
        create(
            &store,
            &format!("flag-{n}"),
            json!({"text": "y".repeat(500)}),
        )
        .await
        .unwrap();
    }
    store.close().await;
    drop(store);
    let whole = fs::read(place.db()).unwrap();
    for page in 1..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..page * 4096 + 64].fill(0xff);
        fs::write(place.db(), damaged).unwrap();
        let Ok(store) = SqliteStore::open(SqliteOptions::new(place.db())).await else {
            continue;
        };
        if let Ok(snapshot) = store.config_snapshot(&project()).await {
            assert!(snapshot.flags.len() + snapshot.quarantined.len() <= 40);
        }
        let _ = create(&store, "new", json!(1)).await;
        store.close().await;
    }
}
