//! What a metric source is: an object `{kind: source, key, spec}` that a guard names as `source/KEY`.
//!
//! A source answers counters for a variant, which only grow: requests so far and what counts among
//! them (failures, or any other event), or the buckets of a histogram. `{variant}` in its queries or
//! address stands for the variant asked about.
//! Reading refuses everything that is wrong at once; whether the address may be reached is the
//! business of [`crate::egress`].

use serde_json::{Map, Value};

use crate::app::Violation;
use crate::egress::destination::Destination;

/// What stands for the variant in queries and addresses.
pub const PLACEHOLDER: &str = "{variant}";
/// Longest query, address or pointer, in bytes.
const MAX_TEXT: usize = 4000;

/// A metric source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// Where the numbers are.
    pub from: Provider,
    /// Seconds between two readings.
    pub every_seconds: u32,
    /// Seconds one answer may take.
    pub timeout_seconds: u32,
    /// The configured credential to present.
    pub credential: Option<String>,
}

/// Where a source's numbers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// Instant queries of a Prometheus server, or of anything that speaks its API.
    Prometheus {
        /// The server, up to where `/api/v1/query` begins.
        url: String,
        /// The queries.
        asks: Asks,
        /// How far behind now both are asked, so that every scrape of that moment is in.
        delay_seconds: u32,
    },
    /// A JSON document behind an address.
    Http {
        /// The address.
        url: String,
        /// JSON pointers into the document.
        asks: Asks,
    },
}

/// What is asked of a source: queries, or JSON pointers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// Two counters.
    Counts {
        /// Requests so far.
        requests: String,
        /// What counts among them.
        counted: String,
    },
    /// A cumulative histogram: for each upper bound how many requests so far did not exceed it.
    Buckets {
        /// One series per `le`, or an object from bound to count.
        buckets: String,
    },
}

impl Asks {
    fn each(&self) -> Vec<&str> {
        match self {
            Self::Counts { requests, counted } => vec![requests, counted],
            Self::Buckets { buckets } => vec![buckets],
        }
    }
}

impl SourceSpec {
    /// Reads a definition.
    ///
    /// # Errors
    /// Every violation at once.
    pub fn from_json(spec: &Value) -> Result<Self, Vec<Violation>> {
        let Some(object) = spec.as_object() else {
            return Err(vec![Violation::at(
                "",
                "not-an-object",
                "a source is an object",
            )]);
        };
        let mut fields = Fields::new(object);
        let kind = fields.word("type", &["prometheus", "http"]);
        let url = fields.text("url");
        let (asks, names) = fields.asks();
        let every_seconds = fields.whole("every_seconds", 15, 1..=3600);
        let timeout_seconds = fields.whole("timeout_seconds", 5, 1..=60);
        let credential = fields.optional("credential");
        let is_prometheus = kind.as_deref() == Some("prometheus");
        let delay_seconds = if is_prometheus {
            fields.whole("delay_seconds", 5, 0..=600)
        } else {
            0
        };
        if is_prometheus {
            check_server(&mut fields, &url);
            for (name, query) in names.into_iter().zip(asks.each()) {
                if !query.is_empty() && !query.contains(PLACEHOLDER) {
                    let cure = "must contain {variant}, which stands for the variant asked about";
                    fields.refuse(name, cure);
                }
            }
        } else if kind.is_some() {
            check_address(&mut fields, &url);
            for (name, pointer) in names.into_iter().zip(asks.each()) {
                if !pointer.is_empty() && !pointer.starts_with('/') {
                    fields.refuse(name, "must be a JSON pointer such as /data/total");
                }
            }
        }
        fields.refuse_unknown();
        if !fields.violations.is_empty() {
            return Err(fields.violations);
        }
        let from = if is_prometheus {
            Provider::Prometheus {
                url: url.trim_end_matches('/').to_owned(),
                asks,
                delay_seconds,
            }
        } else {
            Provider::Http { url, asks }
        };
        Ok(Self {
            from,
            every_seconds,
            timeout_seconds,
            credential,
        })
    }

    /// Whether it answers a histogram.
    #[must_use]
    pub const fn is_histogram(&self) -> bool {
        let (Provider::Prometheus { asks, .. } | Provider::Http { asks, .. }) = &self.from;
        matches!(asks, Asks::Buckets { .. })
    }

    /// An address of this source, to ask the policy of egress about.
    #[must_use]
    pub fn sample_url(&self) -> String {
        match &self.from {
            Provider::Prometheus { url, .. } => format!("{url}/api/v1/query"),
            Provider::Http { url, .. } => url.replace(PLACEHOLDER, "variant"),
        }
    }
}

fn check_server(fields: &mut Fields<'_>, url: &str) {
    if url.is_empty() {
        return;
    }
    match Destination::parse(url) {
        Err(error) => fields.refuse("url", &error.to_string()),
        Ok(_) if url.contains('?') => {
            fields.refuse(
                "url",
                "must end where /api/v1/query begins, without a query",
            );
        }
        Ok(_) => {}
    }
}

fn check_address(fields: &mut Fields<'_>, url: &str) {
    if url.is_empty() {
        return;
    }
    let authority = url.split('/').nth(2).unwrap_or_default();
    if authority.contains('{') {
        fields.refuse(
            "url",
            "{variant} may stand in path and query, not in the host",
        );
    } else if !url.contains(PLACEHOLDER) {
        fields.refuse(
            "url",
            "must contain {variant}, which stands for the variant asked about",
        );
    } else if let Err(error) = Destination::parse(&url.replace(PLACEHOLDER, "variant")) {
        fields.refuse("url", &error.to_string());
    }
}

