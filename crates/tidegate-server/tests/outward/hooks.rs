//! Hooks from outside: a raise waits for them, and nothing else does.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_rollout::command::Command;
use tidegate_server::hooks::command::CommandHook;
use tidegate_server::notices::deliver_due;
use tidegate_server::notices::endpoint::Wanted;
use tidegate_server::notices::manage;
use tidegate_server::rollouts::{self, Standing};
use tidegate_store::ObjectKind;
use tokio_util::sync::CancellationToken;

use crate::far_end::{FarEnd, Said};
use crate::house::House;

/// How long a test waits for something that must happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program of these lines, which find a folder in `$OUT`.
fn program(folder: &Path, lines: &str) -> CommandHook {
    let script = folder.join("gate.sh");
    std::fs::write(&script, lines).unwrap();
    let env = [("OUT", folder.to_str().unwrap()), ("PATH", "/usr/bin:/bin")];
    let command = CommandHook {
        name: "gate".to_owned(),
        argv: vec!["/bin/sh".to_owned(), script.to_str().unwrap().to_owned()],
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect(),
        timeout: Duration::from_secs(5),
        project: None,
        asks: true,
        tells: Vec::new(),
    };
    command.check().unwrap();
    command
}

/// A blind rollout of two stages, started.
async fn start(house: &House) -> CancellationToken {
    house.change_flag("f", 1).await;
    let policy = json!({"flag": "f", "treatment": "on", "control": "off", "blind": true,
        "reason": "a test", "stages": [{"share_bp": 1000, "min_seconds": 60},
            {"share_bp": 5000, "min_seconds": 100_000}]});
    house.put(ObjectKind::Rollout, "r", policy).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(rollouts::run(house.app.clone(), stop.clone()));
    let somebody = House::somebody();
    let started = rollouts::start(&house.app, &somebody, ("default", "r"), None).await;
    started.unwrap();
    stop
}

