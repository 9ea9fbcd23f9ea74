//! The answer of an evaluation, in OpenFeature's terms.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Why a value was served (OpenFeature `Reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The flag has no rules: the same for everyone until the flag changes. Clients cache
    /// this one.
    Static,
    /// No rule matched, or nothing is served by default.
    Default,
    /// A rule named the variant.
    TargetingMatch,
    /// The flag is disabled: the caller's own default.
    Disabled,
    /// See the error code.
    Error,
}

impl Reason {
    /// The spelling on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Static => "STATIC",
            Reason::Default => "DEFAULT",
            Reason::TargetingMatch => "TARGETING_MATCH",
            Reason::Disabled => "DISABLED",
            Reason::Error => "ERROR",
        }
    }
}

/// What went wrong (OpenFeature `ErrorCode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// No such flag.
    FlagNotFound,
    /// The flag's definition could not be compiled.
    ParseError,
    /// The value is not of the type asked for.
    TypeMismatch,
    /// A rule needs a targeting key.
    TargetingKeyMissing,
    /// The context is unusable.
    InvalidContext,
    /// Anything else: targeting named no variant, or cost too much.
    General,
}

impl ErrorCode {
    /// The spelling on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::FlagNotFound => "FLAG_NOT_FOUND",
            ErrorCode::ParseError => "PARSE_ERROR",
            ErrorCode::TypeMismatch => "TYPE_MISMATCH",
            ErrorCode::TargetingKeyMissing => "TARGETING_KEY_MISSING",
            ErrorCode::InvalidContext => "INVALID_CONTEXT",
            ErrorCode::General => "GENERAL",
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// An error code with words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResolutionError<'r> {
    /// The code.
    pub code: ErrorCode,
    /// What happened.
    pub detail: Cow<'r, str>,
}

/// The answer of one evaluation, borrowed from the rule set.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution<'r> {
    /// The variant's name; none for DISABLED, ERROR, or where nothing is the default.
    pub variant: Option<&'r str>,
    /// The variant's value; none means that the caller uses its own default.
    pub value: Option<&'r Value>,
    /// Why.
    pub reason: Reason,
    /// What went wrong, if the reason is [`Reason::Error`].
    pub error: Option<ResolutionError<'r>>,
    /// Set metadata, overridden by the flag's own.
    pub metadata: &'r Map<String, Value>,
}

/// The type that all variants of a flag share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlagType {
    /// Booleans.
    Boolean,
    /// Strings.
    String,
    /// Numbers, all written without fraction.
    Integer,
    /// Numbers, some written with fraction.
    Float,
    /// Objects.
    Object,
}

impl FlagType {
    /// Lower-case name, as the OpenFeature manifest spells it (`float` is ours).
    pub fn as_str(self) -> &'static str {
        match self {
            FlagType::Boolean => "boolean",
            FlagType::String => "string",
            FlagType::Integer => "integer",
            FlagType::Float => "float",
            FlagType::Object => "object",
        }
    }

    /// The type of all `values`; none if they differ.
    pub fn of<'v>(values: impl IntoIterator<Item = &'v Value>) -> Option<FlagType> {
        let mut types = values.into_iter().map(|value| match value {
            Value::Bool(_) => Some(FlagType::Boolean),
            Value::String(_) => Some(FlagType::String),
            Value::Number(number) if number.is_f64() => Some(FlagType::Float),
            Value::Number(_) => Some(FlagType::Integer),
            Value::Object(_) => Some(FlagType::Object),
            Value::Null | Value::Array(_) => None,
        });
        let first = types.next()??;
        types.try_fold(first, |all, next| match (all, next?) {
            (a, b) if a == b => Some(a),
            (FlagType::Integer | FlagType::Float, FlagType::Integer | FlagType::Float) => {
                Some(FlagType::Float)
            }
            _ => None,
        })
    }
}
