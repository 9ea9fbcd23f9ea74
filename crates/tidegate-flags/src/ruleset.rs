//! A compiled flag set: looked up by key once, evaluated by handle many times.
//!
//! Evaluation reads this and the context, nothing else; it neither fails nor blocks, and
//! allocates nothing unless a rule builds text or lists, or an answer is an error.

use crate::bucketing::Bucketing;
use crate::context::Context;
use crate::logic::gate::Gate;
use crate::logic::interpret::{Decision, Interpreter, Silent, Trace};
use crate::logic::listing;
use crate::logic::lower::Reads;
use crate::logic::program::{FlagFacts, Program, Step};
use crate::plain::definition::Plain;
use crate::resolution::{ErrorCode, FlagType, Reason, Resolution, ResolutionError};
use crate::spec::Kill;
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

/// A flag of one [`Ruleset`], found once by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlagHandle(pub(crate) u32);

/// What evaluating a flag comes down to.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Disabled,
    /// No targeting: this variant, or no default.
    Fixed(Option<u32>),
    Targeted(Step, Option<Gate>),
    /// The definition could not be compiled.
    Broken(String),
}

/// A rule of the definition, for explanations: arm `n` of the root `if` is rule `n`.
#[derive(Clone, Debug)]
pub(crate) struct RuleNote {
    pub(crate) id: String,
    pub(crate) serves: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct CompiledFlag {
    pub(crate) plan: Plan,
    pub(crate) facts: FlagFacts,
    pub(crate) default: Option<u32>,
    /// The set's with the flag's own on top.
    pub(crate) metadata: Arc<Map<String, Value>>,
    /// The flag as plain flagd JSON; none if it is broken.
    pub(crate) plain: Option<Plain>,
    pub(crate) rules: Vec<RuleNote>,
    pub(crate) reads: Reads,
    pub(crate) killed: Option<Kill>,
    /// The last good version, kept because the current one does not compile.
    pub(crate) is_kept: bool,
}

/// A compiled flag set.
#[derive(Clone, Debug)]
pub struct Ruleset {
    pub(crate) flags: Vec<CompiledFlag>,
    pub(crate) index: FxHashMap<Box<str>, u32>,
    pub(crate) program: Program,
    pub(crate) metadata: Arc<Map<String, Value>>,
    pub(crate) digest: String,
    pub(crate) layout: u64,
    pub(crate) evaluation_steps: u32,
}

impl Ruleset {
    /// Flag keys, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.flags.iter().map(|flag| &*flag.facts.key)
    }

    /// Number of flags.
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Whether there are no flags.
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Finds a flag; the handle belongs to this rule set only.
    pub fn handle(&self, key: &str) -> Option<FlagHandle> {
        self.index.get(key).map(|index| FlagHandle(*index))
    }

    /// All handles, in order of [`Ruleset::keys`].
    pub fn handles(&self) -> impl Iterator<Item = FlagHandle> + use<> {
        let count = u32::try_from(self.flags.len()).unwrap_or(u32::MAX);
        (0..count).map(FlagHandle)
    }

