//! The audit chain.

use serde_json::json;

use super::{by, change, create, flag, project, refused, with_project};
use crate::{
    access::By,
    audit::{
        AuditDraft, AuditEntry, AuditObject, AuditQuery, ChainVerifier, CheckpointSigner,
        VerifyReport,
    },
    error::StoreError,
    object::{Expected, FieldChange, ObjectChange, Write},
    store::Store,
};

async fn all(store: &dyn Store) -> Vec<AuditEntry> {
    store
        .audit_list(&AuditQuery {
            limit: 1000,
            ..AuditQuery::default()
        })
        .await
        .unwrap()
}

async fn verify(store: &dyn Store) -> VerifyReport {
    let mut verifier = ChainVerifier::new(&[], []);
    all(store)
        .await
        .iter()
        .for_each(|entry| verifier.entry(entry));
    verifier.finish()
}

/// Each change has its entry, with who, why, digests and difference, and the chain holds.
pub async fn every_change_is_in_the_chain(store: &dyn Store) {
    with_project(store).await;
    let created = create(store, "a", json!({"on": false})).await;
    let difference = vec![FieldChange {
        pointer: "/on".to_owned(),
        before: Some(json!(false)),
        after: Some(json!(true)),
    }];
    let update = change("a", Expected::Revision(1), Write::Put(json!({"on": true})));
    let update = ObjectChange {
        changes: difference.clone(),
        ..update.with_reason("launch")
    };
    let updated = store.object_commit(update).await.unwrap();
    let kill = change("a", Expected::Any, Write::Put(json!({"on": false})));
    let kill = ObjectChange {
        action: Some("flag.kill".to_owned()),
        ..kill
    };
    store.object_commit(kill).await.unwrap();
    store
        .object_commit(change("a", Expected::Any, Write::Delete))
        .await
        .unwrap();
    store
        .object_commit(change("a", Expected::Any, Write::Revive(json!(1))))
        .await
        .unwrap();
    let entries = all(store).await;
    let actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "project.create",
            "flag.create",
            "flag.update",
            "flag.kill",
            "flag.delete",
            "flag.revive"
        ]
    );
    let (first, second) = (&entries[1], &entries[2]);
    assert_eq!(
        (first.sequence, second.sequence),
        (created.audit_sequence, updated.audit_sequence)
    );
    assert_eq!((first.before, second.before), (None, first.after));
    assert_eq!(second.reason(), Some("launch"));
    assert_eq!(second.note.as_ref().unwrap().field_changes(), difference);
    assert_eq!((entries[4].after, entries[5].before), (None, None));
    assert_eq!(
        second.object,
        Some(AuditObject::new("flag", flag("a").as_str()))
    );
    let report = verify(store).await;
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.head, store.audit_head().await.unwrap());
}

/// Entries are found by project, by object, and page by page.
pub async fn entries_are_found_by_project_and_object(store: &dyn Store) {
    let default = with_project(store).await;
    create(store, "a", json!(1)).await;
    create(store, "b", json!(1)).await;
    let draft = AuditDraft::new("sign-in", Some(AuditObject::new("user", "u-1")), &by(5));
    let head = store.audit_append(draft).await.unwrap();
    assert_eq!(head, store.audit_head().await.unwrap());
    let count = async |query: AuditQuery| store.audit_list(&query).await.unwrap().len();
    let base = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let in_project = AuditQuery {
        project: Some(default),
        ..base.clone()
    };
    let with_people = AuditQuery {
        with_whole_store: true,
        ..in_project.clone()
    };
    let about_b = AuditQuery {
        object: Some(AuditObject::new("flag", "b")),
        ..in_project.clone()
    };
    let about_user = AuditQuery {
        object: Some(AuditObject::new("user", "u-1")),
        ..base.clone()
    };
    let elsewhere = AuditQuery {
        project: Some(project("other")),
        ..about_user.clone()
    };
    assert_eq!(count(base.clone()).await, 4);
    assert_eq!(count(in_project).await, 3);
    assert_eq!(count(with_people).await, 4);
    assert_eq!(count(about_b).await, 1);
    assert_eq!(count(about_user).await, 1);
    assert_eq!(count(elsewhere).await, 0);
    assert_eq!(
        count(AuditQuery {
            after: 3,
            ..base.clone()
        })
        .await,
        1
    );
    assert_eq!(
        count(AuditQuery {
            after: u64::MAX,
            ..base.clone()
        })
        .await,
        0
    );
    assert_eq!(count(AuditQuery { limit: 2, ..base }).await, 2);
}

/// A reason that named somebody can go; the chain still verifies and says that it went.
pub async fn an_erased_note_leaves_the_chain_whole(store: &dyn Store) {
    with_project(store).await;
    let named = By {
        reason: Some("called by Ada".to_owned()),
        ..by(5)
    };
    let head = store
        .audit_append(AuditDraft::new("call", None, &named))
        .await
        .unwrap();
    store.audit_note_erase(head.sequence, by(6)).await.unwrap();
    let again = store
        .audit_note_erase(head.sequence, by(7))
        .await
        .unwrap_err();
    assert!(matches!(again, StoreError::NotFound { .. }));
    let entries = all(store).await;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.action.as_str(), entry.reason()))
        .collect();
    assert_eq!(
        told,
        [
            ("project.create", None),
            ("call", None),
            ("audit.erase-note", None)
        ]
    );
    let report = verify(store).await;
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.notes_erased, 1);
}

/// Checkpoints come back as they were and hold the chain to what was signed.
pub async fn checkpoints_are_kept_and_hold(store: &dyn Store) {
    let dir = tempfile_free_dir();
    let signer = CheckpointSigner::open_or_create(&dir.join("audit.key")).unwrap();
    with_project(store).await;
    let first = signer.sign(&store.audit_head().await.unwrap(), 10);
    create(store, "a", json!(1)).await;
    let second = signer.sign(&store.audit_head().await.unwrap(), 20);
    for checkpoint in [&first, &second, &first] {
        store
            .audit_checkpoint_put(checkpoint.clone())
            .await
            .unwrap();
    }
    let kept = store.audit_checkpoint_list(0, 10).await.unwrap();
    assert_eq!(kept, [first, second]);
    assert_eq!(store.audit_checkpoint_list(1, 10).await.unwrap(), kept[1..]);
    let mut verifier = ChainVerifier::new(&[signer.public_key()], kept);
    all(store)
        .await
        .iter()
        .for_each(|entry| verifier.entry(entry));
    let report = verifier.finish();
    assert!(report.is_ok(), "{report:?}");
    assert_eq!((report.checkpoints_confirmed, report.confirmed_to), (2, 2));
    std::fs::remove_dir_all(dir).unwrap();
}

/// What was refused is neither in the chain nor in the outbox.
pub async fn a_refused_change_leaves_no_trace(store: &dyn Store) {
    let default = with_project(store).await;
    let before = (
        all(store).await,
        store.config_version(&default).await.unwrap(),
    );
    refused(store, change("a", Expected::Any, Write::Delete)).await;
    let unnamed = AuditDraft::new("", None, &by(1));
    store.audit_append(unnamed).await.unwrap_err();
    assert_eq!(
        (
            all(store).await,
            store.config_version(&default).await.unwrap()
        ),
        before
    );
}

/// A directory of this process and call alone.
fn tempfile_free_dir() -> std::path::PathBuf {
    let name = crate::stop_file::StopId::random().unwrap();
    let dir = std::env::temp_dir().join(format!("tidegate-conformance-{name}"));
    std::fs::create_dir(&dir).unwrap();
    dir
}
