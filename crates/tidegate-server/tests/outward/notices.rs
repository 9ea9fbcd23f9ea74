//! Webhooks from outside: what a receiver hears, in which order, and what a bad one costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_server::notices::endpoint::Wanted;
use tidegate_server::notices::manage;
use tidegate_server::notices::signature::MasterKey;
use tidegate_server::notices::{deliver_due, event};
use tidegate_store::audit::AuditQuery;
use tidegate_store::{ObjectKey, ObjectKind, ProjectKey};

use crate::far_end::{FarEnd, Heard, Said};
use crate::house::{House, MASTER, START_US};

fn wanted(key: &str, url: &str) -> Wanted {
    serde_json::from_value(json!({"key": key, "url": url, "events": ["*"], "asks": false})).unwrap()
}

async fn endpoint(house: &House, key: &str, url: &str) -> String {
    let somebody = House::somebody();
    let made = manage::create(&house.app, &somebody, "default", wanted(key, url)).await;
    made.unwrap().1
}

/// The flag's number in each message, in the order it was heard.
fn numbers(heard: &[Heard]) -> Vec<u64> {
    let number = |heard: &Heard| {
        let document: Value = serde_json::from_str(&heard.body).unwrap();
        document["data"]["after"]["variants"]["on"]
            .as_u64()
            .unwrap()
    };
    heard.iter().map(number).collect()
}

/// Lets time pass as a running server would, delivering whenever something is due.
async fn pass(house: &House, time: Duration) {
    let step = Duration::from_secs(60);
    for _ in 0..time.as_secs() / step.as_secs() {
        house.hand.turn(step);
        deliver_due(&house.app).await;
    }
}

#[tokio::test]
async fn a_receiver_can_check_who_speaks_and_read_who_did_what_and_why() {
    let far = FarEnd::start(|_| Said::ok(""));
    let house = House::open(&[&far.address.to_string()], Vec::new()).await;
    let secret = endpoint(&house, "chat", &far.url("/hook/T0K3N")).await;
    house.change_flag("checkout", 1).await;
    house.change_flag("checkout", 2).await;
    assert_eq!(deliver_due(&house.app).await, 2);
    let heard = far.heard();
    let first: Value = serde_json::from_str(&heard[0].body).unwrap();
    assert_eq!(first["type"], "flag.create");
    assert_eq!(first["timestamp"], "2023-11-14T22:13:20Z");
    let data = &first["data"];
    assert_eq!(
        data["scope"],
        json!({"project": "default", "kind": "flag", "key": "checkout"})
    );
    assert_eq!(
        (&data["actor"], &data["reason"]),
        (&json!("user:u1"), &json!("a test"))
    );
    assert_eq!(data["before"], Value::Null);
    assert_eq!(
        data["link"],
        "https://tide.example/api/v1/projects/default/flags/checkout"
    );
    let second: Value = serde_json::from_str(&heard[1].body).unwrap();
    assert_eq!(second["data"]["before"], data["after"]);

    let sent = &heard[0];
    assert_eq!(sent.header("webhook-id"), data["id"].as_str().unwrap());
    assert_eq!(sent.header("webhook-timestamp"), "1700000000");
    let project = ProjectKey::parse("default").unwrap();
    let chat = ObjectKey::parse(ObjectKind::Webhook, "chat").unwrap();
    let store = house.app.store().unwrap();
    let kept = store.object_get(&project, ObjectKind::Webhook, &chat).await;
    let spec = kept.unwrap().unwrap().spec;
    let name = spec["keys"][0]["id"].as_str().unwrap();
    let key = MasterKey::from_bytes(MASTER).key("default", "chat", name);
    assert_eq!(key.to_secret(), secret);
    let expected = key.sign(
        sent.header("webhook-id"),
        1_700_000_000,
        sent.body.as_bytes(),
    );
    assert_eq!(sent.header("webhook-signature"), expected);
}

#[tokio::test]
async fn a_receiver_that_was_down_for_six_hours_hears_everything_in_order() {
    let far = FarEnd::start(|_| Said::Whole(503, String::new()));
    let house = House::open(&[&far.address.to_string()], Vec::new()).await;
    endpoint(&house, "chat", &far.url("/")).await;
    for number in 1..=20 {
        house.change_flag("checkout", number).await;
        house.hand.turn(Duration::from_secs(60));
        deliver_due(&house.app).await;
    }
    pass(&house, Duration::from_secs(6 * 3600)).await;
    let tries = far.heard().len();
    assert!((15..40).contains(&tries), "{tries} tries in six hours");
    assert!(
        numbers(&far.heard()).iter().all(|number| *number == 1),
        "the first one is first"
    );
    far.now(|_| Said::ok(""));
    pass(&house, Duration::from_secs(40 * 60)).await;
    let heard = numbers(&far.heard()[tries..]);
    assert_eq!(
        heard,
        (1..=20).collect::<Vec<u64>>(),
        "each once, in order, within the longest pause"
    );
    assert_eq!(deliver_due(&house.app).await, 0);
}

