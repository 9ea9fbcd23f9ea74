//! What a guard's metric measures, as its name says.
//!
//! | metric | counts | of |
//! |---|---|---|
//! | `errors` | a unit's first failed request | every request |
//! | `errors/NAME` | the same | requests named NAME |
//! | `latency` | a unit's first request slower than each frozen threshold | every request |
//! | `latency/NAME` | the same | requests named NAME |
//! | `conversions/NAME` | a unit's first `track` event named NAME | - |
//! | `source/KEY` | failed requests, by the counters of the source KEY | its requests |

use tidegate_metrics::{Event, EventKind};

/// Where a guard's counts come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardSource {
    /// Failed requests, all of them or those of one name.
    Errors(Option<String>),
    /// Slow requests, all of them or those of one name.
    Latency(Option<String>),
    /// Track events of one name.
    Conversions(String),
    /// The counters of somebody else's source, by its key.
    Source(String),
}

impl GuardSource {
    /// What a metric's name begins with.
    pub const FAMILIES: [&str; 4] = ["errors", "latency", "conversions", "source"];
    /// The names of metrics, in words.
    pub const NAMES: &str = "guards can be `errors`, `latency` (each also of one request name, as \
                             in `errors/checkout`), `conversions/NAME` and `source/KEY`";

    /// The source a metric's name stands for, if it is one of ours.
    #[must_use]
    pub fn of(metric: &str) -> Option<Self> {
        let (family, name) = match metric.split_once('/') {
            Some((_, "")) => return None,
            Some((family, name)) => (family, Some(name.to_owned())),
            None => (metric, None),
        };
        match (family, name) {
            ("errors", name) => Some(Self::Errors(name)),
            ("latency", name) => Some(Self::Latency(name)),
            ("conversions", Some(name)) => Some(Self::Conversions(name)),
            ("source", Some(key)) => Some(Self::Source(key)),
            _ => None,
        }
    }

    /// Whether the event is one that the guard looks at.
    #[must_use]
    pub fn looks_at(&self, event: &Event) -> bool {
        match self {
            Self::Errors(name) | Self::Latency(name) => {
                event.kind == EventKind::Request
                    && name
                        .as_deref()
                        .is_none_or(|name| name == event.name.as_ref())
            }
            Self::Conversions(name) => {
                event.kind == EventKind::Track && name == event.name.as_ref()
            }
            Self::Source(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_what_they_say_and_a_misspelt_one_for_nothing() {
        let named = |text: &str| Some(text.to_owned());
        for (metric, source) in [
            ("errors", Some(GuardSource::Errors(None))),
            (
                "errors/checkout",
                Some(GuardSource::Errors(named("checkout"))),
            ),
            ("latency", Some(GuardSource::Latency(None))),
            ("latency/a/b", Some(GuardSource::Latency(named("a/b")))),
            (
                "conversions/paid",
                Some(GuardSource::Conversions("paid".to_owned())),
            ),
            ("source/shop", Some(GuardSource::Source("shop".to_owned()))),
            ("source", None),
            ("conversions", None),
            ("errors/", None),
            ("erors", None),
            ("", None),
        ] {
            assert_eq!(GuardSource::of(metric), source, "{metric}");
        }
    }
}
