//! One look at one rollout: observe, plan, write down, act.
//!
//! Whoever looks holds the rollout alone ([`super::rounds`]), so a plan is always applied to the
//! state it was made from. What people ask for is answered when it is written down.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_lake::LogHealth;
use tidegate_metrics::unit_hash;
use tidegate_rollout::command::{Command, admit};
use tidegate_rollout::evidence::IntervalMemo;
use tidegate_rollout::executor::{ExecutorEvent, ExecutorState};
use tidegate_rollout::{
    Action, ArmCounts, GuardObservation, Measured, Observations, Plan, RolloutEvent, RolloutSpec,
    RolloutState, SourceStatus, Verdict, Wait, next_look_us, plan_again,
};
use tidegate_store::{ObjectKind, ProjectKey, StopId};

use super::journal::{self, Entry};
use super::start::read;
use super::times::{self, RollbackTimes};
use super::watch::{BASELINE_REQUESTS, Watch};
use super::watches::Evidence;
use super::{Ask, Name, Standing, effects};
use crate::app::objects::{self, Place};
use crate::app::{App, AppError};
use crate::hooks::Hooks;
use crate::hooks::ask::Question;

/// How often an unchanged verdict is written down.
const EVIDENCE_EVERY_US: i64 = 60_000_000;
/// How soon a rollback that cannot be made ordinary yet is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// A rollout in the hands of whoever looks at it.
pub(super) struct Active {
    pub(super) name: Name,
    pub(super) project: ProjectKey,
    pub(super) spec: RolloutSpec,
    pub(super) state: RolloutState,
    pub(super) executor: ExecutorState,
    /// The stop record of the rollback under way.
    pub(super) stop: Option<StopId>,
    /// What the executor of a rollback is to be told at the next look.
    parked: Option<ExecutorEvent>,
    waiting: VecDeque<Entry>,
    /// How many log entries the state is a fold of.
    pub(super) log_length: u64,
    /// The minute in which the verdict was last written down, counted as [`minute`] does.
    evidence_minute: i64,
    memo: IntervalMemo,
    /// When each step of the rollback under way, or of the last one, happened.
    pub(super) times: Option<RollbackTimes>,
    /// Whether these times are kept.
    pub(super) times_are_kept: bool,
}

/// What follows from a look for the next one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Next {
    /// When time alone may change something, by the monotonic clock.
    pub(super) due: Duration,
    /// Whether it waits for units to come, so that new ones are news.
    pub(super) waits_for_units: bool,
    /// What observing and planning took.
    pub(super) took: Duration,
}

/// Which minute of its own a rollout is in: the minutes of a thousand rollouts do not begin together.
fn minute(name: &Name, now_us: i64) -> i64 {
    let own = unit_hash(&name.1) % EVIDENCE_EVERY_US.unsigned_abs();
    let offset_us = i64::try_from(own).unwrap_or_default();
    now_us
        .saturating_add(offset_us)
        .div_euclid(EVIDENCE_EVERY_US)
}

impl Active {
    /// A rollout whose log, folded to its state, is `log`.
    pub(super) fn new(
        name: Name,
        project: ProjectKey,
        spec: RolloutSpec,
        log: &[RolloutEvent],
    ) -> Self {
        let state = RolloutState::fold(&spec, log);
        let log_length = u64::try_from(log.len()).unwrap_or(u64::MAX);
        Self {
            name,
            project,
            spec,
            state,
            executor: ExecutorState::Idle,
            stop: None,
            parked: None,
            waiting: VecDeque::new(),
            log_length,
            evidence_minute: 0,
            memo: IntervalMemo::default(),
            times: None,
            times_are_kept: true,
        }
    }

    /// Folds an event into the state and queues it for the log.
    pub(super) fn note(&mut self, event: RolloutEvent, stop: Option<String>) {
        let share_before_bp = u16::from(self.state.share_bp);
        self.state = self.state.clone().apply(&self.spec, &event);
        self.waiting.push_back(Entry {
            event,
            stop,
            share_before_bp,
        });
        self.log_length += 1;
    }

    /// Writes an event down and only then folds it into the state: what was refused never acts.
    async fn note_durably(&mut self, app: &App, event: RolloutEvent) -> Result<(), AppError> {
        let refused =
            |error: tidegate_store::StoreError| objects::refusal(&error, "the rollout's log");
        self.flush(app).await.map_err(refused)?;
        let entry = Entry {
            event: event.clone(),
            stop: None,
            share_before_bp: u16::from(self.state.share_bp),
        };
        journal::append(app, (&self.project, &self.name.1), self.log_length, &entry)
            .await
            .map_err(refused)?;
        self.state = self.state.clone().apply(&self.spec, &event);
        self.log_length += 1;
        Ok(())
    }

