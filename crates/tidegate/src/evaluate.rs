//! `tidegate evaluate`: one flag of a file, its value, and why.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use tidegate_flags::{CompileOptions, Limits, Segments, compile, parse_context, parse_flag_set};

use crate::output::{self, Format, OutputArguments};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate evaluate --flags flags.json --flag new-checkout \
                        --context '{\"targetingKey\":\"user-17\"}'\n  tidegate evaluate --flags \
                        flags.json --flag new-checkout --context - -o json < context.json"
)]
pub(crate) struct EvaluateArguments {
    /// A flagd flag set (JSON), as `dev` serves it
    #[arg(long)]
    flags: PathBuf,
    /// The flag's key
    #[arg(long)]
    flag: String,
    /// The evaluation context as a JSON object; `-` reads it from standard input
    #[arg(long, default_value = "{}")]
    context: String,
    /// Unix seconds to evaluate at, for schedules; without it, now
    #[arg(long)]
    at: Option<i64>,
    #[command(flatten)]
    output: OutputArguments,
}

/// Evaluates and explains. Exits 1 if the flag does not exist or answers with an error.
pub(crate) fn run(arguments: &EvaluateArguments) -> Result<ExitCode> {
    let limits = Limits::default();
    let text = std::fs::read_to_string(&arguments.flags)
        .with_context(|| format!("cannot read {}", arguments.flags.display()))?;
    let source = parse_flag_set(&text, &limits)
        .map_err(|violations| crate::serve::in_file(&arguments.flags, &violations))?;
    let (ruleset, warnings) = compile(&source, &Segments::default(), &CompileOptions::default());
    for warning in &warnings {
        output::note(&format!("warning: {warning}"));
    }
    let Some(handle) = ruleset.handle(&arguments.flag) else {
        let near = crate::nearest::nearest(&arguments.flag, ruleset.keys());
        let suggestion = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        bail!(
            "there is no flag {:?} in {}{suggestion}",
            arguments.flag,
            arguments.flags.display()
        );
    };
    let context = parse_context(context_text(arguments)?.as_bytes(), &limits)
        .map_err(|violation| anyhow::anyhow!("--context: {violation}"))?;
    let at = arguments.at.unwrap_or_else(crate::serve::now_seconds);
    let bound = ruleset.bind(&context, at);
    let resolution = ruleset.evaluate(handle, &bound);
    let explanation = ruleset
        .explain(handle, &bound)
        .context("the flag went away")?;
    let error = resolution.error.as_ref();
    match arguments.output.output {
        Format::Json => output::json(&json!({
            "flag": arguments.flag,
            "value": resolution.value,
            "variant": resolution.variant,
            "reason": resolution.reason.as_str(),
            "errorCode": error.map(|error| error.code.as_str()),
            "errorDetails": error.map(|error| error.detail.to_string()),
            "metadata": resolution.metadata,
            "why": explanation,
        }))?,
        Format::Table => {
            let value = resolution.value.map_or_else(
                || "(none: the caller's own default)".to_owned(),
                ToString::to_string,
            );
            output::line(&format!("value    {value}"));
            output::line(&format!(
                "variant  {}",
                resolution.variant.unwrap_or("(none)")
            ));
            output::line(&format!("reason   {}", resolution.reason.as_str()));
            if let Some(error) = error {
                output::line(&format!(
                    "error    {}: {}",
                    error.code.as_str(),
                    error.detail
                ));
            }
            output::line(&format!("why      {}", explanation.because));
            for split in &explanation.splits {
                output::line(&format!(
                    "         hashed {} to {}: bucket {} of {}, entry {} holds {}..{}",
                    split.hashed_text.as_deref().unwrap_or(&split.hashed_hex),
                    split.hash,
                    split.bucket,
                    split.total,
                    split.entry,
                    split.from,
                    split.to,
                ));
            }
        }
    }
    Ok(if error.is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn context_text(arguments: &EvaluateArguments) -> Result<String> {
    if arguments.context != "-" {
        return Ok(arguments.context.clone());
    }
    let most = u64::try_from(Limits::default().context_bytes).unwrap_or(u64::MAX);
    let mut text = String::new();
    std::io::stdin()
        .take(most.saturating_add(1))
        .read_to_string(&mut text)
        .context("cannot read the context from standard input")?;
    Ok(text)
}
