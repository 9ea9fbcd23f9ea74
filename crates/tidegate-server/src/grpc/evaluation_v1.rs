//! `flagd.evaluation.v1`, which cannot say that there is no value.
//!
//! Its messages hold a value and a variant always, so three things are answered by convention:
//! a disabled flag is a success with the zero of the type, no variant and the reason DISABLED; a
//! flag without default variant that no rule matched is NOT_FOUND, on which clients use the
//! caller's default; and ResolveAll leaves both out, with the same effect.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use prost_types::Struct;
use tonic::{Request, Response, Status};

use super::answer::{Answer, Kind, Question, Typed, context_of};
use super::caller::Caller;
use super::events::{self, Notice};
use super::proto::evaluation_v1 as wire;
use super::{status, structs};
use crate::app::App;
use crate::clients::Protocol;
use crate::meters::Asked;

/// The service over gRPC.
#[derive(Clone)]
pub(crate) struct EvaluationV1 {
    app: App,
}

impl EvaluationV1 {
    pub(crate) fn new(app: App) -> Self {
        Self { app }
    }

    fn resolve<Q>(
        &self,
        request: Request<Q>,
        sent: fn(Q) -> (String, Option<Struct>),
        kind: Kind,
    ) -> Result<Answer, Status> {
        let caller = Caller::of(&request, "")?;
        let (key, context) = sent(request.into_inner());
        let question = Question::new(
            Asked::EvaluationV1,
            &caller.principal,
            caller.selector,
            context_of(context, &self.app)?,
        );
        expressible(&key, question.ask(&self.app, &key, kind)?)
    }
}

/// What v1 can say of `answer`, if it can say anything.
pub(crate) fn expressible(key: &str, answer: Answer) -> Result<Answer, Status> {
    if answer.value.is_none() && !answer.is_disabled {
        return Err(status::flag_not_found(key));
    }
    Ok(answer)
}

/// An answer as one of the five messages, which differ in the type of their value only.
macro_rules! message {
    ($message:ident, $answer:ident, $value:expr) => {
        Response::new(wire::$message {
            value: $value,
            metadata: $answer.metadata_struct(),
            reason: $answer.reason.to_owned(),
            variant: $answer.variant.unwrap_or_default(),
        })
    };
}

#[tonic::async_trait]
impl wire::service_server::Service for EvaluationV1 {
    async fn resolve_all(
        &self,
        request: Request<wire::ResolveAllRequest>,
    ) -> Result<Response<wire::ResolveAllResponse>, Status> {
        let caller = Caller::of(&request, "")?;
        let context = context_of(request.into_inner().context, &self.app)?;
        let question = Question::new(
            Asked::EvaluationV1,
            &caller.principal,
            caller.selector,
            context,
        );
        let answers = question.ask_all(&self.app)?;
        let metadata = Some(structs::from_json(&answers.metadata));
        let flags = answers.by_key.into_iter();
        let flags = flags
            .filter_map(|(key, answer)| Some((key, any(answer)?)))
            .collect();
        Ok(Response::new(wire::ResolveAllResponse { flags, metadata }))
    }

    async fn resolve_boolean(
        &self,
        request: Request<wire::ResolveBooleanRequest>,
    ) -> Result<Response<wire::ResolveBooleanResponse>, Status> {
        let mut answer =
            self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::Boolean)?;
        let value = answer.take_boolean().unwrap_or_default();
        Ok(message!(ResolveBooleanResponse, answer, value))
    }

    async fn resolve_string(
        &self,
        request: Request<wire::ResolveStringRequest>,
    ) -> Result<Response<wire::ResolveStringResponse>, Status> {
        let mut answer =
            self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::String)?;
        let value = answer.take_string().unwrap_or_default();
        Ok(message!(ResolveStringResponse, answer, value))
    }

    async fn resolve_float(
        &self,
        request: Request<wire::ResolveFloatRequest>,
    ) -> Result<Response<wire::ResolveFloatResponse>, Status> {
        let mut answer =
            self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::Float)?;
        let value = answer.take_float().unwrap_or_default();
        Ok(message!(ResolveFloatResponse, answer, value))
    }

    async fn resolve_int(
        &self,
        request: Request<wire::ResolveIntRequest>,
    ) -> Result<Response<wire::ResolveIntResponse>, Status> {
        let mut answer = self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::Int)?;
        let value = answer.take_int().unwrap_or_default();
        Ok(message!(ResolveIntResponse, answer, value))
    }

    async fn resolve_object(
        &self,
        request: Request<wire::ResolveObjectRequest>,
    ) -> Result<Response<wire::ResolveObjectResponse>, Status> {
        let mut answer =
            self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::Object)?;
        let value = Some(answer.take_object().unwrap_or_default());
        Ok(message!(ResolveObjectResponse, answer, value))
    }

    type EventStreamStream =
        Pin<Box<dyn Stream<Item = Result<wire::EventStreamResponse, Status>> + Send>>;

    async fn event_stream(
        &self,
        request: Request<wire::EventStreamRequest>,
    ) -> Result<Response<Self::EventStreamStream>, Status> {
        let caller = Caller::of(&request, "")?;
        let notices = events::open(
            &self.app,
            &caller.principal,
            caller.opening(Protocol::EvaluationV1),
        )?;
        Ok(Response::new(Box::pin(notices.map(|notice| {
            let Notice { kind, data } = notice?;
            let data = data.as_ref().map(structs::from_json);
            Ok(wire::EventStreamResponse {
                r#type: kind.to_owned(),
                data,
            })
        }))))
    }
}

/// The entry of a bulk answer; `None` where v1 cannot express it.
fn any(answer: Answer) -> Option<wire::AnyFlag> {
    use wire::any_flag::Value;
    let metadata = answer.metadata_struct();
    let value = match answer.value? {
        Typed::Boolean(boolean) => Value::BoolValue(boolean),
        Typed::String(text) => Value::StringValue(text),
        Typed::Float(number) => Value::DoubleValue(number),
        Typed::Int(whole) => Value::DoubleValue(structs::widened(whole)),
        Typed::Object(object) => Value::ObjectValue(structs::from_json(&object)),
    };
    Some(wire::AnyFlag {
        reason: answer.reason.to_owned(),
        variant: answer.variant.unwrap_or_default(),
        value: Some(value),
        metadata,
    })
}
