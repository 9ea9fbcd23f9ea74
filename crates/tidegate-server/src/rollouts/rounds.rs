//! The rounds: which rollout is looked at when, and that none waits for another.
//!
//! A look may wait for storage, so each is a task of its own that takes the rollout away with it and
//! brings it back. While a rollout is away nobody else can plan for it or change it; what people ask
//! of it waits in line. A database that is locked holds up the rollouts that need it, and no other.
//!
//! # When a rollout is looked at
//! - *At once* when a guard counted something: evidence is what rolls back.
//! - Soon when units came and it waits for units; lazily when they did and it does not.
//! - When time alone may change its plan ([`tidegate_rollout::next_look_us`]), at least once a minute.
//! - When somebody asks, when what a hook or a source was asked has come, and when the share served is
//!   not the share it set.
//!
//! # What that costs
//! Planning may take [`SPARE`] of one core. Beyond that a rollout that was just looked at waits for
//! [`STRAINED`], which is how long evidence may lie at most: a thousand rollouts with evidence
//! every moment cost what they must, and a few are looked at after every event.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tidegate_rollout::command::Command;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use tokio_util::sync::CancellationToken;

use super::drive::{self, Active, Next};
use super::watch::Change;
use super::{Ask, INBOX, Name, effects, resume};
use crate::app::{App, AppError};

/// Part of one core that planning may take before looks are spaced out.
const SPARE: f64 = 0.08;
/// Time between two looks at a rollout with new evidence while planning takes more than that.
const STRAINED: Duration = Duration::from_millis(400);
/// The same while it does not: events that come together are seen together.
const AT_EASE: Duration = Duration::from_millis(2);
/// Time between two looks when units came, for a rollout that waits for units and for one that does not.
const FOR_UNITS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// The shortest pause between two rounds that nothing called for.
const LEAST_IDLE: Duration = Duration::from_millis(1);
/// How often it is looked whether the shares served are those that were set.
const COMPARE_EVERY: Duration = Duration::from_millis(250);
/// Planning time is averaged over this long.
const RECENT_SECONDS: f64 = 1.0;

/// Runs every started rollout until `shutdown`.
pub async fn run(app: App, shutdown: CancellationToken) {
    let Some(mut asks) = app.rollouts.take_inbox() else {
        return;
    };
    let mut rounds = Rounds::new(app);
    let mut idle = COMPARE_EVERY;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ask) = asks.recv() => rounds.take(ask),
            Some(back) = rounds.away.join_next_with_id() => rounds.come_back(back),
            () = rounds.app.rollouts.watches.moved.notified() => {}
            () = tokio::time::sleep(idle) => {}
        }
        // Those who came back together are put back together: every round looks at every seat.
        while let Some(back) = rounds.away.try_join_next_with_id() {
            rounds.come_back(back);
        }
        idle = rounds.go().await;
    }
    rounds.end(&mut asks).await;
}

/// Every rollout, and who is out looking.
struct Rounds {
    app: App,
    seats: BTreeMap<Name, Seat>,
    away: JoinSet<Back>,
    names: HashMap<Id, Name>,
    pace: Pace,
    is_resumed: bool,
    /// What was asked before that.
    early: VecDeque<Ask>,
    compared: Duration,
}

/// A rollout, or that it is being looked at.
enum Seat {
    Here(Box<Waiting>),
    Away(Line),
}

/// A rollout that waits for its next look.
struct Waiting {
    active: Active,
    changed: Change,
    /// When it came back, in time that passes also where a test's clock stands.
    looked: Instant,
    /// When time alone may change its plan, by the clock that plans are made by.
    due: Duration,
    waits_for_units: bool,
}

/// What waits for a rollout to come back.
#[derive(Default)]
struct Line {
    asks: VecDeque<Ask>,
    changed: Change,
}

/// A rollout that was looked at; none if there is no such rollout.
struct Back {
    looked_at: Option<(Active, Next)>,
}

/// What a rollout is taken away for.
enum Errand {
    Look,
    Answer(Ask),
}

impl Waiting {
    fn new(active: Active, now: Duration) -> Box<Self> {
        Box::new(Self {
            active,
            changed: Change::default(),
            looked: Instant::now(),
            due: now,
            waits_for_units: true,
        })
    }

