//! Where a report comes from: a running server, or a stopped one's data folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tidegate_server::app::AppError;
use tidegate_server::reports::{REVISIONS, ReportParameters, Served, Source, StoredDefinition};
use tidegate_store::{
    ObjectKey, ObjectKind, ObjectStore as _, ProjectKey, SqliteOptions, SqliteStore, StoreError,
};

use super::definitions::{Kept, definition_in};
use crate::client::{Connection, encode};
use crate::output::OutputArguments;
use crate::stopped::StoppedServer;

/// Where from, and how the answer is printed.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// A data folder whose server is stopped; without it, --server is asked
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

/// The object a report is about.
pub(super) struct Subject<'s> {
    pub(super) kept: Kept,
    pub(super) key: &'s str,
    /// A file to read the definition from instead.
    pub(super) file: Option<&'s Path>,
}

type Reporter = fn(Source<'_>, &StoredDefinition, &ReportParameters) -> Result<Value, AppError>;

impl Place {
    /// The report of a stored object.
    pub(super) fn ask_about(
        &self,
        subject: &Subject<'_>,
        asked: &ReportParameters,
        report: Reporter,
    ) -> Result<Value> {
        let _spinner = Spinner::start();
        let Some(data_dir) = &self.data_dir else {
            let collection = subject.kept.collection;
            let path = format!("{collection}/{}/report", encode(subject.key));
            return self.of_server(&path, asked);
        };
        let server = StoppedServer::take(data_dir)?;
        let stored = match subject.file {
            Some(file) => StoredDefinition {
                key: subject.key.to_owned(),
                revision: None,
                spec: definition_in(file)?,
            },
            None => self.stored(&server, subject)?,
        };
        let served = self.served(&server, asked)?;
        let lake = server.lake(&self.connection.project)?;
        let source = Source {
            served: &served,
            ..Source::of(&lake).map_err(|error| in_words(&error))?
        };
        report(source, &stored, asked).map_err(|error| in_words(&error))
    }

    /// The report of an ad-hoc question.
    pub(super) fn ask(
        &self,
        name: &str,
        asked: &ReportParameters,
        report: fn(Source<'_>, &ReportParameters) -> Result<Value, AppError>,
    ) -> Result<Value> {
        let _spinner = Spinner::start();
        let Some(data_dir) = &self.data_dir else {
            return self.of_server(&format!("reports/{name}"), asked);
        };
        let server = StoppedServer::take(data_dir)?;
        let lake = server.lake(&self.connection.project)?;
        let source = Source::of(&lake).map_err(|error| in_words(&error))?;
        report(source, asked).map_err(|error| in_words(&error))
    }

    fn of_server(&self, path: &str, asked: &ReportParameters) -> Result<Value> {
        let asked = serde_json::to_value(asked)?;
        let pairs: Vec<String> = asked
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                format!("{name}={}", encode(&text))
            })
            .collect();
        let path = self.connection.path(&format!("{path}?{}", pairs.join("&")));
        Ok(self.connection.get_patiently(&path)?.body)
    }

    /// The shares the flag in question has served, where a definition says so.
    fn served(&self, server: &StoppedServer, asked: &ReportParameters) -> Result<Served> {
        let database = server.data_dir().join("tidegate.db");
        let flag = asked.flag.as_deref().unwrap_or_default();
        let key = ObjectKey::parse(ObjectKind::Flag, flag);
        let project = ProjectKey::parse(&self.connection.project).context("--project")?;
        let Some(key) = key.ok().filter(|_| database.exists()) else {
            return Ok(Served::Unknown);
        };
        let history = of_store(&database, async |store| {
            store
                .object_history(&project, ObjectKind::Flag, &key, REVISIONS)
                .await
        })?;
        Ok(asked.served(&history))
    }

    fn stored(&self, server: &StoppedServer, subject: &Subject<'_>) -> Result<StoredDefinition> {
        let (kind, what) = (subject.kept.kind, subject.kept.what);
        let project = ProjectKey::parse(&self.connection.project).context("--project")?;
        let key = ObjectKey::parse(kind, subject.key)
            .with_context(|| format!("{:?} is no {what}'s key", subject.key))?;
        let database = server.data_dir().join("tidegate.db");
        if !database.exists() {
            bail!(
                "{} has no definitions yet; start the server and create the {what}, or give \
                 --definition FILE",
                server.data_dir().display()
            );
        }
        let found = of_store(&database, async |store| {
            store.object_get(&project, kind, &key).await
        })?;
        match found.filter(|object| !object.deleted) {
            Some(object) => Ok(StoredDefinition {
                key: subject.key.to_owned(),
                revision: Some(object.revision),
                spec: object.spec,
            }),
            None => bail!(
                "there is no {what} {:?}; create it on the running server, or give --definition FILE",
                subject.key
            ),
        }
    }
}

/// What a stopped server's store says.
fn of_store<T>(
    database: &Path,
    ask: impl AsyncFnOnce(&SqliteStore) -> Result<T, StoreError>,
) -> Result<T> {
    let mut options = SqliteOptions::new(database);
    options.read_only = true;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let found = runtime.block_on(async {
        let store = SqliteStore::open(options).await?;
        let found = ask(&store).await;
        store.close().await;
        found
    });
    found.with_context(|| format!("cannot read {}", database.display()))
}

/// A refusal with every violation on a line of its own.
fn in_words(error: &AppError) -> anyhow::Error {
    let AppError::Invalid(violations) = error else {
        return anyhow::anyhow!("{error}");
    };
    let lines: Vec<String> = violations
        .iter()
        .map(|violation| format!("\n  {} {}", violation.pointer, violation.message))
        .collect();
    anyhow::anyhow!("{error}{}", lines.concat())
}

/// Turns on a terminal while a report is computed.
struct Spinner(ProgressBar);

impl Spinner {
    fn start() -> Self {
        let spinner = ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{spinner} computing, {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        spinner.enable_steady_tick(Duration::from_millis(120));
        Self(spinner)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