    /// Content digest: SHA-256, in hex, of everything that decides answers. Equal content
    /// gives an equal digest on every machine.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Set metadata.
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }

    /// The well-known metadata `version`, if it is text.
    pub fn version(&self) -> Option<&str> {
        self.metadata.get("version").and_then(Value::as_str)
    }

    /// The key of a flag.
    pub fn key(&self, handle: FlagHandle) -> Option<&str> {
        self.flag(handle).map(|flag| &*flag.facts.key)
    }

    /// The pinned bucketing dialect of a flag.
    pub fn dialect(&self, handle: FlagHandle) -> Option<Bucketing> {
        self.flag(handle).map(|flag| flag.facts.dialect)
    }

    /// The type that all variants of a flag share, if they share one.
    pub fn flag_type(&self, handle: FlagHandle) -> Option<FlagType> {
        FlagType::of(
            self.flag(handle)?
                .facts
                .variants
                .iter()
                .map(|(_, value)| value),
        )
    }

    /// Whether the answer can change by time alone.
    pub fn depends_on_time(&self, handle: FlagHandle) -> bool {
        self.flag(handle)
            .is_some_and(|flag| flag.reads.time || flag.reads.everything)
    }

    /// Whether the answer can depend on the targeting key.
    pub fn depends_on_targeting_key(&self, handle: FlagHandle) -> bool {
        self.flag(handle)
            .is_some_and(|flag| flag.reads.targeting_key || flag.reads.everything)
    }

    /// Paths of the attributes that the flag's rules read.
    pub fn attributes(&self, handle: FlagHandle) -> &[String] {
        self.flag(handle).map_or(&[], |flag| &flag.reads.attributes)
    }

    /// Whether the flag's current definition did not compile: it answers ERROR, or its
    /// last good version where one was kept.
    pub fn is_broken(&self, handle: FlagHandle) -> bool {
        let is_broken = |flag: &CompiledFlag| flag.is_kept || matches!(flag.plan, Plan::Broken(_));
        self.flag(handle).is_some_and(is_broken)
    }

    /// Metadata of a flag: the set's with its own on top.
    pub fn flag_metadata(&self, handle: FlagHandle) -> Option<&Map<String, Value>> {
        self.flag(handle).map(|flag| &*flag.metadata)
    }

    /// Whether the flag splits units anywhere in its targeting.
    pub fn splits_units(&self, handle: FlagHandle) -> bool {
        let plain = self.flag(handle).and_then(|flag| flag.plain.as_ref());
        plain.is_some_and(|plain| plain.has_split)
    }

    /// Whether the flag `key` means the same in `other`: same definition, dialect and metadata.
    /// The version of the whole set, which every flag's metadata carries, is no part of it.
    pub fn means_the_same(&self, other: &Ruleset, key: &str) -> bool {
        let (Some(one), Some(two)) = (self.find(key), other.find(key)) else {
            return false;
        };
        one.plain == two.plain
            && one.facts.dialect == two.facts.dialect
            && self.without_version(one).eq(other.without_version(two))
    }

    fn find(&self, key: &str) -> Option<&CompiledFlag> {
        self.flag(self.handle(key)?)
    }

    fn without_version<'r>(
        &'r self,
        flag: &'r CompiledFlag,
    ) -> impl Iterator<Item = (&'r String, &'r Value)> {
        let of_the_set = self.metadata.get("version");
        flag.metadata
            .iter()
            .filter(move |(name, value)| *name != "version" || Some(*value) != of_the_set)
    }

    /// The flags that `is_wanted` as one document of plain flagd JSON: rules compiled to
    /// targeting, references inlined, set metadata folded into each flag and kept at the top.
    /// Broken flags are left out.
    pub fn to_flagd_json(&self, is_wanted: impl Fn(FlagHandle) -> bool) -> String {
        let of_the_set = Value::Object(Map::clone(&self.metadata)).to_string();
        let mut out = String::with_capacity(64 + self.flags.len() * 512);
        out.push_str("{\"flags\":{");
        let start = out.len();
        for (flag, handle) in self.flags.iter().zip(self.handles()) {
            let Some(plain) = flag.plain.as_ref().filter(|_| is_wanted(handle)) else {
                continue;
            };
            if out.len() > start {
                out.push(',');
            }
            out.push_str(&Value::from(&*flag.facts.key).to_string());
            out.push(':');
            plain.write(&mut out, &flag.metadata, &of_the_set);
        }
        out.push('}');
        if !self.metadata.is_empty() {
            out.push_str(",\"metadata\":");
            out.push_str(&of_the_set);
        }
        out.push('}');
        out
    }

    /// How a flag was compiled, in words, one line per step.
    pub fn listing(&self, handle: FlagHandle) -> Option<String> {
        let flag = self.flag(handle)?;
        let names: Vec<&str> = flag
            .facts
            .variants
            .iter()
            .map(|(name, _)| &**name)
            .collect();
        Some(match &flag.plan {
            Plan::Disabled => "disabled\n".to_owned(),
            Plan::Fixed(None) => "no default\n".to_owned(),
            Plan::Fixed(Some(variant)) => {
                let name = position(*variant).and_then(|index| names.get(index));
                format!("serve {}\n", name.unwrap_or(&"?"))
            }
            Plan::Targeted(step, _) => listing::list(&self.program, *step, &names),
            Plan::Broken(detail) => format!("broken: {detail}\n"),
        })
    }

    /// Binds a context: attributes to slots, `now` (Unix seconds) to `$flagd.timestamp`.
    pub fn bind<'c>(&self, attributes: &'c Map<String, Value>, now: i64) -> Context<'c> {
        Context::bind(&self.program, self.layout, attributes, now)
    }

    /// Evaluates a flag.
    #[inline]
    pub fn evaluate<'r>(&'r self, handle: FlagHandle, context: &Context<'_>) -> Resolution<'r> {
        match self.flag(handle) {
            Some(flag) => self.resolve(flag, context),
            None => self.not_found(),
        }
    }

    /// Evaluates the flag called `key`.
    #[inline]
    pub fn evaluate_key<'r>(&'r self, key: &str, context: &Context<'_>) -> Resolution<'r> {
        match self.handle(key) {
            Some(handle) => self.evaluate(handle, context),
            None => self.not_found(),
        }
    }

    /// Evaluates all flags, in order.
    pub fn evaluate_all<'r>(
        &'r self,
        context: &Context<'_>,
        mut each: impl FnMut(&'r str, Resolution<'r>),
    ) {
        for flag in &self.flags {
            each(&flag.facts.key, self.resolve(flag, context));
        }
    }

    #[inline]
    pub(crate) fn flag(&self, handle: FlagHandle) -> Option<&CompiledFlag> {
        self.flags.get(position(handle.0)?)
    }

    #[inline]
    fn resolve<'r>(&'r self, flag: &'r CompiledFlag, context: &Context<'_>) -> Resolution<'r> {
        match &flag.plan {
            Plan::Targeted(step, gate) if context.layout == self.layout => {
                match gate.as_ref().and_then(|gate| gate.decide(&context.inputs)) {
                    Some(decision) => flag.decided(decision),
                    None => self.decide(flag, *step, context),
                }
            }
            Plan::Targeted(step, _) => self.decide(
                flag,
                *step,
                &self.bind(context.inputs.root, context.inputs.now),
            ),
            plan => flag.without_targeting(plan),
        }
    }

    #[inline]
    fn decide<'r>(
        &'r self,
        flag: &'r CompiledFlag,
        step: Step,
        context: &Context<'_>,
    ) -> Resolution<'r> {
        let interpreter = self.interpreter(flag, context, Silent);
        flag.resolution(interpreter.decide(step), &interpreter)
    }

    pub(crate) fn interpreter<'e, T: Trace>(
        &'e self,
        flag: &'e CompiledFlag,
        context: &'e Context<'_>,
        trace: T,
    ) -> Interpreter<'e, T> {
        Interpreter {
            program: &self.program,
            flag: &flag.facts,
            inputs: &context.inputs,
            budget: Cell::new(self.evaluation_steps),
            is_exhausted: Cell::new(false),
            trace,
        }
    }

    fn not_found(&self) -> Resolution<'_> {
        let detail = Cow::Borrowed("no such flag");
        failure(ErrorCode::FlagNotFound, detail, &self.metadata)
    }
}

