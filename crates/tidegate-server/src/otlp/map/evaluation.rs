//! Flag evaluations: what was decided, and whether somebody met it.
//!
//! Names are those of the semantic conventions for feature flags, and the older forms that
//! released instrumentation still writes. An **evaluation** says that a flag was asked. An
//! **exposure** says that a unit met a variant, and only exposures are denominators. A record
//! becomes both if it names unit and variant and nothing went wrong: reason `error` and
//! `error.type` mean that the caller's default was used, which is no variant. Code that evaluates
//! without showing anything says so by `tidegate.exposure` = false.
//!
//! Sentry writes `flag.evaluation.KEY` = value on spans, without a variant: an evaluation.

use tidegate_metrics::{Event, EventKind, Properties, PropertyValue, ServedFlags};

use super::attributes::keep;
use super::ids::{self, Identity};
use super::{Draft, Fate, Mapper, Refusal, set};
use crate::otlp::read::{Attributes, LogRecord, Span, Value};

const VARIANT: [&str; 2] = ["feature_flag.result.variant", "feature_flag.variant"];
const VALUE: [&str; 3] = ["feature_flag.result.value", "feature_flag.value", "value"];
const REASON: [&str; 3] = [
    "feature_flag.result.reason",
    "feature_flag.evaluation.reason",
    "feature_flag.reason",
];
const PROVIDER: [&str; 3] = [
    "feature_flag.provider.name",
    "feature_flag.provider_name",
    "feature_flag.system",
];
const ERROR: [&str; 3] = [
    "error.type",
    "feature_flag.evaluation.error.type",
    "feature_flag.error.type",
];
const MESSAGE: [&str; 2] = ["error.message", "feature_flag.evaluation.error.message"];
const SENTRY: &str = "flag.evaluation.";

/// Where and when a flag was asked.
struct Place<'a> {
    unit: Option<&'a str>,
    time_ns: u64,
    identity: Identity,
    trace_id: Option<u128>,
}

