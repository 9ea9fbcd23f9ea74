//! What every implementation of [`Store`] must do, as one suite.
//!
//! [`conformance_suite!`](crate::conformance_suite) makes a test of each case; the argument is
//! an asynchronous function that gives an empty store, with whatever must live as long as it.
//! The reference model runs the suite like any other implementation.

#![expect(clippy::unwrap_used, reason = "these are tests; a failure is a panic")]

pub mod access;
pub mod audit;
pub mod objects;
pub mod outbox;
pub mod streams;

use serde_json::Value;

use crate::{
    access::By,
    actor::Actor,
    error::StoreError,
    key::{ObjectKey, ProjectKey},
    object::{Committed, Expected, ObjectChange, ObjectKind, Write},
    project::ProjectPut,
    store::Store,
};

/// Makes a test of each conformance case.
#[macro_export]
macro_rules! conformance_suite {
    ($open:path) => {
        $crate::conformance_suite! { $open;
            objects: revisions_grow_and_all_are_kept
            objects: a_stale_writer_loses_nothing
            objects: a_key_that_is_taken_or_missing_is_told
            objects: a_deleted_key_comes_back_only_by_revival
            objects: whoever_does_not_care_about_the_revision_wins
            objects: changes_commit_together_or_not_at_all
            objects: an_idempotency_key_applies_once
            objects: lists_are_paged_in_byte_order_without_tombstones
            objects: a_snapshot_is_one_version
            objects: json_comes_back_as_it_went_in
            objects: what_cannot_be_stored_is_refused
            objects: projects_are_made_once_and_renamed
            access: a_token_lives_and_is_disabled
            access: a_person_is_found_changed_and_forgotten
            access: an_address_belongs_to_one_person
            access: grants_are_a_set
            access: a_new_password_ends_all_sign_ins
            access: a_link_works_once_and_only_with_its_verifier
            access: sign_ins_are_touched_and_ended
            access: what_ended_is_pruned
            audit: every_change_is_in_the_chain
            audit: entries_are_found_by_project_and_object
            audit: an_erased_note_leaves_the_chain_whole
            audit: checkpoints_are_kept_and_hold
            audit: a_refused_change_leaves_no_trace
            outbox: messages_leave_only_with_their_change
            outbox: a_topic_keeps_its_order_and_holds_back_no_other
            outbox: a_lost_taker_loses_no_message
            outbox: dead_letters_are_kept_and_redelivered
            streams: records_are_numbered_and_read_in_order
            streams: a_writer_with_an_old_head_is_stale
            streams: a_delivery_counts_once
            streams: messages_leave_only_with_their_record
            streams: named_values_are_replaced
        }
    };
    ($open:path; $($family:ident : $case:ident)+) => {
        $(
            #[tokio::test]
            async fn $case() {
                let (_keep, store) = $open().await;
                $crate::conformance::$family::$case(&store).await;
            }
        )+
    };
}

/// The actor of the suite.
fn tester() -> Actor {
    Actor::user("u-tester")
}

/// The actor of the suite at a time.
fn by(now_us: i64) -> By {
    By::new(tester(), now_us)
}

/// A project key.
fn project(text: &str) -> ProjectKey {
    ProjectKey::parse(text).unwrap()
}

/// A flag key.
fn flag(text: &str) -> ObjectKey {
    ObjectKey::parse(ObjectKind::Flag, text).unwrap()
}

/// Makes the project `default`.
async fn with_project(store: &dyn Store) -> ProjectKey {
    let key = project("default");
    let put = ProjectPut {
        key: key.clone(),
        name: "Default".to_owned(),
        expected: Expected::Absent,
        by: by(1),
    };
    store.project_put(put).await.unwrap();
    key
}

/// A change of the flag `key` in the project `default`.
fn change(key: &str, expected: Expected, write: Write) -> ObjectChange {
    let target = (project("default"), ObjectKind::Flag, flag(key));
    ObjectChange::new(target, expected, write, tester(), 100)
}

/// Makes the flag `key` at revision 1.
async fn create(store: &dyn Store, key: &str, spec: Value) -> Committed {
    store
        .object_commit(change(key, Expected::Absent, Write::Put(spec)))
        .await
        .unwrap()
}

/// Commits a change that must be refused for certain.
async fn refused(store: &dyn Store, change: ObjectChange) -> StoreError {
    let error = store.object_commit(change).await.unwrap_err();
    assert!(error.is_certainly_not_applied(), "{error}");
    error
}
