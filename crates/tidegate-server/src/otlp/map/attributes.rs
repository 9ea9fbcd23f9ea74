//! Attributes: who a record is about, and what of it becomes properties.
//!
//! **Unit.** The first of these that has a text: `tidegate.unit`, `feature_flag.context.id`,
//! `enduser.id`, `user.id`, `enduser.pseudo.id`, `session.id`; of the record, or else of its
//! resource. Of a waiting event the trace's own unit goes before all of them ([`super::super::join`]).
//!
//! **Personal data.** Of requests only a list of harmless attributes is kept ([`REQUEST`]); of
//! track events every scalar but those that tell of persons, addresses and contents ([`PERSONAL`]);
//! of resources only which service, in which version, of which environment ([`RESOURCE`]).
//! Nothing else is stored: no address, no user agent, no query, no header, no message of an error.

use tidegate_metrics::{Limits, Properties, PropertyValue};

use super::set;
use crate::otlp::read::{Attributes, Value};

/// Where the unit is looked for, in this order.
pub const UNIT: [&str; 6] = [
    "tidegate.unit",
    "feature_flag.context.id",
    "enduser.id",
    "user.id",
    "enduser.pseudo.id",
    "session.id",
];

/// What is kept of a resource.
pub const RESOURCE: [&str; 3] = [
    "deployment.environment.name",
    "service.name",
    "service.version",
];

/// What is kept of a request, beside `status` and `error`.
pub const REQUEST: [&str; 6] = [
    "error.type",
    "http.request.method",
    "http.route",
    "rpc.method",
    "rpc.service",
    "rpc.grpc.status_code",
];

/// Attributes that are never kept: these names, and every name that begins with one and a dot.
pub const PERSONAL: [&str; 22] = [
    "browser",
    "client",
    "db",
    "device",
    "enduser",
    "exception",
    "geo",
    "host",
    "http.client_ip",
    "http.request.body",
    "http.request.header",
    "http.response.header",
    "http.target",
    "http.url",
    "http.user_agent",
    "net",
    "network",
    "session",
    "source",
    "url",
    "user",
    "user_agent",
];

/// Who attributes are about.
pub(crate) fn unit<'a>(attributes: &'a Attributes<'_>) -> Option<&'a str> {
    attributes.text(&UNIT)
}

/// The properties that a resource gives everything it sends.
pub(crate) fn of_resource(
    attributes: &Attributes<'_>,
    limits: &Limits,
    left_out: &mut usize,
) -> Properties {
    let mut properties = Properties::new();
    for name in RESOURCE {
        keep(
            &mut properties,
            name,
            attributes.get(name),
            limits,
            left_out,
        );
    }
    properties
}

/// Adds the attributes of a request that are kept.
pub(crate) fn add_request(
    properties: &mut Properties,
    attributes: &Attributes<'_>,
    limits: &Limits,
    left_out: &mut usize,
) {
    for name in REQUEST {
        keep(properties, name, attributes.get(name), limits, left_out);
    }
    let older = attributes.get("http.method");
    keep(properties, "http.request.method", older, limits, left_out);
}

/// Adds the attributes of a track event that tell of no person.
pub(crate) fn add_track(
    properties: &mut Properties,
    attributes: &Attributes<'_>,
    limits: &Limits,
    left_out: &mut usize,
) {
    for (name, value) in &attributes.list {
        if !is_consumed(name) && !is_personal(name) {
            keep(properties, name, Some(value), limits, left_out);
        }
    }
}

/// What has said all it says elsewhere in the event.
fn is_consumed(name: &str) -> bool {
    matches!(
        name,
        "tidegate.unit" | "tidegate.event.id" | "tidegate.value" | "event.name" | "log.record.uid"
    )
}

/// Whether an attribute may tell of a person.
#[must_use]
pub(crate) fn is_personal(name: &str) -> bool {
    PERSONAL.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Adds a scalar; what is nested, too long or too much is left out and counted.
pub(crate) fn keep(
    properties: &mut Properties,
    name: &str,
    value: Option<&Value<'_>>,
    limits: &Limits,
    left_out: &mut usize,
) {
    let scalar = match value {
        None | Some(Value::Empty) => return,
        Some(value) => scalar(value, limits.max_text_bytes),
    };
    let has_room = properties.len() < limits.max_properties
        && !name.is_empty()
        && name.len() <= limits.max_name_bytes
        && !name.chars().any(char::is_control);
    match scalar {
        Some(scalar) if has_room => set(properties, name, scalar),
        _ => *left_out += 1,
    }
}

fn scalar(value: &Value<'_>, most_bytes: usize) -> Option<PropertyValue> {
    match value {
        Value::Text(text) if text.len() <= most_bytes => {
            Some(PropertyValue::Text(text.as_ref().into()))
        }
        Value::Bool(truth) => Some(PropertyValue::Bool(*truth)),
        Value::Int(_) | Value::Double(_) => {
            let number = value.as_number().filter(|number| number.is_finite())?;
            // -0 is stored as 0, as at the native door.
            Some(PropertyValue::Number(number + 0.0))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::is_personal;

    #[test]
    fn what_tells_of_persons_is_told_apart_by_name() {
        for name in [
            "client.address",
            "enduser.id",
            "http.request.header.cookie",
            "http.target",
            "net.sock.peer.addr",
            "url.full",
            "user.email",
            "user_agent.original",
            "exception.message",
            "session.id",
        ] {
            assert!(is_personal(name), "{name}");
        }
        for name in [
            "cart.size",
            "username_length",
            "plan",
            "http.route",
            "usertype",
        ] {
            assert!(!is_personal(name), "{name}");
        }
    }
}
