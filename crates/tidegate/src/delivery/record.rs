//! `delivery deploy`, `delivery incident`, `delivery correct`: one row by hand or from any pipeline.

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use tidegate_delivery::event::{
    Correction, DeploymentSeen, EventBody, IncidentSeen, Intent, Outcome, Ruling,
};
use tidegate_delivery::{DeliveryEvent, Moment, Series, problems_of};
use tidegate_server::delivery::log_file::Appended;

use super::place::{Place, fold};
use super::{LogArgs, now, print_line};
use crate::client::Connection;

const SOURCE: &str = "cli";

/// Record a deployment.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// What was deployed.
    #[arg(long)]
    service: String,
    /// Where to.
    #[arg(long, default_value = "production")]
    environment: String,
    /// Which version.
    #[arg(long)]
    version: String,
    /// Which commit, in full.
    #[arg(long)]
    commit: Option<String>,
    /// How it ended.
    #[arg(long, value_enum, default_value_t)]
    outcome: CliOutcome,
    /// Why it was made.
    #[arg(long, value_enum)]
    intent: Option<CliIntent>,
    /// When [default: now].
    #[arg(long)]
    at: Option<String>,
    /// Name of this delivery; the same name again changes nothing [default: made of the content].
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum CliOutcome {
    Started,
    Failed,
    #[default]
    Succeeded,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CliIntent {
    Planned,
    Hotfix,
    Rollback,
}

impl Deploy {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let at = moment(self.at.as_deref(), "--at")?;
        let seen = DeploymentSeen {
            service: self.service.clone(),
            environment: self.environment.clone(),
            version: Some(self.version.clone()),
            commit: self.commit.clone(),
            deployment: None,
            pipeline: None,
            outcome: match self.outcome {
                CliOutcome::Started => Outcome::Started,
                CliOutcome::Failed => Outcome::Failed,
                CliOutcome::Succeeded => Outcome::Succeeded,
            },
            started_at: None,
            intent: self.intent.map(|intent| match intent {
                CliIntent::Planned => Intent::Planned,
                CliIntent::Hotfix => Intent::Hotfix,
                CliIntent::Rollback => Intent::Rollback,
            }),
        };
        let content = format!(
            "{}/{}/{}@{}",
            self.environment,
            self.service,
            self.version,
            at.millis()
        );
        write(
            &self.log,
            at,
            self.id.clone().unwrap_or(content),
            EventBody::Deployment(seen),
        )
    }
}

/// Record an incident, or its end.
#[derive(Debug, Args)]
pub(crate) struct IncidentCommand {
    /// Its name; the same name again adds to it.
    #[arg(long)]
    id: String,
    /// Service it hit.
    #[arg(long)]
    service: Option<String>,
    /// One line.
    #[arg(long)]
    title: Option<String>,
    /// How bad.
    #[arg(long)]
    severity: Option<String>,
    /// When it was noticed [default: now, unless --resolved-at is given].
    #[arg(long)]
    detected_at: Option<String>,
    /// When it was over.
    #[arg(long)]
    resolved_at: Option<String>,
    /// Deployment, version or commit that caused it.
    #[arg(long)]
    caused_by: Option<String>,
    /// Deployment or version that repaired it.
    #[arg(long)]
    fixed_by: Option<String>,
    /// Where the steps to take are written.
    #[arg(long)]
    runbook: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

impl IncidentCommand {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let resolved_at = self
            .resolved_at
            .as_deref()
            .map(Moment::parse)
            .transpose()
            .context("--resolved-at")?;
        let detected_at = match (&self.detected_at, resolved_at) {
            (None, Some(_)) => None,
            (text, _) => Some(moment(text.as_deref(), "--detected-at")?),
        };
        let at = resolved_at.or(detected_at).unwrap_or_else(now);
        let seen = IncidentSeen {
            incident: self.id.clone(),
            service: self.service.clone(),
            title: self.title.clone(),
            severity: self.severity.clone(),
            detected_at,
            resolved_at,
            caused_by: self.caused_by.clone(),
            fixed_by: self.fixed_by.clone(),
            runbook: self.runbook.clone(),
            ..IncidentSeen::default()
        };
        write(
            &self.log,
            at,
            format!("incident/{}@{}", self.id, at.millis()),
            EventBody::Incident(seen),
        )
    }
}

