//! What targeting becomes: two arenas of small instructions over shared tables.
//!
//! *Steps* decide: each ends in a variant, the default, or a failure. *Nodes* compute
//! values for conditions and for whatever a step cannot decide by itself. Both refer to
//! each other and to the tables (strings, string sets, splits) by index, so a program can
//! be listed ([`listing`](super::listing)), compared and counted; there are no closures.

use super::value::Atom;
use crate::bucketing::murmur3::Murmur3;
use crate::bucketing::{Boundaries, Bucketing};
use crate::semantic_version::VersionTest;
use rustc_hash::FxHashMap;
use serde_json::Value;

macro_rules! index_type {
    ($(#[$doc:meta] $name:ident),*) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) struct $name(pub(crate) u32);

        impl $name {
            #[inline]
            pub(crate) fn index(self) -> usize {
                usize::try_from(self.0).unwrap_or(usize::MAX)
            }
        }
    )*};
}

index_type!(
    /// Index of a node.
    NodeId,
    /// Index of a step.
    StepId,
    /// Index of a slot of the context.
    SlotId,
    /// Index of a split.
    SplitId
);

/// A run of consecutive entries in a side table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) from: u32,
    pub(crate) len: u32,
}

impl Run {
    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        let at = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        at(self.from)..at(self.from.saturating_add(self.len))
    }
}

/// A decision. Small enough to stand inline wherever one follows another, so that walking
/// a program loads less; only alternatives are referred to by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This variant of the flag, by position.
    Serve(u32),
    /// No match: the default variant.
    Default,
    /// A name that is no variant of the flag.
    Unknown(Atom),
    /// The first arm whose condition holds, else the other step.
    If { arms: Run, otherwise: StepId },
    /// A split over constants; no place means the default, or the other step if given.
    Split {
        split: SplitId,
        otherwise: Option<StepId>,
    },
    /// Computed: the node's value names the variant.
    Computed(NodeId),
}

/// What a split hashes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HashInput {
    /// Flag key and targeting key, the key's state ready.
    Implicit { prefix: Murmur3 },
    /// A constant joined with one attribute as text, the constant's state ready.
    Joined {
        text: Box<str>,
        prefix: Murmur3,
        slot: SlotId,
    },
    /// Any value.
    Computed(NodeId),
}

/// A `fractional` whose entries and weights are constants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SplitTable {
    pub(crate) input: HashInput,
    pub(crate) boundaries: Boundaries,
    /// What each entry decides.
    pub(crate) outcomes: Box<[Step]>,
    /// The same `fractional` computed in full, for an input that turns out to be an array
    /// and so is an entry.
    pub(crate) general: Option<NodeId>,
}

/// Comparisons by order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Arithmetic on a list of operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Min,
    Max,
}

/// What an iteration over an array asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Iteration {
    Map,
    Filter,
    All,
    Some,
    None,
}

/// A computation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(Atom),
    /// A constant array or object.
    Json(Box<Value>),
    /// An array of computed items.
    Array(Run),
    /// An attribute of the context; a missing one is null.
    Slot(SlotId),
    /// An attribute, or the node's value if it is missing.
    SlotOr(SlotId, NodeId),
    /// `$flagd.timestamp`.
    Timestamp,
    /// The whole context, with `$flagd`.
    Context,
    /// `$flagd`.
    FlagdObject,
    /// A path into the element at hand (inside `map`, `filter`, ...).
    Element {
        path: Box<[Box<str>]>,
        default: Option<NodeId>,
    },
    /// `var` with a computed name.
    Var {
        name: NodeId,
        default: Option<NodeId>,
        in_scope: bool,
    },
    Missing {
        names: Run,
        in_scope: bool,
    },
    MissingSome {
        need: NodeId,
        names: NodeId,
        in_scope: bool,
    },
    If {
        arms: Run,
        otherwise: NodeId,
    },
    And(Run),
    Or(Run),
    Not(NodeId),
    Truthy(NodeId),
    /// Slot compared with one interned string, which `==` and `===` do alike unless the
    /// slot holds no string.
    SlotIs {
        slot: SlotId,
        text: Atom,
        is_strict: bool,
    },
    Equal {
        a: NodeId,
        b: NodeId,
        is_strict: bool,
    },
    Compare {
        order: Order,
        a: NodeId,
        b: NodeId,
        c: Option<NodeId>,
    },
    /// Slot is one of a sorted set of interned strings.
    SlotIn {
        slot: SlotId,
        set: Run,
    },
    In {
        needle: NodeId,
        stack: NodeId,
    },
    Arithmetic(Arithmetic, Run),
    Cat(Run),
    Substr {
        text: NodeId,
        start: NodeId,
        length: Option<NodeId>,
    },
    Merge(Run),
    Iterate {
        iteration: Iteration,
        list: NodeId,
        body: NodeId,
    },
    Reduce {
        list: NodeId,
        body: NodeId,
        initial: Option<NodeId>,
    },
    StartsWith(NodeId, NodeId),
    EndsWith(NodeId, NodeId),
    SemVer {
        value: NodeId,
        test: NodeId,
        target: NodeId,
    },
    /// `sem_ver` with a constant test and target, already read.
    SemVerConstant {
        value: NodeId,
        test: VersionTest,
        target: Atom,
    },
    /// `fractional` in a value position, or with computed parts.
    Fractional {
        bucket_by: Option<NodeId>,
        entries: Run,
        in_scope: bool,
    },
}

/// The shared tables of a compiled set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) nodes: Vec<Node>,
    pub(crate) steps: Vec<Step>,
    /// Operands of nodes, by [`Run`].
    pub(crate) operands: Vec<NodeId>,
    /// Condition and step of `if`, by [`Run`].
    pub(crate) arms: Vec<(NodeId, Step)>,
    /// Sorted string sets, by [`Run`].
    pub(crate) sets: Vec<Atom>,
    pub(crate) splits: Vec<SplitTable>,
    /// Interned strings, by [`Atom`].
    pub(crate) strings: Vec<Box<str>>,
    pub(crate) atoms: FxHashMap<Box<str>, Atom>,
    /// Context paths, by [`SlotId`]; slot 0 is the targeting key.
    pub(crate) slots: Vec<Box<[Box<str>]>>,
    /// First token of a path to the slots below it.
    pub(crate) roots: FxHashMap<Box<str>, Vec<SlotId>>,
}

/// The slot of the targeting key.
pub(crate) const TARGETING_KEY: SlotId = SlotId(0);

impl Program {
    /// The text of `atom`.
    #[inline]
    pub(crate) fn text(&self, atom: Atom) -> &str {
        usize::try_from(atom.0)
            .ok()
            .and_then(|index| self.strings.get(index))
            .map_or("", |s| s)
    }

    /// The step that an alternative refers to.
    pub(crate) fn step(&self, id: StepId) -> Step {
        self.steps.get(id.index()).copied().unwrap_or(Step::Default)
    }

    /// The operands of a node.
    #[inline]
    pub(crate) fn operands(&self, run: Run) -> &[NodeId] {
        self.operands.get(run.range()).unwrap_or_default()
    }

    /// The members of a set.
    #[inline]
    pub(crate) fn set(&self, run: Run) -> &[Atom] {
        self.sets.get(run.range()).unwrap_or_default()
    }
}

/// What the interpreter must know of the flag at hand.
#[derive(Clone, Debug)]
pub(crate) struct FlagFacts {
    pub(crate) key: Box<str>,
    pub(crate) dialect: Bucketing,
    /// Variant names and values by position.
    pub(crate) variants: Box<[(Box<str>, Value)]>,
}
