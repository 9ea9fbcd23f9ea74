//! Projects and objects.

use serde_json::{Value, json};

use super::{by, change, create, flag, project, refused, tester, with_project};
use crate::{
    error::StoreError,
    key::ObjectKey,
    object::{
        ConfigVersion, Expected, FIELD_CHANGES_BYTES_MAX, FIELD_CHANGES_MAX, FieldChange,
        ObjectChange, ObjectKind, SPEC_BYTES_MAX, SPEC_DEPTH_MAX, Write,
    },
    project::ProjectPut,
    store::Store,
};

/// Revisions count from 1 and the history has them all, newest first.
pub async fn revisions_grow_and_all_are_kept(store: &dyn Store) {
    let project = with_project(store).await;
    let first = create(store, "a", json!({"n": 1})).await;
    let update = change("a", Expected::Revision(1), Write::Put(json!({"n": 2})));
    let second = store
        .object_commit(ObjectChange {
            now_us: 200,
            ..update
        })
        .await
        .unwrap();
    let delete = change("a", Expected::Revision(2), Write::Delete);
    let third = store
        .object_commit(ObjectChange {
            now_us: 300,
            ..delete
        })
        .await
        .unwrap();
    assert_eq!([first.revision, second.revision, third.revision], [1, 2, 3]);
    assert_eq!(
        [
            first.config_version,
            second.config_version,
            third.config_version
        ],
        [1, 2, 3]
    );
    assert!(first.version() < second.version());
    assert!(first.audit_sequence < second.audit_sequence);
    let history = store
        .object_history(&project, ObjectKind::Flag, &flag("a"), 10)
        .await
        .unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|o| {
            (
                o.revision,
                o.spec["n"].as_i64(),
                o.created_at,
                o.updated_at,
                o.deleted,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (3, Some(2), 100, 300, true),
            (2, Some(2), 100, 200, false),
            (1, Some(1), 100, 100, false)
        ]
    );
    assert_eq!(history[0].updated_by, tester());
    let newest = store
        .object_history(&project, ObjectKind::Flag, &flag("a"), 1)
        .await
        .unwrap();
    assert_eq!(newest, history[..1]);
    let current = store
        .object_get(&project, ObjectKind::Flag, &flag("a"))
        .await
        .unwrap();
    assert_eq!(current.as_ref(), history.first());
}

