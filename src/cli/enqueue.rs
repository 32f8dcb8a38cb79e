//! `celeriac enqueue`: adds tasks, one kind or a whole input of lines, and waits for their ends when asked to.

mod asks;
mod chunks;
pub(super) mod lines;
mod sender;
mod wait;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use celeriac_actors::header::Priority;
use celeriac_actors::ids::TaskId;
use clap::Args;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::asks::AskArgs;
use self::lines::Numbered;
use self::sender::{Sender, Show, Stopped, Tally};
use self::wait::{PATIENCE, Waiting};
use super::exit::{Exit, Failure};
use super::policies::adjust;
use super::session::Session;
use super::text::brief;
use super::{Global, demo_tasks, output, values};
use crate::admin::enqueue::order::{Desk, Order};
use crate::admin::enqueue::when;
use crate::admin::with_commands;
use crate::app::App;
use crate::client::Client;

/// An input that pauses this long has what came so far sent.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the spool may take to relay what is in it before the command ends.
const RELAY: Duration = Duration::from_secs(3);

/// How many chunks of lines may be read ahead.
const AHEAD: usize = 4;

/// Adds tasks to their queues.
#[derive(Args, Debug)]
pub(crate) struct EnqueueArgs {
    /// The name of the kind of task, such as `billing.charge`.
    #[arg(value_name = "TASK", required_unless_present = "jsonl")]
    task: Option<String>,
    /// Its arguments as JSON; nothing, or an object without fields, when left out.
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    args: Option<String>,
    /// The queue; by default the routes choose, then the task's kind.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Its id, a UUID; made when left out.
    #[arg(long, value_name = "ID", conflicts_with = "count")]
    id: Option<String>,
    /// How urgent it is within its queue, 0 (last) to 9 (first); 5 when left out.
    #[arg(long, value_name = "0-9")]
    priority: Option<u8>,
    /// Run it after this long, such as `5m`.
    #[arg(
        long,
        value_name = "SPAN",
        conflicts_with = "eta",
        allow_hyphen_values = true
    )]
    countdown: Option<String>,
    /// Run it at this instant, such as `2026-01-31T12:00:00+02:00`.
    #[arg(long, value_name = "RFC3339", allow_hyphen_values = true)]
    eta: Option<String>,
    #[command(flatten)]
    asks: AskArgs,
    /// Add it so many times, each with an id of its own.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Take tasks that this program does not know, too; one that registers tasks of its own refuses them otherwise.
    #[arg(long)]
    any_task: bool,
    /// Wait until all have ended, and print one JSON object a line for each as it ends.
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, such as `10m`; exit 1 when something has not ended then.
    #[arg(long, value_name = "SPAN", requires = "wait")]
    timeout: Option<String>,
    /// Add the tasks of a file, `-` for standard input: one JSON object a line with `task` and, as wanted, `args`,
    /// `queue`, `id`, `countdown`, `eta`, `priority`, `expires`, `retry_until`, `soft_limit`, `hard_limit`,
    /// `max_attempts`, `mode`, `headers`.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["task", "args", "queue", "id", "priority", "countdown", "eta", "count", "expires",
            "retry_until", "soft_limit", "hard_limit", "max_attempts", "mode", "headers"]
    )]
    jsonl: Option<PathBuf>,
    /// With `--jsonl`: print the id of each task, too.
    #[arg(long, short)]
    verbose: bool,
}

impl EnqueueArgs {
    /// Reads what was typed for a single kind of task.
    fn order(&self) -> Result<Order, String> {
        let args = match &self.args {
            Some(text) => Some(values::parse(text).map_err(|error| {
                let hint = "; a text needs quotes of its own: '\"text\"'";
                let hint = if text.starts_with(['{', '[', '"']) {
                    ""
                } else {
                    hint
                };
                format!("--args is no JSON: {error}{hint}")
            })?),
            None => None,
        };
        let id = self.id.as_deref().map(|text| {
            let id: Result<TaskId, _> = text.parse();
            id.map_err(|error| format!("--id `{}` is no UUID: {error}", brief(text, 60)))
        });
        let priority = self.priority.map(Priority::try_from).transpose();
        Ok(Order {
            task: self.task.clone().unwrap_or_default(),
            args,
            queue: self.queue.clone(),
            id: id.transpose()?,
            when: when::read(self.countdown.as_deref(), self.eta.as_deref())?,
            priority: priority
                .map_err(|error| error.to_string())?
                .unwrap_or_default(),
            asks: self.asks.read()?,
        })
    }
}

