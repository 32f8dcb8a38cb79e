//! What a broker's user has to be allowed: the commands it sends, those its scripts run, the keys and channels it touches.

use redis::Value;

use super::fault::Class;
use super::link::Links;
use super::options::RedisOptions;
use super::topology::slots::text;

/// Every command, with arguments that it would take; `K` is a key, `C` a channel.
///
/// Servers check the commands within a script one by one, so they are here as well.
const NEEDED: &[&str] = &[
    // To get on.
    "PING",
    "SELECT 0",
    "INFO",
    "TIME",
    "ROLE",
    "CLIENT|ID",
    "CLIENT|SETNAME name",
    "CLIENT|UNBLOCK 1",
    "CLUSTER|SLOTS",
    "ASKING",
    // To call scripts, wait for tokens, and hear of results.
    "EVAL return 0",
    "EVALSHA hash 0",
    "BLPOP K 1",
    "SUBSCRIBE C",
    "UNSUBSCRIBE C",
    "PUBLISH C text",
    // Within scripts.
    "DEL K",
    "EXISTS K",
    "EXPIRE K 1",
    "GET K",
    "HDEL K field",
    "HEXISTS K field",
    "HGET K field",
    "HGETALL K",
    "HINCRBY K field 1",
    "HKEYS K",
    "HLEN K",
    "HMGET K field",
    "HRANDFIELD K",
    "HSCAN K 0",
    "HSET K field value",
    "HVALS K",
    "LINDEX K 0",
    "LLEN K",
    "LPOP K",
    "LPUSH K value",
    "LRANGE K 0 0",
    "LREM K 0 value",
    "LTRIM K 0 0",
    "MGET K",
    "PEXPIRE K 1",
    "RPOP K",
    "RPUSH K value",
    "SADD K value",
    "SET K value",
    "SISMEMBER K value",
    "SMEMBERS K",
    "SREM K value",
    "ZADD K 1 value",
    "ZCARD K",
    "ZCOUNT K 0 1",
    "ZRANGE K 0 0",
    "ZREM K value",
    "ZREMRANGEBYRANK K 0 0",
    "ZREMRANGEBYSCORE K 0 0",
    "ZSCORE K value",
];

/// What makes `doctor` and the boot tell more; nothing else needs it.
const USEFUL: &[&str] = &["ACL|DRYRUN", "CONFIG|GET"];

/// Returns the rules of a user that may do what a broker has to and nothing else, as `ACL SETUSER` takes them.
#[must_use]
pub fn acl_rules(namespace: &str) -> String {
    let names = NEEDED.iter().chain(USEFUL);
    let names = names.map(|call| call.split(' ').next().unwrap_or_default());
    let mut rules = format!("~{namespace}:{{* &{namespace}:{{* -@all");
    for name in names {
        rules.push_str(" +");
        rules.push_str(&name.to_ascii_lowercase());
    }
    rules
}

/// Returns what the user may not do although a broker has to; `None` where the server does not tell.
pub(super) async fn denied(links: &Links, options: &RedisOptions) -> Option<Vec<String>> {
    let user = options.url.login.user.as_deref().unwrap_or("default");
    let namespace = options.url.namespace();
    let name = format!("{namespace}:{{celeriac}}:doctor");
    let nodes = links.masters().await.ok()?;
    let node = nodes.first()?;
    let mut denied = Vec::new();
    for call in NEEDED {
        let mut words = call.split(' ');
        let mut command = redis::cmd("ACL");
        command.arg("DRYRUN").arg(user);
        for part in words.next().unwrap_or_default().split('|') {
            command.arg(part);
        }
        for word in words {
            command.arg(if matches!(word, "K" | "C") {
                &name
            } else {
                word
            });
        }
        match links.send_to(node, &command).await {
            Ok(Value::Okay) => {}
            Ok(said) => denied.extend(text(&said).map(ToOwned::to_owned)),
            Err(fault) if matches!(fault.class, Class::Invalid | Class::Strange) => {} // A command of clusters where there is none.
            Err(_) => return None,
        }
    }
    Some(denied)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn allowed() -> Vec<String> {
        let rules = acl_rules("ns");
        let rules = rules.split(' ').filter_map(|rule| rule.strip_prefix('+'));
        rules.map(ToOwned::to_owned).collect()
    }

    /// Goal: a new command in a script cannot be forgotten in the rule.
    #[test]
    fn every_command_of_a_script_is_allowed() {
        let allowed = allowed();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/redis/scripts");
        for file in std::fs::read_dir(root).into_iter().flatten() {
            let path = file.unwrap().path();
            let script = std::fs::read_to_string(&path).unwrap();
            for call in script.split("call('").skip(1) {
                let command = call.split('\'').next().unwrap().to_ascii_lowercase();
                assert!(
                    allowed.contains(&command),
                    "{command} of {}",
                    path.display()
                );
            }
        }
    }

    /// Goal: nor a command that is sent by itself.
    #[test]
    fn every_command_of_the_code_is_allowed() {
        let allowed = allowed();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/redis");
        let folders = ["", "boot", "topology"].map(|folder| root.join(folder));
        for file in folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        {
            let path = file.unwrap().path();
            // Sentinels have users of their own.
            if path.extension().is_none_or(|is| is != "rs") || path.ends_with("sentinel.rs") {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
            let sent = source.split("::cmd(\"").chain(source.split(".cmd(\""));
            for call in sent.filter(|call| !call.starts_with("//")) {
                let command = call.split('"').next().unwrap().to_ascii_lowercase();
                let word = command.bytes().all(|b| b.is_ascii_lowercase());
                let container = format!("{command}|");
                let fine = |rule: &String| *rule == command || rule.starts_with(&container);
                assert!(
                    !word || allowed.iter().any(fine),
                    "{command} of {}",
                    path.display()
                );
            }
        }
    }

    /// Goal: whoever copies the rule from the documentation gets one that works.
    #[test]
    fn the_documentation_has_the_rule() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redis.md");
        let page = std::fs::read_to_string(path).unwrap();
        let words = |text: &str| {
            text.replace(['\\', '\n'], " ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let rules = acl_rules("celeriac");
        assert!(
            words(&page).contains(&rules),
            "docs/redis.md lacks:\n{rules}"
        );
    }
}
