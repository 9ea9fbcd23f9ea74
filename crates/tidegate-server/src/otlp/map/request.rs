//! Server spans: requests with their latency and their fate.
//!
//! - **Name**: method and `http.route` where the route is known, else the span's own name, which
//!   the conventions want to be of few kinds.
//! - **Time**: when it ended. What was decided while it ran lies before it, and counts for it.
//! - **Latency**: end minus start, in milliseconds.
//! - **Error**: status code ERROR is one, OK is none; where the status is unset, an HTTP status
//!   from 500 on or an `error.type` is one. A 4xx is the caller's error, not the server's.

use tidegate_metrics::{Event, EventKind, PropertyValue};

use super::attributes::add_request;
use super::{Draft, Fate, Mapper, Refusal, set};
use crate::otlp::read::{Attributes, Span};

/// `SpanKind::SPAN_KIND_SERVER`.
const SERVER: i64 = 2;
/// `StatusCode::STATUS_CODE_OK` and `STATUS_CODE_ERROR`.
const OK: i64 = 1;
const ERROR: i64 = 2;
const STATUS: [&str; 2] = ["http.response.status_code", "http.status_code"];

impl Mapper<'_> {
    pub(super) fn parts_of_span(&mut self, span: &Span<'_>) -> Result<Fate, Refusal> {
        if span.trace_id.is_none() || span.span_id.is_none() {
            return Err("a span has no valid trace id or span id".into());
        }
        let request = match span.kind {
            SERVER => Some(self.request(span)?),
            _ => None,
        };
        let before = self.batch.ready.len();
        let without_unit = self.evaluations_of_span(span)?;
        if let Some(request) = request {
            return Ok(self.keep_waiting(request));
        }
        Ok(match (self.batch.ready.len() > before, without_unit) {
            (true, _) => Fate::Taken,
            (false, 0) => Fate::NotStored,
            (false, _) => Fate::Unattributed,
        })
    }

    fn request(&mut self, span: &Span<'_>) -> Result<Event, Refusal> {
        if span.end_ns == 0 || span.start_ns == 0 {
            return Err("a server span has no start or no end".into());
        }
        let Some(nanoseconds) = span.end_ns.checked_sub(span.start_ns) else {
            return Err("a server span ends before it starts".into());
        };
        let mut properties = self.resource.properties.clone();
        let mut left_out = 0;
        let limits = &self.limits.events;
        add_request(&mut properties, &span.attributes, limits, &mut left_out);
        let status = status_of(&span.attributes);
        if let Some(status) = status {
            set(&mut properties, "status", PropertyValue::Number(status));
        }
        let has_failed = PropertyValue::Bool(has_failed(span, status));
        set(&mut properties, "error", has_failed);
        let event = self.event(Draft {
            kind: EventKind::Request,
            name: &name_of(span),
            unit: self.unit(&span.attributes).unwrap_or_default(),
            time_ns: span.end_ns,
            identity: self.scope.span(span.trace_id, span.span_id),
            trace_id: span.trace_id,
            value: Some(milliseconds(nanoseconds)),
            properties,
            flags: Vec::new(),
        })?;
        self.batch.tally.attributes_left_out += left_out;
        Ok(event)
    }
}

fn status_of(attributes: &Attributes<'_>) -> Option<f64> {
    let found = STATUS.iter().find_map(|name| attributes.get(name))?;
    let number = found.as_number().or_else(|| found.as_text()?.parse().ok());
    number.filter(|status| (100.0..600.0).contains(status))
}

fn has_failed(span: &Span<'_>, status: Option<f64>) -> bool {
    match span.status {
        ERROR => true,
        OK => false,
        _ => {
            status.is_some_and(|status| status >= 500.0)
                || span.attributes.text(&["error.type"]).is_some()
        }
    }
}

fn name_of(span: &Span<'_>) -> String {
    let method = span
        .attributes
        .text(&["http.request.method", "http.method"]);
    match (method, span.attributes.text(&["http.route"])) {
        (Some(method), Some(route)) => format!("{method} {route}"),
        (None, Some(route)) => route.to_owned(),
        _ if span.name.is_empty() => "request".to_owned(),
        _ => span.name.to_string(),
    }
}

/// Nanoseconds as milliseconds; exact up to 104 days.
#[expect(
    clippy::cast_precision_loss,
    reason = "a request that runs for 104 days loses nanoseconds"
)]
fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
