//! The changes that the demo ships, and what they really do.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{Conditions, Connection};
use crate::serve;

/// How the service that a change is made to reports what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reports {
    /// Events to `/api/v1/events`: a guard sees them at once.
    Events,
    /// OTLP spans to `/v1/traces`: a guard sees them ten seconds later, when their trace is whole.
    Spans,
}

impl Reports {
    /// The interface, in words.
    pub(crate) const fn over(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Spans => "OTLP spans",
        }
    }

    /// How old a measurement may be before it counts as missing.
    const fn staleness_seconds(self) -> u32 {
        match self {
            Self::Events => 10,
            Self::Spans => 30,
        }
    }
}

/// One change with its truth.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Key of the rollout and of its flag.
    pub(crate) name: &'static str,
    /// What the change really does, in words.
    pub(crate) truth: &'static str,
    /// Share of checkouts that fail without the change.
    pub(crate) base_error_rate: f64,
    /// Share of checkouts that fail with it.
    pub(crate) treatment_error_rate: f64,
    /// Share of checkouts that take ten times as long with the change.
    pub(crate) slow_rate: f64,
    /// The metric that guards it.
    pub(crate) guard: &'static str,
    /// How its service reports.
    pub(crate) reports: Reports,
    /// Whether customers use it at all.
    pub(crate) has_traffic: bool,
    /// What must have become of the rollout.
    pub(crate) expected_lifecycle: &'static str,
    /// The share it must have been left at.
    pub(crate) expected_share_bp: u64,
}

/// By now customers must have come.
const FIRST_CUSTOMERS: Duration = Duration::from_secs(20);
/// After this long a change without traffic has been held long enough to say so.
const HELD_LONG_ENOUGH: Duration = Duration::from_secs(30);

/// Every scenario of the demo.
pub(crate) fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "faster-search",
            truth: "changes no error rate",
            base_error_rate: 0.02,
            treatment_error_rate: 0.02,
            slow_rate: 0.0,
            guard: "errors",
            reports: Reports::Events,
            has_traffic: true,
            expected_lifecycle: "completed",
            expected_share_bp: 10_000,
        },
        Scenario {
            name: "new-checkout",
            truth: "triples checkout errors",
            base_error_rate: 0.02,
            treatment_error_rate: 0.06,
            slow_rate: 0.0,
            guard: "errors",
            reports: Reports::Events,
            has_traffic: true,
            expected_lifecycle: "rolled back",
            expected_share_bp: 0,
        },
        Scenario {
            name: "richer-receipts",
            truth: "slows 4 % of checkouts tenfold",
            base_error_rate: 0.02,
            treatment_error_rate: 0.02,
            slow_rate: 0.04,
            guard: "latency",
            reports: Reports::Spans,
            has_traffic: true,
            expected_lifecycle: "rolled back",
            expected_share_bp: 0,
        },
        Scenario {
            name: "gift-wrapping",
            truth: "nobody uses it",
            base_error_rate: 0.02,
            treatment_error_rate: 0.02,
            slow_rate: 0.0,
            guard: "errors",
            reports: Reports::Events,
            has_traffic: false,
            expected_lifecycle: "running",
            expected_share_bp: 100,
        },
    ]
}

impl Scenario {
    /// Creates the flag, dark, and writes its rollout down.
    pub(crate) fn set_up(&self, connection: &Connection) -> Result<()> {
        let flag = json!({
            "state": "ENABLED",
            "variants": { "on": true, "off": false },
            "defaultVariant": "off",
            "offVariant": "off",
            "description": self.truth,
        });
        let new = Conditions {
            must_be_new: true,
            ..Conditions::default()
        };
        connection.put(
            &connection.path(&format!("flags/{}", self.name)),
            &flag,
            new,
        )?;
        let path = connection.path(&format!("rollouts/{}", self.name));
        connection.put(&path, &self.policy(), new)?;
        Ok(())
    }

    /// Starts the rollout, as soon as its guard has seen customers and is proven by that.
    pub(crate) fn start(&self, connection: &Connection) -> Result<()> {
        let path = connection.path(&format!("rollouts/{}", self.name));
        let clock = serve::clock();
        loop {
            let check = connection.get(&format!("{path}/check"))?.body;
            if check["may_start"] == true || clock.monotonic() >= FIRST_CUSTOMERS {
                connection.post(&format!("{path}/start"), &json!({}))?;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn policy(&self) -> Value {
        let stage = |share_bp: u16| json!({ "share_bp": share_bp, "min_seconds": 4 });
        json!({
            "flag": self.name,
            "treatment": "on",
            "control": "off",
            "alpha": 0.01,
            "stages": [stage(100), stage(500), stage(2500), stage(5000), stage(10_000)],
            "guards": [{ "metric": self.guard, "direction": "increase" }],
            "no_data": "hold",
            "at_end": "ship",
            "staleness_seconds": self.reports.staleness_seconds(),
        })
    }

    /// Whether there is nothing more to wait for.
    pub(crate) fn has_ended(&self, lifecycle: &str, elapsed: Duration) -> bool {
        let is_held = !self.has_traffic && elapsed >= HELD_LONG_ENOUGH;
        is_held || matches!(lifecycle, "completed" | "rolled back")
    }
}
