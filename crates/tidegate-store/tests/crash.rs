//! What was acknowledged survives `kill -9` and a failing disk.
//!
//! The test starts copies of itself as writers and ends them without warning.
//! It brings its own `main`: a writer is chosen by the first argument, everything else is the
//! little of the test protocol that runners use (`--list`, a name, `--exact`).
//!
//! The moment of killing is chosen by the number of acknowledgements read, never by time, so
//! that it falls into every part of a write: a hundred of them are always under way.

#![expect(clippy::unwrap_used, reason = "these are tests; a failure is a panic")]

#[path = "store/support.rs"]
mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use serde_json::json;
use support::{Place, change, flag, project};
use tidegate_store::{
    Actor, AuditQuery, AuditStore as _, Expected, ObjectChange, ObjectKind, ObjectStore as _,
    SqliteOptions, SqliteStore, StopFile, StopId, StopKind, StopRecord, StopServe, Store as _,
    StoreError, StreamStore as _, Write,
    audit::{Checkpoint, CheckpointSigner},
    sqlite::verify_file,
};

const WRITERS: usize = 100;
const KILLS: usize = 50;

const TESTS: [(&str, fn()); 6] = [
    (
        "a_stop_is_applied_once_wherever_the_process_dies",
        a_stop_is_applied_once_wherever_the_process_dies,
    ),
    (
        "a_restore_keeps_what_the_killed_store_had_acknowledged",
        a_restore_keeps_what_the_killed_store_had_acknowledged,
    ),
    (
        "with_no_descriptor_left_stops_and_flags_are_still_written",
        with_no_descriptor_left_stops_and_flags_are_still_written,
    ),
    (
        "a_kill_during_the_first_start_leaves_a_file_that_opens",
        a_kill_during_the_first_start_leaves_a_file_that_opens,
    ),
    (
        "acknowledged_writes_survive_fifty_kills",
        acknowledged_writes_survive_fifty_kills,
    ),
    (
        "a_failing_disk_ends_writing_and_not_reading",
        a_failing_disk_ends_writing_and_not_reading,
    ),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("write-until-killed") => block_on(write_until_killed(arguments[1].as_ref())),
        Some("stop") => block_on(stop_and_wait(arguments[1].as_ref(), &arguments[2])),
        Some("write-without-descriptors") => {
            block_on(write_without_descriptors(arguments[1].as_ref()));
        }
        Some("start") => {
            block_on(SqliteStore::open(SqliteOptions::new(&arguments[1]))).unwrap();
        }
        Some("write-until-refused") => block_on(write_until_refused(arguments[1].as_ref())),
        _ => run_tests(&arguments),
    }
}

