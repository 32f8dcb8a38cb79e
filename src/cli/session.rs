//! What a command works with: the checked configuration, and the broker, store and client that it names.

#[cfg(feature = "redis")]
mod redis;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::WorkerId;
use celeriac_actors::ports::{Broker, Spool};
use celeriac_actors::producer::ProducerOptions;
use celeriac_actors::time::Clock as _;

use super::exit::{Exit, Failure};
use super::rights::{advice, is_there};
use super::{Global, demo_tasks, output};
use crate::admin::keeper::Keeper;
use crate::app::App;
use crate::client::Client;
use crate::clock::SystemClock;
use crate::config::{
    self, BrokerTarget, Config, Effective, Flags, Mistake, Note, Sources, StoreTarget, Synchronous,
};
use crate::late::LateBroker;
pub(crate) use crate::look::Away;
use crate::look::Patience;
use crate::spool::{self, SpoolOptions, SqliteSpool};
use crate::sqlite::{OpenError, SqliteBroker, SqliteOptions};
use crate::store::{Store, StoreOptions, StoreUrl};

/// How long a one-shot command waits for a broker or store that is away.
const ONE_SHOT: Duration = Patience::ONE_SHOT.span();

/// What a command works with.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) config: Config,
    pub(crate) notes: Vec<Note>,
    /// The configuration as it is shown: secrets are hidden.
    pub(crate) effective: Effective,
    /// What is wrong with the programs of commands on this machine.
    pub(crate) programs: Vec<Mistake>,
    pub(crate) json: bool,
    /// Where adapters log; nowhere until the command starts its logs.
    pub(crate) log: slog::Logger,
    /// Whether opening the broker says what is doubtful about it; not where the command does so itself.
    pub(crate) complains: bool,
}

impl Session {
    /// Reads the configuration, with what the command itself sets on top.
    pub(crate) fn open(
        global: &Global,
        app: &App,
        set: &[(&str, Option<String>)],
    ) -> Result<Self, Failure> {
        let sources = sources(global, app, set);
        let loaded = config::load(&sources);
        let programs = config::check_programs(&sources, &loaded);
        let (notes, effective) = (loaded.notes.clone(), loaded.effective.clone());
        if loaded.report.errors() == 0 && loaded.report.warnings() > 0 {
            output::complain(loaded.report.to_string().trim_end());
        }
        let config = loaded
            .into_result()
            .map_err(|report| Failure::new(Exit::Usage, report))?;
        Ok(Self {
            effective,
            programs,
            ..Self::new(config, notes, global.json)
        })
    }

    /// Makes a session of a configuration.
    pub(crate) fn new(config: Config, notes: Vec<Note>, json: bool) -> Self {
        Self {
            config,
            notes,
            effective: Effective { keys: Vec::new() },
            programs: Vec::new(),
            json,
            log: slog::Logger::root(slog::Discard, slog::o!()),
            complains: true,
        }
    }

    fn complain(&self, warnings: &[String]) {
        for warning in warnings.iter().filter(|_| self.complains) {
            output::complain(&format!("celeriac: {warning}"));
        }
    }

    /// Returns the bounds of frames.
    pub(crate) fn limits(&self) -> FrameLimits {
        FrameLimits {
            max_frame: self.config.max_frame,
            max_body: self.config.max_args,
            ..FrameLimits::default()
        }
    }

    /// Opens the broker, as a worker or as a client.
    pub(crate) fn broker(&self, worker: Option<&WorkerId>) -> Result<Arc<dyn Broker>, Failure> {
        self.broker_within(worker, ONE_SHOT)
    }

