//! From one event's JSON to the domain type, or to everything that is wrong with it.

use super::draft::{Draft, DraftSeed, Object, Scalar};
use super::rejection::{Place, RejectionCode, Violation, Violations};
use super::{Arrival, Limits};
use crate::{
    Event, EventId, EventKind, Properties, PropertyValue, ServedFlags, TraceId, parse_rfc3339,
};
use serde::de::DeserializeSeed;

pub(super) fn read_event(
    json: &[u8],
    limits: &Limits,
    arrival: Arrival,
) -> Result<Event, Vec<Violation>> {
    let mut reader = Reader {
        limits,
        violations: Violations::default(),
    };
    let event = reader.read(json, arrival);
    match event {
        Some(event) if reader.violations.is_empty() => Ok(event),
        _ => Err(reader.violations.into_found()),
    }
}

struct Reader<'l> {
    limits: &'l Limits,
    violations: Violations,
}

impl Reader<'_> {
    fn read(&mut self, json: &[u8], arrival: Arrival) -> Option<Event> {
        let draft = self.draft(json)?;
        let kind = self.kind(&draft.kind);
        let id = self.id(&draft.id);
        let time_us = self.time(&draft.time);
        let unit = self.required_text("/unit", &draft.unit, self.limits.max_unit_bytes);
        let name = self.name(&draft.name, kind);
        let value = self.number("/value", &draft.value);
        let trace_id = self.trace_id(&draft.trace_id);
        let properties = self.properties(draft.properties);
        let flags = self.flags(draft.flags);
        let mut event = Event {
            id: id.unwrap_or(EventId(0)),
            time_us: time_us?,
            received_us: arrival.received_us,
            sent_us: arrival.sent_us,
            unit: unit?,
            kind: kind?,
            name: name?,
            value,
            properties,
            flags,
            trace_id,
            is_quarantined: false,
        };
        event.is_quarantined =
            event.time_us.saturating_sub(arrival.received_us) > self.limits.max_future_us;
        self.check_kind(&event);
        if id.is_none() {
            event.id = event.derived_id();
        }
        Some(event)
    }

    fn draft<'a>(&mut self, json: &'a [u8]) -> Option<Draft<'a>> {
        if json.len() > self.limits.max_event_bytes {
            let detail = format!("event exceeds {} bytes", self.limits.max_event_bytes);
            self.refuse("", RejectionCode::EventTooLarge, detail);
            return None;
        }
        let Ok(text) = std::str::from_utf8(json) else {
            self.refuse("", RejectionCode::EncodingInvalid, "event is not UTF-8");
            return None;
        };
        let mut input = serde_json::Deserializer::from_str(text);
        let seed = DraftSeed {
            limits: self.limits,
            violations: &mut self.violations,
        };
        let draft = seed
            .deserialize(&mut input)
            .and_then(|draft| input.end().map(|()| draft));
        match draft {
            Ok(Some(draft)) => Some(draft),
            Ok(None) => {
                let detail = "an event is a JSON object";
                self.refuse("", RejectionCode::TypeMismatch, detail);
                None
            }
            Err(error) => {
                self.refuse("", RejectionCode::JsonInvalid, error.to_string());
                None
            }
        }
    }

    fn refuse<'p>(
        &mut self,
        place: impl Into<Place<'p>>,
        code: RejectionCode,
        detail: impl Into<String>,
    ) {
        self.violations.push(place, code, detail);
    }

    fn kind(&mut self, field: &Scalar<'_>) -> Option<EventKind> {
        let text = self.text("/kind", field)?;
        let kind = text.parse::<EventKind>();
        if let Err(error) = &kind {
            self.refuse("/kind", RejectionCode::KindUnknown, error.to_string());
        }
        kind.ok()
    }

    fn id(&mut self, field: &Scalar<'_>) -> Option<EventId> {
        if matches!(field, Scalar::Absent) {
            return None;
        }
        let id = self.text("/id", field)?.parse::<EventId>();
        if let Err(error) = &id {
            self.refuse("/id", RejectionCode::IdInvalid, error.to_string());
        }
        id.ok()
    }

    fn trace_id(&mut self, field: &Scalar<'_>) -> Option<TraceId> {
        if matches!(field, Scalar::Absent) {
            return None;
        }
        let id = self.text("/trace_id", field)?.parse::<TraceId>();
        if let Err(error) = &id {
            self.refuse("/trace_id", RejectionCode::IdInvalid, error.to_string());
        }
        id.ok()
    }

    fn time(&mut self, field: &Scalar<'_>) -> Option<i64> {
        let time = parse_rfc3339(self.text("/time", field)?);
        if let Err(error) = &time {
            self.refuse("/time", RejectionCode::TimeInvalid, error.to_string());
        }
        time.ok()
    }

    // A request needs no name of its own; everything else is nothing without one.
    fn name(&mut self, field: &Scalar<'_>, kind: Option<EventKind>) -> Option<Box<str>> {
        if kind == Some(EventKind::Request) && matches!(field, Scalar::Absent) {
            return Some(EventKind::Request.as_str().into());
        }
        self.required_text("/name", field, self.limits.max_name_bytes)
    }

    fn text<'s>(&mut self, place: impl Into<Place<'s>>, field: &'s Scalar<'_>) -> Option<&'s str> {
        match field {
            Scalar::Text(text) => Some(text),
            Scalar::Absent => {
                self.refuse(place, RejectionCode::FieldMissing, "the field is required");
                None
            }
            _ => {
                self.refuse(place, RejectionCode::TypeMismatch, "expected text");
                None
            }
        }
    }

    fn required_text<'p>(
        &mut self,
        place: impl Into<Place<'p>>,
        field: &Scalar<'_>,
        limit: usize,
    ) -> Option<Box<str>> {
        let place = place.into();
        let text = self.text(place, field)?;
        self.checked(place, text, limit)
    }

    fn checked(&mut self, place: Place<'_>, text: &str, limit: usize) -> Option<Box<str>> {
        if text.is_empty() {
            self.refuse(place, RejectionCode::TextEmpty, "text must not be empty");
            return None;
        }
        if text.len() > limit {
            let detail = format!("text exceeds {limit} bytes");
            self.refuse(place, RejectionCode::TextTooLong, detail);
            return None;
        }
        if has_control(text) {
            let detail = "text must not hold control characters";
            self.refuse(place, RejectionCode::TextControlCharacter, detail);
            return None;
        }
        Some(text.into())
    }

    fn number(&mut self, place: &'static str, field: &Scalar<'_>) -> Option<f64> {
        match field {
            Scalar::Absent => None,
            Scalar::Number(number) => Some(*number),
            Scalar::InexactInteger => {
                self.refuse(place, RejectionCode::NumberNotExact, NOT_EXACT);
                None
            }
            _ => {
                self.refuse(place, RejectionCode::TypeMismatch, "expected a number");
                None
            }
        }
    }

    fn properties(&mut self, object: Object<'_>) -> Properties {
        let limit = self.limits.max_properties;
        let pairs = self.pairs(
            "/properties",
            object,
            limit,
            RejectionCode::TooManyProperties,
        );
        let mut properties = Vec::with_capacity(pairs.len());
        for (key, field) in pairs {
            let place = Place::member("/properties", &key);
            let checked = self.checked(place, &key, self.limits.max_name_bytes);
            let value = self.property(place, &field);
            properties.extend(checked.zip(value));
        }
        self.sort_unique("/properties", &mut properties);
        properties
    }

    fn property(&mut self, place: Place<'_>, field: &Scalar<'_>) -> Option<PropertyValue> {
        match field {
            Scalar::Absent => None,
            Scalar::Bool(value) => Some(PropertyValue::Bool(*value)),
            Scalar::Number(value) => Some(PropertyValue::Number(*value)),
            Scalar::Text(text) if text.len() > self.limits.max_text_bytes => {
                let detail = format!("text exceeds {} bytes", self.limits.max_text_bytes);
                self.refuse(place, RejectionCode::TextTooLong, detail);
                None
            }
            Scalar::Text(text) => Some(PropertyValue::Text(text.as_ref().into())),
            Scalar::InexactInteger => {
                self.refuse(place, RejectionCode::NumberNotExact, NOT_EXACT);
                None
            }
            Scalar::Nested => {
                let detail = "a property is text, a number or a truth value, never nested";
                self.refuse(place, RejectionCode::TypeMismatch, detail);
                None
            }
        }
    }

    fn flags(&mut self, object: Object<'_>) -> ServedFlags {
        let limit = self.limits.max_flags;
        let pairs = self.pairs("/flags", object, limit, RejectionCode::TooManyFlags);
        let mut flags = Vec::with_capacity(pairs.len());
        for (key, field) in pairs {
            let place = Place::member("/flags", &key);
            let checked = self.checked(place, &key, self.limits.max_name_bytes);
            let variant = self.required_text(place, &field, self.limits.max_name_bytes);
            flags.extend(checked.zip(variant));
        }
        self.sort_unique("/flags", &mut flags);
        flags
    }

    fn pairs<'a>(
        &mut self,
        pointer: &str,
        object: Object<'a>,
        limit: usize,
        code: RejectionCode,
    ) -> super::draft::Pairs<'a> {
        match object {
            Object::Absent => Vec::new(),
            Object::Pairs { pairs, left_out: 0 } => pairs,
            Object::Pairs { pairs, left_out } => {
                let detail = format!("{} entries exceed the limit of {limit}", limit + left_out);
                self.refuse(pointer, code, detail);
                pairs
            }
            Object::Unfit => {
                self.refuse(pointer, RejectionCode::TypeMismatch, "expected an object");
                Vec::new()
            }
        }
    }

    fn sort_unique<T>(&mut self, pointer: &str, pairs: &mut [(Box<str>, T)]) {
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        for neighbours in pairs.windows(2) {
            if let [(first, _), (second, _)] = neighbours
                && first == second
            {
                let detail = "the key occurs twice; send it once";
                let place = Place::member(pointer, first);
                self.refuse(place, RejectionCode::FieldDuplicate, detail);
            }
        }
    }

    fn check_kind(&mut self, event: &Event) {
        match event.kind {
            EventKind::Exposure | EventKind::Evaluation if event.variant(&event.name).is_none() => {
                let detail = "flags must hold the variant of the flag that name names";
                self.refuse("/flags", RejectionCode::ExposureWithoutVariant, detail);
            }
            EventKind::Request => self.check_request(event),
            _ => {}
        }
    }

    fn check_request(&mut self, event: &Event) {
        match event.value {
            Some(latency_ms) if latency_ms < 0.0 => {
                let detail = "a request's value is its latency in milliseconds, zero or more";
                self.refuse("/value", RejectionCode::NumberOutOfRange, detail);
            }
            _ => {}
        }
        match event.property("status") {
            None => {}
            Some(PropertyValue::Number(status)) if (100.0..600.0).contains(status) => {}
            Some(PropertyValue::Number(_)) => {
                let detail = "an HTTP status lies between 100 and 599";
                self.refuse(
                    "/properties/status",
                    RejectionCode::NumberOutOfRange,
                    detail,
                );
            }
            Some(_) => {
                let detail = "a request's status is a number";
                self.refuse("/properties/status", RejectionCode::TypeMismatch, detail);
            }
        }
        if !matches!(event.property("error"), None | Some(PropertyValue::Bool(_))) {
            let detail = "a request's error is true or false";
            self.refuse("/properties/error", RejectionCode::TypeMismatch, detail);
        }
    }
}

/// Whether a text has a control character. Most texts are plain ASCII, which bytes decide.
fn has_control(text: &str) -> bool {
    let is_plain = |byte: &u8| (0x20..0x7f).contains(byte);
    !text.as_bytes().iter().all(is_plain) && text.chars().any(char::is_control)
}

const NOT_EXACT: &str =
    "a whole number beyond 2^53 would be rounded; send it as text if it is an identifier";