fn run_tests(arguments: &[String]) {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let named = arguments
        .iter()
        .find(|argument| !argument.starts_with('-') && *argument != "terse");
    let ignored_only = has("--ignored");
    for (name, test) in TESTS {
        let is_wanted = named.is_none_or(|wanted| name.contains(wanted.as_str()));
        match (is_wanted && !ignored_only, has("--list")) {
            (true, true) => say(&format!("{name}: test")),
            (true, false) => {
                test();
                say(&format!("test {name} ... ok"));
            }
            (false, _) => {}
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// One line to standard output, in one write, so that a kill cannot leave half of it.
fn say(line: &str) {
    std::io::stdout()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

fn key(writer: usize) -> String {
    format!("writer-{writer}")
}

/// A hundred tasks that raise their own flag for ever and tell of each acknowledged write.
async fn write_until_killed(path: &Path) {
    let store = Arc::new(SqliteStore::open(SqliteOptions::new(path)).await.unwrap());
    say("open");
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let found = store
                .object_get(&project(), ObjectKind::Flag, &flag(&key(writer)))
                .await;
            let mut revision = found.unwrap().map_or(0, |object| object.revision);
            loop {
                let expected = match revision {
                    0 => Expected::Absent,
                    current => Expected::Revision(current),
                };
                let put = change(&key(writer), expected, Write::Put(json!(revision + 1)));
                let committed = store.object_commit(put.with_reason("crash")).await.unwrap();
                revision = committed.revision;
                say(&format!("{writer} {revision} {}", committed.audit_sequence));
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn writer(mode: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(mode).arg(path).stdout(Stdio::piped());
    command
}

/// What the writers were told.
#[derive(Default)]
struct Acknowledged {
    revisions: BTreeMap<usize, u64>,
    audit_sequence: u64,
}

impl Acknowledged {
    /// Takes a line; false for one that acknowledges nothing.
    fn take(&mut self, line: &str) -> bool {
        let numbers: Vec<u64> = line
            .split(' ')
            .map_while(|word| word.parse().ok())
            .collect();
        let [writer, revision, sequence] = numbers[..] else {
            return false;
        };
        self.revisions
            .insert(usize::try_from(writer).unwrap(), revision);
        self.audit_sequence = self.audit_sequence.max(sequence);
        true
    }

    /// Reads until so many lines came, kills, and reads what was said before death.
    fn kill_after(&mut self, child: &mut Child, acknowledgements: usize) {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "open");
        for line in lines.by_ref().take(acknowledgements) {
            assert!(self.take(&line.unwrap()));
        }
        child.kill().unwrap();
        for line in lines {
            assert!(self.take(&line.unwrap()));
        }
        child.wait().unwrap();
    }
}

fn acknowledged_writes_survive_fifty_kills() {
    let place = Place::new();
    let path = place.db();
    let signer = CheckpointSigner::open_or_create(&place.path("audit.key")).unwrap();
    let mut published: Vec<Checkpoint> = Vec::new();
    let mut acknowledged = Acknowledged::default();
    block_on(async { place.store().await.close().await });
    for kill in 0..KILLS {
        let mut child = writer("write-until-killed", &path).spawn().unwrap();
        acknowledged.kill_after(&mut child, kill * 37 % 151);
        block_on(check(&place, &signer, &mut published, &acknowledged));
    }
    assert_eq!(acknowledged.revisions.len(), WRITERS);
    block_on(check_history(&place, &acknowledged));
}

async fn check(
    place: &Place,
    signer: &CheckpointSigner,
    published: &mut Vec<Checkpoint>,
    acknowledged: &Acknowledged,
) {
    let store = place.store().await;
    let head = store.audit_head().await.unwrap();
    assert!(
        head.sequence >= acknowledged.audit_sequence,
        "audit entries are lost"
    );
    for (&writer, &revision) in &acknowledged.revisions {
        let found = store
            .object_get(&project(), ObjectKind::Flag, &flag(&key(writer)))
            .await;
        let found = found.unwrap().unwrap();
        assert!(
            found.revision >= revision,
            "writer {writer} lost revision {revision}"
        );
        assert_eq!(found.spec, json!(found.revision));
    }
    store.close().await;
    published.push(signer.sign(&head, 1));
    let keys = [signer.public_key()];
    let report = verify_file(&place.db(), &keys, published.clone())
        .await
        .unwrap();
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.confirmed_to, head.sequence);
}

async fn check_history(place: &Place, acknowledged: &Acknowledged) {
    let store = place.store().await;
    for &writer in acknowledged.revisions.keys() {
        let history = store
            .object_history(&project(), ObjectKind::Flag, &flag(&key(writer)), 1000)
            .await
            .unwrap();
        let revisions: Vec<_> = history.iter().map(|object| object.revision).rev().collect();
        let newest = history.first().unwrap().revision;
        assert_eq!(revisions, (1..=newest).collect::<Vec<_>>());
    }
}

/// Writes until the disk fails, and says how the store takes it.
async fn write_until_refused(path: &Path) {
    let store = SqliteStore::open(SqliteOptions::new(path)).await.unwrap();
    let mut written = 0_u32;
    let error = loop {
        match store.kv_put(&format!("k{written}"), &[7; 60_000]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the disk never failed");
    };
    assert!(
        matches!(
            error,
            StoreError::Unavailable {
                retryable: false,
                ..
            }
        ),
        "{error:?}"
    );
    let refused = store.kv_put("small", &[]).await.unwrap_err();
    assert!(
        refused.is_certainly_not_applied() && !refused.is_retryable(),
        "{refused:?}"
    );
    let health = store.health().await.unwrap();
    assert!(!health.is_writable && health.reason.is_some(), "{health:?}");
    for n in 0..written {
        assert_eq!(
            store.kv_get(&format!("k{n}")).await.unwrap().unwrap().len(),
            60_000
        );
    }
    let (stops, _) = StopFile::open(path.with_extension("stops")).unwrap();
    stops.append(&stop()).unwrap();
    say(&format!("{written}"));
}

fn stop() -> StopRecord {
    StopRecord::new(
        StopId([1; 16]),
        (project(), flag("checkout")),
        (StopKind::Kill, StopServe::Off),
        "the disk is failing and so is checkout",
        (Actor::user("u-1"), 5),
    )
    .unwrap()
}

/// Moments of the first start, told by the files that are there.
const MOMENTS: [(&str, u64); 5] = [
    ("tidegate.db.lock", 0),
    ("tidegate.db", 0),
    ("tidegate.db-wal", 0),
    ("tidegate.db-wal", 1),
    ("tidegate.db", 4096),
];

/// Kills as soon as a file is there and longer than `len`, or the start is over.
fn kill_once(child: &mut Child, file: &Path, len: u64) {
    let is_there = || std::fs::metadata(file).is_ok_and(|found| found.len() >= len);
    while !is_there() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn a_kill_during_the_first_start_leaves_a_file_that_opens() {
    for (name, len) in MOMENTS.repeat(3) {
        let place = Place::new();
        let mut child = writer("start", &place.db()).spawn().unwrap();
        kill_once(&mut child, &place.path(name), len);
        block_on(async {
            let store = place.store().await;
            support::create(&store, "a", json!(1)).await.unwrap();
            assert!(store.health().await.unwrap().is_writable);
        });
    }
}

/// The shell's limit on file sizes makes every write beyond it fail, as a broken disk does.
fn a_failing_disk_ends_writing_and_not_reading() {
    let place = Place::new();
    block_on(async { place.store().await.close().await });
    drop(StopFile::open(place.db().with_extension("stops")).unwrap());
    let limited = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" write-until-refused \"$1\"";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .arg(place.db())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let written: u32 = said.trim().parse().unwrap();
    assert!(written > 0);
    let (_stops, pending) = StopFile::open(place.db().with_extension("stops")).unwrap();
    assert_eq!(pending, [stop()]);
    block_on(async {
        let store = place.store().await;
        for n in 0..written {
            assert!(store.kv_get(&format!("k{n}")).await.unwrap().is_some());
        }
        store.kv_put("after the restart", &[]).await.unwrap();
    });
}

/// The change that a stop becomes.
fn change_of(stop: &StopRecord) -> ObjectChange {
    let mut kill = change(
        stop.flag().as_str(),
        Expected::Any,
        Write::Put(json!("off")),
    );
    kill.action = Some("flag.kill".to_owned());
    kill.with_reason(stop.reason())
        .with_idempotency_key(stop.idempotency_key())
}

/// Stops a flag as the server does, and dies at `point`.
async fn stop_and_wait(path: &Path, point: &str) {
    let store = SqliteStore::open(SqliteOptions::new(path)).await.unwrap();
    let (stops, _) = StopFile::open(path.with_extension("stops")).unwrap();
    let reach = async |reached: &str| {
        if reached == point {
            say("there");
            std::future::pending::<()>().await;
        }
    };
    stops.append(&stop()).unwrap();
    reach("appended").await;
    store.object_commit(change_of(&stop())).await.unwrap();
    reach("committed").await;
    stops.applied(&stop().id()).unwrap();
    reach("applied").await;
}

/// What a start does with pending stops, twice, since it may die as well.
async fn replay(place: &Place) {
    for _ in 0..2 {
        let store = place.store().await;
        let (stops, pending) = StopFile::open(place.db().with_extension("stops")).unwrap();
        for stop in pending {
            store.object_commit(change_of(&stop)).await.unwrap();
        }
        drop(stops);
    }
    let (stops, pending) = StopFile::open(place.db().with_extension("stops")).unwrap();
    for stop in pending {
        stops.applied(&stop.id()).unwrap();
    }
    assert_eq!(stops.pending(), []);
}

fn a_stop_is_applied_once_wherever_the_process_dies() {
    for point in ["appended", "committed", "applied"] {
        let place = Place::new();
        block_on(async {
            let store = place.store().await;
            support::create(&store, "checkout", json!("on"))
                .await
                .unwrap();
        });
        let mut child = writer("stop", &place.db()).arg(point).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "there");
        child.kill().unwrap();
        child.wait().unwrap();
        block_on(async {
            replay(&place).await;
            let store = place.store().await;
            assert_eq!(
                support::spec_of(&store, "checkout").await,
                Some(json!("off"))
            );
            let query = AuditQuery {
                limit: 100,
                ..AuditQuery::default()
            };
            let entries = store.audit_list(&query).await.unwrap();
            let kills = entries
                .iter()
                .filter(|entry| entry.action == "flag.kill")
                .count();
            assert_eq!(kills, 1, "killed when {point}");
        });
    }
}

fn a_restore_keeps_what_the_killed_store_had_acknowledged() {
    let place = Place::new();
    let backup = place.path("backup.db");
    block_on(async { place.store().await.backup_to(&backup).await.unwrap() });
    let mut acknowledged = Acknowledged::default();
    let mut child = writer("write-until-killed", &place.db()).spawn().unwrap();
    acknowledged.kill_after(&mut child, 150);
    block_on(async {
        tidegate_store::sqlite::restore(&backup, &place.db(), support::by(1))
            .await
            .unwrap();
        let restored = place.store().await;
        assert_eq!(support::spec_of(&restored, &key(0)).await, None);
        let replaced = SqliteOptions::new(place.path("tidegate.db.before-restore"));
        let replaced = place.store_with(replaced).await;
        for (&writer, &revision) in &acknowledged.revisions {
            let found = support::spec_of(&replaced, &key(writer)).await.unwrap();
            assert!(found.as_u64().unwrap() >= revision);
        }
    });
}

/// Opens files until there are no descriptors left, then stops and writes.
async fn write_without_descriptors(path: &Path) {
    let store = SqliteStore::open(SqliteOptions::new(path)).await.unwrap();
    let (stops, _) = StopFile::open(path.with_extension("stops")).unwrap();
    support::create(&store, "a", json!(1)).await.unwrap();
    assert_eq!(support::spec_of(&store, "a").await, Some(json!(1)));
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
        assert!(taken.len() < 100, "descriptors are not limited");
    }
    stops.append(&stop()).unwrap();
    support::create(&store, "b", json!(1)).await.unwrap();
    assert_eq!(support::spec_of(&store, "b").await, Some(json!(1)));
}

fn with_no_descriptor_left_stops_and_flags_are_still_written() {
    let place = Place::new();
    block_on(async { place.store().await.close().await });
    let limited = "ulimit -n 64; exec \"$0\" write-without-descriptors \"$1\"";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .arg(place.db())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (_stops, pending) = StopFile::open(place.db().with_extension("stops")).unwrap();
    assert_eq!(pending, [stop()]);
    block_on(async {
        assert_eq!(
            support::spec_of(&place.store().await, "b").await,
            Some(json!(1))
        );
    });
}