    /// Writes down what waits, as far as storage takes it at once: other rollouts are waiting for
    /// their look. An entry has its position as identity, so one whose answer was not waited for is
    /// written again without doubling it.
    pub(super) async fn flush_briefly(&mut self, app: &App) {
        let name = self.name.1.clone();
        match tokio::time::timeout(journal::KEEP_WAIT, self.flush(app)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, rollout = %name, "the rollout's log waits for storage");
            }
            Err(_) => tracing::warn!(rollout = %name, "the rollout's log waits for storage"),
        }
    }

    /// Writes down what waits, in order.
    ///
    /// # Errors
    /// Storage's refusal; what was not written still waits.
    pub(super) async fn flush(&mut self, app: &App) -> Result<(), tidegate_store::StoreError> {
        let from = self.log_length - u64::try_from(self.waiting.len()).unwrap_or(0);
        journal::flush(app, (&self.project, &self.name.1), from, &mut self.waiting).await
    }
}

/// Does what a person asked of a rollout.
///
/// # Errors
/// What was asked does not make sense now, or could not be written down.
pub(super) async fn obey(app: &App, rollout: &mut Active, ask: &Ask) -> Result<Next, AppError> {
    let now_us = app.clock.now_us();
    if let Command::EmergencyStop = ask.command {
        let event = ExecutorEvent::EmergencyStop {
            who: ask.who.clone(),
            why: ask.why.clone(),
            step: rollout.state.steps + 1,
            share_bp: rollout.state.share_bp,
        };
        if !rollout.executor.is_rolling_back() {
            rollout.decide_at(None, rollout.state.watermark, (now_us, now_us));
        }
        run_effects(app, rollout, event).await;
    } else {
        let by = (ask.who.as_str(), ask.why.as_str());
        let event = admit(&rollout.spec, &rollout.state, ask.command, by, now_us)
            .map_err(|error| AppError::Conflict(format!("cannot {error}")))?;
        if matches!(ask.command, Command::Start | Command::Retry { .. }) {
            super::watch_again(app, rollout, event.at_us());
        }
        if ask.command.lowers_exposure() {
            // Served first, written when storage takes it.
            rollout.note(event, None);
        } else {
            rollout.note_durably(app, event).await?;
        }
    }
    Ok(look(app, rollout).await)
}

/// How a rollout stands that was just looked at.
///
/// # Errors
/// It has no standing, which cannot be.
pub(super) fn standing(app: &App, name: &Name) -> Result<Standing, AppError> {
    app.rollouts.standing(&name.0, &name.1).ok_or_else(|| {
        AppError::Internal("a rollout that was looked at has no standing".to_owned())
    })
}

/// Reads a rollout and its log.
pub(super) async fn load(app: &App, name: &Name) -> Result<Active, AppError> {
    let place = Place::parse(&name.0, ObjectKind::Rollout, &name.1)?;
    let spec = read(&objects::read(app, &place).await?.spec)?;
    let refused = |error| objects::refusal(&error, "the rollout's log");
    let store = app.store().map_err(refused)?;
    let log = journal::read(store, &place.project, &name.1)
        .await
        .map_err(refused)?;
    Ok(Active::new(name.clone(), place.project, spec, &log))
}

/// One look at one rollout, and what follows from it.
pub(super) async fn look(app: &App, rollout: &mut Active) -> Next {
    if let Some(event) = rollout.parked.take() {
        run_effects(app, rollout, event).await;
    }
    let began = app.clock.monotonic();
    let now_us = app.clock.now_us();
    note_foreign_edit(app, rollout, now_us).await;
    let (observations, unseen) = observe(app, rollout, now_us);
    let plan = plan_again(
        &rollout.spec,
        &rollout.state,
        &observations,
        now_us,
        &mut rollout.memo,
    );
    let took = app.clock.monotonic().saturating_sub(began);
    app.rollouts.meters.looked(took);
    if let Some(evidence) = unseen {
        let wait_us = now_us.saturating_sub(evidence.counted_us);
        app.rollouts.meters.waited(wait_us);
    }
    let made_from = (&observations, rollout.log_length);
    let acts = plan.actions.iter().any(|action| {
        matches!(
            action,
            Action::SetShare { .. } | Action::RollBack { .. } | Action::Complete { .. }
        )
    });
    let shuts = plan
        .actions
        .iter()
        .any(|action| matches!(action, Action::RollBack { .. }));
    if shuts {
        if !rollout.executor.is_rolling_back() {
            let moments = (now_us, app.clock.now_us());
            rollout.decide_at(unseen, observations.watermark, moments);
        }
        // Nothing, and no disk least of all, comes before taking a change back.
        app.rollouts.put_standing(rollout, plan.clone());
        act(app, rollout, &plan).await;
    }
    let is_news = rollout.state.last_verdict != Some(plan.verdict);
    let minute = minute(&rollout.name, now_us);
    // One that has ended is looked at only until all of its log is written.
    let is_due = minute != rollout.evidence_minute && !rollout.state.is_terminal();
    if acts || is_news || is_due {
        rollout.evidence_minute = minute;
        let evidence = RolloutEvent::Evidence {
            at_us: now_us,
            watermark: observations.watermark,
            plan: plan.digest(),
            verdict: plan.verdict,
            monitored: plan.monitored,
        };
        journal::keep_plan(app, rollout, made_from, &plan).await;
        rollout.note(evidence, None);
    }
    if !shuts {
        app.rollouts.put_standing(rollout, plan.clone());
        act(app, rollout, &plan).await;
    }
    let next = rollout.next(app, &observations, &plan, took);
    if shuts {
        app.rollouts.put_standing(rollout, plan);
    }
    let hooks = app.operations.hooks.waiting(&rollout.name);
    app.rollouts.refresh_standing(rollout, hooks);
    rollout.flush_briefly(app).await;
    keep_times(app, rollout).await;
    next
}

