//! Reading helpers that every sender's format needs: times as senders write them, rows with a common source.

use serde::{Deserialize, Deserializer};

use super::WebhookSource;
use crate::event::{DeliveryEvent, EventBody};
use crate::moment::Moment;

/// A time as a sender wrote it; unreadable ones are absent, for one odd field must not lose a delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told(pub(super) Option<Moment>);

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        Ok(Self(match &value {
            serde_json::Value::String(text) => read(text),
            serde_json::Value::Number(number) => number.as_i64().map(Moment::from_seconds),
            _ => None,
        }))
    }
}

/// RFC 3339, and the two forms GitLab mixes in: `2021-04-28 21:50:00 +0200` and `2017-09-15 16:50:55 UTC`.
fn read(text: &str) -> Option<Moment> {
    if let Ok(moment) = Moment::parse(text) {
        return Some(moment);
    }
    let (day, rest) = text.split_once(' ')?;
    let (time, zone) = rest.split_once(' ')?;
    let zone = match zone {
        "UTC" => "Z".to_owned(),
        _ if zone.len() == 5 && zone.is_ascii() => format!("{}:{}", &zone[..3], &zone[3..]),
        _ => return None,
    };
    Moment::parse(&format!("{day}T{time}{zone}")).ok()
}

/// A row of this source.
pub(super) fn row(source: WebhookSource, id: String, at: Moment, body: EventBody) -> DeliveryEvent {
    DeliveryEvent {
        at,
        source: source.name().to_owned(),
        id,
        body,
    }
}

/// A title cut to what a row may carry.
pub(super) fn short(mut title: String) -> String {
    let mut end = title.len().min(crate::event::MAX_TEXT_BYTES);
    while !title.is_char_boundary(end) {
        end -= 1;
    }
    title.truncate(end);
    title
}
