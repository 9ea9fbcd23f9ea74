//! Measures `tidegate delivery` against its ceilings, from outside, on the real binary.
//!
//! ```text
//! bench-delivery [--tidegate FILE] [--commits 1000000] [--govuk FILE] [--work DIR]
//! ```
//!
//! * A synthetic repository (pull requests of three commits each, one tag per ten merges) is written by
//!   `git fast-import`, every tag is a deployment; it is imported and attributed by `import-git` and `metrics`.
//!   Ceilings: 10 s of CPU and 400 MB for reading alone, 15 s and 500 MB for both together.
//!   Then a thousand commits are added and imported: what that costs beside the first import.
//! * With `--govuk`, the public deployment log is imported (3 s) and a year of all services answered (300 ms).
//! * Webhooks come in at 500 a second for 20 seconds: p99 of the answers below 50 ms ([`webhooks`]).
//!
//! CPU time is the children's, as the kernel accounts it; memory is the high-water mark, polled while they run.

mod webhooks;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

const TICKS_PER_SECOND: f64 = 100.0;
const DEFAULT_BINARY: &str = "target/release/tidegate";

struct Options {
    tidegate: PathBuf,
    commits: u32,
    govuk: Option<PathBuf>,
    work: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = options()?;
    build(&options)?;
    std::fs::create_dir_all(&options.work)?;
    let mut within = true;
    within &= million_commits(&options)?;
    if let Some(file) = &options.govuk {
        within &= fleet(&options, file)?;
    }
    within &= webhooks::measure(&options.tidegate, &fresh(&options.work, "data-webhooks")?)?;
    if !within {
        bail!("a ceiling was passed");
    }
    Ok(())
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        tidegate: PathBuf::from(DEFAULT_BINARY),
        commits: 1_000_000,
        govuk: public_log(),
        work: std::env::temp_dir().join("bench-delivery"),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--tidegate" => options.tidegate = value.into(),
            "--commits" => options.commits = value.parse()?,
            "--govuk" => options.govuk = Some(value.into()),
            "--work" => options.work = value.into(),
            _ => bail!("unknown option {name}"),
        }
    }
    Ok(options)
}

/// The public deployment log where `TIDEGATE_DATA_DIR` names its folder, or beside the checkout.
fn public_log() -> Option<PathBuf> {
    let folder = std::env::var_os("TIDEGATE_DATA_DIR").map(PathBuf::from);
    let file = folder
        .unwrap_or_else(|| PathBuf::from("../shared/data"))
        .join("govuk_deploy_events.csv.gz");
    file.exists().then_some(file)
}

/// The release binary, built if it is the default one.
fn build(options: &Options) -> anyhow::Result<()> {
    if options.tidegate != Path::new(DEFAULT_BINARY) {
        return Ok(());
    }
    let status = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--bin",
            "tidegate",
        ])
        .status()?;
    if !status.success() {
        bail!("cargo build ended with {status}");
    }
    Ok(())
}

fn million_commits(options: &Options) -> anyhow::Result<bool> {
    let repository = options.work.join(format!("synthetic-{}", options.commits));
    if !repository.join("HEAD").exists() {
        write_repository(&repository, options.commits)?;
    }
    let data = fresh(&options.work, "data-git")?;
    let path = repository.to_string_lossy().into_owned();
    let import = [
        "import-git",
        path.as_str(),
        "--repository",
        "synthetic",
        "--tags-as-deployments",
        "v",
    ];
    let first = run(options, &data, &import)?;
    let metrics = [
        "metrics",
        "--service",
        "synthetic",
        "--from",
        "2000-01-01",
        "--to",
        "2100-01-01",
    ];
    let answer = run(options, &data, &metrics)?;
    let again = run(options, &data, &import)?;
    let grown = options.work.join("grown");
    if grown.exists() {
        std::fs::remove_dir_all(&grown)?;
    }
    copy_and_grow(&repository, &grown, NEW_COMMITS)?;
    let grown = grown.to_string_lossy().into_owned();
    let new_import = [
        "import-git",
        grown.as_str(),
        "--repository",
        "synthetic",
        "--tags-as-deployments",
        "v",
    ];
    let more = run(options, &data, &new_import)?;
    let cpu = first.cpu_seconds + answer.cpu_seconds;
    let peak = first.peak_mb.max(answer.peak_mb);
    let read = report(
        &format!("{} commits read into the log", options.commits),
        &first,
        Some(10.0),
        Some(400.0),
    );
    let attributed = report("attributed and measured", &answer, Some(15.0), Some(500.0));
    println!("together: {cpu:.1} s CPU (ceiling 15), peak {peak:.0} MB (ceiling 500)");
    report("second import, nothing new", &again, None, None);
    report(
        &format!("import of {NEW_COMMITS} new commits"),
        &more,
        None,
        None,
    );
    Ok(read && attributed && cpu < 15.0)
}

fn fleet(options: &Options, file: &Path) -> anyhow::Result<bool> {
    let data = fresh(&options.work, "data-fleet")?;
    let path = file.to_string_lossy().into_owned();
    let map = "time=unix,environment=environment,service=service,version=new_tag";
    let imported = run(
        options,
        &data,
        &[
            "import-csv",
            "--file",
            &path,
            "--kind",
            "deployments",
            "--map",
            map,
        ],
    )?;
    let year = [
        "metrics",
        "--from",
        "2025-01-01",
        "--to",
        "2026-01-01",
        "-o",
        "json",
    ];
    let mut answers = (0..5)
        .map(|_| run(options, &data, &year))
        .collect::<anyhow::Result<Vec<_>>>()?;
    answers.sort_by(|a, b| a.wall_seconds.total_cmp(&b.wall_seconds));
    let answer = &answers[answers.len() / 2];
    let is_imported =
        report("fleet log imported", &imported, None, None) && imported.wall_seconds < 3.0;
    report("a year of all services (median of 5)", answer, None, None);
    println!(
        "import {:.2} s (ceiling 3), answer {:.0} ms (ceiling 300)",
        imported.wall_seconds,
        answer.wall_seconds * 1e3
    );
    Ok(is_imported && answer.wall_seconds < 0.3)
}

