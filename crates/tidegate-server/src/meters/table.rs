//! Every metric there is: the one list that the answer and the document are made from.

use std::fmt::Write as _;

/// How a value behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from zero at each start.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// Prometheus's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One metric's declaration.
#[derive(Debug)]
pub struct Metric {
    /// Its name, unit included.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            pub(crate) const $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// All of them, in the order of the answer.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD = Gauge "tidegate_build_info" ["version"]
        "Always 1; the label says which version runs.";
    REQUESTS = Counter "tidegate_http_requests_total" ["status"]
        "Requests answered, by class of HTTP status; a gRPC call counts as 2xx whatever its own status.";
    EVALUATIONS = Counter "tidegate_evaluations_total" ["protocol", "reason"]
        "Flags evaluated, by protocol and by the reason of the answer; a 304 evaluates nothing.";
    WEBHOOKS = Counter "tidegate_webhooks_total" ["outcome"]
        "Webhooks by what became of them: stored, not proven, turned away, or stored and unreadable.";
    WEBHOOKS_WAITING = Gauge "tidegate_webhooks_waiting_bytes" []
        "Room that webhooks take which arrive, wait for the disk, or wait to be read.";
    EVENTS = Counter "tidegate_events_total" ["outcome"]
        "Events by what became of them; quarantined ones are accepted too, and shed ones were told to come back for lack of room.";
    OTLP_RECORDS = Counter "tidegate_otlp_records_total" ["signal", "outcome"]
        "Records exported over OTLP: taken, rejected, unattributed (of nobody), or not stored (stand for no event).";
    OTLP_REFUSED = Counter "tidegate_otlp_requests_refused_total" []
        "OTLP requests refused whole.";
    OTLP_LEFT_OUT = Counter "tidegate_otlp_attributes_left_out_total" []
        "Attributes that became no property because they are nested, too long or too many.";
    OTLP_JOINED = Counter "tidegate_otlp_joined_total" ["outcome"]
        "Events that waited for what their trace was served: served, alone, ambiguous, or unattributed and not stored.";
    OTLP_WAITING = Gauge "tidegate_otlp_waiting_events" ["project"]
        "Events that wait for what their trace was served.";
    OTLP_FORGOTTEN = Gauge "tidegate_otlp_traces_forgotten" ["project"]
        "Traces whose evaluations were forgotten before their time for lack of room, since the start.";
    EVENT_LOG = Gauge "tidegate_event_log_writable" ["project"]
        "Whether the project's log of events takes events.";
    LAKE_UP = Gauge "tidegate_lake_up" ["project"]
        "Whether the project's event files are open and the last flush succeeded.";
    LAKE_FILES = Gauge "tidegate_lake_files" ["project"]
        "Event files.";
    LAKE_ROWS = Gauge "tidegate_lake_rows" ["project"]
        "Rows in event files, copies that compaction will drop included.";
    LAKE_BYTES = Gauge "tidegate_lake_bytes" ["project"]
        "Bytes of event files.";
    LAKE_WATERMARK = Gauge "tidegate_lake_watermark" ["project"]
        "Every event below this ingest sequence is in files.";
    LAKE_UNFLUSHED = Gauge "tidegate_lake_unflushed_events" ["project"]
        "Acknowledged events that are only in the log yet.";
    LAKE_LAG = Gauge "tidegate_lake_flush_lag_seconds" ["project"]
        "For how long flushing has been failing while events wait; 0 while it succeeds.";
    LAKE_DAMAGE = Gauge "tidegate_lake_damage" ["project"]
        "Event files that are set apart because they are damaged, and whatever else the newest verification found wrong.";
    DISK_USED = Gauge "tidegate_disk_used_percent" []
        "How full the disk that holds the events is.";
    CONFIG_VERSION = Gauge "tidegate_config_version" ["project"]
        "Version of the configuration that is served.";
    CONFIG_EPOCH = Gauge "tidegate_config_epoch" ["project"]
        "Epoch of the configuration that is served; each restore raises it.";
    FLAGS = Gauge "tidegate_flags" ["project"]
        "Flags that are served.";
    STALE = Gauge "tidegate_config_stale_seconds" ["project"]
        "For how long storage could not confirm what is served; 0 while it is confirmed.";
    STREAMS = Gauge "tidegate_stream_clients" ["project"]
        "Clients that listen for changes, over all protocols.";
    PENDING_STOPS = Gauge "tidegate_pending_stops" []
        "Kills and rollbacks that are served and not yet in storage.";
    STOP_FILE = Gauge "tidegate_stop_file_usable" []
        "Whether a stop would be on disk before it is served.";
    STOP_FILE_LOST = Gauge "tidegate_stop_file_lost_blocks" []
        "Blocks of the stop file found damaged at the start, each of which may have held a stop.";
    ROLLOUTS = Gauge "tidegate_rollouts" ["project", "lifecycle"]
        "Rollouts by what they are doing.";
    ROLLOUT_LOOKS = Counter "tidegate_rollout_looks_total" []
        "Plans made for rollouts.";
    ROLLOUT_PLANNING = Counter "tidegate_rollout_planning_seconds_total" []
        "Time spent taking counts and planning for rollouts.";
    ROLLOUT_PLANS_KEPT = Counter "tidegate_rollout_plans_kept_total" []
        "Plans stored with all they were made from: on a change of verdict, at an action, and once a minute.";
    ROLLOUT_WAITS = Counter "tidegate_rollout_evidence_waits_total" ["within"]
        "New evidence by how long it waited for a plan, each in the shortest class that holds it.";
    STORAGE = Gauge "tidegate_storage_writable" []
        "Whether control-plane storage takes writes.";
    STORAGE_BYTES = Gauge "tidegate_storage_bytes" []
        "Bytes of control-plane storage on disk.";
    AUDIT_HEAD = Gauge "tidegate_audit_head_sequence" []
        "Sequence of the newest entry of the audit chain.";
}

/// `docs/metrics.md`, as it is to be.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         `GET /metrics` answers in the Prometheus text format to callers with the permission `observe`.\n\
         A token sees the series of its own project, and those of the process.\n\
         Counters start at zero with the process.\n\
         This file is written from the table in `crates/tidegate-server/src/meters/table.rs`; a test holds them together.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in ALL {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (name, kind, help) = (metric.name, metric.kind.as_str(), metric.help);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            written,
            document(),
            "docs/metrics.md must read as on the right"
        );
    }

    #[test]
    fn names_follow_the_conventions() {
        for metric in ALL {
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.name.starts_with("tidegate_"), "{}", metric.name);
        }
    }
}
