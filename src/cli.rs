//! The command line, as a library: a program of one's own has every command by calling [`main`] with its tasks.
//!
//! One file per command. This file owns what all of them share: the flags, how configuration is found, how errors become
//! exit codes. Results go to standard output, everything said about them to standard error.

mod bench;
mod breaker;
mod completions;
mod config;
mod dead;
mod demo;
pub(crate) mod demo_tasks;
mod doctor;
mod enqueue;
mod exit;
mod explain;
mod health;
mod init;
mod migrate;
mod output;
mod policies;
mod queues;
mod rights;
mod run;
mod session;
mod spool;
mod status;
mod task;
mod tasks;
mod tree;
mod workers;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::admin::{text, values, when};
use crate::app::App;
use crate::isolation::Newborn;

pub use self::exit::Exit;

use self::exit::Failure;

/// A supervised background-task runtime.
#[derive(Debug, Parser)]
#[command(name = "celeriac", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The flags of every command.
#[derive(Args, Clone, Debug, Default)]
struct Global {
    /// Configuration file; `celeriac.toml` in the current directory where there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the embedded broker and store keep their files; `./celeriac-data` by default.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// The broker: `sqlite:` for the embedded one in the data directory, or a URL.
    #[arg(long, global = true, value_name = "URL")]
    broker: Option<String>,
    /// What is logged: trace, debug, info, warning, error or critical.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How it is logged: json or term.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Print one JSON document, or one object a line, instead of text.
    #[arg(long, global = true)]
    json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what a broker and this machine can do, in a place of their own.
    Bench(bench::BenchArgs),
    /// Show circuit breakers, and open and close them by hand.
    #[command(subcommand)]
    Breaker(breaker::BreakerCommand),
    /// Print what a shell needs to complete the command line.
    Completions(completions::CompletionsArgs),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Show, revive, discard and delete dead letters.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Show everything at work, in less than a minute.
    Demo(demo::DemoArgs),
    /// Check everything that a worker needs, and say what to do.
    Doctor(doctor::DoctorArgs),
    /// Add tasks to their queues, and wait for their ends when asked to.
    Enqueue(Box<enqueue::EnqueueArgs>),
    /// Say how the whole is; exit code 0 healthy, 1 degraded, 2 critical, 3 unknown.
    Health(health::HealthArgs),
    /// Say why a task does not run, or why a queue stands still.
    Explain(explain::ExplainArgs),
    /// Write a commented configuration and a project to start from.
    Init(init::InitArgs),
    /// Bring the data of broker and store up to this version.
    Migrate(migrate::MigrateArgs),
    /// Show what every queue holds and has counted; pause, resume and purge queues.
    Queues(queues::QueuesArgs),
    /// Run tasks until told to stop.
    Run(run::RunArgs),
    /// Look after the spool: what waits there, and what the broker rejected.
    #[command(subcommand)]
    Spool(spool::SpoolCommand),
    /// Show broker, queues, workers and what runs.
    Status(status::StatusArgs),
    /// Look at one task, or revoke tasks.
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// List stored tasks.
    Tasks(tasks::TasksArgs),
    /// Show the supervision tree of the workers.
    Tree(tree::TreeArgs),
    /// List the workers, a line each.
    Workers,
}

/// Runs the command line of this process, with the tasks that `define` adds.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     celeriac::cli::main(|app| app)
/// }
/// ```
pub fn main(define: impl FnOnce(App) -> App) -> ExitCode {
    main_with(std::env::args_os(), define)
}

/// Runs a command line given as arguments, the program's name first.
pub fn main_with<I, T>(arguments: I, define: impl FnOnce(App) -> App) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    if let Some(newborn) = Newborn::of_this_process() {
        let code = newborn.live(|demo| {
            let app = define(App::new());
            if demo { demo_tasks::add(app) } else { app }
        });
        return code.into();
    }
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let wants_json = wants_json(&arguments);
    let program = completions::program(arguments.first().map(OsString::as_os_str));
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, wants_json),
    };
    let json = cli.global.json;
    match dispatch(cli, &program, define(App::new())) {
        Ok(Exit::Ok) if output::is_unwritten() => Exit::TaskFailed.into(),
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(json),
    }
}

/// Returns whether the caller reads JSON, before it is known whether anything else he says is right.
fn wants_json(arguments: &[OsString]) -> bool {
    let mut flags = arguments.iter().take_while(|argument| *argument != "--");
    flags.any(|argument| argument == "--json")
}

/// Help and version are no mistakes; everything else that clap refuses is one of usage.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if json && error.use_stderr() {
        return Failure::usage(first_words(error)).report(json);
    }
    // Nothing is left to do when even that cannot be written.
    let _unwritten = error.print();
    if error.use_stderr() {
        Exit::Usage.into()
    } else {
        Exit::Ok.into()
    }
}

/// Returns what clap complains about, without the usage and the pointers to the help behind it.
fn first_words(error: &clap::Error) -> String {
    use clap::error::ErrorKind::{DisplayHelpOnMissingArgumentOrSubcommand, MissingSubcommand};

    if let DisplayHelpOnMissingArgumentOrSubcommand | MissingSubcommand = error.kind() {
        return "a command is missing; `--help` names them".to_owned();
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let behind = ["\n\nUsage:", "\n\nFor more information"];
    let ends = behind.iter().filter_map(|start| text.find(start));
    let text = &text[..ends.min().unwrap_or(text.len())];
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn dispatch(cli: Cli, program: &str, app: App) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Bench(args) => bench::run(&args, &global, &app),
        Command::Breaker(command) => breaker::run(&command, &global, &app),
        Command::Completions(args) => Ok(completions::run(&args, program, Cli::command())),
        Command::Config(command) => config::run(&command, global, &app),
        Command::Dead(command) => dead::run(command, &global, app),
        Command::Demo(args) => demo::run(&args, &global),
        Command::Doctor(args) => doctor::run(&args, &global, &app),
        Command::Enqueue(args) => enqueue::run(&args, &global, app),
        Command::Health(args) => health::run(&args, &global, &app),
        Command::Explain(args) => explain::run(&args, &global, &app),
        Command::Init(args) => init::run(&args, &global),
        Command::Migrate(args) => migrate::run(&args, &global, &app),
        Command::Queues(args) => queues::run(&args, &global, &app),
        Command::Run(args) => run::run(&args, global, app),
        Command::Spool(command) => spool::run(&command, &global, &app),
        Command::Status(args) => status::run(&args, &global, &app),
        Command::Task(command) => task::run(&command, &global, &app),
        Command::Tasks(args) => tasks::run(&args, &global, &app),
        Command::Tree(args) => tree::run(&args, &global, &app),
        Command::Workers => workers::run(&global, &app),
    }
}
