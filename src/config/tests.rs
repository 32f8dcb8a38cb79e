//! The whole pass, from sources to configuration or report.

use std::num::NonZeroUsize;
use std::time::Duration;

use celeriac_actors::backoff::Backoff;
use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::QueueName;
use celeriac_actors::intensity::Limit;
use celeriac_actors::policy::Policy;
use proptest::prelude::*;

use super::keys::{Facts, Preset, Slot};
use super::table::TABLE;
use super::value::Raw;
use super::*;

fn sources(file: &str, env: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::empty(NonZeroUsize::new(4).unwrap());
    if !file.is_empty() {
        sources.file = Some(("celeriac.toml".into(), file.into()));
    }
    let pairs = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    sources.env = pairs.collect();
    sources
}

fn config(file: &str, env: &[(&str, &str)]) -> Config {
    load(&sources(file, env))
        .into_result()
        .map_err(|report| report.to_string())
        .unwrap()
}

/// The report as text, one mistake after another.
fn report(file: &str, env: &[(&str, &str)]) -> String {
    load(&sources(file, env)).report.to_string()
}

#[test]
fn every_default_is_a_value_and_every_example_too() {
    let facts = Facts {
        cores: 4,
        lease: Duration::from_secs(1),
        production: true,
        remote_store: true,
    };
    for key in TABLE {
        let parse = |text: &str| key.kind.parse(&Raw::Words(text.to_owned()));
        let default = match key.preset {
            Preset::Fixed(text) => Some(text.to_owned()),
            Preset::Derived(_, make) => Some(make(&facts)),
            Preset::Unset(_) => None,
        };
        if let Some(text) = default {
            assert!(parse(&text).is_ok(), "{} = {text}", key.path);
        }
        let example = key.example.replace(['[', ']', '"'], "");
        assert!(parse(&example).is_ok(), "{} = {example}", key.path);
        assert!(key.doc.ends_with('.'), "{}", key.path);
    }
}