pub(crate) fn run(args: &EnqueueArgs, global: &Global, app: App) -> Result<Exit, Failure> {
    // A program without tasks of its own enqueues for others.
    let strict = !args.any_task && app.registry().names().next().is_some();
    // Demo tasks are checked as if they were known: a daemon with `--demo` knows them.
    let app = demo_tasks::add(app);
    let limit = match &args.timeout {
        Some(text) => Some(when::span("--timeout", text).map_err(Failure::usage)?),
        None => None,
    };
    let session = Session::open(global, &app, &[])?;
    // So are commands: a daemon with this configuration has them.
    let mut app = with_commands(app, &session.config);
    adjust(&mut app, &session.config);
    let work = Work {
        args,
        session: &session,
        app: &app,
        strict,
        limit,
    };
    match &args.jsonl {
        Some(path) => Session::block_on(work.lines(path))?,
        None => Session::block_on(work.single(args.order().map_err(Failure::usage)?))?,
    }
}

/// One run of the command.
struct Work<'a> {
    args: &'a EnqueueArgs,
    session: &'a Session,
    app: &'a App,
    /// Whether tasks that the program does not know are refused.
    strict: bool,
    limit: Option<Duration>,
}

impl Work<'_> {
    /// Adds one order as often as asked for.
    async fn single(&self, order: Order) -> Result<Exit, Failure> {
        let client = self.session.spooling_client()?;
        let waiting = self.waiting(&client);
        let mut desk = self.desk(client.producer());
        // Everything that can be wrong is found before anything is sent.
        drop(desk.pack(order.clone()).map_err(Failure::usage)?);
        if !desk.knows(&order.task) && !self.session.json {
            output::complain(&format!(
                "celeriac: `{}` is not a task of this program; a worker that knows it must run",
                order.task
            ));
        }
        let mut sender = Sender::new(client.producer(), self.show(true), waiting.as_ref());
        let mut stopped = None;
        for _ in 0..self.args.count.unwrap_or(1) {
            let parcel = desk.pack(order.clone()).map_err(Failure::usage)?;
            stopped = sender.send(parcel).await.err();
            if stopped.is_some() {
                break;
            }
        }
        if stopped.is_none() {
            stopped = sender.flush().await.err();
        }
        let tally = sender.finish();
        self.end(&client, tally, stopped, waiting).await
    }

    /// Adds the tasks of an input, line by line.
    async fn lines(&self, path: &Path) -> Result<Exit, Failure> {
        let input = open(path).map_err(|error| self.unreadable(path, &error))?;
        let client = self.session.spooling_client()?;
        let waiting = self.waiting(&client);
        let mut desk = self.desk(client.producer());
        let mut sender = Sender::new(client.producer(), self.show(false), waiting.as_ref());
        let (lines, mut come) = mpsc::channel(AHEAD);
        let max = client.producer().limits().max_body;
        std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || lines::feed(input, max, &lines))
            .map_err(|error| self.unreadable(path, &error))?;
        let mut unreadable = None;
        let stopped = loop {
            let next = if sender.is_empty() {
                Ok(come.recv().await)
            } else {
                timeout(PAUSE, come.recv()).await
            };
            let went = match next {
                Ok(Some(Ok(chunk))) => self.chunk(chunk, &mut desk, &mut sender).await,
                Ok(Some(Err(error))) => {
                    unreadable = Some(self.unreadable(path, &error));
                    sender.flush().await
                }
                // The input pauses: whoever writes it wants to see what is there run.
                Err(_) => sender.flush().await,
                Ok(None) => break sender.flush().await.err(),
            };
            if let Err(stop) = went {
                break Some(stop);
            }
        };
        let tally = sender.finish();
        self.summary(&tally);
        let exit = self.end(&client, tally, stopped, waiting).await?;
        unreadable.map_or(Ok(exit), Err)
    }

    async fn chunk(
        &self,
        chunk: Vec<Numbered>,
        desk: &mut Desk<'_>,
        sender: &mut Sender<'_>,
    ) -> Result<(), Stopped> {
        for (number, line) in chunk {
            let line = line.map_err(|error| error.to_string());
            let order = line.and_then(|line| lines::parse(&line));
            let parcel = match order {
                Ok(None) => continue,
                Ok(Some(order)) => desk.pack(order),
                Err(error) => Err(error),
            };
            match parcel {
                Ok(parcel) => sender.send(parcel).await?,
                Err(error) => {
                    sender.tally.bad += 1;
                    self.complain(number, &error);
                }
            }
        }
        Ok(())
    }

    /// Waits when asked to, and makes an exit of everything.
    async fn end(
        &self,
        client: &Client,
        tally: Tally,
        stopped: Option<Stopped>,
        waiting: Option<Waiting>,
    ) -> Result<Exit, Failure> {
        let relayed = self.relay(client).await;
        if let Some(stopped) = stopped {
            return Err(stopped.into_failure(&tally));
        }
        relayed?;
        let mut exit = Exit::Ok;
        if let Some(waiting) = waiting {
            let ends = waiting.finish(self.limit).await?;
            let left = tally.accepted.saturating_sub(ends.seen);
            if left > 0 {
                output::complain(&format!(
                    "celeriac: {left} of {} have not ended in time",
                    tally.accepted
                ));
            }
            if left > 0 || ends.failed > 0 {
                exit = Exit::TaskFailed;
            }
        }
        Ok(if tally.bad > 0 { Exit::Usage } else { exit })
    }

    /// Has the spool relay what it can, and says what is left there.
    async fn relay(&self, client: &Client) -> Result<(), Failure> {
        let Some(spool) = client.producer().spool() else {
            return Ok(());
        };
        let left = spool.drain(RELAY).await.map_err(Failure::unavailable)?;
        if left > 0 && self.session.json {
            output::complain(&serde_json::json!({ "spooled": left }).to_string());
        } else if left > 0 {
            output::complain(&format!(
                "celeriac: spooled {}: relayed by the next `celeriac enqueue` or `celeriac run` with this spool that finds \
                 the broker",
                output::counted(left, "task")
            ));
        }
        Ok(())
    }

    fn summary(&self, tally: &Tally) {
        let is_only_output = !self.args.wait && !self.args.verbose && !self.session.json;
        if is_only_output {
            output::line(&tally.to_string());
        } else if self.session.json {
            output::complain(&tally.json().to_string());
        } else {
            output::complain(&format!("celeriac: {tally}"));
        }
    }

    fn complain(&self, number: u64, error: &str) {
        if self.session.json {
            let line = serde_json::json!({ "line": number, "error": error });
            output::complain(&line.to_string());
        } else {
            output::complain(&format!("line {number}: {}", output::plain(error)));
        }
    }

    fn show(&self, is_single: bool) -> Show {
        match (self.args.wait, self.session.json) {
            (true, _) => Show::Nothing,
            (false, true) => Show::Objects,
            (false, false) if is_single || self.args.verbose => Show::Ids,
            (false, false) => Show::Nothing,
        }
    }

    fn desk<'a>(&'a self, producer: &'a celeriac_actors::producer::Producer) -> Desk<'a> {
        let (config, registry) = (&self.session.config, self.app.registry());
        let mut desk = Desk::new(config, registry, producer, self.args.wait);
        desk.strict = self.strict;
        desk
    }

    fn waiting(&self, client: &Client) -> Option<Waiting> {
        let limits = self.session.limits();
        self.args.wait.then(|| {
            let broker = std::sync::Arc::clone(client.broker());
            // What is spooled runs when the broker is back, so that is waited for, too.
            let patience = client.producer().spool().is_none().then_some(PATIENCE);
            Waiting::start(broker, self.session.keeper(), limits, patience)
        })
    }

    fn unreadable(&self, path: &Path, error: &io::Error) -> Failure {
        Failure::usage(format!("{} cannot be read: {error}", path.display()))
    }
}

pub(super) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    Ok(Box::new(file))
}
