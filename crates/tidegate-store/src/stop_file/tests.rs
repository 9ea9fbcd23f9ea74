//! The stop file under restarts, torn writes, flipped bits and a full file.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    BLOCK_BYTES, BLOCKS_AT_FIRST, StopFile, StopId, StopKind, StopRecord, StopServe,
    block::{self, Block, Content},
};
use crate::{
    actor::Actor,
    digest::Digest,
    key::{ObjectKey, ProjectKey},
    object::ObjectKind,
};

fn record(n: u8) -> StopRecord {
    StopRecord::new(
        StopId([n; 16]),
        (
            ProjectKey::parse("default").unwrap(),
            ObjectKey::parse(ObjectKind::Flag, &format!("flag/{n} ü")).unwrap(),
        ),
        (
            StopKind::Kill,
            if n.is_multiple_of(2) {
                StopServe::Off
            } else {
                StopServe::Variant("a".into())
            },
        ),
        "error rate doubled",
        (Actor::user("u-1"), i64::from(n) - 5),
    )
    .unwrap()
}

fn with_records(numbers: &[u8]) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stop");
    let (file, pending) = StopFile::open(&path).unwrap();
    assert_eq!(pending, []);
    for &n in numbers {
        file.append(&record(n)).unwrap();
    }
    (dir, path)
}

