//! The event stream of the evaluation service: notifications, never values.
//!
//! `provider_ready` comes first, so that a client knows that it listens before it fetches.
//! `configuration_change` names the flags that really differ within the client's selector, and
//! is not sent where none does. `keep_alive` comes after 20 seconds without anything else.
//! `provider_shutdown` comes last when the server drains. A deadline that the client set ends the
//! stream with DEADLINE_EXCEEDED, and clients reopen it. A credential that is no longer let in ends
//! it with UNAUTHENTICATED.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use serde_json::{Map, Value, json};
use tidegate_flags::FlagHandle;
use tonic::Status;

use super::selector::Selector;
use super::status;
use crate::access::Principal;
use crate::app::App;
use crate::clients::{Introduction, Protocol, Registration};
use crate::live::{FlagChange, LiveSet};
use crate::streams::{Difference, Wake, Watch};

/// One notification.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notice {
    /// flagd's word for it.
    pub(crate) kind: &'static str,
    /// What it is about.
    pub(crate) data: Option<Map<String, Value>>,
}

impl Notice {
    const fn plain(kind: &'static str) -> Self {
        Self { kind, data: None }
    }

    fn change(flags: BTreeMap<String, FlagChange>) -> Self {
        let flags: Map<String, Value> = flags
            .into_iter()
            .map(|(key, change)| (key, json!({ "type": change.as_str() })))
            .collect();
        let data = Map::from_iter([("flags".to_owned(), Value::Object(flags))]);
        Self {
            kind: "configuration_change",
            data: Some(data),
        }
    }
}

/// How a caller opens its stream.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) protocol: Protocol,
    pub(crate) selector: Selector,
    pub(crate) user_agent: Option<String>,
    pub(crate) deadline: Option<Duration>,
}

/// Opens a stream for `principal`.
pub(crate) fn open(
    app: &App,
    principal: &Principal,
    opening: Opening,
) -> Result<impl Stream<Item = Result<Notice, Status>> + Send + 'static, Status> {
    let project = principal.default_project();
    let place = app
        .live
        .project(project)
        .ok_or_else(|| Status::unavailable("the project is not served yet"))?;
    let registration = register(app, principal, &opening, None)?;
    let watch = Watch::new(place, None, app, principal).with_deadline(opening.deadline);
    let selected = selected_keys(&opening.selector, &watch.place().load());
    let feed = Feed {
        app: app.clone(),
        selector: opening.selector,
        selected,
        watch,
        registration,
        stage: Stage::Opening,
    };
    Ok(unfold(feed, |mut feed| async move {
        let item = feed.next().await?;
        Some((item, feed))
    }))
}

/// Puts a stream on the list of connected clients.
pub(crate) fn register(
    app: &App,
    principal: &Principal,
    opening: &Opening,
    provider_id: Option<String>,
) -> Result<Registration, Status> {
    let introduction = Introduction {
        project: principal.default_project().to_owned(),
        principal: principal.id.clone(),
        protocol: opening.protocol,
        user_agent: opening.user_agent.clone(),
        provider_id,
        selector: opening.selector.to_string(),
        connected_at_us: app.clock.now_us(),
    };
    let admitted = app.streams.clients.admit(introduction);
    admitted.map_err(|error| Status::resource_exhausted(error.to_string()))
}

enum Stage {
    Opening,
    Listening,
    Ended,
}

struct Feed {
    app: App,
    selector: Selector,
    /// The keys in the selection as the client knows them; `None` where it selects everything.
    selected: Option<BTreeSet<String>>,
    watch: Watch,
    registration: Registration,
    stage: Stage,
}

impl Feed {
    async fn next(&mut self) -> Option<Result<Notice, Status>> {
        match self.stage {
            Stage::Ended => None,
            Stage::Opening => {
                self.stage = Stage::Listening;
                self.note_delivery();
                Some(Ok(Notice::plain("provider_ready")))
            }
            Stage::Listening => Some(self.listen().await),
        }
    }

    async fn listen(&mut self) -> Result<Notice, Status> {
        loop {
            match self.watch.next().await {
                Wake::Idle => return Ok(Notice::plain("keep_alive")),
                Wake::Closing => {
                    self.stage = Stage::Ended;
                    return Ok(Notice::plain("provider_shutdown"));
                }
                Wake::Deadline => {
                    self.stage = Stage::Ended;
                    return Err(Status::deadline_exceeded(
                        "the stream's deadline has passed",
                    ));
                }
                Wake::Dismissed(refusal) => {
                    self.stage = Stage::Ended;
                    return Err(status::dismissed(refusal));
                }
                Wake::Changed(difference) => {
                    let flags = self.within_selection(difference);
                    self.note_delivery();
                    if !flags.is_empty() {
                        return Ok(Notice::change(flags));
                    }
                }
            }
        }
    }

    /// What differs for this client, and what its selection is from now on.
    fn within_selection(&mut self, difference: Difference) -> BTreeMap<String, FlagChange> {
        let set = self.watch.place().load();
        let everything = || {
            set.ruleset
                .keys()
                .map(|key| (key.to_owned(), FlagChange::Update))
        };
        let changed = difference.flags.unwrap_or_else(|| everything().collect());
        let Some(before) = &self.selected else {
            return changed;
        };
        let after = selected_keys(&self.selector, &set).unwrap_or_default();
        let seen = seen_through(changed, before, &after);
        self.selected = Some(after);
        seen
    }

    fn note_delivery(&self) {
        let version = self.watch.place().peek().config_version;
        self.registration
            .delivered(self.watch.told(), version, self.app.clock.now_us());
    }
}

/// The keys that `selector` admits; `None` where it admits all without looking.
fn selected_keys(selector: &Selector, set: &LiveSet) -> Option<BTreeSet<String>> {
    if selector.is_everything(&set.project) {
        return None;
    }
    let all = set.ruleset.keys().zip(set.ruleset.handles());
    let admitted = all.filter(|(_, handle)| is_selected(selector, set, *handle));
    Some(admitted.map(|(key, _)| key.to_owned()).collect())
}

/// Whether the flag `handle` of `set` is within `selector`.
pub(crate) fn is_selected(selector: &Selector, set: &LiveSet, handle: FlagHandle) -> bool {
    let metadata = set.ruleset.flag_metadata(handle);
    metadata.is_some_and(|metadata| selector.admits(&set.project, metadata))
}

/// Changes as they look to somebody who sees `before` and then `after` of all flags.
fn seen_through(
    changed: BTreeMap<String, FlagChange>,
    before: &BTreeSet<String>,
    after: &BTreeSet<String>,
) -> BTreeMap<String, FlagChange> {
    changed
        .into_keys()
        .filter_map(|key| {
            let change = match (before.contains(&key), after.contains(&key)) {
                (false, false) => return None,
                (false, true) => FlagChange::Create,
                (true, true) => FlagChange::Update,
                (true, false) => FlagChange::Delete,
            };
            Some((key, change))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_sees_flags_come_and_go_and_nothing_of_the_others() {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let changed = ["kept", "joined", "left", "other"]
            .map(|key| (key.to_owned(), FlagChange::Update))
            .into();
        let seen = seen_through(
            changed,
            &keys(&["kept", "left"]),
            &keys(&["kept", "joined"]),
        );
        let words: Vec<_> = seen
            .iter()
            .map(|(key, change)| (key.as_str(), change.as_str()))
            .collect();
        assert_eq!(
            words,
            [("joined", "create"), ("kept", "update"), ("left", "delete")]
        );
    }
}
