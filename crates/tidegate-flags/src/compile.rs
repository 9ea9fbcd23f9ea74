//! From definitions to a rule set, flag by flag, so that a bad one harms no other.
//!
//! Order of work: sort by prerequisites, translate rules to plain flagd JSON, lower that to
//! one program. A flag that fails on the way keeps its version of `previous` if there is
//! one, else it answers ERROR / PARSE_ERROR; a warning says why. A killed flag needs none
//! of this: it serves its off variant even if its targeting does not compile.

use crate::bucketing::Bucketing;
use crate::flag_set::FlagSetSource;
use crate::limits::Limits;
use crate::lint;
use crate::logic::gate::Gate;
use crate::logic::lower::{Builder, Reads, Target, lower};
use crate::logic::program::FlagFacts;
use crate::plain::definition::Plain;
use crate::plain::graph::{self, Specs};
use crate::plain::prerequisite::{Expression, Expressions, Targeted, names_of};
use crate::plain::references::References;
use crate::plain::{Refusal, Surroundings, Translation};
use crate::problem::{Violation, Warning};
use crate::ruleset::{CompiledFlag, Plan, RuleNote, Ruleset};
use crate::segments::Segments;
use crate::spec::rule::{Rule, Serve};
use crate::spec::{FlagSpec, State};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What compilation may be told.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions<'p> {
    /// Limits on size and cost.
    pub limits: Limits,
    /// The rule set served so far, whose flags stand in for ones that do not compile.
    pub previous: Option<&'p Ruleset>,
}

/// Compiles a set. Never fails: what is wrong with a flag stays with that flag.
pub fn compile(
    source: &FlagSetSource,
    segments: &Segments,
    options: &CompileOptions<'_>,
) -> (Ruleset, Vec<Warning>) {
    let mut compiler = Compiler {
        source,
        segments,
        options,
        metadata: Arc::new(source.metadata.clone()),
        builder: Builder::new(options.limits.program_nodes_total),
        warnings: source.warnings.clone(),
    };
    let ruleset = compiler.compile();
    (ruleset, compiler.warnings)
}

/// A flag on its way to a program.
enum Draft<'s> {
    /// Translated, or of fixed outcome.
    Ready {
        spec: &'s FlagSpec,
        targeting: Option<Value>,
    },
    /// Set aside.
    Refused(Refusal),
}

struct Compiler<'c> {
    source: &'c FlagSetSource,
    segments: &'c Segments,
    options: &'c CompileOptions<'c>,
    /// The set's, shared by the flags that have none of their own.
    metadata: Arc<Map<String, Value>>,
    builder: Builder,
    warnings: Vec<Warning>,
}

impl<'c> Compiler<'c> {
    fn compile(&mut self) -> Ruleset {
        let mut drafts = self.translate();
        let mut flags = Vec::with_capacity(self.source.flags.len());
        for (key, spec) in &self.source.flags {
            let draft = match spec {
                Err(violations) => Draft::Refused(first_of(violations)),
                Ok(_) => drafts.remove(key.as_str()).unwrap_or_else(|| {
                    Draft::Refused(Refusal {
                        code: "not_compiled",
                        pointer: String::new(),
                        message: "defined twice in this set".to_owned(),
                    })
                }),
            };
            flags.push(self.flag(key, draft));
        }
        self.assemble(flags)
    }

    /// Translates every well-formed flag, prerequisites first.
    fn translate(&mut self) -> BTreeMap<&'c str, Draft<'c>> {
        let flags = &self.source.flags;
        let specs: Specs<'c> = flags
            .iter()
            .filter_map(|(key, spec)| Some((key.as_str(), spec.as_ref().ok()?)))
            .collect();
        let limits = &self.options.limits;
        let order = graph::order(&specs, limits.prerequisite_depth);
        let mut expressions = Expressions {
            known: BTreeMap::new(),
            bytes_left: Cell::new(limits.inlined_bytes_total),
        };
        // Others see only what they need, and mostly nobody needs anything.
        let needed = graph::needed(&specs);
        let broken = flags.iter().filter(|(_, spec)| spec.is_err());
        let set_aside = broken
            .map(|(key, _)| key.as_str())
            .chain(order.refused.keys().copied())
            .filter(|key| needed.contains(key));
        for key in set_aside {
            let stand_in = self.stand_in(key);
            expressions.known.insert(key.to_owned(), stand_in);
        }
        let mut drafts: BTreeMap<&str, Draft<'c>> = order
            .refused
            .into_iter()
            .map(|(key, refusal)| (key, Draft::Refused(refusal)))
            .collect();
        for key in order.keys {
            let Some(spec) = specs.get(key).copied() else {
                continue;
            };
            let draft = self.draft(key, spec, &expressions);
            if needed.contains(key) {
                let expression = match &draft {
                    Draft::Ready { spec, targeting } => expression(spec, targeting.as_ref()),
                    Draft::Refused(_) => self.stand_in(key),
                };
                expressions.known.insert(key.to_owned(), expression);
            }
            drafts.insert(key, draft);
        }
        drafts
    }