/// Of two editors who read the same revision, the second is told, and the first one's text
/// stays.
pub async fn a_stale_writer_loses_nothing(store: &dyn Store) {
    let project = with_project(store).await;
    create(store, "a", json!(1)).await;
    let edit = |n: i64| change("a", Expected::Revision(1), Write::Put(json!(n)));
    store.object_commit(edit(2)).await.unwrap();
    assert_eq!(
        refused(store, edit(3)).await,
        StoreError::Stale { current: 2 }
    );
    let delete = change("a", Expected::Revision(1), Write::Delete);
    assert_eq!(
        refused(store, delete).await,
        StoreError::Stale { current: 2 }
    );
    let current = store
        .object_get(&project, ObjectKind::Flag, &flag("a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((current.revision, current.spec), (2, json!(2)));
    let far = change("a", Expected::Revision(u64::MAX), Write::Put(json!(4)));
    assert_eq!(refused(store, far).await, StoreError::Stale { current: 2 });
}

/// Creating what exists and changing what does not are different errors; kinds are separate
/// name spaces.
pub async fn a_key_that_is_taken_or_missing_is_told(store: &dyn Store) {
    let in_nowhere = change("a", Expected::Absent, Write::Put(json!(1)));
    assert!(matches!(
        refused(store, in_nowhere).await,
        StoreError::NotFound { .. }
    ));
    let project = with_project(store).await;
    create(store, "a", json!(1)).await;
    let again = change("a", Expected::Absent, Write::Put(json!(2)));
    assert!(matches!(
        refused(store, again).await,
        StoreError::Exists { current: 1, .. }
    ));
    let revive = change("a", Expected::Any, Write::Revive(json!(2)));
    assert!(matches!(
        refused(store, revive).await,
        StoreError::Exists { current: 1, .. }
    ));
    for write in [Write::Put(json!(1)), Write::Delete, Write::Revive(json!(1))] {
        for expected in [Expected::Revision(1), Expected::Any] {
            let error = refused(store, change("b", expected, write.clone())).await;
            assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
        }
    }
    let segment = ObjectKey::parse(ObjectKind::Segment, "a").unwrap();
    let target = (project.clone(), ObjectKind::Segment, segment.clone());
    let put = Write::Put(json!("segment"));
    store
        .object_commit(ObjectChange::new(
            target,
            Expected::Absent,
            put,
            tester(),
            1,
        ))
        .await
        .unwrap();
    let flag = store
        .object_get(&project, ObjectKind::Flag, &flag("a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(flag.spec, json!(1));
}

/// A tombstone guards its key; revival is explicit and goes on counting revisions.
pub async fn a_deleted_key_comes_back_only_by_revival(store: &dyn Store) {
    let project = with_project(store).await;
    create(store, "a", json!("old meaning")).await;
    store
        .object_commit(change("a", Expected::Revision(1), Write::Delete))
        .await
        .unwrap();
    for expected in [Expected::Absent, Expected::Revision(2), Expected::Any] {
        let error = refused(store, change("a", expected, Write::Put(json!("new")))).await;
        assert!(
            matches!(error, StoreError::Tombstoned { revision: 2, .. }),
            "{error}"
        );
    }
    let twice = refused(store, change("a", Expected::Any, Write::Delete)).await;
    assert!(matches!(twice, StoreError::Tombstoned { revision: 2, .. }));
    let guess = change("a", Expected::Revision(1), Write::Revive(json!("new")));
    assert_eq!(
        refused(store, guess).await,
        StoreError::Stale { current: 2 }
    );
    let revive = change("a", Expected::Revision(2), Write::Revive(json!("new")));
    assert_eq!(store.object_commit(revive).await.unwrap().revision, 3);
    let current = store
        .object_get(&project, ObjectKind::Flag, &flag("a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((current.spec, current.deleted), (json!("new"), false));
}

/// A kill does not lose to an editor.
pub async fn whoever_does_not_care_about_the_revision_wins(store: &dyn Store) {
    with_project(store).await;
    create(store, "a", json!(1)).await;
    for revision in 2..5 {
        let kill = change("a", Expected::Any, Write::Put(json!({"killed": true})));
        assert_eq!(store.object_commit(kill).await.unwrap().revision, revision);
    }
}

/// One refused change undoes those before it in the same commit.
pub async fn changes_commit_together_or_not_at_all(store: &dyn Store) {
    let project = with_project(store).await;
    create(store, "a", json!(1)).await;
    let head = store.audit_head().await.unwrap();
    let version = store.config_version(&project).await.unwrap();
    let batch = |expected| {
        vec![
            change("b", Expected::Absent, Write::Put(json!(1))),
            change("a", Expected::Revision(1), Write::Put(json!(2))),
            change("a", expected, Write::Put(json!(3))),
        ]
    };
    let error = store
        .objects_commit(batch(Expected::Revision(1)))
        .await
        .unwrap_err();
    assert_eq!(error, StoreError::Stale { current: 2 });
    assert_eq!(
        store
            .object_get(&project, ObjectKind::Flag, &flag("b"))
            .await
            .unwrap(),
        None
    );
    assert_eq!(store.audit_head().await.unwrap(), head);
    assert_eq!(store.config_version(&project).await.unwrap(), version);
    let done = store
        .objects_commit(batch(Expected::Revision(2)))
        .await
        .unwrap();
    let revisions: Vec<_> = done.iter().map(|committed| committed.revision).collect();
    assert_eq!(revisions, [1, 2, 3]);
    assert_eq!(store.objects_commit(Vec::new()).await.unwrap(), []);
}

/// The same change under the same key is applied once and answers the same, even when the
/// state has moved on; another change under that key is refused.
pub async fn an_idempotency_key_applies_once(store: &dyn Store) {
    let project = with_project(store).await;
    create(store, "a", json!(1)).await;
    let kill =
        || change("a", Expected::Any, Write::Put(json!("off"))).with_idempotency_key("stop-1");
    assert_eq!(store.idempotency_find(&project, "stop-1").await, Ok(None));
    let first = store.object_commit(kill()).await.unwrap();
    assert_eq!(
        store.idempotency_find(&project, "stop-1").await,
        Ok(Some(first))
    );
    store
        .object_commit(change("a", Expected::Any, Write::Put(json!("on"))))
        .await
        .unwrap();
    let head = store.audit_head().await.unwrap();
    assert_eq!(store.object_commit(kill()).await.unwrap(), first);
    assert_eq!(
        store.objects_commit(vec![kill(), kill()]).await.unwrap(),
        [first, first]
    );
    assert_eq!(store.audit_head().await.unwrap(), head);
    let current = store
        .object_get(&project, ObjectKind::Flag, &flag("a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(current.spec, json!("on"));
    let other = change("a", Expected::Any, Write::Put(json!("x"))).with_idempotency_key("stop-1");
    let error = refused(store, other).await;
    assert!(
        matches!(
            error,
            StoreError::Invalid {
                field: "idempotency_key",
                ..
            }
        ),
        "{error}"
    );
    let stale =
        || change("a", Expected::Revision(9), Write::Put(json!(0))).with_idempotency_key("stop-2");
    assert_eq!(
        refused(store, stale()).await,
        StoreError::Stale { current: 3 }
    );
    let corrected = ObjectChange {
        expected: Expected::Revision(3),
        ..stale()
    };
    assert_eq!(store.object_commit(corrected).await.unwrap().revision, 4);
}

/// Pages follow each other without gap or repetition.
pub async fn lists_are_paged_in_byte_order_without_tombstones(store: &dyn Store) {
    let project = with_project(store).await;
    for key in ["b", "B", "é", "a", "a/b", "z"] {
        create(store, key, json!(key)).await;
    }
    store
        .object_commit(change("a", Expected::Any, Write::Delete))
        .await
        .unwrap();
    let mut seen = Vec::new();
    let mut after: Option<ObjectKey> = None;
    loop {
        let page = store
            .object_list(&project, ObjectKind::Flag, after.as_ref(), 2)
            .await
            .unwrap();
        assert_eq!(page.quarantined, []);
        seen.extend(
            page.objects
                .into_iter()
                .map(|object| object.key.as_str().to_owned()),
        );
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["B", "a/b", "b", "z", "é"]);
    let none = store
        .object_list(&project, ObjectKind::Metric, None, 10)
        .await
        .unwrap();
    assert_eq!(none.objects, []);
}

/// A snapshot has the live flags and segments of its own project and their version.
pub async fn a_snapshot_is_one_version(store: &dyn Store) {
    let default = with_project(store).await;
    let unknown = store.config_snapshot(&project("other")).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound { .. }));
    let empty = store.config_snapshot(&default).await.unwrap();
    assert_eq!(
        (
            empty.config_version,
            empty.flags.len(),
            empty.segments.len()
        ),
        (0, 0, 0)
    );
    create(store, "b", json!(1)).await;
    create(store, "a", json!(2)).await;
    create(store, "gone", json!(3)).await;
    store
        .object_commit(change("gone", Expected::Any, Write::Delete))
        .await
        .unwrap();
    let key = ObjectKey::parse(ObjectKind::Segment, "team").unwrap();
    let target = (default.clone(), ObjectKind::Segment, key);
    let segment = ObjectChange::new(target, Expected::Absent, Write::Put(json!([])), tester(), 5);
    let last = store.object_commit(segment).await.unwrap();
    let snapshot = store.config_snapshot(&default).await.unwrap();
    let flags: Vec<_> = snapshot
        .flags
        .iter()
        .map(|flag| flag.key.as_str())
        .collect();
    assert_eq!(flags, ["a", "b"]);
    assert_eq!(snapshot.segments.len(), 1);
    assert_eq!(snapshot.version(), last.version());
    assert_eq!(
        store.config_version(&default).await.unwrap(),
        last.version()
    );
    assert!(
        last.version()
            < ConfigVersion {
                epoch: last.epoch + 1,
                version: 0
            }
    );
}

/// Order of keys, numbers and text survive.
pub async fn json_comes_back_as_it_went_in(store: &dyn Store) {
    let project = with_project(store).await;
    let text = r#"{"z":1,"a":{"é\u0000\"\\":[null,true,-0.0,1.5e300,18446744073709551615]},"":""}"#;
    let spec: Value = serde_json::from_str(text).unwrap();
    create(store, "a", spec.clone()).await;
    let current = store
        .object_get(&project, ObjectKind::Flag, &flag("a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(current.spec.to_string(), spec.to_string());
}

/// Limits hold before anything is written.
pub async fn what_cannot_be_stored_is_refused(store: &dyn Store) {
    with_project(store).await;
    let nested = |depth| (1..depth).fold(json!(1), |inner, _| json!([inner]));
    let put = |spec| change("a", Expected::Absent, Write::Put(spec));
    let whole = put(json!(1));
    let difference = |after| FieldChange {
        pointer: String::new(),
        before: None,
        after,
    };
    let many = vec![difference(None); FIELD_CHANGES_MAX + 1];
    let large = difference(Some(json!("x".repeat(FIELD_CHANGES_BYTES_MAX))));
    let refusals = [
        (put(nested(SPEC_DEPTH_MAX + 1)), "spec"),
        (put(json!("x".repeat(SPEC_BYTES_MAX))), "spec"),
        (change("a", Expected::Absent, Write::Delete), "expected"),
        (
            change("a", Expected::Absent, Write::Revive(json!(1))),
            "expected",
        ),
        (
            ObjectChange {
                changes: many,
                ..whole.clone()
            },
            "changes",
        ),
        (
            ObjectChange {
                changes: vec![large],
                ..whole.clone()
            },
            "changes",
        ),
        (whole.clone().with_reason(""), "reason"),
        (whole.clone().with_reason("x".repeat(5000)), "reason"),
        (whole.clone().with_idempotency_key(""), "idempotency_key"),
        (
            ObjectChange {
                actor: crate::Actor::user(""),
                ..whole
            },
            "actor.id",
        ),
    ];
    for (change, place) in refusals {
        let error = refused(store, change).await;
        assert!(
            matches!(error, StoreError::Invalid { field, .. } if field == place),
            "{error}"
        );
    }
    create(store, "deepest", nested(SPEC_DEPTH_MAX)).await;
}

/// A project is created once; a rename needs the revision.
pub async fn projects_are_made_once_and_renamed(store: &dyn Store) {
    let key = with_project(store).await;
    let put = |name: &str, expected| ProjectPut {
        key: key.clone(),
        name: name.to_owned(),
        expected,
        by: by(7),
    };
    let again = store
        .project_put(put("x", Expected::Absent))
        .await
        .unwrap_err();
    assert!(matches!(again, StoreError::Exists { current: 1, .. }));
    let renamed = store
        .project_put(put("Shop", Expected::Revision(1)))
        .await
        .unwrap();
    assert_eq!((renamed.revision, renamed.config_version), (2, 0));
    let stale = store
        .project_put(put("Late", Expected::Revision(1)))
        .await
        .unwrap_err();
    assert_eq!(stale, StoreError::Stale { current: 2 });
    let missing = ProjectPut {
        key: project("b"),
        ..put("B", Expected::Any)
    };
    let missing = store.project_put(missing).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }));
    store
        .project_put(ProjectPut {
            key: project("b"),
            ..put("B", Expected::Absent)
        })
        .await
        .unwrap();
    let names: Vec<_> = store
        .project_list()
        .await
        .unwrap()
        .into_iter()
        .map(|project| project.name)
        .collect();
    assert_eq!(names, ["B", "Shop"]);
    let found = store.project_get(&key).await.unwrap().unwrap();
    assert_eq!((found.created_at, found.updated_at), (1, 7));
    assert_eq!(store.project_get(&project("c")).await.unwrap(), None);
}
