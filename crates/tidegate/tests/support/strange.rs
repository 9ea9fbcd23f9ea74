//! Another project with a token of its own, written before the server starts.

use std::path::Path;

use tidegate_store::{
    Actor, By, Expected, MintedCredential, ObjectStore as _, ProjectKey, ProjectPut, SqliteOptions,
    SqliteStore, TokenKind, TokenRecord, TokenStore as _,
};

/// Makes the project `strange` in `data_dir`; returns the text of its admin token.
pub fn project_with_token(data_dir: &Path) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteOptions::new(data_dir.join("tidegate.db"));
        let store = SqliteStore::open(options).await.unwrap();
        let by = || By::new(Actor::system("test"), 0);
        let key = ProjectKey::parse("strange").unwrap();
        let project = ProjectPut {
            key: key.clone(),
            name: "Strange".to_owned(),
            expected: Expected::Absent,
            by: by(),
        };
        store.project_put(project).await.unwrap();
        let minted = MintedCredential::mint(TokenKind::Admin.as_str()).unwrap();
        let record = TokenRecord {
            selector: minted.selector,
            kind: TokenKind::Admin,
            project: key,
            name: "stranger".to_owned(),
            roles: Vec::new(),
            hash: minted.hash,
            created_at: 0,
            created_by: Actor::system("test"),
            expires_at: None,
            last_used_at: None,
            disabled_at: None,
        };
        store.token_put(record, by()).await.unwrap();
        minted.text.expose().to_owned()
    })
}
