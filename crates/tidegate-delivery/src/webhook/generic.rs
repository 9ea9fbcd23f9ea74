//! Rows as they are, for any pipeline that can send JSON: one object, or an array of them.
//!
//! ```json
//! {"id": "build-17", "at": "2025-01-31T09:30:00Z",
//!  "deployment": {"service": "shop", "environment": "production", "version": "v17"}}
//! ```
//!
//! `at` is RFC 3339, a date, or seconds since 1970; without it the moment of receipt counts.
//! `id` tells deliveries apart; without it the digest of the row does, so an exact repetition is one delivery.

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::told::{Told, row};
use super::{MAX_EVENTS, ParseError, Parsed, Request, WebhookSource};
use crate::event::{DeliveryEvent, EventBody};

pub(super) fn parse(request: &Request<'_>) -> Result<Parsed, ParseError> {
    let rows: Vec<Map<String, Value>> = match serde_json::from_slice(request.body)? {
        Value::Object(one) => vec![one],
        Value::Array(many) if many.len() > MAX_EVENTS => {
            return Err(ParseError::TooMany { events: many.len() });
        }
        Value::Array(many) => many
            .into_iter()
            .map(|value| serde_json::from_value(value).map_err(ParseError::from))
            .collect::<Result<_, _>>()?,
        _ => {
            return Err(ParseError::Unreadable {
                cause: "neither an object nor an array".to_owned(),
            });
        }
    };
    let mut parsed = Parsed::default();
    for (place, row) in rows.into_iter().enumerate() {
        match event(request, row) {
            Ok(event) => parsed.events.push(event),
            Err(cause) => parsed
                .notes
                .push(format!("row {place} was left out: {cause}")),
        }
    }
    Ok(parsed)
}

fn event(request: &Request<'_>, mut told: Map<String, Value>) -> Result<DeliveryEvent, String> {
    let digest = Sha256::digest(Value::Object(told.clone()).to_string());
    let at = match told.remove("at") {
        None => request.received_at,
        Some(at) => {
            let text = at.to_string();
            Told::deserialize(at)
                .ok()
                .and_then(|told| told.0)
                .ok_or(format!("at: {text} is no time from 1980 to 2199"))?
        }
    };
    let id = match told.remove("id") {
        Some(Value::String(id)) => id,
        Some(other) => other.to_string(),
        None => digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    };
    let body: EventBody =
        serde_json::from_value(Value::Object(told)).map_err(|error| error.to_string())?;
    Ok(row(WebhookSource::Generic, id, at, body))
}
