//! Checkouts as OpenTelemetry spans: what a service says that knows nothing of our events.
//!
//! A server span tells how the request ended and how long it took, and carries the evaluation of
//! the flag as a span event, as OpenFeature's tracing hook writes it. It is the OTLP/HTTP JSON
//! encoding that any exporter can send.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidegate_metrics::unit_hash;

use super::customers::Checkout;
use crate::client::Connection;

const NANOSECONDS: i64 = 1_000;

/// The server span of one checkout.
pub(super) fn span(checkout: &Checkout<'_>) -> Value {
    let about = format!("{} {}", checkout.flag, checkout.unit);
    let (trace, span) = (unit_hash(&about), unit_hash(&format!("span of {about}")));
    let ended_ns = checkout.at_us.saturating_mul(NANOSECONDS);
    let took = std::time::Duration::from_secs_f64(checkout.latency_ms / 1e3);
    let took_ns = i64::try_from(took.as_nanos()).unwrap_or_default();
    let started_ns = ended_ns.saturating_sub(took_ns).to_string();
    let status = if checkout.has_failed { "500" } else { "200" };
    json!({
        "traceId": format!("{:032x}", u128::from(trace) + 1),
        "spanId": format!("{:016x}", span.max(1)),
        "name": "POST /checkout",
        "kind": 2,
        "startTimeUnixNano": started_ns,
        "endTimeUnixNano": ended_ns.to_string(),
        "attributes": [
            text("http.request.method", "POST"),
            text("http.route", "/checkout"),
            { "key": "http.response.status_code", "value": { "intValue": status } },
        ],
        "events": [{
            "timeUnixNano": started_ns,
            "name": "feature_flag.evaluation",
            "attributes": [
                text("feature_flag.key", checkout.flag),
                text("feature_flag.result.variant", checkout.variant),
                text("feature_flag.context.id", checkout.unit),
            ],
        }],
    })
}

/// Exports a batch; a span that is turned away is an error, since the demo's truth would lack it.
pub(super) fn send(connection: &Connection, spans: &[Value]) -> Result<()> {
    if spans.is_empty() {
        return Ok(());
    }
    let export = json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "checkout")] },
        "scopeSpans": [{ "spans": spans }],
    }] });
    let answer = connection.post("/v1/traces", &export)?.body;
    let partial = &answer["partialSuccess"];
    ensure!(partial.is_null(), "spans were turned away: {partial}");
    Ok(())
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}
