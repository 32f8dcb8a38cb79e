//! One attempt of a command: the program's life from its start to its end.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use celeriac_actors::foreign::{ForeignAttempt, ForeignError};
use celeriac_actors::ports::{Death, KILL_GRACE, LAST_LINES, Stop};
use celeriac_actors::task::TaskError;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::time::Instant;

use super::Command;
use super::process::{LOOK, Pipes, Process, signal};
use super::tail::Tail;
use crate::exits;
use crate::runtime::host_name;

/// How long what a program wrote is still read when it has ended and left something behind that holds its output open.
const LINGER: Duration = Duration::from_millis(250);

/// How large its output may be where results are not kept.
const MAX_UNKEPT: usize = 1 << 20;

/// Runs the program for one attempt.
pub(super) async fn run(
    command: Arc<Command>,
    args: Value,
    attempt: ForeignAttempt,
) -> Result<Value, ForeignError> {
    let mut line = Vec::new();
    for template in &command.args {
        line.push(template.fill(&args).map_err(TaskError::permanent)?);
    }
    let input = serde_json::to_vec(&args)?;
    let (process, pipes) =
        start(&command, &line, &attempt).map_err(|error| not_started(&command, error))?;
    attempt.runs_in(process.leash());
    let mut visit = Visit {
        process,
        peak_memory: None,
        errors: Tail::default(),
        output: Vec::new(),
        max_output: match attempt.max_result() {
            0 => MAX_UNKEPT,
            max => max,
        },
    };
    let ended = visit.last(pipes, input, &attempt).await?;
    if let Ended::Exited(status) = &ended
        && exits::was_told_to_end(*status)
    {
        // Perhaps the worker was told as well, and hears of it just now.
        let _either = tokio::time::timeout(exits::HEARSAY, attempt.stopped()).await;
    }
    visit.judge(ended, &command)
}

/// What can be changed without a new version may be there for the next attempt; what cannot is not worth one.
fn not_started(command: &Command, error: io::Error) -> ForeignError {
    let permanent = matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    );
    let told = Told {
        message: format!("`{}` cannot be started: {error}", command.program.display()),
        cause: None,
    };
    if permanent {
        TaskError::permanent(told).into()
    } else {
        TaskError::from(told).into()
    }
}

fn start(
    command: &Command,
    line: &[String],
    attempt: &ForeignAttempt,
) -> io::Result<(Process, Pipes)> {
    let mut program = std::process::Command::new(&command.program);
    program
        .args(line)
        .env("CELERIAC_TASK", attempt.task().as_str())
        .env("CELERIAC_TASK_ID", attempt.id().to_string())
        .env("CELERIAC_TASK_ATTEMPT", attempt.number().to_string())
        .env("CELERIAC_TASK_QUEUE", attempt.queue().as_str())
        .env(
            "CELERIAC_TASK_DEADLINE",
            (attempt.ends_at().as_millis() / 1_000).to_string(),
        )
        .envs(command.env.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = &command.cwd {
        program.current_dir(directory);
    }
    Process::start(&mut program)
}

/// How a program ended.
enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// By us, because its attempt was stopped or somebody asked it to stop.
    Stopped(ExitStatus, Why),
    /// By us, because it wrote more than may be kept.
    TooMuch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Aborted(Stop),
    Cancelled,
    SoftLimit,
}

struct Visit {
    process: Process,
    peak_memory: Option<u64>,
    errors: Tail,
    output: Vec<u8>,
    max_output: usize,
}

