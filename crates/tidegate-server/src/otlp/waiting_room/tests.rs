//! What waits survives, leaves once, and leaves nothing behind.

use tidegate_metrics::{Arrival, Limits, parse_events};

use super::*;

const WINDOW_WAITED_US: i64 = 10_000_000;
const NOON_US: i64 = 1_780_315_200_000_000;

fn event(kind: &str, name: &str, trace: u8, received_us: i64) -> Event {
    event_of("u", kind, name, trace, received_us)
}

fn event_of(unit: &str, kind: &str, name: &str, trace: u8, received_us: i64) -> Event {
    let flags = if kind == "evaluation" {
        r#"{"f":"on"}"#
    } else {
        "{}"
    };
    let text = format!(
        r#"{{"time":"2026-06-01T12:00:00Z","unit":"{unit}","kind":"{kind}","name":"{name}","trace_id":"{trace:032x}","flags":{flags}}}"#
    );
    let arrival = Arrival::at(received_us);
    let mut batch = parse_events(text.as_bytes(), &Limits::default(), arrival).unwrap();
    assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
    batch.accepted.remove(0)
}

fn open(folder: &Path) -> WaitingRoom {
    WaitingRoom::open(folder, WINDOW).unwrap()
}

fn names(leaving: &Leaving) -> Vec<(String, Option<String>)> {
    let events = leaving.events.iter();
    events
        .map(|event| {
            (
                event.name.to_string(),
                event.variant("f").map(str::to_owned),
            )
        })
        .collect()
}

fn served(name: &str) -> (String, Option<String>) {
    (name.to_owned(), Some("on".to_owned()))
}

#[tokio::test]
async fn who_waits_survives_a_restart_with_what_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let room = open(folder.path());
    room.enter(vec![event("track", "early", 1, NOON_US)])
        .await
        .unwrap();
    room.enter(vec![event("evaluation", "f", 1, NOON_US + 1)])
        .await
        .unwrap();
    room.enter(vec![event("track", "late", 1, NOON_US + 2)])
        .await
        .unwrap();
    drop(room);
    let room = open(folder.path());
    assert_eq!(room.len(), 2);
    assert!(room.due(NOON_US + WINDOW_WAITED_US - 1).events.is_empty());
    let leaving = room.due(NOON_US + WINDOW_WAITED_US + 2);
    assert_eq!(names(&leaving), [served("early"), served("late")]);
}

#[tokio::test]
async fn who_left_does_not_come_back_and_who_did_not_leave_does() {
    let folder = tempfile::tempdir().unwrap();
    let room = open(folder.path());
    room.enter(vec![event("evaluation", "f", 1, NOON_US)])
        .await
        .unwrap();
    room.enter(vec![event("track", "early", 1, NOON_US)])
        .await
        .unwrap();
    room.enter(vec![event("track", "late", 1, NOON_US + WINDOW_WAITED_US)])
        .await
        .unwrap();
    let leaving = room.due(NOON_US + WINDOW_WAITED_US);
    assert_eq!(names(&leaving), [served("early")]);
    let again = room.due(NOON_US + WINDOW_WAITED_US);
    assert_eq!(
        names(&again),
        names(&leaving),
        "until they are durable elsewhere"
    );
    room.left(&leaving, NOON_US + WINDOW_WAITED_US).unwrap();
    drop(room);
    let room = open(folder.path());
    let rest = room.due(NOON_US + 2 * WINDOW_WAITED_US);
    assert_eq!(
        names(&rest),
        [served("late")],
        "and its evaluation is still known"
    );
}

#[tokio::test]
async fn the_same_again_waits_once() {
    let folder = tempfile::tempdir().unwrap();
    let room = open(folder.path());
    for _ in 0..3 {
        room.enter(vec![event("track", "once", 1, NOON_US)])
            .await
            .unwrap();
    }
    assert_eq!(room.len(), 1);
}

#[tokio::test]
async fn a_room_that_is_full_lets_nobody_in_until_some_have_left() {
    let folder = tempfile::tempdir().unwrap();
    let room = open(folder.path());
    room.enter(vec![event("track", "first", 1, NOON_US)])
        .await
        .unwrap();
    room.lock().bytes += MOST_WAITING_BYTES;
    let refused = room.enter(vec![event("track", "second", 1, NOON_US)]).await;
    assert!(
        matches!(refused, Err(EntryError::Full { .. })),
        "{refused:?}"
    );
    room.lock().bytes -= MOST_WAITING_BYTES;
    let leaving = room.due(NOON_US + WINDOW_WAITED_US);
    room.left(&leaving, NOON_US + WINDOW_WAITED_US).unwrap();
    assert!(room.is_empty() && room.lock().bytes == 0);
    room.enter(vec![event("track", "second", 1, NOON_US)])
        .await
        .unwrap();
}

