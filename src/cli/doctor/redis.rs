//! The broker on Redis: every server that takes writes, and what its user may do. Looks without changing anything.

use super::super::session::{Session, redis_failure};
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
        Err(error) => (false, vec![unreachable(error)]),
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

fn unreachable(error: OpenError) -> Finding {
    let blame = match error.is_outage() {
        true => Blame::Data,
        false => Blame::Configuration,
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
    Finding::failure(blame, "broker", redis_failure(error).to_string()).advise(advice)
}
