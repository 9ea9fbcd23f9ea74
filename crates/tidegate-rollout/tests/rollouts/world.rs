//! A modelled world around the planner and the executor: log, flag store, stop file, observations, clock.
//!
//! Scenarios drive it step by step; histories drive it at random with faults between any two effects.

use std::collections::BTreeSet;

use tidegate_rollout::command::{self, Command};
use tidegate_rollout::evidence::BAKE_PERIODS;
use tidegate_rollout::executor::{Change, Effect, EffectKey, ExecutorEvent, ExecutorState};
use tidegate_rollout::{
    Action, ArmCounts, BasisPoints, GuardObservation, Measured, Observations, Phase, Plan,
    RolloutEvent, RolloutSpec, RolloutState, SourceStatus, plan,
};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const EPOCH: i64 = 1_800_000_000 * SECOND;

/// What survives a crash, and what does not.
pub(crate) struct World {
    pub(crate) spec: RolloutSpec,
    /// Durable: the log.
    pub(crate) log: Vec<RolloutEvent>,
    /// Durable: the flag's share and the keys of the changes applied to it.
    pub(crate) flag_bp: BasisPoints,
    pub(crate) applied: BTreeSet<(u64, u32)>,
    /// Durable: steps whose outcome is in the log.
    pub(crate) confirmed: BTreeSet<u64>,
    pub(crate) writes: Vec<(BasisPoints, BasisPoints, bool)>,
    /// Durable: the stop file.
    pub(crate) stop_record: Option<Change>,
    /// Durable: how many stop records were ever written, the newest one's name.
    pub(crate) stop_ids: u64,
    /// Durable: stops whose decision is in the log.
    pub(crate) decided: BTreeSet<u64>,
    /// Memory: the stop of the rollback under way.
    pub(crate) stop: Option<u64>,
    /// Memory: the overlay that serves control at once.
    pub(crate) stop_served: bool,
    /// Memory: the executor and the folded state.
    pub(crate) executor: ExecutorState,
    pub(crate) state: RolloutState,
    /// What the lake would say.
    pub(crate) observations: Observations,
    pub(crate) clock_us: i64,
    pub(crate) pages: Vec<String>,
    pub(crate) last_plan: Option<Plan>,
    /// Durable: inputs of every stored plan, for replay.
    pub(crate) stored: Vec<(usize, Observations, i64, Vec<u8>)>,
}

/// Faults the next effects meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Nothing happened, and the caller knows.
    Refused,
    /// It happened, and the answer was lost.
    AnswerLost,
    /// It did not happen, and the caller cannot know.
    RequestLost,
}

impl World {
    pub(crate) fn new(spec: RolloutSpec) -> Self {
        let guards = spec
            .guards
            .iter()
            .map(|guard| GuardObservation {
                metric: guard.metric.clone(),
                source: SourceStatus::Ok,
                as_of_us: EPOCH,
                proven: true,
                dropped_samples: 0,
                measured: Measured::FirstEvents { phases: Vec::new() },
            })
            .collect();
        Self {
            spec,
            log: Vec::new(),
            flag_bp: BasisPoints::ZERO,
            applied: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            writes: Vec::new(),
            stop_record: None,
            stop_ids: 0,
            decided: BTreeSet::new(),
            stop: None,
            stop_served: false,
            executor: ExecutorState::Idle,
            state: RolloutState::new(),
            observations: Observations {
                as_of_us: EPOCH,
                guards,
                ..Observations::default()
            },
            clock_us: EPOCH,
            pages: Vec::new(),
            last_plan: None,
            stored: Vec::new(),
        }
    }

    /// The share users get.
    pub(crate) fn served(&self) -> BasisPoints {
        if self.stop_served {
            BasisPoints::ZERO
        } else {
            self.flag_bp
        }
    }

    pub(crate) fn append(&mut self, event: RolloutEvent) {
        self.state = self.state.clone().apply(&self.spec, &event);
        self.log.push(event);
    }

    pub(crate) fn command(&mut self, command: Command, who: &str, why: &str) -> Result<(), String> {
        let event = command::admit(&self.spec, &self.state, command, (who, why), self.clock_us)
            .map_err(|error| error.to_string())?;
        let is_retry = matches!(event, RolloutEvent::Retried { .. });
        let settled = match &event {
            RolloutEvent::ForeignEditSettled { share_bp, .. } => Some(*share_bp),
            _ => None,
        };
        self.append(event);
        if let Some(share) = settled {
            self.open_phase(share);
        }
        if is_retry {
            self.observations.phases.clear();
            self.each_counts(|counts| counts.clear());
        }
        Ok(())
    }

