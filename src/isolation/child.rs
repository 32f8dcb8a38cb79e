//! The life of a child: says nothing, waits for attempts, runs one at a time, and ends with its worker.
//!
//! Attempts and their actors share one thread, as on a lane of a worker. The program's tasks are made on the main thread
//! when the first attempt comes, so a child that waits costs little.

mod broker;
mod link;
mod log;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use celeriac_actors::blocking::BlockingPool;
use celeriac_actors::breaker::Breakers;
use celeriac_actors::context::WorkerContext;
use celeriac_actors::isolated::{Host, Report};
use celeriac_actors::lane::LaneSeat;
use celeriac_actors::ports::Broker;
use celeriac_actors::producer::{Producer, ProducerOptions};
use tokio::sync::oneshot;

use self::broker::Forwarding;
use self::link::{Link, Said};
use super::hatch::STILLBORN;
use super::mail::Inbox;
use super::wire::{Hello, Tag, value_of};
use crate::app::App;
use crate::clock::SystemClock;

/// Runs attempts until the worker is gone; returns the exit code.
pub(super) fn live(parent: u32, app: impl FnOnce(bool) -> App) -> u8 {
    match run(parent, app) {
        Ok(()) => 0,
        Err(error) => {
            // Goes to the worker's log, where there is still one.
            let _unread = writeln!(io::stderr(), "celeriac child: {error}");
            STILLBORN
        }
    }
}

fn run(parent: u32, app: impl FnOnce(bool) -> App) -> io::Result<()> {
    end_with(parent)?;
    let mut socket = take_stdin()?;
    let Some((hello, inbox)) = greet(&mut socket)? else {
        return Ok(());
    };
    humble(&hello)?;
    socket.set_nonblocking(true)?;
    let demo = hello.demo;
    actix_rt::System::new().block_on(async move {
        let (seat, arbiter) = Host::lane()?;
        let (wanted, is_wanted) = oneshot::channel();
        let (made, is_made) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let app_of = AppOf { wanted, is_made };
        arbiter.spawn_fn(move || {
            actix_rt::spawn(async move {
                let served = match Link::new(socket, inbox) {
                    Ok(link) => {
                        serve(link, &hello, seat, app_of).await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                drop(ended.send(served));
            });
        });
        if is_wanted.await.is_ok() {
            // It may connect to what is away at the moment: that says nothing about the task that came first.
            let app = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| app(demo)));
            let panicked = |_| io::Error::other("the program panicked while it made its tasks");
            drop(made.send(app.map_err(panicked)?));
        }
        has_ended.await.unwrap_or(Ok(()))
    })
}

/// Has the kernel end this process with its parent, and makes sure that it is not gone already.
fn end_with(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(io::Error::other("the worker is gone"))
    }
}

/// Takes the socket from where standard input is, and leaves nothing there to read.
fn take_stdin() -> io::Result<UnixStream> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let nothing = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok(UnixStream::from(socket))
}

/// Reads who this child is; `None` when the worker has gone away before it said so.
fn greet(socket: &mut UnixStream) -> io::Result<Option<(Hello, Inbox)>> {
    let mut inbox = Inbox::default();
    let mut buffer = [0; 4096];
    loop {
        let damaged = || io::Error::other("the worker cannot be understood");
        match inbox.next().map_err(|_| damaged())? {
            Some((Tag::Hello, body)) => {
                let hello = value_of(&body).ok_or_else(damaged)?;
                return Ok(Some((hello, inbox)));
            }
            Some(_) => return Err(damaged()),
            None => match socket.read(&mut buffer)? {
                0 => return Ok(None),
                count => inbox.push(&buffer[..count]),
            },
        }
    }
}

/// Takes less of the machine than the worker.
fn humble(hello: &Hello) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

    // A priority that the system does not give away is none that could be too high.
    let _kept = nice(i32::from(hello.nice));
    if let Some(limit) = hello.memory_limit {
        let maximum = getrlimit(Resource::As).maximum;
        let current = Some(maximum.map_or(limit, |maximum| maximum.min(limit)));
        setrlimit(Resource::As, Rlimit { current, maximum })?;
    }
    Ok(())
}

