//! Deterministic simulation of planner, executor and store under crashes, lost and late messages, clock jumps,
//! failing sources and meddling people.
//!
//! Every history is fixed by its seed. Properties are those of the design, by letter:
//! (a) a written share was allowed when it was written; (b) no raise under harmed, invalid or no data; (c) after
//! a decision to roll back nothing raises the share, and it reaches zero; (e) shares are shares and arms sum to
//! everyone; (f) no step is written twice, no rollback decided twice; (g) once faults stop, every rollout ends; (h) an emergency stop is
//! served at once and stays; (i) replay of stored plans and logs is equal to the byte.
//! (d), a healthy target, concerns data planes other than the flag itself.
//!
//! `TIDEGATE_HISTORIES=1000000` at build time sets the number for nightly runs.

use crate::world::{Fault, SECOND, World};
use serde_json::json;
use tidegate_rollout::command::Command;
use tidegate_rollout::executor::{Change, Effect, ExecutorEvent};
use tidegate_rollout::simulate::Draw;
use tidegate_rollout::{
    Action, BasisPoints, Lifecycle, Observations, RolloutEvent, RolloutSpec, RolloutState,
    SourceStatus, Verdict, Wait, canonical_bytes, plan,
};

const HISTORIES: &str = match option_env!("TIDEGATE_HISTORIES") {
    Some(number) => number,
    None => "20000",
};

/// Seeds that once broke a property; they are played first, for ever.
const FOUND: [u64; 6] = [144, 979, 1709, 4834, 887, 7212];

#[test]
fn every_property_holds_in_every_history() {
    let specs = specs();
    let histories: u64 = HISTORIES.parse().unwrap();
    let workers = 2;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let specs = &specs;
            scope.spawn(move || {
                let own = (0..histories).filter(|seed| seed % workers == worker);
                for seed in FOUND.into_iter().chain(own) {
                    let which = usize::try_from(seed).unwrap() % specs.len();
                    History::new(specs[which].clone(), seed).play();
                }
            });
        }
    });
}

/// Beside the others, so that their seeds keep their policies.
#[test]
fn every_property_holds_with_a_bake() {
    let spec = RolloutSpec::from_json(&json!({
        "flag": "f", "treatment": "on", "control": "off", "alpha": 0.01,
        "stages": [{"share_bp": 1000, "min_seconds": 20}, {"share_bp": 10000}],
        "bake": {"holdback_bp": 500, "seconds": 120},
        "guards": [{"metric": "errors"}, {"metric": "latency", "margin": 0.2}],
        "staleness_seconds": 90, "cooldown_seconds": 30, "deadline_seconds": 3600,
        "at_end": "ship",
    }))
    .unwrap();
    let histories: u64 = HISTORIES.parse().unwrap();
    for seed in 0..histories / 10 {
        History::new(spec.clone(), seed).play();
    }
}

fn specs() -> Vec<RolloutSpec> {
    let base = |extra: serde_json::Value| {
        let mut value = json!({
            "flag": "f", "treatment": "on", "control": "off", "alpha": 0.01,
            "stages": [
                {"share_bp": 100, "min_seconds": 20},
                {"share_bp": 1000, "min_seconds": 20, "min_units": 10},
                {"share_bp": 5000, "min_seconds": 20},
            ],
            "guards": [{"metric": "errors"}],
            "staleness_seconds": 90, "cooldown_seconds": 30, "deadline_seconds": 3600,
            "at_end": "ship",
        });
        for (key, field) in extra.as_object().unwrap() {
            value[key] = field.clone();
        }
        RolloutSpec::from_json(&value).unwrap()
    };
    vec![
        base(json!({})),
        base(json!({"no_data": {"roll_back": {"after_seconds": 200}}, "at_end": "ask"})),
        base(json!({
            "stages": [
                {"share_bp": 500, "min_seconds": 10},
                {"share_bp": 2500, "min_seconds": 10, "approval": true},
                {"share_bp": 10000, "min_seconds": 10},
            ],
            "holdback_bp": 500,
            "guards": [{"metric": "errors"}, {"metric": "latency", "margin": 0.2}],
        })),
        base(json!({
            "blind": true, "reason": "copy", "guards": [],
            "stages": [
                {"share_bp": 100, "min_seconds": 60},
                {"share_bp": 1000, "min_seconds": 60},
                {"share_bp": 5000, "min_seconds": 60, "approval": true},
                {"share_bp": 10000, "min_seconds": 60},
            ],
        })),
        base(json!({
            "harm_budget": {"excess_failures": 30, "units_per_second": 50},
            "stages": [{"share_bp": 5000, "min_seconds": 20}],
        })),
    ]
}

