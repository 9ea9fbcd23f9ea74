//! The shortest way through the store: make, change, read back.

use serde_json::json;
use tidegate_store::{
    Actor, By, Expected, ObjectChange, ObjectKey, ObjectKind, ObjectStore as _, ProjectKey,
    ProjectPut, SqliteOptions, SqliteStore, Write,
};

#[tokio::test]
async fn a_flag_is_made_and_read_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.db");
    let project = ProjectKey::parse("default").unwrap();
    let key = ObjectKey::parse(ObjectKind::Flag, "newCheckout").unwrap();
    let actor = Actor::system("test");
    let store = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap();
    let by = By::new(actor.clone(), 1);
    let put = ProjectPut {
        key: project.clone(),
        name: "Default".into(),
        expected: Expected::Absent,
        by,
    };
    store.project_put(put).await.unwrap();
    let spec = json!({"state": "ENABLED"});
    let target = (project.clone(), ObjectKind::Flag, key.clone());
    let change = ObjectChange::new(target, Expected::Absent, Write::Put(spec.clone()), actor, 2);
    let committed = store.object_commit(change).await.unwrap();
    assert_eq!((committed.revision, committed.config_version), (1, 1));
    store.close().await;
    drop(store);

    let store = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap();
    let found = store
        .object_get(&project, ObjectKind::Flag, &key)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.revision, found.spec), (1, spec));
}
