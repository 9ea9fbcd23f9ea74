//! Metric sources from outside: what they say when they misbehave, and what a rollout makes of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_server::app::AppError;
use tidegate_server::clock::Clock as _;
use tidegate_server::egress::Egress;
use tidegate_server::egress::credentials::Credentials;
use tidegate_server::egress::policy::EgressPolicy;
use tidegate_server::rollouts::sources::poll::{self, Fault};
use tidegate_server::rollouts::sources::spec::SourceSpec;
use tidegate_server::rollouts::sources::{read_due, resume_self_tests, self_test};
use tidegate_server::rollouts::{self, Standing};
use tidegate_store::ObjectKind;
use tokio_util::sync::CancellationToken;

use crate::far_end::{FarEnd, Heard, Said};
use crate::house::House;

/// How long a test waits for something that must happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn http_source(far: &FarEnd) -> Value {
    json!({"type": "http", "url": far.url("/{variant}"), "requests": "/total",
        "failures": "/failed", "timeout_seconds": 1})
}

async fn answers(said: Said) -> Result<(), Fault> {
    let far = FarEnd::start(move |_| said.clone());
    let policy = EgressPolicy::parse(&[far.address.to_string()]).unwrap();
    let egress = Egress::new(policy, Credentials::default());
    let spec = SourceSpec::from_json(&http_source(&far)).unwrap();
    poll::read(&egress, &spec, ("on", "off"), 0)
        .await
        .map(|_| ())
}

#[tokio::test]
async fn every_misbehaviour_of_a_source_is_silence_or_an_impossible_number() {
    let said = |body: Value| Said::ok(body);
    for (answer, is_impossible, says) in [
        (
            Said::Whole(500, "broken".to_owned()),
            false,
            "status 500: broken",
        ),
        (Said::Whole(401, String::new()), false, "status 401"),
        (Said::Silence, false, "within"),
        (Said::Drip, false, "within"),
        (
            Said::Elsewhere("http://127.0.0.1/".to_owned()),
            false,
            "not followed",
        ),
        (Said::Cut("{\"total\": 1".to_owned()), false, "failed"),
        (Said::Garbage, false, "failed"),
        (Said::Endless, false, "more than"),
        (Said::ok("<html>"), false, "no JSON"),
        (
            Said::ok("{\"total\": NaN, \"failed\": 0}"),
            false,
            "no JSON",
        ),
        (said(json!({"total": 5})), false, "nothing is at /failed"),
        (
            said(json!({"total": null, "failed": 0})),
            false,
            "nothing is at /total",
        ),
        (
            said(json!({"total": "NaN", "failed": 0})),
            true,
            "no number",
        ),
        (said(json!({"total": -1, "failed": 0})), true, "negative"),
        (
            said(json!({"total": 1.5, "failed": 0})),
            true,
            "no whole count",
        ),
    ] {
        let fault = answers(answer.clone()).await.unwrap_err();
        assert_eq!(fault.is_impossible, is_impossible, "{answer:?}: {fault:?}");
        assert!(fault.response.contains(says), "{answer:?}: {fault:?}");
        assert!(fault.query.starts_with("http://127.0.0.1:"), "{fault:?}");
    }
    assert_eq!(
        answers(said(json!({"total": 5, "failed": 1}))).await,
        Ok(())
    );
    let long = Said::Whole(500, "x".repeat(100_000));
    let fault = answers(long).await.unwrap_err();
    assert!(
        fault.response.len() < 3000 && fault.response.contains("bytes more"),
        "bounded"
    );
}

/// Counters of each variant: requests, then failures.
type World = Arc<Mutex<BTreeMap<String, (u64, u64)>>>;

