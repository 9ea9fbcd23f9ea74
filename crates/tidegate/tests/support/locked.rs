//! A database that somebody else is writing to.

use std::path::Path;

use sqlx::{Connection as _, Executor as _, SqliteConnection};

/// Holds the database's write lock until it is dropped.
pub struct LockedDatabase {
    runtime: tokio::runtime::Runtime,
    connection: SqliteConnection,
}

impl LockedDatabase {
    /// Takes the lock of the database in a data folder.
    pub fn of(folder: &Path) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let address = format!("sqlite://{}", folder.join("tidegate.db").display());
        let connection = runtime.block_on(async {
            let mut connection = SqliteConnection::connect(&address).await.unwrap();
            connection.execute("BEGIN IMMEDIATE").await.unwrap();
            connection
        });
        Self {
            runtime,
            connection,
        }
    }

    /// Lets others write again.
    pub fn release(mut self) {
        self.runtime
            .block_on(async { self.connection.execute("ROLLBACK").await.unwrap() });
    }
}
