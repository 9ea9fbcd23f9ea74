//! Backup and restore: a copy of one moment, and a newer epoch after it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::support::{Place, by, change, create, project, spec_of};
use serde_json::json;
use tidegate_store::{
    AuditQuery, AuditStore as _, By, Expected, ObjectStore as _, StopFile, Store as _, StoreError,
    Write,
    audit::{CheckpointSigner, Finding},
    sqlite::{restore, verify_file},
};

#[tokio::test]
async fn a_restored_state_is_newer_for_every_client_and_says_so_in_the_audit() {
    let place = Place::new();
    let signer = CheckpointSigner::open_or_create(&place.path("audit.key")).unwrap();
    let keys = [signer.public_key()];
    let store = place.store().await;
    create(&store, "a", json!("in the backup")).await.unwrap();
    let kept = signer.sign(&store.audit_head().await.unwrap(), 1);
    let backup = place.path("backup.db");
    let report = store.backup_to(&backup).await.unwrap();
    assert_eq!(
        (report.epoch, report.audit_head),
        (1, store.audit_head().await.unwrap())
    );
    assert_eq!(report.bytes, fs::metadata(&backup).unwrap().len());
    for n in 0..5 {
        let put = change("a", Expected::Any, Write::Put(json!(n)));
        store.object_commit(put).await.unwrap();
    }
    let before = store.config_version(&project()).await.unwrap();
    let superseded = signer.sign(&store.audit_head().await.unwrap(), 2);
    let busy = restore(&backup, &place.db(), by(5)).await.unwrap_err();
    assert!(matches!(busy, StoreError::Unavailable { .. }), "{busy:?}");
    store.close().await;
    drop(store);

    let reason = By {
        reason: Some("bad import".to_owned()),
        ..by(5)
    };
    let report = restore(&backup, &place.db(), reason).await.unwrap();
    assert_eq!(report.epoch, 2);
    let store = place.store().await;
    assert_eq!(spec_of(&store, "a").await, Some(json!("in the backup")));
    let after = store.config_version(&project()).await.unwrap();
    assert!(after > before && after.version < before.version);
    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let last = store.audit_list(&query).await.unwrap().pop().unwrap();
    assert_eq!(
        (last.action.as_str(), last.reason()),
        ("store.restore", Some("bad import"))
    );
    assert_eq!(last.as_head(), report.audit_head);
    store.close().await;
    let verified = verify_file(&place.db(), &keys, vec![kept, superseded])
        .await
        .unwrap();
    assert!(verified.is_ok(), "{verified:?}");
    assert_eq!(
        (
            verified.checkpoints_confirmed,
            verified.checkpoints_superseded
        ),
        (1, 1)
    );
    assert!(place.path("tidegate.db.before-restore").exists());
}

#[tokio::test]
async fn only_the_owner_may_read_what_is_stored() {
    let place = Place::new();
    let store = place.store().await;
    let backup = place.path("backup.db");
    store.backup_to(&backup).await.unwrap();
    drop(StopFile::open(place.path("stops")).unwrap());
    for name in [
        "tidegate.db",
        "tidegate.db-wal",
        "tidegate.db-shm",
        "backup.db",
        "stops",
    ] {
        let mode = fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    store.close().await;
    drop(store);
    restore(&backup, &place.db(), by(1)).await.unwrap();
    assert_eq!(
        fs::metadata(place.db()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn restoring_again_and_into_nothing_raises_the_epoch_further() {
    let place = Place::new();
    let store = place.store().await;
    let backup = place.path("backup.db");
    store.backup_to(&backup).await.unwrap();
    store.close().await;
    drop(store);
    for epoch in 2..4 {
        assert_eq!(
            restore(&backup, &place.db(), by(1)).await.unwrap().epoch,
            epoch
        );
    }
    let elsewhere = place.path("elsewhere.db");
    assert_eq!(restore(&backup, &elsewhere, by(1)).await.unwrap().epoch, 2);
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_the_store_stays() {
    let place = Place::new();
    let store = place.store().await;
    create(&store, "a", json!("this-is-the-spec"))
        .await
        .unwrap();
    let backup = place.path("backup.db");
    store.backup_to(&backup).await.unwrap();
    let taken = store.backup_to(&backup).await.unwrap_err();
    assert!(
        matches!(taken, StoreError::Invalid { field: "path", .. }),
        "{taken:?}"
    );
    store.close().await;
    drop(store);
    let whole = fs::read(&backup).unwrap();
    let at = whole
        .windows(11)
        .position(|window| window == b"flag.create")
        .unwrap();
    let mut altered = whole.clone();
    altered[at] = b'F';
    fs::write(&backup, altered).unwrap();
    let error = restore(&backup, &place.db(), by(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    fs::write(&backup, &whole[..whole.len() / 2]).unwrap();
    let error = restore(&backup, &place.db(), by(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    let error = restore(&place.path("none.db"), &place.db(), by(1))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    assert_eq!(
        spec_of(&place.store().await, "a").await,
        Some(json!("this-is-the-spec"))
    );
}

#[tokio::test]
async fn a_store_that_can_no_longer_be_read_is_replaced() {
    let place = Place::new();
    let store = place.store().await;
    create(&store, "a", json!(1)).await.unwrap();
    let backup = place.path("backup.db");
    store.backup_to(&backup).await.unwrap();
    store.close().await;
    drop(store);
    fs::write(place.db(), vec![0xff; 8192]).unwrap();
    restore(&backup, &place.db(), by(1)).await.unwrap();
    assert_eq!(spec_of(&place.store().await, "a").await, Some(json!(1)));
}

#[tokio::test]
async fn a_removed_tail_is_seen_by_a_published_checkpoint_only() {
    let place = Place::new();
    let signer = CheckpointSigner::open_or_create(&place.path("audit.key")).unwrap();
    let keys = [signer.public_key()];
    let store = place.store().await;
    create(&store, "a", json!(1)).await.unwrap();
    let shorter = place.path("shorter.db");
    store.backup_to(&shorter).await.unwrap();
    create(&store, "b", json!(1)).await.unwrap();
    let published = signer.sign(&store.audit_head().await.unwrap(), 9);
    let unaware = verify_file(&shorter, &keys, vec![]).await.unwrap();
    assert!(unaware.is_ok(), "{unaware:?}");
    let aware = verify_file(&shorter, &keys, vec![published]).await.unwrap();
    assert_eq!(
        aware.findings,
        [Finding::TailRemoved {
            sequence: 3,
            end: 2
        }]
    );
}
