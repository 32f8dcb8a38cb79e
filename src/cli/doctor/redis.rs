//! The broker on Redis: every server that takes writes, and what its user may do. Looks without changing anything.

use celeriac_actors::ports::Durability;

use super::super::session::Session;
use super::finding::{Blame, Finding};
use crate::config::SecretUrl;
use crate::redis::{Exam, OpenError, RedisOptions, ServerExam, acl_rules, examine};

/// Looks at the servers; the flag tells whether a broker can be opened on them.
pub(super) fn check(session: &Session, url: &SecretUrl) -> (bool, Vec<Finding>) {
    let options = match session.redis_options(url, None) {
        Ok(options) => options,
        Err(failure) => {
            let text = failure.to_string();
            return (
                false,
                vec![Finding::failure(Blame::Configuration, "broker", text)],
            );
        }
    };
    match examine(&options) {
        Ok(exam) => judge(&exam, &options),
        Err(error) => (false, vec![unreachable("broker", error)]),
    }
}

fn judge(exam: &Exam, options: &RedisOptions) -> (bool, Vec<Finding>) {
    let mut findings: Vec<Finding> = exam.servers.iter().flat_map(server).collect();
    let fit = exam.servers.iter().all(|server| server.refusals.is_empty());
    let rules = acl_rules(options.url.namespace());
    findings.push(match exam.denied.as_deref() {
        Some([]) => Finding::ok("broker", "its user may do all that is needed"),
        Some(denied) => {
            let advice = format!("ACL SETUSER NAME {rules}");
            Finding::failure(Blame::Data, "broker", denied.join("; ")).advise(advice)
        }
        None => Finding::ok(
            "broker",
            "what its user may do is not told (ACL DRYRUN); docs/redis.md has the rule that it needs",
        ),
    });
    let allowed = exam.denied.as_ref().is_none_or(Vec::is_empty);
    (fit && allowed, findings)
}

fn server(server: &ServerExam) -> Vec<Finding> {
    let class = server.durability.as_str();
    let text = format!("{} runs Redis {}: {class}", server.node, server.version);
    let mut findings = vec![Finding::ok("broker", text)];
    let refusals = server.refusals.iter();
    findings.extend(refusals.map(|text| Finding::failure(Blame::Configuration, "broker", text)));
    let warnings = server.warnings.iter();
    findings.extend(warnings.map(|text| Finding::warning("broker", text)));
    findings
}

/// What is sent to a server that keeps nothing but results.
const OF_RESULTS: [&str; 5] = [
    "'set'",
    "'mget'",
    "'publish'",
    "'subscribe'",
    "'unsubscribe'",
];

/// Looks at the server that keeps the results.
pub(super) fn results(session: &Session, url: &SecretUrl) -> Vec<Finding> {
    let mut options = match RedisOptions::new(url.expose()) {
        Ok(options) => options,
        Err(error) => return vec![unreachable("results", error)],
    };
    // Results are no tasks: how well they are kept is for whoever reads them.
    options.allow_volatile = true;
    options.allow_eviction = true;
    options.log = session.log.clone();
    match examine(&options) {
        Ok(exam) => kept(&exam, &options),
        Err(error) => vec![unreachable("results", error)],
    }
}

fn kept(exam: &Exam, options: &RedisOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in &exam.servers {
        let worth = match server.durability {
            Durability::Volatile => "results are lost when it restarts",
            _ => "results survive its restart",
        };
        let text = format!("{} runs Redis {}: {worth}", server.node, server.version);
        findings.push(Finding::ok("results", text));
        let refusals = server.refusals.iter();
        findings
            .extend(refusals.map(|text| Finding::failure(Blame::Configuration, "results", text)));
    }
    let is_needed = |text: &&String| {
        let text = text.to_ascii_lowercase();
        OF_RESULTS.iter().any(|command| text.contains(command)) || text.contains("access")
    };
    let denied = exam.denied.iter().flatten().filter(is_needed).cloned();
    let denied: Vec<String> = denied.collect();
    if !denied.is_empty() {
        let advice = format!("ACL SETUSER NAME {}", acl_rules(options.url.namespace()));
        let finding = Finding::failure(Blame::Data, "results", denied.join("; "));
        findings.push(finding.advise(advice));
    }
    findings
}

fn unreachable(check: &'static str, error: OpenError) -> Finding {
    let blame = match error.is_outage() {
        true => Blame::Data,
        false => Blame::Configuration,
    };
    let text = match &error {
        OpenError::Away(text) if check == "results" => format!(
            "the server that keeps the results is away: {text}; tasks run all the same, and their results wait at the \
             broker until it is back"
        ),
        error => error.to_string(),
    };
    let advice = match error {
        OpenError::Away(_) => {
            "does the server run, is the URL right, does a firewall stand between?"
        }
        OpenError::Login(_) => {
            "user and password stand in the URL, or the password in ?password_file="
        }
        _ => "",
    };
    Finding::failure(blame, check, text).advise(advice)
}
