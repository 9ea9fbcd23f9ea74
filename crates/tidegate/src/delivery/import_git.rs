//! `delivery import-git`: commits, tags and which service is built from them, into the log.
//!
//! One atomic append per run.
//! Commits that the log holds are not read again; where an earlier run stopped (`--since`, a shallow clone that was
//! deepened since) the walk goes on from there. A large log has an index beside it, which also says which commits of
//! which repository are held: a later run reads neither the log nor the repository again, only what is new in both.
//! Where it is asked for, a commit that may be a copy of another (rebased, cherry-picked: the author date is the same)
//! is compared by what it changes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use tidegate_delivery::commit_graph::CommitId;
use tidegate_delivery::event::{
    ArtifactSeen, CommitSeen, DeploymentSeen, EventBody, Outcome, PatchSeen, ServiceSeen,
};
use tidegate_delivery::{DeliveryEvent, Moment};
use tidegate_server::delivery::log_file::{HeldRow, Note};

use super::git_patch::patch_id;
use super::git_reader::{AuthorDates, GitReader, ReadCommit, ReadTag, Walk, WalkExtent, date_of};
use super::place::Place;
use super::sink::Sink;
use super::{LogArgs, OutputFormat, print_json, print_line};
use crate::client::{Connection, encode};
use crate::output;

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
    /// Find copies of one change (cherry-picked, rebased) by what commits of one author date change, and count each
    /// change once. Reads file contents, of few commits.
    #[arg(long)]
    find_copies: bool,
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
    /// Commits of which it was worked out whether they are copies of others.
    compared: u64,
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
        let sink = Sink::open(&self.log, |row| held.take(row, &name))?;
        let note_name = format!("git:{name}");
        if let Some(note) = sink.note(&note_name) {
            held.restore(note);
        }
        if let Place::Server(connection) = self.log.place()? {
            held.ask(&connection, &name)?;
        }
        let mut import = Import {
            source: format!("git:{name}"),
            name,
            sink,
            report: GitReport::default(),
        };
        let frontier: Vec<CommitId> = held.mentioned.difference(&held.commits).copied().collect();
        let walk = Walk {
            also: &frontier,
            is_known: &|id| held.commits.contains(&id),
            since,
            paths: &rules.paths,
        };
        let mut dates = AuthorDates::default();
        let walked = reader.walk(&walk, &mut dates, |commit| import.commit(&rules, commit))?;
        import.report.walked = walked;
        for &(id, date) in &held.authored {
            dates.know(id, date);
        }
        if self.find_copies {
            import.copies(&reader, &dates, &held)?;
        }
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
            sink,
            mut report,
            name,
            ..
        } = import;
        let counts = sink.commit_with(&Note {
            name: &note_name,
            bytes: held_bytes(&dates),
            write: &|to| write_held(&dates, to),
        })?;
        report.added = counts.recorded;
        report.known = counts.known + counts.conflicts;
        if counts.requests > 1 {
            output::note(&format!(
                "sent in {} parts; if one had failed, sending again would have completed it",
                counts.requests
            ));
        }
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

/// How the body of a commit's row begins.
const COMMIT_BODY: &str = r#"{"commit":"#;

/// A commit's row as far as it is needed here, without copying its texts.
#[derive(Deserialize)]
struct HeldBody<'l> {
    #[serde(borrow)]
    commit: HeldCommit<'l>,
}

#[derive(Deserialize)]
struct HeldCommit<'l> {
    #[serde(borrow)]
    repository: Cow<'l, str>,
    #[serde(borrow)]
    commit: Cow<'l, str>,
    #[serde(borrow, default)]
    parents: Vec<Cow<'l, str>>,
    authored_at: Option<Moment>,
}

/// What the log holds of this repository.
#[derive(Default)]
struct Held {
    commits: FxHashSet<CommitId>,
    mentioned: FxHashSet<CommitId>,
    /// Author dates, where the log is in files; a server is not asked for them.
    authored: Vec<(CommitId, u32)>,
}

