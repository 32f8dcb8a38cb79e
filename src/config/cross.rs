//! Cross checks: values that are right alone and wrong together.
//!
//! A check is left out when one of its values is wrong already. A mistake names the key that somebody typed.

use std::time::Duration;

use super::assemble::broker_target;
use super::checked::check_queue;
use super::keys::Slot;
use super::mistake::{Mistake, Origin, Report};
use super::place::Position;
use super::settings::Settings;
use super::target::{BrokerTarget, Url};
use super::value::Value;

/// Below this lease, a stall of the machine is likely to cost it its own tasks.
const SHORT_LEASE: Duration = Duration::from_secs(5);

/// Checks values against one another; what is wrong goes into `report`.
pub(super) fn check(settings: &Settings, report: &mut Report) {
    timing(settings, report);
    sizes(settings, report);
    supervision(settings, report);
    queues(settings, report);
    tasks(settings, report);
    breakers(settings, report);
    results(settings, report);
    http(settings, report);
    production(settings, report);
}

fn text(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// Returns the key of a pair that somebody typed, the first when both are.
fn blamed<'a>(settings: &Settings, a: &'a str, b: &'a str) -> (&'a str, Origin) {
    match origin(settings, a, None) {
        Origin::Default { .. } => (b, origin(settings, b, None)),
        typed => (a, typed),
    }
}

/// Returns where the value at a key came from; the default when nobody says anything.
fn origin(settings: &Settings, path: &str, name: Option<&str>) -> Origin {
    let found = Slot::find(path, name).and_then(|slot| settings.at(&slot).cloned());
    found.map_or(Origin::Default { rule: "" }, |setting| setting.origin)
}

fn any_wrong(settings: &Settings, paths: &[&str], name: Option<&str>) -> bool {
    paths.iter().any(|path| settings.is_wrong(path, name))
}

fn timing(settings: &Settings, report: &mut Report) {
    let (lease, sweep) = (settings.span("lease"), settings.span("sweep"));
    if any_wrong(settings, &["lease", "sweep"], None) {
        return;
    }
    if sweep > lease / 4 {
        let (key, source) = blamed(settings, "sweep", "lease");
        let found = format!("a sweep of {} for a lease of {}", text(sweep), text(lease));
        let allowed = format!(
            "a sweep of at most a quarter of the lease, {}",
            text(lease / 4)
        );
        report.push(Mistake::error(key, source, found).allowed(allowed));
    }
    if lease < SHORT_LEASE {
        let found = format!("a lease of {} is short", text(lease));
        let advice = "5s or more, unless the machine never stalls that long: its own tasks would go to others";
        let source = origin(settings, "lease", None);
        report.push(
            Mistake::error("lease", source, found)
                .allowed(advice)
                .warning(),
        );
    }
}

fn sizes(settings: &Settings, report: &mut Report) {
    let (frame, args) = (settings.count("max_frame"), settings.count("max_args"));
    if args < frame && !any_wrong(settings, &["max_frame", "max_args"], None) {
        let (key, source) = blamed(settings, "max_args", "max_frame");
        let found = format!("{args} bytes of max_args for {frame} bytes of max_frame");
        report.push(Mistake::error(key, source, found).allowed("max_args of at least max_frame"));
    }
}

