//! `flagd.evaluation.v2`: what has no value has none on the wire either.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use prost_types::Struct;
use tonic::{Request, Response, Status};

use super::answer::{Answer, Kind, Question, context_of};
use super::caller::Caller;
use super::events::{self, Notice};
use super::proto::evaluation_v2 as wire;
use super::structs;
use crate::app::App;
use crate::clients::Protocol;
use crate::meters::Asked;

/// The service over gRPC.
#[derive(Clone)]
pub(crate) struct EvaluationV2 {
    app: App,
}

impl EvaluationV2 {
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
            Asked::EvaluationV2,
            &caller.principal,
            caller.selector,
            context_of(context, &self.app)?,
        );
        question.ask(&self.app, &key, kind)
    }
}

/// An answer as one of the five messages, which differ in the type of their value only.
macro_rules! message {
    ($message:ident, $answer:ident, $value:expr) => {
        Response::new(wire::$message {
            value: $value,
            metadata: $answer.metadata_struct(),
            reason: $answer.reason.to_owned(),
            variant: $answer.variant,
        })
    };
}

#[tonic::async_trait]
impl wire::service_server::Service for EvaluationV2 {
    async fn resolve_boolean(
        &self,
        request: Request<wire::ResolveBooleanRequest>,
    ) -> Result<Response<wire::ResolveBooleanResponse>, Status> {
        let mut answer =
            self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::Boolean)?;
        let value = answer.take_boolean();
        Ok(message!(ResolveBooleanResponse, answer, value))
    }

    async fn resolve_string(
        &self,
        request: Request<wire::ResolveStringRequest>,
    ) -> Result<Response<wire::ResolveStringResponse>, Status> {
        let mut answer =
            self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::String)?;
        let value = answer.take_string();
        Ok(message!(ResolveStringResponse, answer, value))
    }

    async fn resolve_float(
        &self,
        request: Request<wire::ResolveFloatRequest>,
    ) -> Result<Response<wire::ResolveFloatResponse>, Status> {
        let mut answer =
            self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::Float)?;
        let value = answer.take_float();
        Ok(message!(ResolveFloatResponse, answer, value))
    }

    async fn resolve_int(
        &self,
        request: Request<wire::ResolveIntRequest>,
    ) -> Result<Response<wire::ResolveIntResponse>, Status> {
        let mut answer = self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::Int)?;
        let value = answer.take_int();
        Ok(message!(ResolveIntResponse, answer, value))
    }

    async fn resolve_object(
        &self,
        request: Request<wire::ResolveObjectRequest>,
    ) -> Result<Response<wire::ResolveObjectResponse>, Status> {
        let mut answer =
            self.resolve(request, |sent| (sent.flag_key, sent.context), Kind::Object)?;
        let value = answer.take_object();
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
            caller.opening(Protocol::EvaluationV2),
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
