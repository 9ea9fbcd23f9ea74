//! Tidegate: ship dark, open step by step, shut by itself.
//!
//! The binary composes: it reads configuration once, builds the parts, and gives each command its
//! own module. Exit codes: 0 done, 1 failed, 2 the command line was wrong.

mod audit;
mod backup;
mod client;
mod config;
mod config_check;
mod declarative;
mod delivery;
mod demo;
mod doctor;
mod evaluate;
mod events;
mod examples;
mod flag;
mod healthcheck;
mod nearest;
mod output;
mod outward;
mod person;
mod reports;
mod rollout;
mod rollout_simulate;
mod rollout_view;
mod rollout_words;
mod serve;
mod source;
mod stats;
mod stopped;
mod table_file;
mod token;
mod webhook;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "tidegate", version, about, long_about = LONG_ABOUT, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "Ships every merge dark behind a flag, opens it step by step to real users, \
                          guards it with statistics that stay valid while everybody watches, and \
                          shuts by itself on harm.";

const EXAMPLES: &str = "Examples:
  tidegate demo                                   see a bad change shut by itself
  tidegate dev --flags flags.json                 serve a file to OpenFeature clients, no sign-in
  tidegate serve --data-dir ./data                run for real
  tidegate evaluate --flags flags.json --flag new-checkout --context '{\"targetingKey\":\"user-17\"}'
  tidegate flag kill new-checkout --reason 'checkout fails for card payments'

Exit codes: 0 done, 1 failed, 2 wrong usage.";

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::ServeArguments),
    /// Serve one flag file to this machine, without sign-in, reloading on change
    Dev(serve::DevArguments),
    /// Play the whole loop with a known truth and check the verdicts against it
    Demo(demo::DemoArguments),
    /// Evaluate one flag of a file and say why it has that value
    Evaluate(evaluate::EvaluateArguments),
    /// List, read, create, change, kill and delete flags
    #[command(subcommand)]
    Flag(flag::FlagCommand),
    /// Import events
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Define metrics, and show them by the variants of a flag
    #[command(subcommand)]
    Metric(reports::MetricCommand),
    /// Define journeys, and show steps, drop-off and times
    #[command(subcommand)]
    Journey(reports::JourneyCommand),
    /// Show how many units use what
    #[command(subcommand)]
    Usage(reports::UsageCommand),
    /// Show who came back
    #[command(subcommand)]
    Retention(reports::RetentionCommand),
    /// Start, watch, hold, approve, end and explain guarded rollouts
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Make the server agree with files
    Apply(declarative::ApplyArguments),
    /// Show what `apply` would change
    Plan(declarative::PlanArguments),
    /// Write what the server has as files that `apply` takes
    Export(declarative::ExportArguments),
    /// Mint, list and disable tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Say who is told what happened, and see what became of it
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Show whether a metric source of others may roll a change back
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// Add people, give them roles, reset their password, take them away
    #[command(subcommand)]
    Person(person::PersonCommand),
    /// Read and verify the audit trail
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Compare arms, check splits, plan experiments and certify the statistics
    Stats(stats::StatsCommand),
    /// Measure delivery: import, DORA metrics, flow, forecasts
    #[command(subcommand)]
    Delivery(delivery::DeliveryCommand),
    /// Copy the control-plane state of a data folder to one file
    Backup(backup::BackupArguments),
    /// Put a backup in the place of a data folder's control-plane state; the server must be stopped
    Restore(backup::RestoreArguments),
    /// Look at a data folder and say what is wrong and how to cure it
    Doctor(doctor::DoctorArguments),
    /// Check the configuration
    #[command(subcommand)]
    Config(config_check::ConfigCommand),
    /// Exit 0 if a server answers and is ready
    Healthcheck(healthcheck::HealthcheckArguments),
}

fn main() -> ExitCode {
    let matches = examples::added_to(Arguments::command()).get_matches();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let outcome = match arguments.command {
        Command::Serve(arguments) => serve::serve(arguments),
        Command::Dev(arguments) => serve::dev(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Flag(command) => flag::run(&command),
        Command::Events(command) => events::run(&command),
        Command::Metric(command) => reports::metric(&command),
        Command::Journey(command) => reports::journey(&command),
        Command::Usage(command) => reports::usage(&command),
        Command::Retention(command) => reports::retention(&command),
        Command::Rollout(command) => rollout::run(&command),
        Command::Apply(arguments) => declarative::apply(&arguments),
        Command::Plan(arguments) => declarative::plan(&arguments),
        Command::Export(arguments) => declarative::export(&arguments),
        Command::Token(command) => token::run(&command),
        Command::Webhook(command) => webhook::run(&command),
        Command::Source(command) => source::run(&command),
        Command::Person(command) => person::run(&command),
        Command::Audit(command) => audit::run(&command),
        Command::Stats(command) => Ok(stats::run(&command)),
        Command::Delivery(command) => Ok(delivery::run(&command)),
        Command::Backup(arguments) => backup::back_up(&arguments),
        Command::Restore(arguments) => backup::restore(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Config(command) => config_check::run(&command, &matches),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}