    /// Makes and stores a plan; returns it.
    pub(crate) fn make_plan(&mut self) -> Plan {
        let made = plan(&self.spec, &self.state, &self.observations, self.clock_us);
        let inputs = (self.log.len(), self.observations.clone(), self.clock_us);
        self.stored
            .push((inputs.0, inputs.1, inputs.2, made.canonical_bytes()));
        let event = RolloutEvent::Evidence {
            at_us: made.now_us,
            watermark: self.observations.watermark,
            plan: made.digest(),
            verdict: made.verdict,
            monitored: made.monitored,
        };
        self.append(event);
        self.last_plan = Some(made.clone());
        made
    }

    /// Hands the plan's first action to the executor, if the plan is current.
    pub(crate) fn submit(&mut self, made: &Plan) -> Option<Effect> {
        let action = made
            .actions
            .first()
            .cloned()
            .filter(|_| made.is_current(&self.state))?;
        let is_step = matches!(
            action,
            Action::SetShare { .. } | Action::RollBack { .. } | Action::Complete { .. }
        );
        if !is_step {
            return None;
        }
        let (step, share_bp) = (self.state.steps + 1, self.state.share_bp);
        self.feed(ExecutorEvent::Planned {
            action,
            plan: made.digest(),
            step,
            share_bp,
        })
    }

    pub(crate) fn feed(&mut self, event: ExecutorEvent) -> Option<Effect> {
        let before = std::mem::replace(&mut self.executor, ExecutorState::Idle);
        let (after, effect) = before.step(event);
        self.executor = after;
        effect
    }

    /// Runs one effect against the durable world; a fault decides what the caller learns.
    pub(crate) fn run(&mut self, effect: &Effect, fault: Fault) -> ExecutorEvent {
        let happens = matches!(fault, Fault::None | Fault::AnswerLost);
        // A stop is served from memory whatever the disk says.
        if let Effect::WriteStopRecord(change) = effect {
            self.stop_served = true;
            // A stop that says what a pending one says is that one.
            if self.stop_record.is_none() {
                self.stop_ids += 1;
            }
            self.stop = Some(self.stop_ids);
            self.pages.push(format!(
                "served control at once for step {}",
                change.key.step
            ));
        }
        let outcome = if happens { self.perform(effect) } else { None };
        match (fault, outcome) {
            (Fault::None, Some(event)) => event,
            (Fault::Refused, _) => ExecutorEvent::Failed {
                certainly_not_applied: true,
            },
            _ => ExecutorEvent::Failed {
                certainly_not_applied: false,
            },
        }
    }

    fn perform(&mut self, effect: &Effect) -> Option<ExecutorEvent> {
        let at_us = self.state.at_or_after_log(self.clock_us);
        match effect {
            Effect::WriteStopRecord(change) => self.stop_record = Some(change.clone()),
            Effect::LogIntent(change) => {
                // The decision of a stop is keyed by the stop, so a repeated effect writes nothing.
                let own = self.stop.filter(|_| change.purpose.is_rollback());
                if own.is_some_and(|stop| !self.decided.insert(stop)) {
                    return Some(ExecutorEvent::Done);
                }
                if let Some(event) = change.intent_event(at_us) {
                    self.append(event);
                }
            }
            Effect::ApplyChange(change) => return self.apply(change),
            Effect::ReadBack => {
                return Some(ExecutorEvent::Served {
                    share_bp: self.flag_bp,
                });
            }
            Effect::LogOutcome(change) => {
                // Log entries are keyed by step, so a repeated effect writes nothing.
                if !self.confirmed.insert(change.key.step) {
                    return Some(ExecutorEvent::Done);
                }
                let event = change.outcome_event(at_us);
                self.append(event);
                if let Some(share) = (!change.purpose.is_rollback()).then_some(change.to_bp) {
                    self.open_phase(share);
                }
            }
            Effect::LogAbandoned(change) => self.append(change.abandoned_event(at_us)),
            Effect::ClearStopRecord => {
                self.stop_record = None;
                self.stop_served = false;
            }
            Effect::LogForeignEdit { found_bp } => self.append(RolloutEvent::ForeignEdit {
                at_us,
                found_bp: *found_bp,
                who: "somebody".to_owned(),
            }),
            Effect::Page { change } => {
                self.pages
                    .push(format!("step {} could not be written", change.key.step));
            }
        }
        Some(ExecutorEvent::Done)
    }

    /// The ordinary flag change: keyed, and conditional on the share expected to be found.
    fn apply(&mut self, change: &Change) -> Option<ExecutorEvent> {
        let EffectKey { step, attempt } = change.key;
        let is_rollback = change.purpose.is_rollback();
        if self.applied.contains(&(step, attempt)) {
            return Some(ExecutorEvent::Done);
        }
        let durable = RolloutState::fold(&self.spec, &self.log);
        if !change.may_apply(&durable, self.flag_bp) {
            return Some(ExecutorEvent::Failed {
                certainly_not_applied: false,
            });
        }
        self.applied.insert((step, attempt));
        if self.flag_bp != change.to_bp {
            self.writes.push((self.flag_bp, change.to_bp, is_rollback));
        }
        self.flag_bp = change.to_bp;
        Some(ExecutorEvent::Done)
    }