async fn until(house: &House, what: &str, is_so: impl Fn(&Standing) -> bool) -> Standing {
    let seen = async {
        loop {
            match house.app.rollouts.standing("default", "r").filter(&is_so) {
                Some(standing) => return standing,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, seen).await;
    let now = || format!("{what}: {:?}", house.app.rollouts.standing("default", "r"));
    outcome.unwrap_or_else(|_| panic!("it did not happen: {}", now()))
}

fn is_held(standing: &Standing, why: &str) -> bool {
    standing
        .hooks
        .as_ref()
        .is_some_and(|hooks| hooks.contains(why))
}

async fn shut(house: &House) {
    let by = ("user:u1".to_owned(), "it hurts".to_owned());
    let asked = house
        .app
        .rollouts
        .ask(("default", "r"), Command::EmergencyStop, by);
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap()
        .unwrap();
    until(house, "control for everybody", |standing| {
        standing.lifecycle == "rolled back" && standing.share_bp == 0
    })
    .await;
}

#[tokio::test]
async fn a_program_holds_a_raise_until_it_allows_it_and_never_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let gate = program(
        folder.path(),
        "cat > \"$OUT/question\"; env > \"$OUT/env\"; echo x >> \"$OUT/asked\"\n\
         [ -e \"$OUT/allow\" ] || { echo 'a change freeze' >&2; exit 3; }\n",
    );
    let house = House::open(&[], vec![gate]).await;
    let running = start(&house).await;
    let held = "held by command gate: a change freeze";
    let standing = until(&house, "it is held", |standing| is_held(standing, held)).await;
    assert_eq!(standing.share_bp, 0);
    let question = std::fs::read_to_string(folder.path().join("question")).unwrap();
    let question: Value = serde_json::from_str(&question).unwrap();
    assert_eq!(question["type"], "rollout.ask");
    assert_eq!(question["data"]["before"]["share_bp"], 0);
    assert_eq!(
        question["data"]["after"],
        json!({"share_bp": 1000, "stage": 0})
    );
    let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(
        env.contains("OUT=") && !env.contains("CARGO"),
        "nothing is inherited: {env}"
    );

    std::fs::write(folder.path().join("allow"), "").unwrap();
    house.hand.turn(Duration::from_secs(31));
    until(&house, "the first stage", |standing| {
        standing.share_bp == 1000
    })
    .await;
    std::fs::remove_file(folder.path().join("allow")).unwrap();
    house.hand.turn(Duration::from_secs(61));
    until(&house, "the second is held", |standing| {
        is_held(standing, held)
    })
    .await;
    let asked = || {
        std::fs::read_to_string(folder.path().join("asked"))
            .unwrap()
            .len()
    };
    let before = asked();
    shut(&house).await;
    assert_eq!(asked(), before, "nobody is asked before a share is lowered");
    running.cancel();
}

#[tokio::test]
async fn an_endpoint_is_asked_signed_and_told_after() {
    let far = FarEnd::start(|_| Said::ok(json!({"decision": "hold", "reason": "not on Fridays"})));
    let house = House::open(&[&far.address.to_string()], Vec::new()).await;
    let wanted = json!({"key": "gate", "url": far.url("/"), "asks": true, "events": ["rollout.*"]});
    let wanted: Wanted = serde_json::from_value(wanted).unwrap();
    manage::create(&house.app, &House::somebody(), "default", wanted)
        .await
        .unwrap();
    let running = start(&house).await;
    let held = "held by webhook gate: not on Fridays";
    until(&house, "it is held", |standing| is_held(standing, held)).await;
    let asked = far.heard().remove(0);
    assert!(asked.header("webhook-signature").starts_with("v1,"));
    for fault in [
        Said::Silence,
        Said::Whole(500, String::new()),
        Said::Elsewhere("http://127.0.0.1/".to_owned()),
        Said::ok("yes"),
        Said::ok(json!({"decision": "maybe"})),
    ] {
        let shown = format!("{fault:?}");
        let before = far.heard().len();
        far.now(move |_| fault.clone());
        house.hand.turn(Duration::from_secs(31));
        let standing = until(&house, &shown, |standing| {
            far.heard().len() > before && is_held(standing, "held by webhook gate")
        })
        .await;
        assert_eq!(standing.share_bp, 0, "{shown}");
    }
    far.now(|_| Said::ok(json!({"decision": "allow"})));
    house.hand.turn(Duration::from_secs(31));
    until(&house, "the first stage", |standing| {
        standing.share_bp == 1000
    })
    .await;
    deliver_due(&house.app).await;
    let types: Vec<String> = far
        .heard()
        .iter()
        .map(|heard| serde_json::from_str::<Value>(&heard.body).unwrap())
        .filter(|document| document["type"] != "rollout.ask")
        .map(|document| document["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(types[..2], ["rollout.create", "rollout.started"]);
    assert!(
        types.contains(&"rollout.stage-entered".to_owned()),
        "{types:?}"
    );
    far.now(|_| Said::Silence);
    house.hand.turn(Duration::from_secs(61));
    until(&house, "it is being asked", |standing| {
        standing.hooks.is_some()
    })
    .await;
    shut(&house).await;
    running.cancel();
}

#[tokio::test]
async fn a_program_is_told_in_order_and_told_again_until_it_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "[ -e \"$OUT/ready\" ] || exit 1\ncat >> \"$OUT/told\"; echo >> \"$OUT/told\"\n";
    let mut listener = program(folder.path(), lines);
    (listener.asks, listener.tells) = (false, vec!["flag.*".to_owned()]);
    let house = House::open(&[], vec![listener]).await;
    house.change_flag("f", 1).await;
    house.change_flag("f", 2).await;
    deliver_due(&house.app).await;
    std::fs::write(folder.path().join("ready"), "").unwrap();
    house.hand.turn(Duration::from_secs(10));
    deliver_due(&house.app).await;
    let told = std::fs::read_to_string(folder.path().join("told")).unwrap();
    let types: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(types, ["flag.create", "flag.update"]);
}

#[tokio::test]
async fn a_program_is_bounded_in_time_and_output_and_has_no_shell() {
    let folder = tempfile::tempdir().unwrap();
    let mut slow = program(folder.path(), "sleep 100");
    slow.timeout = Duration::from_secs(1);
    let late = slow.run(&json!({})).await.unwrap_err();
    assert!(late.contains("did not end within 1s"), "{late}");
    let loud = program(
        folder.path(),
        "yes | head -c 1000000; yes no | head -c 1000000 >&2",
    );
    let ran = loud.run(&json!({})).await.unwrap();
    assert_eq!(
        (ran.code, ran.output.len(), ran.complaint.len()),
        (Some(0), 4096, 4096)
    );
    let echo = CommandHook {
        argv: ["/bin/echo", "$HOME", "; touch x", "`id`"]
            .map(str::to_owned)
            .to_vec(),
        env: BTreeMap::new(),
        ..loud
    };
    let ran = echo.run(&json!({})).await.unwrap();
    assert_eq!(
        ran.output, "$HOME ; touch x `id`\n",
        "arguments are arguments"
    );
}
