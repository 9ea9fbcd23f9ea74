//! Programs of the operator's that are asked or told: started without a shell, with nothing inherited.
//!
//! Which programs there are is said in the server's configuration file and nowhere else: who may change
//! definitions over the API may not choose what runs on the server. A program gets a document on its
//! standard input and an environment of exactly what its entry says. Its time and its output are
//! bounded. It is one program: what it starts itself, it must end itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// Most bytes of output that are kept; what comes beyond is read and dropped.
const MAX_OUTPUT: usize = 4096;
/// Longest time a program may take.
const MAX_SECONDS: u64 = 60;

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandHook {
    /// Its name, in reports.
    pub name: String,
    /// The program by absolute path, and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// How long it may take.
    pub timeout: Duration,
    /// The only project it is for, if it is for one.
    pub project: Option<String>,
    /// Whether it is asked before a rollout raises a share.
    pub asks: bool,
    /// Events it is told of, as patterns.
    pub tells: Vec<String>,
}

/// Why an entry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// Without a name, reports could not say which it was.
    #[error("a command hook needs a name of lower-case letters, digits and -")]
    Name,
    /// No absolute path, so that what runs would depend on where it is looked for.
    #[error("the program of command hook {0:?} must be given by its absolute path")]
    Program(String),
    /// No such file.
    #[error("{1:?}, the program of command hook {0:?}, is not there")]
    Missing(String, PathBuf),
    /// Too short or too long a time.
    #[error("command hook {0:?}: timeout_seconds must be from 1 to {MAX_SECONDS}")]
    Timeout(String),
    /// Neither asked nor told.
    #[error("command hook {0:?} is neither asked nor told anything")]
    Idle(String),
    /// A pattern that is none.
    #[error("command hook {0:?}: {1:?} is no event pattern such as rollout.*")]
    Pattern(String, String),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; `None` if it was killed by a signal.
    pub code: Option<i32>,
    /// The beginning of its standard output.
    pub output: String,
    /// The beginning of its standard error.
    pub complaint: String,
}

impl Ran {
    /// The reason a program gives for not ending well.
    #[must_use]
    pub fn in_words(&self) -> String {
        let said = [&self.complaint, &self.output];
        let line = said
            .iter()
            .find_map(|text| text.lines().find(|line| !line.trim().is_empty()));
        match (line, self.code) {
            (Some(line), _) => line.trim().to_owned(),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "it was killed".to_owned(),
        }
    }
}

impl CommandHook {
    /// Whether the entry can be used.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), BadCommand> {
        let name = || self.name.clone();
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.name.is_empty() || self.name.len() > 100 || !self.name.bytes().all(is_plain) {
            return Err(BadCommand::Name);
        }
        let program = self.argv.first().map(Path::new);
        match program {
            Some(path) if path.is_absolute() && path.is_file() => {}
            Some(path) if path.is_absolute() => {
                return Err(BadCommand::Missing(name(), path.to_owned()));
            }
            _ => return Err(BadCommand::Program(name())),
        }
        if !(1..=MAX_SECONDS).contains(&self.timeout.as_secs()) {
            return Err(BadCommand::Timeout(name()));
        }
        if !self.asks && self.tells.is_empty() {
            return Err(BadCommand::Idle(name()));
        }
        let is_pattern = |text: &&String| crate::notices::endpoint::is_pattern(text);
        match self.tells.iter().find(|text| !is_pattern(text)) {
            Some(bad) => Err(BadCommand::Pattern(name(), bad.clone())),
            None => Ok(()),
        }
    }

    /// Whether it is for this project.
    #[must_use]
    pub fn is_for(&self, project: &str) -> bool {
        self.project.as_deref().is_none_or(|own| own == project)
    }

    /// Runs the program once with `document` on its standard input.
    ///
    /// # Errors
    /// It cannot be started, or does not end in time.
    pub async fn run(&self, document: &Value) -> Result<Ran, String> {
        let work = self.run_unbounded(document.to_string().into_bytes());
        match tokio::time::timeout(self.timeout, work).await {
            Ok(outcome) => outcome.map_err(|error| format!("it could not run: {error}")),
            // Dropping the child kills it.
            Err(_) => Err(format!("it did not end within {:?}", self.timeout)),
        }
    }

    async fn run_unbounded(&self, input: Vec<u8>) -> std::io::Result<Ran> {
        let (program, arguments) = self
            .argv
            .split_first()
            .ok_or_else(|| std::io::Error::other("it names no program"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.env)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let give = async move {
            if let Some(mut stdin) = stdin {
                // A program need not read what it is told.
                let _ = stdin.write_all(&input).await;
            }
        };
        let ((), output, complaint, status) =
            tokio::join!(give, beginning(stdout), beginning(stderr), child.wait());
        Ok(Ran {
            code: status?.code(),
            output,
            complaint,
        })
    }
}

/// The beginning of a stream; the rest is read, so that the writer never waits, and dropped.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let mut kept = Vec::new();
    let mut piece = [0_u8; 4096];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        let room = MAX_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..length.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
