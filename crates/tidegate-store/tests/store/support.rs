//! A store in a directory of its own, and the shortest ways to write to it.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use tidegate_store::{
    Actor, By, Committed, Expected, ObjectChange, ObjectKey, ObjectKind, ObjectStore as _,
    ProjectKey, ProjectPut, SqliteOptions, SqliteStore, StoreResult, Write,
};

/// A directory that goes away with the test, and a file name in it.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.path("tidegate.db")
    }

    /// Opens the store with the project `default` in it.
    pub(crate) async fn store(&self) -> SqliteStore {
        self.store_with(SqliteOptions::new(self.db())).await
    }

    pub(crate) async fn store_with(&self, options: SqliteOptions) -> SqliteStore {
        let store = SqliteStore::open(options).await.unwrap();
        if store.project_get(&project()).await.unwrap().is_none() {
            let (key, name) = (project(), "Default".to_owned());
            let put = ProjectPut {
                key,
                name,
                expected: Expected::Absent,
                by: by(1),
            };
            store.project_put(put).await.unwrap();
        }
        store
    }
}

pub(crate) fn project() -> ProjectKey {
    ProjectKey::parse("default").unwrap()
}

pub(crate) fn flag(key: &str) -> ObjectKey {
    ObjectKey::parse(ObjectKind::Flag, key).unwrap()
}

pub(crate) fn by(now_us: i64) -> By {
    By::new(Actor::system("test"), now_us)
}

pub(crate) fn change(key: &str, expected: Expected, write: Write) -> ObjectChange {
    let target = (project(), ObjectKind::Flag, flag(key));
    ObjectChange::new(target, expected, write, Actor::system("test"), 10)
}

pub(crate) async fn create(store: &SqliteStore, key: &str, spec: Value) -> StoreResult<Committed> {
    store
        .object_commit(change(key, Expected::Absent, Write::Put(spec)))
        .await
}

pub(crate) async fn spec_of(store: &SqliteStore, key: &str) -> Option<Value> {
    let found = store
        .object_get(&project(), ObjectKind::Flag, &flag(key))
        .await
        .unwrap();
    found.map(|object| object.spec)
}
