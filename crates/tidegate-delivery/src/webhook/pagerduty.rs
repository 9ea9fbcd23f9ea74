//! PagerDuty's v3 webhooks: incidents by their id, told apart by the event's own id.
//!
//! An incident begins with `incident.triggered` and ends with `incident.resolved`; reopening lets it last on until
//! the next end. Everything else about it (acknowledged, escalated, annotated) changes no time.

use serde::Deserialize;

use super::told::{Told, row, short};
use super::{ParseError, Parsed, Request, WebhookSource};
use crate::event::{EventBody, IncidentSeen};

#[derive(Deserialize)]
struct Payload {
    event: Event,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    event_type: String,
    #[serde(default)]
    occurred_at: Told,
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    id: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    created_at: Told,
    service: Option<Reference>,
    priority: Option<Reference>,
    urgency: Option<String>,
}

#[derive(Deserialize)]
struct Reference {
    summary: Option<String>,
}

pub(super) fn parse(request: &Request<'_>) -> Result<Parsed, ParseError> {
    let Payload { event } = serde_json::from_slice(request.body)?;
    let at = event.occurred_at.0.unwrap_or(request.received_at);
    let (begins, ends) = match event.event_type.as_str() {
        "incident.triggered" => (true, false),
        "incident.resolved" => (false, true),
        kind if kind.starts_with("incident.")
            && !event.data.id.is_empty()
            && event.data.title.is_some() =>
        {
            (false, false)
        }
        other => {
            return Ok(Parsed::nothing(format!(
                "{other} events change no incident's times"
            )));
        }
    };
    let data = event.data;
    let seen = IncidentSeen {
        incident: data.id,
        service: data.service.and_then(|service| service.summary),
        title: data.title.map(short),
        severity: data
            .priority
            .and_then(|priority| priority.summary)
            .or(data.urgency),
        detected_at: data.created_at.0.or(begins.then_some(at)),
        resolved_at: ends.then_some(at),
        ..IncidentSeen::default()
    };
    let events = vec![row(
        WebhookSource::PagerDuty,
        event.id,
        at,
        EventBody::Incident(seen),
    )];
    Ok(Parsed {
        events,
        notes: Vec::new(),
    })
}