struct Usage {
    wall_seconds: f64,
    cpu_seconds: f64,
    peak_mb: f64,
}

fn report(what: &str, usage: &Usage, cpu: Option<f64>, peak: Option<f64>) -> bool {
    println!(
        "{what}: {:.2} s CPU, {:.2} s wall, peak {:.0} MB",
        usage.cpu_seconds, usage.wall_seconds, usage.peak_mb
    );
    cpu.is_none_or(|ceiling| usage.cpu_seconds < ceiling)
        && peak.is_none_or(|ceiling| usage.peak_mb < ceiling)
}

fn run(options: &Options, data: &Path, arguments: &[&str]) -> anyhow::Result<Usage> {
    let before = children_cpu_seconds()?;
    let started = Instant::now();
    let mut child = Command::new(&options.tidegate)
        .arg("delivery")
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", options.tidegate.display()))?;
    let mut peak_mb = 0.0_f64;
    let status = loop {
        peak_mb = peak_mb.max(peak_of(child.id()).unwrap_or(0.0));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !status.success() {
        bail!("{arguments:?} ended with {status}");
    }
    Ok(Usage {
        wall_seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: children_cpu_seconds()? - before,
        peak_mb,
    })
}

/// High-water mark of a process's memory, from `/proc`.
fn peak_of(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}

/// User and system time of all children waited for, from `/proc/self/stat`.
fn children_cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').context("a stat line")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |place: usize| -> anyhow::Result<f64> {
        Ok(fields.get(place).context("a field")?.parse()?)
    };
    Ok((ticks(13)? + ticks(14)?) / TICKS_PER_SECOND)
}

fn fresh(work: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = work.join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(folder)
}

/// Commits added before the last import.
const NEW_COMMITS: u32 = 1000;

/// A copy that shares the objects, with commits added on top of its main line.
fn copy_and_grow(from: &Path, to: &Path, commits: u32) -> anyhow::Result<()> {
    let status = Command::new("git")
        .args(["clone", "-q", "--mirror", "--shared"])
        .args([from, to])
        .status()?;
    if !status.success() {
        bail!("git clone ended with {status}");
    }
    let mut child = Command::new("git")
        .arg("--git-dir")
        .arg(to)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut out = BufWriter::new(child.stdin.take().context("a pipe")?);
    for n in 0..u64::from(commits) {
        let time = 1_600_000_000 + n * 300;
        writeln!(
            out,
            "commit refs/heads/main\ncommitter A <a@example.invalid> {time} +0000\ndata 4\nmore"
        )?;
        if n == 0 {
            writeln!(out, "from refs/heads/main^0")?;
        }
        writeln!(out)?;
    }
    drop(out.into_inner()?);
    let status = child.wait()?;
    if !status.success() {
        bail!("git fast-import ended with {status}");
    }
    Ok(())
}

/// A main line of merges: each pull request has three commits, every tenth merge is tagged.
fn write_repository(path: &Path, commits: u32) -> anyhow::Result<()> {
    let status = Command::new("git")
        .args(["init", "-q", "--bare"])
        .arg(path)
        .status()?;
    if !status.success() {
        bail!("git init ended with {status}");
    }
    let mut child = Command::new("git")
        .arg("--git-dir")
        .arg(path)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut out = BufWriter::new(child.stdin.take().context("a pipe")?);
    let mut time = 1_000_000_000_u64;
    let mut main = 0_u32;
    let mut commit = |out: &mut BufWriter<_>,
                      mark: u32,
                      message: &str,
                      from: u32,
                      merge: u32|
     -> std::io::Result<()> {
        time += 300;
        writeln!(out, "commit refs/heads/main\nmark :{mark}")?;
        writeln!(
            out,
            "author A <a@example.invalid> {} +0000\ncommitter A <a@example.invalid> {time} +0000",
            time - 200
        )?;
        writeln!(out, "data {}\n{message}", message.len())?;
        if from > 0 {
            writeln!(out, "from :{from}")?;
        }
        if merge > 0 {
            writeln!(out, "merge :{merge}")?;
        }
        writeln!(out)
    };
    let mut mark = 0;
    let mut number = 0;
    while mark < commits {
        let mut branch = main;
        for _ in 0..3 {
            mark += 1;
            commit(
                &mut out,
                mark,
                "Change a thing\n\nBecause it was asked for.",
                branch,
                0,
            )?;
            branch = mark;
        }
        number += 1;
        if main > 0 {
            mark += 1;
            commit(
                &mut out,
                mark,
                &format!("Merge pull request #{number} from a/b"),
                main,
                branch,
            )?;
            branch = mark;
        }
        main = branch;
        if number % 10 == 0 {
            writeln!(out, "reset refs/tags/v{}\nfrom :{main}\n", number / 10)?;
        }
    }
    drop(out.into_inner()?);
    let status = child.wait()?;
    if !status.success() {
        bail!("git fast-import ended with {status}");
    }
    Ok(())
}