/// A kill after each effect of a rollback in turn: whatever is on disk by then is not done again.
#[test]
fn a_rollback_is_decided_and_confirmed_once_wherever_it_is_killed() {
    let is_decision = |event: &&RolloutEvent| matches!(event, RolloutEvent::RollbackDecided { .. });
    let is_outcome = |event: &&RolloutEvent| matches!(event, RolloutEvent::RolledBack { .. });
    let mut ends_at = 0;
    for killed_after in 0..20 {
        let mut world = World::new(specs()[0].clone());
        world.command(Command::Start, "ann", "").unwrap();
        let _ = world.tick();
        world.traffic(1_000, 99_000);
        world.events("errors", 0, 30, 60);
        let made = world.make_plan();
        assert_eq!(made.verdict, Verdict::Harmed, "{made:?}");
        let mut effect = world.submit(&made);
        let mut done = 0;
        while let Some(current) = effect.take_if(|_| done < killed_after) {
            let event = world.run(&current, Fault::None);
            effect = world.feed(event);
            done += 1;
        }
        let records = world.stop_ids;
        for _ in 0..2 {
            let left = world.restart();
            world.settle(left);
        }
        if records == 0 {
            // Killed before anything was on disk: the next look decides anew.
            let _ = world.tick();
        }
        let count = |kind: &dyn Fn(&&RolloutEvent) -> bool| world.log.iter().filter(kind).count();
        assert_eq!(
            count(&is_decision),
            1,
            "killed after {killed_after} effects"
        );
        assert_eq!(count(&is_outcome), 1, "killed after {killed_after} effects");
        assert_eq!(world.stop_ids, 1, "killed after {killed_after} effects");
        assert_eq!(world.served(), BasisPoints::ZERO);
        ends_at = ends_at.max(done);
    }
    assert!(
        ends_at >= 6,
        "every step of a rollback was reached: {ends_at}"
    );
}

struct History {
    world: World,
    draw: Draw,
    seed: u64,
    is_harmful: bool,
    /// Flag changes whose request was thought lost and may still land.
    delayed: Vec<Change>,
    /// Snapshots published earlier, to be served again as stale or duplicate.
    older: Vec<Observations>,
    writes_checked: usize,
    /// Whether a stop is served from memory alone because the disk refused it.
    stop_is_volatile: bool,
}

impl History {
    fn new(spec: RolloutSpec, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let is_harmful = draw.happens(0.4);
        Self {
            world: World::new(spec),
            draw,
            seed,
            is_harmful,
            delayed: Vec::new(),
            older: Vec::new(),
            writes_checked: 0,
            stop_is_volatile: false,
        }
    }

    fn play(&mut self) {
        self.world.command(Command::Start, "ann", "").unwrap();
        for _ in 0..30 {
            self.disturb();
            self.pass_time();
            self.plan_and_apply();
        }
        self.calm_down();
        self.check_replay();
    }

