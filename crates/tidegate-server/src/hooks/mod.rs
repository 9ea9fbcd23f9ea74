//! Hooks: whoever is asked before a rollout raises a share, and told after.
//!
//! Two kinds are asked: programs of the operator's ([`command`]) and webhook endpoints that say so. All
//! of them must allow a raise. No answer, a late one, an unreadable one or a failure holds it: a hook
//! that is broken can keep a change from opening further, and can never open it.
//!
//! Nobody is asked before a share is lowered, a rollback least of all.
//!
//! Asking never blocks the task that runs rollouts: the raise waits, everything else goes on, and when
//! the answers are in that task looks again. Being told is a matter of the outbox, as for any notice
//! ([`crate::notices`]).

pub mod ask;
pub mod command;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ask::Question;
use command::CommandHook;

use crate::app::App;
use crate::notices::endpoint::wants;

/// How long an answer that allows is good for: what was asked about must not be old.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
/// How soon it is asked again after a hold.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The programs, and what is being asked.
#[derive(Debug, Default)]
pub struct Hooks {
    commands: Vec<CommandHook>,
    asked: Mutex<BTreeMap<(String, String), Asked>>,
}

/// One rollout's newest question.
#[derive(Debug)]
struct Asked {
    question: Question,
    answer: Answer,
}

/// How a question stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// Somebody has not answered yet.
    Open,
    /// Everybody allowed it, until then.
    Allowed { until: Duration },
    /// Somebody holds it; it is asked again then.
    Held { reason: String, again: Duration },
}

impl Hooks {
    /// These programs. [`CommandHook::check`] has accepted each.
    #[must_use]
    pub fn new(commands: Vec<CommandHook>) -> Self {
        Self {
            commands,
            asked: Mutex::default(),
        }
    }

    /// Whether a program is told anything of this project.
    pub(crate) fn tells(&self, project: &str) -> bool {
        let mut own = self
            .commands
            .iter()
            .filter(|command| command.is_for(project));
        own.any(|command| !command.tells.is_empty())
    }

    /// Whether a program is told anything at all.
    pub(crate) fn tells_anybody(&self) -> bool {
        self.commands
            .iter()
            .any(|command| !command.tells.is_empty())
    }

    /// The programs that are told of an event.
    pub(crate) fn told<'a>(
        &'a self,
        project: &'a str,
        event: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        self.commands
            .iter()
            .filter(move |command| command.is_for(project) && wants(&command.tells, event))
            .map(|command| command.name.as_str())
    }

    /// The program called `name`.
    pub(crate) fn command(&self, name: &str) -> Option<&CommandHook> {
        self.commands.iter().find(|command| command.name == name)
    }

    /// Whether a raise may happen now; begins to ask if it has to be asked.
    pub(crate) fn allow(app: &App, question: &Question) -> bool {
        if !ask::anybody(app, question) {
            return true;
        }
        let hooks = &app.operations.hooks;
        let now = app.clock.monotonic();
        let mut table = hooks.lock();
        let known = table.get(&question.rollout);
        let answer = known
            .filter(|asked| asked.question.is_about_the_same(question))
            .map(|asked| asked.answer.clone());
        match answer {
            Some(Answer::Allowed { until }) if now < until => return true,
            Some(Answer::Open) => return false,
            Some(Answer::Held { again, .. }) if now < again => return false,
            _ => {}
        }
        let asked = Asked {
            question: question.clone(),
            answer: Answer::Open,
        };
        table.insert(question.rollout.clone(), asked);
        drop(table);
        tokio::spawn(answer_in_time(app.clone(), question.clone()));
        false
    }

    /// What a rollout waits for on account of hooks, in words.
    pub(crate) fn waiting(&self, rollout: &(String, String)) -> Option<String> {
        match &self.lock().get(rollout)?.answer {
            Answer::Open => Some("hooks are being asked".to_owned()),
            Answer::Held { reason, .. } => Some(format!("held by {reason}")),
            Answer::Allowed { .. } => None,
        }
    }

    /// Forgets what a rollout was asked about: the raise happened, or is no longer wanted.
    pub(crate) fn forget(&self, rollout: &(String, String)) {
        self.lock().remove(rollout);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks everybody, and has the rollout looked at again.
async fn answer_in_time(app: App, question: Question) {
    let outcome = ask::everybody(&app, &question).await;
    let now = app.clock.monotonic();
    let answer = match outcome {
        Ok(()) => Answer::Allowed {
            until: now + ALLOWED_FOR,
        },
        Err(reason) => {
            tracing::info!(%reason, rollout = %question.rollout.1, "a hook holds a raise");
            Answer::Held {
                reason,
                again: now + ASK_AGAIN,
            }
        }
    };
    if let Some(asked) = app.operations.hooks.lock().get_mut(&question.rollout)
        && asked.question == question
    {
        asked.answer = answer;
    }
    app.rollouts.look_again(&question.rollout);
}
