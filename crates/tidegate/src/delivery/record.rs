//! `delivery deploy`, `delivery incident`, `delivery correct`: one row by hand or from any pipeline.

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use tidegate_delivery::event::{
    Correction, DeploymentSeen, EventBody, IncidentSeen, Intent, Outcome, Ruling,
};
use tidegate_delivery::{DeliveryEvent, Moment, Series, problems_of};

use super::log_file::Appended;
use super::{LogArgs, now, print_line};

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
    /// Who rules, for the audit trail; it enters no metric.
    #[arg(long)]
    by: String,
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
        let timeline = self.log.timeline()?;
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
            ruling: match self.ruling {
                CliRuling::Failed => Ruling::Failed,
                CliRuling::DidNotFail => Ruling::DidNotFail,
                CliRuling::Rework => Ruling::Rework,
                CliRuling::Planned => Ruling::Planned,
                CliRuling::Rollback => Ruling::Rollback,
                CliRuling::OutOfOrder => Ruling::OutOfOrder,
            },
            reason: self.reason.clone(),
            by: self.by.clone(),
        };
        let id = format!("correction/{}@{}", self.deployment, at.millis());
        write(&self.log, at, id, EventBody::Correction(correction))
    }
}

fn moment(text: Option<&str>, option: &'static str) -> anyhow::Result<Moment> {
    text.map_or_else(|| Ok(now()), |text| Moment::parse(text).context(option))
}

fn write(log: &LogArgs, at: Moment, id: String, body: EventBody) -> anyhow::Result<()> {
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
    let mut writer = log.open()?.begin(|_| ())?;
    let appended = writer.append(&event)?;
    writer.commit()?;
    Ok(print_line(match appended {
        Appended::New => "recorded",
        Appended::Known => "known already",
        Appended::Conflict => "known already with other content; the first stays",
    })?)
}