    /// People and the world do things.
    fn disturb(&mut self) {
        let before = self.world.served();
        match self.draw.below(60) {
            0 => self.say(Command::Pause),
            1..=4 => self.say(Command::Resume),
            5..=9 => {
                let stage = usize::try_from(self.draw.below(5)).unwrap();
                self.say(Command::Approve { stage });
            }
            10 => self.say(Command::Abort),
            11 => self.emergency_stop(),
            12 => self.foreign_edit(),
            13..=15 => {
                let share_bp = self.world.flag_bp;
                self.say(Command::SettleForeignEdit { share_bp });
            }
            16 => self.retry(),
            17..=18 => self.set_source(&SourceStatus::Failed {
                query: "q".to_owned(),
                response: "503".to_owned(),
            }),
            19..=23 => self.set_source(&SourceStatus::Ok),
            24 => self.world.clock_us += 3_600 * SECOND,
            25 => self.world.clock_us -= 3_600 * SECOND,
            26..=27 => self.land_delayed(),
            28 => self.crash(before),
            _ => {}
        }
        self.check("after a disturbance");
    }

    fn say(&mut self, command: Command) {
        // A refusal is an answer; that refused commands change nothing is checked with everything else.
        let _ = self.world.command(command, "ann", "because");
    }

    fn retry(&mut self) {
        let is_settled = self.world.stop_record.is_none() && !self.world.stop_served;
        if is_settled && self.world.flag_bp == BasisPoints::ZERO {
            self.say(Command::Retry {
                redraws_units: false,
            });
        }
    }

    fn emergency_stop(&mut self) {
        if matches!(
            self.world.state.lifecycle,
            Lifecycle::RolledBack { .. } | Lifecycle::Draft
        ) {
            return;
        }
        let (step, share_bp) = (self.world.state.steps + 1, self.world.state.share_bp);
        let event = ExecutorEvent::EmergencyStop {
            who: "bob".to_owned(),
            why: "smoke".to_owned(),
            step,
            share_bp,
        };
        let was_rolling_back = self.world.executor.is_rolling_back();
        let effect = self.world.feed(event);
        assert!(
            effect.is_some() || was_rolling_back,
            "seed {}: a stop was ignored",
            self.seed
        );
        self.carry_out(effect);
    }

    fn foreign_edit(&mut self) {
        if self.world.state.lifecycle != Lifecycle::Running || self.world.stop_served {
            return;
        }
        let found_bp = BasisPoints::new(u16::try_from(self.draw.below(3_000)).unwrap()).unwrap();
        self.world.flag_bp = found_bp;
        let at_us = self.world.clock_us;
        self.world.append(RolloutEvent::ForeignEdit {
            at_us,
            found_bp,
            who: "ivan".to_owned(),
        });
    }

    fn set_source(&mut self, status: &SourceStatus) {
        for guard in &mut self.world.observations.guards {
            guard.source = status.clone();
        }
    }

    /// A request that was thought lost arrives after all.
    fn land_delayed(&mut self) {
        let Some(change) = self.delayed.pop() else {
            return;
        };
        self.world.run(&Effect::ApplyChange(change), Fault::None);
    }

    fn crash(&mut self, served_before: BasisPoints) {
        let effect = self.world.restart();
        if !self.stop_is_volatile {
            assert!(
                self.world.served() <= served_before,
                "seed {}: a restart raised {served_before} to {}",
                self.seed,
                self.world.served()
            );
        }
        self.stop_is_volatile = false;
        self.carry_out(effect);
    }

    /// Time, traffic and failures; the lake may be late, or repeat an old snapshot.
    fn pass_time(&mut self) {
        self.world.clock_us += i64::try_from(1 + self.draw.below(30)).unwrap() * SECOND;
        let share = self
            .world
            .observations
            .phases
            .last()
            .map_or(0.0, |p| p.treatment_bp.fraction());
        if share > 0.0 && self.draw.happens(0.9) {
            let (treatment, control) = (
                self.draw.poisson(1_000.0 * share),
                self.draw.poisson(1_000.0 * (1.0 - share)),
            );
            self.world.traffic(treatment, control);
            let factor = if self.is_harmful { 4.0 } else { 1.0 };
            let failing = |draw: &mut Draw, units: u64, rate: f64| {
                #[expect(clippy::cast_precision_loss, reason = "small counts")]
                let mean = units as f64 * rate;
                draw.poisson(mean).min(units)
            };
            let failed_treatment = failing(&mut self.draw, treatment, 0.01 * factor);
            let failed_control = failing(&mut self.draw, control, 0.01);
            self.world
                .events("errors", 0, failed_treatment, failed_control);
            self.world
                .events("latency", 0, treatment / 100, control / 100);
        } else {
            self.world.refresh();
        }
    }