fn supervision(settings: &Settings, report: &mut Report) {
    const BASE: &str = "supervision.backoff_base";
    const CEILING: &str = "supervision.backoff_ceiling";
    const RESTARTS: &str = "supervision.max_restarts";
    const WITHIN: &str = "supervision.within";
    if any_wrong(settings, &[BASE, CEILING, RESTARTS, WITHIN], None) {
        return;
    }
    let (base, ceiling) = (settings.span(BASE), settings.span(CEILING));
    if base > ceiling {
        let (key, source) = blamed(settings, BASE, CEILING);
        let found = format!(
            "a base of {} above the ceiling of {}",
            text(base),
            text(ceiling)
        );
        report.push(Mistake::error(key, source, found).allowed("a base of at most the ceiling"));
        return;
    }
    let restarts = settings.count(RESTARTS);
    let within = settings.span(WITHIN);
    let wait = |n: u64| {
        let doubled = 1_u32.checked_shl(u32::try_from(n).unwrap_or(u32::MAX));
        doubled
            .map_or(ceiling, |by| base.saturating_mul(by))
            .min(ceiling)
    };
    let waits = (0..restarts).fold(Duration::ZERO, |sum, n| sum.saturating_add(wait(n)));
    if waits >= within {
        let (key, source) = blamed(settings, WITHIN, RESTARTS);
        let found = format!(
            "{restarts} restarts take {} of waiting and never fall within {}: nothing would ever be given up",
            text(waits),
            text(within)
        );
        report.push(
            Mistake::error(key, source, found)
                .allowed("a longer span, fewer restarts or a shorter backoff")
                .warning(),
        );
    }
}

fn queues(settings: &Settings, report: &mut Report) {
    let total = settings.count("concurrency");
    let known = &settings.names.queues;
    for name in known {
        let cap = settings.count_of("queues.*.concurrency", Some(name));
        if let Some(cap) = cap.filter(|cap| *cap > total && !settings.is_wrong("concurrency", None))
        {
            let key = format!("queues.{}.concurrency", super::keys::quoted(name));
            let found = format!("a cap of {cap} above the process's concurrency of {total}");
            let source = origin(settings, "queues.*.concurrency", Some(name));
            report.push(
                Mistake::error(key, source, found)
                    .allowed("a cap that can be reached")
                    .warning(),
            );
        }
    }
    if settings.names.incomplete {
        return; // The queues the file declares are not known.
    }
    for key in ["consume", "routes"] {
        let Some(setting) = settings.get(key, None) else {
            continue;
        };
        let mentioned: Vec<(&str, Option<Position>)> = match &setting.value {
            Value::Queues(names) => names.iter().map(|name| (name.as_str(), None)).collect(),
            Value::Routes(routes) => routes
                .iter()
                .map(|(route, at)| (route.queue.as_str(), *at))
                .collect(),
            _ => continue,
        };
        for (name, at) in mentioned {
            let source = setting.origin.clone().at(at);
            report.mistakes.extend(check_queue(
                name,
                known.iter().map(String::as_str),
                key,
                &source,
            ));
        }
    }
}

fn tasks(settings: &Settings, report: &mut Report) {
    const PAIRS: [(&str, &str, &str); 2] = [
        (
            "soft_limit",
            "hard_limit",
            "a soft limit of at most the hard limit",
        ),
        (
            "backoff_base",
            "backoff_ceiling",
            "a base of at most the ceiling",
        ),
    ];
    for name in &settings.names.tasks {
        for (low, high, allowed) in PAIRS {
            let (low_path, high_path) = (format!("tasks.*.{low}"), format!("tasks.*.{high}"));
            let span = |path: &str| settings.span_of(path, Some(name));
            if let (Some(less), Some(more)) = (span(&low_path), span(&high_path))
                && less > more
            {
                let key = format!("tasks.{}.{low}", super::keys::quoted(name));
                let found = format!("{low} {} above {high} {}", text(less), text(more));
                let source = origin(settings, &low_path, Some(name));
                report.push(Mistake::error(key, source, found).allowed(allowed));
            }
        }
    }
}

fn breakers(settings: &Settings, report: &mut Report) {
    const BASE: &str = "breakers.*.open_for";
    const CEILING: &str = "breakers.*.open_ceiling";
    const RATE: &str = "breakers.*.failure_rate";
    for name in &settings.names.breakers {
        let key = |path: &str| path.replace('*', &super::keys::quoted(name));
        let span = |path| settings.span_of(path, Some(name));
        if let (Some(base), Some(ceiling)) = (span(BASE), span(CEILING))
            && base > ceiling
        {
            let found = format!(
                "open_for {} above open_ceiling {}",
                text(base),
                text(ceiling)
            );
            let source = origin(settings, BASE, Some(name));
            let mistake = Mistake::error(key(BASE), source, found);
            report.push(mistake.allowed("an open_for of at most the open_ceiling"));
        }
        if settings.share_of(RATE, Some(name)) == Some(0.0) {
            let found = "found 0: it would open without a single failure";
            let source = origin(settings, RATE, Some(name));
            let mistake = Mistake::error(key(RATE), source, found);
            report.push(mistake.allowed("a share above 0, at most 1"));
        }
    }
}