    /// Loses what is in memory, then recovers as the server would: overlay first, then the log.
    pub(crate) fn restart(&mut self) -> Option<Effect> {
        self.stop_served = self.stop_record.is_some();
        self.stop = self.stop_record.is_some().then_some(self.stop_ids);
        self.state = RolloutState::fold(&self.spec, &self.log);
        self.executor = ExecutorState::Idle;
        let event = ExecutorEvent::after_restart(&self.state, self.stop_record.clone());
        self.feed(event)
    }

    /// Runs effects until the executor asks for nothing more.
    pub(crate) fn settle(&mut self, mut effect: Option<Effect>) {
        for _ in 0..100 {
            let Some(current) = effect else { return };
            let event = self.run(&current, Fault::None);
            effect = self.feed(event);
        }
        panic!("the executor does not come to rest: {:?}", self.executor);
    }

    /// Plans once and carries the plan out.
    pub(crate) fn tick(&mut self) -> Plan {
        let made = self.make_plan();
        let effect = self.submit(&made);
        self.settle(effect);
        made
    }

    pub(crate) fn open_phase(&mut self, share_bp: BasisPoints) {
        self.observations.phases.push(Phase {
            treatment_bp: share_bp,
            control_bp: share_bp.complement(),
            started_us: self.clock_us.max(
                self.observations
                    .phases
                    .last()
                    .map_or(i64::MIN, |phase| phase.started_us),
            ),
            units: ArmCounts::default(),
            exposed: ArmCounts::default(),
        });
        self.each_counts(|counts| counts.push(ArmCounts::default()));
    }

    fn each_counts(&mut self, change: impl Fn(&mut Vec<ArmCounts>)) {
        for guard in &mut self.observations.guards {
            match &mut guard.measured {
                Measured::FirstEvents { phases } => change(phases),
                Measured::LatencyLadder { rungs } => {
                    rungs.iter_mut().for_each(|rung| change(&mut rung.slow));
                }
                _ => {}
            }
        }
    }

    /// Begins the periods of a bake that are due, as the server does when events come.
    fn begin_periods(&mut self) {
        let Some(length_us) = self.spec.bake_period_us() else {
            return;
        };
        loop {
            let phases = self.observations.phases.iter().rev();
            let baking: Vec<&Phase> = phases
                .take_while(|phase| self.spec.bakes_at(phase.treatment_bp))
                .collect();
            let (Some(newest), begun) = (baking.first(), baking.len()) else {
                return;
            };
            let (share_bp, due_us) = (newest.treatment_bp, newest.started_us + length_us);
            if begun >= BAKE_PERIODS || due_us > self.clock_us {
                return;
            }
            self.open_phase(share_bp);
            if let Some(phase) = self.observations.phases.last_mut() {
                phase.started_us = due_us;
            }
        }
    }

    /// New units arrive in both arms.
    pub(crate) fn traffic(&mut self, treatment: u64, control: u64) {
        self.begin_periods();
        let new = ArmCounts { treatment, control };
        self.observations.watermark += 1;
        self.observations.last_unit_us = Some(self.clock_us);
        if let Some(phase) = self.observations.phases.last_mut() {
            phase.units = ArmCounts::sum([&phase.units, &new]);
            phase.exposed = ArmCounts::sum([&phase.exposed, &new]);
        }
        self.refresh();
    }

    /// Every answering source is complete up to now.
    pub(crate) fn refresh(&mut self) {
        self.observations.as_of_us = self.clock_us;
        for guard in &mut self.observations.guards {
            if guard.source == SourceStatus::Ok {
                guard.as_of_us = self.clock_us;
            }
        }
    }

    /// Units fail (or are slow at a rung) for the first time.
    pub(crate) fn events(&mut self, metric: &str, rung_index: usize, treatment: u64, control: u64) {
        let new = ArmCounts { treatment, control };
        let guard = self
            .observations
            .guards
            .iter_mut()
            .find(|guard| guard.metric == metric);
        let counts = match guard.map(|guard| &mut guard.measured) {
            Some(Measured::FirstEvents { phases }) => phases.last_mut(),
            Some(Measured::LatencyLadder { rungs }) => rungs
                .get_mut(rung_index)
                .and_then(|rung| rung.slow.last_mut()),
            _ => None,
        };
        if let Some(counts) = counts {
            *counts = ArmCounts::sum([&*counts, &new]);
        }
    }
}