fn alter(path: &std::path::Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn appended_stops_are_pending_after_a_restart_until_applied() {
    let (_dir, path) = with_records(&[3, 1, 2]);
    let (file, pending) = StopFile::open(&path).unwrap();
    assert_eq!(pending, [record(3), record(1), record(2)]);
    file.append(&record(1)).unwrap();
    file.applied(&StopId([1; 16])).unwrap();
    file.applied(&StopId([9; 16])).unwrap();
    drop(file);
    let (file, pending) = StopFile::open(&path).unwrap();
    assert_eq!(pending, [record(3), record(2)]);
    assert_eq!(file.damage(), &Default::default());
}

#[test]
fn a_freed_block_is_used_again_and_order_is_kept() {
    let (_dir, path) = with_records(&[1, 2]);
    let (file, _) = StopFile::open(&path).unwrap();
    file.applied(&StopId([1; 16])).unwrap();
    file.append(&record(3)).unwrap();
    drop(file);
    let (_file, pending) = StopFile::open(&path).unwrap();
    assert_eq!(pending, [record(2), record(3)]);
    assert_eq!(fs::metadata(&path).unwrap().len(), 256 * 4096);
}

#[test]
fn every_point_of_tearing_leaves_all_other_stops_and_never_a_wrong_one() {
    let new = Block::pending(3, record(3)).to_bytes();
    for old in [[0; BLOCK_BYTES], Block::applied(1, record(1)).to_bytes()] {
        for written in (0..=BLOCK_BYTES).step_by(64) {
            let mut torn = old;
            torn[..written].copy_from_slice(&new[..written]);
            let honoured = match block::read(&torn).unwrap() {
                Content::Whole(block) | Content::Healed(block) => Some(block.record),
                Content::Empty | Content::Torn => None,
                Content::Lost => panic!("a torn write at {written} was taken for a lost stop"),
            };
            let expected = [None, Some(record(1)), Some(record(3))];
            assert!(
                expected.contains(&honoured),
                "{honoured:?} after {written} bytes"
            );
            if written == BLOCK_BYTES {
                assert_eq!(honoured, Some(record(3)));
            }
        }
    }
}

#[test]
fn a_torn_record_is_dropped_and_its_neighbours_stay() {
    let (_dir, path) = with_records(&[1, 2, 3]);
    alter(&path, |bytes| {
        bytes[BLOCK_BYTES + 700..2 * BLOCK_BYTES].fill(0);
    });
    let (file, pending) = StopFile::open(&path).unwrap();
    assert_eq!(pending, [record(1), record(3)]);
    assert_eq!(file.damage().torn, 1);
}

#[test]
fn a_flipped_bit_heals_and_two_in_both_copies_are_told() {
    let (_dir, path) = with_records(&[1, 2]);
    alter(&path, |bytes| bytes[100] ^= 1);
    {
        let (file, pending) = StopFile::open(&path).unwrap();
        assert_eq!(pending, [record(1), record(2)]);
        assert_eq!(file.damage().healed, 1);
    }
    alter(&path, |bytes| bytes[BLOCK_BYTES / 2 + 100] ^= 1);
    let (file, pending) = StopFile::open(&path).unwrap();
    assert_eq!(pending, [record(2)]);
    assert_eq!(file.damage().lost, [0]);
    file.compact().unwrap();
    drop(file);
    let (file, pending) = StopFile::open(&path).unwrap();
    assert_eq!(pending, [record(2)]);
    assert_eq!(file.damage(), &Default::default());
}

#[test]
fn a_full_file_grows_and_compaction_shrinks_it() {
    let (_dir, path) = with_records(&[]);
    let (file, _) = StopFile::open(&path).unwrap();
    let id = |n: usize| StopId(u128::try_from(n).unwrap().to_be_bytes());
    let numbered = |n: usize| StopRecord {
        id: id(n),
        ..record(1)
    };
    for n in 0..=BLOCKS_AT_FIRST {
        file.append(&numbered(n)).unwrap();
    }
    assert_eq!(file.pending().len(), BLOCKS_AT_FIRST + 1);
    for n in 0..BLOCKS_AT_FIRST {
        file.applied(&id(n)).unwrap();
    }
    file.compact().unwrap();
    file.append(&numbered(7)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 256 * 4096);
    drop(file);
    let (_file, pending) = StopFile::open(&path).unwrap();
    assert_eq!(pending, [numbered(BLOCKS_AT_FIRST), numbered(7)]);
}

#[test]
fn one_process_has_it_at_a_time_and_newer_files_are_refused() {
    let (_dir, path) = with_records(&[1]);
    let (file, _) = StopFile::open(&path).unwrap();
    let second = StopFile::open(&path).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock);
    drop(file);
    alter(&path, |bytes| {
        bytes[6] = b'2';
        let checksum = Digest::of(&bytes[..2016]);
        bytes[2016..2048].copy_from_slice(&checksum.0);
    });
    let newer = StopFile::open(&path).unwrap_err();
    assert_eq!(newer.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn a_long_reason_is_cut_and_its_digest_is_of_the_whole() {
    let reason = "ü".repeat(2000);
    let stop = StopRecord::new(
        StopId([1; 16]),
        (record(1).project, record(1).flag),
        (StopKind::Rollback, StopServe::Off),
        &reason,
        (Actor::system("rollout"), 0),
    )
    .unwrap();
    assert_eq!(stop.reason(), "ü".repeat(500));
    assert_eq!(stop.reason_digest(), Digest::of(reason.as_bytes()));
    let bytes = Block::pending(1, stop.clone()).to_bytes();
    assert_eq!(
        block::read(&bytes).unwrap(),
        Content::Whole(Box::new(Block::pending(1, stop)))
    );
    let refused = StopRecord::new(
        StopId([1; 16]),
        (record(1).project, record(1).flag),
        (StopKind::Kill, StopServe::Variant(String::new())),
        "",
        (Actor::system("x"), 0),
    );
    assert_eq!(refused.unwrap_err().field, "variant");
}

#[test]
fn the_largest_record_fits_its_block() {
    let big = StopRecord::new(
        StopId([255; 16]),
        (
            ProjectKey::parse(&"p".repeat(64)).unwrap(),
            ObjectKey::parse(ObjectKind::Flag, &"k".repeat(200)).unwrap(),
        ),
        (StopKind::Rollback, StopServe::Variant("v".repeat(200))),
        &"r".repeat(1000),
        (Actor::user("u".repeat(128)), i64::MAX),
    )
    .unwrap();
    let block = Box::new(Block::applied(u64::MAX - 1, big));
    assert_eq!(
        block::read(&block.to_bytes()).unwrap(),
        Content::Whole(block)
    );
}

proptest! {
    /// Whatever one burst of damage does, a record comes back as it was or not at all.
    #[test]
    fn damage_never_changes_a_stop(
        at in 0..BLOCK_BYTES, garbage in prop::collection::vec(any::<u8>(), 1..600),
    ) {
        let block = Block::pending(4, record(4));
        let mut bytes = block.to_bytes();
        let end = (at + garbage.len()).min(BLOCK_BYTES);
        bytes[at..end].copy_from_slice(&garbage[..end - at]);
        match block::read(&bytes).unwrap() {
            Content::Whole(found) | Content::Healed(found) => prop_assert_eq!(*found, block),
            Content::Lost => prop_assert!(at < BLOCK_BYTES / 2 && end > BLOCK_BYTES / 2),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// Arbitrary bytes are read without panic.
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), BLOCK_BYTES)) {
        let bytes: [u8; BLOCK_BYTES] = bytes.try_into().unwrap();
        let _ = block::read(&bytes);
    }
}
