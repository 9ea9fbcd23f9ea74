//! Tokens, people, sign-ins and links.

use serde_json::json;

use super::{by, change, project, tester, with_project};
use crate::{
    access::{
        LinkPurpose, NewUser, OneTimeLink, Role, RoleGrant, Scope, SessionRecord, TokenKind,
        TokenRecord, UserChange,
    },
    credential::{CredentialHash, MintedCredential, PresentedCredential},
    error::StoreError,
    object::{Expected, Write},
    secret::Secret,
    store::{Pruned, Store},
};

fn token(selector: &str, created_at: i64) -> TokenRecord {
    TokenRecord {
        selector: selector.to_owned(),
        kind: TokenKind::Admin,
        project: project("default"),
        name: "pipeline".to_owned(),
        roles: vec![Role::Operator, Role::Viewer],
        hash: CredentialHash::of(selector),
        created_at,
        created_by: tester(),
        expires_at: Some(1000),
        last_used_at: None,
        disabled_at: None,
    }
}

fn user(id: &str, email: &str) -> NewUser {
    NewUser {
        id: id.to_owned(),
        email: email.to_owned(),
        name: "Ada".to_owned(),
        grants: vec![RoleGrant {
            role: Role::Admin,
            scope: Scope::Organisation,
        }],
    }
}

fn session(selector: &str, user_id: &str, expires_at: i64) -> SessionRecord {
    SessionRecord {
        selector: selector.to_owned(),
        hash: CredentialHash::of(selector),
        user_id: user_id.to_owned(),
        created_at: 1,
        expires_at,
        last_seen_at: 1,
    }
}

fn link(selector: &str, user_id: &str) -> OneTimeLink {
    OneTimeLink {
        selector: selector.to_owned(),
        hash: CredentialHash::of("verifier"),
        user_id: user_id.to_owned(),
        purpose: LinkPurpose::Reset,
        created_at: 1,
        expires_at: 100,
    }
}

/// From minting to disabling.
pub async fn a_token_lives_and_is_disabled(store: &dyn Store) {
    let missing = store.token_put(token("a", 5), by(5)).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }));
    let project = with_project(store).await;
    let minted = MintedCredential::mint("admin").unwrap();
    let mine = TokenRecord {
        selector: minted.selector.clone(),
        hash: minted.hash,
        ..token("unused", 5)
    };
    store.token_put(mine.clone(), by(5)).await.unwrap();
    store.token_put(token("b", 6), by(6)).await.unwrap();
    let taken = store.token_put(token("b", 7), by(7)).await.unwrap_err();
    assert!(matches!(taken, StoreError::Exists { .. }));
    let presented = PresentedCredential::parse(minted.text.expose()).unwrap();
    let found = store
        .token_find_by_selector(&presented.selector)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found, mine);
    assert!(found.hash.matches(&presented.verifier));
    assert!(found.is_usable(999) && !found.is_usable(1000));
    store.token_touch("b", 50).await.unwrap();
    store.token_touch("b", 40).await.unwrap();
    store.token_disable("b", by(60)).await.unwrap();
    store.token_disable("b", by(70)).await.unwrap();
    let listed = store.token_list(&project).await.unwrap();
    let told: Vec<_> = listed
        .iter()
        .map(|t| (t.selector.as_str(), t.last_used_at, t.disabled_at))
        .collect();
    assert_eq!(
        told,
        [
            ("b", Some(50), Some(60)),
            (presented.selector.as_str(), None, None)
        ]
    );
    assert!(!listed[0].is_usable(1));
    let unknown = store.token_disable("c", by(1)).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound { .. }));
    assert_eq!(store.token_find_by_selector("c").await.unwrap(), None);
}

/// A person's data is in one row, and erasing it leaves the opaque id alone.
pub async fn a_person_is_found_changed_and_forgotten(store: &dyn Store) {
    store
        .user_put(user("u-1", "Ada@Example.ORG"), by(1))
        .await
        .unwrap();
    store
        .user_put(user("u-2", "b@example.org"), by(2))
        .await
        .unwrap();
    let found = store
        .user_find_by_email("aDA@example.org")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.id.as_str(), found.email.as_deref()),
        ("u-1", Some("ada@example.org"))
    );
    assert_eq!(found.password, None);
    let change = |change| store.user_change("u-1", change, by(9));
    change(UserChange::Name("Countess".to_owned()))
        .await
        .unwrap();
    change(UserChange::Disabled(true)).await.unwrap();
    let found = store.user_get("u-1").await.unwrap().unwrap();
    assert_eq!(
        (found.name.as_deref(), found.disabled_at),
        (Some("Countess"), Some(9))
    );
    change(UserChange::Disabled(false)).await.unwrap();
    assert_eq!(
        store.user_get("u-1").await.unwrap().unwrap().disabled_at,
        None
    );
    change(UserChange::Erase).await.unwrap();
    let erased = store.user_get("u-1").await.unwrap().unwrap();
    assert_eq!(
        (erased.email, erased.name, erased.grants.len()),
        (None, None, 0)
    );
    assert_eq!(erased.disabled_at, Some(9));
    assert_eq!(
        store.user_find_by_email("ada@example.org").await.unwrap(),
        None
    );
    let rest = store.user_list(Some("u-1"), 10).await.unwrap();
    assert_eq!(
        rest.iter().map(|user| user.id.as_str()).collect::<Vec<_>>(),
        ["u-2"]
    );
    let missing = store
        .user_change("u-3", UserChange::Erase, by(1))
        .await
        .unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }));
}

