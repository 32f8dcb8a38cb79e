//! Assembly: settings without mistakes into the configuration as it is used. Judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;

use celeriac_actors::breaker::BreakerOverride;
use celeriac_actors::budget::RetryBudget;
use celeriac_actors::ids::QueueName;
use celeriac_actors::retention::RetentionLimits;
use celeriac_actors::route::{self, Route};

use super::checked::{
    Color, Config, EmbeddedConfig, Environment, HttpConfig, IsolationConfig, LogConfig, LogFormat,
    QueueConfig, Recycle, RedisConfig, ResultsConfig, StoreConfig, SupervisionConfig, Synchronous,
    TaskOverride, TokenSource,
};
use super::command_checks;
use super::health;
use super::mistake::Origin;
use super::secret::Secret;
use super::settings::Settings;
use super::target::{BrokerTarget, StoreTarget, Url};
use super::value::Value;
use crate::command::Command;

/// Builds the configuration from settings without mistakes.
pub(super) fn build(settings: &Settings) -> Config {
    let data_dir = settings.path("data_dir");
    let size = |path| small(settings.count(path));
    let broker = settings.url("broker").cloned().unwrap_or(Url::Sqlite(None));
    let commands = commands(settings);
    let routes = routes(settings, &commands);
    Config {
        environment: match settings.choice("environment") {
            "production" => Environment::Production,
            _ => Environment::Development,
        },
        broker: broker_target(broker, &data_dir),
        consume: consume(settings),
        concurrency: size("concurrency"),
        blocking_threads: size("blocking_threads"),
        arbiters: size("arbiters"),
        prefetch: size("prefetch"),
        lease: settings.span("lease"),
        sweep: settings.span("sweep"),
        grace: settings.span("grace"),
        unknown_task_grace: settings.span("unknown_task_grace"),
        max_frame: size("max_frame"),
        max_args: size("max_args"),
        max_stuck_lanes: size("max_stuck_lanes"),
        max_stuck_threads: size("max_stuck_threads"),
        recycle: match settings.choice("recycle") {
            "exec" => Recycle::Exec,
            _ => Recycle::Exit,
        },
        spool: Some(settings.path("spool")).filter(|path| !path.as_os_str().is_empty()),
        spool_max: settings.count("spool_max"),
        routes,
        commands,
        queues: each(&settings.names.queues, |name| queue(settings, name)),
        tasks: each(&settings.names.tasks, |name| task(settings, name)),
        breakers: each(&settings.names.breakers, |name| breaker(settings, name)),
        embedded: EmbeddedConfig {
            synchronous: match settings.choice("embedded.synchronous") {
                "normal" => Synchronous::Normal,
                _ => Synchronous::Full,
            },
        },
        redis: RedisConfig {
            allow_volatile: settings.switch("redis.allow_volatile"),
            allow_eviction: settings.switch("redis.allow_eviction"),
        },
        results: ResultsConfig {
            target: settings
                .url("results.url")
                .map(|url| broker_target(url.clone(), &data_dir)),
            ttl: settings.span("results.ttl"),
            max_size: size("results.max_size"),
        },
        store: StoreConfig {
            target: match settings.url("store.url") {
                Some(Url::Postgres(url)) => StoreTarget::Postgres { url: url.clone() },
                Some(Url::Sqlite(Some(file))) => StoreTarget::Sqlite { file: file.clone() },
                _ => StoreTarget::Sqlite {
                    file: data_dir.join("store.db"),
                },
            },
            migrate_at_start: settings.switch("store.migrate_at_start"),
        },
        http: http(settings),
        dead_letters: retention(settings),
        isolation: isolation(settings),
        health: health::thresholds(settings),
        supervision: supervision(settings),
        log: log(settings),
        data_dir,
    }
}

fn retention(settings: &Settings) -> RetentionLimits {
    RetentionLimits {
        max_age: settings.span_of("dead_letters.max_age", None),
        max_count: settings.count_of("dead_letters.max_count", None),
    }
}

/// Narrows a number that its key's bounds keep small.
fn small<T: TryFrom<u64>>(number: u64) -> T
where
    T::Error: std::fmt::Debug,
{
    T::try_from(number).expect("the table bounds every count below what its field holds")
}

/// Makes a map by name. Names were checked when they were read; one that is none is left out.
fn each<N: Ord + FromStr, T>(names: &BTreeSet<String>, make: impl Fn(&str) -> T) -> BTreeMap<N, T> {
    let one = |name: &String| Some((name.parse().ok()?, make(name)));
    names.iter().filter_map(one).collect()
}

fn commands(settings: &Settings) -> Vec<Command> {
    command_checks::placed(settings)
        .map(|(command, _)| command.clone())
        .collect()
}

/// Returns the routes that somebody typed, then those of commands, then the built-in ones.
fn routes(settings: &Settings, commands: &[Command]) -> Vec<Route> {
    let mut routes: Vec<Route> = match settings.get("routes", None).map(|setting| &setting.value) {
        Some(Value::Routes(routes)) => routes.iter().map(|(route, _)| route.clone()).collect(),
        _ => Vec::new(),
    };
    // Programs that do not know a command send its tasks to its queue all the same.
    let own = |command: &Command| Route::new(command.name.as_str(), &command.queue);
    routes.extend(commands.iter().map(own));
    routes.extend(route::built_in());
    routes
}