/// The fields of an object, read one by one with every violation collected.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    known: Vec<&'static str>,
    violations: Vec<Violation>,
}

impl<'a> Fields<'a> {
    fn new(object: &'a Map<String, Value>) -> Self {
        Self {
            object,
            known: Vec::new(),
            violations: Vec::new(),
        }
    }

    fn refuse(&mut self, name: &str, reason: &str) {
        let pointer = format!("/{name}");
        self.violations
            .push(Violation::at(pointer, "bad-source", reason));
    }

    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name)
    }

    fn optional(&mut self, name: &'static str) -> Option<String> {
        let value = self.get(name)?;
        match value.as_str() {
            Some(text) if !text.is_empty() && text.len() <= MAX_TEXT => Some(text.to_owned()),
            _ => {
                self.refuse(name, &format!("must be text of 1 to {MAX_TEXT} bytes"));
                None
            }
        }
    }

    fn text(&mut self, name: &'static str) -> String {
        if !self.object.contains_key(name) {
            self.refuse(name, "is required");
        }
        self.optional(name).unwrap_or_default()
    }

    /// What is asked, with the names of the fields that say it.
    fn asks(&mut self) -> (Asks, Vec<&'static str>) {
        const FORMS: &str = "give `requests` with `failures` or `events`, or give `buckets` alone";
        if self.object.contains_key("buckets") {
            for name in ["requests", "failures", "events"] {
                if self.get(name).is_some() {
                    self.refuse(name, FORMS);
                }
            }
            let buckets = self.text("buckets");
            return (Asks::Buckets { buckets }, vec!["buckets"]);
        }
        self.known.push("buckets");
        let requests = self.text("requests");
        let counts = if self.object.contains_key("events") {
            if self.get("failures").is_some() {
                self.refuse("failures", FORMS);
            }
            "events"
        } else {
            self.known.push("events");
            "failures"
        };
        let counted = self.text(counts);
        (Asks::Counts { requests, counted }, vec!["requests", counts])
    }

    fn word(&mut self, name: &'static str, words: &[&str]) -> Option<String> {
        let word = self.text(name);
        if words.contains(&word.as_str()) {
            return Some(word);
        }
        if !word.is_empty() {
            self.refuse(name, &format!("must be one of {}", words.join(", ")));
        }
        None
    }

    fn whole(
        &mut self,
        name: &'static str,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> u32 {
        let Some(value) = self.get(name) else {
            return default;
        };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .unwrap_or_else(|| {
                let (least, most) = (range.start(), range.end());
                self.refuse(
                    name,
                    &format!("must be a whole number from {least} to {most}"),
                );
                default
            })
    }

    fn refuse_unknown(&mut self) {
        let unknown: Vec<String> = self
            .object
            .keys()
            .filter(|name| !self.known.contains(&name.as_str()))
            .cloned()
            .collect();
        for name in unknown {
            let known = self.known.join(", ");
            self.refuse(&name, &format!("is not known here; known are {known}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_kinds_are_read_with_their_defaults() {
        let prometheus = json!({"type": "prometheus", "url": "https://p.internal:9090/prom/",
            "requests": "sum(r{variant=\"{variant}\"})",
            "failures": "sum(r{variant=\"{variant}\",code=~\"5..\"})", "credential": "p"});
        let spec = SourceSpec::from_json(&prometheus).unwrap();
        assert_eq!(
            spec.sample_url(),
            "https://p.internal:9090/prom/api/v1/query"
        );
        assert_eq!((spec.every_seconds, spec.timeout_seconds), (15, 5));
        let http = json!({"type": "http", "url": "https://s.example/{variant}?v={variant}",
            "requests": "/data/total", "failures": "/data/failed", "every_seconds": 60});
        let spec = SourceSpec::from_json(&http).unwrap();
        assert_eq!(spec.sample_url(), "https://s.example/variant?v=variant");
        assert_eq!(spec.every_seconds, 60);
        assert!(!spec.is_histogram());
        let histogram = json!({"type": "prometheus", "url": "https://p.internal:9090",
            "buckets": "sum by (le) (d_bucket{variant=\"{variant}\"})"});
        assert!(SourceSpec::from_json(&histogram).unwrap().is_histogram());
        let completed = json!({"type": "http", "url": "https://s.example/{variant}",
            "requests": "/visits", "events": "/orders"});
        assert!(SourceSpec::from_json(&completed).is_ok());
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let pointers = |spec: Value| -> Vec<String> {
            let violations = SourceSpec::from_json(&spec).unwrap_err();
            violations
                .into_iter()
                .map(|violation| violation.pointer)
                .collect()
        };
        assert_eq!(pointers(json!([])), [""]);
        assert_eq!(
            pointers(json!({})),
            ["/type", "/url", "/requests", "/failures"]
        );
        let both = json!({"type": "prometheus", "url": "https://p.internal", "buckets": "up",
            "failures": "{variant}", "events": "{variant}"});
        assert_eq!(pointers(both), ["/failures", "/events", "/buckets"]);
        let bad = json!({"type": "prometheus", "url": "https://p.internal?x=1", "requests": "up",
            "failures": "{variant}", "every_seconds": 0, "timeout_seconds": 61, "querry": "x"});
        let expected = [
            "/every_seconds",
            "/timeout_seconds",
            "/url",
            "/requests",
            "/querry",
        ];
        assert_eq!(pointers(bad), expected);
        for url in [
            "https://{variant}.example/",
            "https://a.example/",
            "ftp://a/{variant}",
        ] {
            let http = json!({"type": "http", "url": url, "requests": "/a", "failures": "b"});
            assert_eq!(pointers(http), ["/url", "/failures"], "{url}");
        }
    }
}
