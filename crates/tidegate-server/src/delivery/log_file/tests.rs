//! What a log keeps over cuts, damage, repetition and a second writer.

use super::*;
use tidegate_delivery::event::{EventBody, ExposureSeen};

fn event(n: u16) -> DeliveryEvent {
    DeliveryEvent {
        at: Moment::EARLIEST,
        source: "test".into(),
        id: n.to_string(),
        body: EventBody::Exposure(ExposureSeen {
            flag: "f".into(),
            share_bp: n,
        }),
    }
}

fn write(log: &DeliveryLog, events: &[u16]) -> u64 {
    let mut writer = log.begin(|_| ()).unwrap();
    for &n in events {
        writer.append(&event(n)).unwrap();
    }
    writer.commit().unwrap()
}

fn read(log: &DeliveryLog) -> Vec<String> {
    let mut ids = Vec::new();
    log.read(|event| ids.push(event.id)).unwrap();
    ids
}

#[test]
fn a_delivery_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = DeliveryLog::at(dir.path(), "default").unwrap();
    assert_eq!(read(&log), Vec::<String>::new());
    assert_eq!(
        (
            write(&log, &[1, 2]),
            write(&log, &[2, 3]),
            write(&log, &[3])
        ),
        (2, 1, 0)
    );
    assert_eq!(read(&log), ["1", "2", "3"]);
    let mut other = event(3);
    other.at = Moment::LATEST;
    let mut writer = log.begin(|_| ()).unwrap();
    assert_eq!(writer.append(&event(3)).unwrap(), Appended::Known);
    assert_eq!(writer.append(&other).unwrap(), Appended::Conflict);
}

#[test]
fn one_writer_commits_many_times_and_each_commit_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = DeliveryLog::at(dir.path(), "p").unwrap();
    let mut writer = log.begin(|_| ()).unwrap();
    for n in 1..=3 {
        writer.append(&event(n)).unwrap();
        assert_eq!(writer.commit().unwrap(), 1);
        assert_eq!(read(&log).len(), usize::from(n));
    }
    assert_eq!(writer.append(&event(2)).unwrap(), Appended::Known);
    writer.append(&event(4)).unwrap();
    writer.abandon().unwrap();
    assert_eq!(read(&log), ["1", "2", "3"]);
    assert_eq!(write(&log, &[4]), 1);
}

#[test]
fn every_cut_of_the_file_leaves_whole_commits_only() {
    let dir = tempfile::tempdir().unwrap();
    let log = DeliveryLog::at(dir.path(), "p").unwrap();
    write(&log, &[1]);
    write(&log, &[2, 3]);
    let whole = std::fs::read(&log.path).unwrap();
    let allowed: [&[&str]; 3] = [&[], &["1"], &["1", "2", "3"]];
    let mut seen = std::collections::BTreeSet::new();
    for cut in 0..=whole.len() {
        std::fs::write(&log.path, &whole[..cut]).unwrap();
        let ids = read(&log);
        assert!(allowed.iter().any(|a| *a == ids), "cut at {cut}: {ids:?}");
        seen.insert(ids.len());
        write(&log, &[9]);
        assert_eq!(read(&log).len(), ids.len() + 1, "cut at {cut}");
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn damage_before_the_last_commit_is_refused_by_place() {
    let dir = tempfile::tempdir().unwrap();
    let log = DeliveryLog::at(dir.path(), "p").unwrap();
    write(&log, &[1, 2]);
    let mut bytes = std::fs::read(&log.path).unwrap();
    let place = HEADER.len() + 20;
    bytes[place] ^= 1;
    std::fs::write(&log.path, &bytes).unwrap();
    let error = log.read(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("damaged at byte 47") && error.contains("checksum"),
        "{error}"
    );
    std::fs::write(&log.path, b"not a log\n").unwrap();
    assert!(matches!(log.read(|_| ()), Err(LogError::Format { .. })));
}

#[test]
fn abandoning_changes_nothing_and_a_second_writer_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = DeliveryLog::at(dir.path(), "p").unwrap();
    write(&log, &[1]);
    let before = std::fs::read(&log.path).unwrap();
    let mut writer = log.begin(|_| ()).unwrap();
    writer.append(&event(2)).unwrap();
    assert!(matches!(log.begin(|_| ()), Err(LogError::InUse { .. })));
    writer.abandon().unwrap();
    assert_eq!(std::fs::read(&log.path).unwrap(), before);
}

#[test]
fn project_names_cannot_leave_the_folder() {
    for name in ["", "..", "../x", "a/b", "A", ".hidden"] {
        assert!(DeliveryLog::at(Path::new("/x"), name).is_err(), "{name}");
    }
}

/// A log of one large import, indexed, and a note of it.
fn indexed(dir: &Path) -> DeliveryLog {
    let log = DeliveryLog::at(dir, "p").unwrap();
    let mut writer = log.begin(|_| ()).unwrap();
    for n in 0..12_000 {
        writer.append(&event(n)).unwrap();
    }
    writer.commit().unwrap();
    let note = Note {
        name: "mine",
        bytes: 5,
        write: &|to| to.write_all(b"hello"),
    };
    writer.keep_index(&note).unwrap();
    writer.append(&event(12_000)).unwrap();
    writer.commit().unwrap();
    log
}

/// How many rows a writer had to read, and what it found noted.
fn opened(log: &DeliveryLog) -> (usize, Option<Vec<u8>>) {
    let mut read = 0;
    let writer = log.begin(|_| read += 1).unwrap();
    (read, writer.note("mine").map(<[u8]>::to_vec))
}

#[test]
fn an_index_saves_reading_and_knows_every_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let log = indexed(dir.path());
    assert_eq!(opened(&log), (1, Some(b"hello".to_vec())));
    let mut writer = log.begin(|_| ()).unwrap();
    for n in [0, 11_999, 12_000] {
        assert_eq!(writer.append(&event(n)).unwrap(), Appended::Known);
    }
    assert_eq!(writer.append(&event(12_001)).unwrap(), Appended::New);
    writer.commit().unwrap();
    drop(writer);
    assert_eq!(opened(&log).0, 2);
    assert_eq!(read(&log).len(), 12_002);
}

#[test]
fn a_doubtful_index_is_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let log = indexed(dir.path());
    let path = log.index_path();
    let whole = std::fs::read(&path).unwrap();
    for place in [0, 9, 30, 41, 20_000, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(opened(&log), (12_001, None), "byte {place}");
    }
    for cut in [0, 7, 100, whole.len() - 3] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(opened(&log), (12_001, None), "cut at {cut}");
    }
    // Another log of that name: shorter, or as long and different.
    std::fs::write(&path, &whole).unwrap();
    let rows = std::fs::read(&log.path).unwrap();
    std::fs::remove_file(&log.path).unwrap();
    write(&log, &[1]);
    assert_eq!(opened(&log), (1, None));
    std::fs::write(&log.path, &rows).unwrap();
    assert_eq!(opened(&log).0, 1, "the log it was made of is back");
}
