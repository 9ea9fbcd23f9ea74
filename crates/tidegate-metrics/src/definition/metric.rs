//! A metric: what is measured of a unit, how extremes are tamed, which covariate.

use super::fields::Fields;
use super::{MAX_DESCRIPTION_BYTES, filter};
use crate::EventFilter;
use crate::journey::DefinitionProblem;
use crate::measure::{Aggregate, Measure, MetricDefinition, UnitQuantity, Winsorise};
use serde_json::Value;

const MEASURES: &str = "count, sum, mean, conversion, ratio, quantile, retention or time_between";

/// Reads a metric; `None` only together with a violation.
pub(super) fn read(
    spec: &Value,
    problems: &mut Vec<DefinitionProblem>,
) -> Option<MetricDefinition> {
    let mut fields = Fields::open(spec, String::new(), problems);
    description(&mut fields);
    let winsorise = winsorise(&mut fields);
    let covariate_seconds = fields.seconds("covariate_seconds");
    let cure = format!("one of {MEASURES}, such as {{\"sum\": {{\"event\": \"purchase\"}}}}");
    let measure = match fields.need("measure", &cure) {
        None => None,
        // A word, with what it takes beside it.
        Some(Value::String(word)) => {
            let measure = measure(word, &mut fields);
            if measure.is_none() {
                fields.refuse("measure", &format!("is one of {MEASURES}"));
            }
            measure
        }
        Some(value) => nested(value, &mut fields),
    };
    fields.finish();
    Some(MetricDefinition {
        measure: measure?,
        winsorise,
        covariate_seconds,
    })
}

pub(super) fn description(fields: &mut Fields<'_, '_>) {
    let is_fit = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.len() <= MAX_DESCRIPTION_BYTES)
    };
    if fields
        .get("description")
        .is_some_and(|value| !is_fit(value))
    {
        fields.refuse("description", "is a text of at most 2000 bytes");
    }
}

/// `{"sum": {...}}`.
fn nested(value: &Value, outer: &mut Fields<'_, '_>) -> Option<Measure> {
    let one = value.as_object().filter(|object| object.len() == 1);
    let Some((word, inside)) = one.and_then(|object| object.iter().next()) else {
        outer.refuse("measure", &format!("holds one measure: {MEASURES}"));
        return None;
    };
    let at = format!("{}/{word}", outer.pointer("measure"));
    let mut fields = Fields::open(inside, at.clone(), outer.problems);
    let measure = measure(word, &mut fields);
    if measure.is_some() {
        fields.finish();
    } else {
        let detail = format!("is no measure; use {MEASURES}");
        outer.problems.push(DefinitionProblem::new(at, &detail));
    }
    measure
}

/// The measure of a name, with its fields; `None` if there is none of that name.
fn measure(word: &str, fields: &mut Fields<'_, '_>) -> Option<Measure> {
    Some(match word {
        "count" => Measure::Count {
            event: event(fields, "event"),
        },
        "sum" => Measure::Sum {
            event: event(fields, "event"),
        },
        "mean" => Measure::Mean {
            event: event(fields, "event"),
        },
        "conversion" => Measure::Conversion {
            event: event(fields, "event"),
            within_seconds: fields.seconds("within_seconds"),
        },
        "ratio" => Measure::Ratio {
            numerator: quantity(fields, "numerator"),
            denominator: quantity(fields, "denominator"),
        },
        "quantile" => {
            let event = event(fields, "event");
            if fields.need("q", "the quantile, such as 0.9").is_none() {
                return Some(Measure::Quantile { event, q: 0.5 });
            }
            Measure::Quantile {
                event,
                q: fields.number("q").unwrap_or(0.5),
            }
        }
        "retention" => {
            let event = event(fields, "event");
            let from_seconds = fields.seconds("from_seconds").unwrap_or(0);
            let cure = "the end of the span after exposure";
            let is_there = fields.need("to_seconds", cure).is_some();
            let to_seconds = fields.seconds("to_seconds").filter(|_| is_there);
            Measure::Retention {
                event,
                from_seconds,
                to_seconds: to_seconds.unwrap_or(u64::MAX),
            }
        }
        "time_between" => Measure::TimeBetween {
            from: event(fields, "from"),
            to: event(fields, "to"),
            within_seconds: fields.seconds("within_seconds"),
        },
        _ => return None,
    })
}

fn event(fields: &mut Fields<'_, '_>, name: &'static str) -> EventFilter {
    let cure = "an event's name, or {kind, name, properties}";
    match fields.need(name, cure) {
        Some(value) => filter::read(value, fields.pointer(name), fields.problems),
        None => EventFilter::named("-"),
    }
}

fn quantity(fields: &mut Fields<'_, '_>, name: &'static str) -> UnitQuantity {
    let nothing = UnitQuantity {
        event: EventFilter::named("-"),
        of: Aggregate::Count,
    };
    let cure = "{\"event\": ..., \"of\": \"count\"} or \"sum\"";
    let Some(value) = fields.need(name, cure) else {
        return nothing;
    };
    let mut inner = Fields::open(value, fields.pointer(name), fields.problems);
    let event = event(&mut inner, "event");
    let words = [("count", Aggregate::Count), ("sum", Aggregate::Sum)];
    let of = match inner.need("of", "count or sum") {
        Some(_) => inner.choice("of", &words),
        None => None,
    };
    inner.finish();
    UnitQuantity {
        event,
        of: of.unwrap_or(Aggregate::Count),
    }
}

fn winsorise(fields: &mut Fields<'_, '_>) -> Option<Winsorise> {
    let value = fields.get("winsorise")?;
    let mut inner = Fields::open(value, fields.pointer("winsorise"), fields.problems);
    let (above, percentile) = (inner.number("above"), inner.number("percentile"));
    inner.finish();
    match (above, percentile) {
        (Some(above), None) => Some(Winsorise::Above(above)),
        (None, Some(share)) => Some(Winsorise::Percentile(share)),
        _ => {
            let detail = "holds either above, a value, or percentile, a share such as 0.99";
            fields.refuse("winsorise", detail);
            None
        }
    }
}
