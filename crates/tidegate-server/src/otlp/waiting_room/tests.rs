//! What waits survives, leaves once, and leaves nothing behind.

use tidegate_metrics::{Arrival, Limits, parse_events};

use super::*;

const WINDOW_WAITED_US: i64 = 10_000_000;
const NOON_US: i64 = 1_780_315_200_000_000;

fn event(kind: &str, name: &str, trace: u8, received_us: i64) -> Event {
    let flags = if kind == "evaluation" {
        r#"{"f":"on"}"#
    } else {
        "{}"
    };
    let text = format!(
        r#"{{"time":"2026-06-01T12:00:00Z","unit":"u","kind":"{kind}","name":"{name}","trace_id":"{trace:032x}","flags":{flags}}}"#
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