    /// How long until it is to be looked at; `None` for one that has ended.
    fn wait(&self, now: Duration, rested: Duration, spacing: Duration) -> Option<Duration> {
        if self.active.has_ended() {
            return None;
        }
        let mut wait = self.due.saturating_sub(now);
        if self.changed.evidence {
            wait = wait.min(spacing.saturating_sub(rested));
        }
        if self.changed.units {
            let [soon, lazily] = FOR_UNITS;
            let pause = if self.waits_for_units { soon } else { lazily };
            wait = wait.min(pause.max(spacing).saturating_sub(rested));
        }
        Some(wait)
    }
}

impl Rounds {
    fn new(app: App) -> Self {
        Self {
            app,
            seats: BTreeMap::new(),
            away: JoinSet::new(),
            names: HashMap::new(),
            pace: Pace::default(),
            is_resumed: false,
            early: VecDeque::new(),
            compared: Duration::ZERO,
        }
    }

    /// Takes up what is to be taken up, and sends out whom it is time for; how long nothing is due then.
    async fn go(&mut self) -> Duration {
        if !self.is_resumed {
            let seats = &self.seats;
            let found = resume::all(&self.app, |name| seats.contains_key(name)).await;
            self.is_resumed = found.is_some();
            let now = self.app.clock.monotonic();
            for (name, active) in found.into_iter().flatten() {
                self.seats
                    .insert(name, Seat::Here(Waiting::new(active, now)));
            }
            for ask in std::mem::take(&mut self.early) {
                if self.is_resumed {
                    self.take(ask);
                } else {
                    let _ = ask.reply.send(Err(AppError::Unavailable {
                        reason: "running rollouts are being taken up, and storage does not answer"
                            .to_owned(),
                        retry_after_seconds: 1,
                    }));
                }
            }
        }
        for (name, change) in self.app.rollouts.watches.take_changed() {
            match self.seats.get_mut(&name) {
                Some(Seat::Here(waiting)) => waiting.changed.add(change),
                Some(Seat::Away(line)) => line.changed.add(change),
                None => {}
            }
        }
        let now = self.app.clock.monotonic();
        self.compare(now);
        let spacing = self.pace.spacing(now);
        let (mut due, mut idle) = (Vec::new(), COMPARE_EVERY);
        let real = Instant::now();
        for (name, seat) in &self.seats {
            let Seat::Here(waiting) = seat else { continue };
            let rested = real.saturating_duration_since(waiting.looked);
            match waiting.wait(now, rested, spacing) {
                Some(Duration::ZERO) => due.push(name.clone()),
                Some(wait) => idle = idle.min(wait),
                None => {}
            }
        }
        for name in due {
            self.send(name, Errand::Look);
        }
        // A clock that stands, as in a test, does not stop the rounds.
        idle.max(LEAST_IDLE)
    }

    /// Has those looked at whose share is not what they set: somebody changed it.
    fn compare(&mut self, now: Duration) {
        let is_time = now.saturating_sub(self.compared) >= COMPARE_EVERY || now < self.compared;
        if !is_time && self.compared != Duration::ZERO {
            return;
        }
        self.compared = now;
        for seat in self.seats.values_mut() {
            let Seat::Here(waiting) = seat else { continue };
            let state = &waiting.active.state;
            let is_settled = state.is_terminal() || state.foreign_edit.is_some();
            if !is_settled
                && effects::served_share(&self.app, &waiting.active) != Some(state.share_bp)
            {
                waiting.due = now;
            }
        }
    }

    /// Takes something that is asked of a rollout.
    ///
    /// What is asked before rollouts are taken up waits until they are: whoever is taken away unseen
    /// would be taken for seen, and run without its evidence. A stop waits for nothing.
    fn take(&mut self, ask: Ask) {
        let is_stop = ask.command == Command::EmergencyStop;
        let ends = is_stop || ask.command == Command::Abort;
        if !self.is_resumed && !ends {
            self.early.push_back(ask);
            return;
        }
        if let Some(Seat::Away(line)) = self.seats.get_mut(&ask.name) {
            if is_stop {
                line.asks.push_front(ask);
            } else if line.asks.len() < INBOX {
                line.asks.push_back(ask);
            } else {
                let _ = ask.reply.send(Err(AppError::Unavailable {
                    reason: "the rollout waits for storage, and others wait for it".to_owned(),
                    retry_after_seconds: 5,
                }));
            }
            return;
        }
        self.send(ask.name.clone(), Errand::Answer(ask));
    }