    /// Opens the broker; a client tries for so long while it is away.
    fn broker_within(
        &self,
        worker: Option<&WorkerId>,
        patience: Duration,
    ) -> Result<Arc<dyn Broker>, Failure> {
        match &self.config.broker {
            BrokerTarget::Embedded { dir } => {
                let mut options = SqliteOptions::new(dir)
                    .power_safe(self.config.embedded.synchronous == Synchronous::Full);
                options.worker = worker.cloned();
                options.max_frame = self.config.max_frame;
                let broker = open_embedded(&options, patience)?;
                self.complain(broker.warnings());
                Ok(Arc::new(broker))
            }
            #[cfg(feature = "redis")]
            BrokerTarget::Redis { url } => self.open_redis(url, worker, patience),
            #[cfg(not(feature = "redis"))]
            BrokerTarget::Redis { url } => Err(Failure::usage(format!(
                "the broker {url} cannot be used: this program was built without the feature `redis`; leave `broker` out"
            ))),
            BrokerTarget::Memory => Err(Failure::usage(
                "the broker `memory:` is for tests; use the embedded one (`sqlite:`)",
            )),
        }
    }

    /// Returns who keeps the results.
    pub(crate) fn keeper(&self) -> Keeper {
        Keeper::of(&self.config)
    }

    /// Opens the broker as a client, but makes no new one where none is.
    pub(crate) fn existing_broker(&self) -> Result<Arc<dyn Broker>, Failure> {
        match &self.config.broker {
            BrokerTarget::Embedded { dir } if !is_there(&dir.join("broker.db"))? => {
                Err(Failure::unavailable(anyhow::anyhow!(
                    "there is no broker in {}: `celeriac run` makes it; is the data directory right?",
                    dir.display()
                )))
            }
            _ => self.broker(None),
        }
    }

    /// Opens the broker as it is now: no patience with one that is away, and none is made where none is.
    pub(crate) fn broker_now(&self) -> Result<Arc<dyn Broker>, Failure> {
        if self.is_unmade() {
            return self.existing_broker();
        }
        self.broker_within(None, Duration::ZERO)
    }

    /// Returns whether the embedded broker was never made.
    pub(crate) fn is_unmade(&self) -> bool {
        match &self.config.broker {
            BrokerTarget::Embedded { dir } => !dir.join("broker.db").exists(),
            _ => false,
        }
    }

    /// Opens the store.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        Store::open(&self.store_url()?, self.store_options()).map_err(Failure::from)
    }

    /// Returns the store's place.
    pub(crate) fn store_url(&self) -> Result<StoreUrl, Failure> {
        match &self.config.store.target {
            StoreTarget::Sqlite { file } => Ok(StoreUrl::file(file)),
            StoreTarget::Postgres { url } => url
                .expose()
                .parse()
                .map_err(|error| Failure::new(Exit::Usage, error)),
        }
    }

    /// Returns how the store is opened.
    pub(crate) fn store_options(&self) -> StoreOptions {
        StoreOptions {
            migrate: self.config.store.migrate_at_start,
            ..StoreOptions::default()
        }
    }

    /// Returns a client of the broker.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let broker = self.broker(None)?;
        let options = self.producer_options(None);
        Ok(Client::new(broker, Arc::new(SystemClock), options))
    }

    /// Returns a client of the broker that spools where a spool is configured, even when the broker is away by now.
    pub(crate) fn spooling_client(&self) -> Result<Client, Failure> {
        if self.config.spool.is_none() {
            return self.client();
        }
        let broker = match self.broker_within(None, Duration::ZERO) {
            Err(failure) if failure.exit() == Exit::Unavailable => self.late_broker(),
            outcome => outcome?,
        };
        let options = self.producer_options(self.spool(&broker)?);
        Ok(Client::new(broker, Arc::new(SystemClock), options))
    }

    fn late_broker(&self) -> Arc<dyn Broker> {
        let session = self.clone();
        Arc::new(LateBroker::new(move || {
            let opened = session.broker_within(None, Duration::ZERO);
            opened.map_err(|failure| failure.to_string())
        }))
    }

    /// Opens the spool that is configured, which relays to `broker` from then on.
    pub(crate) fn spool(
        &self,
        broker: &Arc<dyn Broker>,
    ) -> Result<Option<Arc<dyn Spool>>, Failure> {
        let Some(path) = &self.config.spool else {
            return Ok(None);
        };
        let options = self.spool_options(path);
        let spool = SqliteSpool::open(options, Arc::clone(broker)).map_err(spool_failure)?;
        Ok(Some(Arc::new(spool)))
    }

    /// Returns what the spool at `path` is opened with.
    pub(crate) fn spool_options(&self, path: &Path) -> SpoolOptions {
        SpoolOptions::new(path)
            .bounded(self.config.spool_max)
            .log(self.log.clone())
    }

    fn producer_options(&self, spool: Option<Arc<dyn Spool>>) -> ProducerOptions {
        ProducerOptions {
            routes: self.config.routes.clone(),
            limits: self.limits(),
            timeout: ONE_SHOT,
            spool,
            ..ProducerOptions::default()
        }
    }

    /// Runs a future of a one-shot command to its end.
    pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::new(Exit::Unavailable, error))?;
        Ok(runtime.block_on(future))
    }

    /// Runs a step of a one-shot command, again while the broker or store is away, for at most ten seconds.
    pub(crate) async fn insist<T, E, R>(step: impl FnMut() -> R) -> Result<T, E>
    where
        R: Future<Output = Result<T, E>>,
        E: Away,
    {
        Patience::ONE_SHOT.insist(step).await
    }
}

