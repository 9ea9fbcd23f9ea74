//! The conformance suite, on every implementation.

mod sqlite {
    use tempfile::TempDir;
    use tidegate_store::{SqliteOptions, SqliteStore};

    async fn open() -> (TempDir, SqliteStore) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidegate.db");
        let store = SqliteStore::open(SqliteOptions::new(path)).await.unwrap();
        (dir, store)
    }

    tidegate_store::conformance_suite!(open);
}

mod memory {
    use tidegate_store::memory::MemoryStore;

    async fn open() -> ((), MemoryStore) {
        ((), MemoryStore::default())
    }

    tidegate_store::conformance_suite!(open);
}
