//! One evaluation in flagd's terms, before either version of the protocol writes it down.
//!
//! Both versions, and both transports (gRPC and Connect), ask here, so they cannot disagree.
//! A number is given as a whole number only if that loses nothing, and only within +-(2^53-1),
//! where every client can hold it. What has no value has none here either: [`Answer::value`] is
//! `None`, and what a protocol that cannot say so says instead is that protocol's business.

use prost_types::Struct;
use serde_json::{Map, Value};
use tidegate_flags::{ErrorCode, Reason, Resolution};
use tonic::Status;

use super::selector::Selector;
use super::status;
use super::structs::{self, StructLimits};
use crate::access::Principal;
use crate::app::App;
use crate::live::LiveSet;
use crate::meters::{Asked, Reasons};

/// The largest whole number that every client holds exactly: 2^53 - 1.
const LARGEST_WHOLE: i64 = (1 << 53) - 1;

/// The type that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    String,
    Float,
    Int,
    Object,
}

/// A value of a type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Typed {
    Boolean(bool),
    String(String),
    Float(f64),
    Int(i64),
    Object(Map<String, Value>),
}

/// A resolution without error.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The value; `None` where the caller's own default applies.
    pub(crate) value: Option<Typed>,
    /// Why, in OpenFeature's words.
    pub(crate) reason: &'static str,
    /// Whether the flag is switched off altogether.
    pub(crate) is_disabled: bool,
    /// The variant; `None` where the caller's own default applies.
    pub(crate) variant: Option<String>,
    /// The flag's metadata with the caller's context id.
    pub(crate) metadata: Map<String, Value>,
}

/// Every flag that resolved, and what is said about the set.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) by_key: Vec<(String, Answer)>,
    pub(crate) metadata: Map<String, Value>,
}

/// Who asks, of which flags, in which context.
#[derive(Debug)]
pub(crate) struct Question {
    asked: Asked,
    project: String,
    selector: Selector,
    context: Map<String, Value>,
}

impl Question {
    pub(crate) fn new(
        asked: Asked,
        principal: &Principal,
        selector: Selector,
        context: Map<String, Value>,
    ) -> Self {
        Self {
            asked,
            project: principal.default_project().to_owned(),
            selector,
            context,
        }
    }

    /// The flag `key` as a `kind`.
    pub(crate) fn ask(&self, app: &App, key: &str, kind: Kind) -> Result<Answer, Status> {
        let place = app
            .live
            .project(&self.project)
            .ok_or_else(|| status::flag_not_found(key))?;
        let set = place.peek();
        let handle = set
            .ruleset
            .handle(key)
            .ok_or_else(|| status::flag_not_found(key))?;
        let bound = set.ruleset.bind(&self.context, app.clock.now_seconds());
        let resolution = set.ruleset.evaluate(handle, &bound);
        if !self.selector.admits(&self.project, resolution.metadata) {
            return Err(status::flag_not_found(key));
        }
        let answer = self.answer(&resolution, Some(kind));
        let reason = answer.as_ref().map_or(Reason::Error, |_| resolution.reason);
        app.operations.meters.evaluated(self.asked, reason);
        answer
    }

    /// Every flag that resolves, each as whatever it is.
    pub(crate) fn ask_all(&self, app: &App) -> Result<Answers, Status> {
        let place = app
            .live
            .project(&self.project)
            .ok_or_else(|| Status::unavailable("the project is not served yet"))?;
        let set = place.peek();
        let bound = set.ruleset.bind(&self.context, app.clock.now_seconds());
        let mut answers = Vec::with_capacity(set.ruleset.len());
        let mut reasons = Reasons::default();
        set.ruleset.evaluate_all(&bound, |key, resolution| {
            if !self.selector.admits(&self.project, resolution.metadata) {
                return;
            }
            reasons.note(resolution.reason);
            if let Ok(answer) = self.answer(&resolution, None) {
                answers.push((key.to_owned(), answer));
            }
        });
        app.operations.meters.evaluated_all(self.asked, &reasons);
        Ok(Answers {
            by_key: answers,
            metadata: self.set_metadata(&set),
        })
    }

    fn set_metadata(&self, set: &LiveSet) -> Map<String, Value> {
        let mut metadata = set.ruleset.metadata().clone();
        self.selector.echo(&mut metadata);
        metadata
    }

    fn answer(&self, resolution: &Resolution<'_>, kind: Option<Kind>) -> Result<Answer, Status> {
        if let Some(error) = &resolution.error {
            return Err(status::of_evaluation(error.code, &error.detail));
        }
        let value = resolution
            .value
            .map(|value| typed(value, kind))
            .transpose()?;
        Ok(Answer {
            value,
            reason: resolution.reason.as_str(),
            is_disabled: resolution.reason == Reason::Disabled,
            variant: resolution.variant.map(str::to_owned),
            metadata: self.metadata(resolution.metadata),
        })
    }

