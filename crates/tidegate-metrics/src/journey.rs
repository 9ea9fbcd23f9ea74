//! Journeys: which units reach which step, and how long it takes them.
//!
//! # Semantics
//! A unit's events are taken in their total order (time, then event id), so ties are ordered and
//! two steps within one microsecond both count. Modes: *ordered*, other events may come between;
//! *strict*, none may; *any order*, the steps may come in any order. A chain begins with an event
//! in the entry range; the total window runs from there, a step's own window from the step before,
//! both inclusive, both in elapsed time and past the end of the range. One event serves one step
//! of a chain. An exclusion event between two steps drops the chains waiting there. A unit counts
//! once, at the highest step it ever reached; the report says how many reached *at least* each
//! step. Durations are those of the chain with the latest start at the unit's first arrival; the
//! time to completion may be asked for from the unit's first entry instead.
//!
//! With a *key* only events with the same value of a property make a chain, and events without it
//! are no part of the journey. What is counted is the unit, once, at the highest step that any of
//! its values reached ("hold constant"); or each value of each unit, such as its sessions; or each
//! value, whichever units it belongs to, such as an account.
//!
//! In *any order* an event that matches several steps serves the first of them, exclusions drop
//! everything, and steps have no windows of their own.
//!
//! # Algorithm
//! Per unit and step only the latest chain is kept: (start, last event). Each event reads the
//! states as they were, extends the chain of the step before, then clears what it excludes, then
//! writes. The latest chain has the latest start and the latest last event, so whenever any chain
//! can be extended within its windows, this one can. Cost: events times steps.

mod fold;
mod report;

#[cfg(test)]
mod tests;

use crate::EventFilter;
pub use fold::{ClassifiedEvent, JourneyFold, JourneyMemory};
pub use report::{JourneyGroup, JourneyReport};
use serde::{Deserialize, Serialize};

/// The most steps a journey may have.
pub const MAX_STEPS: usize = 16;
/// The most exclusions a journey may have.
pub const MAX_EXCLUSIONS: usize = 16;

/// How the steps must follow each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOrder {
    /// In order; other events may come between.
    #[default]
    Ordered,
    /// In order; no other event of the unit may come between.
    Strict,
    /// In any order.
    Any,
}

/// How often a unit may complete a journey.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reentry {
    /// It counts once, at its highest step.
    #[default]
    Once,
    /// Besides, its completions are counted; no event serves two of them.
    EveryCompletion,
}

/// From where the time to completion runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimedFrom {
    /// From the first event of the chain that completes, which is the one with the latest start.
    #[default]
    LatestStart,
    /// From the unit's first entry: the first event of the first step, whatever came of it.
    FirstEntry,
}

impl TimedFrom {
    // Serde hands over a reference.
    fn is_latest_start(&self) -> bool {
        *self == Self::LatestStart
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The events that are this step.
    pub event: EventFilter,
    /// The longest time since the step before, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_seconds: Option<u64>,
}

/// Events that must not occur between a step and the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// The events.
    pub event: EventFilter,
    /// The step after which they drop a chain, counted from 1.
    pub after_step: usize,
}

/// What is followed and counted where events must share a property's value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Units, each at the highest step that any of its values reached.
    #[default]
    Unit,
    /// Each value of each unit.
    UnitAndValue,
    /// Each value, over all units that have it.
    Value,
}

/// A property whose value the events of a chain share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JourneyKey {
    /// The property.
    pub property: String,
    /// What is counted.
    #[serde(default)]
    pub counts: Counted,
}

/// A journey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JourneyDefinition {
    /// The steps.
    pub steps: Vec<Step>,
    /// How they must follow each other.
    #[serde(default)]
    pub order: StepOrder,
    /// The longest time from the first step to the last, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_seconds: Option<u64>,
    /// What must not occur between steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusions: Vec<Exclusion>,
    /// How often a unit may complete it.
    #[serde(default)]
    pub reentry: Reentry,
    /// From where the time to completion runs.
    #[serde(default, skip_serializing_if = "TimedFrom::is_latest_start")]
    pub timed_from: TimedFrom,
    /// What the events of a chain must share besides their unit, or instead of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<JourneyKey>,
}

/// Why a definition cannot be used, with a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct DefinitionProblem {
    /// Where in the definition.
    pub pointer: String,
    /// The rule and the cure.
    pub detail: String,
}

impl DefinitionProblem {
    pub(crate) fn new(pointer: impl Into<String>, detail: &str) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.to_owned(),
        }
    }
}

impl JourneyDefinition {
    /// Everything that is wrong with the definition.
    #[must_use]
    pub fn problems(&self) -> Vec<DefinitionProblem> {
        let mut problems = Vec::new();
        let mut refuse = |pointer: String, detail: &str| {
            problems.push(DefinitionProblem {
                pointer,
                detail: detail.to_owned(),
            });
        };
        if self.steps.is_empty() || self.steps.len() > MAX_STEPS {
            refuse("/steps".to_owned(), "a journey has 1 to 16 steps");
        }
        if self.exclusions.len() > MAX_EXCLUSIONS {
            refuse(
                "/exclusions".to_owned(),
                "a journey has at most 16 exclusions",
            );
        }
        for (index, exclusion) in self.exclusions.iter().enumerate() {
            let is_between = (1..self.steps.len()).contains(&exclusion.after_step);
            if self.order != StepOrder::Any && !is_between {
                let detail = "name a step that another one follows, counted from 1";
                refuse(format!("/exclusions/{index}/after_step"), detail);
            }
        }
        if self.order == StepOrder::Any {
            for (index, step) in self.steps.iter().enumerate() {
                if step.within_seconds.is_some() {
                    let detail = "steps in any order have no window of their own; use the total";
                    refuse(format!("/steps/{index}/within_seconds"), detail);
                }
            }
        }
        if self.order == StepOrder::Any && self.timed_from == TimedFrom::FirstEntry {
            let detail = "steps in any order have no first one to count from";
            refuse("/timed_from".to_owned(), detail);
        }
        if self.order == StepOrder::Strict && !self.exclusions.is_empty() {
            let detail = "a strict journey excludes every other event already";
            refuse("/exclusions".to_owned(), detail);
        }
        problems
    }

    /// The events the journey asks about: its steps, then its exclusions. Bit `i` of
    /// [`ClassifiedEvent::matched`] says whether an event matches filter `i`.
    pub fn filters(&self) -> impl Iterator<Item = &EventFilter> {
        let steps = self.steps.iter().map(|step| &step.event);
        steps.chain(self.exclusions.iter().map(|exclusion| &exclusion.event))
    }
}
