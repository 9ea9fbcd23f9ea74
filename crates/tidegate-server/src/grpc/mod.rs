//! The flagd protocols: evaluation v1 and v2, and sync v1; and OTLP's collector services.
//!
//! This is the only place that knows the protobuf of flags. What is decided is decided by `tidegate-flags`;
//! here it is translated, and nothing else. The services are ordinary routes of the one router,
//! so the same guard asks for the same credentials, permissions, limits and rates as everywhere.
//! The evaluation services answer two protocols on the same paths, told apart by content type:
//! gRPC here, Connect in [`crate::http::connect`].

pub(crate) mod answer;
pub(crate) mod caller;
pub mod codec;
pub(crate) mod evaluation_v1;
mod evaluation_v2;
pub(crate) mod events;
pub(crate) mod otlp;
pub mod proto;
pub mod selector;
pub(crate) mod status;
pub mod structs;
pub mod sync;

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tonic::Status;
use tower::ServiceExt as _;

use crate::access::Permission;
use crate::app::App;
use crate::http::connect;
use crate::http::routes::{Access, Dialect, RouteRow, Routes, Verb};
use evaluation_v1::EvaluationV1;
use evaluation_v2::EvaluationV2;
use proto::evaluation_v1::service_server::ServiceServer as ServerV1;
use proto::evaluation_v2::service_server::ServiceServer as ServerV2;
use proto::sync_v1::flag_sync_service_server::FlagSyncServiceServer as ServerSync;
use sync::FlagSync;

/// The largest body of a call. A message that announces more is refused by its own limit first,
/// which is smaller by the prefix of a message.
const BODY_BYTES: usize = 256 * 1024;
const MESSAGE_BYTES: usize = BODY_BYTES - 5;

/// Which evaluation service is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// The routes of all flagd services.
pub(crate) fn routes(routes: Routes) -> Routes {
    const V1: &str = "/flagd.evaluation.v1.Service/{method}";
    const V2: &str = "/flagd.evaluation.v2.Service/{method}";
    const SYNC: &str = "/flagd.sync.v1.FlagSyncService/{method}";
    routes
        .add(
            row(V1, Permission::Evaluate, "Evaluate, as flagd.evaluation.v1"),
            call_v1,
        )
        .add(
            row(V2, Permission::Evaluate, "Evaluate, as flagd.evaluation.v2"),
            call_v2,
        )
        .add(
            row(
                SYNC,
                Permission::Sync,
                "Fetch definitions, as flagd.sync.v1",
            ),
            call_sync,
        )
}

const fn row(path: &'static str, permission: Permission, summary: &'static str) -> RouteRow {
    RouteRow {
        verb: Verb::Post,
        path,
        access: Access::Needs(permission),
        body_limit: BODY_BYTES,
        dialect: Dialect::Rpc,
        summary,
    }
}

async fn call_v1(State(app): State<App>, Path(method): Path<String>, request: Request) -> Response {
    if !is_grpc(request.headers()) {
        return connect::call(&app, Version::V1, &method, request).await;
    }
    let service = ServerV1::new(EvaluationV1::new(app));
    grpc(service.max_decoding_message_size(MESSAGE_BYTES), request).await
}

async fn call_v2(State(app): State<App>, Path(method): Path<String>, request: Request) -> Response {
    if !is_grpc(request.headers()) {
        return connect::call(&app, Version::V2, &method, request).await;
    }
    let service = ServerV2::new(EvaluationV2::new(app));
    grpc(service.max_decoding_message_size(MESSAGE_BYTES), request).await
}

async fn call_sync(State(app): State<App>, request: Request) -> Response {
    if !is_grpc(request.headers()) {
        let cure = "this service speaks gRPC alone: send application/grpc";
        return connect::refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &Status::invalid_argument(cure),
        );
    }
    let service = ServerSync::new(FlagSync::new(app));
    grpc(service.max_decoding_message_size(MESSAGE_BYTES), request).await
}

async fn grpc<S>(service: S, request: Request) -> Response
where
    S: tower::Service<
            axum::http::Request<tonic::body::Body>,
            Response = axum::http::Response<tonic::body::Body>,
            Error = Infallible,
        >,
{
    match service.oneshot(request.map(tonic::body::Body::new)).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// Whether a request speaks gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/grpc"))
}