    fn metadata(&self, of_flag: &Map<String, Value>) -> Map<String, Value> {
        let mut metadata = of_flag.clone();
        if let Some(id) = self.context.get("targetingKey").and_then(Value::as_str) {
            metadata.insert("contextId".to_owned(), Value::from(id));
        }
        metadata
    }
}

/// The context of a gRPC request within the limits that contexts have everywhere.
pub(crate) fn context_of(sent: Option<Struct>, app: &App) -> Result<Map<String, Value>, Status> {
    let limits = StructLimits {
        depth: app.flag_limits.depth,
        items: app.flag_limits.context_items,
    };
    structs::to_json(sent.unwrap_or_default(), limits)
        .map_err(|error| status::of_evaluation(ErrorCode::InvalidContext, &error.to_string()))
}

/// `value` as what was asked for, or as what it is.
fn typed(value: &Value, kind: Option<Kind>) -> Result<Typed, Status> {
    let typed = match (kind, value) {
        (Some(Kind::Boolean) | None, Value::Bool(boolean)) => Some(Typed::Boolean(*boolean)),
        (Some(Kind::String) | None, Value::String(text)) => Some(Typed::String(text.clone())),
        (Some(Kind::Float) | None, Value::Number(number)) => number.as_f64().map(Typed::Float),
        (Some(Kind::Int), Value::Number(number)) => number
            .as_i64()
            .or_else(|| number.as_f64().and_then(structs::whole))
            .filter(|whole| (-LARGEST_WHOLE..=LARGEST_WHOLE).contains(whole))
            .map(Typed::Int),
        (Some(Kind::Object) | None, Value::Object(object)) => Some(Typed::Object(object.clone())),
        _ => None,
    };
    typed.ok_or_else(|| mismatch(value, kind))
}

fn mismatch(value: &Value, kind: Option<Kind>) -> Status {
    let asked = match kind {
        Some(Kind::Boolean) => "a boolean",
        Some(Kind::String) => "text",
        Some(Kind::Float) => "a number",
        Some(Kind::Int) => "a whole number of at most 2^53-1",
        Some(Kind::Object) => "an object",
        None => "a boolean, text, a number or an object",
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::String(_) => "text",
        Value::Number(_) => "a number",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    status::of_evaluation(
        ErrorCode::TypeMismatch,
        &format!("asked for {asked}, and it is {is}"),
    )
}

/// Reads an answer's value as the type it was asked for; `None` if it has none.
macro_rules! read_as {
    ($name:ident, $variant:ident, $type:ty) => {
        pub(crate) fn $name(&mut self) -> Option<$type> {
            match self.value.take() {
                Some(Typed::$variant(value)) => Some(value),
                _ => None,
            }
        }
    };
}

impl Answer {
    read_as!(take_boolean, Boolean, bool);
    read_as!(take_string, String, String);
    read_as!(take_float, Float, f64);
    read_as!(take_int, Int, i64);

    pub(crate) fn take_object(&mut self) -> Option<Struct> {
        match self.value.take() {
            Some(Typed::Object(object)) => Some(structs::from_json(&object)),
            _ => None,
        }
    }

    pub(crate) fn metadata_struct(&self) -> Option<Struct> {
        Some(structs::from_json(&self.metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_number_is_whole_only_where_nothing_is_lost() {
        let whole = |value: Value| typed(&value, Some(Kind::Int)).ok();
        assert_eq!(whole(json!(10)), Some(Typed::Int(10)));
        assert_eq!(whole(json!(10.0)), Some(Typed::Int(10)));
        assert_eq!(whole(json!(-3)), Some(Typed::Int(-3)));
        assert_eq!(whole(json!(LARGEST_WHOLE)), Some(Typed::Int(LARGEST_WHOLE)));
        for lossy in [
            json!(3.25),
            json!(LARGEST_WHOLE + 1),
            json!(u64::MAX),
            json!(1e300),
        ] {
            assert_eq!(whole(lossy.clone()), None, "{lossy}");
        }
        assert_eq!(
            typed(&json!(3), Some(Kind::Float)).unwrap(),
            Typed::Float(3.0)
        );
    }

    #[test]
    fn a_value_of_another_type_is_a_type_mismatch() {
        let values = [json!(true), json!("x"), json!(1.5), json!({})];
        let kinds = [Kind::Boolean, Kind::String, Kind::Float, Kind::Object];
        for (row, kind) in kinds.into_iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                let outcome = typed(value, Some(kind));
                match outcome {
                    Ok(_) => assert_eq!(row, column, "{value} as {kind:?}"),
                    Err(status) => {
                        assert_ne!(row, column, "{value} as {kind:?}");
                        assert_eq!(status.code(), tonic::Code::InvalidArgument);
                        assert!(status.message().starts_with("TYPE_MISMATCH: "));
                    }
                }
            }
        }
    }
}
