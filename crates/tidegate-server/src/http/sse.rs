//! OFREP's event stream: tells web clients to ask again, and never what the answer is.
//!
//! An event's id is `<instance>-<position>`. A client that reconnects to the same process with the
//! last id it saw is told once of everything it missed; with an id of another process, or one too
//! old, or none at all, it is told to ask again, which is always right: a change between its
//! last answer and this stream would otherwise reach it with the next change only. Asking again
//! costs a 304 where nothing changed.
//!
//! Changes that pile up are folded into one event. A client so slow that even the broadcast lost
//! changes for it is dropped; it returns with the last id it was sent and misses nothing.
//! `retry` differs from stream to stream, so that clients do not return in one wave.
//!
//! Browsers cannot set headers on an event stream, so the address in a bulk answer carries a
//! ticket (see [`crate::access::ticket`]) that opens this stream and nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::json;

use super::routes::{Access, Dialect, RouteRow, Routes, Verb};
use crate::access::{Permission, Principal};
use crate::app::App;
use crate::clients::{Introduction, Protocol, Registration};
use crate::live::{LiveProject, Resume};
use crate::streams::{Wake, Watch};

/// Where the stream lives.
pub(crate) const PATH: &str = "/ofrep/v1/events";

/// How long a bulk request waits for a configuration that an event announced elsewhere.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The shortest pause before a client returns, and by how much it differs between clients.
const RETRY_MS: u64 = 1000;
const RETRY_SPREAD_MS: u64 = 4000;

pub(crate) fn routes(routes: Routes) -> Routes {
    let row = RouteRow {
        verb: Verb::Get,
        path: PATH,
        access: Access::NeedsOrTicket(Permission::Evaluate),
        body_limit: 0,
        dialect: Dialect::Ofrep,
        summary: "Learn that flags changed, as OFREP server-sent events",
    };
    routes.add(row, events)
}

/// `GET /ofrep/v1/events`
async fn events(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Response {
    let Some(place) = app.live.project(principal.default_project()) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let introduction = Introduction {
        project: principal.default_project().to_owned(),
        principal: principal.id.clone(),
        protocol: Protocol::OfrepEvents,
        user_agent: text(USER_AGENT.as_str()).map(str::to_owned),
        provider_id: None,
        selector: String::new(),
        connected_at_us: app.clock.now_us(),
    };
    let Ok(registration) = app.streams.clients.admit(introduction) else {
        let wait = [("retry-after", HeaderValue::from_static("5"))];
        return (StatusCode::SERVICE_UNAVAILABLE, wait).into_response();
    };
    let seen = text("last-event-id").and_then(|id| position(id, &app.streams.instance));
    let watch = Watch::new(place, seen, &app, &principal);
    let feed = Feed {
        app,
        watch,
        registration,
        asks_again: seen.is_none(),
        is_open: false,
    };
    let body = Body::from_stream(unfold(feed, |mut feed| async move {
        let text = feed.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), feed))
    }));
    let kind = HeaderValue::from_static("text/event-stream");
    let cache = HeaderValue::from_static("no-store");
    // Proxies that buffer would keep the news from whoever waits for it.
    let unbuffered = ("x-accel-buffering", HeaderValue::from_static("no"));
    (
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, cache)],
        [unbuffered],
        body,
    )
        .into_response()
}

/// The position in this process's history that an event id names.
fn position(id: &str, instance: &str) -> Option<u64> {
    id.strip_prefix(instance)?.strip_prefix('-')?.parse().ok()
}

struct Feed {
    app: App,
    watch: Watch,
    registration: Registration,
    /// Whether the client must be told to ask again before anything happens.
    asks_again: bool,
    is_open: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<String> {
        if !self.is_open {
            self.is_open = true;
            let mut text = format!("retry: {}\n\n", retry_ms(self.registration.id()));
            if self.asks_again {
                text.push_str(&self.refetch());
            }
            return Some(text);
        }
        match self.watch.next().await {
            Wake::Idle => Some(": still here\n\n".to_owned()),
            Wake::Changed(difference) if difference.lagged => None,
            Wake::Changed(_) => Some(self.refetch()),
            // Whoever is dismissed learns why when it returns.
            Wake::Closing | Wake::Deadline | Wake::Dismissed(_) => None,
        }
    }

    /// The event that makes a client ask again, at the position it will have afterwards.
    fn refetch(&self) -> String {
        let position = self.watch.told();
        let set = self.watch.place().peek();
        self.registration
            .delivered(position, set.config_version, self.app.clock.now_us());
        let data = json!({ "type": "refetchEvaluation", "etag": set.config_tag });
        format!(
            "id: {}-{position}\nevent: message\ndata: {data}\n\n",
            self.app.streams.instance
        )
    }
}

/// A pause that differs from stream to stream.
const fn retry_ms(stream: u64) -> u64 {
    // Fibonacci hashing: neighbouring numbers land far apart.
    RETRY_MS + (stream.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % RETRY_SPREAD_MS
}

/// Waits until `place` serves the configuration `announced` or a later one, but not for long.
///
/// `announced` comes from an event, perhaps of another replica that is ahead of this one. Tags
/// have no order, so a tag that this process served before counts as passed, and one it has never
/// seen is waited for. At the end of the wait the newest known is answered all the same.
pub(crate) async fn catch_up(place: &Arc<LiveProject>, announced: &str) {
    let announced = announced.trim_start_matches("W/").trim_matches('"');
    let served = |changes: Resume| match changes {
        Resume::Missed(changes) => changes.iter().any(|change| change.config_tag == announced),
        // More happened here than history keeps: this process is not the one behind.
        Resume::StartOver => true,
    };
    let (history, mut news) = place.changes.listen(Some(0));
    if announced.is_empty() || place.peek().config_tag == announced || served(history) {
        return;
    }
    let arrival = async {
        while let Ok(change) = news.recv().await {
            if change.config_tag == announced {
                return;
            }
        }
    };
    if tokio::time::timeout(CATCH_UP, arrival).await.is_err() {
        tracing::debug!("a client was told of a configuration that is not here yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_means_something_to_the_process_that_gave_it_only() {
        let cases = [
            ("a1-7", Some(7)),
            ("a1-0", Some(0)),
            ("a1-", None),
            ("a1", None),
            ("b2-7", None),
            ("a1-7x", None),
            ("a1--7", None),
            ("", None),
        ];
        for (id, expected) in cases {
            assert_eq!(position(id, "a1"), expected, "{id}");
        }
    }

    #[test]
    fn clients_return_at_different_times() {
        let pauses: std::collections::BTreeSet<u64> = (1..=1000).map(retry_ms).collect();
        assert!(pauses.len() > 700, "{} different pauses", pauses.len());
        let within = RETRY_MS..RETRY_MS + RETRY_SPREAD_MS;
        assert!(pauses.iter().all(|pause| within.contains(pause)));
    }
}