impl Visit {
    /// Lasts until the program has ended, in whatever way.
    async fn last(
        &mut self,
        pipes: Pipes,
        input: Vec<u8>,
        attempt: &ForeignAttempt,
    ) -> io::Result<Ended> {
        let group = self.process.pid();
        let mut look = tokio::time::interval(LOOK);
        let Self {
            process,
            peak_memory,
            errors,
            output,
            max_output,
            ..
        } = self;
        let mut too_much = false;
        let ended = {
            let mut feed = std::pin::pin!(feed(pipes.stdin, input));
            let mut listen = std::pin::pin!(collect(pipes.stdout, output, *max_output));
            let mut overhear = std::pin::pin!(overhear(pipes.stderr, errors));
            let (mut fed, mut heard, mut overheard) = (false, false, false);
            let mut told: Option<Why> = None;
            let mut kill_at = None;
            let end = loop {
                let killing = async {
                    match kill_at {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    end = process.wait() => break end?,
                    _ = look.tick() => process.look(),
                    () = &mut feed, if !fed => fed = true,
                    whole = &mut listen, if !heard => {
                        heard = true;
                        too_much = !whole;
                        if too_much {
                            signal(group, Signal::KILL);
                        }
                    }
                    () = &mut overhear, if !overheard => overheard = true,
                    () = killing => {
                        signal(group, Signal::KILL);
                        kill_at = None;
                    }
                    why = reason(attempt, told) => {
                        told = Some(why);
                        kill_at = tell(group, why);
                    }
                }
            };
            let rest = async {
                let whole = async { heard || listen.await };
                let all = async {
                    if !overheard {
                        overhear.await;
                    }
                };
                tokio::join!(whole, all).0
            };
            too_much |= !read_rest(rest, group).await;
            *peak_memory = end.peak_memory;
            let status = end.status;
            match told {
                Some(why) => Ended::Stopped(status, why),
                None => Ended::Exited(status),
            }
        };
        Ok(if too_much { Ended::TooMuch } else { ended })
    }

    /// Decides what its end means.
    fn judge(self, ended: Ended, command: &Command) -> Result<Value, ForeignError> {
        let status = match ended {
            Ended::TooMuch => {
                let message = format!(
                    "it wrote more than the {} bytes that a result may have (`results.max_size`)",
                    self.max_output
                );
                return Err(self.failed(message, TaskError::permanent));
            }
            Ended::Stopped(status, Why::Aborted(_)) => {
                // Nothing else is to be blamed for it.
                return Err(ForeignError::Died(self.death(exits::plain(status))));
            }
            // It did what was to be done in spite of all.
            Ended::Stopped(status, _) if status.success() => status,
            Ended::Stopped(_, Why::SoftLimit) => return Err(TaskError::soft_limit().into()),
            Ended::Stopped(status, Why::Cancelled) => {
                let message = format!("it was asked to stop: {}", exits::describe(status));
                return Err(self.failed(message, TaskError::from));
            }
            Ended::Exited(status) => status,
        };
        match status.code() {
            Some(0) => self.result(),
            Some(code) => {
                let message = format!("it exited with status {code}");
                let again = command.retry_codes.contains(&code);
                let means = if again {
                    TaskError::from
                } else {
                    TaskError::permanent
                };
                Err(self.failed(message, means))
            }
            None => Err(ForeignError::Died(self.death(exits::describe(status)))),
        }
    }

    fn result(self) -> Result<Value, ForeignError> {
        if self.output.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.output).map_err(|error| {
            let message = format!("what it wrote to its standard output is no JSON: {error}");
            self.failed(message, TaskError::permanent)
        })
    }

    fn failed(&self, message: String, means: impl FnOnce(Told) -> TaskError) -> ForeignError {
        let lines = self.errors.lines(LAST_LINES).into_iter().rev();
        let cause = lines.fold(None, |cause, line| {
            let message = format!("wrote: {line}");
            Some(Box::new(Told { message, cause }))
        });
        ForeignError::Failed(means(Told { message, cause }))
    }

    fn death(&self, status: String) -> Death {
        Death {
            status,
            peak_memory: self.peak_memory,
            host: host_name(),
            pid: self.process.pid(),
            last_lines: self.errors.lines(LAST_LINES),
            was_alone: true,
        }
    }
}

/// Asks a program to end, or ends it; returns when it is to be killed, if it is not ended yet and not free to go on.
fn tell(group: u32, why: Why) -> Option<Instant> {
    let at_once = why == Why::Aborted(Stop::Released);
    signal(group, if at_once { Signal::KILL } else { Signal::TERM });
    // At the soft limit it has until the hard one.
    (!at_once && why != Why::SoftLimit).then(|| Instant::now() + KILL_GRACE)
}

/// Reads what a program has left behind; returns whether it is whole, as far as can be told.
async fn read_rest(rest: impl Future<Output = bool>, group: u32) -> bool {
    let read = tokio::time::timeout(LINGER, rest).await;
    if read.is_err() {
        // Somebody it started holds its output open: there is a group still, and it is its own.
        signal(group, Signal::KILL);
    }
    read.unwrap_or(true)
}

/// Completes when there is a reason to end the program, beyond the one it was told already.
async fn reason(attempt: &ForeignAttempt, told: Option<Why>) -> Why {
    let is_new = |why: Why| told != Some(why);
    if let Some(Why::Aborted(_)) = told {
        return std::future::pending().await;
    }
    tokio::select! {
        biased;
        stop = attempt.stopped() => Why::Aborted(stop),
        () = attempt.cancelled(), if is_new(Why::Cancelled) => Why::Cancelled,
        () = attempt.soft_limit(), if told.is_none() => Why::SoftLimit,
    }
}

/// Writes its arguments. A program that does not read them is within its rights.
async fn feed(stdin: Option<ChildStdin>, input: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        let _unread = stdin.write_all(&input).await;
    }
}

/// Reads its output; returns whether that is all of it.
async fn collect(stdout: Option<impl AsyncRead + Unpin>, output: &mut Vec<u8>, max: usize) -> bool {
    let Some(mut stdout) = stdout else {
        return true;
    };
    let mut buffer = vec![0; 8 << 10];
    loop {
        match stdout.read(&mut buffer).await {
            Ok(0) | Err(_) => return true,
            Ok(count) if output.len() + count > max => return false,
            Ok(count) => output.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Reads its errors, and keeps the end of them.
async fn overhear(stderr: Option<impl AsyncRead + Unpin>, errors: &mut Tail) {
    let Some(mut stderr) = stderr else {
        return;
    };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        errors.push(&buffer[..count]);
    }
}

/// What a program told of its failure.
#[derive(Debug)]
struct Told {
    message: String,
    cause: Option<Box<Told>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Told {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