/// How the program's tasks are had from the main thread.
struct AppOf {
    wanted: oneshot::Sender<()>,
    is_made: oneshot::Receiver<App>,
}

impl AppOf {
    /// Has the program make its tasks.
    async fn make(self, link: &Link, hello: &Hello, seat: LaneSeat) -> Result<Host, String> {
        let gone = |_| "the program's tasks could not be made".to_owned();
        self.wanted
            .send(())
            .map_err(|()| "the main thread is gone".to_owned())?;
        let app = self.is_made.await.map_err(gone)?;
        let parts = app.into_parts(true).map_err(|error| error.to_string())?;
        let clock = Arc::new(SystemClock);
        let forwarding = Arc::new(Forwarding::new(link.mouth()));
        let broker: Arc<dyn Broker> = forwarding.clone();
        let options = ProducerOptions {
            routes: hello.routes(),
            limits: hello.limits(),
            known: Some(Arc::new(parts.registry.clone())),
            elsewhere: Some(forwarding),
            ..ProducerOptions::default()
        };
        let log = log::logger(link.mouth(), hello.level);
        let breakers = Breakers::new(
            Arc::clone(&broker),
            clock.clone(),
            &hello.worker,
            log.clone(),
        );
        let worker = WorkerContext {
            worker: hello.worker.clone(),
            state: parts.state,
            blocking: BlockingPool::new(hello.blocking_threads),
            breakers: breakers.of_program(&parts.registry),
            log,
            clock: clock.clone(),
            producer: Producer::new(broker, clock, options),
            limits: hello.limits(),
            results: hello.result_limits(),
            isolation: None,
        };
        Ok(Host::new(parts.registry, Arc::new(worker), seat))
    }
}

/// Runs attempts, one after the other, until the worker is gone.
async fn serve(mut link: Link, hello: &Hello, seat: LaneSeat, app_of: AppOf) {
    let mut unmade = Some((app_of, seat));
    let mut host = Err("the program's tasks could not be made".to_owned());
    loop {
        let order = match link.listen().await {
            Said::Order(order) => order,
            Said::Cancel | Said::Reply(_) => continue,
            Said::Nothing => return,
        };
        if let Some((app_of, seat)) = unmade.take() {
            host = app_of.make(&link, hello, seat).await;
            if link.mouth().begun().is_err() {
                return;
            }
        }
        let report = match &mut host {
            Ok(host) => attend(&mut link, host, &order).await,
            Err(why) => Some(Report::refused(why.clone())),
        };
        let Some(report) = report else { return };
        // Before the report: what the attempt wrote is still its own.
        let _unread = io::stdout().flush();
        if link.mouth().report(&report.encode()).is_err() {
            return;
        }
    }
}

/// Runs one attempt; `None` when the worker has gone away meanwhile.
async fn attend(link: &mut Link, host: &mut Host, order: &[u8]) -> Option<Report> {
    let hosted = match host.open(order) {
        Ok(hosted) => hosted,
        Err(report) => return Some(report),
    };
    let mouth = link.mouth();
    mouth.open();
    let teller = Arc::clone(&mouth);
    hosted.listen(Arc::new(move |progress| {
        teller.mention(Tag::Progress, progress);
    }));
    let mut run = std::pin::pin!(host.run(&hosted));
    loop {
        tokio::select! {
            biased;
            report = &mut run => {
                // The last word is kept with the result.
                if let Some(progress) = hosted.progress() {
                    mouth.mention(Tag::Progress, &progress);
                }
                return Some(report);
            }
            said = link.listen() => match said {
                Said::Cancel => hosted.cancel(),
                Said::Reply(body) => mouth.hear(&body),
                // One attempt at a time: another order would be a mistake of the worker.
                Said::Order(_) => {}
                Said::Nothing => return None,
            }
        }
    }
}