#[tokio::test]
async fn a_slow_or_hostile_receiver_delays_its_own_messages_and_nothing_else() {
    let slow = FarEnd::start(|_| Said::Silence);
    let hostile = FarEnd::start(|_| Said::Elsewhere("http://169.254.169.254/latest".to_owned()));
    let good = FarEnd::start(|_| Said::ok(""));
    let places: Vec<String> = [&slow, &hostile, &good]
        .map(|far| far.address.to_string())
        .to_vec();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let house = House::open(&places, Vec::new()).await;
    for (key, far) in [
        ("a-slow", &slow),
        ("b-hostile", &hostile),
        ("c-good", &good),
    ] {
        endpoint(&house, key, &far.url("/")).await;
    }
    for number in 1..=3 {
        // Publishing returns while nobody delivers: it waits for no receiver.
        house.change_flag("checkout", number).await;
    }
    deliver_due(&house.app).await;
    assert_eq!(numbers(&good.heard()), [1, 2, 3]);
    assert_eq!((slow.heard().len(), hostile.heard().len()), (1, 1));
    let log = manage::deliveries(&house.app, "default", "b-hostile")
        .await
        .unwrap();
    let reason = log.rows[0].reason.clone().unwrap();
    assert!(
        reason.contains("307") && reason.contains("not followed"),
        "{reason}"
    );
    assert!(
        log.rows[0].next_us.is_some_and(|at_us| at_us > START_US),
        "it is tried again"
    );
}

#[tokio::test]
async fn an_endpoint_inside_is_refused_when_it_is_made_and_when_it_is_used() {
    let inside = FarEnd::start(|_| Said::ok(""));
    let house = House::open(&[], Vec::new()).await;
    for url in [
        inside.url("/"),
        "https://169.254.169.254/latest".to_owned(),
        "https://[::1]/".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://2130706433/".to_owned(),
        "ftp://example.com/".to_owned(),
    ] {
        let somebody = House::somebody();
        let refused = manage::create(&house.app, &somebody, "default", wanted("x", &url)).await;
        assert!(refused.is_err(), "{url} was accepted");
    }
    // A name that turns out to be inside is refused at the moment of sending.
    let port = inside.address.port();
    endpoint(&house, "inner", &format!("https://localhost:{port}/")).await;
    house.change_flag("checkout", 1).await;
    deliver_due(&house.app).await;
    let log = manage::deliveries(&house.app, "default", "inner")
        .await
        .unwrap();
    let reason = log.rows[0].reason.clone().unwrap();
    assert!(reason.starts_with("refused"), "{reason}");
    assert!(inside.heard().is_empty());
}