#[tokio::test]
async fn disk_that_nobody_needs_any_more_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let room = open(folder.path());
    room.enter(vec![
        event("evaluation", "f", 1, NOON_US),
        event("track", "n", 1, NOON_US),
    ])
    .await
    .unwrap();
    let leaving = room.due(NOON_US + WINDOW_WAITED_US);
    room.left(&leaving, NOON_US + WINDOW_WAITED_US).unwrap();
    assert_eq!(room.lock().unwanted_below(NOON_US + WINDOW_WAITED_US), 0);
    assert_eq!(
        room.lock()
            .unwanted_below(NOON_US + 2 * WINDOW_WAITED_US + 1),
        2
    );
}

#[tokio::test]
async fn whose_trace_is_known_need_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let room = open(folder.path());
    room.enter(vec![event("evaluation", "f", 1, NOON_US)])
        .await
        .unwrap();
    let comers = vec![
        event("track", "known", 1, NOON_US + 1),
        event("track", "unknown", 2, NOON_US + 1),
        event("track", "too late", 1, NOON_US + WINDOW_WAITED_US + 1),
    ];
    let (known, waiting) = room.told_apart(comers);
    let is_named = |name: &'static str| move |event: &Event| event.name.as_ref() == name;
    assert_eq!(known.len(), 1);
    assert!(known.iter().all(is_named("known")));
    assert_eq!(known[0].variant("f"), Some("on"));
    assert_eq!(waiting.len(), 2);
    assert!(waiting.iter().all(|event| event.flags.is_empty()));
}

#[tokio::test]
async fn an_erased_unit_is_out_of_the_room_at_once_and_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let room = open(folder.path());
    room.enter(vec![
        event_of("erased", "track", "own", 1, NOON_US),
        event_of("other", "track", "by trace", 2, NOON_US),
        event_of("erased", "evaluation", "f", 2, NOON_US),
        event_of("other", "track", "stays", 3, NOON_US),
    ])
    .await
    .unwrap();
    let mut left = room.erase("erased").unwrap();
    left.sort_by(|one, other| one.name.cmp(&other.name));
    let left: Vec<(&str, &str)> = left
        .iter()
        .map(|event| (event.name.as_ref(), event.unit.as_ref()))
        .collect();
    assert_eq!(left, [("by trace", "erased"), ("own", "erased")]);
    // The same unit may come again, as a new one.
    room.enter(vec![event_of("erased", "track", "new", 4, NOON_US)])
        .await
        .unwrap();
    let due = NOON_US + WINDOW_WAITED_US;
    for _ in 0..2 {
        let names: Vec<String> = room
            .due(due)
            .events
            .iter()
            .map(|event| format!("{} of {}", event.name, event.unit))
            .collect();
        assert!(!names.contains(&"own of erased".to_owned()), "{names:?}");
        assert!(
            !names.iter().any(|name| name == "by trace of erased"),
            "{names:?}"
        );
        assert!(names.contains(&"stays of other".to_owned()), "{names:?}");
        assert!(names.contains(&"new of erased".to_owned()), "{names:?}");
    }
    drop(room);
    let room = open(folder.path());
    let leaving = room.due(due);
    let names: Vec<&str> = leaving.events.iter().map(|e| e.name.as_ref()).collect();
    assert!(!names.contains(&"own"), "{names:?}");
    assert!(
        names.contains(&"stays") && names.contains(&"new"),
        "{names:?}"
    );
}

#[tokio::test]
async fn what_the_log_says_of_an_erased_unit_is_given_up_two_windows_later() {
    let folder = tempfile::tempdir().unwrap();
    let room = open(folder.path());
    room.enter(vec![
        event_of("erased", "track", "own", 1, NOON_US),
        event_of("other", "evaluation", "f", 2, NOON_US),
    ])
    .await
    .unwrap();
    let below = room.log.next_sequence();
    room.erase("erased").unwrap();
    room.give_up_erased(NOON_US + WINDOW_WAITED_US).unwrap();
    assert!(room.has_erased(), "the evaluation may still be wanted");
    assert_eq!(room.log.first_sequence().unwrap(), 0);
    room.give_up_erased(NOON_US + 2 * WINDOW_WAITED_US + 1)
        .unwrap();
    assert!(!room.has_erased());
    assert_eq!(room.log.first_sequence().unwrap(), below);
    let spare = std::fs::read_dir(folder.path().join("log"))
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".free")
        })
        .count();
    assert_eq!(spare, 0, "nothing of it is kept for reuse");
    drop(room);
    assert!(!open(folder.path()).has_erased());
}