/// Results go to the broker itself, or from one Redis server to another.
fn results(settings: &Settings, report: &mut Report) {
    if any_wrong(settings, &["broker", "results.url", "data_dir"], None) {
        return;
    }
    let data_dir = settings.path("data_dir");
    let target = |url: &Url| broker_target(url.clone(), &data_dir);
    let broker = settings
        .url("broker")
        .map_or_else(|| target(&Url::Sqlite(None)), target);
    let Some(results) = settings.url("results.url").map(target) else {
        return;
    };
    let is_server = |target: &BrokerTarget| matches!(target, BrokerTarget::Redis { .. });
    if results == broker || (is_server(&results) && is_server(&broker)) {
        return;
    }
    let source = origin(settings, "results.url", None);
    let found = format!("results at {results} of the tasks at {broker}");
    let allowed = match is_server(&broker) {
        true => "another Redis server, or nothing: the broker keeps them itself",
        false => {
            "nothing: this broker keeps them itself; only a Redis server's can be kept at another one"
        }
    };
    report.push(Mistake::error("results.url", source, found).allowed(allowed));
}

/// What can be reached from elsewhere needs a token, and two roles need two tokens.
fn http(settings: &Settings, report: &mut Report) {
    const ROLES: [(&str, &str); 2] = [
        ("http.read_token", "http.read_token_file"),
        ("http.admin_token", "http.admin_token_file"),
    ];
    let keys = [ROLES[0].0, ROLES[0].1, ROLES[1].0, ROLES[1].1];
    if !settings.switch("http.enabled") || any_wrong(settings, &keys, None) {
        return;
    }
    let is_set = |path: &str| {
        let value = settings.get(path, None).map(|setting| &setting.value);
        !matches!(value, None | Some(Value::Unset))
    };
    if let Some(Value::Address(address)) = settings.get("http.addr", None).map(|it| &it.value)
        && !address.ip().to_canonical().is_loopback()
        && !keys.iter().any(|key| is_set(key))
    {
        let found = format!("found {address}, which others can reach, without a token");
        let allowed = "an address of loopback, or a token: http.read_token, http.admin_token or a file with one";
        let source = origin(settings, "http.addr", None);
        report.push(Mistake::error("http.addr", source, found).allowed(allowed));
    }
    for (given, file) in ROLES {
        if is_set(given) && is_set(file) {
            let found = format!("`{given}` is there too, and the file is not read");
            let source = origin(settings, file, None);
            report.push(
                Mistake::error(file, source, found)
                    .allowed("one of both")
                    .warning(),
            );
        }
    }
    let token = |path: &str| match settings.get(path, None).map(|setting| &setting.value) {
        Some(Value::Secret(token)) => Some(token.expose().to_owned()),
        _ => None,
    };
    let read = token(ROLES[0].0);
    if read.is_some() && read == token(ROLES[1].0) {
        let source = origin(settings, ROLES[0].0, None);
        let found = "the token of both roles is the same: whoever may read could change";
        report.push(Mistake::error(ROLES[0].0, source, found).allowed("a token for each role"));
    }
}

fn production(settings: &Settings, report: &mut Report) {
    if settings.choice("environment") != "production" {
        return;
    }
    if settings.url("broker") == Some(&Url::Memory) {
        let source = origin(settings, "broker", None);
        let found = "found `memory:` in production: every task is lost when the process ends";
        report.push(
            Mistake::error("broker", source, found)
                .allowed("a broker that keeps tasks")
                .warning(),
        );
    }
}
