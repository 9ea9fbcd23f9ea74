//! Alertmanager's webhook (version 4), and Grafana's, which has the same shape.
//!
//! Each alert is one incident, named by fingerprint and start: the same alert firing again is a new incident.
//! `endsAt` in the year 1 means that it still fires.
//! The service is the label `service`, else `job`; an alert without either is an incident of no service.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::told::{Told, row, short};
use super::{ParseError, Parsed, Request, WebhookSource};
use crate::event::{EventBody, IncidentSeen};

const VERSION: &str = "4";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    truncated_alerts: u64,
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    starts_at: Told,
    #[serde(default)]
    ends_at: Told,
    #[serde(default)]
    fingerprint: String,
}

pub(super) fn parse(request: &Request<'_>) -> Result<Parsed, ParseError> {
    let payload: Payload = serde_json::from_slice(request.body)?;
    let mut parsed = Parsed::default();
    if let Some(version) = payload
        .version
        .filter(|version| version != VERSION && version != "1")
    {
        parsed.notes.push(format!(
            "format version {version} is read as version {VERSION}"
        ));
    }
    if payload.truncated_alerts > 0 {
        parsed.notes.push(format!(
            "the sender left {} alerts out",
            payload.truncated_alerts
        ));
    }
    for mut alert in payload.alerts {
        let Some(started) = alert.starts_at.0 else {
            parsed
                .notes
                .push("an alert without a start was left out".to_owned());
            continue;
        };
        let resolved_at = alert.ends_at.0.filter(|_| alert.status == "resolved");
        let name = format!("{}@{}", alert.fingerprint, started.millis());
        let mut label = |name: &str| alert.labels.remove(name);
        let seen = IncidentSeen {
            incident: name.clone(),
            service: label("service").or_else(|| label("job")),
            environment: label("environment"),
            severity: label("severity"),
            title: alert
                .annotations
                .remove("summary")
                .or_else(|| label("alertname"))
                .map(short),
            detected_at: Some(started),
            resolved_at,
            runbook: alert.annotations.remove("runbook_url"),
            ..IncidentSeen::default()
        };
        let id = format!("{name}/{}", alert.status);
        let at = resolved_at.unwrap_or(started);
        parsed.events.push(row(
            WebhookSource::Alertmanager,
            id,
            at,
            EventBody::Incident(seen),
        ));
    }
    Ok(parsed)
}