impl Mapper<'_> {
    pub(super) fn evaluation_of_log(&mut self, log: &LogRecord<'_>) -> Result<Fate, Refusal> {
        let time_ns = self.time_of([log.known_ns(), 0]);
        let said = || {
            self.scope
                .number(log.known_ns())
                .span(log.trace_id, log.span_id)
                .attributes(&log.attributes)
        };
        let events = self.events_of(
            &log.attributes,
            &Place {
                unit: self.unit(&log.attributes),
                time_ns,
                identity: ids::own(&log.attributes).unwrap_or_else(said),
                trace_id: log.trace_id,
            },
        )?;
        Ok(self.keep_evaluation(events))
    }

    /// The evaluations a span tells of, in its events and its attributes; how many there were
    /// without a unit.
    pub(super) fn evaluations_of_span(&mut self, span: &Span<'_>) -> Result<usize, Refusal> {
        let of_span = self.unit(&span.attributes);
        let here = self.scope.span(span.trace_id, span.span_id);
        let mut found = Vec::new();
        for event in &span.evaluations {
            if event.attributes.is_cut {
                return Err(self.too_many_attributes());
            }
            let own = super::attributes::unit(&event.attributes);
            let place = Place {
                unit: own.or(of_span),
                time_ns: self.time_of([event.time_ns, span.start_ns]),
                identity: here.number(event.time_ns).attributes(&event.attributes),
                trace_id: span.trace_id,
            };
            found.push(self.events_of(&event.attributes, &place)?);
        }
        let at_start = |identity| Place {
            unit: of_span,
            time_ns: span.start_ns,
            identity,
            trace_id: span.trace_id,
        };
        if span.attributes.get("feature_flag.key").is_some() {
            let place = at_start(here.text("attributes"));
            found.push(self.events_of(&span.attributes, &place)?);
        }
        for (name, value) in &span.attributes.list {
            if let Some(key) = name.strip_prefix(SENTRY) {
                let place = at_start(here.text(name));
                found.push(self.sentry(key, value, &place)?);
            }
        }
        let mut without_unit = 0;
        for events in found {
            let fate = self.keep_evaluation(events);
            without_unit += usize::from(fate == Fate::Unattributed);
        }
        Ok(without_unit)
    }

    fn keep_evaluation(&mut self, events: Option<Evaluation>) -> Fate {
        let Some(Evaluation {
            evaluation,
            exposure,
        }) = events
        else {
            return Fate::Unattributed;
        };
        self.batch.exposures.extend(exposure);
        self.keep(evaluation);
        Fate::Taken
    }

    /// The evaluation and exposure a set of attributes tells of; none without a unit.
    fn events_of(
        &self,
        attributes: &Attributes<'_>,
        place: &Place<'_>,
    ) -> Result<Option<Evaluation>, Refusal> {
        let Some(key) = attributes.text(&["feature_flag.key"]) else {
            return Err("an evaluation has no feature_flag.key".into());
        };
        let Some(unit) = place.unit else {
            return Ok(None);
        };
        let variant = attributes.text(&VARIANT);
        let flags: ServedFlags = variant
            .map(|variant| (key.into(), variant.into()))
            .into_iter()
            .collect();
        let reason = attributes.text(&REASON).map(str::to_ascii_lowercase);
        let error = attributes.text(&ERROR);
        let has_failed = error.is_some()
            || attributes.text(&MESSAGE).is_some()
            || reason.as_deref() == Some("error");
        let mut shared = self.resource.properties.clone();
        let told: [(&str, &[&str]); 3] = [
            ("provider", &PROVIDER),
            ("set_id", &["feature_flag.set.id"]),
            ("version", &["feature_flag.version"]),
        ];
        for (name, names) in told {
            self.keep_first(&mut shared, name, names, attributes);
        }
        let mut properties = shared.clone();
        let text = |text: &str| PropertyValue::Text(text.into());
        if let Some(reason) =
            reason.filter(|reason| reason.len() <= self.limits.events.max_name_bytes)
        {
            set(&mut properties, "reason", text(&reason));
        }
        if let Some(error) = error.filter(|error| error.len() <= self.limits.events.max_name_bytes)
        {
            set(&mut properties, "error", text(error));
        }
        if variant.is_none() {
            self.keep_first(&mut properties, "value", &VALUE, attributes);
        }
        let draft = |kind, properties: Properties| Draft {
            kind,
            name: key,
            unit,
            time_ns: place.time_ns,
            identity: place.identity,
            trace_id: place.trace_id,
            value: None,
            properties,
            flags: flags.clone(),
        };
        let evaluation = self.event(draft(EventKind::Evaluation, properties))?;
        let says_not = attributes.get("tidegate.exposure") == Some(&Value::Bool(false));
        let is_exposure = variant.is_some() && !has_failed && !says_not;
        let exposure = if is_exposure {
            let event = self.event(draft(EventKind::Exposure, shared))?;
            Some((what_was_met(&event), event))
        } else {
            None
        };
        Ok(Some(Evaluation {
            evaluation,
            exposure,
        }))
    }

    fn sentry(
        &self,
        key: &str,
        value: &Value<'_>,
        place: &Place<'_>,
    ) -> Result<Option<Evaluation>, Refusal> {
        let Some(unit) = place.unit else {
            return Ok(None);
        };
        let mut properties = self.resource.properties.clone();
        let mut left_out = 0;
        keep(
            &mut properties,
            "value",
            Some(value),
            &self.limits.events,
            &mut left_out,
        );
        let evaluation = self.event(Draft {
            kind: EventKind::Evaluation,
            name: key,
            unit,
            time_ns: place.time_ns,
            identity: place.identity,
            trace_id: place.trace_id,
            value: None,
            properties,
            flags: ServedFlags::new(),
        })?;
        Ok(Some(Evaluation {
            evaluation,
            exposure: None,
        }))
    }

    fn keep_first(
        &self,
        properties: &mut Properties,
        name: &str,
        names: &[&str],
        attributes: &Attributes<'_>,
    ) {
        let mut left_out = 0;
        let found = names.iter().find_map(|name| attributes.get(name));
        keep(properties, name, found, &self.limits.events, &mut left_out);
    }
}

struct Evaluation {
    evaluation: Event,
    exposure: Option<(u128, Event)>,
}

/// The hash of (flag, set, version, unit, variant): of equal ones only the first is news.
fn what_was_met(exposure: &Event) -> u128 {
    let text = |name| match exposure.property(name) {
        Some(PropertyValue::Text(text)) => text.to_string(),
        Some(PropertyValue::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let variant = exposure.variant(&exposure.name).unwrap_or_default();
    Identity::default()
        .text(&exposure.name)
        .text(&text("set_id"))
        .text(&text("version"))
        .text(&exposure.unit)
        .text(variant)
        .id()
        .0
}