/// Returns who gives the command, as `user@host`.
pub(crate) fn operator() -> String {
    let user = user_name(rustix::process::getuid().as_raw());
    format!("{user}@{}", crate::runtime::host_name())
}

/// Returns the name of a user, or the number where it has none.
pub(crate) fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(uid, &users).map_or_else(|| format!("uid {uid}"), ToOwned::to_owned)
}

/// Finds the name of a user in the text of a passwd file.
fn name_of(uid: u32, users: &str) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// Puts together where configuration comes from.
pub(crate) fn sources(global: &Global, app: &App, set: &[(&str, Option<String>)]) -> Sources {
    let mut flags = Flags::default()
        .set_some("data_dir", global.data_dir.clone())
        .set_some("broker", global.broker.clone())
        .set_some("log.level", global.log_level.clone())
        .set_some("log.format", global.log_format.clone());
    flags.file.clone_from(&global.config);
    for (key, value) in set {
        flags = flags.set_some(*key, value.clone());
    }
    let mut sources = Sources::of_process(flags);
    let names = |app: &App| app.registry().names().map(ToString::to_string).collect();
    sources.tasks = names(app);
    sources.demo_tasks = names(&demo_tasks::add(App::new()));
    sources
}

/// Opens the embedded broker, again for a while when somebody else has locked it.
fn open_embedded(options: &SqliteOptions, patience: Duration) -> Result<SqliteBroker, Failure> {
    let deadline = SystemClock.since_boot() + patience;
    loop {
        match SqliteBroker::open(options.clone()) {
            Err(OpenError::Sqlite { detail, .. })
                if detail.contains("locked") && SystemClock.since_boot() < deadline =>
            {
                let pause = async { tokio::time::sleep(Duration::from_millis(100)).await };
                Session::block_on(pause)?;
            }
            outcome => return outcome.map_err(open_failure),
        }
    }
}

/// Returns how a spool that cannot be opened ends a command.
pub(crate) fn spool_failure(error: spool::OpenError) -> Failure {
    let exit = match error {
        spool::OpenError::File { .. } | spool::OpenError::Sqlite { .. } => Exit::Unavailable,
        _ => Exit::Usage,
    };
    Failure::new(exit, error)
}

/// Returns how a broker that cannot be opened ends a command.
pub(crate) fn open_failure(error: OpenError) -> Failure {
    let exit = match error {
        // What may heal by itself; the rest waits for somebody's decision.
        OpenError::Directory { .. } | OpenError::Sqlite { .. } => Exit::Unavailable,
        _ => Exit::Usage,
    };
    let advice = match &error {
        OpenError::Directory { path, cause } => advice(path, cause),
        _ => String::new(),
    };
    if advice.is_empty() {
        Failure::new(exit, error)
    } else {
        Failure::new(exit, anyhow::anyhow!("{error}{advice}"))
    }
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn users_have_names() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\n:x:7:7::/:\nbroken\nada:x:1000:1000::/home/ada:\n";
        assert_eq!(name_of(0, users), Some("root"));
        assert_eq!(name_of(1_000, users), Some("ada"));
        assert_eq!((name_of(7, users), name_of(2, users)), (None, None));
    }
}
