//! `flagd.sync.v1`: whole rule sets for providers that evaluate in process.
//!
//! What is handed out is the compiled form: plain flagd, `$ref` and everything of ours inlined,
//! set metadata folded into the flags, so that any provider gives the answers that we give. The
//! document of one configuration and selector is written once and shared by all streams.
//! A client that is slow is sent the newest set when it can take one, never a backlog.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use futures_util::stream::unfold;
use serde_json::{Map, Value};
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::events::{is_selected, register};
use super::proto::sync_v1 as wire;
use super::selector::Selector;
use super::status;
use crate::app::App;
use crate::clients::{Protocol, Registration};
use crate::live::{LiveProject, LiveSet};
use crate::streams::{Wake, Watch};

/// How many documents are kept for streams that open or wake.
const KEPT: usize = 16;

/// The service over gRPC.
#[derive(Clone)]
pub(crate) struct FlagSync {
    app: App,
}

impl FlagSync {
    pub(crate) fn new(app: App) -> Self {
        Self { app }
    }

    fn place_of(&self, caller: &Caller) -> Result<Arc<LiveProject>, Status> {
        self.app
            .live
            .project(caller.principal.default_project())
            .ok_or_else(|| Status::unavailable("the project is not served yet"))
    }
}

/// Documents already written, newest last.
#[derive(Debug, Default)]
pub struct Documents {
    kept: Mutex<VecDeque<Document>>,
}

#[derive(Debug, Clone)]
struct Document {
    project: String,
    selector: Selector,
    config_tag: String,
    config_version: u64,
    text: Arc<str>,
}

impl Documents {
    /// What `set` looks like to `selector`, as flagd JSON.
    #[must_use]
    pub fn of(&self, set: &LiveSet, selector: &Selector) -> Arc<str> {
        let is_it = |document: &Document| {
            document.project == set.project
                && document.config_tag == set.config_tag
                && document.config_version == set.config_version
                && document.selector == *selector
        };
        let found = self.lock().iter().find(|document| is_it(document)).cloned();
        if let Some(document) = found {
            return document.text;
        }
        let text: Arc<str> = document(set, selector).into();
        let mut kept = self.lock();
        kept.retain(|document| document.project != set.project || document.selector != *selector);
        kept.push_back(Document {
            project: set.project.clone(),
            selector: selector.clone(),
            config_tag: set.config_tag.clone(),
            config_version: set.config_version,
            text: Arc::clone(&text),
        });
        if kept.len() > KEPT {
            kept.pop_front();
        }
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Document>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flags of `set` that `selector` admits, as a flagd document.
fn document(set: &LiveSet, selector: &Selector) -> String {
    let is_everything = selector.is_everything(&set.project);
    set.ruleset
        .to_flagd_json(|flag| is_everything || is_selected(selector, set, flag))
}

#[tonic::async_trait]
impl wire::flag_sync_service_server::FlagSyncService for FlagSync {
    type SyncFlagsStream =
        Pin<Box<dyn Stream<Item = Result<wire::SyncFlagsResponse, Status>> + Send>>;

    async fn sync_flags(
        &self,
        request: Request<wire::SyncFlagsRequest>,
    ) -> Result<Response<Self::SyncFlagsStream>, Status> {
        let caller = Caller::of(&request, &request.get_ref().selector)?;
        let place = self.place_of(&caller)?;
        let opening = caller.opening(Protocol::Sync);
        let provider_id = Some(request.into_inner().provider_id);
        let registration = register(&self.app, &caller.principal, &opening, provider_id)?;
        registration.warn_of_other_dialect(&place.load());
        let feed = Feed {
            watch: Watch::new(place, None, &self.app, &caller.principal)
                .with_deadline(opening.deadline),
            app: self.app.clone(),
            selector: opening.selector,
            registration,
            sent: None,
            is_ended: false,
        };
        Ok(Response::new(Box::pin(unfold(
            feed,
            |mut feed| async move {
                let item = feed.next().await?;
                Some((item, feed))
            },
        ))))
    }

    async fn fetch_all_flags(
        &self,
        request: Request<wire::FetchAllFlagsRequest>,
    ) -> Result<Response<wire::FetchAllFlagsResponse>, Status> {
        let caller = Caller::of(&request, &request.get_ref().selector)?;
        let set = self.place_of(&caller)?.load();
        let flag_configuration = self
            .app
            .streams
            .documents
            .of(&set, &caller.selector)
            .to_string();
        Ok(Response::new(wire::FetchAllFlagsResponse {
            flag_configuration,
        }))
    }

    async fn get_metadata(
        &self,
        request: Request<wire::GetMetadataRequest>,
    ) -> Result<Response<wire::GetMetadataResponse>, Status> {
        Caller::of(&request, "")?;
        let metadata = Some(super::structs::from_json(&static_context()));
        Ok(Response::new(wire::GetMetadataResponse { metadata }))
    }
}

/// The context that this server adds to every evaluation, which is none: what is served depends
/// on the caller's context and the rules alone, so that every client can be reproduced.
fn static_context() -> Map<String, Value> {
    Map::new()
}

struct Feed {
    app: App,
    watch: Watch,
    selector: Selector,
    registration: Registration,
    /// The document the client has.
    sent: Option<Arc<str>>,
    is_ended: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<Result<wire::SyncFlagsResponse, Status>> {
        if self.is_ended {
            return None;
        }
        if self.sent.is_none() {
            let text = self.newest();
            return Some(Ok(self.send(text)));
        }
        loop {
            match self.watch.next().await {
                Wake::Idle => {}
                Wake::Closing => return None,
                Wake::Deadline => {
                    self.is_ended = true;
                    let ended = Status::deadline_exceeded("the stream's deadline has passed");
                    return Some(Err(ended));
                }
                Wake::Dismissed(refusal) => {
                    self.is_ended = true;
                    return Some(Err(status::dismissed(refusal)));
                }
                Wake::Changed(_) => {
                    self.registration
                        .warn_of_other_dialect(&self.watch.place().load());
                    let text = self.newest();
                    if self.sent.as_ref() != Some(&text) {
                        return Some(Ok(self.send(text)));
                    }
                }
            }
        }
    }

    fn newest(&self) -> Arc<str> {
        let set = self.watch.place().load();
        let told = self.watch.told();
        self.registration
            .delivered(told, set.config_version, self.app.clock.now_us());
        self.app.streams.documents.of(&set, &self.selector)
    }

    fn send(&mut self, text: Arc<str>) -> wire::SyncFlagsResponse {
        let flag_configuration = text.to_string();
        self.sent = Some(text);
        let sync_context = Some(super::structs::from_json(&static_context()));
        wire::SyncFlagsResponse {
            flag_configuration,
            sync_context,
        }
    }
}
