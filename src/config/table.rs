//! The table of every configuration key. One row drives parsing, suggestions, `config show`, the starter file and docs.

use std::time::Duration;

use super::keys::{Facts, Key, Kind, Preset};
use super::target::Scheme;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Makes a row; the columns are path, kind, default, example, doc.
const fn row(
    path: &'static str,
    kind: Kind,
    preset: Preset,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        path,
        kind,
        preset,
        flag: None,
        example,
        doc,
    }
}

/// Makes a row with a plain default, which is its example too.
const fn plain(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    row(path, kind, Preset::Fixed(default), default, doc)
}

/// Gives a row its flag.
const fn flag(name: &'static str, key: Key) -> Key {
    Key {
        flag: Some(name),
        ..key
    }
}

fn sweep(facts: &Facts) -> String {
    let sweep = secs(2).min(facts.lease / 4);
    humantime::format_duration(sweep).to_string()
}

fn log_format(facts: &Facts) -> String {
    if facts.production { "json" } else { "term" }.into()
}

use Preset::{Derived, Unset};

/// Every key, in the order of the starter file: keys of the top first, then each section's together.
pub(super) static TABLE: &[Key] = &[
    // Where.
    flag(
        "--env",
        plain(
            "environment",
            Kind::Choice(&["development", "production"]),
            "development",
            "What this process is run for. Production logs JSON and warns about settings that lose tasks.",
        ),
    ),
    flag(
        "--data-dir",
        plain(
            "data_dir",
            Kind::Path,
            "./celeriac-data",
            "The directory of the embedded broker and of the store; made with mode 0700. A relative path counts from the \
         directory celeriac is started in.",
        ),
    ),
    flag(
        "--broker",
        plain(
            "broker",
            Kind::Url(Scheme::Broker),
            "sqlite:",
            "Where tasks wait. `sqlite:` is the embedded broker in the data directory; `memory:` loses every task when the \
         process ends. Without this key, CELERY_BROKER_URL and then REDIS_URL are used.",
        ),
    ),
    // How much at once.
    flag(
        "--queues",
        row(
            "consume",
            Kind::Queues,
            Unset("every queue"),
            "[\"default\", \"billing\"]",
            "The queues this worker takes tasks from.",
        ),
    ),
    flag(
        "--concurrency",
        row(
            "concurrency",
            Kind::Count(1, 100_000),
            Derived("16 x cores", |f| (16 * f.cores).to_string()),
            "64",
            "How many attempts run at once in this process.",
        ),
    ),
    row(
        "blocking_threads",
        Kind::Count(1, 4_096),
        Derived("4 x cores", |f| (4 * f.cores).to_string()),
        "16",
        "How many threads run blocking work.",
    ),
    row(
        "arbiters",
        Kind::Count(1, 256),
        Derived("cores, at least 2", |f| f.cores.clamp(2, 256).to_string()),
        "4",
        "How many event loops share the work, each with a thread of its own. With one, a task that blocks its thread \
         stops the process's other tasks until the watchdog steps in.",
    ),
    plain(
        "prefetch",
        Kind::Count(0, 2),
        "2",
        "How many tasks are fetched ahead, as a multiple of the concurrency; 0 fetches only what can start at once.",
    ),
    // How long.
    row(
        "lease",
        Kind::Span(secs(1), secs(HOUR)),
        Preset::Fixed("12s"),
        "12s",
        "How long a worker may be silent before its tasks are given to others. Work of a worker killed outright goes on \
         elsewhere within lease + sweep. Under 5 s a busy machine may lose its own tasks to others.",
    ),
    row(
        "sweep",
        Kind::Span(ms(50), secs(900)),
        Derived("2s, at most a quarter of the lease", sweep),
        "2s",
        "How often leases are renewed and lost workers are looked for; at most a quarter of the lease.",
    ),
    plain(
        "grace",
        Kind::Span(secs(0), secs(DAY)),
        "25s",
        "How long running tasks may go on after the first SIGTERM before they are handed back to the queue. Stay below what \
         your service manager grants (Kubernetes: 30 s).",
    ),
    plain(
        "unknown_task_grace",
        Kind::Span(secs(1), secs(30 * DAY)),
        "10m",
        "How long a task whose kind no worker knows waits before it is buried; longer than a rolling deploy.",
    ),
    // How big, how often.
    plain(
        "max_frame",
        Kind::Size(KIB, 64 * MIB),
        "1MiB",
        "The largest stored task, compressed. Larger ones are refused at enqueue and buried when met.",
    ),
    plain(
        "max_args",
        Kind::Size(KIB, GIB),
        "16MiB",
        "The largest task once it is decompressed; at least max_frame.",
    ),
    plain(
        "max_stuck_lanes",
        Kind::Count(0, 64),
        "1",
        "How many blocked threads are replaced by fresh ones, per arbiter, before the process asks to be recycled.",
    ),
    row(
        "max_stuck_threads",
        Kind::Count(0, 4_096),
        Derived("4 x cores", |f| (4 * f.cores).to_string()),
        "16",
        "How many threads that hang in blocking work beyond its hard limit are replaced by fresh ones before the process \
         asks to be recycled.",
    ),
    plain(
        "recycle",
        Kind::Choice(&["exit", "exec"]),
        "exit",
        "What a process does that wants to be recycled, once it has given back what runs: `exit` ends with 75 for a \
         service manager that starts it again, `exec` starts afresh in its own place.",
    ),
    row(
        "spool",
        Kind::Path,
        Unset("none: an enqueue fails while the broker is away"),
        "./spool.db",
        "A file on this machine that takes tasks while the broker is away; they are relayed in order, once each, when it is \
         back. Used by `enqueue` and by tasks that enqueue others. Each machine has its own; processes may share it.",
    ),
    plain(
        "spool_max",
        Kind::Size(MIB, 1024 * GIB),
        "1GiB",
        "How much may wait in the spool, 64 bytes a task included; and never more than 1,000,000 tasks for each GiB.",
    ),
    row(
        "routes",
        Kind::Routes,
        Preset::Fixed(""),
        "reports.*=reports",
        "Which queue a task goes to by a pattern of its name (`*` any text, `?` one character). The first match wins; \
         billing.*, kyb.* and notifications.* go to the queues of those names after your own. In the environment: \
         pattern=queue, with commas between.",
    ),
    row(
        "command",
        Kind::Commands,
        Preset::Fixed(""),
        "reports.nightly=/usr/local/bin/nightly",
        "Tasks that programs run: arguments as JSON on standard input, the result as JSON on standard output, exit code 0 \
         for success, 75 to be tried again, any other for a failure. More keys of a section: args, env, cwd, queue, \
         soft_limit, hard_limit, max_attempts, retry_codes.",
    ),
    // Sections.
    plain(
        "embedded.synchronous",
        Kind::Choice(&["full", "normal"]),
        "full",
        "What an acknowledged task survives: `full` a power cut, `normal` a crash of the process, and some more speed.",
    ),
    plain(
        "redis.allow_volatile",
        Kind::Switch,
        "false",
        "Whether a Redis server without `appendonly yes` will do, which loses acknowledged tasks when it restarts.",
    ),
    plain(
        "redis.allow_eviction",
        Kind::Switch,
        "false",
        "Whether a Redis server will do that throws tasks away when its memory is full (a maxmemory-policy other than \
         noeviction).",
    ),
    row(
        "results.url",
        Kind::Url(Scheme::Broker),
        Unset("beside the broker"),
        "redis://localhost:6379/1",
        "Where the results of a broker on Redis are kept: at another server or database. Without this key, \
         CELERY_RESULT_BACKEND is used.",
    ),
    plain(
        "results.ttl",
        Kind::Span(secs(1), secs(365 * DAY)),
        "1h",
        "How long a result is kept.",
    ),
    plain(
        "results.max_size",
        Kind::Size(0, 64 * MIB),
        "1MiB",
        "The largest result that is kept; a larger one fails its attempt. 0 keeps none.",
    ),
    plain(
        "store.url",
        Kind::Url(Scheme::Store),
        "sqlite:",
        "Where dead letters, snapshots and the audit are kept: `sqlite:` is store.db in the data directory; \
         `postgres://user@host/db` needs the feature `postgres`.",
    ),
    row(
        "store.migrate_at_start",
        Kind::Switch,
        Derived("true for SQLite, false for Postgres", |f| {
            (!f.remote_store).to_string()
        }),
        "true",
        "Whether `run` brings the store's schema up to date; otherwise `celeriac migrate` does.",
    ),
    plain(
        "http.enabled",
        Kind::Switch,
        "true",
        "Whether `run` serves the HTTP API; `--no-http` sets it to false.",
    ),
    flag(
        "--http",
        plain(
            "http.addr",
            Kind::Address,
            "127.0.0.1:7654",
            "Where `run` serves the HTTP API. When nobody asked for an address and the default port is taken, a free one is \
             used. Another address than loopback needs a token.",
        ),
    ),
    row(
        "http.read_token",
        Kind::Secret,
        Unset("nobody has it"),
        "change-me-to-a-token-for-reading",
        "The bearer token that may read. Without any token, everybody who reaches the address may do everything.",
    ),
    row(
        "http.read_token_file",
        Kind::Path,
        Unset("none"),
        "./http-read-token",
        "A file with the token that may read; read at the start, blanks around it do not count.",
    ),
    row(
        "http.admin_token",
        Kind::Secret,
        Unset("nobody has it"),
        "change-me-to-a-token-for-changes",
        "The bearer token that may read and change.",
    ),
    row(
        "http.admin_token_file",
        Kind::Path,
        Unset("none"),
        "./http-admin-token",
        "A file with the token that may read and change; read at the start, blanks around it do not count.",
    ),
    row(
        "http.hosts",
        Kind::Hosts,
        Unset("IP addresses and localhost"),
        "[\"celeriac.example.com\"]",
        "The names under which browsers and proxies may ask for the HTTP API; others are refused, against DNS rebinding.",
    ),
    row(
        "dead_letters.max_age",
        Kind::Span(secs(60), secs(36_525 * DAY)),
        Unset("they are kept for ever"),
        "90days",
        "How long after its burial a dead letter is kept, whatever became of it; one that is being revived is never deleted.",
    ),
    row(
        "dead_letters.max_count",
        Kind::Count(1, 1_000_000_000),
        Unset("all are kept"),
        "1000000",
        "How many dead letters are kept; beyond it the oldest are deleted.",
    ),
    row(
        "isolation.children",
        Kind::Count(1, 1_024),
        Derived("cores, at least 2", |f| f.cores.clamp(2, 1_024).to_string()),
        "4",
        "How many child processes run isolated attempts, one at a time each.",
    ),
    row(
        "isolation.max_tasks_per_child",
        Kind::Count(1, 1_000_000_000),
        Unset("no bound"),
        "1000",
        "How many attempts a child runs before a fresh one takes its place.",
    ),
    row(
        "isolation.max_memory_per_child",
        Kind::Size(MIB, 1024 * GIB),
        Unset("no bound"),
        "512MiB",
        "How much memory a child may have after an attempt; one that has more is replaced.",
    ),
    row(
        "isolation.memory_limit",
        Kind::Size(256 * MIB, 1024 * GIB),
        Unset("no bound"),
        "2GiB",
        "How much address space a child may have at any time; what it asks for beyond it does not get.",
    ),
    plain(
        "isolation.nice",
        Kind::Count(0, 19),
        "10",
        "By how much the priority of children is lower than the worker's.",
    ),
    plain(
        "supervision.max_restarts",
        Kind::Count(0, 1_000),
        "5",
        "How often our own actors may be restarted `within` a span; beyond it a lane starts afresh, and one of the \
         services ends the process with 70.",
    ),
    plain(
        "supervision.within",
        Kind::Span(ms(100), secs(DAY)),
        "30s",
        "The span over which restarts are counted.",
    ),
    plain(
        "supervision.stable_after",
        Kind::Span(ms(100), secs(DAY)),
        "30s",
        "How long an actor must stay up for its restarts to be forgotten.",
    ),
    plain(
        "supervision.backoff_base",
        Kind::Span(ms(1), secs(HOUR)),
        "10ms",
        "The wait before the first restart; doubled for each further one.",
    ),
    plain(
        "supervision.backoff_ceiling",
        Kind::Span(ms(1), secs(HOUR)),
        "5s",
        "The longest wait before a restart.",
    ),
    plain(
        "supervision.backoff_jitter",
        Kind::Share,
        "0.25",
        "The share of the wait that chance may take off.",
    ),
    flag(
        "--log-level",
        plain(
            "log.level",
            Kind::Choice(&["trace", "debug", "info", "warning", "error", "critical"]),
            "info",
            "The least severe lines that are written.",
        ),
    ),
    flag(
        "--log-format",
        row(
            "log.format",
            Kind::Choice(&["json", "term"]),
            Derived("json in production, term in development", log_format),
            "json",
            "How lines are written: one JSON object a line, or for people.",
        ),
    ),
    plain(
        "log.color",
        Kind::Choice(&["auto", "always", "never"]),
        "auto",
        "Whether lines for people are coloured; `auto` does so on a terminal.",
    ),
    plain(
        "log.buffer",
        Kind::Count(16, 1_000_000),
        "4096",
        "How many lines may wait for a slow reader; further ones are dropped and counted, no task ever waits.",
    ),
    plain(
        "health.ready_age",
        Kind::Span(secs(1), secs(365 * DAY)),
        "5m",
        "How long the oldest ready task of a queue may wait until health is degraded.",
    ),
    plain(
        "health.ready_age_critical",
        Kind::Span(secs(1), secs(365 * DAY)),
        "30m",
        "How long it may wait until health is critical.",
    ),
    plain(
        "health.dead_per_minute",
        Kind::Count(1, 1_000_000_000),
        "10",
        "How many tasks of a queue may die a minute until health is degraded.",
    ),
    plain(
        "health.dead_per_minute_critical",
        Kind::Count(1, 1_000_000_000),
        "100",
        "How many may die a minute until health is critical.",
    ),
    plain(
        "health.failed_share",
        Kind::Share,
        "0.25",
        "Which share of the attempts of a queue may fail, over five minutes and of at least 20, until health is degraded.",
    ),
    plain(
        "health.failed_share_critical",
        Kind::Share,
        "0.75",
        "Which share may fail until health is critical.",
    ),
    plain(
        "health.disk_free",
        Kind::Share,
        "0.1",
        "Which share of the disk under the data directory must be free, else health is degraded.",
    ),
    plain(
        "health.disk_free_critical",
        Kind::Share,
        "0.02",
        "Which share must be free, else health is critical.",
    ),
    plain(
        "health.volatile_broker",
        Kind::Switch,
        "true",
        "Whether health is degraded while the broker loses acknowledged tasks when it restarts.",
    ),
    row(
        "queues.*.concurrency",
        Kind::Count(1, 100_000),
        Unset("no cap of its own"),
        "4",
        "How many attempts of this queue run at once in this process.",
    ),
    plain(
        "queues.*.weight",
        Kind::Count(1, 100),
        "1",
        "The queue's share while several have work: 2 is served twice as often as 1.",
    ),
    row(
        "queues.*.retry_budget",
        Kind::Share,
        Unset("retries are not bounded"),
        "0.2",
        "How many retries each first attempt pays for; without budget a retry waits longer, and is never dropped.",
    ),
    plain(
        "queues.*.retry_floor",
        Kind::Count(1, 100_000),
        "10",
        "How many retries each second pays for in any case, where there is a retry budget.",
    ),
    row(
        "queues.*.ready_age",
        Kind::Span(secs(1), secs(365 * DAY)),
        Unset("as health.ready_age"),
        "1m",
        "How long the oldest ready task of this queue may wait until health is degraded.",
    ),
    row(
        "queues.*.ready_age_critical",
        Kind::Span(secs(1), secs(365 * DAY)),
        Unset("as health.ready_age_critical"),
        "10m",
        "How long it may wait until health is critical.",
    ),
    row(
        "queues.*.dead_per_minute",
        Kind::Count(1, 1_000_000_000),
        Unset("as health.dead_per_minute"),
        "1",
        "How many tasks of this queue may die a minute until health is degraded.",
    ),
    row(
        "queues.*.dead_per_minute_critical",
        Kind::Count(1, 1_000_000_000),
        Unset("as health.dead_per_minute_critical"),
        "10",
        "How many may die a minute until health is critical.",
    ),
    row(
        "queues.*.failed_share",
        Kind::Share,
        Unset("as health.failed_share"),
        "0.5",
        "Which share of this queue's attempts may fail until health is degraded.",
    ),
    row(
        "queues.*.failed_share_critical",
        Kind::Share,
        Unset("as health.failed_share_critical"),
        "0.9",
        "Which share may fail until health is critical.",
    ),
    row(
        "tasks.*.max_attempts",
        Kind::Count(1, 1_000),
        Unset("as the task says"),
        "5",
        "How often the task is tried before it is dead.",
    ),
    row(
        "tasks.*.soft_limit",
        Kind::Span(ms(10), secs(30 * DAY)),
        Unset("as the task says"),
        "25m",
        "When a running attempt is asked to stop; at most the hard limit.",
    ),
    row(
        "tasks.*.hard_limit",
        Kind::Span(ms(10), secs(30 * DAY)),
        Unset("as the task says"),
        "30m",
        "When a running attempt is ended.",
    ),
    row(
        "tasks.*.mode",
        Kind::Choice(&["inline", "blocking", "isolated"]),
        Unset("as the task says"),
        "isolated",
        "Where attempts run: `inline` on their lane's thread, `blocking` on a thread that may be blocked, `isolated` in a \
         child process.",
    ),
    row(
        "tasks.*.backoff_base",
        Kind::Span(ms(1), secs(30 * DAY)),
        Unset("as the task says"),
        "1s",
        "The wait before the second attempt; doubled for each further one.",
    ),
    row(
        "tasks.*.backoff_ceiling",
        Kind::Span(ms(1), secs(30 * DAY)),
        Unset("as the task says"),
        "10m",
        "The longest wait before an attempt.",
    ),
    row(
        "tasks.*.backoff_jitter",
        Kind::Share,
        Unset("as the task says"),
        "0.5",
        "The share of the wait that chance may take off.",
    ),
    row(
        "breakers.*.failure_rate",
        Kind::Share,
        Unset("as the program says, else 0.5"),
        "0.5",
        "Which share of the calls within the window must fail to open the breaker.",
    ),
    row(
        "breakers.*.min_calls",
        Kind::Count(1, 1_000_000),
        Unset("as the program says, else 10"),
        "10",
        "How many calls the share must be of.",
    ),
    row(
        "breakers.*.window",
        Kind::Span(ms(10), secs(DAY)),
        Unset("as the program says, else 10s"),
        "10s",
        "The span over which calls are counted.",
    ),
    row(
        "breakers.*.consecutive",
        Kind::Count(0, 1_000_000),
        Unset("as the program says, else 5"),
        "5",
        "How many failures in a row open the breaker, whatever their share; 0 is never.",
    ),
    row(
        "breakers.*.open_for",
        Kind::Span(ms(10), secs(DAY)),
        Unset("as the program says, else 1s"),
        "1s",
        "How long the breaker stays open before it is probed; doubled each time the probe fails.",
    ),
    row(
        "breakers.*.open_ceiling",
        Kind::Span(ms(10), secs(DAY)),
        Unset("as the program says, else 30s"),
        "30s",
        "The longest time the breaker stays open before it is probed.",
    ),
    row(
        "breakers.*.jitter",
        Kind::Share,
        Unset("as the program says, else 0.25"),
        "0.25",
        "The share of that time that chance may take off.",
    ),
    row(
        "breakers.*.probe_limit",
        Kind::Span(ms(100), secs(DAY)),
        Unset("as the program says, else 1m"),
        "1m",
        "How long a probe may take before another one is let through.",
    ),
];
