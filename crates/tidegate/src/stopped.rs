//! A data folder whose server is stopped: taken for this command alone, its events opened.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tidegate_lake::{Lake, LakeOptions, RealDisk};
use tidegate_store::ProjectKey;

/// A data folder that nobody else uses while this exists.
#[derive(Debug)]
pub(crate) struct StoppedServer {
    data_dir: PathBuf,
    _lock: File,
}

impl StoppedServer {
    /// Takes a data folder.
    ///
    /// # Errors
    /// If there is none, or a server runs on it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("server.lock");
        let lock = File::create(&path).with_context(|| {
            format!(
                "cannot use {}; is that the data folder, and may this user write to it?",
                data_dir.display()
            )
        })?;
        if lock.try_lock().is_err() {
            bail!(
                "a server uses {}; stop it first, or ask it: leave --data-dir out and give --server",
                data_dir.display()
            );
        }
        Ok(Self {
            data_dir: data_dir.to_owned(),
            _lock: lock,
        })
    }

    /// Takes a data folder, making it if there is none.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) fn take_or_make(data_dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(data_dir)
            .with_context(|| format!("cannot make {}", data_dir.display()))?;
        Self::take(data_dir)
    }

    /// The folder.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The events of a project.
    ///
    /// # Errors
    /// If the name is no project's, the disk fails, or acknowledged data is damaged.
    pub(crate) fn lake(&self, project: &str) -> Result<Lake> {
        let project = ProjectKey::parse(project).context("--project")?;
        let folder = self.data_dir.join("events").join(project.as_str());
        Lake::open(Arc::new(RealDisk), &folder, LakeOptions::default())
            .with_context(|| format!("cannot open the events in {}", folder.display()))
    }
}
