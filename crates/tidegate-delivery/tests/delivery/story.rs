//! Small stories told as rows: a service `shop`, its repository `shop`, commits named by a number.

use tidegate_delivery::event::{
    ArtifactSeen, CommitSeen, DeploymentSeen, EventBody, ExposureSeen, IncidentSeen, Outcome,
    PullRequestSeen, ServiceSeen,
};
use tidegate_delivery::metrics::{MetricReport, MetricRow, Query, measure};
use tidegate_delivery::{DeliveryEvent, Moment, Timeline, Window, definition};

pub(crate) const SERVICE: &str = "shop";

/// Hours after 2025-01-06T00:00:00Z, a Monday.
pub(crate) fn hour(hours: i64) -> Moment {
    Moment::from_seconds(1_736_121_600).plus_hours(hours)
}

pub(crate) fn sha(n: u8) -> String {
    format!("{n:02x}").repeat(20)
}

/// Rows being written down.
#[derive(Default, Clone)]
pub(crate) struct Story {
    pub(crate) events: Vec<DeliveryEvent>,
}

impl Story {
    pub(crate) fn new() -> Self {
        let mut story = Self::default();
        let body = EventBody::Service(ServiceSeen {
            service: SERVICE.into(),
            repository: SERVICE.into(),
            resolve_commit_ids: false,
            squash_merges: false,
            team: None,
        });
        story.add(hour(-1000), body);
        story
    }

    pub(crate) fn add(&mut self, at: Moment, body: EventBody) -> &mut Self {
        let id = self.events.len().to_string();
        self.events.push(DeliveryEvent {
            at,
            source: "story".into(),
            id,
            body,
        });
        self
    }

    /// A commit with its version `v<n>`.
    pub(crate) fn commit(&mut self, n: u8, parents: &[u8], at: i64) -> &mut Self {
        self.commit_with(n, parents, at, |_| ())
    }

    pub(crate) fn commit_with(
        &mut self,
        n: u8,
        parents: &[u8],
        at: i64,
        edit: impl Fn(&mut CommitSeen),
    ) -> &mut Self {
        let mut seen = CommitSeen {
            repository: SERVICE.into(),
            commit: sha(n),
            parents: parents.iter().map(|&p| sha(p)).collect(),
            ..CommitSeen::default()
        };
        edit(&mut seen);
        self.add(hour(at), EventBody::Commit(seen));
        let artifact = ArtifactSeen {
            repository: SERVICE.into(),
            version: format!("v{n}"),
            commit: sha(n),
        };
        self.add(hour(at), EventBody::Artifact(artifact))
    }

    pub(crate) fn deploy(&mut self, version: &str, at: i64) -> &mut Self {
        self.deploy_with(version, "production", at, |_| ())
    }

    pub(crate) fn deploy_with(
        &mut self,
        version: &str,
        environment: &str,
        at: i64,
        edit: impl Fn(&mut DeploymentSeen),
    ) -> &mut Self {
        let mut seen = DeploymentSeen {
            service: SERVICE.into(),
            environment: environment.into(),
            version: Some(version.into()),
            commit: None,
            deployment: None,
            pipeline: None,
            outcome: Outcome::Succeeded,
            started_at: None,
            intent: None,
        };
        edit(&mut seen);
        self.add(hour(at), EventBody::Deployment(seen))
    }

    pub(crate) fn incident(
        &mut self,
        name: &str,
        from: i64,
        to: Option<i64>,
        caused_by: Option<&str>,
    ) -> &mut Self {
        let seen = IncidentSeen {
            incident: name.into(),
            service: Some(SERVICE.into()),
            detected_at: Some(hour(from)),
            resolved_at: to.map(hour),
            caused_by: caused_by.map(str::to_owned),
            ..IncidentSeen::default()
        };
        self.add(hour(to.unwrap_or(from)), EventBody::Incident(seen))
    }

    pub(crate) fn pull_request(
        &mut self,
        number: u32,
        edit: impl Fn(&mut PullRequestSeen),
    ) -> &mut Self {
        let mut seen = PullRequestSeen {
            repository: SERVICE.into(),
            number,
            ..PullRequestSeen::default()
        };
        edit(&mut seen);
        self.add(hour(0), EventBody::PullRequest(seen))
    }

    pub(crate) fn expose(&mut self, flag: &str, share_bp: u16, at: i64) -> &mut Self {
        self.add(
            hour(at),
            EventBody::Exposure(ExposureSeen {
                flag: flag.into(),
                share_bp,
            }),
        )
    }

    pub(crate) fn report(&self, definition: &str, from: i64, to: i64) -> MetricReport {
        report_of(
            &Timeline::from_events(self.events.clone()),
            definition,
            from,
            to,
        )
    }

    /// One metric of the service over the first 28 days.
    pub(crate) fn row(&self, definition: &str, metric: &str) -> MetricRow {
        let report = self.report(definition, 0, 28 * 24);
        report
            .rows
            .into_iter()
            .find(|row| row.metric == metric && row.service == SERVICE)
            .expect("a row")
    }

    pub(crate) fn value(&self, definition: &str, metric: &str) -> Option<f64> {
        self.row(definition, metric).value
    }
}

pub(crate) fn report_of(timeline: &Timeline, definition: &str, from: i64, to: i64) -> MetricReport {
    let definition = definition::named(definition).expect("a definition");
    measure(
        timeline,
        &Query {
            services: &[],
            team: None,
            environment: "production",
            stage_before: "staging",
            window: Window::new(hour(from), hour(to)).expect("a window"),
            as_of: hour(10_000),
            definition: &definition,
            explain: true,
            seed: 1,
        },
    )
}