impl CompiledFlag {
    /// The answer for what interpretation came to.
    #[inline]
    pub(crate) fn resolution<'r, T: Trace>(
        &'r self,
        decision: Decision,
        interpreter: &Interpreter<'_, T>,
    ) -> Resolution<'r> {
        match decision {
            Decision::Serve(_) | Decision::Default => self.decided(decision),
            failed => self.failed(failed, interpreter),
        }
    }

    /// The answer for a decision that is no failure.
    #[inline]
    fn decided(&self, decision: Decision) -> Resolution<'_> {
        match decision {
            Decision::Serve(variant) => self.serve(Some(variant), Reason::TargetingMatch),
            _ => self.serve(self.default, Reason::Default),
        }
    }

    #[cold]
    fn failed<'r, T: Trace>(
        &'r self,
        decision: Decision,
        interpreter: &Interpreter<'_, T>,
    ) -> Resolution<'r> {
        let detail = if decision == Decision::Exhausted {
            Cow::Borrowed("targeting costs more steps than allowed")
        } else {
            let name = interpreter.unknown_name(decision);
            Cow::Owned(format!("targeting gave {name:?}, which is no variant"))
        };
        failure(ErrorCode::General, detail, &self.metadata)
    }

    /// The answer of a flag that interprets nothing.
    pub(crate) fn without_targeting<'r>(&'r self, plan: &'r Plan) -> Resolution<'r> {
        match plan {
            Plan::Disabled => self.serve(None, Reason::Disabled),
            Plan::Fixed(None) | Plan::Targeted(..) => self.serve(None, Reason::Default),
            Plan::Fixed(Some(variant)) => self.serve(Some(*variant), Reason::Static),
            Plan::Broken(detail) => {
                failure(ErrorCode::ParseError, Cow::Borrowed(detail), &self.metadata)
            }
        }
    }

    #[inline]
    fn serve(&self, variant: Option<u32>, reason: Reason) -> Resolution<'_> {
        let found = variant
            .and_then(position)
            .and_then(|index| self.facts.variants.get(index));
        Resolution {
            variant: found.map(|(name, _)| &**name),
            value: found.map(|(_, value)| value),
            reason,
            error: None,
            metadata: &self.metadata,
        }
    }
}

fn failure<'r>(
    code: ErrorCode,
    detail: Cow<'r, str>,
    metadata: &'r Map<String, Value>,
) -> Resolution<'r> {
    Resolution {
        variant: None,
        value: None,
        reason: Reason::Error,
        error: Some(ResolutionError { code, detail }),
        metadata,
    }
}

#[inline]
fn position(index: u32) -> Option<usize> {
    usize::try_from(index).ok()
}
