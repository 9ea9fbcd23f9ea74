//! Asking one source about two variants: their counters of one moment, or why there are none.

use std::time::Duration;

use serde_json::Value;

use super::answer::{self, Buckets, NoCounter};
use super::meter::{Counters, Reading};
use super::spec::{Asks, PLACEHOLDER, Provider, SourceSpec};
use crate::egress::destination::{Destination, encoded};
use crate::egress::{Egress, EgressError, Incoming, Limits, Outgoing, Purpose};

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// How much of an answer is kept for a report, in bytes.
const MAX_SHOWN: usize = 2000;

/// Why there is no reading: what was asked, and what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whether something came back, and cannot be.
    pub is_impossible: bool,
    /// What was asked.
    pub query: String,
    /// What came back, in words and then in full as far as it is kept.
    pub response: String,
}

/// What a source counted of both variants up to one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Counted {
    /// Requests, and what counts among them.
    Counts(Reading),
    /// Histograms of treatment and control.
    Buckets(Buckets, Buckets),
}

impl Counted {
    /// Requests of control so far.
    #[must_use]
    pub fn control_requests(&self) -> u64 {
        match self {
            Self::Counts(reading) => reading.control.requests,
            Self::Buckets(_, control) => control.total(),
        }
    }
}

/// One arm of [`Counted`].
enum Arm {
    Counts(Counters),
    Buckets(Buckets),
}

/// Reads the counters of (treatment, control) at `now_us`.
///
/// # Errors
/// The first answer that held no counter.
pub async fn read(
    egress: &Egress,
    source: &SourceSpec,
    (treatment, control): (&str, &str),
    now_us: i64,
) -> Result<Counted, Fault> {
    let arms = tokio::try_join!(
        read_arm(egress, source, treatment, now_us),
        read_arm(egress, source, control, now_us),
    )?;
    Ok(match arms {
        (Arm::Counts(treatment), Arm::Counts(control)) => {
            Counted::Counts(Reading { treatment, control })
        }
        (Arm::Buckets(treatment), Arm::Buckets(control)) => Counted::Buckets(treatment, control),
        // Both arms are asked in one form.
        _ => {
            return Err(Fault {
                is_impossible: false,
                query: "both variants".to_owned(),
                response: "they were answered in two forms".to_owned(),
            });
        }
    })
}

async fn read_arm(
    egress: &Egress,
    source: &SourceSpec,
    variant: &str,
    now_us: i64,
) -> Result<Arm, Fault> {
    match &source.from {
        Provider::Prometheus {
            url,
            asks,
            delay_seconds,
        } => {
            let millis = now_us / 1000 - i64::from(*delay_seconds) * 1000;
            #[expect(
                clippy::cast_precision_loss,
                reason = "milliseconds of a date are far below 2^52"
            )]
            let at_seconds = millis as f64 / 1000.0;
            let ask = async |query: &str| {
                let query = query.replace(PLACEHOLDER, &quoted(variant));
                let url = instant_query(url, &query, millis, source.timeout_seconds);
                let answer = fetch(egress, source, &url, &query).await?;
                Ok::<_, Fault>((query, answer))
            };
            let count = async |query: &str| {
                let (query, answer) = ask(query).await?;
                answer::from_prometheus(&answer.body, at_seconds)
                    .map_err(|reason| fault(&reason, &query, &answer))
            };
            match asks {
                Asks::Counts { requests, counted } => {
                    let (requests, failures) = tokio::try_join!(count(requests), count(counted))?;
                    Ok(Arm::Counts(Counters { requests, failures }))
                }
                Asks::Buckets { buckets } => {
                    let (query, answer) = ask(buckets).await?;
                    answer::buckets_from_prometheus(&answer.body, at_seconds)
                        .map(Arm::Buckets)
                        .map_err(|reason| fault(&reason, &query, &answer))
                }
            }
        }
        Provider::Http { url, asks } => {
            let url = url.replace(PLACEHOLDER, &encoded(variant));
            let answer = fetch(egress, source, &url, &url).await?;
            let fault = |reason: &NoCounter| fault(reason, &url, &answer);
            let document: Value = serde_json::from_slice(&answer.body).map_err(|error| {
                fault(&NoCounter::Silent(format!(
                    "the answer is no JSON: {error}"
                )))
            })?;
            let at = |pointer: &str| {
                answer::from_json(&document, pointer).map_err(|reason| fault(&reason))
            };
            match asks {
                Asks::Counts { requests, counted } => Ok(Arm::Counts(Counters {
                    requests: at(requests)?,
                    failures: at(counted)?,
                })),
                Asks::Buckets { buckets } => answer::buckets_from_json(&document, buckets)
                    .map(Arm::Buckets)
                    .map_err(|reason| fault(&reason)),
            }
        }
    }
}

/// A complete answer with a status of success.
async fn fetch(
    egress: &Egress,
    source: &SourceSpec,
    url: &str,
    query: &str,
) -> Result<Incoming, Fault> {
    let silent = |error: EgressError| Fault {
        is_impossible: false,
        query: query.to_owned(),
        response: error.to_string(),
    };
    let to = Destination::parse(url).map_err(|error| silent(error.into()))?;
    let request = Outgoing {
        to,
        headers: vec![("accept", "application/json".to_owned())],
        credential: source.credential.clone(),
        body: None,
    };
    let limits = Limits {
        time: Duration::from_secs(u64::from(source.timeout_seconds)),
        bytes: MAX_ANSWER,
    };
    let answer = egress
        .send(Purpose::Measure, request, limits)
        .await
        .map_err(silent)?;
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    let reason = NoCounter::Silent(format!("status {}", answer.status));
    Err(fault(&reason, query, &answer))
}

fn fault(reason: &NoCounter, query: &str, answer: &Incoming) -> Fault {
    let text = String::from_utf8_lossy(&answer.body);
    let shown = &text[..text.floor_char_boundary(MAX_SHOWN)];
    let rest = text.len() - shown.len();
    let more = if rest > 0 {
        format!(" ... and {rest} bytes more")
    } else {
        String::new()
    };
    Fault {
        is_impossible: matches!(reason, NoCounter::Impossible(_)),
        query: query.to_owned(),
        response: format!("{reason}: {shown}{more}"),
    }
}

fn instant_query(server: &str, query: &str, millis: i64, timeout_seconds: u32) -> String {
    let (seconds, thousandths) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    format!(
        "{server}/api/v1/query?query={}&time={seconds}.{thousandths:03}&timeout={timeout_seconds}s",
        encoded(query)
    )
}

/// A variant inside the quotes of a query, where it can end neither the text nor the query.
fn quoted(variant: &str) -> String {
    let mut text = String::with_capacity(variant.len());
    for character in variant.chars() {
        match character {
            '\\' | '"' | '\'' => text.extend(['\\', character]),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_cannot_leave_its_quotes() {
        assert_eq!(quoted("on"), "on");
        assert_eq!(quoted("a\"} or vector(0) #"), "a\\\"} or vector(0) #");
        assert_eq!(quoted("a\\\nb"), "a\\\\\\nb");
    }

    #[test]
    fn a_query_asks_about_one_moment_to_the_millisecond() {
        let url = instant_query("http://p:1", "up{a=\"b\"}", 1_700_000_000_050, 5);
        let expected = "http://p:1/api/v1/query?query=up%7Ba%3D%22b%22%7D\
                        &time=1700000000.050&timeout=5s";
        assert_eq!(url, expected);
        Destination::parse(&url).unwrap();
    }
}
