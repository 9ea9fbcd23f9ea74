//! An exported chain in which anything was altered no longer verifies.

use std::io::Cursor;

use super::support::{Place, change, create};
use serde_json::json;
use tidegate_store::{
    AuditQuery, AuditStore as _, Expected, FieldChange, ObjectChange, ObjectStore as _, Write,
    audit::{
        CheckpointSigner, Finding, PublicKey, VerifyReport, read_export, write_checkpoint,
        write_entry,
    },
};

struct Export {
    text: Vec<u8>,
    key: PublicKey,
}

impl Export {
    async fn new() -> Self {
        let place = Place::new();
        let signer = CheckpointSigner::open_or_create(&place.path("audit.key")).unwrap();
        let store = place.store().await;
        create(&store, "a", json!({"on": false})).await.unwrap();
        let update = change("a", Expected::Revision(1), Write::Put(json!({"on": true})));
        let difference = FieldChange {
            pointer: "/on".into(),
            before: None,
            after: Some(json!(1)),
        };
        let update = ObjectChange {
            changes: vec![difference],
            ..update.with_reason("lönch")
        };
        store.object_commit(update).await.unwrap();
        store
            .object_commit(change("a", Expected::Any, Write::Delete))
            .await
            .unwrap();
        let checkpoint = signer.sign(&store.audit_head().await.unwrap(), 77);
        let query = AuditQuery {
            limit: 100,
            ..AuditQuery::default()
        };
        let mut text = Vec::new();
        write_checkpoint(&mut text, &checkpoint).unwrap();
        for entry in store.audit_list(&query).await.unwrap() {
            write_entry(&mut text, &entry).unwrap();
        }
        Self {
            text,
            key: signer.public_key(),
        }
    }

    fn verify(&self, text: &[u8]) -> VerifyReport {
        read_export(Cursor::new(text), &[self.key], vec![]).unwrap()
    }

    fn lines(&self) -> Vec<&[u8]> {
        self.text.split_inclusive(|&byte| byte == b'\n').collect()
    }
}

#[tokio::test]
async fn an_export_verifies_and_no_altered_byte_does() {
    let export = Export::new().await;
    let report = export.verify(&export.text);
    assert!(report.is_ok(), "{report:?}");
    assert_eq!((report.entries, report.confirmed_to), (4, 4));
    for at in 0..export.text.len() {
        let mut altered = export.text.clone();
        altered[at] ^= 1;
        assert!(
            !export.verify(&altered).is_ok(),
            "byte {at} was altered unseen"
        );
    }
}

/// The form is frozen: this export was written by the first version that had one.
#[test]
fn the_first_export_still_verifies() {
    let text = include_bytes!("../../../../spec/audit/export-v1.ndjson");
    let key = include_str!("../../../../spec/audit/export-v1.public-key");
    let key = PublicKey::parse(key.trim_end()).unwrap();
    let report = read_export(Cursor::new(text), &[key], vec![]).unwrap();
    assert!(report.is_ok(), "{report:?}");
    let told = (
        report.entries,
        report.checkpoints_confirmed,
        report.notes_erased,
    );
    assert_eq!(told, (6, 2, 1));
}

#[tokio::test]
async fn removing_reordering_and_repeating_are_seen() {
    let export = Export::new().await;
    let lines = export.lines();
    let of = |order: &[usize]| {
        let text: Vec<u8> = order
            .iter()
            .flat_map(|&n| lines[n].iter().copied())
            .collect();
        export.verify(&text).findings
    };
    assert_eq!(of(&[0, 1, 2, 3, 4]), []);
    assert_eq!(
        of(&[0, 1, 2, 3]),
        [Finding::TailRemoved {
            sequence: 4,
            end: 3
        }]
    );
    assert_eq!(
        of(&[0]),
        [Finding::TailRemoved {
            sequence: 4,
            end: 0
        }]
    );
    assert_eq!(
        of(&[0, 1, 3, 4]),
        [Finding::Gap {
            expected: 2,
            found: 3
        }]
    );
    assert_eq!(
        of(&[0, 2, 3, 4]),
        [Finding::Gap {
            expected: 1,
            found: 2
        }]
    );
    assert!(of(&[0, 1, 3, 2, 4]).contains(&Finding::Gap {
        expected: 2,
        found: 3
    }));
    assert!(of(&[0, 1, 2, 2, 3, 4]).contains(&Finding::Gap {
        expected: 3,
        found: 2
    }));
    assert!(matches!(
        of(&[1, 0, 2, 3, 4])[..],
        [Finding::Unreadable { .. }]
    ));
}

#[tokio::test]
async fn a_checkpoint_of_an_unknown_key_is_a_finding() {
    let export = Export::new().await;
    let report = read_export(Cursor::new(&export.text), &[], vec![]).unwrap();
    let id = export.key.id();
    assert_eq!(
        report.findings,
        [Finding::BadSignature {
            sequence: 4,
            key_id: id
        }]
    );
}

#[test]
fn arbitrary_text_is_read_without_panic() {
    bolero::check!()
        .with_iterations(2000)
        .for_each(|text: &[u8]| {
            let report = read_export(Cursor::new(text), &[], vec![]).unwrap();
            assert!(text.is_empty() || !report.is_ok());
        });
}