    fn draft(&mut self, key: &str, spec: &'c FlagSpec, expressions: &Expressions) -> Draft<'c> {
        if spec.killed.is_some() || spec.state == State::Disabled {
            return Draft::Ready {
                spec,
                targeting: None,
            };
        }
        let limits = &self.options.limits;
        let around = Surroundings {
            segments: self.segments,
            expressions,
            limits,
        };
        let shared = &self.source.evaluators;
        let mut translation = Translation {
            key,
            spec,
            around: &around,
            references: References::new(spec.evaluators.as_ref(), shared, limits.program_nodes),
            inlined_bytes: 0,
            warnings: Vec::new(),
        };
        let targeting = translation.targeting();
        self.warnings.append(&mut translation.warnings);
        match targeting {
            Ok(targeting) => Draft::Ready { spec, targeting },
            Err(refusal) => Draft::Refused(refusal),
        }
    }

    /// What dependants of a flag that cannot be compiled see: its last good version.
    fn stand_in(&self, key: &str) -> Expression {
        let kept = self.options.previous.and_then(|previous| {
            let flag = previous.flag(previous.handle(key)?)?;
            flag.plain.as_ref()?.to_spec(flag.facts.dialect)
        });
        match kept {
            Some(spec) => expression(&spec, spec.targeting.as_ref()),
            None => Expression::Nothing("broken"),
        }
    }

    fn flag(&mut self, key: &str, draft: Draft<'_>) -> CompiledFlag {
        let refusal = match draft {
            Draft::Ready { spec, targeting } => {
                match self.lowered(key, spec, targeting.as_ref(), false) {
                    Ok(flag) => {
                        lint::flag(key, spec, &mut self.warnings);
                        return flag;
                    }
                    Err(refusal) => refusal,
                }
            }
            Draft::Refused(refusal) => refusal,
        };
        let kept = self.kept(key);
        let outcome = if kept.is_some() {
            "its last good version is served"
        } else {
            "it answers ERROR / PARSE_ERROR"
        };
        self.warnings.push(Warning {
            flag: Some(key.to_owned()),
            pointer: refusal.pointer,
            code: refusal.code,
            message: format!("{}; {outcome}", refusal.message),
        });
        kept.unwrap_or_else(|| self.broken(key, refusal.message))
    }

    fn kept(&mut self, key: &str) -> Option<CompiledFlag> {
        let previous = self.options.previous?;
        let flag = previous.flag(previous.handle(key)?)?;
        let spec = flag.plain.as_ref()?.to_spec(flag.facts.dialect)?;
        let mut kept = self
            .lowered(key, &spec, spec.targeting.as_ref(), true)
            .ok()?;
        kept.rules.clone_from(&flag.rules);
        kept.killed.clone_from(&flag.killed);
        Some(kept)
    }

    fn broken(&self, key: &str, detail: String) -> CompiledFlag {
        CompiledFlag {
            plan: Plan::Broken(detail),
            facts: FlagFacts {
                key: key.into(),
                dialect: Bucketing::default(),
                variants: Box::default(),
            },
            default: None,
            metadata: Arc::clone(&self.metadata),
            plain: None,
            rules: Vec::new(),
            reads: Reads::default(),
            killed: None,
            is_kept: false,
        }
    }

    fn lowered(
        &mut self,
        key: &str,
        spec: &FlagSpec,
        targeting: Option<&Value>,
        is_kept: bool,
    ) -> Result<CompiledFlag, Refusal> {
        let variants: Box<[(Box<str>, Value)]> = spec
            .variants
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.clone()))
            .collect();
        let default = if spec.killed.is_some() {
            spec.off_variant.as_deref()
        } else {
            spec.default_variant.name()
        };
        let default = default.and_then(|name| {
            u32::try_from(
                variants
                    .iter()
                    .position(|(variant, _)| **variant == *name)?,
            )
            .ok()
        });
        let mut reads = Reads::default();
        let plan = match (targeting, spec.state) {
            _ if spec.killed.is_some() => Plan::Fixed(default),
            (_, State::Disabled) => Plan::Disabled,
            (None, State::Enabled) => Plan::Fixed(default),
            (Some(targeting), State::Enabled) => {
                let target = Target {
                    key,
                    dialect: spec.dialect(),
                    variants: &variants,
                    max_nodes: self.options.limits.program_nodes,
                };
                let (step, found) =
                    lower(&mut self.builder, &target, targeting).map_err(|error| Refusal {
                        code: error.code(),
                        pointer: error.pointer().to_owned(),
                        message: error.to_string(),
                    })?;
                reads = found;
                let gate = Gate::of(&self.builder.program, step, spec.dialect());
                Plan::Targeted(step, gate)
            }
        };
        let metadata = match spec.metadata.as_ref().filter(|own| !own.is_empty()) {
            Some(own) => {
                let mut merged = Map::clone(&self.metadata);
                merged.extend(own.clone());
                Arc::new(merged)
            }
            None => Arc::clone(&self.metadata),
        };
        Ok(CompiledFlag {
            plan,
            facts: FlagFacts {
                key: key.into(),
                dialect: spec.dialect(),
                variants,
            },
            plain: Some(Plain::of(spec, targeting)),
            default,
            metadata,
            rules: spec.rules.iter().map(note).collect(),
            reads,
            killed: spec.killed.clone(),
            is_kept,
        })
    }

    fn assemble(&mut self, flags: Vec<CompiledFlag>) -> Ruleset {
        let builder = std::mem::replace(&mut self.builder, Builder::new(0));
        let digest = digest(&flags, &self.source.metadata);
        let mut layout = [0; 8];
        layout.copy_from_slice(&digest[..8]);
        // Backwards, so that the first of two flags with one key is found.
        let index = flags
            .iter()
            .enumerate()
            .rev()
            .filter_map(|(index, flag)| Some((flag.facts.key.clone(), u32::try_from(index).ok()?)))
            .collect();
        Ruleset {
            index,
            flags,
            program: builder.program,
            metadata: Arc::clone(&self.metadata),
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            layout: u64::from_le_bytes(layout),
            evaluation_steps: self.options.limits.evaluation_steps,
        }
    }
}

