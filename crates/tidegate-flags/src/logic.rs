//! JsonLogic as a program: lowered once, interpreted many times.
//!
//! [`lower`](lower::lower) turns a flag's plain targeting into nodes of a
//! [`Program`](program::Program): keys interned, context paths resolved to slots, string
//! lists sorted, constant splits cumulated. [`interpret`] walks it without allocating for
//! the common operators. Semantics are those of json-logic-js, which flagd adopted, with
//! the deviations that `docs/flags.md` lists.

pub(crate) mod coerce;
pub(crate) mod gate;
pub(crate) mod interpret;
pub(crate) mod listing;
pub(crate) mod lists;
pub(crate) mod lower;
pub(crate) mod operators;
pub(crate) mod program;
pub(crate) mod splits;
pub(crate) mod value;