/// Neither an address nor an id is given twice; an erased address is free again.
pub async fn an_address_belongs_to_one_person(store: &dyn Store) {
    store
        .user_put(user("u-1", "a@example.org"), by(1))
        .await
        .unwrap();
    for taken in [user("u-2", "A@example.org"), user("u-1", "b@example.org")] {
        let error = store.user_put(taken, by(2)).await.unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    }
    for bad in ["", "a", "@b", "a@", "a b@c"] {
        let error = store.user_put(user("u-9", bad), by(2)).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Invalid { field: "email", .. }),
            "{error}"
        );
    }
    store
        .user_change("u-1", UserChange::Erase, by(3))
        .await
        .unwrap();
    store
        .user_put(user("u-2", "a@example.org"), by(4))
        .await
        .unwrap();
}

/// Grants are replaced as a whole and hold no duplicates.
pub async fn grants_are_a_set(store: &dyn Store) {
    store
        .user_put(user("u-1", "a@example.org"), by(1))
        .await
        .unwrap();
    let on = |role, scope| RoleGrant { role, scope };
    let tag = on(
        Role::Operator,
        Scope::Tag(project("shop"), "checkout".to_owned()),
    );
    let wide = on(Role::Viewer, Scope::Project(project("shop")));
    let grants = vec![wide.clone(), tag.clone(), wide.clone()];
    store
        .user_change("u-1", UserChange::Grants(grants), by(2))
        .await
        .unwrap();
    assert_eq!(
        store.user_get("u-1").await.unwrap().unwrap().grants,
        [tag, wide]
    );
}

/// What lets somebody in ends with the password it came from.
pub async fn a_new_password_ends_all_sign_ins(store: &dyn Store) {
    for (id, email) in [("u-1", "a@example.org"), ("u-2", "b@example.org")] {
        store.user_put(user(id, email), by(1)).await.unwrap();
        store
            .session_put(session(&format!("s-{id}"), id, 100))
            .await
            .unwrap();
    }
    store.one_time_link_put(link("l", "u-1")).await.unwrap();
    let password = UserChange::Password(Secret::new("$argon2id$..."));
    store.user_change("u-1", password, by(2)).await.unwrap();
    assert_eq!(store.session_find_by_selector("s-u-1").await.unwrap(), None);
    assert!(
        store
            .session_find_by_selector("s-u-2")
            .await
            .unwrap()
            .is_some()
    );
    let taken = store
        .one_time_link_take("l", &Secret::new("verifier"), 5)
        .await
        .unwrap();
    assert_eq!(taken, None);
    let found = store.user_get("u-1").await.unwrap().unwrap();
    assert_eq!(found.password.unwrap().expose(), "$argon2id$...");
}

/// A wrong verifier or a late moment neither opens a link nor uses it up.
pub async fn a_link_works_once_and_only_with_its_verifier(store: &dyn Store) {
    store
        .user_put(user("u-1", "a@example.org"), by(1))
        .await
        .unwrap();
    let stranger = store.one_time_link_put(link("l", "u-9")).await.unwrap_err();
    assert!(matches!(stranger, StoreError::NotFound { .. }));
    store.one_time_link_put(link("l", "u-1")).await.unwrap();
    let (right, wrong) = (Secret::new("verifier"), Secret::new("Verifier"));
    assert_eq!(
        store.one_time_link_take("m", &right, 5).await.unwrap(),
        None
    );
    assert_eq!(
        store.one_time_link_take("l", &wrong, 5).await.unwrap(),
        None
    );
    assert_eq!(
        store.one_time_link_take("l", &right, 100).await.unwrap(),
        None
    );
    assert_eq!(
        store.one_time_link_take("l", &right, 99).await.unwrap(),
        Some(link("l", "u-1"))
    );
    assert_eq!(
        store.one_time_link_take("l", &right, 99).await.unwrap(),
        None
    );
}

/// Sign-ins know when they were last used and end one by one or together.
pub async fn sign_ins_are_touched_and_ended(store: &dyn Store) {
    store
        .user_put(user("u-1", "a@example.org"), by(1))
        .await
        .unwrap();
    for selector in ["a", "b", "c"] {
        store
            .session_put(session(selector, "u-1", 100))
            .await
            .unwrap();
    }
    let again = store
        .session_put(session("a", "u-1", 900))
        .await
        .unwrap_err();
    assert!(matches!(again, StoreError::Exists { .. }));
    store.session_touch("a", 9).await.unwrap();
    store.session_touch("a", 8).await.unwrap();
    let found = store.session_find_by_selector("a").await.unwrap().unwrap();
    assert_eq!((found.last_seen_at, found.expires_at), (9, 100));
    store.session_end("a").await.unwrap();
    store.session_end("a").await.unwrap();
    assert_eq!(store.session_find_by_selector("a").await.unwrap(), None);
    assert_eq!(store.session_end_all("u-1").await.unwrap(), 2);
}

/// Pruning removes what ended before the given time and nothing else.
pub async fn what_ended_is_pruned(store: &dyn Store) {
    with_project(store).await;
    store
        .user_put(user("u-1", "a@example.org"), by(1))
        .await
        .unwrap();
    store.session_put(session("old", "u-1", 99)).await.unwrap();
    store.session_put(session("new", "u-1", 100)).await.unwrap();
    store.one_time_link_put(link("l", "u-1")).await.unwrap();
    let put = change("a", Expected::Absent, Write::Put(json!(1))).with_idempotency_key("k");
    store.object_commit(put).await.unwrap();
    let pruned = Pruned {
        sessions: 1,
        links: 0,
        idempotency_keys: 0,
        dead_letters: 0,
    };
    assert_eq!(store.prune(100).await.unwrap(), pruned);
    let pruned = Pruned {
        sessions: 1,
        links: 1,
        idempotency_keys: 1,
        dead_letters: 0,
    };
    assert_eq!(store.prune(101).await.unwrap(), pruned);
    assert!(store.health().await.unwrap().is_writable);
}
