//! `delivery import-git`: commits, tags and which service is built from them, into the log.
//!
//! One atomic append per run.
//! Commits that the log holds are not read again, so a second run costs what is new; where an earlier run stopped
//! (`--since`, a shallow clone that was deepened since) the walk goes on from there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use rustc_hash::FxHashSet;
use serde::Serialize;
use tidegate_delivery::commit_graph::CommitId;
use tidegate_delivery::event::{
    ArtifactSeen, CommitSeen, DeploymentSeen, EventBody, Outcome, ServiceSeen,
};
use tidegate_delivery::{DeliveryEvent, Moment};

use super::git_reader::{GitReader, ReadCommit, ReadTag, Walk, WalkExtent};
use super::log_file::{Appended, LogWriter};
use super::{LogArgs, OutputFormat, print_json, print_line};

/// Import commits and tags of a git repository.
#[derive(Debug, Args)]
pub(crate) struct ImportGit {
    /// The repository: a work tree, a `.git` folder or a bare clone.
    path: PathBuf,
    /// Read no commits older than this (date or RFC 3339).
    #[arg(long)]
    since: Option<String>,
    /// A service built from this repository: NAME, or NAME=path/ for a part of it (repeat for more paths)
    /// [default: the repository's name].
    #[arg(long)]
    service: Vec<String>,
    /// Name of the repository [default: the folder's name].
    #[arg(long)]
    repository: Option<String>,
    /// Take a version that is a bare commit id for that commit.
    #[arg(long)]
    resolve_commit_ids: bool,
    /// Take a single commit whose subject ends in (#7) for a squashed pull request.
    #[arg(long)]
    squash_merges: bool,
    /// Take tags with this beginning for deployments, at their commit's time. A tag is not a deployment:
    /// use it only where no deployment log exists.
    #[arg(long, value_name = "PREFIX")]
    tags_as_deployments: Option<String>,
    /// Environment for --tags-as-deployments.
    #[arg(long, default_value = "production")]
    environment: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    #[command(flatten)]
    log: LogArgs,
}

/// What a run read and added.
#[derive(Debug, Default, Serialize)]
struct GitReport {
    repository: String,
    services: Vec<String>,
    #[serde(flatten)]
    walked: WalkExtent,
    tags: u64,
    added: u64,
    known: u64,
}

impl ImportGit {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let since = self
            .since
            .as_deref()
            .map(Moment::parse)
            .transpose()
            .context("--since")?;
        let name = self.repository_name()?;
        let rules = PathRules::read(&self.service, &name)?;
        let reader = GitReader::open(&self.path)?;
        let mut held = Held::default();
        let writer = self.log.open()?.begin(|event| held.take(event, &name))?;
        let mut import = Import {
            source: format!("git:{name}"),
            name,
            writer,
            report: GitReport::default(),
        };
        let frontier: Vec<CommitId> = held.mentioned.difference(&held.commits).copied().collect();
        let walk = Walk {
            also: &frontier,
            is_known: &|id| held.commits.contains(&id),
            since,
            paths: &rules.paths,
        };
        let walked = reader.walk(&walk, |commit| import.commit(&rules, commit))?;
        import.report.walked = walked;
        let tags = reader.tags()?;
        if walked.commits == 0 && held.commits.is_empty() {
            bail!(
                "{} holds no readable commit; nothing was imported",
                self.path.display()
            );
        }
        for tag in &tags {
            import.tag(tag)?;
            self.deploy_tag(&mut import, &rules, tag)?;
        }
        let bound_at = tags
            .iter()
            .map(|tag| tag.committed_at)
            .max()
            .unwrap_or(Moment::EARLIEST);
        for service in rules.services() {
            import.service(self, service, bound_at)?;
        }
        let Import {
            writer,
            mut report,
            name,
            ..
        } = import;
        report.added = writer.commit()?;
        report.repository = name;
        report.services = rules.services().map(str::to_owned).collect();
        self.print(&report)
    }

    fn print(&self, report: &GitReport) -> anyhow::Result<()> {
        if self.output == OutputFormat::Json {
            return Ok(print_json(report)?);
        }
        let walked = &report.walked;
        print_line(&format!(
            "{}: {} commits and {} tags read, {} rows added, {} known already; services: {}",
            report.repository,
            walked.commits,
            report.tags,
            report.added,
            report.known,
            report.services.join(", ")
        ))?;
        for (count, what) in [
            (
                walked.missing_commits,
                "commits are named but not there (shallow or partial clone)",
            ),
            (
                walked.missing_trees,
                "commits have no readable trees and count for every service",
            ),
            (walked.unreadable, "objects do not parse as commits"),
            (walked.before_since, "paths end before --since"),
        ] {
            if count > 0 {
                print_line(&format!("note: {count} {what}"))?;
            }
        }
        Ok(())
    }

    fn repository_name(&self) -> anyhow::Result<String> {
        if let Some(name) = &self.repository {
            return Ok(name.clone());
        }
        let path = self
            .path
            .canonicalize()
            .with_context(|| format!("opening {}", self.path.display()))?;
        let folder = if path.file_name().is_some_and(|name| name == ".git") {
            path.parent()
        } else {
            Some(&*path)
        };
        let name = folder
            .and_then(|folder| folder.file_name())
            .map(|name| name.to_string_lossy().into_owned());
        let name = name.context("the repository has no name; give --repository")?;
        Ok(name.trim_end_matches(".git").to_owned())
    }

    fn deploy_tag(
        &self,
        import: &mut Import,
        rules: &PathRules,
        tag: &ReadTag,
    ) -> anyhow::Result<()> {
        let Some(prefix) = &self.tags_as_deployments else {
            return Ok(());
        };
        if !tag.name.starts_with(prefix.as_str()) {
            return Ok(());
        }
        for service in rules.services() {
            let seen = DeploymentSeen {
                service: service.to_owned(),
                environment: self.environment.clone(),
                version: Some(tag.name.clone()),
                commit: Some(tag.commit.to_hex()),
                deployment: None,
                pipeline: None,
                outcome: Outcome::Succeeded,
                started_at: None,
                intent: None,
            };
            let id = format!("{}/{service}/{}", self.environment, tag.name);
            import.append(id, tag.committed_at, EventBody::Deployment(seen))?;
        }
        Ok(())
    }
}