/// Rule on one deployment; the latest ruling counts, and the evidence stays visible.
#[derive(Debug, Args)]
pub(crate) struct Correct {
    /// The deployment as `metrics --explain` prints it.
    #[arg(long)]
    deployment: String,
    /// What holds instead.
    #[arg(long, value_enum)]
    ruling: CliRuling,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Who rules, for the audit trail; it enters no metric. A server knows it by the token.
    #[arg(long)]
    by: Option<String>,
    /// When [default: now].
    #[arg(long)]
    at: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CliRuling {
    Failed,
    DidNotFail,
    Rework,
    Planned,
    Rollback,
    OutOfOrder,
}

impl Correct {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let log = match self.log.place()? {
            Place::Files(log) => log,
            Place::Server(connection) => return self.send(&connection),
        };
        let timeline = fold(&log)?;
        let mut deployments = timeline.series().flat_map(Series::attempts);
        if !deployments.any(|deployment| deployment.id == self.deployment) {
            bail!(
                "no deployment {:?} is in the log; `metrics --explain` prints their ids",
                self.deployment
            );
        }
        let at = moment(self.at.as_deref(), "--at")?;
        let correction = Correction {
            deployment: self.deployment.clone(),
            ruling: self.ruling.into(),
            reason: self.reason.clone(),
            by: self.by.clone().context("--by")?,
        };
        let id = format!("correction/{}@{}", self.deployment, at.millis());
        write(&self.log, at, id, EventBody::Correction(correction))
    }

    fn send(&self, connection: &Connection) -> anyhow::Result<()> {
        let request = json!({
            "deployment": self.deployment,
            "ruling": Ruling::from(self.ruling),
            "reason": self.reason,
            "at": self.at,
        });
        send(
            connection,
            &connection.path("delivery/corrections"),
            &request,
        )
    }
}

impl From<CliRuling> for Ruling {
    fn from(ruling: CliRuling) -> Self {
        match ruling {
            CliRuling::Failed => Self::Failed,
            CliRuling::DidNotFail => Self::DidNotFail,
            CliRuling::Rework => Self::Rework,
            CliRuling::Planned => Self::Planned,
            CliRuling::Rollback => Self::Rollback,
            CliRuling::OutOfOrder => Self::OutOfOrder,
        }
    }
}

fn moment(text: Option<&str>, option: &'static str) -> anyhow::Result<Moment> {
    text.map_or_else(|| Ok(now()), |text| Moment::parse(text).context(option))
}

/// Records a row where the log is: in its file, or by the server's own route for such rows.
fn write(log: &LogArgs, at: Moment, id: String, body: EventBody) -> anyhow::Result<()> {
    let file = match log.place()? {
        Place::Files(file) => file,
        Place::Server(connection) => return send_row(&connection, at, &id, &body),
    };
    let event = DeliveryEvent {
        at,
        source: SOURCE.to_owned(),
        id,
        body,
    };
    let problems: Vec<String> = problems_of(&event)
        .iter()
        .map(ToString::to_string)
        .collect();
    if !problems.is_empty() {
        bail!("the row is not recorded:\n  {}", problems.join("\n  "));
    }
    let mut writer = file.begin(|_| ())?;
    let appended = writer.append(&event)?;
    writer.commit()?;
    Ok(print_line(match appended {
        Appended::New => RECORDED,
        Appended::Known => KNOWN,
        Appended::Conflict => CONFLICT,
    })?)
}

const RECORDED: &str = "recorded";
const KNOWN: &str = "known already";
const CONFLICT: &str = "known already with other content or another time; the first stays (name the time with --at to tell it again safely)";

fn send_row(connection: &Connection, at: Moment, id: &str, body: &EventBody) -> anyhow::Result<()> {
    let (path, mut request) = match body {
        EventBody::Deployment(seen) => {
            let mut request = serde_json::to_value(seen)?;
            request["id"] = json!(id);
            request["at"] = json!(at.to_string());
            ("/api/v1/deployments", request)
        }
        EventBody::Incident(seen) => ("/api/v1/incidents", serde_json::to_value(seen)?),
        _ => bail!("only deployments and incidents are recorded one by one"),
    };
    // Rows hold milliseconds; requests hold times as people write them.
    for field in ["started_at", "detected_at", "resolved_at"] {
        if let Some(millis) = request.get(field).and_then(serde_json::Value::as_i64) {
            request[field] = json!(Moment::from_millis(millis).to_string());
        }
    }
    send(connection, path, &request)
}

fn send(connection: &Connection, path: &str, request: &serde_json::Value) -> anyhow::Result<()> {
    let answer = connection.post(path, request)?;
    let is = |name: &str| answer.body[name].as_bool().unwrap_or(false);
    Ok(print_line(match (is("recorded"), is("conflict")) {
        (true, _) => RECORDED,
        (false, true) => CONFLICT,
        (false, false) => KNOWN,
    })?)
}