#[tokio::test]
async fn after_a_day_a_message_is_a_dead_letter_that_can_be_sent_again() {
    let far = FarEnd::start(|_| Said::Whole(500, String::new()));
    let house = House::open(&[&far.address.to_string()], Vec::new()).await;
    endpoint(&house, "chat", &far.url("/")).await;
    house.change_flag("checkout", 1).await;
    pass(&house, Duration::from_secs(23 * 3600)).await;
    let dead = async || {
        manage::deliveries(&house.app, "default", "chat")
            .await
            .unwrap()
            .dead
    };
    assert!(dead().await.is_empty(), "it is still tried");
    pass(&house, Duration::from_secs(3600)).await;
    let letters = dead().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].event, "flag.create");
    assert_eq!(letters[0].last_error.as_deref(), Some("it answered 500"));
    let tries = far.heard().len();
    house.change_flag("checkout", 2).await;
    far.now(|_| Said::ok(""));
    deliver_due(&house.app).await;
    assert_eq!(
        numbers(&far.heard()[tries..]),
        [2],
        "a dead letter holds back nothing"
    );
    let again = manage::redeliver(&house.app, "default", ("chat", Some(letters[0].number)));
    assert_eq!(again.await.unwrap(), 1);
    deliver_due(&house.app).await;
    assert_eq!(numbers(&far.heard()[tries..]), [2, 1]);
    assert!(dead().await.is_empty());
    assert!(
        manage::redeliver(&house.app, "default", ("chat", Some(99)))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn keys_change_while_messages_flow() {
    let far = FarEnd::start(|_| Said::ok(""));
    let house = House::open(&[&far.address.to_string()], Vec::new()).await;
    let old = endpoint(&house, "chat", &far.url("/")).await;
    let somebody = House::somebody();
    let signatures = async || {
        manage::test(&house.app, &somebody, "default", "chat")
            .await
            .unwrap();
        deliver_due(&house.app).await;
        let heard = far.heard();
        let last = heard.last().unwrap();
        last.header("webhook-signature")
            .split(' ')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(signatures().await.len(), 1);
    let rotated = manage::rotate(&house.app, &somebody, "default", ("chat", 24))
        .await
        .unwrap();
    assert_ne!(rotated.1, old);
    let both = signatures().await;
    assert_eq!(both.len(), 2, "the new key first, the old one beside it");
    let third = manage::rotate(&house.app, &somebody, "default", ("chat", 24)).await;
    assert!(third.is_err(), "two keys are live");
    house.hand.turn(Duration::from_secs(24 * 3600));
    assert_eq!(signatures().await.len(), 1, "the old key has ended");
    let at_once = manage::rotate(&house.app, &somebody, "default", ("chat", 0))
        .await
        .unwrap();
    assert_eq!(at_once.0.keys.len(), 1);
}

#[tokio::test]
async fn no_secret_and_no_address_can_be_read_back() {
    let far = FarEnd::start(|_| Said::ok(""));
    let house = House::open(&[&far.address.to_string()], Vec::new()).await;
    let secret = endpoint(&house, "chat", &far.url("/hook/T0K3N")).await;
    house.change_flag("checkout", 1).await;
    deliver_due(&house.app).await;
    let listed = manage::list(&house.app, "default").await.unwrap();
    let log = manage::deliveries(&house.app, "default", "chat")
        .await
        .unwrap();
    let everything = AuditQuery {
        project: None,
        object: None,
        with_whole_store: true,
        after: 0,
        limit: 100,
    };
    let audit = house.app.store().unwrap().audit_list(&everything).await;
    let shown = format!(
        "{}{}{:?}{}",
        serde_json::to_string(&listed).unwrap(),
        serde_json::to_string(&log).unwrap(),
        audit.unwrap(),
        far.heard()[0].body
    );
    assert!(
        shown.contains("webhook.create") && shown.contains("127.0.0.1"),
        "{shown}"
    );
    for hidden in [&secret[6..], "T0K3N"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
    let database = std::fs::read(house.folder.path().join("state.db")).unwrap();
    let needle = &secret.as_bytes()[6..];
    assert!(
        !database
            .windows(needle.len())
            .any(|window| window == needle)
    );
}

#[tokio::test]
async fn an_endpoint_is_told_what_it_wants_and_its_messages_end_with_it() {
    let far = FarEnd::start(|_| Said::ok(""));
    let house = House::open(&[&far.address.to_string()], Vec::new()).await;
    let mut kills = wanted("kills", &far.url("/"));
    kills.events = vec!["flag.kill".to_owned(), "rollout.*".to_owned()];
    let somebody = House::somebody();
    manage::create(&house.app, &somebody, "default", kills)
        .await
        .unwrap();
    house.change_flag("checkout", 1).await;
    assert_eq!(deliver_due(&house.app).await, 0);
    let killed =
        tidegate_server::app::stop::kill(&house.app, &somebody, "default", "checkout", "it hurts");
    killed.unwrap();
    tidegate_server::reconcile::once(&house.app, None).await;
    deliver_due(&house.app).await;
    let told: Value = serde_json::from_str(&far.heard()[0].body).unwrap();
    assert_eq!(
        (&told["type"], &told["data"]["reason"]),
        (&json!("flag.kill"), &json!("it hurts"))
    );
    manage::test(&house.app, &somebody, "default", "kills")
        .await
        .unwrap();
    manage::delete(&house.app, &somebody, "default", "kills")
        .await
        .unwrap();
    deliver_due(&house.app).await;
    assert_eq!(
        far.heard().len(),
        1,
        "nothing is sent to an endpoint that was removed"
    );
    assert!(
        manage::deliveries(&house.app, "default", "kills")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_message_taken_by_a_process_that_died_is_sent_by_the_next() {
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answers);
    let far = FarEnd::start(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Said::ok("")
    });
    let house = House::open(&[&far.address.to_string()], Vec::new()).await;
    endpoint(&house, "chat", &far.url("/")).await;
    house.change_flag("checkout", 1).await;
    let store = house.app.store().unwrap();
    let taken = store
        .outbox_take(10, START_US, START_US + 60_000_000)
        .await
        .unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(deliver_due(&house.app).await, 0, "somebody else has it");
    house.hand.turn(Duration::from_secs(61));
    assert_eq!(deliver_due(&house.app).await, 1);
    assert_eq!(answers.load(Ordering::Relaxed), 1);
    assert_eq!(
        event::link("", "p", ObjectKind::Flag, "a b"),
        "/api/v1/projects/p/flags/a%20b"
    );
}