    fn plan_and_apply(&mut self) {
        let current = self.world.observations.clone();
        if self.draw.happens(0.05)
            && let Some(stale) = self.older.pop()
        {
            self.world.observations = stale;
        }
        let made = self.world.make_plan();
        self.world.observations = current.clone();
        if self.draw.happens(0.1) {
            self.older.push(current);
        }
        let effect = self.world.submit(&made);
        self.carry_out(effect);
    }

    /// Runs effects one by one; any of them may fail in any way, and the process may die around any of them.
    fn carry_out(&mut self, mut effect: Option<Effect>) {
        for _ in 0..40 {
            let Some(current) = effect else { return };
            if self.draw.happens(0.03) {
                let before = self.world.served();
                return self.crash(before);
            }
            let fault = match self.draw.below(20) {
                0 => Fault::Refused,
                1 => Fault::AnswerLost,
                2 => Fault::RequestLost,
                _ => Fault::None,
            };
            if let (Effect::ApplyChange(change), Fault::RequestLost) = (&current, fault) {
                self.delayed.push(change.clone());
            }
            if matches!(current, Effect::WriteStopRecord(_)) {
                self.stop_is_volatile = !matches!(fault, Fault::None | Fault::AnswerLost);
            }
            let event = self.world.run(&current, fault);
            self.check("after an effect");
            if matches!(current, Effect::WriteStopRecord(_)) {
                assert_eq!(
                    self.world.served(),
                    BasisPoints::ZERO,
                    "seed {}: (h)",
                    self.seed
                );
            }
            if self.draw.happens(0.03) {
                let before = self.world.served();
                return self.crash(before);
            }
            effect = self.world.feed(event);
        }
        // The edge gives up for now; a restart resumes what is open.
        let before = self.world.served();
        if self.world.restart().is_some() {
            assert!(
                self.stop_is_volatile || self.world.served() <= before,
                "seed {}",
                self.seed
            );
        }
    }

    /// Properties that hold at every moment.
    fn check(&mut self, when: &str) {
        let world = &self.world;
        for (from, to, is_rollback) in &world.writes[self.writes_checked..] {
            let verdict = world.state.last_verdict;
            if *is_rollback {
                assert_eq!(*to, BasisPoints::ZERO, "seed {} {when}: (c)", self.seed);
                continue;
            }
            assert!(
                to >= from,
                "seed {} {when}: (a) a step lowers the share",
                self.seed
            );
            let reaches = |action: &Action| match action {
                Action::SetShare { to_bp, .. } | Action::Complete { to_bp, .. } => to_bp == to,
                _ => false,
            };
            let made = world.last_plan.as_ref().expect("a step has a plan");
            assert!(
                made.actions.iter().any(reaches),
                "seed {} {when}: (a) unplanned",
                self.seed
            );
            let first = *from == BasisPoints::ZERO;
            let may_raise = verdict.is_some_and(Verdict::allows_raise);
            assert!(
                may_raise || first,
                "seed {} {when}: (b) {verdict:?}",
                self.seed
            );
            assert!(
                matches!(
                    world.state.lifecycle,
                    Lifecycle::Running | Lifecycle::Completed
                ),
                "seed {} {when}: (c), (h) raised while {:?}",
                self.seed,
                world.state.lifecycle
            );
        }
        self.writes_checked = world.writes.len();
        for phase in &world.observations.phases {
            let sum = phase.treatment_bp.get() + phase.control_bp.get();
            assert_eq!(sum, 10_000, "seed {} {when}: (e)", self.seed);
        }
        let begun = world
            .log
            .iter()
            .rposition(|event| matches!(event, RolloutEvent::Retried { .. }));
        let decided = world.log[begun.unwrap_or(0)..]
            .iter()
            .filter(|event| matches!(event, RolloutEvent::RollbackDecided { .. }))
            .count();
        assert!(
            decided <= 1,
            "seed {} {when}: (f) decided {decided} times",
            self.seed
        );
        let raises: Vec<u64> = world
            .log
            .iter()
            .filter_map(|event| match event {
                RolloutEvent::Intended { step, .. } => Some(*step),
                _ => None,
            })
            .collect();
        assert!(
            raises.windows(2).all(|pair| pair[0] <= pair[1]),
            "seed {}: (f)",
            self.seed
        );
    }

