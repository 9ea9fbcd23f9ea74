//! `tidegate serve` and `tidegate dev`: the server, for real and for one developer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tidegate_server::clock::{Clock, SystemClock};
use tidegate_server::rate_limit::RateLimit;
use tidegate_server::runtime::{Running, Settings, start};

use crate::config::SettingArguments;
use crate::output;

/// How long a stop waits for requests under way.
const DRAIN: Duration = Duration::from_secs(8);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate serve --data-dir ./data\n  TIDEGATE_BOOTSTRAP_TOKEN=\
                        $(openssl rand -hex 32) tidegate serve --listen 127.0.0.1:8800\n\nPrints \
                        one line `listening on http://HOST:PORT` when it is ready. SIGTERM drains."
)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    settings: SettingArguments,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidegate dev --flags flags.json\n\nPoint any OpenFeature OFREP or \
                        flagd client at it. An edit is served at once; a file that cannot be read \
                        keeps what was served and says where it is wrong."
)]
pub(crate) struct DevArguments {
    /// A flagd flag set (JSON)
    #[arg(long)]
    flags: PathBuf,
    /// The loopback address to answer at; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:8800")]
    listen: SocketAddr,
    /// Also answer at flagd's ports 8013, 8015 and 8016 on loopback
    #[arg(long)]
    flagd_ports: bool,
}

/// Runs the server until it is told to stop.
pub(crate) fn serve(arguments: ServeArguments) -> Result<ExitCode> {
    start_logging();
    let config = arguments.settings.resolve()?;
    config.check()?;
    let flagd_project = config
        .flagd_ports()
        .then(|| config.flagd_project().to_owned());
    let settings = Settings {
        data_dir: config.data_dir(),
        listen: config.listen(),
        bootstrap_token: config.bootstrap_token()?,
        rate_limit: config.requests_per_second.map(|per_second| RateLimit {
            per_second,
            burst: per_second * 2.0,
        }),
        open_door: false,
        allowed_origins: config.allowed_origins()?,
        outward: crate::outward::resolve(&config)?,
        retention: config.retention(),
        report_limit: config.report_limit(),
    };
    let has_bootstrap = settings.bootstrap_token.is_some();
    let data_dir = settings.data_dir.clone();
    block_on(async move {
        let running = start(settings, clock()).await?;
        if let Some(project) = flagd_project {
            open_flagd_ports(&running, &project).await?;
        }
        if !has_bootstrap {
            show_first_link(&running, &data_dir).await?;
        }
        announce(&running);
        wait_for_stop().await?;
        running.stop(DRAIN).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Serves one file, following its changes.
pub(crate) fn dev(arguments: &DevArguments) -> Result<ExitCode> {
    start_logging();
    ensure!(
        arguments.listen.ip().is_loopback(),
        "dev asks nobody for a credential, so it listens on loopback only, not at {}",
        arguments.listen
    );
    let file = arguments.flags.clone();
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let (listen, with_flagd_ports) = (arguments.listen, arguments.flagd_ports);
    block_on(async move {
        let running = tidegate_server::dev::start(listen, &text, clock())
            .await
            .map_err(|error| match error {
                tidegate_server::dev::DevError::Flags(violations) => in_file(&file, &violations),
                tidegate_server::dev::DevError::Start(error) => error.into(),
            })?;
        if with_flagd_ports {
            open_flagd_ports(&running, tidegate_server::DEFAULT_PROJECT).await?;
        }
        announce(&running);
        tokio::select! {
            outcome = wait_for_stop() => outcome?,
            () = follow(&running, &file, text) => {}
        }
        running.stop(DRAIN).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Prints the link that sets the first password, while nobody has one. It is kept in a private
/// file too, for whoever does not see what a service prints.
async fn show_first_link(running: &Running, data_dir: &Path) -> Result<()> {
    let file = data_dir.join("first-sign-in-link");
    if file.exists() {
        std::fs::remove_file(&file).with_context(|| format!("cannot use {}", file.display()))?;
    }
    let link = match tidegate_server::sign_in::first_link(&running.app).await {
        Ok(Some(link)) => link,
        Ok(None) => return Ok(()),
        Err(error) => {
            output::note(&format!("no sign-in link could be made: {error}"));
            return Ok(());
        }
    };
    let link = format!("http://{}/sign-in?link={}", running.address, link.expose());
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(&file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, format!("{link}\n").as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    output::note(&format!(
        "nobody can sign in yet; set the password of {} within a day at {link}",
        tidegate_server::sign_in::FIRST_ADDRESS
    ));
    Ok(())
}

/// Answers at flagd's ports too, or at none if one of them is taken.
async fn open_flagd_ports(running: &Running, project: &str) -> Result<()> {
    running
        .open_flagd_ports(project)
        .await
        .context("--flagd-ports needs the ports 8013, 8015 and 8016 of this machine")
}

/// Reads the file again and again, and serves it when its text differs.
async fn follow(running: &Running, file: &Path, mut served: String) {
    let mut timer = tokio::time::interval(Duration::from_millis(100));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        timer.tick().await;
        // An editor that replaces the file leaves a moment without one; the next tick sees it.
        let Ok(text) = tokio::fs::read_to_string(file).await else {
            continue;
        };
        if text == served {
            continue;
        }
        served = text;
        match tidegate_server::dev::reload(&running.app, &served) {
            Ok(problems) if problems.is_empty() => {
                output::note(&format!("reloaded {}", file.display()));
            }
            Ok(problems) => {
                for problem in problems {
                    output::note(&format!("{}: {problem}", file.display()));
                }
            }
            Err(violations) => {
                output::note(&format!(
                    "{:#}; what was served before still is",
                    in_file(file, &violations)
                ));
            }
        }
    }
}

/// Violations of a flag file as one error, each with its line and column.
pub(crate) fn in_file(file: &Path, violations: &[tidegate_flags::Violation]) -> anyhow::Error {
    let lines: Vec<String> = violations
        .iter()
        .map(|violation| {
            let place = match (violation.line, violation.column) {
                (Some(line), Some(column)) => format!("{}:{line}:{column}", file.display()),
                _ => format!("{} {}", file.display(), violation.pointer),
            };
            format!("{place}: {}", violation.message)
        })
        .collect();
    anyhow::anyhow!("{}", lines.join("\n"))
}

/// The one clock of the process.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::start())
}

/// Unix seconds, for commands that evaluate without a server.
pub(crate) fn now_seconds() -> i64 {
    SystemClock::start().now_seconds()
}

/// Says where the server answers, in the one line that scripts wait for.
pub(crate) fn announce(running: &Running) {
    output::line(&format!("listening on http://{}", running.address));
}

/// Runs an asynchronous command to its end.
pub(crate) fn block_on<F>(work: F) -> Result<ExitCode>
where
    F: Future<Output = Result<ExitCode>>,
{
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

/// Returns when the process is asked to stop.
pub(crate) async fn wait_for_stop() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Logs to standard error, at `info` unless `TIDEGATE_LOG` says otherwise.
pub(crate) fn start_logging() {
    start_logging_at(tracing::Level::INFO);
}

/// Logs to standard error, at `level` unless `TIDEGATE_LOG` says otherwise.
pub(crate) fn start_logging_at(level: tracing::Level) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("TIDEGATE_LOG")
        .from_env_lossy();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .finish();
    // A second call in one process keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