/// A source, and a rollout of flag `f` that it guards.
struct Guarded {
    house: House,
    far: FarEnd,
    world: World,
    random: u64,
    stop: CancellationToken,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Guarded {
    async fn start() -> Self {
        let world = World::default();
        let counters = Arc::clone(&world);
        let answer = move |heard: &Heard| {
            let counters = counters.lock().unwrap();
            let found = counters.get(&heard.path[1..]).copied().unwrap_or_default();
            Said::ok(json!({"total": found.0, "failed": found.1}))
        };
        let far = FarEnd::start(answer);
        let house = House::open(&[&far.address.to_string()], Vec::new()).await;
        house
            .put(ObjectKind::Source, "shop", http_source(&far))
            .await
            .unwrap();
        house.change_flag("f", 1).await;
        let policy = json!({"flag": "f", "treatment": "on", "control": "off",
            "stages": [{"share_bp": 1000, "min_seconds": 300, "min_units": 1000},
                {"share_bp": 5000, "min_seconds": 100_000}],
            "guards": [{"metric": "source/shop"}]});
        house.put(ObjectKind::Rollout, "r", policy).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(rollouts::run(house.app.clone(), stop.clone()));
        Self {
            house,
            far,
            world,
            random: 1,
            stop,
        }
    }

    async fn begin(&mut self) {
        self.requests("off", 900, 20);
        self.requests("on", 1, 0);
        let somebody = House::somebody();
        let started = rollouts::start(&self.house.app, &somebody, ("default", "r"), None).await;
        started.unwrap();
    }

    /// Requests of a variant, each failing with a chance of `per_mille`.
    fn requests(&mut self, variant: &str, requests: u64, per_mille: u64) {
        let mut failures = 0;
        for _ in 0..requests {
            // An LCG of Knuth's is random enough for a shop.
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            failures += u64::from((self.random >> 33) % 1000 < per_mille);
        }
        let mut world = self.world.lock().unwrap();
        let counters = world.entry(variant.to_owned()).or_default();
        *counters = (counters.0 + requests, counters.1 + failures);
    }

    /// A quarter of a minute passes and the source is read.
    async fn pass(&self) {
        self.house.hand.turn(Duration::from_secs(15));
        read_due(&self.house.app).await;
    }

    /// How the rollout stands as of now.
    async fn standing(&self) -> Standing {
        let now_us = self.house.hand.now_us();
        let seen = async {
            loop {
                let standing = self.house.app.rollouts.standing("default", "r");
                match standing.filter(|standing| {
                    standing.plan.now_us >= now_us || standing.lifecycle == "rolled back"
                }) {
                    Some(standing) => return standing,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap()
    }
}

#[tokio::test]
async fn counters_hold_a_harmful_change_and_roll_it_back_only_after_a_self_test() {
    let mut guarded = Guarded::start().await;
    guarded.begin().await;
    for _ in 0..40 {
        guarded.requests("off", 900, 20);
        guarded.requests("on", 100, 200);
        guarded.pass().await;
        let standing = guarded.standing().await;
        assert!(
            standing.share_bp <= 1000,
            "suspicion holds: {}",
            standing.plan.report.sentence
        );
    }
    let standing = guarded.standing().await;
    assert_eq!(
        (standing.lifecycle.as_str(), standing.share_bp),
        ("running", 1000)
    );
    assert!(
        standing.plan.report.guards[0].ln_e > 20.0,
        "the evidence is there"
    );
    let remark = standing.plan.report.guards[0].remark.clone().unwrap();
    assert!(
        remark.contains("no A/A self-test"),
        "and it says why it holds: {remark}"
    );

    let app = guarded.house.app.clone();
    let same = self_test::begin(&app, "default", "shop", ("a", "a")).await;
    assert!(same.is_err());
    self_test::begin(&app, "default", "shop", ("half-a", "half-b"))
        .await
        .unwrap();
    for _ in 0..40 {
        guarded.requests("half-a", 200, 50);
        guarded.requests("half-b", 200, 50);
        guarded.pass().await;
    }
    let tested = self_test::standing(&app, "default", "shop").await.unwrap();
    assert!(tested.may_roll_back, "{tested:?}");
    guarded.pass().await;
    let standing = guarded.standing().await;
    assert_eq!(standing.share_bp, 0, "{}", standing.plan.report.sentence);
}

#[tokio::test]
async fn clustered_failures_do_not_pass_and_an_edit_takes_a_pass_away() {
    let mut guarded = Guarded::start().await;
    let app = guarded.house.app.clone();
    self_test::begin(&app, "default", "shop", ("half-a", "half-b"))
        .await
        .unwrap();
    for step in 0..40 {
        guarded.requests("half-a", 200, if step % 2 == 0 { 200 } else { 10 });
        guarded.requests("half-b", 200, if step % 2 == 0 { 10 } else { 200 });
        guarded.pass().await;
    }
    let tested = self_test::standing(&app, "default", "shop").await.unwrap();
    assert!(!tested.may_roll_back && tested.last.unwrap().reason.contains("cluster"));
    self_test::begin(&app, "default", "shop", ("half-a", "half-b"))
        .await
        .unwrap();
    for _ in 0..40 {
        guarded.requests("half-a", 200, 50);
        guarded.requests("half-b", 200, 50);
        guarded.pass().await;
    }
    let may = async || {
        self_test::standing(&app, "default", "shop")
            .await
            .unwrap()
            .may_roll_back
    };
    assert!(may().await);
    let mut edited = http_source(&guarded.far);
    edited["every_seconds"] = json!(14);
    guarded
        .house
        .put(ObjectKind::Source, "shop", edited)
        .await
        .unwrap();
    assert!(
        !may().await,
        "what was tested is not what would be asked now"
    );
}

#[tokio::test]
async fn a_self_test_goes_on_after_a_restart_with_what_it_had_counted() {
    let world = World::default();
    let counters = Arc::clone(&world);
    let far = FarEnd::start(move |heard: &Heard| {
        let counters = counters.lock().unwrap();
        let found = counters.get(&heard.path[1..]).copied().unwrap_or_default();
        Said::ok(json!({"total": found.0, "failed": found.1}))
    });
    let allowed = far.address.to_string();
    let mut house = House::open(&[&allowed], Vec::new()).await;
    let spec = http_source(&far);
    house.put(ObjectKind::Source, "shop", spec).await.unwrap();
    self_test::begin(&house.app, "default", "shop", ("half-a", "half-b"))
        .await
        .unwrap();
    let how_far = async |house: &House| {
        let standing = self_test::standing(&house.app, "default", "shop").await;
        standing.unwrap()
    };
    // The first reading is what is counted from; thirty blocks are enough to tell.
    for round in 0..=30_u64 {
        if round == 20 {
            let before = how_far(&house).await.under_way.unwrap();
            assert!(before.contains("tell: 19 of 30 blocks"), "{before}");
            house = house.restarted(&[&allowed]).await;
            assert!(
                how_far(&house).await.under_way.is_none(),
                "nobody asked yet"
            );
            assert!(resume_self_tests(&house.app).await);
        }
        for (unit, variant) in (0..).zip(["half-a", "half-b"]) {
            let mut world = world.lock().unwrap();
            let counters = world.entry(variant.to_owned()).or_default();
            *counters = (counters.0 + 500, counters.1 + 8 + (round + unit) % 3);
        }
        house.hand.turn(Duration::from_secs(15));
        assert_eq!(read_due(&house.app).await, 1);
        if round == 20 {
            let after = how_far(&house).await.under_way.unwrap();
            assert!(after.contains("tell: 20 of 30 blocks"), "{after}");
        }
    }
    let ended = how_far(&house).await;
    assert!(ended.may_roll_back, "{ended:?}");
    let house = house.restarted(&[&allowed]).await;
    assert!(resume_self_tests(&house.app).await);
    let ended = how_far(&house).await;
    assert!(
        ended.under_way.is_none() && ended.may_roll_back,
        "{ended:?}"
    );
}

/// A rollout at its first stage whose source then fails in one way.
async fn under(fault: Said) -> (String, String, u16) {
    let mut guarded = Guarded::start().await;
    guarded.begin().await;
    for _ in 0..6 {
        guarded.requests("off", 900, 20);
        guarded.requests("on", 100, 20);
        guarded.pass().await;
        let _ = guarded.standing().await;
    }
    assert_eq!(guarded.standing().await.share_bp, 1000, "the first stage");
    guarded.far.now(move |_| fault.clone());
    // An hour: long past the stage's own time.
    for _ in 0..60 {
        guarded.house.hand.turn(Duration::from_secs(60));
        read_due(&guarded.house.app).await;
    }
    let standing = guarded.standing().await;
    let report = &standing.plan.report;
    let said = format!("{:?} {:?}", report.guards[0].remark, report.waiting_for);
    (standing.plan.verdict.to_string(), said, standing.share_bp)
}

#[tokio::test]
async fn no_fault_of_a_source_is_harm_or_raises_a_share() {
    for (fault, expected, says) in [
        (
            Said::Whole(503, "overloaded".to_owned()),
            "no data",
            "overloaded",
        ),
        (Said::Cut("{".to_owned()), "no data", "asked"),
        (
            Said::ok(json!({"total": -1, "failed": 0})),
            "invalid",
            "negative",
        ),
        (
            Said::ok(json!({"total": "NaN", "failed": 0})),
            "invalid",
            "NaN",
        ),
        (
            Said::ok(json!({"total": 1, "failed": 1})),
            "no data",
            "no unit has been seen for",
        ),
    ] {
        let (verdict, remark, share_bp) = under(fault.clone()).await;
        assert_eq!(share_bp, 1000, "{fault:?}");
        assert_eq!(verdict, expected, "{fault:?}: {remark}");
        assert!(remark.contains(says), "{fault:?}: {remark}");
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_not_allowed_silent_or_unused_starts_nothing() {
    let far = FarEnd::start(|_| Said::Whole(502, "no upstream".to_owned()));
    let shut = House::open(&[], Vec::new()).await;
    let refused = shut.put(ObjectKind::Source, "inner", http_source(&far));
    assert!(refused.await.is_err(), "loopback is not allowed here");

    let house = House::open(&[&far.address.to_string()], Vec::new()).await;
    house.change_flag("f", 1).await;
    let policy = json!({"flag": "f", "treatment": "on", "control": "off",
        "stages": [{"share_bp": 1000}], "guards": [{"metric": "source/shop"}]});
    house.put(ObjectKind::Rollout, "r", policy).await.unwrap();
    let somebody = House::somebody();
    let refusal = async || {
        let started = rollouts::start(&house.app, &somebody, ("default", "r"), None).await;
        match started.unwrap_err() {
            AppError::Invalid(violations) => violations[0].message.clone(),
            other => panic!("{other}"),
        }
    };
    assert!(refusal().await.contains("there is no source"));
    house
        .put(ObjectKind::Source, "shop", http_source(&far))
        .await
        .unwrap();
    assert!(
        refusal().await.contains("status 502: no upstream"),
        "query and response are shown"
    );
    far.now(|_| Said::ok(json!({"total": 0, "failed": 0})));
    assert!(
        refusal()
            .await
            .contains("has not counted a request of \"off\"")
    );
}
