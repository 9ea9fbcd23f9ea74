//! Why a flag answered as it did: which rule decided, what was hashed, where it fell.
//!
//! An explanation comes from the same interpreter as the answer, with a listener in place
//! of silence, so it cannot tell another story.

use crate::context::Context;
use crate::logic::interpret::{Placed, Trace};
use crate::logic::program::{Run, Step};
use crate::resolution::{ErrorCode, Reason};
use crate::ruleset::{CompiledFlag, FlagHandle, Plan, Ruleset};
use serde::Serialize;
use serde_json::Value;
use std::cell::RefCell;

/// An answer with its grounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The flag's key.
    pub flag: String,
    /// The variant served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The value served; absent means the caller's own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// OpenFeature's reason.
    pub reason: Reason,
    /// OpenFeature's error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
    /// One sentence for people.
    pub because: String,
    /// The rule that decided; absent if none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<DecidingRule>,
    /// The pinned bucketing dialect.
    pub dialect: &'static str,
    /// Every split on the way, in order; the last one decided.
    pub splits: Vec<SplitTaken>,
    /// Whether the flag's current definition is broken and this is its last good version.
    pub is_last_good_version: bool,
    /// The flag's program, one line per step.
    pub program: Vec<String>,
}

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecidingRule {
    /// Its id.
    pub id: String,
    /// Its position, from 0.
    pub index: usize,
    /// `variant`, `split` or `rollout`.
    pub serves: &'static str,
}

/// One split that was taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitTaken {
    /// The hashed bytes as text, where they are text (v1, v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashed_text: Option<String>,
    /// The hashed bytes in hex.
    pub hashed_hex: String,
    /// MurmurHash3 of the bytes.
    pub hash: u32,
    /// The bucket below `total` (v2, v3), or the percentage (v1).
    pub bucket: f64,
    /// Sum of the weights.
    pub total: u32,
    /// First unit of weight of the entry.
    pub from: u32,
    /// First unit of weight behind the entry.
    pub to: u32,
    /// Position of the entry, from 0.
    pub entry: usize,
}

impl Ruleset {
    /// Evaluates a flag and says why; none if the handle is foreign.
    pub fn explain(&self, handle: FlagHandle, context: &Context<'_>) -> Option<Explanation> {
        let flag = self.flag(handle)?;
        let rebound = self.bind(context.inputs.root, context.inputs.now);
        let listener = Listener::default();
        let resolution = match &flag.plan {
            Plan::Targeted(step, _) => {
                let interpreter = self.interpreter(flag, &rebound, &listener);
                flag.resolution(interpreter.decide(*step), &interpreter)
            }
            plan => flag.without_targeting(plan),
        };
        let heard = listener.0.into_inner();
        let rule = deciding_rule(flag, &heard);
        Some(Explanation {
            flag: flag.facts.key.to_string(),
            variant: resolution.variant.map(str::to_owned),
            value: resolution.value.cloned(),
            reason: resolution.reason,
            error_code: resolution.error.as_ref().map(|error| error.code),
            because: because(flag, &resolution, rule.as_ref(), heard.splits.last()),
            rule,
            dialect: flag.facts.dialect.as_str(),
            splits: heard.splits,
            is_last_good_version: flag.is_kept,
            program: self.listing(handle)?.lines().map(str::to_owned).collect(),
        })
    }
}

#[derive(Default)]
struct Listener(RefCell<Heard>);

#[derive(Default)]
struct Heard {
    branches: Vec<(Run, Option<usize>)>,
    splits: Vec<SplitTaken>,
}

impl Trace for &Listener {
    const IS_ON: bool = true;

    fn branch(&self, arms: Run, arm: Option<usize>) {
        self.0.borrow_mut().branches.push((arms, arm));
    }

    fn split(&self, placed: &Placed<'_>) {
        self.0.borrow_mut().splits.push(SplitTaken {
            hashed_text: placed.text().map(str::to_owned),
            hashed_hex: placed
                .bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            hash: placed.hash,
            bucket: placed.point,
            total: placed.total,
            from: placed.range.0,
            to: placed.range.1,
            entry: placed.entry,
        });
    }
}

/// Rules compile into one `if` at the root, arm `n` for rule `n`.
fn deciding_rule(flag: &CompiledFlag, heard: &Heard) -> Option<DecidingRule> {
    let Plan::Targeted(Step::If { arms: root, .. }, _) = flag.plan else {
        return None;
    };
    let (_, arm) = heard.branches.first().filter(|(arms, _)| *arms == root)?;
    let index = (*arm)?;
    let note = flag.rules.get(index)?;
    Some(DecidingRule {
        id: note.id.clone(),
        index,
        serves: note.serves,
    })
}

fn because(
    flag: &CompiledFlag,
    resolution: &crate::resolution::Resolution<'_>,
    rule: Option<&DecidingRule>,
    split: Option<&SplitTaken>,
) -> String {
    if let Some(kill) = &flag.killed {
        return format!("killed by {}: {}", kill.by, kill.reason);
    }
    if let Some(error) = &resolution.error {
        return error.detail.to_string();
    }
    let placed = split.map(|split| {
        let SplitTaken {
            bucket,
            total,
            from,
            to,
            ..
        } = split;
        format!(", bucket {bucket} of {total} lies in {from}..{to}")
    });
    let placed = placed.unwrap_or_default();
    match (resolution.reason, rule) {
        (Reason::Disabled, _) => "the flag is disabled".to_owned(),
        (Reason::Static, _) => "the flag has no rules".to_owned(),
        (_, Some(rule)) => format!("rule {:?} ({}) decided{placed}", rule.id, rule.serves),
        (Reason::TargetingMatch, None) => format!("the flag's targeting decided{placed}"),
        (_, None) => "no rule matched".to_owned(),
    }
}