/// Keeps when each step of a confirmed rollback happened, and tells the log of the server.
async fn keep_times(app: &App, rollout: &mut Active) {
    let Some(times) = rollout
        .times
        .as_ref()
        .filter(|times| !rollout.times_are_kept && times.confirmed_us.is_some())
    else {
        return;
    };
    let kept =
        async { times::keep(app.store()?, (&rollout.project, &rollout.name.1), times).await };
    match tokio::time::timeout(journal::KEEP_WAIT, kept).await {
        Ok(Ok(())) => {
            tracing::info!(
                rollout = %rollout.name.1, deciding_sequence = times.deciding_sequence,
                counted_us = times.counted_us, decided_us = times.decided_us,
                served_us = times.served_us, confirmed_us = times.confirmed_us,
                "rolled back"
            );
            rollout.times_are_kept = true;
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, rollout = %rollout.name.1, "a rollback's times were not kept");
            rollout.times_are_kept = true;
        }
        // Storage is busy with the rollback itself; a restart would lose no more than these times.
        Err(_) => rollout.times_are_kept = true,
    }
}

impl Active {
    /// Notes that a rollback was decided, and on what.
    fn decide_at(&mut self, evidence: Option<Evidence>, watermark: u64, moments: (i64, i64)) {
        self.times = Some(RollbackTimes::decided(evidence, watermark, moments));
        self.times_are_kept = false;
    }

    /// What follows from a plan for the next look.
    fn next(&self, app: &App, observations: &Observations, plan: &Plan, took: Duration) -> Next {
        let (now_us, now) = (app.clock.now_us(), app.clock.monotonic());
        let due_us = next_look_us(&self.spec, &self.state, observations, plan);
        let wait_us = u64::try_from(due_us.saturating_sub(now_us)).unwrap_or_default();
        let mut due_in = Duration::from_micros(wait_us);
        if self.parked.is_some() || !self.waiting.is_empty() {
            due_in = due_in.min(TRY_AGAIN);
        }
        // An action was taken: what follows from it is seen at once.
        if self.state.last_plan != plan.parent && plan.actions.iter().any(|a| *a != Action::Hold) {
            due_in = due_in.min(TRY_AGAIN);
        }
        let is_for_units = |wait: &Wait| {
            matches!(
                wait,
                Wait::Units { .. } | Wait::Events { .. } | Wait::Data { .. }
            )
        };
        Next {
            due: now + due_in,
            waits_for_units: plan.verdict == Verdict::NoData
                || plan.report.waiting_for.iter().any(is_for_units),
            took,
        }
    }

    /// Whether nothing more will happen without a person.
    pub(super) fn has_ended(&self) -> bool {
        self.state.is_terminal() && self.parked.is_none() && self.waiting.is_empty()
    }
}

/// Hands a plan's actions to the executor. A raise of a killed flag is held: lifting the kill must
/// not find a share that nobody saw.
async fn act(app: &App, rollout: &mut Active, plan: &Plan) {
    let step = rollout.state.steps + 1;
    let share_bp = rollout.state.share_bp;
    let is_killed = effects::is_killed(app, rollout);
    for action in plan.actions.clone() {
        if let Action::Page { reason } = &action {
            tracing::warn!(%reason, rollout = %rollout.name.1, "somebody should look");
        }
        if is_killed && matches!(action, Action::SetShare { .. } | Action::Complete { .. }) {
            continue;
        }
        if let Some(question) = question(rollout, plan, &action)
            && rollout.executor == ExecutorState::Idle
            && !Hooks::allow(app, &question)
        {
            continue;
        }
        let event = ExecutorEvent::Planned {
            action,
            plan: plan.digest(),
            step,
            share_bp,
        };
        run_effects(app, rollout, event).await;
    }
}