/// Returns what a broker's URL names, once the data directory is known.
pub(super) fn broker_target(url: Url, data_dir: &Path) -> BrokerTarget {
    match url {
        Url::Memory => BrokerTarget::Memory,
        Url::Redis(url) | Url::Postgres(url) => BrokerTarget::Redis { url },
        Url::Sqlite(dir) => BrokerTarget::Embedded {
            dir: dir.unwrap_or_else(|| data_dir.to_owned()),
        },
    }
}

fn consume(settings: &Settings) -> Vec<QueueName> {
    let typed = |names: &mut dyn Iterator<Item = &String>| {
        names.filter_map(|name| name.parse().ok()).collect()
    };
    match settings.get("consume", None).map(|setting| &setting.value) {
        Some(Value::Queues(names)) => typed(&mut names.iter()),
        _ => typed(&mut settings.names.queues.iter()),
    }
}

fn queue(settings: &Settings, name: &str) -> QueueConfig {
    let name = Some(name);
    QueueConfig {
        concurrency: settings.count_of("queues.*.concurrency", name).map(small),
        weight: settings.count_of("queues.*.weight", name).map_or(1, small),
        retry_budget: settings
            .share_of("queues.*.retry_budget", name)
            .map(|share| RetryBudget {
                share,
                floor: settings
                    .count_of("queues.*.retry_floor", name)
                    .map_or(10, small),
            }),
    }
}

fn task(settings: &Settings, name: &str) -> TaskOverride {
    let name = Some(name);
    TaskOverride {
        max_attempts: settings.count_of("tasks.*.max_attempts", name).map(small),
        soft_limit: settings.span_of("tasks.*.soft_limit", name),
        hard_limit: settings.span_of("tasks.*.hard_limit", name),
        mode: settings
            .choice_of("tasks.*.mode", name)
            .and_then(|word| word.parse().ok()),
        backoff_base: settings.span_of("tasks.*.backoff_base", name),
        backoff_ceiling: settings.span_of("tasks.*.backoff_ceiling", name),
        backoff_jitter: settings.share_of("tasks.*.backoff_jitter", name),
    }
}

fn breaker(settings: &Settings, name: &str) -> BreakerOverride {
    let name = Some(name);
    let count = |path| settings.count_of(path, name).map(small);
    BreakerOverride {
        failure_rate: settings.share_of("breakers.*.failure_rate", name),
        min_calls: count("breakers.*.min_calls"),
        window: settings.span_of("breakers.*.window", name),
        consecutive: count("breakers.*.consecutive"),
        open_for: settings.span_of("breakers.*.open_for", name),
        open_ceiling: settings.span_of("breakers.*.open_ceiling", name),
        jitter: settings.share_of("breakers.*.jitter", name),
        probe_limit: settings.span_of("breakers.*.probe_limit", name),
    }
}

fn http(settings: &Settings) -> Option<HttpConfig> {
    if !settings.switch("http.enabled") {
        return None;
    }
    let addr = settings.get("http.addr", None)?;
    let Value::Address(address) = addr.value else {
        return None;
    };
    let token = |path, file| match settings.get(path, None).map(|setting| &setting.value) {
        Some(Value::Secret(token)) => Some(TokenSource::Given(Secret::clone(token))),
        _ => Some(settings.path(file))
            .filter(|path| !path.as_os_str().is_empty())
            .map(TokenSource::File),
    };
    Some(HttpConfig {
        address,
        is_asked_for: !matches!(addr.origin, Origin::Default { .. }),
        read_token: token("http.read_token", "http.read_token_file"),
        admin_token: token("http.admin_token", "http.admin_token_file"),
        hosts: match settings
            .get("http.hosts", None)
            .map(|setting| &setting.value)
        {
            Some(Value::Hosts(names)) => names.clone(),
            _ => Vec::new(),
        },
    })
}

fn isolation(settings: &Settings) -> IsolationConfig {
    IsolationConfig {
        children: small(settings.count("isolation.children")),
        max_tasks_per_child: settings.count_of("isolation.max_tasks_per_child", None),
        max_memory_per_child: settings.count_of("isolation.max_memory_per_child", None),
        memory_limit: settings.count_of("isolation.memory_limit", None),
        nice: small(settings.count("isolation.nice")),
    }
}

fn supervision(settings: &Settings) -> SupervisionConfig {
    SupervisionConfig {
        max_restarts: small(settings.count("supervision.max_restarts")),
        within: settings.span("supervision.within"),
        stable_after: settings.span("supervision.stable_after"),
        backoff_base: settings.span("supervision.backoff_base"),
        backoff_ceiling: settings.span("supervision.backoff_ceiling"),
        backoff_jitter: settings
            .share_of("supervision.backoff_jitter", None)
            .unwrap_or_default(),
    }
}

fn log(settings: &Settings) -> LogConfig {
    LogConfig {
        level: match settings.choice("log.level") {
            "trace" => slog::Level::Trace,
            "debug" => slog::Level::Debug,
            "warning" => slog::Level::Warning,
            "error" => slog::Level::Error,
            "critical" => slog::Level::Critical,
            _ => slog::Level::Info,
        },
        format: match settings.choice("log.format") {
            "json" => LogFormat::Json,
            _ => LogFormat::Term,
        },
        color: match settings.choice("log.color") {
            "always" => Color::Always,
            "never" => Color::Never,
            _ => Color::Auto,
        },
        buffer: small(settings.count("log.buffer")),
    }
}