impl Held {
    fn take(&mut self, row: &HeldRow<'_>, repository: &str) {
        let body = row.body.get();
        if !body.starts_with(COMMIT_BODY) {
            return;
        }
        // A row that does not read as a commit is none of this repository's.
        let Ok(HeldBody { commit: seen }) = serde_json::from_str::<HeldBody<'_>>(body) else {
            return;
        };
        if seen.repository != repository {
            return;
        }
        if let Some(id) = CommitId::parse(&seen.commit) {
            self.commits.insert(id);
            let authored_at = seen.authored_at.unwrap_or(row.at);
            self.authored
                .push((id, date_of(authored_at, seen.parents.len())));
        }
        let parents = seen.parents.iter();
        self.mentioned
            .extend(parents.filter_map(|parent| CommitId::parse(parent)));
    }

    /// Takes up what an earlier run noted, as [`write_held`] wrote it; a note that does not read is none.
    fn restore(&mut self, note: &[u8]) {
        let Some((commits, rest)) = counted(note, NOTED_COMMIT_BYTES) else {
            return;
        };
        for entry in commits.chunks_exact(NOTED_COMMIT_BYTES) {
            let (id, date) = entry.split_at(COMMIT_ID_BYTES);
            let (Ok(id), Ok(date)) = (
                <[u8; COMMIT_ID_BYTES]>::try_from(id),
                <[u8; 4]>::try_from(date),
            ) else {
                return;
            };
            let (id, date) = (CommitId::new(id), u32::from_le_bytes(date));
            self.commits.insert(id);
            self.authored.push((id, date));
        }
        let frontier = counted(rest, COMMIT_ID_BYTES).map_or(&[][..], |(frontier, _)| frontier);
        let ids = frontier.chunks_exact(COMMIT_ID_BYTES);
        self.mentioned
            .extend(ids.filter_map(|id| Some(CommitId::new(id.try_into().ok()?))));
    }

    /// Asks a server what it holds: `+` and an id for a commit, `?` and an id for a parent that is only mentioned.
    fn ask(&mut self, connection: &Connection, repository: &str) -> anyhow::Result<()> {
        let path = format!("delivery/commits?repository={}", encode(repository));
        let text = connection.get_text(&connection.path(&path), "text/plain")?;
        for line in text.lines() {
            let (mark, id) = line.split_at_checked(1).unwrap_or_default();
            let id = CommitId::parse(id).context("the server's list of commits is not one")?;
            match mark {
                "+" => self.commits.insert(id),
                _ => self.mentioned.insert(id),
            };
        }
        Ok(())
    }
}

const COMMIT_ID_BYTES: usize = 20;
/// A commit and its author date.
const NOTED_COMMIT_BYTES: usize = COMMIT_ID_BYTES + 4;

/// The entries that a count in front of them speaks of, and what follows.
fn counted(bytes: &[u8], entry_bytes: usize) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_at_checked(8)?;
    let count = usize::try_from(u64::from_le_bytes(count.try_into().ok()?)).ok()?;
    rest.split_at_checked(count.checked_mul(entry_bytes)?)
}

fn held_bytes(dates: &AuthorDates) -> u64 {
    let commits = dates.read().count() * NOTED_COMMIT_BYTES;
    let frontier = dates.not_read().len() * COMMIT_ID_BYTES;
    (16 + commits + frontier) as u64
}

/// Writes which commits the log holds of a repository, and where reading stopped.
fn write_held(dates: &AuthorDates, to: &mut dyn Write) -> io::Result<()> {
    to.write_all(&(dates.read().count() as u64).to_le_bytes())?;
    for (id, date) in dates.read() {
        to.write_all(&id.to_bytes())?;
        to.write_all(&date.to_le_bytes())?;
    }
    to.write_all(&(dates.not_read().len() as u64).to_le_bytes())?;
    dates
        .not_read()
        .iter()
        .try_for_each(|id| to.write_all(&id.to_bytes()))
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
    sink: Sink,
    report: GitReport,
}

/// Commits of which at most it is worked out whether they are copies.
const MAX_COMPARED: u64 = 20_000;

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

    /// Tells which of the new commits are copies of others, by the identity of what they change.
    fn copies(
        &mut self,
        reader: &GitReader,
        dates: &AuthorDates,
        held: &Held,
    ) -> anyhow::Result<()> {
        for group in dates.possible_copies(|id| !held.commits.contains(&id)) {
            if self.report.compared >= MAX_COMPARED {
                break;
            }
            for id in group {
                self.report.compared += 1;
                let Some(patch_id) = patch_id(reader.objects(), id) else {
                    continue;
                };
                let commit = id.to_hex();
                let row_id = format!("patch/{commit}");
                let seen = PatchSeen {
                    repository: self.name.clone(),
                    commit,
                    patch_id,
                };
                self.append(row_id, Moment::EARLIEST, EventBody::Patch(seen))?;
            }
        }
        Ok(())
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
        self.sink.take(&event)
    }
}
