//! What is served to whom: flag definitions, compilation, evaluation, bucketing.
//!
//! The canonical form is the flagd flag definition. Above it stand rules that a person
//! edits ([`Rule`]); they compile into plain flagd JSON, so that every flagd provider gives
//! the same answer. A set is compiled once ([`compile`]) and evaluated many times
//! ([`Ruleset::evaluate`]); evaluation is a pure function of the rule set, the context and
//! the time it is given, never fails, never blocks and explains itself
//! ([`Ruleset::explain`]).
//!
//! This crate knows no clock, no storage, no network and no wire format but flagd's JSON.
//!
//! # Evaluating a flagd document
//!
//! ```
//! use serde_json::json;
//! use tidegate_flags::{CompileOptions, Limits, Segments, compile, parse_flag_set};
//!
//! let text = r#"{"flags": {"new-checkout": {
//!     "state": "ENABLED",
//!     "variants": {"on": true, "off": false},
//!     "defaultVariant": "off",
//!     "targeting": {"if": [
//!         {"in": [{"var": "plan"}, ["pro", "team"]]},
//!         {"fractional": [["on", 50], ["off", 50]]}
//!     ]}
//! }}}"#;
//! let source = parse_flag_set(text, &Limits::default()).unwrap();
//! let (flags, warnings) = compile(&source, &Segments::default(), &CompileOptions::default());
//! assert!(warnings.is_empty());
//!
//! let attributes = json!({"targetingKey": "user-42", "plan": "pro"});
//! let context = flags.bind(attributes.as_object().unwrap(), 1_700_000_000);
//! let checkout = flags.handle("new-checkout").unwrap();
//! let answer = flags.evaluate(checkout, &context);
//! assert_eq!(answer.variant, Some("off"));
//! assert_eq!(answer.reason.as_str(), "TARGETING_MATCH");
//!
//! let why = flags.explain(checkout, &context).unwrap();
//! assert_eq!(why.splits[0].hashed_text.as_deref(), Some("new-checkoutuser-42"));
//! assert_eq!((why.splits[0].bucket, why.splits[0].total), (55.0, 100));
//! ```
//!
//! # Raising a rollout
//!
//! ```
//! use serde_json::json;
//! use tidegate_flags::FlagSpec;
//!
//! let flag = FlagSpec::from_json("new-checkout", &json!({
//!     "state": "ENABLED",
//!     "variants": {"on": true, "off": false},
//!     "defaultVariant": "off",
//!     "offVariant": "off",
//!     "rules": [{
//!         "id": "ramp",
//!         "if": {"==": [{"var": "country"}, "NL"]},
//!         "rollout": {"treatment": "on", "control": "off", "share_bp": 100}
//!     }]
//! })).unwrap();
//!
//! let raised = flag.with_rollout_share("ramp", 500).unwrap();
//! assert_eq!(raised.allocation("ramp").unwrap().treatment_bp, 500);
//! assert_eq!(flag.diff(&raised)[0].pointer, "/rules/ramp");
//!
//! let stopped = raised.kill("checkout errors tripled", "alice", 1_700_000_000).unwrap();
//! assert_eq!(stopped.to_json()["killed"]["by"], "alice");
//! ```

mod bucketing;
mod compile;
mod context;
mod document;
mod explain;
mod flag_set;
mod limits;
mod lint;
mod logic;
mod plain;
mod problem;
mod resolution;
mod ruleset;
mod segments;
mod semantic_version;
mod spec;

pub use bucketing::Bucketing;
pub use compile::{CompileOptions, compile};
pub use context::Context;
pub use document::{check_context, parse_context, parse_json};
pub use explain::{DecidingRule, Explanation, SplitTaken};
pub use flag_set::{FlagSetSource, parse_flag_set};
pub use limits::Limits;
pub use problem::{Violation, Warning};
pub use resolution::{ErrorCode, FlagType, Reason, Resolution, ResolutionError};
pub use ruleset::{FlagHandle, Ruleset};
pub use segments::{Segment, Segments};
pub use spec::change::Change;
pub use spec::edit::EditError;
pub use spec::moment::Moment;
pub use spec::rollout::{Allocation, Exposure, Range, Rollout};
pub use spec::rule::{Hashing, Prerequisite, Rule, Serve, Split};
pub use spec::{DefaultVariant, FlagSpec, Kill, State};