#[test]
fn no_two_keys_share_a_variable_or_a_path() {
    let mut names: Vec<String> = TABLE.iter().map(super::keys::Key::env).collect();
    names.extend(TABLE.iter().map(|key| key.path.to_owned()));
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn nothing_said_is_the_embedded_broker_with_the_four_queues() {
    let config = config("", &[]);
    assert_eq!(
        config.broker,
        BrokerTarget::Embedded {
            dir: "./celeriac-data".into()
        }
    );
    assert_eq!(
        config.store.target,
        StoreTarget::Sqlite {
            file: "./celeriac-data/store.db".into()
        }
    );
    assert!(config.store.migrate_at_start);
    let consume: Vec<&str> = config.consume.iter().map(QueueName::as_str).collect();
    assert_eq!(consume, BUILT_IN_QUEUES);
    assert_eq!(
        (config.concurrency, config.blocking_threads, config.arbiters),
        (64, 16, 4)
    );
    assert_eq!(
        (config.lease, config.sweep),
        (Duration::from_secs(12), Duration::from_secs(2))
    );
    assert_eq!((config.max_frame, config.max_args), (1 << 20, 16 << 20));
    assert_eq!(config.route("billing.charge"), Some("billing"));
    assert_eq!(config.route("hello"), None);
    assert_eq!(config.log.format, LogFormat::Term);
}

#[test]
fn the_defaults_are_those_of_the_domain() {
    let config = config("", &[]);
    let supervision = &config.supervision;
    assert_eq!(
        Limit::new(supervision.max_restarts, supervision.within),
        Limit::default()
    );
    let backoff = Backoff::new(supervision.backoff_base, supervision.backoff_ceiling);
    assert_eq!(
        backoff.with_jitter(supervision.backoff_jitter),
        Backoff::default()
    );
    let frame = FrameLimits::default();
    assert_eq!(
        (config.max_frame, config.max_args),
        (frame.max_frame, frame.max_body)
    );
    assert_eq!(config.results.ttl, Policy::RESULT_TTL);
}

#[test]
fn a_stronger_source_wins_and_says_so() {
    let mut all = sources(
        "lease = \"20s\"\ngrace = \"1s\"\n",
        &[("CELERIAC_LEASE", "30s")],
    );
    all.env
        .insert("CELERY_BROKER_URL".into(), "redis://:pw@celery".into());
    all.env
        .insert("REDIS_URL".into(), "redis://:pw@other".into());
    let loaded = load(&all);
    assert_eq!(loaded.notes.len(), 1);
    assert_eq!(
        loaded.notes[0].message,
        "`broker` is taken from the environment variable CELERY_BROKER_URL: redis://:***@celery"
    );
    let source = |key: &str| loaded.effective.get(key).unwrap().source.to_string();
    assert_eq!(source("lease"), "environment variable CELERIAC_LEASE");
    assert_eq!(source("grace"), "celeriac.toml:2:9");
    assert_eq!(source("concurrency"), "default (16 x cores)");

    all.flags = Flags::default()
        .set("lease", "40s")
        .set("broker", "memory:");
    let loaded = load(&all);
    assert_eq!(loaded.config().unwrap().lease, Duration::from_secs(40));
    assert_eq!(loaded.config().unwrap().broker, BrokerTarget::Memory);
    assert_eq!(loaded.notes, []);
    assert_eq!(
        loaded.effective.get("broker").unwrap().source.to_string(),
        "flag --broker"
    );
}

#[test]
fn a_fallback_is_judged_only_when_it_is_used() {
    let celery = [
        ("CELERY_BROKER_URL", "amqp://guest:guest@mq"),
        ("CELERY_RESULT_BACKEND", "rpc://"),
    ];
    let text = report("", &celery);
    assert!(
        text.contains("error: `broker` (environment variable CELERY_BROKER_URL)"),
        "{text}"
    );
    assert!(text.contains("warning: `results.url`"), "{text}");
    assert!(!text.contains("guest"), "{text}");
    let text = report("broker = \"memory:\"", &celery);
    assert!(!text.contains("amqp"), "{text}");
}

#[test]
fn every_mistake_is_in_one_report_with_its_place() {
    let file = r#"laese = "9s"
grace = 30
prefetch = 3
concurrency = "8"
broker = "rediis://:hunter2@h"

[store]
url = "postgres://"
[quues.reports]
[queues.dead_letter]
[queues."no space"]
[tasks."no space"]
[log]
level = "inf"
[tasks.billing.charge]
max_attempts = 3
[[routes]]
tsk = "a"
queue = "b"
[[routes]]
task = "reports.*"
queue = "bilings"
"#;
    let text = report(
        file,
        &[
            ("CELERIAC_SWEPE", "1s"),
            ("CELERIAC_QUEUES_BILING_WEIGHT", "2"),
        ],
    );
    for expected in [
        "`laese` (celeriac.toml:1:1): there is no such key\n  did you mean `lease`?",
        "`grace` (celeriac.toml:2:9): found the number 30, a number without a unit",
        "did you mean \"30s\"?",
        "`prefetch` (celeriac.toml:3:12): found the number 3\n  allowed: a whole number from 0 to 2",
        "write it without quotes: 8",
        "did you mean `redis`?",
        "`store.url` (celeriac.toml:8:7): found a server without a host",
        "`quues` (celeriac.toml:9:2): there is no such section\n  did you mean `queues`?",
        "`queues.dead_letter` (celeriac.toml:10:9): found `dead_letter`, which is reserved",
        "a queue name with the character ' '",
        "found \"no space\": a task name consists of",
        "did you mean `info`?",
        "did you mean `[tasks.\"billing.charge\"]`?",
        "`routes` (celeriac.toml:18:1): found the unknown key \"tsk\"",
        "error: environment variable CELERIAC_SWEPE: no key has this variable",
        "did you mean `CELERIAC_SWEEP`?",
        "there is no queue whose name is written \"BILING\"",
        "did you mean `CELERIAC_QUEUES_BILLING_WEIGHT`?",
    ] {
        assert!(text.contains(expected), "missing: {expected}\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_route_to_nowhere_names_the_queue_that_was_meant() {
    let text = report("[[routes]]\ntask = \"r.*\"\nqueue = \"bilings\"\n", &[]);
    assert!(
        text.contains("(celeriac.toml:3:9): there is no queue \"bilings\""),
        "{text}"
    );
    assert!(text.contains("did you mean `billing`?"), "{text}");
    let text = report("", &[("CELERIAC_ROUTES", "r.*=dead_letter")]);
    assert!(text.contains("reserved"), "{text}");
    assert!(report("", &[("CELERIAC_CONSUME", "defalt")]).contains("did you mean `default`?"));
}

#[test]
fn values_that_are_wrong_together_are_reported() {
    for (file, expected) in [
        (
            "lease = \"6s\"\nsweep = \"2s\"",
            "a sweep of at most a quarter of the lease, 1s 500ms",
        ),
        ("max_frame = \"32MiB\"", "`max_frame` (celeriac.toml:1:13)"),
        ("lease = \"2s\"", "warning: `lease`"),
        (
            "[tasks.\"a.b\"]\nsoft_limit = \"2m\"\nhard_limit = \"1m\"",
            "`tasks.\"a.b\".soft_limit`",
        ),
        (
            "[supervision]\nbackoff_base = \"10s\"",
            "a base of at most the ceiling",
        ),
        (
            "[supervision]\nwithin = \"100ms\"\n",
            "warning: `supervision.within`",
        ),
        (
            "concurrency = 2\n[queues.kyb]\nconcurrency = 3",
            "warning: `queues.kyb.concurrency`",
        ),
        (
            "environment = \"production\"\nbroker = \"memory:\"",
            "warning: `broker`",
        ),
    ] {
        let text = report(file, &[]);
        assert!(text.contains(expected), "missing: {expected}\n{text}");
    }
    // What is wrong alone is not wrong together too.
    assert_eq!(
        load(&sources("lease = \"0s\"\nsweep = \"2s\"", &[]))
            .report
            .errors(),
        1
    );
}

#[test]
fn derived_defaults_follow_other_keys() {
    let config = config(
        "lease = \"1s\"\nenvironment = \"production\"\nstore.url = \"postgres://h/d\"",
        &[],
    );
    assert_eq!(config.sweep, Duration::from_millis(250));
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(!config.store.migrate_at_start);
}

#[test]
fn dead_letters_are_kept_unless_somebody_says_how_many() {
    assert!(config("", &[]).dead_letters.keep_everything());
    let file = "[dead_letters]\nmax_age = \"30days\"\n";
    let limits = config(file, &[("CELERIAC_DEAD_LETTERS_MAX_COUNT", "7")]).dead_letters;
    let days = std::time::Duration::from_secs(30 * 86_400);
    assert_eq!((limits.max_age, limits.max_count), (Some(days), Some(7)));
    // Nobody means to keep none.
    let said = report("[dead_letters]\nmax_age = \"1s\"\nmax_count = 0\n", &[]);
    assert!(
        said.contains("max_age") && said.contains("max_count"),
        "{said}"
    );
}

#[test]
fn variables_reach_named_keys() {
    let file = "[queues.\"slow-reports\"]\n[tasks.\"billing.charge\"]\nmax_attempts = 2\n";
    let env = [
        ("CELERIAC_QUEUES_SLOW_REPORTS_CONCURRENCY", "3"),
        ("CELERIAC_QUEUES_BILLING_WEIGHT", "7"),
        ("CELERIAC_TASKS_BILLING_CHARGE_HARD_LIMIT", "1m"),
        ("CELERIAC_LOG_LEVEL", "WARN"),
        ("CELERIAC_STORE_MIGRATE_AT_START", "no"),
        ("CELERIAC_PORT", "tcp://10.0.0.1:80"),
        ("CELERIAC_GRACE", ""),
    ];
    let config = config(file, &env);
    assert_eq!(config.queues["slow-reports"].concurrency, Some(3));
    assert_eq!(config.queues["billing"].weight, 7);
    let charge = &config.tasks["billing.charge"];
    assert_eq!(
        (charge.max_attempts, charge.hard_limit),
        (Some(2), Some(Duration::from_secs(60)))
    );
    assert_eq!(config.log.level, slog::Level::Warning);
    assert!(!config.store.migrate_at_start);
}

#[test]
fn names_that_are_written_alike_are_ambiguous_in_variables_only() {
    let file = "[queues.a-b]\n[queues.a_b]\n";
    assert_eq!(config(file, &[]).queues.len(), 6);
    let text = report(file, &[("CELERIAC_QUEUES_A_B_WEIGHT", "2")]);
    assert!(
        text.contains("it could mean queues.a-b.weight and queues.a_b.weight"),
        "{text}"
    );
}

#[test]
fn sections_of_unknown_tasks_are_warned_about() {
    let mut sources = sources("[tasks.\"billing.chrage\"]\n", &[]);
    sources.tasks = [String::from("billing.charge")].into();
    let loaded = load(&sources);
    assert_eq!((loaded.report.errors(), loaded.report.warnings()), (0, 1));
    assert!(
        loaded
            .report
            .to_string()
            .contains("did you mean `billing.charge`?")
    );
}

#[test]
fn a_broken_file_is_one_mistake_and_the_environment_is_checked_all_the_same() {
    let env = [
        ("CELERIAC_LEASE", "x"),
        ("CELERIAC_QUEUES_REPORTS_WEIGHT", "2"),
    ];
    let loaded = load(&sources("\n a = [", &env));
    assert_eq!(loaded.report.errors(), 2, "{}", loaded.report);
    assert!(
        loaded.report.to_string().contains("celeriac.toml:2:"),
        "{}",
        loaded.report
    );
}

#[test]
fn deep_and_wide_files_are_read_in_bounded_stack_and_time() {
    let depth = 50_000;
    for text in [
        format!("{} = 1", vec!["a"; depth].join(".")),
        format!("[{}]", vec!["a"; depth].join(".")),
        format!("[queues.{}]", vec!["a"; depth].join(".")),
        format!("a = {}", "[".repeat(depth)),
        format!("a = {}", "{a=".repeat(depth)),
        (0..5_000).map(|n| format!("k{n} = 1\n")).collect(),
        format!("a = [{}]", "1,".repeat(50_000)),
        format!("routes = [{}]", "{a=1},".repeat(5_000)),
    ] {
        assert!(load(&sources(&text, &[])).report.errors() > 0);
    }
}

#[test]
fn unknown_flags_are_mistakes_with_suggestions() {
    let mut sources = sources("", &[]);
    sources.flags = Flags::default()
        .set("log.levl", "debug")
        .set("queues.kyb.weight", "0");
    let text = load(&sources).report.to_string();
    assert!(text.contains("did you mean `log.level`?"), "{text}");
    assert!(text.contains("a whole number from 1 to 100"), "{text}");
}

#[test]
fn secrets_never_show() {
    let file = "broker = \"redis://:hunter2@h\"\n[store]\nurl = \"postgres://me:hunter2@h/d\"\n[results]\nurl = \"redis://h?password=hunter2\"";
    let loaded = load(&sources(file, &[]));
    let json = serde_json::to_string(&loaded.effective).unwrap();
    let shown = format!("{} {json} {loaded:?}", loaded.effective);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("postgres://me:***@h/d"), "{shown}");
}

#[test]
fn results_elsewhere_are_for_redis_alone() {
    for (broker, results, found) in [
        ("redis://h/0", "sqlite:", "results at sqlite:"),
        (
            "redis://h/0",
            "memory:",
            "results at memory: of the tasks at redis://h/0",
        ),
        ("sqlite:", "redis://:pw@h/0", "results at redis://:***@h/0"),
        (
            "sqlite:",
            "sqlite:///elsewhere",
            "this broker keeps them itself",
        ),
    ] {
        let file = format!("broker = {broker:?}\n[results]\nurl = {results:?}\n");
        let report = report(&file, &[]);
        assert!(
            report.contains("results.url") && report.contains(found),
            "{report}"
        );
        assert_eq!(load(&sources(&file, &[])).report.errors(), 1, "{report}");
    }
    for (broker, results) in [
        ("redis://h/0", "redis://h/1"),
        ("redis://h/0", "redis+cluster://g"),
        ("sqlite:", "sqlite:"),
        ("sqlite:///q", "sqlite:///q"),
    ] {
        let file = format!("broker = {broker:?}\n[results]\nurl = {results:?}\n");
        assert_eq!(load(&sources(&file, &[])).report.errors(), 0, "{file}");
    }
}

#[test]
fn shows_one_json_document_with_values_and_sources() {
    let loaded = load(&sources("log.level = \"debug\"", &[]));
    let json = serde_json::to_value(&loaded.effective).unwrap();
    let entry = |key: &str| {
        let keys = json["keys"].as_array().unwrap();
        keys.iter()
            .find(|entry| entry["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(entry("log.level")["value"], "debug");
    assert_eq!(entry("log.level")["source"]["kind"], "file");
    assert_eq!(entry("log.level")["source"]["at"]["line"], 1);
    assert_eq!(entry("max_frame")["value"], 1 << 20);
    assert_eq!(
        entry("queues.billing.concurrency")["value"],
        serde_json::Value::Null
    );
}

#[test]
fn the_reference_has_a_row_of_five_cells_for_every_key() {
    let page = reference();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    assert_eq!(rows.len(), TABLE.len());
    assert!(
        rows.iter()
            .all(|row| row.replace("\\|", "").matches('|').count() == 6),
        "{page}"
    );
}

#[test]
fn the_starter_file_is_right_as_it_is_and_with_every_key_in_force() {
    let text = starter_config().text;
    assert_eq!(report(&text, &[]), "the configuration is right");
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest.to_owned(),
        _ => line.to_owned(),
    };
    let full: String = text.lines().map(|line| uncommented(line) + "\n").collect();
    // Results elsewhere are for Redis alone.
    let full = full.replace(
        "broker = \"sqlite:\"",
        "broker = \"redis://localhost:6379\"",
    );
    let loaded = load(&sources(&full, &[]));
    assert_eq!(loaded.report.errors(), 0, "{}", loaded.report);
    for key in TABLE {
        let name = match key.path.split('.').next() {
            Some("queues") => Some("reports"),
            Some("tasks") => Some("billing.charge"),
            Some("breakers") => Some("stripe"),
            _ => None,
        };
        let slot = Slot::find(key.path, name).unwrap();
        let shown = loaded.effective.get(&slot.path()).unwrap();
        assert!(
            matches!(shown.source, Origin::File { .. }),
            "{}: {}",
            key.path,
            shown.source
        );
    }
}

#[test]
fn a_breaker_takes_what_its_section_says_and_nothing_else() {
    let text = "[breakers.stripe]\nconsecutive = 3\nopen_for = \"200ms\"\n[breakers.\"billing.charge\"]\njitter = 0\n";
    let config = load(&sources(text, &[])).into_result().unwrap();
    let names: Vec<&str> = config.breakers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["billing.charge", "stripe"]);
    let stripe = config.breakers.values().nth(1).unwrap();
    let expected = celeriac_actors::breaker::BreakerOverride {
        consecutive: Some(3),
        open_for: Some(Duration::from_millis(200)),
        ..Default::default()
    };
    assert_eq!(*stripe, expected);
}

#[test]
fn every_key_can_be_set_by_its_variable_and_by_its_path() {
    for key in TABLE.iter().filter(|key| key.around_name().is_none()) {
        let example = key
            .example
            .replace(['[', ']', '"'], "")
            .replace("reports.*=reports", "a=kyb");
        let path = key.path;
        let by_env = load(&sources("", &[(&key.env(), &example)]));
        let mut flags = sources("", &[]);
        flags.flags = Flags::default().set(path, example);
        let by_flag = load(&flags);
        assert!(
            matches!(
                by_env.effective.get(path).unwrap().source,
                Origin::Env { .. }
            ),
            "{path}"
        );
        assert!(
            matches!(
                by_flag.effective.get(path).unwrap().source,
                Origin::Flag { .. }
            ),
            "{path}"
        );
        assert_eq!(
            by_env.effective.get(path).unwrap().value,
            by_flag.effective.get(path).unwrap().value
        );
    }
}

#[test]
fn starter_files_never_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let files = starter_project("My Worker!");
    assert!(files[0].text.contains("name = \"my-worker\""));
    assert_eq!(write_new(dir.path(), &files).unwrap().len(), 3);
    std::fs::remove_file(dir.path().join("Cargo.toml")).unwrap();
    std::fs::write(dir.path().join("celeriac.toml"), "mine").unwrap();
    let refused = write_new(dir.path(), &files).unwrap_err();
    assert!(
        matches!(&refused, InitError::Exists(paths) if paths.len() == 2),
        "{refused}"
    );
    assert!(!dir.path().join("Cargo.toml").exists());
    assert_eq!(
        std::fs::read_to_string(dir.path().join("celeriac.toml")).unwrap(),
        "mine"
    );
}

/// Text that is close enough to TOML and to our keys to reach deep into the reading.
fn near_toml() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        proptest::sample::select(TABLE.iter().map(|key| key.path).collect::<Vec<_>>())
            .prop_map(str::to_owned),
        "[a-z.\"*]{0,8}",
    ];
    let value = prop_oneof![
        proptest::sample::select(
            TABLE
                .iter()
                .map(|key| format!("{:?}", key.example))
                .collect::<Vec<_>>()
        ),
        "-?[0-9]{1,20}",
        "[0-9]{0,22}[a-zA-Z ]{0,4}".prop_map(|text| format!("{text:?}")),
        "\\PC{0,12}".prop_map(|text| format!("{text:?}")),
        Just("[1, {a = 2}]".to_owned()),
        Just("{ task = 3, queue = \"x\" }".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("nan".to_owned()),
    ];
    let line = prop_oneof![
        (word.clone(), value).prop_map(|(word, value)| format!("{word} = {value}")),
        word.clone().prop_map(|word| format!("[{word}]")),
        word.prop_map(|word| format!("[[{word}]]")),
    ];
    proptest::collection::vec(line, 0..4).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn garbage_never_panics(text in "\\PC{0,60}|[\\[\\]a-z=\"'.{}\n#0-9 ]{0,60}") {
        let loaded = load(&sources(&text, &[]));
        prop_assert_eq!(loaded.config().is_some(), loaded.report.errors() == 0);
    }

    #[test]
    fn a_queue_name_that_is_taken_is_one_of_the_vocabulary(name in "\\PC{0,8}|[A-Za-z0-9_.:-]{60,70}") {
        prop_assert!(super::keys::queue_name_fault(&name).is_some() || QueueName::new(&name).is_ok());
    }

    #[test]
    fn near_toml_never_panics(text in near_toml(), name in "[A-Z_]{0,12}", value in "\\PC{0,12}") {
        let mut sources = sources(&text, &[(&format!("CELERIAC_{name}"), &value)]);
        sources.flags = Flags::default().set(name, value);
        let loaded = load(&sources);
        drop((loaded.report.to_string(), serde_json::to_string(&loaded.report).unwrap()));
        drop((loaded.effective.to_string(), serde_json::to_string(&loaded.effective).unwrap()));
    }

    #[test]
    fn any_value_of_any_key_is_taken_or_reported(row in 0..TABLE.len(), value in "\\PC{0,12}|[0-9]{1,20}[a-zA-Z]{0,3}") {
        let key = &TABLE[row];
        drop(key.kind.parse(&Raw::Words(value.clone())));
        drop(key.kind.parse(&Raw::Text(value)));
    }
}

#[test]
fn what_others_can_reach_needs_a_token() {
    const TOKEN: (&str, &str) = ("CELERIAC_HTTP_READ_TOKEN", "0123456789abcdef");
    let open = report("[http]\naddr = \"0.0.0.0:80\"\n", &[]);
    assert!(open.contains("without a token"), "{open}");
    for (file, env) in [
        ("[http]\naddr = \"0.0.0.0:80\"\n", &[TOKEN][..]),
        (
            "[http]\naddr = \"0.0.0.0:80\"\nadmin_token_file = \"t\"\n",
            &[],
        ),
        ("[http]\naddr = \"0.0.0.0:80\"\nenabled = false\n", &[]),
        ("[http]\naddr = \"[::1]:0\"\n", &[]),
        ("[http]\naddr = \"localhost:0\"\n", &[]),
    ] {
        assert_eq!(report(file, env), "the configuration is right", "{file}");
    }
    let same = report("[http]\nadmin_token = \"0123456789abcdef\"\n", &[TOKEN]);
    assert!(same.contains("the token of both roles"), "{same}");
    let wrong = report("[http]\nadmin_token = \"hunter2\"\n", &[]);
    assert!(
        wrong.contains("7 characters") && !wrong.contains("hunter2"),
        "{wrong}"
    );
    let shown = load(&sources("", &[TOKEN])).effective;
    assert_eq!(shown.get("http.read_token").unwrap().text, "***");
    let default = config("", &[]).http.unwrap();
    assert!(!default.is_asked_for && default.address.ip().is_loopback());
    let asked = config("[http]\naddr = \"127.0.0.1:7654\"\n", &[]);
    assert!(asked.http.unwrap().is_asked_for);
}