/// What the log holds of this repository.
#[derive(Default)]
struct Held {
    commits: FxHashSet<CommitId>,
    mentioned: FxHashSet<CommitId>,
}

impl Held {
    fn take(&mut self, event: &DeliveryEvent, repository: &str) {
        if let EventBody::Commit(seen) = &event.body
            && seen.repository == repository
        {
            self.commits.extend(CommitId::parse(&seen.commit));
            self.mentioned.extend(
                seen.parents
                    .iter()
                    .filter_map(|parent| CommitId::parse(parent)),
            );
        }
    }
}

/// Services and the paths they are built from. A service without a path is built from all of it.
struct PathRules {
    paths: Vec<String>,
    by_service: BTreeMap<String, Vec<usize>>,
}

impl PathRules {
    fn read(arguments: &[String], repository: &str) -> anyhow::Result<Self> {
        let mut rules = Self {
            paths: Vec::new(),
            by_service: BTreeMap::new(),
        };
        for argument in arguments {
            let (name, path) = argument.split_once('=').unwrap_or((argument, ""));
            if name.is_empty() {
                bail!("--service {argument:?} names no service; write NAME or NAME=path/");
            }
            let places = rules.by_service.entry(name.to_owned()).or_default();
            let path = path.trim_start_matches("./").trim_matches('/');
            if !path.is_empty() && path != "." {
                places.push(rules.paths.len());
                rules.paths.push(path.to_owned());
            }
        }
        if rules.by_service.is_empty() {
            rules.by_service.insert(repository.to_owned(), Vec::new());
        }
        Ok(rules)
    }

    fn services(&self) -> impl Iterator<Item = &str> {
        self.by_service.keys().map(String::as_str)
    }

    /// Services a commit belongs to; `None` means all.
    fn touched(&self, touches: Option<&[usize]>) -> Option<Vec<String>> {
        let touches = touches?;
        let belongs = |places: &[usize]| {
            places.is_empty() || places.iter().any(|place| touches.contains(place))
        };
        let names = self.by_service.iter().filter(|(_, places)| belongs(places));
        Some(names.map(|(name, _)| name.clone()).collect())
    }
}

struct Import {
    name: String,
    source: String,
    writer: LogWriter,
    report: GitReport,
}

impl Import {
    fn commit(&mut self, rules: &PathRules, read: ReadCommit<'_>) -> anyhow::Result<()> {
        let id = read.facts.id.to_hex();
        let seen = CommitSeen {
            repository: self.name.clone(),
            commit: id.clone(),
            parents: read.parents.iter().map(|parent| parent.to_hex()).collect(),
            authored_at: Some(read.facts.authored_at).filter(|at| *at != read.facts.committed_at),
            pull_request: read.message.pull_request,
            services: rules.touched(read.touches.as_deref()),
            reverts: read
                .message
                .reverts
                .iter()
                .map(|reverted| reverted.to_hex())
                .collect(),
            picked_from: read.message.picked_from.map(CommitId::to_hex),
            patch_id: None,
            flags: read.message.flags,
        };
        self.append(id, read.facts.committed_at, EventBody::Commit(seen))
    }

    fn tag(&mut self, tag: &ReadTag) -> anyhow::Result<()> {
        self.report.tags += 1;
        let commit = tag.commit.to_hex();
        let id = format!("tag/{}@{commit}", tag.name);
        let seen = ArtifactSeen {
            repository: self.name.clone(),
            version: tag.name.clone(),
            commit,
        };
        self.append(id, tag.committed_at, EventBody::Artifact(seen))
    }

    fn service(&mut self, asked: &ImportGit, service: &str, at: Moment) -> anyhow::Result<()> {
        let seen = ServiceSeen {
            service: service.to_owned(),
            repository: self.name.clone(),
            resolve_commit_ids: asked.resolve_commit_ids,
            squash_merges: asked.squash_merges,
            team: None,
        };
        let mut id = format!("service/{service}");
        for (is_set, mark) in [
            (seen.resolve_commit_ids, "+commit-ids"),
            (seen.squash_merges, "+squash"),
        ] {
            if is_set {
                id.push_str(mark);
            }
        }
        self.append(id, at, EventBody::Service(seen))
    }

    fn append(&mut self, id: String, at: Moment, body: EventBody) -> anyhow::Result<()> {
        let event = DeliveryEvent {
            at,
            source: self.source.clone(),
            id,
            body,
        };
        match self.writer.append(&event)? {
            Appended::New => {}
            Appended::Known | Appended::Conflict => self.report.known += 1,
        }
        Ok(())
    }
}