    /// Sends a rollout away on an errand.
    fn send(&mut self, name: Name, errand: Errand) {
        let seat = self.seats.insert(name.clone(), Seat::Away(Line::default()));
        let active = match seat {
            Some(Seat::Here(waiting)) => Some(waiting.active),
            None => None,
            Some(Seat::Away(line)) => {
                // Nobody is sent twice; what waits, waits on.
                self.seats.insert(name, Seat::Away(line));
                return;
            }
        };
        let (app, own) = (self.app.clone(), name.clone());
        let task = self
            .away
            .spawn(async move { look_at(&app, own, active, errand).await });
        self.names.insert(task.id(), name);
    }

    /// Puts a rollout back, and sends it out again if somebody waits for it.
    fn come_back(&mut self, back: Result<(Id, Back), JoinError>) {
        let (id, back) = match back {
            Ok((id, back)) => (id, Some(back)),
            Err(error) => {
                tracing::error!(%error, "a look at a rollout ended badly; it is taken up anew");
                self.is_resumed = false;
                (error.id(), None)
            }
        };
        let Some(name) = self.names.remove(&id) else {
            return;
        };
        let line = match self.seats.remove(&name) {
            Some(Seat::Away(line)) => line,
            _ => Line::default(),
        };
        let now = self.app.clock.monotonic();
        if let Some((active, next)) = back.and_then(|back| back.looked_at) {
            self.pace.spend(now, next.took);
            let mut waiting = Waiting::new(active, next.due);
            waiting.changed = line.changed;
            waiting.waits_for_units = next.waits_for_units;
            self.seats.insert(name.clone(), Seat::Here(waiting));
        }
        let mut asks = line.asks;
        if let Some(first) = asks.pop_front() {
            self.send(name.clone(), Errand::Answer(first));
            if let Some(Seat::Away(line)) = self.seats.get_mut(&name) {
                line.asks = asks;
            }
        }
    }

    /// Lets those who are away come back, and writes down what waits.
    async fn end(&mut self, asks: &mut mpsc::Receiver<Ask>) {
        asks.close();
        while let Some(back) = self.away.join_next_with_id().await {
            self.come_back(back);
        }
        for seat in self.seats.values_mut() {
            if let Seat::Here(waiting) = seat {
                let _ = waiting.active.flush(&self.app).await;
            }
        }
    }
}

/// One errand: a look, or an answer and the look that belongs to it.
async fn look_at(app: &App, name: Name, active: Option<Active>, errand: Errand) -> Back {
    let mut active = match active {
        Some(active) => active,
        None => match drive::load(app, &name).await {
            Ok(active) => active,
            Err(error) => {
                if let Errand::Answer(ask) = errand {
                    let _ = ask.reply.send(Err(error));
                }
                return Back { looked_at: None };
            }
        },
    };
    let next = match errand {
        Errand::Look => drive::look(app, &mut active).await,
        Errand::Answer(ask) => {
            let outcome = drive::obey(app, &mut active, &ask).await;
            let next = outcome.as_ref().map_or(Next::default(), |next| *next);
            let answer = outcome.and_then(|_| drive::standing(app, &name));
            // Who asked may be gone; what was asked is done all the same.
            let _ = ask.reply.send(answer);
            next
        }
    };
    let looked_at = Some((active, next));
    Back { looked_at }
}

/// How much of one core planning takes, as a decaying sum.
#[derive(Debug, Default)]
struct Pace {
    spent: f64,
    at: Duration,
}

impl Pace {
    fn spend(&mut self, now: Duration, took: Duration) {
        self.spent = self.recent(now) + took.as_secs_f64();
        self.at = now;
    }

    /// Seconds of planning in about the last second.
    fn recent(&self, now: Duration) -> f64 {
        let since = now.saturating_sub(self.at).as_secs_f64();
        self.spent * (-since / RECENT_SECONDS).exp()
    }

    /// Time between two looks at one rollout.
    fn spacing(&self, now: Duration) -> Duration {
        if self.recent(now) / RECENT_SECONDS > SPARE {
            STRAINED
        } else {
            AT_EASE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_spaced_out_while_planning_takes_more_than_its_part_of_a_core() {
        let mut pace = Pace::default();
        let mut now = Duration::ZERO;
        assert_eq!(pace.spacing(now), AT_EASE);
        for _ in 0..200 {
            now += Duration::from_millis(10);
            pace.spend(now, Duration::from_micros(500));
        }
        assert_eq!(pace.spacing(now), AT_EASE, "a twentieth of a core");
        for _ in 0..200 {
            now += Duration::from_millis(10);
            pace.spend(now, Duration::from_millis(2));
        }
        assert_eq!(pace.spacing(now), STRAINED, "a fifth of a core");
        assert_eq!(pace.spacing(now + Duration::from_secs(3)), AT_EASE);
    }
}
