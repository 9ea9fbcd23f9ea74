//! A shop's customers: they ask for flags over OFREP, check out, and what happened is reported.
//!
//! How it is reported is the scenario's choice: most services send events, one is instrumented with
//! OpenTelemetry and sends nothing but spans.
//!
//! Seeded, so that the same seed meets the same luck: which checkout fails is a hash of seed,
//! customer and change, compared with the rate that the served variant really has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidegate_metrics::unit_hash;

use super::scenarios::{Reports, Scenario};
use super::spans;
use crate::client::Connection;
use crate::output;
use crate::serve;

/// How many crowds come at once.
const CROWDS: u64 = 2;
/// Customers of one crowd whose events travel in one batch.
const BATCH: u64 = 50;
/// How often a crowd sends a batch.
const EVERY: Duration = Duration::from_millis(125);

/// Lets the crowds come until `stop`.
pub(crate) fn come(
    connection: &Connection,
    scenarios: &[Scenario],
    seed: u64,
    stop: &Arc<AtomicBool>,
) -> Vec<JoinHandle<()>> {
    (0..CROWDS)
        .map(|crowd| {
            let crowd = Crowd {
                connection: connection.clone(),
                scenarios: scenarios
                    .iter()
                    .filter(|known| known.has_traffic)
                    .cloned()
                    .collect(),
                seed,
                number: crowd,
            };
            let stop = Arc::clone(stop);
            std::thread::spawn(move || crowd.come(&stop))
        })
        .collect()
}

struct Crowd {
    connection: Connection,
    scenarios: Vec<Scenario>,
    seed: u64,
    number: u64,
}

impl Crowd {
    fn come(&self, stop: &AtomicBool) {
        let clock = serve::clock();
        let mut batch_number = 0;
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = self.visit(batch_number) {
                output::note(&format!("demo: customers were turned away: {error:#}"));
            }
            batch_number += 1;
            let due = EVERY * u32::try_from(batch_number).unwrap_or(u32::MAX);
            std::thread::sleep(due.saturating_sub(clock.monotonic()));
        }
    }

    /// One batch of customers, each asking for all flags and checking out once per change.
    fn visit(&self, batch_number: u64) -> Result<()> {
        let (mut events, mut spans) = (Vec::new(), Vec::new());
        for position in 0..BATCH {
            let customer = (batch_number * BATCH + position) * CROWDS + self.number;
            let unit = format!("customer-{customer}");
            let served = self.served(&unit)?;
            for scenario in &self.scenarios {
                let variant = variant_of(&served, scenario.name)?;
                let checkout = self.checkout(scenario, &unit, variant);
                match scenario.reports {
                    Reports::Events => events.push(checkout.event()),
                    Reports::Spans => spans.push(spans::span(&checkout)),
                }
            }
        }
        self.connection
            .post("/api/v1/events", &Value::Array(events))?;
        spans::send(&self.connection, &spans)
    }

    fn served(&self, unit: &str) -> Result<Value> {
        let context = json!({ "context": { "targetingKey": unit } });
        Ok(self
            .connection
            .post("/ofrep/v1/evaluate/flags", &context)?
            .body)
    }

    fn checkout<'a>(
        &self,
        scenario: &'a Scenario,
        unit: &'a str,
        variant: &'a str,
    ) -> Checkout<'a> {
        let rate = match variant {
            "on" => scenario.treatment_error_rate,
            _ => scenario.base_error_rate,
        };
        let is_slow =
            variant == "on" && chance(&format!("slow {} {unit}", self.seed)) < scenario.slow_rate;
        let usual_ms = 80.0 + 40.0 * chance(&format!("latency {unit}"));
        let luck = chance(&format!("{} {} {unit}", self.seed, scenario.name));
        Checkout {
            flag: scenario.name,
            unit,
            variant,
            at_us: serve::clock().now_us(),
            latency_ms: if is_slow { 10.0 * usual_ms } else { usual_ms },
            has_failed: luck < rate,
        }
    }
}

/// One customer's checkout under one change.
pub(super) struct Checkout<'a> {
    pub(super) flag: &'a str,
    pub(super) unit: &'a str,
    pub(super) variant: &'a str,
    /// When it ended, Unix microseconds.
    pub(super) at_us: i64,
    pub(super) latency_ms: f64,
    pub(super) has_failed: bool,
}

impl Checkout<'_> {
    /// The checkout as an event of our own.
    fn event(&self) -> Value {
        let time = jiff::Timestamp::from_microsecond(self.at_us)
            .map_or_else(|_| String::new(), |now| now.to_string());
        json!({
            "time": time,
            "unit": self.unit,
            "kind": "request",
            "name": "checkout",
            "value": self.latency_ms,
            "properties": { "error": self.has_failed },
            "flags": { self.flag: self.variant },
        })
    }
}

fn variant_of<'a>(served: &'a Value, flag: &str) -> Result<&'a str> {
    served["flags"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["key"] == flag)
        .and_then(|row| row["variant"].as_str())
        .with_context(|| format!("the server did not answer for flag {flag:?}"))
}

/// A number from 0 to 1 that only depends on `text`.
fn chance(text: &str) -> f64 {
    let bits = unit_hash(text) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