fn first_of(violations: &[Violation]) -> Refusal {
    let message = violations
        .iter()
        .map(Violation::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    Refusal {
        code: violations
            .first()
            .map_or("invalid", |violation| violation.code),
        pointer: violations
            .first()
            .map(|violation| violation.pointer.clone())
            .unwrap_or_default(),
        message,
    }
}

fn note(rule: &Rule) -> RuleNote {
    let serves = match rule.serve {
        Serve::Variant(_) => "variant",
        Serve::Split(_) => "split",
        Serve::Rollout(_) => "rollout",
    };
    RuleNote {
        id: rule.id.clone(),
        serves,
    }
}

/// What dependants see of a translated flag.
fn expression(spec: &FlagSpec, targeting: Option<&Value>) -> Expression {
    if spec.killed.is_some() {
        return Expression::Fixed(spec.off_variant.clone());
    }
    if spec.state == State::Disabled {
        return Expression::Nothing("disabled");
    }
    let default = spec.default_variant.name().map(str::to_owned);
    match targeting {
        None => Expression::Fixed(default),
        Some(targeting) => Expression::Targeted(Targeted {
            targeting: targeting.clone(),
            default,
            variants: names_of(&spec.variants),
            dialect: spec.dialect(),
        }),
    }
}

/// SHA-256 over everything that decides answers, in order.
fn digest(flags: &[CompiledFlag], metadata: &Map<String, Value>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut put = |part: &str| {
        // Lengths keep neighbouring parts apart.
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    put(&Value::Object(metadata.clone()).to_string());
    for flag in flags {
        put(&flag.facts.key);
        put(flag.facts.dialect.as_str());
        match (&flag.plain, &flag.plan) {
            (Some(plain), _) => plain.parts().into_iter().for_each(&mut put),
            (None, Plan::Broken(detail)) => put(detail),
            (None, _) => put(""),
        }
    }
    hasher.finalize().into()
}