    /// Faults stop and people answer: the rollout ends, and its share is what its end says.
    fn calm_down(&mut self) {
        while let Some(change) = self.delayed.pop() {
            self.world.run(&Effect::ApplyChange(change), Fault::None);
            self.check("after a late arrival");
        }
        let effect = self.world.restart();
        self.world.settle(effect);
        self.set_source(&SourceStatus::Ok);
        self.world.clock_us = self
            .world
            .clock_us
            .max(self.world.state.log_time_us.unwrap_or(0));
        for _ in 0..150 {
            if self.world.state.is_terminal() {
                break;
            }
            if self.needs_a_person() {
                self.say(Command::Abort);
            }
            for stage in 0..=self.world.spec.stages.len() {
                self.say(Command::Approve { stage });
            }
            self.say(Command::Resume);
            self.pass_time();
            self.world.clock_us += 60 * SECOND;
            self.world.refresh();
            let _ = self.world.tick();
            self.check("in calm");
        }
        let world = &self.world;
        match &world.state.lifecycle {
            Lifecycle::RolledBack { .. } => {
                assert_eq!(world.served(), BasisPoints::ZERO, "seed {}: (c)", self.seed);
                assert_eq!(
                    world.stop_record, None,
                    "seed {}: a record is left",
                    self.seed
                );
            }
            Lifecycle::Completed => {
                assert_eq!(world.served(), world.state.share_bp, "seed {}", self.seed);
            }
            other => {
                let last = world.last_plan.as_ref().map(|p| p.report.sentence.clone());
                panic!("seed {}: (g) never ends: {other:?}, {last:?}", self.seed);
            }
        }
    }

    /// Somebody is paged who can only end it: the flag left the plan, or the deadline passed.
    fn needs_a_person(&self) -> bool {
        self.world.last_plan.as_ref().is_some_and(|made| {
            let outside = |wait: &Wait| matches!(wait, Wait::ForeignEdit { .. });
            let overdue = |action: &Action| {
                matches!(action, Action::Page { reason } if reason.contains("deadline"))
            };
            made.report.waiting_for.iter().any(outside) || made.actions.iter().any(overdue)
        })
    }

    /// Replaying the log gives the state, and replaying stored inputs gives the stored bytes.
    fn check_replay(&mut self) {
        let world = &self.world;
        let folded = RolloutState::fold(&world.spec, &world.log);
        assert_eq!(
            canonical_bytes(&folded),
            canonical_bytes(&world.state),
            "seed {}",
            self.seed
        );
        let count = u64::try_from(world.stored.len()).unwrap();
        for _ in 0..3 {
            let pick = usize::try_from(self.draw.below(count)).unwrap();
            let (entries, observations, now_us, bytes) = &world.stored[pick];
            let state = RolloutState::fold(&world.spec, &world.log[..*entries]);
            let again = plan(&world.spec, &state, observations, *now_us);
            assert_eq!(&again.canonical_bytes(), bytes, "seed {}: (i)", self.seed);
        }
    }
}