/// What hooks are asked before an action: for a raise, and for nothing else.
fn question(rollout: &Active, plan: &Plan, action: &Action) -> Option<Question> {
    let (stage, from_bp, to_bp) = match action {
        Action::SetShare {
            from_bp,
            to_bp,
            stage,
        } => (Some(*stage), *from_bp, *to_bp),
        Action::Complete { from_bp, to_bp } => (None, *from_bp, *to_bp),
        _ => return None,
    };
    (to_bp > from_bp).then(|| Question {
        rollout: rollout.name.clone(),
        flag: rollout.spec.flag.clone(),
        step: rollout.state.steps + 1,
        stage,
        from_bp: from_bp.get(),
        to_bp: to_bp.get(),
        verdict: plan.verdict.to_string(),
        sentence: plan.report.sentence.clone(),
    })
}

/// Steps the executor until it has nothing more to do now.
pub(super) async fn run_effects(app: &App, rollout: &mut Active, first: ExecutorEvent) {
    let mut event = first;
    loop {
        let executor = std::mem::replace(&mut rollout.executor, ExecutorState::Idle);
        let (next, effect) = executor.step(event);
        rollout.executor = next;
        let Some(effect) = effect else { return };
        event = effects::perform(app, rollout, effect).await;
        // A rollback that cannot be made ordinary yet is served already: it is tried again at the
        // next look, so that other rollouts do not wait for it.
        let failed = matches!(event, ExecutorEvent::Failed { .. });
        if failed && rollout.executor.is_rolling_back() {
            rollout.parked = Some(event);
            return;
        }
    }
}

async fn note_foreign_edit(app: &App, rollout: &mut Active, now_us: i64) {
    if rollout.executor != ExecutorState::Idle || rollout.state.foreign_edit.is_some() {
        return;
    }
    // A set that storage has not confirmed may be older than the log; it proves no edit.
    if effects::is_stale(app, rollout) {
        return;
    }
    let Some(found_bp) = effects::served_share(app, rollout) else {
        return;
    };
    if found_bp != rollout.state.share_bp {
        let who = "somebody else".to_owned();
        rollout.note(
            RolloutEvent::ForeignEdit {
                at_us: now_us,
                found_bp,
                who,
            },
            None,
        );
        super::watch_phase(app, rollout, found_bp, now_us);
    }
}

/// What is counted now, and the first of it that no plan has seen.
fn observe(app: &App, rollout: &Active, now_us: i64) -> (Observations, Option<Evidence>) {
    let health = app.events.health_of(&rollout.name.0);
    let seen = app.rollouts.watches.with(&rollout.name, |watched| {
        let unseen = watched.unseen.take();
        let seen = observations_of(&rollout.spec, &watched.watch, &health, now_us);
        (seen, unseen)
    });
    let (seen, unseen) = seen.unwrap_or_default();
    let seen = app
        .rollouts
        .sources
        .overlay(&rollout.name, &rollout.spec, seen);
    (seen, unseen)
}

/// What a watch has counted, as the planner wants it.
pub(super) fn observations_of(
    spec: &RolloutSpec,
    watch: &Watch,
    health: &LogHealth,
    now_us: i64,
) -> Observations {
    let guard = |(index, guard): (usize, &tidegate_rollout::Guard)| GuardObservation {
        metric: guard.metric.clone(),
        source: source(watch, index, health),
        // The log is complete up to now; whether anybody came is the units' business.
        as_of_us: now_us,
        proven: true,
        dropped_samples: 0,
        measured: watch
            .measured(index)
            .unwrap_or_else(|| Measured::FirstEvents {
                phases: vec![ArmCounts::default(); watch.phases().len()],
            }),
    };
    Observations {
        watermark: watch.watermark(),
        as_of_us: now_us,
        last_unit_us: watch.last_unit_us(),
        phases: watch.phases().to_vec(),
        guards: spec.guards.iter().enumerate().map(guard).collect(),
        multiply_exposed_units: 0,
        counts_units_once_over_all_guards: spec.guards.len() == 1,
    }
}

/// Whether the log of events can be asked, and says what can be believed.
fn source(watch: &Watch, index: usize, health: &LogHealth) -> SourceStatus {
    if let LogHealth::ReadOnly { cause } = health {
        let (query, response) = ("the log of events".to_owned(), cause.clone());
        return SourceStatus::Failed { query, response };
    }
    if watch.is_incomplete() {
        let reason = "more units than can be remembered were seen".to_owned();
        return SourceStatus::Untrustworthy { reason };
    }
    if watch.measured(index).is_none() {
        let query = "what latency is usual without the change".to_owned();
        let response = format!("not known yet: {BASELINE_REQUESTS} requests of control are needed");
        return SourceStatus::Failed { query, response };
    }
    SourceStatus::Ok
}
